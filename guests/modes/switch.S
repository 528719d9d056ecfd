/*
 * Out of 64-bit mode, through the other modes, and back. Each mode has a function in_MODE, which calls another one; both
 * count their visit.
 *
 * 16-bit code is linked at LOW_LINEAR, where real-address mode reaches it, and copied there first; its segments begin
 * there, so that its instruction pointers are offsets.
 */
#include "../lib/selectors.h"

#define CR0_PE 1
#define CR0_PG 0x80000000
#define EFER 0xc0000080
#define LOW_LINEAR 0x60000 /* as in image.ld */
#define LOW_PARAGRAPH (LOW_LINEAR >> 4)
#define LOW_STACK 0xf000 /* an offset in the 16-bit segments */

#define SEL_CODE16 0x20
#define SEL_DATA16 0x28
#define SEL_TSS32 0x30
#define FLAGS_VIRTUAL 0x23002 /* VM, IOPL 3 */

	.cfi_sections .debug_frame

	.section .data
	.balign 8
modes_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0x00af9b000000ffff
	.quad 0x00009b000000ffff | (LOW_LINEAR << 16)
	.quad 0x000093000000ffff | (LOW_LINEAR << 16)
	.quad 0x0000890000000067 /* its base is filled in below */
modes_gdt_end:
	.balign 8
modes_tss:
	.long 0, 0, SEL_DATA
	.skip 0x68 - 12
/* One gate: vector 0x20, for programs; its offset is filled in below. */
	.balign 8
modes_idt:
	.skip 0x20 * 8
	.word 0, SEL_CODE32, 0xee00, 0
modes_idt_end:
gdt_pointer:
	.word modes_gdt_end - modes_gdt - 1
	.quad modes_gdt
idt_pointer:
	.word modes_idt_end - modes_idt - 1
	.quad modes_idt
before_gdt:
	.skip 10
before_idt:
	.skip 10
	.balign 8
before_stack:
	.quad 0
before_cr3:
	.quad 0
	.globl visits
visits:
	.skip 5 * 4

	.text
	.code64
	.globl through_modes
	.type through_modes, @function
through_modes:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	sgdt before_gdt
	sidt before_idt
	mov %cr3, %rax
	mov %rax, before_cr3
	mov %rsp, before_stack
	mov $low_load, %esi
	mov $LOW_LINEAR, %edi
	mov $low_size, %ecx
	cld
	rep movsb
	mov $modes_tss, %eax
	mov %ax, modes_gdt + SEL_TSS32 + 2
	shr $16, %eax
	mov %al, modes_gdt + SEL_TSS32 + 4
	mov $from_virtual, %eax
	mov %ax, modes_idt + 0x20 * 8
	shr $16, %eax
	mov %ax, modes_idt + 0x20 * 8 + 6
	lgdt gdt_pointer
	push $SEL_CODE32
	push $compatibility
	lretq
	.size through_modes, . - through_modes

	.code32
compatibility:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %esp, modes_tss + 4
	call in_compatibility
	/* SDM vol. 3, 10.8.5.4: paging off, then long mode */
	mov %cr0, %eax
	and $~CR0_PG, %eax
	mov %eax, %cr0
	mov $EFER, %ecx
	rdmsr
	and $~0x100, %eax
	wrmsr
	call in_protected32
	ljmp $SEL_CODE16, $(protected16 - LOW_LINEAR)

	.type in_compatibility, @function
in_compatibility:
	push %ebp
	mov %esp, %ebp
	incl visits
	call compatibility_inner
	pop %ebp
	ret
	.size in_compatibility, . - in_compatibility

	.type compatibility_inner, @function
compatibility_inner:
	push %ebp
	mov %esp, %ebp
	incl visits
	pop %ebp
	ret
	.size compatibility_inner, . - compatibility_inner

	.type in_protected32, @function
in_protected32:
	incl visits + 4
	call protected32_inner
	ret
	.size in_protected32, . - in_protected32

	.type protected32_inner, @function
protected32_inner:
	incl visits + 4
	ret
	.size protected32_inner, . - protected32_inner

	/* from real-address mode: the segments still hold paragraphs */
from_real:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %fs
	mov %eax, %gs
	mov %eax, %ss
	mov before_stack, %esp
	lidt idt_pointer
	mov $SEL_TSS32, %eax
	ltr %ax
	.irp segment, gs, fs, ds, es, ss
	pushl $LOW_PARAGRAPH
	.ifc \segment, ss
	pushl $LOW_STACK
	.endif
	.endr
	pushl $FLAGS_VIRTUAL
	pushl $LOW_PARAGRAPH
	pushl $(virtual8086 - LOW_LINEAR)
	iret

from_virtual:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov low_visits + 8, %eax
	mov %eax, visits + 8
	mov low_visits + 12, %eax
	mov %eax, visits + 12
	mov low_visits + 16, %eax
	mov %eax, visits + 16
	mov before_cr3, %eax
	mov %eax, %cr3
	mov $EFER, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $CR0_PG, %eax
	mov %eax, %cr0
	ljmp $SEL_CODE64, $back
	.code64
back:
	lgdt before_gdt
	lidt before_idt
	mov before_stack, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.section .low, "awx"
	.code16
protected16:
	mov $SEL_DATA16, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %fs
	mov %ax, %gs
	mov %ax, %ss
	mov $LOW_STACK, %esp
	call in_protected16
	mov %cr0, %eax
	and $~CR0_PE, %eax
	mov %eax, %cr0
	ljmp $LOW_PARAGRAPH, $(real - LOW_LINEAR)
real:
	mov $LOW_PARAGRAPH, %ax
	mov %ax, %ds
	mov %ax, %ss
	call in_real
	mov %cr0, %eax
	or $CR0_PE, %eax
	mov %eax, %cr0
	ljmpl $SEL_CODE32, $from_real
virtual8086:
	call in_virtual8086
	int $0x20

	.macro visitor name, number
	.type in_\name, @function
in_\name:
	push %bp
	mov %sp, %bp
	incl low_visits - LOW_LINEAR + 4 * \number
	call \name\()_inner
	pop %bp
	ret
	.size in_\name, . - in_\name
	.type \name\()_inner, @function
\name\()_inner:
	push %bp
	mov %sp, %bp
	incl low_visits - LOW_LINEAR + 4 * \number
	pop %bp
	ret
	.size \name\()_inner, . - \name\()_inner
	.endm
	visitor protected16, 2
	visitor real, 3
	visitor virtual8086, 4
	.balign 4
low_visits:
	.skip 5 * 4

	.section .note.GNU-stack, "", @progbits
