#include "situation.h"

#include "cpu.h"
#include "sandbox.h"
#include "selectors.h"
#include "watchdog.h"

#define PRESENT 0x80
#define CODE_SEGMENT 0x1b
#define DATA_SEGMENT 0x13
#define BIG BIT(54)
#define LONG BIT(53)
#define FOUR_KB BIT(55)
#define GATE_INTERRUPT32 0xe
#define GATE_TASK 0x5
#define TSS32 0x9
#define LDT_TYPE 0x2
#define USED_OF_STACK 0x100 /* by a handler */
#define ENDBRANCH_BYTES 4
#define PAT_AFTER_RESET 0x0007040600070406

/* Where each begins, with an ENDBRANCH. */
extern const u32 handlers32[], handlers64[];
extern const u32 fault_tasks[FAULT_TASK_COUNT];
extern const char low_start[], low_handlers[];

u64 random64(struct situation *s)
{
	/* SplitMix64 */
	u64 z = s->random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

unsigned below(struct situation *s, unsigned limit)
{
	return (unsigned)((random64(s) >> 32) * limit >> 32);
}

bool chance(struct situation *s, unsigned percent)
{
	return below(s, 100) < percent;
}

bool in_long_mode(const struct situation *s)
{
	return s->mode <= COMPATIBILITY16;
}

bool has_descriptors(const struct situation *s)
{
	return s->mode < VIRTUAL8086;
}

bool is_paging(const struct situation *s)
{
	return (s->in[IN_CR0] & CR0_PG) != 0;
}

void use(struct situation *s, enum register_number reg, u64 value)
{
	s->in[IN_REGS + reg] = value;
}

static u64 descriptor(u64 base, u64 limit, unsigned rights, u64 attributes)
{
	return (limit & 0xffff) | (base & 0xffffff) << 16 | (u64)rights << 40 | (limit >> 16 & 0xf) << 48 |
		attributes | (base >> 24 & 0xff) << 56;
}

u64 descriptor_base(u64 value)
{
	return (value >> 16 & 0xffffff) | (value >> 56) << 24;
}

void descriptor_store(unsigned slot, u64 value)
{
	store(GDT + 8 * slot, 8, value);
}

u64 task_address(unsigned n)
{
	return TASKS + 0x100 * (u64)n;
}

static const u64 BASES[] = {CODE, CODE, DATA, DATA, STACKS, DATA + 0x10};
static const u64 LIMITS[] = {0, 0xf, 0xff, 0x7ff, 0xffe, 0xfff, 0xffff, 0xffff, 0xfffff, 0xfffff};

static u64 random_gate_descriptor(struct situation *s, unsigned type, bool task)
{
	u64 target = task ? SEL_TASKS + 8 * below(s, TASK_COUNT) : random_selector(s);
	u64 offset = code_address(s, code_target(s));
	unsigned level = chance(s, 70) ? 3 : below(s, 4);
	unsigned present = chance(s, 94) ? PRESENT : 0;

	return (offset & 0xffff) | target << 16 | (u64)(chance(s, 80) ? below(s, 4) : below(s, 256)) << 32 |
		(u64)(present | level << 5 | type) << 40 | (offset >> 16 & 0xffff) << 48;
}

u64 random_descriptor(struct situation *s)
{
	/* Gates and TSSs as often as segments: types 1 to 15 of system descriptors. */
	bool segment = chance(s, 72);
	unsigned type = below(s, 16), level = chance(s, 60) ? s->level : below(s, 4);
	unsigned present = chance(s, 94) ? PRESENT : 0;
	u64 attributes = 0, limit = one_of(s, LIMITS);

	if (segment) {
		if (chance(s, 60))
			attributes |= BIG;
		if (in_long_mode(s) && chance(s, type & 8 ? 60 : 10))
			attributes ^= LONG | (chance(s, 90) && attributes & BIG ? BIG : 0);
		if (chance(s, 50))
			attributes |= FOUR_KB;
		if (chance(s, 20))
			attributes |= BIT(52); /* available */
		return descriptor(one_of(s, BASES), limit, present | level << 5 | 0x10 | type, attributes);
	}
	switch (type) {
	case 4:
	case 6:
	case 7:
	case 12:
	case 14:
	case 15:
		return random_gate_descriptor(s, type, false);
	case GATE_TASK:
		return random_gate_descriptor(s, type, true);
	case LDT_TYPE:
		return descriptor(LDT, chance(s, 80) ? LDT_SLOTS * 8 - 1 : limit, present | level << 5 | type, 0);
	default:
		return descriptor(task_address(below(s, TASK_COUNT)), chance(s, 80) ? 0xff : limit,
			present | level << 5 | type, 0);
	}
}

static void write_gate(const struct situation *s, unsigned vector, u64 offset, u16 selector, unsigned rights,
	unsigned stack)
{
	u64 low = (offset & 0xffff) | (u64)selector << 16 | (u64)stack << 32 | (u64)rights << 40 |
		(offset >> 16 & 0xffff) << 48;

	if (!in_long_mode(s)) {
		store(IDT + 8 * vector, 8, low);
		return;
	}
	store(IDT + 16 * vector, 8, low);
	store(IDT + 16 * vector + 8, 8, offset >> 32);
}

void mark_accessed(void)
{
	for (u64 at = GDT; at < LDT + 8 * LDT_SLOTS; at += 8)
		if (*(volatile u64 *)at & BIT(44))
			store(at, 8, *(volatile u64 *)at | BIT(40));
}

void take_by_task(const struct situation *s, unsigned vector, unsigned task)
{
	write_gate(s, vector, 0, (u16)(SEL_FAULT_TASKS + 8 * task), PRESENT | GATE_TASK, 0);
}

void interrupt_gate(const struct situation *s, unsigned vector, u64 offset, u16 selector, unsigned stack)
{
	write_gate(s, vector, offset, selector, PRESENT | 3 << 5 | GATE_INTERRUPT32, stack);
}

u16 plain_selector(unsigned level, enum segment_number segment)
{
	unsigned which = segment == CS ? 0 : segment == SS ? 2 : 1;

	return (u16)(SEL_PLAIN + 24 * level + 8 * which + level);
}

u16 random_selector(struct situation *s)
{
	unsigned level = chance(s, 70) ? s->level : below(s, 4), kind = below(s, 100);

	if (!has_descriptors(s))
		return (u16)(one_of(s, BASES) >> 4);
	if (kind < 4)
		return (u16)level;
	if (kind < 60)
		return (u16)((RANDOM_SLOT + below(s, GDT_SLOTS - RANDOM_SLOT)) * 8 + level);
	if (kind < 75)
		return (u16)(below(s, LDT_SLOTS) * 8 + 4 + level);
	if (kind < 90)
		return (u16)(plain_selector(below(s, 4), below(s, 6)) & ~3u) | (u16)level;
	if (kind < 96)
		return (u16)(below(s, RANDOM_SLOT) * 8 + level);
	return (u16)(GDT_SLOTS * 8 + below(s, 2) * 4 + level); /* beyond a limit */
}

u64 code_address(const struct situation *s, unsigned offset)
{
	return s->mode == LONG64 ? CODE + offset : offset;
}

u64 data_address(const struct situation *s, unsigned offset)
{
	return s->mode == LONG64 ? DATA + offset : offset;
}

unsigned code_target(struct situation *s)
{
	static const unsigned targets[] = {0x100, 0x200, 0x300, 0x480, 0x7fe, 0x800, 0xffc, 0xfff, 0x1000, 0xfffe};

	return one_of(s, targets);
}

u64 wild_address(struct situation *s)
{
	u64 upper = (random64(s) & 0x7fff000000000000) | BIT(47);

	return (s->mode == LONG64 ? upper : 0) | code_address(s, 0x8000);
}

void random_gate(struct situation *s, unsigned vector)
{
	static const unsigned types[] = {6, 7, 14, 14, 14, 15, 15, 5, 12};
	unsigned type = chance(s, 90) ? one_of(s, types) : below(s, 32);
	u64 gate = random_gate_descriptor(s, type, type == GATE_TASK);
	u64 at = IDT + (in_long_mode(s) ? 16 : 8) * vector;

	if (s->mode == REAL) {
		store(VECTORS + 4 * vector, 4, CODE << 12 | code_target(s));
		return;
	}
	if (in_long_mode(s)) {
		/* a handler that is reached with code at its linear address */
		if (chance(s, 80))
			gate = (gate & ~(0xffffull | 0xffffull << 48)) | (u16)(CODE + code_target(s)) |
				(u64)(CODE >> 16) << 48;
		gate = (gate & ~(0xffull << 32)) | (u64)below(s, 8) << 32;
		if (chance(s, 60))
			gate = (gate & ~(0xffffull << 16)) | SEL_CODE64 << 16;
		store(at + 8, 8, chance(s, 95) ? 0 : random64(s) >> 32);
	}
	store(at, 8, gate);
}

/* Bochs's ENDBRANCH changes IA32_S_CET where nothing is enforced, too: only cases that need one execute it. */
static u32 entry_of(const struct situation *s, u32 handler)
{
	return s->enforced ? handler : handler + ENDBRANCH_BYTES;
}

static void make_interrupt_table(const struct situation *s)
{
	fill(IDT, IDT_BYTES, 0);
	for (unsigned vector = 0; vector < 32; vector++) {
		unsigned level = vector == 3 || vector == 4 ? 3 << 5 : 0;

		if (s->mode == REAL)
			store(VECTORS + 4 * vector, 4,
				LOW_CODE << 12 | (u32)(low_handlers - low_start + 8 * vector));
		else if (in_long_mode(s))
			write_gate(s, vector, entry_of(s, handlers64[vector]), SEL_CODE64,
				PRESENT | level | GATE_INTERRUPT32, 1);
		else if (vector == 8 || vector == NMI_VECTOR)
			take_by_task(s, vector, vector == NMI_VECTOR);
		else
			write_gate(s, vector, entry_of(s, handlers32[vector]), SEL_CODE32,
				PRESENT | level | GATE_INTERRUPT32, 0);
	}
}

static void make_task(u64 at, u64 ip, u16 code, u16 stack, u64 pointer)
{
	fill(at, 0x100, 0);
	store(at + 0x1c, 4, 0); /* CR3, which the caller knows */
	store(at + 0x20, 4, ip);
	store(at + 0x24, 4, 2);
	store(at + 0x38, 4, pointer);
	store(at + 0x48, 4, SEL_DATA);
	store(at + 0x4c, 4, code);
	store(at + 0x50, 4, stack);
	store(at + 0x54, 4, SEL_DATA);
	store(at + 0x66, 2, 0x100);
}

/* The task that runs: stacks for the inner levels, the redirection bitmap, and the bitmap of ports 0 to 0xff. */
static void make_task_state(struct situation *s)
{
	fill(TSS, TSS_BYTES, 0);
	if (in_long_mode(s)) {
		for (unsigned n = 0; n < 3; n++)
			store(TSS + 4 + 8 * n, 8, chance(s, 97) ? STACKS + n * STACK_PAGE + STACK_START : random64(s));
		store(TSS + 0x24, 8, HANDLER_STACK);
		for (unsigned n = 1; n < 7; n++)
			store(TSS + 0x24 + 8 * n, 8, STACKS + (n & 3) * STACK_PAGE + STACK_START + n * 8 - 16);
	} else {
		store(TSS + 4, 4, HANDLER_STACK);
		store(TSS + 8, 4, SEL_DATA);
		for (unsigned n = 1; n < 3; n++) {
			store(TSS + 4 + 8 * n, 4, STACK_START);
			store(TSS + 8 + 8 * n, 4, chance(s, 90) ? plain_selector(n, SS) : random_selector(s));
		}
	}
	store(TSS + 0x66, 2, 0x88);
	for (unsigned at = 0x68; at < 0xa8; at += 8)
		store(TSS + at, 8, random64(s) & random64(s));
	store(TSS + 0xa8, 8, ~0ull);
}

static void make_descriptors(struct situation *s)
{
	bool long_mode = in_long_mode(s);

	descriptor_store(SEL_CODE32 / 8, 0x00cf9b000000ffff);
	descriptor_store(SEL_DATA / 8, 0x00cf93000000ffff);
	descriptor_store(SEL_CODE64 / 8, 0x00af9b000000ffff);
	descriptor_store(SEL_TASK / 8, descriptor(TSS, TSS_BYTES - 1, PRESENT | TSS32, 0));
	descriptor_store(SEL_WAY_BACK / 8, descriptor(TSS, TSS_BYTES - 1, PRESENT | TSS32, 0));
	descriptor_store(SEL_LDT / 8, descriptor(LDT, LDT_SLOTS * 8 - 1, PRESENT | LDT_TYPE, 0));
	descriptor_store(SEL_CODE16 / 8, descriptor(LOW_CODE, 0xffff, PRESENT | CODE_SEGMENT, 0));
	descriptor_store(SEL_DATA16 / 8, descriptor(0, 0xffff, PRESENT | DATA_SEGMENT, 0));
	for (unsigned n = 0; n < TASK_COUNT; n++)
		descriptor_store(SEL_TASKS / 8 + n, descriptor(task_address(n), 0xff, PRESENT | TSS32, 0));
	for (unsigned n = 0; n < FAULT_TASK_COUNT; n++)
		descriptor_store(
			SEL_FAULT_TASKS / 8 + n, descriptor(FAULT_TASKS + 0x100 * n, 0x67, PRESENT | TSS32, 0));
	for (unsigned level = 0; level < 4; level++) {
		unsigned slot = SEL_PLAIN / 8 + 3 * level, dpl = level << 5;
		u64 size = s->bits == 64 ? LONG : s->bits == 32 ? BIG : 0;

		descriptor_store(slot, descriptor(CODE, 0xffff, PRESENT | dpl | CODE_SEGMENT, size));
		descriptor_store(slot + 1, descriptor(DATA, 0xffff, PRESENT | dpl | DATA_SEGMENT, BIG));
		descriptor_store(slot + 2, descriptor(STACKS + level * STACK_PAGE, 0xfff,
			PRESENT | dpl | DATA_SEGMENT, chance(s, 50) ? BIG : 0));
	}
	for (unsigned slot = RANDOM_SLOT; slot < GDT_SLOTS; slot++)
		descriptor_store(slot, random_descriptor(s));
	for (unsigned slot = 0; slot < LDT_SLOTS; slot++)
		store(LDT + 8 * slot, 8, random_descriptor(s));
	if (long_mode) /* the upper halves of call gates: mostly good */
		for (unsigned slot = RANDOM_SLOT + 1; slot < GDT_SLOTS; slot += 2)
			if (chance(s, 50))
				descriptor_store(slot, 0);
}

static u64 random_cr4(struct situation *s)
{
	static const u64 bits[] = {BIT(0), BIT(1), BIT(2), BIT(3), BIT(9), BIT(11), BIT(16), BIT(20), BIT(21)};
	u64 cr4 = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
		if (chance(s, i < ARRAY_SIZE(bits) - 2 ? 50 : 20))
			cr4 |= bits[i];
	return cr4;
}

void situation_begin(struct situation *s, u64 seed, u64 number)
{
	s->random = seed * 0x9e3779b97f4a7c15ull ^ number * 0xd1342543de82ef95ull;
	s->random = random64(s);
	s->in = (volatile u64 *)IN;
	s->at = 0x10;
}

static void choose_mode(struct situation *s, u64 modes)
{
	static const enum mode often[] = {LONG64, LONG64, LONG64, COMPATIBILITY32, COMPATIBILITY16, PROTECTED32,
		PROTECTED32, PROTECTED32, PROTECTED16, VIRTUAL8086, REAL};
	static const unsigned levels[] = {0, 0, 0, 0, 1, 2, 3, 3, 3, 3};
	static const unsigned bits[MODES] = {64, 32, 16, 32, 16, 16, 16};

	do
		s->mode = one_of(s, often);
	while (!(modes >> s->mode & 1));
	s->bits = bits[s->mode];
	s->level = one_of(s, levels);
	if (!has_descriptors(s))
		s->level = s->mode == REAL ? 0 : 3;
}

void situation_fill(struct situation *s, u64 modes)
{
	choose_mode(s, modes);

	u64 cr4 = random_cr4(s), cr0 = CR0_PE | CR0_NE | BIT(4);

	fill(IN, IN_WORDS * 8, 0);
	fill(OUT, (OUT_SSP + 1) * 8, 0);
	fill(TABLES, IDT - TABLES, 0);
	fill(HANDLER_STACK - USED_OF_STACK, USED_OF_STACK, 0);
	sandbox_restore(s->level == 3 || chance(s, 10));
	make_descriptors(s);
	make_interrupt_table(s);
	make_task_state(s);
	for (unsigned n = 0; n < TASK_COUNT; n++)
		make_task(task_address(n), 0x100, plain_selector(s->level, CS), plain_selector(s->level, SS),
			STACK_START);
	for (unsigned n = 0; n < FAULT_TASK_COUNT; n++)
		make_task(FAULT_TASKS + 0x100 * n, entry_of(s, fault_tasks[n]), SEL_CODE32, SEL_DATA,
			HANDLER_STACK);

	if (chance(s, 50))
		cr0 |= BIT(16); /* WP */
	if (chance(s, 30))
		cr0 |= BIT(18); /* AM */
	s->in[IN_MODE] = in_long_mode(s) ? MODE_LONG : s->mode == REAL ? MODE_REAL : MODE_PROTECTED;
	if (in_long_mode(s)) {
		cr0 |= CR0_PG;
		cr4 |= CR4_PAE;
		s->in[IN_CR3] = PML4;
		s->in[IN_EFER] = EFER_LME | (chance(s, 80) ? BIT(11) : 0) | (chance(s, 80) ? BIT(0) : 0);
	} else if (s->mode != REAL && chance(s, 60)) {
		cr0 |= CR0_PG;
		if (chance(s, 50)) {
			cr4 |= CR4_PAE;
			s->in[IN_CR3] = PDPT_PAE;
			s->in[IN_EFER] = chance(s, 50) ? BIT(11) : 0;
		} else {
			cr4 |= BIT(4);
			s->in[IN_CR3] = PD32;
		}
	}
	if (!in_long_mode(s))
		store(TSS + 0x1c, 4, s->in[IN_CR3]);
	for (unsigned n = 0; n < TASK_COUNT; n++)
		store(task_address(n) + 0x1c, 4, s->in[IN_CR3]);
	for (unsigned n = 0; n < FAULT_TASK_COUNT; n++)
		store(FAULT_TASKS + 0x100 * n + 0x1c, 4, s->in[IN_CR3]);
	s->in[IN_CR0] = cr0;
	s->in[IN_CR4] = cr4;
	s->in[IN_DR6] = 0xffff0ff0;
	s->in[IN_DR7] = 0x400;
	s->in[IN_MSRS + MSR_AT_PAT] = PAT_AFTER_RESET;
	for (unsigned n = 0; n < 16; n++)
		s->in[IN_REGS + n] = random64(s) & (s->mode < COMPATIBILITY32 ? ~0ull : 0xffffffff);
	s->in[IN_RIP] = code_address(s, s->at);
	s->in[IN_RSP] = (s->mode == LONG64 ? STACKS + s->level * STACK_PAGE : 0) + STACK_START;
	s->in[IN_RFLAGS] = RFLAGS_FIXED | RFLAGS_IOPL(chance(s, 50) ? 0 : below(s, 4)) |
		(chance(s, 20) ? RFLAGS_IF : 0) | (chance(s, 20) && s->mode != REAL ? RFLAGS_AC : 0);
	for (unsigned n = 0; n < 6; n++)
		if (has_descriptors(s))
			s->in[IN_ES + n] = plain_selector(s->level, n);
		else
			s->in[IN_ES + n] = (n == CS ? CODE : n == SS ? STACKS + 3 * STACK_PAGE : DATA) >> 4;
	if (s->mode == VIRTUAL8086)
		s->in[IN_RFLAGS] |= RFLAGS_VM | (chance(s, 40) ? RFLAGS_VIF : 0) | (chance(s, 30) ? RFLAGS_VIP : 0);
	else if (s->level == 3 && s->mode != REAL)
		s->in[IN_RFLAGS] |= (chance(s, 30) ? RFLAGS_VIF : 0) | (chance(s, 20) ? RFLAGS_VIP : 0);
}

void emit(struct situation *s, unsigned byte)
{
	store(CODE + s->at++, 1, byte);
}

void emit_bytes(struct situation *s, unsigned count, u64 bytes)
{
	for (; count--; bytes >>= 8)
		emit(s, (u8)bytes);
}

/* 2, 4 or 8 bytes as they are there in the mode. */
unsigned operand_size(struct situation *s)
{
	return 2u << below(s, s->bits == 64 ? 3 : 2);
}

void emit_operand_size(struct situation *s, unsigned bytes)
{
	if (bytes == 8)
		emit(s, 0x48);
	else if ((bytes == 2) != (s->bits == 16))
		emit(s, 0x66);
}

void emit_segment(struct situation *s, enum segment_number segment)
{
	static const u8 prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

	emit(s, prefixes[segment]);
}

void emit_memory(struct situation *s, unsigned reg, u64 address)
{
	if (s->bits == 16) {
		emit(s, reg << 3 | 6);
		emit_bytes(s, 2, address);
		return;
	}
	emit(s, reg << 3 | (s->bits == 64 ? 4 : 5));
	if (s->bits == 64)
		emit(s, 0x25);
	emit_bytes(s, 4, address);
}

void emit_wide_address(struct situation *s)
{
	if (s->bits == 16)
		emit(s, 0x67);
}

void emit_wide_memory(struct situation *s, unsigned reg, u64 address)
{
	if (s->bits != 16)
		return emit_memory(s, reg, address);
	emit(s, reg << 3 | 5);
	emit_bytes(s, 4, address);
}

void emit_far_pointer(struct situation *s, unsigned bytes, u64 offset, u16 selector, u64 at)
{
	(void)s;
	store(at, bytes, offset);
	store(at + bytes, 2, selector);
}
