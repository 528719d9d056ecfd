/* The memory that cases have: all below 1 MB, the same at the start of each. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include "layout.h"
#include "types.h"

/* What lies where a case put nothing: INT3, which ends a case that comes there. */
#define TERMINATORS 0xcccccccccccccccc

/* Once: makes memory of what a chipset has for video and firmware below 1 MB, and what cases are given. */
void sandbox_open(void);
/* Before each case: takes back what one can have changed; of what is below CODE all for a mode that comes there, `low`.
 * A program has some of the pages where `user`. */
void sandbox_restore(bool user, bool low);

static inline void store(u64 address, unsigned bytes, u64 value)
{
	switch (bytes) {
	case 1:
		*(volatile u8 *)address = (u8)value;
		break;
	case 2:
		*(volatile u16 *)address = (u16)value;
		break;
	case 4:
		*(volatile u32 *)address = (u32)value;
		break;
	default:
		*(volatile u64 *)address = value;
	}
}

/* Both take whole quadwords. */
static inline void fill(u64 address, u64 bytes, u64 value)
{
	bytes /= 8;
	asm volatile("rep stosq" : "+D"(address), "+c"(bytes) : "a"(value) : "memory");
}

static inline void copy(u64 address, const void *from, u64 bytes)
{
	bytes /= 8;
	asm volatile("rep movsq" : "+D"(address), "+S"(from), "+c"(bytes) : : "memory");
}

#endif
