/* The guest of virtapic, which shares the host's address space. */
#ifndef GUEST_H
#define GUEST_H

#include "cpu.h"

/* Offsets in the APIC's page (SDM vol. 3, "Local APIC Register Address Map") */
#define APIC_TPR 0x80
#define APIC_EOI 0xb0
#define APIC_IRR 0x200
#define APIC_ICR 0x300
#define APIC_CURRENT_COUNT 0x390

/* Interrupt command: the sender is the destination */
#define ICR_SELF BIT(18)

#define VECTOR_FIRST 0x31    /* requested by the host before the guest runs */
#define VECTOR_SELF 0x41     /* the guest sends it to itself */
#define VECTOR_REPORTED 0x52 /* so too, and the host asked to hear of its end */

/* The APIC-access page: what the guest takes for its local APIC. */
extern u8 apic[PAGE_SIZE];

_Noreturn void guest_main(void);
struct table_register guest_idtr(void);

#endif
