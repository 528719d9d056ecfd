/* Families about selectors, gates, tasks and the transfers that use them. */
#include "situation.h"

#include "selectors.h"

#define FAR_POINTER 0x40 /* an offset in DATA */

/* A read or write of 1, 2 or 4 bytes through a segment, near the limits that descriptors have. */
static void emit_probe(struct situation *s, enum segment_number segment)
{
	static const unsigned edges[] = {0, 0x0f, 0x10, 0xff, 0x100, 0x7fe, 0xffe, 0xfff, 0x1000};
	unsigned offset = one_of(s, edges), size = below(s, 3), write = below(s, 2) ? 2 : 0;
	u64 address = offset + below(s, 3) - (offset ? 1 : 0);

	if (s->mode == LONG64 && segment < FS) /* the others have a base */
		address += DATA;
	emit_segment(s, segment);
	if (size)
		emit_operand_size(s, 2 * size);
	emit(s, (write ? 0x88 : 0x8a) | (size ? 1 : 0));
	emit_memory(s, RAX, address);
}

void build_selectors(struct situation *s)
{
	static const enum segment_number segments[] = {ES, SS, DS, FS, GS};
	u64 stack = s->in[IN_RSP];

	for (unsigned n = 0; n < 2; n++) {
		enum segment_number segment = one_of(s, segments);
		u16 selector = random_selector(s);
		unsigned how = below(s, 3);

		if (how == 0 && n == 0) {
			s->in[IN_REGS + RAX] = (s->in[IN_REGS + RAX] & ~0xffffull) | selector;
			emit(s, 0x8e);
			emit(s, 0xc0 | segment << 3 | RAX);
		} else if (how == 1 && s->mode != LONG64 && segment < FS) {
			static const u8 pops[] = {0x07, 0, 0x17, 0x1f};

			store((has_descriptors(s) ? STACKS + s->level * STACK_PAGE : STACKS + 3 * STACK_PAGE) + stack,
				2, selector);
			emit(s, pops[segment]);
		} else {
			unsigned bytes = operand_size(s);

			store(DATA + FAR_POINTER + 16 * n, 8, random64(s) & 0x7ff);
			emit_far_pointer(s, bytes, code_address(s, STACK_START), selector,
				DATA + FAR_POINTER + 16 * n);
			emit_segment(s, DS);
			if (segment < FS && segment != SS) {
				if (s->mode == LONG64) {
					/* MOV from memory: LES and LDS are not there */
					emit(s, 0x8e);
					emit_memory(s, segment, DATA + FAR_POINTER + 16 * n + bytes);
				} else {
					emit_operand_size(s, bytes);
					emit(s, segment == ES ? 0xc4 : 0xc5);
					emit_memory(s, RBP, FAR_POINTER + 16 * n);
				}
			} else {
				emit_operand_size(s, bytes);
				emit(s, 0x0f);
				emit(s, segment == SS ? 0xb2 : segment == FS ? 0xb4 : 0xb5);
				emit_memory(s, RBP, data_address(s, FAR_POINTER + 16 * n));
			}
		}
		emit_probe(s, segment);
		if (chance(s, 50))
			emit_probe(s, segment);
		if (segment == SS && chance(s, 70)) /* a PUSH and a POP */
			emit_bytes(s, 2, 0x5a50);
	}
}

/* Now and then what control comes to goes back where it came from. */
static void emit_returns_at_targets(struct situation *s)
{
	if (!chance(s, 40))
		return;
	for (unsigned at = 0x100; at <= 0x300; at += 0x100) {
		unsigned here = s->at, bytes = operand_size(s);

		s->at = at;
		if (chance(s, 30)) {
			emit_operand_size(s, s->mode == LONG64 ? 8 : bytes);
			emit(s, 0xcf); /* IRET */
		} else if (chance(s, 50)) {
			emit_operand_size(s, bytes);
			emit(s, 0xcb); /* RETF */
		} else {
			emit_operand_size(s, bytes);
			emit(s, 0xca);
			emit_bytes(s, 2, 2 * below(s, 8));
		}
		s->at = here;
	}
}

