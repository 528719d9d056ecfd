/* The family of control-flow enforcement in force: shadow stacks, and the tracking of indirect branches. */
#include "situation.h"

#include "cpu.h"
#include "selectors.h"

#define CR0_WP BIT(16)
#define CR4_CET BIT(23)
#define SH_STK_EN BIT(0)
#define WR_SHSTK_EN BIT(1)
#define ENDBR_EN BIT(2)
#define LEG_IW_EN BIT(3)
#define NO_TRACK_EN BIT(4)
#define SUPPRESS_DIS BIT(5)
#define SUPPRESS BIT(10)
#define TRACKER BIT(11)
#define BUSY BIT(0)
#define PREVIOUS BIT(1)

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_XD BIT(63)

/* Pages of the window. */
#define ORDINARY 0
#define SUPERVISOR_SHADOW 1
#define USER_SHADOW 2
#define READ_ONLY_USER 3
#define READ_ONLY_SUPERVISOR 4
#define ORDINARY_SUPERVISOR 5
#define OTHER_SUPERVISOR_SHADOW 6
#define OTHER_USER_SHADOW 7

/* From a supervisor's page to a user's, and back. */
#define OTHER_OWNER (window_page(SUPERVISOR_SHADOW) ^ window_page(USER_SHADOW))

/* Offsets in each: where SSP begins, tokens of the levels, one to restore, one that names the stack before, and what
 * WRSS and others write to. */
#define TOP 0x800
#define LEVEL_TOKEN(n) (0x8d8 + 0x40 * (n))
#define RESTORE_TOKEN 0x980
#define STACK_BEFORE 0x9c0
#define PLAIN_WORDS 0x9e0

#define ABOVE_4GB BIT(32) /* where the first GB is once more */
#define SAFE_TOKEN(n) (SAFE_SHADOW + SAFE_SHADOW_ROOM * (u64)(n) + SAFE_SHADOW_TOKEN)
#define LAST_RESORT 7 /* an IST that always works */
#define TASK_SSP 0x68

#define ENDBR64 0xfa1e0ff3
#define ENDBR32 0xfb1e0ff3
#define NOTRACK 0x3e
#define FAR_POINTER 0x40 /* offsets in DATA */
#define POINTER 0x60
#define GATE_SLOT 40

static bool is_64(const struct situation *s)
{
	return s->mode == LONG64;
}

static u64 window_page(unsigned page)
{
	return WINDOW + page * 0x1000ul;
}

static unsigned own_page(const struct situation *s)
{
	return s->level == 3 ? USER_SHADOW : SUPERVISOR_SHADOW;
}

static u64 data_stack(const struct situation *s)
{
	return STACKS + s->level * STACK_PAGE + STACK_START;
}

/* The linear address of an instruction pointer. */
static u64 linear_code(const struct situation *s, u64 ip)
{
	return is_64(s) ? ip : CODE + ip;
}

/* At a linear address that the window has, below or above 4 GB. */
static void put(u64 linear, unsigned bytes, u64 value)
{
	u64 offset = (linear & ~ABOVE_4GB) - WINDOW;

	if (offset < WINDOW_PAGES * 0x1000ul)
		store(DATA + offset, bytes, value);
}

/* What a level has in force. */
static u64 random_control(struct situation *s)
{
	static const u64 bitmaps[] = {LEGACY_BITMAP, LEGACY_BITMAP, LEGACY_BITMAP, WINDOW + 0x1000, WINDOW + 0x2000,
		0x40000000};

	u64 control = (chance(s, 80) ? SH_STK_EN : 0) | (chance(s, 60) ? WR_SHSTK_EN : 0) |
		(chance(s, 50) ? ENDBR_EN : 0) | (chance(s, 25) ? LEG_IW_EN : 0) | (chance(s, 50) ? NO_TRACK_EN : 0) |
		(chance(s, 30) ? SUPPRESS_DIS : 0) | one_of(s, bitmaps);

	/* Bochs's ENDBRANCH takes it away where nothing is tracked, too */
	return control | (control & ENDBR_EN && chance(s, 25) ? SUPPRESS : 0);
}

