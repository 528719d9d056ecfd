#include "mutate.h"

#include "vmx.h"
#include "world.h"

#define LOW_12 0xfffull

static u64 state;
static bool without_other_events;

void random_without_other_events(bool without)
{
	without_other_events = without;
}

/* SplitMix64: every number of the sequence is as good as a start of it. */
u64 random(void)
{
	u64 z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

void random_start(u64 seed, u64 number)
{
	state = seed;
	state = random() ^ number;
	random();
}

unsigned random_below(unsigned below)
{
	return (unsigned)(random() % below);
}

static bool one_in(unsigned n)
{
	return random_below(n) == 0;
}

static u64 pick(const u64 *values, unsigned count)
{
	return values[random_below(count)];
}
#define PICK(...)                                       \
	({                                              \
		const u64 values_[] = {__VA_ARGS__};    \
		pick(values_, ARRAY_SIZE(values_));     \
	})

/* Bits of the width of a field: 16, 32 or 64, by its encoding (SDM vol. 3, appendix B). */
static unsigned width_of(const struct field *field)
{
	switch (field->encoding >> 13 & 3) {
	case 0:
		return 16;
	case 2:
		return 32;
	default:
		return 64;
	}
}

static u64 flip(u64 value, unsigned from, unsigned below)
{
	return value ^ BIT(from + random_below(below - from));
}

/* An address beyond what physical addresses have. */
static u64 high_address(u64 value)
{
	static unsigned width;

	if (!width)
		width = cpuid(0x80000008, 0).eax & 0xff;
	return value | BIT(width + random_below(64 - width));
}

static u64 pointer(u64 value)
{
	switch (random_below(3)) {
	case 0:
		return value ^ (1 + (random() & (LOW_12 - 1)));
	case 1:
		return high_address(value);
	default:
		return (u64)spare_pages[random_below(2)];
	}
}

static u64 rights(u64 value)
{
	switch (random_below(4)) {
	case 0:
		return flip(value, 0, 17);
	case 1:
		return flip(value, 0, 32);
	case 2:
		return (value & ~0xfull) | (random() & 0xf);
	default:
		return random() & 0x1f0ff;
	}
}

static u64 base(u64 value)
{
	switch (random_below(4)) {
	case 0:
		return flip(value, 0, 64);
	case 1:
		return flip(value, 31, 64);
	case 2:
		return PICK(0, ~0ull, BIT(47), ~0ull << 47, ~0ull << 48, BIT(32), 0xffffffff, BIT(56), ~0ull << 56);
	default:
		return random() & 0xffff0;
	}
}

static u64 pat(u64 value)
{
	unsigned at = 8 * random_below(8);

	return (value & ~(0xffull << at)) | PICK(0, 1, 2, 3, 4, 5, 6, 7, 8, 0x80) << at;
}

static u64 controls(const struct field *field, u64 value)
{
	u64 caps = 0;

	switch (field->encoding) {
	case PIN_BASED_CONTROLS:
		caps = vmx_caps.pin;
		break;
	case PRIMARY_CONTROLS:
		caps = vmx_caps.primary;
		break;
	case SECONDARY_CONTROLS:
		caps = vmx_caps.secondary;
		break;
	case EXIT_CONTROLS:
		caps = vmx_caps.exit;
		break;
	case ENTRY_CONTROLS:
		caps = vmx_caps.entry;
		break;
	}
	switch (random_below(3)) {
	case 0:
		return flip(value, 0, 32);
	case 1: /* a bit that may have either value */
		return value ^ (BIT(random_below(32)) & caps >> 32 & ~caps);
	default:
		return ((value ^ (random() & random() & random())) | (u32)caps) & caps >> 32;
	}
}

static u64 event(void)
{
	u64 type = random_below(without_other_events ? 7 : 8), vector = random_below(32), info;

	if (one_in(4))
		vector = random_below(256);
	if (type == TYPE_NMI && !one_in(4))
		vector = 2;
	info = INTERRUPTION_VALID | INTERRUPTION_TYPE(type) | vector;
	/* mostly an error code where it belongs */
	if (one_in(4) ? one_in(2) : type == TYPE_HARDWARE_EXCEPTION && (0x27d00 >> vector & 1))
		info |= INTERRUPTION_ERROR_CODE;
	return one_in(8) ? flip(info, 12, 31) : info;
}

static u64 any_value(const struct field *field, u64 value)
{
	switch ((enum kind)field->kind) {
	case CONTROLS:
		return controls(field, value);
	case POINTER:
		return pointer(value);
	case LIST:
		return one_in(2) ? value ^ (1 + random_below(15)) : high_address(value);
	case COUNT:
		return random_below(5);
	case TARGET_COUNT:
		return random_below(8) + (one_in(4) ? 250 : 0);
	case SELECTOR:
		return PICK(random() & 0xffff, value ^ 1, value ^ 2, value ^ 3, value ^ 4, 0, value + 8, 7);
	case RIGHTS:
		return rights(value);
	case LIMIT:
		return PICK(0, 0xfff, 0xffff, 0xfffff, 0xffffffff, 0x1000, 0xfffff000, random(), value + 1, value - 1);
	case BASE:
		return base(value);
	case REGISTER:
		return one_in(3) ? flip(value, 0, width_of(field)) : flip(value, 0, 24);
	case CR3:
		return one_in(2) ? flip(value, 0, 12) : high_address(value);
	case PAT:
		return pat(value);
	case RIP:
		return PICK(random(), random() & 0xffffffff, flip(value, 31, 64), BIT(47), ~0ull << 47, BIT(32), value + BIT(32));
	case RSP:
		return PICK(value - random_below(64), flip(value, 32, 64), flip(value, 12, 32));
	case ACTIVITY:
		return PICK(1, 2, 4, 5, BIT(random_below(29) + 3));
	case EVENT:
		return event();
	case LENGTH:
		return PICK(0, 1, 2, 15, 16, random() & 31);
	case LINK:
		return PICK((u64)spare_pages[0], (u64)spare_pages[1], pointer((u64)spare_pages[0]), flip(value, 0, 64), 0);
	case EPTP:
		return one_in(3) ? high_address(value) : flip(value, 0, 12);
	case SMALL:
		return PICK(0, 1, random_below(32), flip(value, 0, width_of(field)));
	case NOT_CANONICAL:
		return flip(value, 57, 64);
	case PDPTE:
		return PICK(flip(value, 0, 12), high_address(value), 0, value);
	case PLAIN:
		return random() & random();
	}
	return value;
}

u64 mutated(const struct field *field, u64 value)
{
	u64 to = any_value(field, value);

	to = (to & ~field->kept) | (value & field->kept);
	return width_of(field) == 64 ? to : to & (BIT(width_of(field)) - 1);
}
