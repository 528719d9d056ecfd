#include "machine.h"

#include "cmdline.h"
#include "console.h"
#include "cpu.h"
#include "selectors.h"

#define DEBUG_EXIT 0xf4
#define BOCHS_SHUTDOWN 0x8900
#define PIC1_DATA 0x21
#define PIC2_DATA 0xa1
#define TRAPS 32
#define GATE_INTERRUPT 0x8e

struct gate {
	u16 offset_low, selector;
	u8 ist, type;
	u16 offset_middle;
	u32 offset_high, reserved;
};

static struct gate idt[TRAPS] __attribute__((aligned(16)));
extern const u64 trap_stubs[TRAPS];
void (*trap_hook)(const struct trap_frame *frame);

void traps_init(void)
{
	const struct table_register idtr = {sizeof(idt) - 1, (u64)idt};

	for (unsigned i = 0; i < TRAPS; i++) {
		u64 stub = trap_stubs[i];
		idt[i] = (struct gate){
			.offset_low = (u16)stub,
			.selector = SEL_CODE64,
			.type = GATE_INTERRUPT,
			.offset_middle = (u16)(stub >> 16),
			.offset_high = (u32)(stub >> 32),
		};
	}
	load_idt(&idtr);
}

_Noreturn void trap(const struct trap_frame *frame)
{
	if (trap_hook)
		trap_hook(frame);
	print("host: exception %lu, error code %#lx, at RIP %#lx, RSP %#lx, RFLAGS %#lx\n", frame->vector,
		frame->error_code, frame->rip, frame->rsp, frame->rflags);
	machine_end(END_EXCEPTION);
}

static void bochs_shutdown(void)
{
	for (const char *p = "Shutdown"; *p; p++)
		outb(BOCHS_SHUTDOWN, (u8)*p);
}

_Noreturn void machine_end(unsigned value)
{
	print("end: value %u\n", value);
	if (value == END_OK && cmdline_is("poweroff", "shutdown"))
		bochs_shutdown();
	outl(DEBUG_EXIT, value);
	bochs_shutdown(); /* a machine without a debug exit; the line above still tells the value */
	for (;;)
		asm volatile("cli; hlt");
}

_Noreturn void lib_main(u32 multiboot_info)
{
	outb(PIC1_DATA, 0xff);
	outb(PIC2_DATA, 0xff);
	console_init();
	cmdline_init(multiboot_info);
	traps_init();
	main();
	machine_end(END_OK);
}
