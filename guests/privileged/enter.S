/*
 * Into a case and back. run_case() loads the state in IN, goes to the case by IRET, and comes back by the exception
 * that ends it, whose handler fills OUT.
 *
 * A handler trusts the stack only that the processor gave it, and takes what lies there by POP: SS may be any segment.
 */
#include "../lib/selectors.h"
#include "layout.h"

#define IN_AT(n) (IN + 8 * (n))
#define OUT_AT(n) (OUT + 8 * (n))
#define EFER 0xc0000080
#define CR0_PE 1
#define CR0_PG 0x80000000
#define CR4_OSFXSR 0x200
#define CR4_PKE 0x400000
#define CR4_CET 23
#define S_CET 0x6a2
#define SH_STK_EN 1
#define PL0_SSP 0x6a4
#define RFLAGS_VM 17

	.section .rodata
	.globl sandbox_msrs
/* STAR, LSTAR, FMASK; IA32_SYSENTER_CS, ESP, EIP; FS and GS base, KERNEL_GS_BASE; CSTAR, TSC_AUX, PAT, TSC_ADJUST, XSS;
 * U_CET, S_CET, PL0_SSP to PL3_SSP, INTERRUPT_SSP_TABLE_ADDR; some of the MTRRs. */
sandbox_msrs:
	.long 0xc0000081, 0xc0000082, 0xc0000084, 0x174, 0x175, 0x176, 0xc0000100, 0xc0000101, 0xc0000102
	.long 0xc0000083, 0xc0000103, 0x277, 0x3b, 0xda0
	.long 0x6a0, 0x6a2, 0x6a4, 0x6a5, 0x6a6, 0x6a7, 0x6a8
	.long 0x200, 0x201, 0x20e, 0x20f, 0x250, 0x259, 0x268, 0x26f, 0x2ff

	.section .rodata.fault_tasks, "a"
	.globl fault_tasks
fault_tasks:

	/* Where a case has CR4.CET: a shadow stack to go to it from, by an IRET to the same level that finds on it where
	 * it goes. Then what is enforced in the case. */
	.macro enforce
	btl $CR4_CET, IN_AT(IN_CR4)
	jnc 9f
	mov $S_CET, %ecx
	mov $SH_STK_EN, %eax
	xor %edx, %edx
	wrmsr
	mov $PL0_SSP, %ecx
	mov $SAFE_SHADOW + SAFE_SHADOW_TOKEN, %eax
	wrmsr
	setssbsy
	mov $2, %eax
	incsspd %eax
	mov IN_AT(IN_MSRS + MSR_AT_PL_SSP), %eax
	mov IN_AT(IN_MSRS + MSR_AT_PL_SSP) + 4, %edx
	wrmsr
	mov $S_CET, %ecx
	mov IN_AT(IN_MSRS + MSR_AT_S_CET), %eax
	mov IN_AT(IN_MSRS + MSR_AT_S_CET) + 4, %edx
	wrmsr
	cmp %eax, %eax /* some flags were undefined, and the IRET may fault */
9:
	.endm

	.section .data
	.balign 16
clean_fpu:
	.word 0x37f
	.skip 22
	.long 0x1f80
	.skip 512 - 28
case_gdt:
	.word GDT_SLOTS * 8 - 1
	.quad GDT
case_idt:
	.word IDT_BYTES - 1
	.quad IDT
real_idt:
	.word 0x3ff
	.quad VECTORS
kernel_gdt:
	.skip 10
	.balign 8
kernel_idt:
	.skip 10
	.balign 8
kernel_cr0:
	.quad 0
kernel_cr3:
	.quad 0
kernel_cr4:
	.quad 0
kernel_stack:
	.quad 0
iret_pointer:
	.skip 6

	.text
	.code64
	.globl run_case
run_case:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	pushfq
	sgdt kernel_gdt
	sidt kernel_idt
	mov %cr0, %rax
	mov %rax, kernel_cr0
	mov %cr3, %rax
	mov %rax, kernel_cr3
	mov %cr4, %rax
	mov %rax, kernel_cr4
	mov %rsp, kernel_stack
	mov %cr4, %rax
	or $CR4_OSFXSR | CR4_PKE, %rax
	mov %rax, %cr4
	clts
	fxrstor clean_fpu
	mov IN_AT(IN_PKRU), %eax
	xor %ecx, %ecx
	xor %edx, %edx
	wrpkru
	mov $sandbox_msrs, %esi
	mov $IN_AT(IN_MSRS), %edi
	mov $SANDBOX_MSR_COUNT, %ebx
