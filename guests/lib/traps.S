/* One stub for each exception: makes a struct trap_frame and calls trap(), which does not return. */
	.cfi_sections .debug_frame

	.text
	.type trap_common, @function
trap_common:
	.cfi_startproc simple
	.cfi_signal_frame
	.cfi_def_cfa rsp, 7 * 8 /* vector, error code, then what the CPU pushed */
	.cfi_offset rip, -5 * 8
	.cfi_offset rsp, -2 * 8
	.irp reg, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	push %\reg
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset \reg, 0
	.endr
	mov %rsp, %rdi
	call trap
	ud2
	.cfi_endproc
	.size trap_common, . - trap_common

	.macro stub vector
trap_\vector:
	.if !((\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21))
	push $0
	.endif
	push $\vector
	jmp trap_common
	.pushsection .rodata
	.quad trap_\vector
	.popsection
	.endm

	.section .rodata
	.balign 8
	.globl trap_stubs
trap_stubs:
	.text
	.altmacro
	.set vector, 0
	.rept 32
	stub %vector
	.set vector, vector + 1
	.endr

	.section .note.GNU-stack, "", @progbits
