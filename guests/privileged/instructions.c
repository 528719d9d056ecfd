/* Families about instructions that privilege, control registers or debug registers have a say in. */
#include "situation.h"

#include "cpu.h"
#include "selectors.h"

/* General detect. Only ever set for a case whose first instruction takes it: the handlers read debug registers. */
#define DR7_GD BIT(13)

#define IRET 0xcf
#define MOV_SS 0xd08e /* from AX */
#define POP_SP 0x5c
#define POP_SS 0x17
#define LEAVE 0xc9

#define ALL (BIT(MODES) - 1)
#define DESCRIPTORS (BIT(VIRTUAL8086) - 1)

const struct family families[] = {
	{"selectors", build_selectors, ALL},
	{"far", build_far, ALL},
	{"returns", build_returns, ALL},
	{"interrupts", build_interrupts, ALL},
	{"tasks", build_tasks, DESCRIPTORS},
	{"control", build_control, ALL},
	{"fastcalls", build_fast_calls, ALL},
	{"sensitive", build_sensitive, ALL},
	{"virtual", build_virtual, ALL},
	{"paging", build_paging, DESCRIPTORS},
	{"alignment", build_alignment, ALL},
	{"debug", build_debug, ALL},
	{"stack", build_stack, ALL},
	{"limits", build_limits, ALL},
	{"msrs", build_msrs, ALL},
	{"keys", build_keys, ALL},
	{"invalidation", build_invalidation, ALL},
	{"enforcement", build_enforcement, DESCRIPTORS},
};
const unsigned family_count = ARRAY_SIZE(families), mixed_count = ARRAY_SIZE(families) - 1;

static u64 one_bit_changed(struct situation *s, u64 value)
{
	return value ^ 1ull << below(s, s->mode == LONG64 ? 64 : 32);
}

/* A value for CR0 or CR4 that faults, or under which the sandbox still works. */
static u64 for_control_register(struct situation *s, unsigned number)
{
	u64 now = s->in[number == 0 ? IN_CR0 : number == 3 ? IN_CR3 : IN_CR4] & ~(number == 0 && s->mode == REAL ? CR0_PE : 0);
	u64 value = one_bit_changed(s, now);
	/* for CR3 the address, of which PAE paging takes more bits */
	u64 unsafe = number == 0 ? CR0_PE | CR0_PG : number == 4 ? CR4_PAE : 0xfffffffffffe0;

	if (chance(s, 30))
		value = one_bit_changed(s, value);
	/* of features that not every processor with the others has: LA57, PKS and LAM */
	if (number == 3 || number == 4)
		value &= ~(number == 3 ? BIT(61) | BIT(62) : BIT(12) | BIT(24) | BIT(28));
	/* 64-bit mode refuses to leave; elsewhere, the values that end in a fault for sure */
	if (s->mode == LONG64 && number != 3)
		return value;
	if (number == 0 && chance(s, 15))
		return (now & ~CR0_PE) | CR0_PG;
	return (value & ~unsafe) | (now & unsafe);
}