1:	mov (%rsi), %ecx
	mov (%rdi), %eax
	mov 4(%rdi), %edx
	wrmsr
	add $4, %esi
	add $8, %edi
	dec %ebx
	jnz 1b
	cmpb $MODE_LONG, IN_AT(IN_MODE)
	jne to_legacy

	mov $EFER, %ecx
	mov IN_AT(IN_EFER), %eax
	xor %edx, %edx
	wrmsr
	mov IN_AT(IN_CR3), %rax
	mov %rax, %cr3
	mov IN_AT(IN_CR4), %rax
	mov %rax, %cr4
	mov IN_AT(IN_CR0), %rax
	mov %rax, %cr0
	mov IN_AT(IN_CR2), %rax
	mov %rax, %cr2
	lgdt case_gdt
	lidt case_idt
	mov $SEL_LDT, %eax
	lldt %ax
	mov $SEL_TASK, %eax
	ltr %ax
	mov IN_AT(IN_ES), %es
	mov IN_AT(IN_DS), %ds
	/* a load of FS or GS also loads its base: the MSR's value comes back after it */
	mov IN_AT(IN_FS), %fs
	mov IN_AT(IN_GS), %gs
	mov $0xc0000100, %ecx
	mov IN_AT(IN_MSRS + MSR_AT_FS_BASE), %eax
	mov IN_AT(IN_MSRS + MSR_AT_FS_BASE) + 4, %edx
	wrmsr
	inc %ecx
	mov IN_AT(IN_MSRS + MSR_AT_GS_BASE), %eax
	mov IN_AT(IN_MSRS + MSR_AT_GS_BASE) + 4, %edx
	wrmsr
	.irp n, 0, 1, 2, 3
	mov IN_AT(IN_DR + \n), %rax
	mov %rax, %db\n
	.endr
	mov IN_AT(IN_DR6), %rax
	mov %rax, %db6
	enforce
	pushq IN_AT(IN_SS)
	pushq IN_AT(IN_RSP)
	pushq IN_AT(IN_RFLAGS)
	pushq IN_AT(IN_CS)
	pushq IN_AT(IN_RIP)
	mov IN_AT(IN_DR7), %rax
	mov %rax, %db7
	.set n, 0
	.irp reg, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	.ifnc \reg, rsp
	mov IN_AT(IN_REGS + n), %\reg
	.endif
	.set n, n + 1
	.endr
	iretq

	/* The handlers of long mode: all have a stack of their own, but for those that a case made. */
handle64:
	.set n, 0
	.irp reg, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	.ifnc \reg, rsp
	mov %\reg, OUT_AT(OUT_REGS + n)
	.endif
	.set n, n + 1
	.endr
	.irp n, 0, 1, 2, 3, 4, 5, 6
	popq OUT_AT(\n)
	.endr
	mov %ss, %eax
	mov %rax, OUT_AT(OUT_HANDLER_SS)
	xor %eax, %eax
	rdsspq %rax
	mov %rax, OUT_AT(OUT_SSP)
	mov %rsp, OUT_AT(OUT_HANDLER_SP)
	mov kernel_stack, %rsp
	mov %cr0, %rax
	mov %rax, OUT_AT(OUT_CR0)
	mov %cr2, %rax
	mov %rax, OUT_AT(OUT_CR2)
	mov %cr3, %rax
	mov %rax, OUT_AT(OUT_CR3)
	mov %cr4, %rax
	mov %rax, OUT_AT(OUT_CR4)
	mov %db6, %rax
	mov %rax, OUT_AT(OUT_DR6)
	mov %db7, %rax
	mov %rax, OUT_AT(OUT_DR7)
	xor %eax, %eax
	mov %rax, %db7
	.irp seg, es, ds, fs, gs
	mov %\seg, %eax
	.ifc \seg, es
	mov %rax, OUT_AT(OUT_ES)
	.endif
	.ifc \seg, ds
	mov %rax, OUT_AT(OUT_DS)
	.endif
	.ifc \seg, fs
	mov %rax, OUT_AT(OUT_FS)
	.endif
	.ifc \seg, gs
	mov %rax, OUT_AT(OUT_GS)
	.endif
	.endr
	sldt %eax
	mov %rax, OUT_AT(OUT_LDTR)
	str %eax
	mov %rax, OUT_AT(OUT_TR)
