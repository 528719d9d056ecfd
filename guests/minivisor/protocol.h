/* What the hypervisor and its guests agree on. Read by C and by the assembler. */
#ifndef PROTOCOL_H
#define PROTOCOL_H

/* Linear address = this + guest-physical address, for what the image of a guest holds (see image.ld). */
#define GUEST_A_LINEAR 0x40000000
#define GUEST_B_LINEAR 0x80000000

/* Guest-physical addresses beyond the image, in both guests. */
#define GPA_HEAP 0x200000 /* guest A: pages come when they are first touched */
#define HEAP_PAGES 4
#define GPA_LARGE 0x400000 /* guest A: one 2-MB page */
#define GPA_LOG 0x200000   /* guest B: a page that starts out read-only */

/* VMCALL: the number in RAX, arguments in RBX and RCX. */
#define HC_DONE 0  /* the guest has nothing more to do */
#define HC_SAY 1   /* RBX: guest-physical address of a text that ends with 0 */
#define HC_YIELD 2 /* the other guest's turn */
#define HC_TIMER 3 /* after RBX expiries of the VMX-preemption timer, store 1 at guest-physical RCX */

/* CPUID leaves of the hypervisor. */
#define CPUID_SIGNATURE 0x40000000
#define CPUID_FEATURES 0x40000001
#define FEATURE_TIMER 1 /* EAX bit 0: HC_TIMER works on this CPU */

#define PORT_CONSOLE 0x3f8
#define VECTOR_TICK 0x20
#define MSR_NOT_THERE 0x4d56 /* belongs to no CPU */
#define MICROCODE_REVISION 0x1234

#endif
