/* The machine around the CPU: how a run ends, and what happens on an exception of our own. */
#ifndef MACHINE_H
#define MACHINE_H

#include "types.h"

/* Values written to the debug-exit port; the status of the run is (value << 1) | 1. */
enum end_value {
	END_OK = 0,
	END_NO_VMX = 1,    /* this CPU cannot run it */
	END_FAILED = 2,    /* something went wrong, and was printed */
	END_EXCEPTION = 3, /* an exception in the host */
	END_BAD_USAGE = 4, /* the command line */
	END_MISTAKE =
		16, /* brokenvisor: END_MISTAKE + the row of the mistake, when all went wrong as expected */
};

/* Ends the run. With the word poweroff=shutdown END_OK is a clean power-off (port 0x8900) instead. */
_Noreturn void machine_end(unsigned value);

/* What is pushed by the stubs in traps.S. */
struct trap_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error_code;
	u64 rip, cs, rflags, rsp, ss;
};

void traps_init(void);

/* Called on an exception; NULL or a return from it means that it is not expected, and the run ends. */
extern void (*trap_hook)(const struct trap_frame *frame);

/* Called by the assembly of traps.S and boot.S. */
_Noreturn void trap(const struct trap_frame *frame);
_Noreturn void lib_main(u32 multiboot_info);

/* The program. */
void main(void);

#endif