static void set_page(const struct situation *s, unsigned page, u64 flags)
{
	store(window_entry(s, page), window_entry_bytes(s), (DATA + page * 0x1000ul) | flags);
}

static void make_pages(struct situation *s)
{
	static const u64 rights[WINDOW_PAGES] = {
		[ORDINARY] = PTE_W | PTE_U, [SUPERVISOR_SHADOW] = PTE_A | PTE_D, [USER_SHADOW] = PTE_U | PTE_A | PTE_D,
		[READ_ONLY_USER] = PTE_U, [READ_ONLY_SUPERVISOR] = 0, [ORDINARY_SUPERVISOR] = PTE_W | PTE_D,
		[OTHER_SUPERVISOR_SHADOW] = PTE_A | PTE_D, [OTHER_USER_SHADOW] = PTE_U | PTE_A | PTE_D};
	static const u64 flaws[] = {PTE_W, PTE_U, PTE_A, PTE_D, PTE_D, PTE_XD, BIT(51)};
	u64 possible = window_entry_bytes(s) == 8 ? ~0ull : 0xffffffff;
	u64 safe = SAFE_SHADOW | PTE_P | PTE_A | PTE_D;

	for (unsigned page = 0; page < WINDOW_PAGES; page++)
		set_page(s, page, PTE_P | (rights[page] ^ (chance(s, 4) ? one_of(s, flaws) & possible : 0)));
	if (chance(s, 4)) /* the level above */
		store(window_entry_bytes(s) == 8 ? PD + 8 * (WINDOW >> 21) : PD32 + 4 * (WINDOW >> 22), 1,
			PTE_P | (chance(s, 50) ? PTE_W : PTE_U));
	store(PDPT + 8 * (ABOVE_4GB >> 30), 8, PD | PTE_P | PTE_W | PTE_U);
	store(PT + 8 * (SAFE_SHADOW >> 12), 8, safe);
	store(PT32 + 4 * (SAFE_SHADOW >> 12), 4, safe);
	sandbox_changed |= WINDOW_CHANGED;
}

/* Shadow stacks are nothing without paging. */
static void make_paging_work(struct situation *s)
{
	if (!is_paging(s)) {
		s->in[IN_CR0] |= CR0_PG;
		s->in[IN_CR3] = s->in[IN_CR4] & CR4_PAE ? PDPT_PAE : PD32;
		store(TSS + 0x1c, 4, s->in[IN_CR3]);
		for (unsigned n = 0; n < FAULT_TASK_COUNT; n++)
			store(FAULT_TASKS + 0x100 * n + 0x1c, 4, s->in[IN_CR3]);
	}
}

/* What handlers run on: by IST in long mode, in tasks of their own outside it where there is no other way. */
static void make_handlers_work(struct situation *s)
{
	static const unsigned flaws[] = {1, 2, 4, 8, 0xf00};

	for (unsigned n = 0; n < 8; n++) {
		store(SAFE_TOKEN(n), 8, SAFE_TOKEN(n));
		store(SSP_TABLE + 8 * n, 8, SAFE_TOKEN(n));
		if (in_long_mode(s) && n != LAST_RESORT && n && chance(s, 4))
			store(chance(s, 50) ? SSP_TABLE + 8 * n : SAFE_TOKEN(n), 8, SAFE_TOKEN(n) ^ one_of(s, flaws));
	}
	s->in[IN_MSRS + MSR_AT_INTERRUPT_SSPS] = SSP_TABLE;
	if (in_long_mode(s)) {
		store(TSS + 0x24 + 8 * (LAST_RESORT - 1), 8, HANDLER_STACK);
		store(IDT + 16 * 2 + 4, 1, LAST_RESORT);
		store(IDT + 16 * 8 + 4, 1, LAST_RESORT);
		return;
	}
	for (unsigned n = 0; n < FAULT_TASK_COUNT; n++) {
		store(GDT + SEL_FAULT_TASKS + 8 * n, 2, 0xff);
		store(FAULT_TASKS + 0x100 * n + TASK_SSP, 4, SAFE_TOKEN(1 + n));
	}
}

static u64 random_shadow_address(struct situation *s, unsigned offset)
{
	u64 address = window_page(chance(s, 85) ? own_page(s) : below(s, WINDOW_PAGES)) + offset;

	if (in_long_mode(s) && chance(s, is_64(s) ? 10 : 3))
		address |= ABOVE_4GB;
	return address;
}

