/* The family of model-specific registers. */
#include "situation.h"

#include "cpu.h"

#define RDMSR 0x320f
#define WRMSR 0x300f

/* Bits of a value that a register may refuse are tried near those that it has, and at both ends. */
enum values { ANY, HALF, ADDRESS, POINTER, TYPES, ENFORCEMENT, RANGE, RANGE_MASK, RANGE_DEFAULT, EXTENDED, EFER, APIC };

static const struct {
	u32 number;
	enum values values;
} msrs[] = {
	{MSR_IA32_EFER, EFER}, {MSR_IA32_EFER, EFER}, {0xc0000081, ANY}, {0xc0000082, ADDRESS}, {0xc0000083, ADDRESS},
	{0xc0000084, HALF}, {0xc0000100, ADDRESS}, {0xc0000101, ADDRESS}, {0xc0000102, ADDRESS}, {0xc0000103, HALF},
	{0x174, HALF}, {0x175, ADDRESS}, {0x176, ADDRESS}, {MSR_IA32_PAT, TYPES}, {0x1b, APIC}, {0x3b, ANY},
	{0xda0, EXTENDED}, {0x6a0, ENFORCEMENT}, {0x6a2, ENFORCEMENT}, {0x6a4, POINTER}, {0x6a5, POINTER},
	{0x6a6, POINTER}, {0x6a7, POINTER}, {0x6a8, ADDRESS}, {0x200, RANGE}, {0x201, RANGE_MASK}, {0x20e, RANGE},
	{0x20f, RANGE_MASK}, {0x250, TYPES}, {0x259, TYPES}, {0x268, TYPES}, {0x26f, TYPES}, {0x2ff, RANGE_DEFAULT},
};

/* Not there, or not to be written. */
static const u32 missing[] = {0x2, 0x5, 0x12345, 0x212, 0x25a, 0x270, 0x6a1, 0x6a3, 0x6a9, 0x802, 0x830, 0x40000000,
	0x7fffffff, 0xc000007f, 0xc0000085, 0xc0000107, 0xffffffff};
static const u32 constant[] = {0xfe, 0x480, 0x481, 0x485, 0x486, 0x48a, 0x48b, 0x48c, 0x490};

static u64 canonical_address(struct situation *s)
{
	return (u64)((int64_t)(random64(s) << 16) >> 16);
}

static u64 one_bit(struct situation *s, unsigned from, unsigned to)
{
	return BIT(from + below(s, to - from));
}

static u64 memory_type(struct situation *s, bool lenient)
{
	static const unsigned types[] = {0, 1, 4, 5, 6};

	return chance(s, lenient ? 97 : 85) ? one_of(s, types) : below(s, 256);
}

static u64 value_for(struct situation *s, enum values values)
{
	static const unsigned apic_reserved[] = {0, 1, 7, 9, 52, 63};
	u64 value = random64(s), flaw = chance(s, 25) ? ~0ull : 0;

	switch (values) {
	case HALF: /* Bochs drops the upper one */
		return value & 0xffffffff;
	case ADDRESS:
		/* not canonical for linear addresses of 57 bits either */
		return flaw ? wild_address(s) | BIT(62) | BIT(47) : canonical_address(s);
	case POINTER:
		return (canonical_address(s) & ~3ull) | (flaw & one_bit(s, 0, 3)) | (chance(s, 10) ? BIT(62) : 0);
	case TYPES:
		for (unsigned n = 0; n < 64; n += 8)
			value = (value & ~(0xffull << n)) | memory_type(s, true) << n;
		return value;
	case ENFORCEMENT:
		return (canonical_address(s) & ~0xfffull) | (value & 0x3f) | (chance(s, 40) ? value & 0xc00 : 0) |
			(flaw & one_bit(s, 6, 10)) | (chance(s, 10) ? BIT(62) : 0);
	case RANGE:
		return (value & 0x7ffff000) | memory_type(s, false) | (flaw & one_bit(s, 8, 12)) |
			(chance(s, 10) ? one_bit(s, 52, 64) : 0);
	case RANGE_MASK:
		return (value & 0x7ffff800) | (flaw & one_bit(s, 0, 11)) | (chance(s, 10) ? one_bit(s, 52, 64) : 0);
	case RANGE_DEFAULT:
		return (value & 0xc00) | memory_type(s, false) | (flaw & one_bit(s, 8, 64));
	case EXTENDED:
		return (value & 0x1800) | (flaw & (chance(s, 50) ? one_bit(s, 0, 8) : one_bit(s, 17, 64)));
	case EFER:
		value = (s->in[IN_EFER] | (in_long_mode(s) ? EFER_LMA : 0)) ^ (chance(s, 60) ? BIT(0) : 0) ^
			(chance(s, 60) ? BIT(11) : 0);
		return value ^ (flaw & one_bit(s, 1, 64));
	case APIC:
		return rdmsr(0x1b) | (flaw & BIT(one_of(s, apic_reserved)));
	default:
		return value;
	}
}

void build_msrs(struct situation *s)
{
	unsigned which = below(s, ARRAY_SIZE(msrs)), how = below(s, 20);
	bool write = chance(s, 85);
	u32 number = msrs[which].number;
	u64 value = value_for(s, msrs[which].values);

	if (how == 0) {
		number = one_of(s, missing);
	} else if (how == 1) {
		number = one_of(s, constant);
		write = true;
	}
	use(s, RCX, number | (s->mode == LONG64 ? random64(s) << 32 : 0));
	use(s, RAX, (u32)value | (s->mode == LONG64 ? random64(s) << 32 : 0));
	use(s, RDX, value >> 32 | (s->mode == LONG64 ? random64(s) << 32 : 0));
	if (write)
		emit_bytes(s, 2, WRMSR);
	emit_bytes(s, 2, RDMSR);
}
