/*
 * Guest B: 32-bit protected mode with PAE paging. It talks by VMCALL, asks CPUID, is interrupted by the
 * preemption timer, and writes to a page that is read-only at first.
 *
 * gdb sees an x86-64 CPU, whose stack slots are 8 bytes wide. So the call frame information of this 32-bit
 * code does not say where registers are saved but computes them, from 4-byte slots: a backtrace works here too.
 */
#include "protocol.h"

	.cfi_sections .debug_frame
#define PHYSICAL(linear) (linear - GUEST_B_LINEAR)
#define TIMER_EXPIRIES 3

/* DWARF: the register was value-of(CFA - offset, 4 bytes). The expression starts with the CFA on its stack. */
#define DW_CFA_VAL_EXPRESSION 0x16
#define DW_OP_LIT(n) (0x30 + n)
#define DW_OP_MINUS 0x1c
#define DW_OP_DEREF_SIZE 0x94
#define DWARF_RBP 6
#define DWARF_RSP 7
#define DWARF_RIP 16

	.macro function name
	.globl \name
	.type \name, @function
\name:
	.cfi_startproc
	.cfi_def_cfa DWARF_RSP, 4
	.cfi_escape DW_CFA_VAL_EXPRESSION, DWARF_RIP, 4, DW_OP_LIT(4), DW_OP_MINUS, DW_OP_DEREF_SIZE, 4
	push %ebp
	.cfi_adjust_cfa_offset 4
	.cfi_escape DW_CFA_VAL_EXPRESSION, DWARF_RBP, 4, DW_OP_LIT(8), DW_OP_MINUS, DW_OP_DEREF_SIZE, 4
	mov %esp, %ebp
	.cfi_def_cfa DWARF_RBP, 8
	.endm

	.macro end_function name
	leave
	.cfi_def_cfa DWARF_RSP, 4
	.cfi_same_value DWARF_RBP
	ret
	.cfi_endproc
	.size \name, . - \name
	.endm

	.macro say text
	mov $\text, %ebx
	call guest_b_say
	.endm

	.section .head, "ax"
	.code32
	.globl guest_b_entry
	.type guest_b_entry, @function
guest_b_entry:
	.cfi_startproc
	.cfi_undefined DWARF_RIP
	xor %ebp, %ebp
	call guest_b_main
	mov $HC_DONE, %eax
	vmcall
	ud2
	.cfi_endproc
	.size guest_b_entry, . - guest_b_entry

	.text
	function guest_b_main
	say text_hello
	call guest_b_yield
	call guest_b_demo_timer
	call guest_b_yield
	call guest_b_demo_log
	say text_done
	end_function guest_b_main

	/* EBX: linear address of a text */
	function guest_b_say
	sub $GUEST_B_LINEAR, %ebx
	mov $HC_SAY, %eax
	vmcall
	end_function guest_b_say

	function guest_b_yield
	mov $HC_YIELD, %eax
	vmcall
	end_function guest_b_yield

	/* Spins until the hypervisor stores 1 in guest_b_flag, after TIMER_EXPIRIES expiries of its timer. */
	function guest_b_demo_timer
	mov $CPUID_FEATURES, %eax
	xor %ecx, %ecx
	cpuid
	test $FEATURE_TIMER, %al
	jz 2f
	mov $HC_TIMER, %eax
	mov $TIMER_EXPIRIES, %ebx
	mov $PHYSICAL(guest_b_flag), %ecx
	vmcall
1:	pause
	cmpl $0, guest_b_flag
	je 1b
	say text_timer
	jmp 3f
2:	say text_no_timer
3:
	end_function guest_b_demo_timer

	/* Writes to the log page; the first write exits. */
	function guest_b_demo_log
	mov $4, %ecx
1:	mov %ecx, GUEST_B_LINEAR + GPA_LOG(, %ecx, 4)
	loop 1b
	cmpl $4, GUEST_B_LINEAR + GPA_LOG + 16
	jne 2f
	say text_log
2:
	end_function guest_b_demo_log

	.section .rodata
text_hello:
	.string "hello from 32-bit code\n"
text_timer:
	.string "the preemption timer took the CPU from me, and gave it back\n"
text_no_timer:
	.string "this CPU has no preemption timer\n"
text_log:
	.string "wrote the log page\n"
text_done:
	.string "done\n"

	.data
	.balign 16
	.globl guest_b_gdt
guest_b_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0
	.quad 0
	.globl guest_b_flag
guest_b_flag:
	.quad 0

	/* linear GUEST_B_LINEAR + n is guest-physical n, for the first 4 MB, by 2-MB pages */
	.balign 4096
	.globl guest_b_pdpt
guest_b_pdpt:
	.quad 0
	.quad 0
	.quad PHYSICAL(guest_b_pd) + 1
	.quad 0
	.balign 4096
guest_b_pd:
	.quad 0x000000 + 0x83
	.quad 0x200000 + 0x83
	.balign 4096

	.bss
	.balign 4096
	.skip 4096
	.globl guest_b_stack_top
guest_b_stack_top:

	.section .note.GNU-stack, "", @progbits