/* Where the case's shadow stack begins. */
static u64 random_ssp(struct situation *s)
{
	static const unsigned offsets[] = {TOP, TOP, TOP, TOP, TOP, TOP, TOP, TOP, TOP + 4, TOP + 4, 0, 4, 0xff8, 0xffc};

	return random_shadow_address(s, one_of(s, offsets));
}

static void make_level_tokens(struct situation *s)
{
	for (unsigned n = 0; n < 3; n++) {
		unsigned page = chance(s, 95) ? SUPERVISOR_SHADOW : below(s, WINDOW_PAGES);
		u64 at = window_page(page) + LEVEL_TOKEN(n);

		if (in_long_mode(s) && chance(s, 10))
			at |= ABOVE_4GB;
		put(at, 8, chance(s, 93) ? at : chance(s, 60) ? at | BUSY : at ^ BIT(2 + below(s, 31)));
		s->in[IN_MSRS + MSR_AT_PL_SSP + n] = at | (chance(s, 2) ? 4 : 0);
	}
}

/* What IRET finds that goes to the case. */
static void make_way_in(struct situation *s)
{
	u64 frame[] = {s->ssp, linear_code(s, s->in[IN_RIP]), s->in[IN_CS], (SAFE_TOKEN(0) + 0x20) | BUSY};

	if (s->level == 3)
		s->in[IN_MSRS + MSR_AT_PL_SSP + 3] = s->ssp;
	else
		s->in[IN_MSRS + MSR_AT_PL_SSP + 3] = random_shadow_address(s, TOP) ^ OTHER_OWNER;
	if (chance(s, 2))
		frame[below(s, 3)] ^= BIT(below(s, 16));
	for (unsigned n = 0; n < ARRAY_SIZE(frame); n++)
		store(SAFE_TOKEN(0) + 8 + 8 * n, 8, frame[n]);
}

/* Instructions. */

/* Where a transfer leads to, from CODE on. */
static unsigned random_target(struct situation *s)
{
	return 0x100 * (1 + below(s, 3));
}

/* 2, 4 or 8 bytes as near branches of the mode have them, mostly its own. */
static unsigned random_near_size(struct situation *s)
{
	return is_64(s) ? 8 : chance(s, 85) ? s->bits / 8 : 2 + 2 * below(s, 2);
}

static void emit_near_size(struct situation *s, unsigned bytes)
{
	if (!is_64(s))
		emit_operand_size(s, bytes);
}

static void near_call(struct situation *s)
{
	unsigned bytes = random_near_size(s), width = bytes == 2 ? 2 : 4;

	emit_near_size(s, bytes);
	emit(s, 0xe8);
	emit_bytes(s, width, chance(s, 20) ? 0 : random_target(s) - s->at - width);
}

static void near_return(struct situation *s)
{
	unsigned bytes = random_near_size(s);
	u64 back = code_address(s, code_target(s)), flaw = chance(s, 15) ? BIT(below(s, 8 * bytes)) : 0;

	store(data_stack(s), bytes, back);
	put(s->ssp, is_64(s) ? 8 : 4, back ^ flaw);
	emit_near_size(s, bytes);
	if (chance(s, 70))
		emit(s, 0xc3);
	else
		emit_bytes(s, 3, 0xc2 | 8 * below(s, 4) << 8);
}

static void indirect_branch(struct situation *s)
{
	unsigned bytes = random_near_size(s), form = chance(s, 50) ? 2 : 4;
	u64 target = code_address(s, random_target(s));

	if (chance(s, 35))
		emit(s, NOTRACK);
	emit_near_size(s, bytes);
	emit(s, 0xff);
	if (chance(s, 60)) {
		use(s, RBX, target);
		emit(s, 0xc0 | form << 3 | RBX);
	} else {
		store(DATA + POINTER, 8, target);
		emit_memory(s, form, data_address(s, POINTER));
	}
}

