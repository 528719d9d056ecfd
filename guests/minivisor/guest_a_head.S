/* Guest A: its first instruction, interrupt handlers, descriptor and page tables. */
#include "protocol.h"

	.cfi_sections .debug_frame
#define PHYSICAL(linear) (linear - GUEST_A_LINEAR)

	.section .head, "ax"
	.globl guest_a_entry
	.type guest_a_entry, @function
guest_a_entry:
	.cfi_startproc
	.cfi_undefined rip
	xor %ebp, %ebp
	call guest_a_main
	ud2
	.cfi_endproc
	.size guest_a_entry, . - guest_a_entry

	.text
	/* The handlers' frames are plain ones, not signal frames: gdb shows no name of those. */

	/* #GP from an RDMSR or WRMSR: counts it and steps over the two bytes. */
	.globl guest_a_on_gp
	.type guest_a_on_gp, @function
guest_a_on_gp:
	.cfi_startproc
	.cfi_def_cfa rsp, 6 * 8
	.cfi_offset rip, -5 * 8
	.cfi_offset rsp, -2 * 8
	incl guest_a_gps
	add $8, %rsp /* the error code */
	.cfi_adjust_cfa_offset -8
	addq $2, (%rsp)
	iretq
	.cfi_endproc
	.size guest_a_on_gp, . - guest_a_on_gp

	.globl guest_a_on_tick
	.type guest_a_on_tick, @function
guest_a_on_tick:
	.cfi_startproc
	.cfi_def_cfa rsp, 5 * 8
	.cfi_offset rip, -5 * 8
	.cfi_offset rsp, -2 * 8
	incl guest_a_ticks
	iretq
	.cfi_endproc
	.size guest_a_on_tick, . - guest_a_on_tick

	.data
	.balign 16
	.globl guest_a_gdt
guest_a_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0x00af9b000000ffff
	.quad 0

	/* linear GUEST_A_LINEAR + n is guest-physical n, for the first 6 MB, by 2-MB pages */
	.balign 4096
	.globl guest_a_pml4
guest_a_pml4:
	.quad PHYSICAL(guest_a_pdpt) + 3
	.balign 4096
guest_a_pdpt:
	.quad 0
	.quad PHYSICAL(guest_a_pd) + 3
	.balign 4096
guest_a_pd:
	.quad 0x000000 + 0x83
	.quad 0x200000 + 0x83
	.quad 0x400000 + 0x83
	.balign 4096

	.bss
	.balign 4096
	.skip 8192
	.globl guest_a_stack_top
guest_a_stack_top:

	.section .note.GNU-stack, "", @progbits