void build_control(struct situation *s)
{
	static const unsigned registers[] = {0, 0, 2, 3, 4, 4, 8, 1, 5, 15};
	unsigned how = below(s, 10), number = one_of(s, registers);

	if (how < 5) {
		bool write = chance(s, 75);
		u64 value = number == 0 || number == 3 || number == 4 ? for_control_register(s, number) :
				number == 8				     ? random64(s) & 0x1f :
										       random64(s);

		if (number > 7 && s->mode != LONG64)
			number = 2;
		use(s, RAX, s->mode == LONG64 ? value : (u32)value);
		if (number > 7)
			emit(s, 0x44);
		emit_bytes(s, 2, write ? 0x220f : 0x200f);
		emit(s, 0xc0 | (number & 7) << 3);
		if (number == 8 && write) /* CR8 is not the sandbox's: back to 0 */
			emit_bytes(s, 6, 0xc0220f44c031);
	} else if (how < 7) {
		unsigned write = chance(s, 75) ? 0x230f : 0x210f, which = below(s, 8);

		use(s, RAX, random64(s) & (s->mode == LONG64 && chance(s, 30) ? ~DR7_GD : 0xffffd700));
		if (s->level == 0 && (which & 6) != 4 && chance(s, 10)) /* #UD of DR4 and DR5 comes first */
			s->in[IN_DR7] |= DR7_GD;
		emit_bytes(s, 2, write);
		emit(s, 0xc0 | which << 3);
	} else if (how == 7) {
		/* LLDT, LTR, VERR, VERW; SLDT, STR */
		use(s, RAX, random_selector(s));
		emit_bytes(s, 2, 0x000f);
		emit(s, 0xc0 | below(s, 6) << 3);
		if (has_descriptors(s))
			emit_bytes(s, 3, 0xc8000f | below(s, 2) << 19); /* STR or SLDT */
	} else if (how == 8) {
		/* SGDT, SIDT, LGDT, LIDT, SMSW, LMSW, INVLPG: the tables stay */
		static const unsigned forms[] = {0, 1, 2, 3, 7};
		unsigned form = one_of(s, forms);

		store(DATA + 0x40, 2, form == 2 ? GDT_SLOTS * 8 - 1 : IDT_BYTES - 1);
		store(DATA + 0x42, 8, form == 2 ? GDT : IDT);
		if (s->mode == LONG64 && chance(s, 20))
			store(DATA + 0x48, 2, random64(s));
		if (s->mode == REAL && form == 3)
			form = 1;
		emit_operand_size(s, s->bits == 64 ? 4 : s->mode == PROTECTED16 || chance(s, 50) ? 4 : s->bits / 8);
		emit_bytes(s, 2, 0x010f);
		emit_memory(s, form, data_address(s, 0x40));
	} else {
		/* LMSW and SMSW with a register, CLTS; PE stays set, or is not set */
		use(s, RAX, (random64(s) & ~1ull) | (s->mode == REAL ? 0 : below(s, 2)));
		emit_bytes(s, 2, 0x010f);
		emit(s, chance(s, 70) ? 0xf0 : 0xe0);
		if (chance(s, 30))
			emit_bytes(s, 2, 0x060f);
		if (chance(s, 30))
			emit(s, 0x9b); /* WAIT: MP and TS */
	}
}

static u64 random_address(struct situation *s)
{
	return chance(s, 85) ? code_address(s, code_target(s)) : wild_address(s);
}

void build_fast_calls(struct situation *s)
{
	static const u16 selectors[] = {SEL_PLAIN, SEL_CODE32, SEL_CODE64, 0, 3, SEL_PLAIN + 24};
	static const struct {
		unsigned length;
		u32 bytes;
	} calls[] = {{2, 0x050f}, {2, 0x340f}, {2, 0x070f}, {3, 0x070f48}, {2, 0x350f}, {3, 0x350f48}};
	u64 linear = CODE + code_target(s);

	s->in[IN_MSRS + 0] = (u64)one_of(s, selectors) << 48 | (u64)one_of(s, selectors) << 32 | (u32)random64(s);
	s->in[IN_MSRS + 1] = linear;
	s->in[IN_MSRS + 2] = random64(s) & 0x3f7fd7;
	s->in[IN_MSRS + 3] = one_of(s, selectors) | (chance(s, 20) ? 3 : 0);
	s->in[IN_MSRS + 4] = STACKS + STACK_START + 8 * below(s, 4);
	s->in[IN_MSRS + 5] = linear;
	use(s, RCX, chance(s, 70) ? linear : random_address(s));
	use(s, RDX, chance(s, 70) ? linear : random_address(s));
	if (s->mode == LONG64) /* R11: flags for SYSRET; the SDM does not say when TF begins to trap */
		s->in[IN_REGS + 11] = random64(s) & ~RFLAGS_TF;
	unsigned which = below(s, s->mode == LONG64 ? 6 : 5);
	if (s->mode != LONG64 && which == 3)
		which = 0;
	emit_bytes(s, calls[which].length, calls[which].bytes);
}

