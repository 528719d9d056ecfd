/*
 * privileged: random situations of system code, each from a seed and its number, each told in one line.
 *
 *     seed=N first=N cases=N       which cases [1, 0, 1000]
 *     family=NAME                  only these; `enforcement` is in no case otherwise
 *     detail=all                   all registers, and what the sandbox's memory holds
 *
 * The lines go to the debug console (port 0xE9). Whoever executes the same image on the same CPUID features has to
 * print the same lines.
 */
#include "cmdline.h"
#include "console.h"
#include "cpu.h"
#include "machine.h"
#include "situation.h"
#include "watchdog.h"

#define DEBUG_CONSOLE 0xe9

void run_case(void);

static void put(const char *text)
{
	for (; *text; text++)
		outb(DEBUG_CONSOLE, (u8)*text);
}

static void put_hex(u64 value)
{
	char text[17];
	unsigned at = 16;

	text[at] = 0;
	do {
		text[--at] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value);
	put(text + at);
}

static void put_named(const char *name, u64 value)
{
	put(name);
	put_hex(value);
}

static u64 digest_of(u64 digest, u64 from, u64 bytes)
{
	for (u64 at = from; at < from + bytes; at += 8)
		digest = (digest ^ *(volatile u64 *)at) * 0x9e3779b97f4a7c15 ^ digest >> 29;
	return digest;
}

/* What a case can have changed. The stacks only near their pointers. */
static const struct {
	u64 from, bytes;
} areas[] = {
	{TABLES, TABLES_BYTES},
	{DATA, 0x100},
	{DATA + 0xff8, 0x48},
	{STACKS, 0x10},
	{STACKS + STACK_START - 0x180, 0x200},
	{STACKS + STACK_PAGE + STACK_START - 0x180, 0x200},
	{STACKS + 2 * STACK_PAGE + STACK_START - 0x180, 0x200},
	{STACKS + 3 * STACK_PAGE + STACK_START - 0x180, 0x200},
	{STACKS + 3 * STACK_PAGE + 0xf80, 0x80},
	{WINDOW_PT, WINDOW_PAGES * 8},
	{WINDOW_PT32, WINDOW_PAGES * 4},
};

/* Of each page of the window, what shadow stacks are used for. */
static const struct {
	unsigned from, bytes;
} shadow_areas[] = {{0, 0x20}, {0x780, 0x290}, {0xfc0, 0x40}};

static u64 shadow_digest(void)
{
	u64 digest = digest_of(0, SAFE_SHADOW, 8 * SAFE_SHADOW_ROOM);

	for (u64 page = DATA; page < DATA + WINDOW_PAGES * PAGE; page += PAGE)
		for (unsigned n = 0; n < ARRAY_SIZE(shadow_areas); n++)
			digest = digest_of(digest, page + shadow_areas[n].from, shadow_areas[n].bytes);
	return digest;
}

/* Of what the exception interrupted: a program's has its register, the handler's shadow stack has the others. */
static u64 interrupted_ssp(void)
{
	volatile u64 *out = (volatile u64 *)OUT;
	u64 at = (u32)out[OUT_SSP];

	if ((out[OUT_CS] & 3) == 3 || out[OUT_RFLAGS] & RFLAGS_VM)
		return out[OUT_MSRS + MSR_AT_PL_SSP + 3];
	if (at - WINDOW < WINDOW_PAGES * PAGE)
		at += DATA - WINDOW;
	return at && at < TABLES ? *(volatile u64 *)at : 0;
}

static void tell_enforcement(void)
{
	volatile u64 *out = (volatile u64 *)OUT;

	put_named(" ssp ", interrupted_ssp());
	put_named(" u-cet ", out[OUT_MSRS + MSR_AT_U_CET]);
	put_named(" s-cet ", out[OUT_MSRS + MSR_AT_S_CET]);
	put_named(" shadow ", shadow_digest());
}

static void tell_memory(u64 from, u64 bytes)
{
	for (u64 at = from; at < from + bytes; at += 8)
		if (*(volatile u64 *)at && *(volatile u64 *)at != TERMINATORS) {
			put_named("  at ", at);
			put_named(" ", *(volatile u64 *)at);
			put("\n");
		}
}

static void tell_details(const struct situation *s)
{
	static const char *const names[] = {"vector", "error", "rip", "cs", "rflags", "rsp", "ss", "cr0", "cr2", "cr3",
		"cr4", "dr6", "dr7", "es", "ds", "fs", "gs", "ldtr", "tr", "rax", "rcx", "rdx", "rbx", "-", "rbp", "rsi",
		"rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "handler-ss", "handler-sp", "pkru", "star",
		"lstar", "fmask", "sysenter-cs", "sysenter-esp", "sysenter-eip", "fs-base", "gs-base", "kernel-gs", "cstar",
		"tsc-aux", "pat", "tsc-adjust", "xss", "u-cet", "s-cet", "pl0-ssp", "pl1-ssp", "pl2-ssp", "pl3-ssp",
		"interrupt-ssps", "physbase0", "physmask0", "physbase7", "physmask7", "fix64k-0", "fix16k-a0000",
		"fix4k-c0000", "fix4k-f8000", "mtrr-default"};

	put("  code");
	for (u64 at = CODE + (s->in[IN_RIP] & 0xffff), end = at + 16; at < end; at++)
		put_named(" ", *(volatile u8 *)at);
	put("\n  in");
	for (unsigned n = 0; n < IN_WORDS; n++)
		put_named(" ", s->in[n]);
	put("\n");
	for (unsigned n = 0; n < OUT_WORDS; n++) {
		put("  ");
		put(names[n]);
		put_named(" ", ((volatile u64 *)OUT)[n]);
		put("\n");
	}
	for (unsigned n = 0; n < ARRAY_SIZE(areas); n++)
		tell_memory(areas[n].from, areas[n].bytes);
	if (s->enforced) {
		tell_memory(DATA, WINDOW_PAGES * PAGE);
		tell_memory(SAFE_SHADOW, PAGE);
	}
}