void build_far(struct situation *s)
{
	unsigned bytes = operand_size(s), call = below(s, 2);
	u16 selector = random_selector(s);
	u64 offset = code_address(s, code_target(s));

	emit_returns_at_targets(s);
	if (!has_descriptors(s))
		selector = CODE >> 4;
	if (s->mode == LONG64 || chance(s, 50)) {
		if (bytes == 8 && chance(s, 10))
			offset = wild_address(s);
		emit_far_pointer(s, bytes, offset, selector, DATA + FAR_POINTER);
		emit_segment(s, DS);
		emit_operand_size(s, bytes);
		emit(s, 0xff);
		emit_memory(s, call ? 3 : 5, data_address(s, FAR_POINTER));
		return;
	}
	emit_operand_size(s, bytes);
	emit(s, call ? 0x9a : 0xea);
	emit_bytes(s, bytes, offset);
	emit_bytes(s, 2, selector);
}

static u64 random_flags(struct situation *s)
{
	/* DF, NT, AC, IOPL, VIF, VIP, RF, ID; TF and VM are rare. */
	u64 flags = random64(s) & 0x3d7cd5;

	if (chance(s, 80))
		flags &= ~RFLAGS_VM;
	return flags | 2 | (chance(s, 10) ? RFLAGS_TF : 0);
}

void build_returns(struct situation *s)
{
	unsigned bytes = operand_size(s);
	bool interrupt = chance(s, 60), plain = chance(s, 60);
	unsigned level = chance(s, 60) ? s->level : below(s, 4);
	u64 at = (has_descriptors(s) ? STACKS + s->level * STACK_PAGE : STACKS + 3 * STACK_PAGE) + STACK_START;
	u64 frame[9], words = 0;

	frame[words++] = chance(s, 95) ? code_address(s, code_target(s)) : wild_address(s);
	frame[words++] = !has_descriptors(s) ? CODE >> 4 : plain ? plain_selector(level, CS) : random_selector(s);
	if (interrupt)
		frame[words++] = random_flags(s);
	frame[words++] = (s->mode == LONG64 ? STACKS + level * STACK_PAGE : 0) + STACK_START - 0x100;
	frame[words++] = plain && chance(s, 80) ? plain_selector(level, SS) : random_selector(s);
	for (unsigned n = 0; n < 4; n++)
		frame[words++] = DATA >> 4;
	for (unsigned n = 0; n < words; n++)
		store(at + bytes * n, bytes, frame[n]);
	if (interrupt && chance(s, 5))
		s->in[IN_RFLAGS] |= RFLAGS_NT;
	emit_operand_size(s, bytes);
	if (interrupt) {
		emit(s, 0xcf);
	} else if (chance(s, 60)) {
		emit(s, 0xcb);
	} else {
		emit(s, 0xca);
		emit_bytes(s, 2, 2 * below(s, 8));
	}
}

void build_interrupts(struct situation *s)
{
	/* Events that a program makes, and faults; for some the gate is not there or leads elsewhere. */
	static const struct {
		unsigned vector, length;
		u32 bytes;
	} events[] = {
		{0x20, 2, 0x20cd}, {0x21, 2, 0x21cd}, {0x22, 2, 0x22cd}, {0x23, 2, 0x23cd}, {0x2f, 2, 0x2fcd},
		{3, 2, 0x03cd}, {3, 1, 0xcc}, {4, 1, 0xce}, {1, 1, 0xf1}, {6, 2, 0x0b0f}, {0, 4, 0xf0f6e430},
		{13, 3, 0xd00ffa}, {5, 2, 0x05cd}, {0x80, 2, 0x80cd}, {14, 2, 0x0ecd}, {8, 2, 0x08cd},
	};
	unsigned which = below(s, ARRAY_SIZE(events)), vector = events[which].vector;

	if (vector != 0 && vector != 6 && vector != 13) /* a return to what faults again would be for ever */
		emit_returns_at_targets(s);
	/* not those that end a case */
	if (vector < 0x80 && vector != 3 && vector != 8 && (vector >= 0x20 || chance(s, 30)))
		random_gate(s, vector);
	/* a second fault on the way: contributory ones make a double fault */
	if (chance(s, 15) && s->mode != REAL) {
		static const unsigned nested[] = {10, 11, 13};
		unsigned at = one_of(s, nested);
		u64 gate = IDT + (in_long_mode(s) ? 16 : 8) * at + 5;

		store(gate, 1, *(volatile u8 *)gate & 0x7f);
	}
	if (vector == 4)
		s->in[IN_RFLAGS] |= BIT(11); /* OF */
	if (vector == 0)
		s->in[IN_REGS + RAX] = 5;
	emit_bytes(s, events[which].length, events[which].bytes);
}