/* Single instructions that ask for privilege, or that a mode has not; none with a result that differs by machine. */
void build_sensitive(struct situation *s)
{
	static const struct {
		unsigned length;
		u64 bytes;
	} instructions[] = {
		{1, 0xfa}, {1, 0xfb}, {1, 0x9c}, {1, 0x9d}, {2, 0x9c66}, {2, 0x9d66}, {2, 0x060f},
		{3, 0xe0010f}, {3, 0xf0010f}, {3, 0xc0000f}, {3, 0xc8000f}, {3, 0xe0000f}, {3, 0xe8000f},
		{3, 0xc0020f}, {3, 0xc0030f}, {3, 0xc0020f | 8 << 16}, {2, 0xc063}, {3, 0xf8010f}, {2, 0x080f},
		{2, 0x090f}, {4, 0xc0ae0ff3}, {4, 0xc8ae0ff3}, {4, 0xd0ae0ff3}, {4, 0xd8ae0ff3}, {2, 0xe3db},
		{1, 0x9b}, {3, 0xc0280f}, {2, 0x770f}, {2, 0xaa0f}, {2, 0xff0f}, {3, 0xc0b90f}, {2, 0x90f0},
		{2, 0x00d4}, {1, 0x27}, {1, 0x60}, {1, 0x61}, {1, 0x06}, {1, 0x0e}, {1, 0xc8}, {3, 0xd0010f},
		{3, 0xd1010f}, {3, 0xca010f}, {3, 0xcb010f}, {2, 0x16cd}, {2, 0xf8e6}, {2, 0xfee7}, {1, 0xee},
		{1, 0xef}, {2, 0xf9e4}, {1, 0xec}, {1, 0xed}, {4, 0xc0c70f66}, {1, 0xce}, {1, 0xd6}, {3, 0x00c882},
		{2, 0xd8d9}, {3, 0xc0c20f}, {8, 0xf090666666666666},
	};
	unsigned count = 1 + below(s, 2);

	use(s, RDX, 0xf8 + below(s, 8)); /* ports where nothing is */
	use(s, RAX, random_selector(s) & (s->mode == REAL ? ~1u : ~0u)); /* LMSW */
	use(s, RCX, 0xc0000080);
	if (chance(s, 30))
		s->in[IN_CR0] |= (u64)below(s, 8) << 1; /* MP, EM, TS */
	if (chance(s, 20)) { /* POPF and the like with all flags */
		u64 at = (has_descriptors(s) ? STACKS + s->level * STACK_PAGE : STACKS + 3 * STACK_PAGE) + STACK_START;

		store(at, 8, random64(s) & ~(chance(s, 80) ? RFLAGS_TF : 0));
	}
	while (count--) {
		unsigned which = below(s, ARRAY_SIZE(instructions));

		if (s->mode == LONG64 && chance(s, 20))
			emit(s, 0x48);
		if (chance(s, 5))
			emit(s, 0xf0); /* LOCK */
		emit_bytes(s, instructions[which].length, instructions[which].bytes);
	}
	if (chance(s, 3)) /* more than 15 bytes */
		while (s->at < 0x24)
			emit(s, 0x2e);
}

/* In 64-bit mode IRET has 64-bit operands: the family of returns has the others. */
static void emit_or_wide_iret(struct situation *s, unsigned length, u64 bytes)
{
	if (s->mode == LONG64 && (bytes == IRET || bytes == (IRET << 8 | 0x66))) {
		emit_operand_size(s, 8);
		emit(s, IRET);
	} else {
		emit_bytes(s, length, bytes);
	}
}

