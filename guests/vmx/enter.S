/*
 * enum vmx_result vm_enter(struct guest_registers *registers, bool resume)
 *
 * VM entry loads RIP, RSP and RFLAGS; the other registers are loaded and saved here. HOST_RSP is this frame,
 * and the call frame information holds at vm_exit too, where RBP is still the guest's: a backtrace works from
 * the first instruction after an exit.
 */
	.cfi_sections .debug_frame

#define HOST_RSP 0x6c14
#define VMX_FAIL_INVALID 1
#define VMX_FAIL_VALID 2

	.macro save reg
	push %\reg
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset \reg, 0
	.endm
	.macro restore reg
	pop %\reg
	.cfi_adjust_cfa_offset -8
	.cfi_restore \reg
	.endm

	.text
	.globl vm_enter
	.type vm_enter, @function
vm_enter:
	.cfi_startproc
	save rbp
	save rbx
	save r12
	save r13
	save r14
	save r15
	push %rdi
	.cfi_adjust_cfa_offset 8
	mov $HOST_RSP, %eax
	vmwrite %rsp, %rax
	jbe .Lfailed
	test %sil, %sil /* MOV leaves the flags as they are, down to the JNZ */
	mov 0x00(%rdi), %rax
	mov 0x08(%rdi), %rcx
	mov 0x10(%rdi), %rdx
	mov 0x18(%rdi), %rbx
	mov 0x20(%rdi), %rbp
	mov 0x28(%rdi), %rsi
	mov 0x38(%rdi), %r8
	mov 0x40(%rdi), %r9
	mov 0x48(%rdi), %r10
	mov 0x50(%rdi), %r11
	mov 0x58(%rdi), %r12
	mov 0x60(%rdi), %r13
	mov 0x68(%rdi), %r14
	mov 0x70(%rdi), %r15
	mov 0x30(%rdi), %rdi
	jnz .Lresume
	vmlaunch
	jmp .Lfailed
.Lresume:
	vmresume
.Lfailed: /* the guest did not run: CF or ZF says how */
	mov $VMX_FAIL_INVALID, %eax
	jc .Lreturn
	mov $VMX_FAIL_VALID, %eax
	jmp .Lreturn

	.globl vm_exit
vm_exit:
	push %rdi
	.cfi_adjust_cfa_offset 8
	mov 8(%rsp), %rdi
	mov %rax, 0x00(%rdi)
	mov %rcx, 0x08(%rdi)
	mov %rdx, 0x10(%rdi)
	mov %rbx, 0x18(%rdi)
	mov %rbp, 0x20(%rdi)
	mov %rsi, 0x28(%rdi)
	mov %r8, 0x38(%rdi)
	mov %r9, 0x40(%rdi)
	mov %r10, 0x48(%rdi)
	mov %r11, 0x50(%rdi)
	mov %r12, 0x58(%rdi)
	mov %r13, 0x60(%rdi)
	mov %r14, 0x68(%rdi)
	mov %r15, 0x70(%rdi)
	pop %rax /* the guest's RDI */
	.cfi_adjust_cfa_offset -8
	mov %rax, 0x30(%rdi)
	xor %eax, %eax
.Lreturn:
	pop %rdi
	.cfi_adjust_cfa_offset -8
	restore r15
	restore r14
	restore r13
	restore r12
	restore rbx
	restore rbp
	ret
	.cfi_endproc
	.size vm_enter, . - vm_enter

	.section .note.GNU-stack, "", @progbits
