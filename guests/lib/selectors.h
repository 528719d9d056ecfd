/* Selectors of the GDT in boot.S; the guests' GDTs have the same order. */
#ifndef SELECTORS_H
#define SELECTORS_H

#define SEL_CODE32 0x08
#define SEL_DATA 0x10
#define SEL_CODE64 0x18
#define SEL_TSS 0x20

#endif
