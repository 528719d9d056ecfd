/*
 * From multiboot 1 (32-bit protected mode, no paging, EBX = boot information) to main() in long mode, the
 * first 4 GB mapped one to one.
 *
 * The header carries load addresses (flag 16), so that QEMU and GRUB load this file by them and do not mind
 * that it is an ELF64. A loader that reads the program headers instead finds the same bytes at the same
 * physical addresses.
 */
#include "selectors.h"

	.cfi_sections .debug_frame

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x00010003 /* page-aligned modules, memory map, load addresses */

	.section .multiboot, "a"
	.balign 4
multiboot_header:
	.long MULTIBOOT_MAGIC
	.long MULTIBOOT_FLAGS
	.long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
	.long multiboot_header
	.long image_start
	.long image_load_end
	.long image_bss_end
	.long start

	.section .bss
	.balign 4096
boot_pml4:
	.skip 4096
boot_pdpt:
	.skip 4096
boot_pd:
	.skip 4 * 4096
	.skip 32768
boot_stack_top:

	.section .data
	.balign 16
	.globl gdt
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff /* SEL_CODE32 */
	.quad 0x00cf93000000ffff /* SEL_DATA */
	.quad 0x00af9b000000ffff /* SEL_CODE64 */
	.word 0x67, 0            /* SEL_TSS: its base is filled in below */
	.byte 0, 0x89, 0, 0
	.quad 0
gdt_end:
gdt_register:
	.word gdt_end - gdt - 1
	.quad gdt
	.balign 16
	.globl tss
tss:
	.skip 0x68

	.text
	.code32
	.globl start
	.type start, @function
start:
	.cfi_startproc
	.cfi_undefined 16 /* RIP */
	cli
	cld
	mov $boot_stack_top, %esp
	mov %ebx, %esi /* boot information: main's argument in the end */

	/* four page directories of 2-MB pages: present, writable, large */
	mov $boot_pd, %edi
	mov $0x83, %eax
	xor %ecx, %ecx
1:	mov %eax, (%edi, %ecx, 8)
	add $0x200000, %eax
	inc %ecx
	cmp $2048, %ecx
	jne 1b
	mov $boot_pd + 3, %eax
	xor %ecx, %ecx
2:	mov %eax, boot_pdpt(, %ecx, 8)
	add $0x1000, %eax
	inc %ecx
	cmp $4, %ecx
	jne 2b
	movl $boot_pdpt + 3, boot_pml4

	mov %cr4, %eax
	or $0x20, %eax /* PAE */
	mov %eax, %cr4
	mov $boot_pml4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx /* IA32_EFER.LME */
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80010021, %eax /* PG, WP, NE, PE */
	and $~0x6, %eax      /* not EM, MP */
	mov %eax, %cr0
	lgdt gdt_register
	ljmp $SEL_CODE64, $start64
	.cfi_endproc
	.size start, . - start

	.code64
	.type start64, @function
start64:
	.cfi_startproc
	.cfi_undefined rip
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs

	mov $tss, %eax
	mov %ax, gdt + SEL_TSS + 2
	shr $16, %eax
	mov %al, gdt + SEL_TSS + 4
	mov %ah, gdt + SEL_TSS + 7
	mov $SEL_TSS, %eax
	ltr %ax

	mov $boot_stack_top, %esp
	xor %ebp, %ebp
	mov %esi, %edi
	call lib_main
	ud2
	.cfi_endproc
	.size start64, . - start64

	.section .note.GNU-stack, "", @progbits