back64:
	mov kernel_stack, %rsp
	mov kernel_cr0, %rax
	mov %rax, %cr0
	mov kernel_cr4, %rax
	mov %rax, %cr4
	mov kernel_cr3, %rax
	mov %rax, %cr3
	lgdt kernel_gdt
	lidt kernel_idt
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $sandbox_msrs, %esi
	mov $OUT_AT(OUT_MSRS), %edi
	mov $SANDBOX_MSR_COUNT, %ebx
1:	mov (%rsi), %ecx
	rdmsr
	mov %eax, (%rdi)
	mov %edx, 4(%rdi)
	add $4, %esi
	add $8, %edi
	dec %ebx
	jnz 1b
	mov kernel_cr4, %rax
	or $CR4_PKE, %rax
	mov %rax, %cr4
	xor %ecx, %ecx
	rdpkru
	mov %rax, OUT_AT(OUT_PKRU)
	mov kernel_cr4, %rax
	mov %rax, %cr4
	xor %eax, %eax
	mov %rax, %cr8
	mov %eax, %fs
	mov %eax, %gs
	popfq
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	/* Out of long mode: SDM vol. 3, 10.8.5.4. */
to_legacy:
	lgdt case_gdt
	lea iret_pointer, %rax
	movl $legacy, (%rax)
	movw $SEL_CODE32, 4(%rax)
	ljmpl *(%rax)
	.code32
legacy:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $HANDLER_STACK, %esp
	mov %cr0, %eax
	and $~CR0_PG, %eax
	mov %eax, %cr0
	mov $EFER, %ecx
	mov IN_AT(IN_EFER), %eax
	xor %edx, %edx
	wrmsr
	mov IN_AT(IN_CR3), %eax
	mov %eax, %cr3
	mov IN_AT(IN_CR4), %eax
	mov %eax, %cr4
	mov IN_AT(IN_CR2), %eax
	mov %eax, %cr2
	.irp n, 0, 1, 2, 3
	mov IN_AT(IN_DR + \n), %eax
	mov %eax, %db\n
	.endr
	mov IN_AT(IN_DR6), %eax
	mov %eax, %db6
	mov IN_AT(IN_CR0), %eax
	mov %eax, %cr0
	cmpb $MODE_REAL, IN_AT(IN_MODE)
	je to_real
	lidt case_idt
	mov $SEL_LDT, %eax
	lldt %ax
	mov $SEL_TASK, %eax
	ltr %ax
	enforce

	mov IN_AT(IN_RFLAGS), %eax
	bt $RFLAGS_VM, %eax
	jnc 1f
	pushl IN_AT(IN_GS)
	pushl IN_AT(IN_FS)
	pushl IN_AT(IN_DS)
	pushl IN_AT(IN_ES)
	jmp 2f
1:	testb $3, IN_AT(IN_CS)
	jnz 2f
	mov IN_AT(IN_SS), %ss
	mov IN_AT(IN_RSP), %esp
	jmp 3f
2:	pushl IN_AT(IN_SS)
	pushl IN_AT(IN_RSP)
3:	pushl IN_AT(IN_RFLAGS)
	pushl IN_AT(IN_CS)
	pushl IN_AT(IN_RIP)
	mov IN_AT(IN_DR7), %eax
	mov %eax, %db7
	mov IN_AT(IN_REGS + 0), %eax
	mov IN_AT(IN_REGS + 1), %ecx
	mov IN_AT(IN_REGS + 2), %edx
	mov IN_AT(IN_REGS + 3), %ebx
	mov IN_AT(IN_REGS + 5), %ebp
	mov IN_AT(IN_REGS + 6), %esi
	mov IN_AT(IN_REGS + 7), %edi
	/* IRET to virtual-8086 mode loads these itself, and at level 3 kernel segments would become null */
	btl $RFLAGS_VM, IN_AT(IN_RFLAGS)
	jc 4f
	mov IN_AT(IN_ES), %es
	mov IN_AT(IN_FS), %fs
	mov IN_AT(IN_GS), %gs
	mov IN_AT(IN_DS), %ds