void build_virtual(struct situation *s)
{
	static const struct {
		unsigned length;
		u32 bytes;
	} instructions[] = {{1, 0xfa}, {1, 0xfb}, {1, 0x9c}, {1, 0x9d}, {2, 0x9c66}, {2, 0x9d66}, {1, 0xcf},
		{2, 0xcf66}, {2, 0x20cd}, {2, 0x21cd}, {2, 0x22cd}, {2, 0x13cd}, {1, 0xcc}, {2, 0xf8e6},
		{2, 0xfae7}, {1, 0xf4}, {3, 0x00000f}, {2, 0x8e66}, {2, 0x07ff}};
	unsigned count = 1 + below(s, 4);

	s->in[IN_CR4] |= below(s, 4); /* VME, PVI */
	for (unsigned vector = 0x20; vector < 0x23; vector++) {
		random_gate(s, vector);
		if (s->mode == VIRTUAL8086)
			store(VECTORS + 4 * vector, 4, CODE << 12 | code_target(s));
	}
	if (s->mode == VIRTUAL8086) {
		u64 at = STACKS + 3 * STACK_PAGE + STACK_START;

		store(VECTORS + 4 * 0x13, 4, CODE << 12 | code_target(s));
		store(at, 2, code_target(s));
		store(at + 2, 2, CODE >> 4);
		store(at + 4, 2, random64(s) & ~(chance(s, 80) ? RFLAGS_TF : 0));
		s->in[IN_RFLAGS] |= RFLAGS_IOPL(chance(s, 50) ? 3 : 0);
		if (chance(s, 10))
			store(TSS + 0x66, 2, below(s, 0x120));
		s->in[IN_DS] = s->in[IN_ES] = DATA >> 4;
	}
	while (count--) {
		unsigned which = below(s, ARRAY_SIZE(instructions));

		if ((instructions[which].bytes & 0xff) == 0xf4 && s->level == 0)
			continue; /* a HLT that works would be the end */
		emit_or_wide_iret(s, instructions[which].length, instructions[which].bytes);
	}
}

void build_alignment(struct situation *s)
{
	static const struct {
		unsigned length;
		u32 opcode;
		unsigned reg;
	} accesses[] = {{1, 0x8b, 0}, {1, 0x89, 0}, {1, 0x8a, 0}, {1, 0x01, 0}, {1, 0x87, 0}, {2, 0xc10f, 0},
		{1, 0xff, 6}, {1, 0x8f, 0}, {2, 0x010f, 0}, {2, 0xc70f, 1}, {1, 0xc4, 0}, {2, 0xb20f, 0}, {2, 0x020f, 0},
		{1, 0x62, 0}, {2, 0x6f0f, 0}, {2, 0x100f, 0}, {2, 0x280f, 0}, {1, 0xd9, 0}, {1, 0xdd, 0}, {1, 0xdb, 5},
		{1, 0x8e, 3}, {1, 0x8c, 3}, {2, 0xa30f, 0}, {1, 0xff, 4}, {1, 0xff, 2}, {2, 0x5a0f, 0}};
	unsigned count = 1 + below(s, 3);

	s->in[IN_CR0] |= BIT(18);
	s->in[IN_CR4] |= BIT(9);
	s->in[IN_RFLAGS] |= RFLAGS_AC;
	if (has_descriptors(s) && chance(s, 30))
		s->in[IN_RSP] += below(s, 8);
	for (unsigned at = 0; at < 0x100; at += 2)
		store(DATA + at, 2, plain_selector(s->level, DS));
	while (count--) {
		unsigned which = below(s, ARRAY_SIZE(accesses));

		emit_operand_size(s, operand_size(s));
		emit_bytes(s, accesses[which].length, accesses[which].opcode);
		emit_memory(s, accesses[which].reg, data_address(s, 0x40 + below(s, 0x20)));
		if (chance(s, 20)) /* PUSH and POP */
			emit(s, chance(s, 50) ? 0x50 : 0x58);
	}
}