/* A code selector that a transfer may go to, and the offset there. */
static u16 random_code(struct situation *s, unsigned level, u64 *offset)
{
	unsigned target = random_target(s);

	if (chance(s, 75)) {
		*offset = code_address(s, target);
		return plain_selector(level, CS);
	}
	*offset = CODE + target;
	return (u16)((chance(s, 50) || !in_long_mode(s) ? SEL_CODE32 : SEL_CODE64) | level);
}

static void make_call_gate(const struct situation *s, u64 offset, u16 selector)
{
	descriptor_store(GATE_SLOT,
		(offset & 0xffff) | (u64)selector << 16 | 0xecull << 40 | (offset >> 16 & 0xffff) << 48);
	if (in_long_mode(s))
		descriptor_store(GATE_SLOT + 1, offset >> 32);
}

/* Handlers and procedures of inner levels are 64-bit code in long mode. */
static u16 inner_code(struct situation *s, unsigned level, u64 *offset)
{
	unsigned target = random_target(s);

	*offset = in_long_mode(s) ? CODE + target : target;
	if (in_long_mode(s) && !is_64(s))
		return SEL_CODE64;
	return plain_selector(level, CS);
}

static void far_branch(struct situation *s)
{
	unsigned bytes = operand_size(s), call = chance(s, 65);
	u64 offset;
	u16 selector = random_code(s, s->level, &offset);

	if (call) { /* between 64-bit and compatibility mode: the family of far transfers has those */
		offset = code_address(s, random_target(s));
		selector = plain_selector(s->level, CS);
	}
	if (chance(s, 50)) {
		unsigned to = chance(s, 60) ? 0 : below(s, s->level + 1);

		selector = inner_code(s, call ? to : s->level, &offset);
		make_call_gate(s, offset, selector);
		selector = (u16)(8 * GATE_SLOT + s->level);
	}
	emit_far_pointer(s, bytes, offset, selector, DATA + FAR_POINTER);
	emit_operand_size(s, bytes);
	emit(s, 0xff);
	emit_memory(s, call ? 3 : 5, data_address(s, FAR_POINTER));
}

static void interrupt(struct situation *s)
{
	static const u32 events[] = {0x20cd, 0x20cd, 0x20cd, 0x20cd, 0x20cd, 0x0b0f, 0xcc, 0x03cd};
	/* in long mode Bochs pushes nothing within CPL 3 */
	unsigned levels = in_long_mode(s) && s->level == 3 ? 3 : s->level + 1;
	u64 offset;
	u16 selector = inner_code(s, chance(s, 60) ? 0 : below(s, levels), &offset);

	interrupt_gate(s, 0x20, offset, selector, in_long_mode(s) ? chance(s, 40) ? 0 : below(s, 8) : 0);
	emit_bytes(s, 2, one_of(s, events));
}

/* On the shadow stack: what RETF and IRET hold against where they go, at `level`. */
static void put_shadow_frame(struct situation *s, unsigned level, u16 selector, u64 linear, u64 before)
{
	u64 frame[] = {chance(s, 40) ? s->ssp + 24 : before, linear, selector, (s->ssp + 24) | (chance(s, 70) ? BUSY : 0)};

	if (level != s->level && level == 3) /* a token only */
		frame[0] = s->ssp | (chance(s, 80) ? BUSY : 0);
	if (chance(s, 12))
		frame[below(s, 3)] ^= BIT(below(s, 34));
	for (unsigned n = 0; n < ARRAY_SIZE(frame); n++)
		put(s->ssp + 8 * n, 8, frame[n]);
}

