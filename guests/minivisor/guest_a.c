/*
 * Guest A: 64-bit code with 4-level paging. It talks by port I/O, asks CPUID, reads and writes MSRs, touches
 * memory that comes on demand, waits for interrupts with HLT, and ends with VMCALL.
 *
 * It shares nothing with the host but this file's place in the image: no function of lib/ is mapped here.
 */
#include "cpu.h"
#include "protocol.h"
#include "selectors.h"

#define TICKS 3

struct gate {
	u16 offset_low, selector;
	u8 ist, type;
	u16 offset_middle;
	u32 offset_high, reserved;
};

/* guest_a_head.S calls the first, and holds the others. */
_Noreturn void guest_a_main(void);
extern void guest_a_on_gp(void), guest_a_on_tick(void);
volatile u32 guest_a_gps, guest_a_ticks;
static struct gate guest_a_idt[VECTOR_TICK + 1];

static void say(const char *text)
{
	for (; *text; text++)
		outb(PORT_CONSOLE, (u8)*text);
}

static void say_number(const char *before, u64 n)
{
	char digits[24];
	char *p = digits + sizeof(digits);

	*--p = 0;
	*--p = '\n';
	do
		*--p = "0123456789abcdef"[n & 15];
	while (n >>= 4);
	say(before);
	say(" 0x");
	say(p);
}

static void set_gate(unsigned vector, void (*handler)(void))
{
	u64 at = (u64)handler;

	guest_a_idt[vector] = (struct gate){
		.offset_low = (u16)at,
		.selector = SEL_CODE64,
		.type = 0x8e,
		.offset_middle = (u16)(at >> 16),
		.offset_high = (u32)(at >> 32),
	};
}

static void demo_cpuid(void)
{
	union {
		u32 words[4];
		char text[16];
	} signature = {.words = {0}};
	struct cpuid c = cpuid(CPUID_SIGNATURE, 0);

	signature.words[0] = c.ebx;
	signature.words[1] = c.ecx;
	signature.words[2] = c.edx;
	say("CPUID says that I run on ");
	say(signature.text);
	say("\n");
}

/* Goes down `depth` frames and makes an exit there: something for a backtrace. */
static __attribute__((noinline)) u64 descend(unsigned depth)
{
	if (depth == 0)
		return cpuid(CPUID_FEATURES, 0).eax + 1;
	return descend(depth - 1) + 1;
}

static void demo_msrs(void)
{
	u64 revision;

	wrmsr(MSR_IA32_BIOS_SIGN_ID, 0);
	revision = rdmsr(MSR_IA32_BIOS_SIGN_ID) >> 32;
	say_number("microcode revision", revision);
	wrmsr(MSR_IA32_FS_BASE, GUEST_A_LINEAR);
	say_number("FS base, without an exit", rdmsr(MSR_IA32_FS_BASE));
	rdmsr(MSR_NOT_THERE);
	say_number("#GP for an MSR that is not there:", guest_a_gps);
}

static __attribute__((noinline)) void touch(volatile u64 *word, u64 value)
{
	*word = value;
}

static void demo_memory(void)
{
	u64 sum = 0;
	volatile u64 *large = (volatile u64 *)(GUEST_A_LINEAR + GPA_LARGE);

	for (u64 page = 0; page < HEAP_PAGES; page++)
		touch((volatile u64 *)(GUEST_A_LINEAR + GPA_HEAP + page * PAGE_SIZE), page + 1);
	for (u64 page = 0; page < HEAP_PAGES; page++)
		sum += *(volatile u64 *)(GUEST_A_LINEAR + GPA_HEAP + page * PAGE_SIZE);
	say_number("sum over pages that came on demand", sum);
	touch(&large[0], 0x1122334455667788);
	say_number("and from the 2-MB page", large[0]);
}

static void demo_ticks(void)
{
	while (guest_a_ticks < TICKS) {
		asm volatile("sti; hlt; cli" : : : "memory");
		say_number("woken by tick", guest_a_ticks);
	}
}

_Noreturn void guest_a_main(void)
{
	const struct table_register idtr = {sizeof(guest_a_idt) - 1, (u64)guest_a_idt};

	set_gate(13, guest_a_on_gp);
	set_gate(VECTOR_TICK, guest_a_on_tick);
	load_idt(&idtr);
	say("hello from 64-bit code\n");
	demo_cpuid();
	say_number("frames gone down", descend(5));
	demo_msrs();
	demo_memory();
	demo_ticks();
	for (;;)
		asm volatile("vmcall" : : "a"(HC_DONE) : "memory");
}