/* Some selector instead of that of register n, or after the last of them the LDT's. Those of code and stack keep their
 * level, in which they have to agree. */
static void flawed_selector(struct situation *s, u64 segments, unsigned width, unsigned n, unsigned level)
{
	u16 selector = random_selector(s);

	if (n == CS || n == SS)
		selector = (u16)((selector & ~3u) | level);
	store(segments + n * width, 2, selector);
}

/* A TSS of 32 or of 16 bits. In which order a switch checks what it holds is the processor's choice (SDM vol. 3, 7.3),
 * so one thing at most is bad. */
static void fill_task(struct situation *s, u64 at, bool wide, bool debug, unsigned level)
{
	unsigned width = wide ? 4 : 2, count = wide ? 6 : 4;
	u64 ip = at + (wide ? 0x20 : 0xe), registers = ip + 2 * width, segments = at + (wide ? 0x48 : 0x22);

	store(ip, width, code_target(s));
	store(ip + width, width, random64(s) & 0x7cd5);
	for (unsigned n = 0; n < 8; n++)
		store(registers + n * width, width, n == RSP ? STACK_START : random64(s));
	for (unsigned n = 0; n < count; n++)
		store(segments + n * width, width,
			n == CS || n == SS || chance(s, 50) ? plain_selector(level, n) : 0);
	store(segments + count * width, width, SEL_LDT);
	if (chance(s, 60))
		flawed_selector(s, segments, width, below(s, count + 1), level);
	else if (wide && chance(s, 20))
		store(ip, 4, wild_address(s));
	if (wide && debug)
		store(at + 0x64, 1, chance(s, 10));
}

void build_tasks(struct situation *s)
{
	unsigned task = below(s, TASK_COUNT), how = below(s, 4);
	u64 at = task_address(task);
	bool wide = chance(s, 75);
	u16 selector = (u16)(SEL_TASKS + 8 * task);

	if (how != 2) /* not to what faults again */
		emit_returns_at_targets(s);
	/* with T set, but where the switch may end in a fault of its own */
	fill_task(s, at, wide, how != 2, below(s, 4));
	mark_accessed();
	/* Nor is it said what the segment registers hold in a handler that is not a task (SDM vol. 3, 6.15). */
	for (unsigned n = 2; n < FAULT_TASK_COUNT && !in_long_mode(s); n++)
		take_by_task(s, 8 + n, n); /* #TS, #NP, #SS */
	/* available or busy, for this level or not, long enough or not */
	if (chance(s, 30))
		store(GDT + selector + 5, 1,
			(chance(s, 90) ? 0x80 : 0) | below(s, 4) << 5 | (wide ? 9 : 1) | (chance(s, 20) ? 2 : 0));
	else
		store(GDT + selector + 5, 1, wide ? 0xe9 : 0xe1);
	if (chance(s, 5))
		store(GDT + selector, 2, 0x2a + below(s, 0x40));
	if (how == 0) {
		unsigned bytes = operand_size(s);

		if (s->mode == LONG64) {
			emit_far_pointer(s, bytes, 0, selector, DATA + FAR_POINTER);
			emit_segment(s, DS);
			emit_operand_size(s, bytes);
			emit(s, 0xff);
			emit_memory(s, 5, data_address(s, FAR_POINTER));
		} else {
			emit_operand_size(s, bytes);
			emit(s, chance(s, 50) ? 0xea : 0x9a);
			emit_bytes(s, bytes, 0);
			emit_bytes(s, 2, selector);
		}
	} else if (how == 1) {
		u64 gate = (u64)selector << 16 | 0xe5ull << 40;

		store(IDT + (in_long_mode(s) ? 16 : 8) * 0x20, 8, gate);
		emit_bytes(s, 2, 0x20cd);
	} else if (how == 2) {
		/* a fault by a task gate: its error code goes on the new stack */
		store(IDT + (in_long_mode(s) ? 16 : 8) * 13, 8,
			in_long_mode(s) ? *(volatile u64 *)(IDT + 16 * 13) : (u64)selector << 16 | 0x85ull << 40);
		emit_segment(s, CS);
		emit(s, 0x88);
		emit_memory(s, RAX, data_address(s, 0)); /* a write through CS */
	} else {
		store(TSS, 2, selector);
		if (chance(s, 80))
			store(GDT + selector + 5, 1, wide ? 0x8b : 0x83);
		s->in[IN_RFLAGS] |= RFLAGS_NT;
		emit(s, 0xcf);
	}
}