void build_debug(struct situation *s)
{
	static const struct {
		unsigned length;
		u64 bytes;
	} instructions[] = {{1, 0x90}, {1, 0x9c}, {1, 0x9d}, {1, 0x50}, {1, 0x58}, {1, 0xf1}, {2, 0xd08e},
		{2, 0xd08e}, {1, 0xfb}, {2, 0xa4f3}, {2, 0xaaf3}, {1, 0xa4}, {1, 0xaa}, {1, 0xab}, {2, 0xf8e6}, {1, 0xcf},
		{2, 0x20cd}, {3, 0xc8210f}, {3, 0xc8230f}, {2, 0xc031}, {2, 0x060f}, {1, 0xac}, {2, 0xabf3}};
	unsigned count = 3 + below(s, 6), last = 0;
	u64 data = s->mode == LONG64 ? DATA : 0, stack = has_descriptors(s) ? STACKS + s->level * STACK_PAGE :
									      STACKS + 3 * STACK_PAGE;

	use(s, RCX, 1 + below(s, 4));
	use(s, RSI, data + 0x40);
	use(s, RDI, data + 0x60);
	use(s, RAX, s->in[IN_SS]);
	for (unsigned n = 0; n < 4; n++) {
		u64 places[] = {CODE + 0x10 + below(s, 12), CODE + 0x10 + below(s, 12), DATA + 0x40 + below(s, 0x30),
			stack + STACK_START - 8 + below(s, 16), 0xf8};

		s->in[IN_DR + n] = one_of(s, places);
		if (chance(s, 60))
			s->in[IN_DR7] |= 1ull << (2 * n + below(s, 2));
		s->in[IN_DR7] |= (u64)(chance(s, 50) ? 0 : below(s, 16)) << (16 + 4 * n);
	}
	if (s->level == 0 && chance(s, 10)) {
		s->in[IN_DR7] |= DR7_GD;
		emit_bytes(s, 3, 0xc8210f);
	}
	if (chance(s, 10))
		s->in[IN_DR6] |= below(s, 16);
	if (chance(s, 30))
		s->in[IN_RFLAGS] |= RFLAGS_TF;
	if (chance(s, 30) && s->mode != REAL)
		s->in[IN_RFLAGS] |= RFLAGS_RF;
	store(stack + STACK_START, 8, (random64(s) & 0x100) | (s->mode == REAL ? 2 : 2));
	random_gate(s, 0x20);
	while (count--) {
		unsigned which = below(s, ARRAY_SIZE(instructions));

		/* whether a second MOV SS delays a trap is the processor's choice (SDM vol. 3, 6.8.3) */
		if (instructions[which].bytes == MOV_SS && last == MOV_SS)
			continue;
		last = (unsigned)instructions[which].bytes;
		emit_or_wide_iret(s, instructions[which].length, instructions[which].bytes);
	}
}