static void far_return(struct situation *s)
{
	/* Bochs takes IRETQ within CPL 3 for one to it, and IRET of less than 64 bits is for the family of returns */
	bool interrupt = chance(s, 60) && !(is_64(s) && s->level == 3), wide = chance(s, 80) || (interrupt && is_64(s));
	unsigned bytes = is_64(s) ? (wide ? 8 : operand_size(s)) : wide ? 4 : operand_size(s), words = 0;
	unsigned level = s->level == 3 || chance(s, 40) ? s->level : s->level + below(s, 4 - s->level);
	u64 frame[9], offset, before = chance(s, 3) ? wild_address(s) & ~7ull : random_ssp(s);
	u16 selector = random_code(s, level, &offset), segment = selector & ~3;
	bool system = segment == SEL_CODE32 || segment == SEL_CODE64;
	bool flat_stack = is_64(s) || (in_long_mode(s) && segment == SEL_CODE64);

	if (system)
		level = 0;
	if (bytes == 2)
		offset &= 0xffff;
	frame[words++] = offset;
	frame[words++] = selector;
	if (interrupt)
		frame[words++] = (random64(s) & 0x240cd5) | 2;
	frame[words++] = (flat_stack ? STACKS + level * STACK_PAGE : 0) + STACK_START - 0x100;
	frame[words++] = plain_selector(level, SS);
	if (interrupt && bytes == 4 && s->level == 0 && !in_long_mode(s) && chance(s, 20)) {
		/* to virtual-8086 mode, from which and to which Bochs uses no shadow stack */
		s->in[IN_MSRS + MSR_AT_S_CET] &= ~SH_STK_EN;
		frame[0] &= 0xffff;
		frame[1] = CODE >> 4;
		frame[2] |= RFLAGS_VM;
		frame[4] = (STACKS + 3 * STACK_PAGE) >> 4;
		for (words = 5; words < 9; words++)
			frame[words] = DATA >> 4;
	}
	for (unsigned n = 0; n < words; n++)
		store(data_stack(s) + bytes * n, bytes, frame[n]);
	put_shadow_frame(s, level, selector, system ? offset : linear_code(s, offset), before);
	emit_operand_size(s, bytes);
	emit(s, interrupt ? 0xcf : 0xcb);
}

static void emit_wide_operand(struct situation *s, unsigned prefix, bool wide, u32 opcode, unsigned length)
{
	if (prefix)
		emit(s, prefix);
	if (wide && is_64(s))
		emit(s, 0x48);
	emit_bytes(s, length, opcode);
}

/* RSTORSSP, CLRSSBSY, WRSS and WRUSS: with an operand in the window. */
static void emit_shadow_operand(struct situation *s, unsigned reg, u64 address)
{
	if (is_64(s)) { /* above 4 GB, too */
		use(s, RSI, address);
		emit(s, reg << 3 | RSI);
	} else {
		emit_wide_memory(s, reg, (u32)address);
	}
}

static void pointer_instruction(struct situation *s)
{
	unsigned how = below(s, 3);

	if (how == 0) {
		use(s, RCX, chance(s, 80) ? below(s, 4) : random64(s));
		emit_wide_operand(s, 0xf3, chance(s, 60), 0xe8ae0f | RCX << 16, 3); /* INCSSP */
	} else if (how == 1) {
		emit_wide_operand(s, 0xf3, chance(s, 60), 0xc81e0f | RDX << 16, 3); /* RDSSP */
	} else {
		u64 before = window_page(own_page(s)) + STACK_BEFORE + 4 * below(s, 3);

		put(s->ssp, 8, before | (chance(s, 85) ? PREVIOUS : random64(s) & 3) | (chance(s, 10) ? BIT(32) : 0));
		if (chance(s, 70))
			put(s->ssp + 8, 4, 0);
		s->in[IN_RFLAGS] |= chance(s, 30);
		emit_bytes(s, 4, 0xea010ff3); /* SAVEPREVSSP */
	}
}

static void restore_pointer(struct situation *s)
{
	u64 at = random_shadow_address(s, RESTORE_TOKEN), token = (at + 8 + (chance(s, 25) ? 4 : 0)) | is_64(s);

	if (chance(s, 20))
		token ^= BIT(below(s, 34));
	put(at, 8, token);
	emit_wide_address(s);
	emit_bytes(s, 3, 0x010ff3);
	emit_shadow_operand(s, 5, at | (chance(s, 4) ? 4 : 0));
}

static void shadow_write(struct situation *s)
{
	bool user = s->level == 0 && chance(s, 40), wide = chance(s, 60);
	u64 at = random_shadow_address(s, PLAIN_WORDS + 4 * below(s, 3));

	if (user && chance(s, 80))
		at ^= OTHER_OWNER;
	if (chance(s, 5))
		at += 1 + below(s, 3);
	emit_wide_address(s);
	if (user || chance(s, 5))
		emit_wide_operand(s, 0x66, wide, 0xf5380f, 3);
	else
		emit_wide_operand(s, 0, wide, 0xf6380f, 3);
	emit_shadow_operand(s, RDX, at);
}