4:	iret

handle32:
	push %eax
	mov %ds, %eax
	push %eax
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %ecx, OUT_AT(OUT_REGS + 1)
	mov %edx, OUT_AT(OUT_REGS + 2)
	mov %ebx, OUT_AT(OUT_REGS + 3)
	mov %ebp, OUT_AT(OUT_REGS + 5)
	mov %esi, OUT_AT(OUT_REGS + 6)
	mov %edi, OUT_AT(OUT_REGS + 7)
	popl OUT_AT(OUT_DS)
	popl OUT_AT(OUT_REGS + 0)
	.irp n, 0, 1, 2, 3, 4
	popl OUT_AT(\n)
	.endr
	mov %es, %eax
	mov %eax, OUT_AT(OUT_ES)
	mov %fs, %eax
	mov %eax, OUT_AT(OUT_FS)
	mov %gs, %eax
	mov %eax, OUT_AT(OUT_GS)
	btl $RFLAGS_VM, OUT_AT(OUT_RFLAGS)
	jc 1f
	testb $3, OUT_AT(OUT_CS)
	jz 2f
1:	popl OUT_AT(OUT_RSP)
	popl OUT_AT(OUT_SS)
	btl $RFLAGS_VM, OUT_AT(OUT_RFLAGS)
	jnc 2f
	popl OUT_AT(OUT_ES)
	popl OUT_AT(OUT_DS)
	popl OUT_AT(OUT_FS)
	popl OUT_AT(OUT_GS)
2:	mov %ss, %eax
	mov %eax, OUT_AT(OUT_HANDLER_SS)
	xor %eax, %eax
	rdsspd %eax
	mov %eax, OUT_AT(OUT_SSP)
	mov %esp, OUT_AT(OUT_HANDLER_SP)
	sldt %eax
	mov %eax, OUT_AT(OUT_LDTR)
	str %eax
	mov %eax, OUT_AT(OUT_TR)

	/* Back to long mode; from real-address mode too. */
	.globl back32
back32:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %ss
	mov $HANDLER_STACK, %esp
	mov %cr0, %eax
	mov %eax, OUT_AT(OUT_CR0)
	and $~CR0_PG, %eax
	mov %eax, %cr0
	mov %cr2, %eax
	mov %eax, OUT_AT(OUT_CR2)
	mov %cr3, %eax
	mov %eax, OUT_AT(OUT_CR3)
	mov %cr4, %eax
	mov %eax, OUT_AT(OUT_CR4)
	mov %db6, %eax
	mov %eax, OUT_AT(OUT_DR6)
	mov %db7, %eax
	mov %eax, OUT_AT(OUT_DR7)
	xor %eax, %eax
	mov %eax, %db7
	lgdt case_gdt
	movb $0x89, GDT + SEL_WAY_BACK + 5 /* a case may have made it busy */
	mov $SEL_WAY_BACK, %eax
	ltr %ax
	mov kernel_cr4, %eax
	mov %eax, %cr4
	mov kernel_cr3, %eax
	mov %eax, %cr3
	mov $EFER, %ecx
	mov $0x100, %eax
	xor %edx, %edx
	wrmsr
	mov kernel_cr0, %eax
	mov %eax, %cr0
	ljmp $SEL_CODE64, $back64

	/* The fault tasks: what the interrupted one was doing is in its TSS. */
	.irp vector, 8, 2, 10, 11, 12
fault_task_\vector:
	endbr32
	movl $\vector, OUT_AT(OUT_VECTOR)
	popl OUT_AT(OUT_ERROR)
	jmp 2b
	.pushsection .rodata.fault_tasks, "a"
	.long fault_task_\vector
	.popsection
	.endr

	/* Real-address mode: SDM vol. 3, 10.9.2. */