/* The tasks that take faults find nothing of the interrupted one on their stacks: what it was doing is in its TSS. */
static void look_into_task(void)
{
	volatile u64 *out = (volatile u64 *)OUT;
	u64 link = 0;

	for (unsigned n = 0; n < FAULT_TASK_COUNT; n++)
		link |= *(volatile u16 *)(FAULT_TASKS + 0x100ul * n);
	u64 value = *(volatile u64 *)(GDT + (link & 0x1f8)), at = descriptor_base(value);
	bool wide = (value & BIT(43)) != 0;

	if (!link || at < TABLES || at >= TABLES + TABLES_BYTES)
		return;
	out[OUT_RIP] = wide ? *(volatile u32 *)(at + 0x20) : *(volatile u16 *)(at + 0xe);
	out[OUT_RFLAGS] = wide ? *(volatile u32 *)(at + 0x24) : *(volatile u16 *)(at + 0x10);
	out[OUT_RSP] = wide ? *(volatile u32 *)(at + 0x38) : *(volatile u16 *)(at + 0x1a);
	out[OUT_CS] = wide ? *(volatile u16 *)(at + 0x4c) : *(volatile u16 *)(at + 0x24);
	out[OUT_SS] = wide ? *(volatile u16 *)(at + 0x50) : *(volatile u16 *)(at + 0x26);
}

/* What CS:RIP of the exception leads to, as far as that is in the sandbox. */
static u64 last_code(const struct situation *s)
{
	volatile u64 *out = (volatile u64 *)OUT;
	u64 selector = out[OUT_CS], base = selector << 4;

	if (s->mode != REAL && !(out[OUT_RFLAGS] & RFLAGS_VM)) {
		u64 value = *(volatile u64 *)((selector & 4 ? LDT : GDT) + (selector & 0x1f8));
		bool flat = in_long_mode(s) && value & BIT(53);

		base = flat ? 0 : descriptor_base(value);
	}
	base += out[OUT_RIP];
	return base < TABLES ? *(volatile u64 *)base : 0;
}

static void tell(const struct situation *s, u64 number, const char *family)
{
	static const char *const modes[MODES] = {"long64", "compat32", "compat16", "prot32", "prot16", "v86", "real"};
	volatile u64 *out = (volatile u64 *)OUT;
	u64 registers = 0, memory = 0;

	for (unsigned n = 0; n < OUT_WORDS; n++)
		if (n != OUT_RFLAGS && n != OUT_DR6) /* these two are told */
			registers = digest_of(registers, OUT + 8 * n, 8);
	for (unsigned n = 0; n < ARRAY_SIZE(areas); n++)
		memory = digest_of(memory, areas[n].from, areas[n].bytes);
	put_named("", number);
	put(" ");
	put(family);
	put(" ");
	put(modes[s->mode]);
	put_named(".", s->level);
	put_named(" #", out[OUT_VECTOR]);
	put_named("/", out[OUT_ERROR]);
	put_named(" ip ", out[OUT_CS]);
	put_named(":", out[OUT_RIP]);
	put_named(" flags ", out[OUT_RFLAGS]);
	put_named(" sp ", out[OUT_SS]);
	put_named(":", out[OUT_RSP]);
	put_named(" cr2 ", out[OUT_CR2]);
	put_named(" dr6 ", out[OUT_DR6]);
	put_named(" cr4 ", s->in[IN_CR4]);
	put_named(" code ", *(volatile u64 *)(CODE + (s->in[IN_RIP] & 0xffff)));
	put_named(" last ", last_code(s));
	put_named(" registers ", registers);
	put_named(" memory ", memory);
	if (s->enforced)
		tell_enforcement();
	put("\n");
}

void main(void)
{
	u64 seed = cmdline_number("seed", 1), first = cmdline_number("first", 0), cases = cmdline_number("cases", 1000);
	bool details = cmdline_is("detail", "all");
	char only[16] = "";

	cmdline_value("family", only, sizeof(only));
	print("privileged: seed %lu, cases %lu to %lu\n", seed, first, first + cases - 1);
	sandbox_open();
	watchdog_open();
	for (u64 number = first; number < first + cases; number++) {
		struct situation s;
		const struct family *family;

		situation_begin(&s, seed, number);
		family = &families[below(&s, mixed_count)];
		for (unsigned n = 0; only[0] && n < family_count; n++)
			if (text_equal(only, families[n].name))
				family = &families[n];
		s.enforced = family >= families + mixed_count;
		situation_fill(&s, family->modes);
		family->build(&s);
		watchdog_start();
		run_case();
		sandbox_used(is_paging(&s));
		if (((volatile u64 *)OUT)[OUT_VECTOR] == NMI_VECTOR) { /* where it was then is not told */
			fill(OUT, (OUT_SSP + 1) * 8, 0);
			store(OUT + 8 * OUT_VECTOR, 8, NMI_VECTOR);
			sandbox_restore(false);
			fill(TABLES, TABLES_BYTES, 0);
		}
		look_into_task();
		if (!in_long_mode(&s)) /* what a null selector leaves there is not told */
			for (unsigned n = MSR_AT_FS_BASE; n <= MSR_AT_GS_BASE; n++)
				((volatile u64 *)OUT)[OUT_MSRS + n] = 0;
		tell(&s, number, family->name);
		if (details)
			tell_details(&s);
	}
	put("done\n");
}
