/* Where the sandbox lies, for C and assembly. All of it is below 1 MB, where every mode reaches it; linear addresses
 * are physical ones, but for the window. */
#ifndef LAYOUT_H
#define LAYOUT_H

#define VECTORS 0x00000 /* of real-address mode */
#define VECTORS_BYTES 0x400
#define LOW_MEMORY 0x00400
#define CODE 0x10000
#define DATA 0x20000
#define STACKS 0x30000 /* four pages: the stack of level n is page n */
#define STACK_PAGE 0x1000
#define STACK_START 0x800 /* SP at the start of a case */

#define TABLES 0x40000
#define GDT TABLES
#define GDT_SLOTS 48
#define LDT (TABLES + 0x200)
#define LDT_SLOTS 8
#define TSS (TABLES + 0x300)
#define TSS_BYTES 0x100
#define TASKS (TABLES + 0x400) /* what task switches lead to: four TSSs */
#define TASK_COUNT 4
#define FAULT_TASKS (TABLES + 0x800) /* TSSs of the tasks that take #DF, NMI, #TS, #NP and #SS outside long mode */
#define FAULT_TASK_COUNT 5
#define TABLES_BYTES 0xd00 /* what a case can have changed */
#define IDT 0x41000
#define IDT_BYTES 0x1000
#define HANDLER_STACK 0x43000 /* its end */

#define PAGING 0x50000
#define PAGING_BYTES 0x9000
#define PML4 (PAGING + 0x0000)
#define PDPT (PAGING + 0x1000)
#define PD (PAGING + 0x2000)
#define PT (PAGING + 0x3000)
#define WINDOW_PT (PAGING + 0x4000)
#define PD32 (PAGING + 0x5000)
#define PT32 (PAGING + 0x6000)
#define WINDOW_PT32 (PAGING + 0x7000)
#define PDPT_PAE (PAGING + 0x8000)

/* The window: eight pages whose paging entries are random, and which map the pages from DATA on. */
#define WINDOW 0x800000
#define WINDOW_PAGES 8

/* Shadow stacks of enforcement.c that no case spoils: a page of identity-mapped ones, on which a case is entered and
 * the handlers run, and the table of those by IST. */
#define SAFE_SHADOW 0x3f000
#define SAFE_SHADOW_ROOM 0x100 /* for each */
#define SAFE_SHADOW_TOKEN 0x78 /* in it; with the frame below it, it fills 32 aligned bytes */
#define SSP_TABLE (TABLES + 0xe00)
#define LEGACY_BITMAP 0x28000

#define LOW_CODE 0x60000 /* what runs in real-address mode */
#define IN 0x68000
#define OUT 0x68400

/* Selectors of the test's GDT: the first five are as in selectors.h. */
#define SEL_TASK 0x20  /* 16 bytes in long mode */
#define SEL_LDT 0x30   /* the same */
#define SEL_CODE16 0x48
#define SEL_DATA16 0x50
#define SEL_TASKS 0x58     /* TASK_COUNT of them */
#define SEL_WAY_BACK 0x78 /* a TSS for the way back to long mode, which does not begin with one of 16 bits */
#define SEL_PLAIN 0x80     /* code, data and stack for each level */
#define SEL_FAULT_TASKS 0xe0
#define RANDOM_SLOT 33     /* random descriptors from here on */

/* Quadwords of IN: what a case begins with. */
#define IN_MODE 0
#define IN_RFLAGS 1
#define IN_RIP 2
#define IN_CR0 3
#define IN_CR2 4
#define IN_CR3 5
#define IN_CR4 6
#define IN_EFER 7
#define IN_DR 8 /* DR0 to DR3 */
#define IN_DR6 12
#define IN_DR7 13
#define IN_ES 14 /* ES, CS, SS, DS, FS, GS */
#define IN_CS 15
#define IN_SS 16
#define IN_DS 17
#define IN_FS 18
#define IN_GS 19
#define IN_REGS 20 /* RAX to R15 in the encoding's order */
#define IN_RSP 24
#define IN_PKRU 36
#define IN_MSRS 37 /* in the order of sandbox_msrs */
#define IN_WORDS (IN_MSRS + SANDBOX_MSR_COUNT)

/* Quadwords of OUT: what the exception that ends the case found. */
#define OUT_VECTOR 0
#define OUT_ERROR 1
#define OUT_RIP 2
#define OUT_CS 3
#define OUT_RFLAGS 4
#define OUT_RSP 5
#define OUT_SS 6
#define OUT_CR0 7
#define OUT_CR2 8
#define OUT_CR3 9
#define OUT_CR4 10
#define OUT_DR6 11
#define OUT_DR7 12
#define OUT_ES 13
#define OUT_DS 14
#define OUT_FS 15
#define OUT_GS 16
#define OUT_LDTR 17
#define OUT_TR 18
#define OUT_REGS 19
#define OUT_HANDLER_SS 35
#define OUT_HANDLER_SP 36
#define OUT_PKRU 37
#define OUT_MSRS 38
#define OUT_WORDS (OUT_MSRS + SANDBOX_MSR_COUNT)
#define OUT_SSP OUT_WORDS /* of the handler, for what is told of enforcement only */

#define SANDBOX_MSR_COUNT 30
#define MSR_AT_FS_BASE 6
#define MSR_AT_GS_BASE 7
#define MSR_AT_PAT 11
#define MSR_AT_U_CET 14
#define MSR_AT_S_CET 15
#define MSR_AT_PL_SSP 16 /* IA32_PL0_SSP to IA32_PL3_SSP */
#define MSR_AT_INTERRUPT_SSPS 20

/* IN_MODE. */
#define MODE_LONG 0
#define MODE_PROTECTED 1
#define MODE_REAL 2

#endif