void build_stack(struct situation *s)
{
	static const struct {
		unsigned length;
		u32 bytes;
	} instructions[] = {{1, 0x50}, {1, 0x58}, {2, 0x5066}, {2, 0x5866}, {1, 0x60}, {1, 0x61}, {1, 0x9c}, {1, 0x9d},
		{4, 0x000008c8}, {4, 0x020010c8}, {1, 0xc9}, {3, 0x000000e8}, {1, 0xc3}, {3, 0x0008c2}, {1, 0x1e}, {1, 0x16},
		{2, 0xa00f}, {2, 0xa10f}, {2, 0x006a}, {2, 0xf4ff}, {1, 0x5c}, {1, 0x54}, {1, 0x17}};
	static const u64 pointers[] = {0, 1, 2, 3, 4, 6, 8, 0x7fe, 0x800, 0xffc, 0xffe, 0xfff, 0x1000, 0x1002, 0x1004,
		0xfffe, 0xffff, 0x10000};
	unsigned count = 1 + below(s, 4);
	bool confined = s->mode == REAL;

	if (s->mode == LONG64) {
		static const u64 edges[] = {0x7ffffffffffe, 0x800000000000, 0xffff800000000002, 0xfffffffffffffffc};

		if (chance(s, 20))
			s->in[IN_RSP] = one_of(s, edges);
	} else {
		unsigned slot = SEL_PLAIN / 8 + 3 * s->level + 2;
		u64 stack = *(volatile u64 *)(GDT + 8ull * slot);

		/* with no room for the frame of an exception, real-address mode shuts down */
		u64 pointer = s->mode == REAL ? one_of(s, pointers) & ~7ull : one_of(s, pointers);

		use(s, RBP, s->mode == REAL ? pointer : one_of(s, pointers));
		if (s->level == 0) { /* the way in takes the stack as it is */
			emit_operand_size(s, 4);
			emit(s, 0xbc);
			emit_bytes(s, 4, pointer);
		} else {
			s->in[IN_RSP] = pointer;
		}
		if (chance(s, 30) && has_descriptors(s) && pointer <= STACK_PAGE + 4) {
			descriptor_store(slot, stack | BIT(42)); /* expands down; further up are the tables */
			confined = true;
		}
	}
	for (unsigned at = 0; at < STACK_PAGE; at += 8)
		store((has_descriptors(s) ? STACKS + s->level * STACK_PAGE : STACKS + 3 * STACK_PAGE) + at, 8,
			chance(s, 30) ? random64(s) & 0x300d7 : code_address(s, code_target(s)));
	while (count--) {
		unsigned which = below(s, ARRAY_SIZE(instructions));

		if (confined && (instructions[which].bytes == POP_SP || instructions[which].bytes == LEAVE ||
					instructions[which].bytes == POP_SS))
			continue; /* any SP may come of them, or a stack in the vectors */
		emit_bytes(s, instructions[which].length, instructions[which].bytes);
	}
}

void build_limits(struct situation *s)
{
	/* some end in a displacement of the mode's size */
	static const struct {
		unsigned length;
		u64 bytes;
		bool relative;
		int displacement;
	} instructions[] = {{1, 0x90, 0, 0}, {2, 0xc031, 0, 0}, {5, 0x12345678b8, 0, 0}, {2, 0x00eb, 0, 0},
		{2, 0x7feb, 0, 0}, {1, 0xe9, 1, 0x100}, {1, 0xe8, 1, 0x100}, {1, 0xe8, 1, -16}, {1, 0xe9, 1, -0x700},
		{2, 0xe0ff, 0, 0}, {2, 0xd0ff, 0, 0}, {6, 0x00000001c081, 0, 0}, {2, 0x1074, 0, 0},
		{2, 0x850f, 1, 0x100}, {1, 0xc3, 0, 0}, {2, 0x20cd, 0, 0}, {2, 0x00e2, 0, 0}, {2, 0x9066, 0, 0},
		{1, 0xcc, 0, 0}};
	static const unsigned starts[] = {0x7fa, 0x7fc, 0x7fe, 0x7ff, 0xffa, 0xffc, 0xffd, 0xffe, 0xfff, 0xfffa, 0xfffc,
		0xfffe, 0xffff, 0xefa};
	static const u64 limits[] = {0x7ff, 0xfff, 0xffe, 0xffff, 0xfffd};
	unsigned count = 2 + below(s, 4), start = one_of(s, starts);

	use(s, RCX, 1 + below(s, 3));
	use(s, RAX, code_address(s, chance(s, 20) ? 0x20000 : 0x100 * (1 + below(s, 3)))); /* no way back */
	if (has_descriptors(s) && s->mode != LONG64) {
		u64 at = GDT + 8 * (SEL_PLAIN / 8 + 3 * s->level);

		store(at, 2, one_of(s, limits));
		if (chance(s, 10))
			store(at + 6, 1, *(volatile u8 *)(at + 6) | 0x80);
	}
	s->in[IN_RIP] = code_address(s, start);
	s->at = start;
	while (count--) {
		unsigned which = below(s, ARRAY_SIZE(instructions));

		emit_bytes(s, instructions[which].length, instructions[which].bytes);
		if (instructions[which].relative)
			emit_bytes(s, s->bits == 16 ? 2 : 4, (u64)(int64_t)instructions[which].displacement);
	}
}