static void busy_instruction(struct situation *s)
{
	u64 at = s->in[IN_MSRS + MSR_AT_PL_SSP];

	if (chance(s, 50)) {
		emit_bytes(s, 4, 0xe8010ff3); /* SETSSBSY */
		return;
	}
	put(at, 8, chance(s, 70) ? at | BUSY : at);
	emit_wide_address(s);
	emit_bytes(s, 3, 0xae0ff3); /* CLRSSBSY */
	emit_shadow_operand(s, 6, at | (chance(s, 5) ? 4 : 0));
}

static void ordinary_access(struct situation *s)
{
	emit_access(s, below(s, 3), window_page(below(s, WINDOW_PAGES)) + PLAIN_WORDS);
}

static void end_branch(struct situation *s)
{
	emit_bytes(s, 4, chance(s, 70) == is_64(s) ? ENDBR64 : ENDBR32);
}

/* Of what is in force, or whether anything is. */
static void change_control(struct situation *s)
{
	if (chance(s, 30)) {
		bool write_protect = chance(s, 50);

		s->in[IN_MSRS + MSR_AT_S_CET] &= ~SUPPRESS;
		use(s, RAX, write_protect ? s->in[IN_CR0] & ~CR0_WP : s->in[IN_CR4] & ~CR4_CET);
		emit_bytes(s, 3, write_protect ? 0xc0220f : 0xe0220f);
		return;
	}
	use(s, RCX, chance(s, 50) ? 0x6a2 : 0x6a0);
	use(s, RAX, random_control(s));
	use(s, RDX, 0);
	emit_bytes(s, 2, 0x300f);
}

static void (*const first[])(struct situation *s) = {near_call, near_return, near_return, indirect_branch,
	indirect_branch, indirect_branch, far_branch, far_branch, interrupt, interrupt, far_return, far_return, far_return,
	build_fast_calls, pointer_instruction, pointer_instruction, restore_pointer, restore_pointer, shadow_write, shadow_write,
	busy_instruction, ordinary_access, end_branch, change_control};
/* What may come after another, for which it leaves the stacks alone. */
static void (*const next[])(struct situation *s) = {near_call, indirect_branch, pointer_instruction,
	restore_pointer, shadow_write, ordinary_access, end_branch};

/* What control comes to: an ENDBRANCH or none, then something that is no INT3. */
static void make_targets(struct situation *s)
{
	static const u32 bodies[] = {0x90, 0x90, 0xc3, 0xc3, 0xcb, 0xcb48, 0xea010ff3, 0xc81e0ff3, 0xe8010ff3};
	unsigned here = s->at;

	for (unsigned target = 0x100; target <= 0x300; target += 0x100) {
		s->at = target;
		if (chance(s, 65))
			end_branch(s);
		if (chance(s, 90))
			for (u32 body = one_of(s, bodies); body; body >>= 8)
				emit(s, (u8)body);
	}
	s->at = here;
}

void build_enforcement(struct situation *s)
{
	volatile u64 *const msrs = s->in + IN_MSRS;

	s->ssp = random_ssp(s);
	make_paging_work(s);
	make_data_flat(s);
	make_pages(s);
	make_handlers_work(s);
	make_level_tokens(s);
	mark_accessed(); /* whether what faults on a shadow stack does so is the processor's choice */
	s->in[IN_CR0] |= CR0_WP;
	s->in[IN_CR4] |= CR4_CET;
	msrs[MSR_AT_U_CET] = random_control(s);
	msrs[MSR_AT_S_CET] = random_control(s);
	if (s->level == 3 && msrs[MSR_AT_U_CET] & ENDBR_EN && chance(s, 20))
		msrs[MSR_AT_U_CET] = (msrs[MSR_AT_U_CET] & ~SUPPRESS) | TRACKER;
	for (unsigned at = 0; at < 4; at++)
		store(LEGACY_BITMAP + at, 1, random64(s));
	make_targets(s);
	if (chance(s, 15))
		end_branch(s);
	one_of(s, first)(s);
	for (unsigned n = below(s, 3); n; n--)
		one_of(s, next)(s);
	make_way_in(s);
}