to_real:
	lidt real_idt
	mov $SEL_DATA16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %fs
	mov %eax, %gs
	mov %eax, %ss
	ljmp $SEL_CODE16, $(real_leave - low_start)

	.macro stub32 vector
stub32_\vector:
	endbr32
	.if !((\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21))
	push $0
	.endif
	push $\vector
	jmp handle32
	.pushsection .rodata.handlers32, "a"
	.long stub32_\vector
	.popsection
	.endm
	.macro stub64 vector
	.code64
stub64_\vector:
	endbr64
	.if !((\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21))
	push $0
	.endif
	push $\vector
	jmp handle64
	.pushsection .rodata.handlers64, "a"
	.long stub64_\vector
	.popsection
	.code32
	.endm
	.section .rodata.handlers32, "a"
	.globl handlers32
handlers32:
	.section .rodata.handlers64, "a"
	.globl handlers64
handlers64:
	.text
	.altmacro
	.set vector, 0
	.rept 32
	stub32 %vector
	stub64 %vector
	.set vector, vector + 1
	.endr
	.noaltmacro

	/* Copied to LOW_CODE, where real-address mode reaches it. The vectors have the handlers' offsets, and some cases
	 * execute or load what is there: so the offsets depend on nothing that comes before. */
	.balign 8
	.skip 4
	.code16
	.globl low_start
low_start:
real_leave:
	mov %cr0, %eax
	and $~CR0_PE, %eax
	mov %eax, %cr0
	ljmp $(LOW_CODE >> 4), $(real_enter - low_start)
real_enter:
	mov $(IN >> 4), %ax
	mov %ax, %ds
	mov 8 * IN_SS, %ss
	mov 8 * IN_RSP, %esp
	pushw 8 * IN_RFLAGS
	pushw 8 * IN_CS
	pushw 8 * IN_RIP
	mov 8 * IN_DR7, %eax
	mov %eax, %db7
	mov 8 * IN_ES, %es
	mov 8 * IN_FS, %fs
	mov 8 * IN_GS, %gs
	mov 8 * (IN_REGS + 0), %eax
	mov 8 * (IN_REGS + 1), %ecx
	mov 8 * (IN_REGS + 2), %edx
	mov 8 * (IN_REGS + 3), %ebx
	mov 8 * (IN_REGS + 5), %ebp
	mov 8 * (IN_REGS + 6), %esi
	mov 8 * (IN_REGS + 7), %edi
	mov 8 * IN_DS, %ds
	iretw

handle16:
	push %eax
	push %ds
	mov $(OUT >> 4), %ax
	mov %ax, %ds
	mov %ecx, 8 * (OUT_REGS + 1)
	mov %edx, 8 * (OUT_REGS + 2)
	mov %ebx, 8 * (OUT_REGS + 3)
	mov %ebp, 8 * (OUT_REGS + 5)
	mov %esi, 8 * (OUT_REGS + 6)
	mov %edi, 8 * (OUT_REGS + 7)
	popw 8 * OUT_DS
	popl 8 * (OUT_REGS + 0)
	popw 8 * OUT_VECTOR
	popw 8 * OUT_RIP
	popw 8 * OUT_CS
	popw 8 * OUT_RFLAGS
	mov %es, 8 * OUT_ES
	mov %fs, 8 * OUT_FS
	mov %gs, 8 * OUT_GS
	mov %ss, 8 * OUT_SS
	mov %esp, 8 * OUT_RSP
	lgdtl %cs:(low_gdt - low_start)
	mov %cr0, %eax
	or $CR0_PE, %eax
	mov %eax, %cr0
	ljmpl $SEL_CODE32, $back32
	.balign 4
low_gdt:
	.word GDT_SLOTS * 8 - 1
	.long GDT
	.macro stub16 vector
	.balign 8
	pushw $\vector
	jmp handle16
	.endm
	.balign 8
	.globl low_handlers
low_handlers:
	.altmacro
	.set vector, 0
	.rept 32
	stub16 %vector
	.set vector, vector + 1
	.endr
	.noaltmacro
	.balign 8
	.globl low_end
low_end:

	.section .note.GNU-stack, "", @progbits
