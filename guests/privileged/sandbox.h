/* The memory that cases have: all below 1 MB, the same at the start of each. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include "layout.h"
#include "types.h"

#define PAGE 0x1000ul

/* What lies where a case put nothing: INT3, which ends a case that comes there. */
#define TERMINATORS 0xcccccccccccccccc

/* Once: makes memory of what a chipset has for video and firmware below 1 MB, and what cases are given. */
void sandbox_open(void);
/* Before each case: takes back what the one before changed. A program has some of the pages where `user`. */
void sandbox_restore(bool user);
/* After a case: whether what it wrote to has been marked so by paging. */
void sandbox_used(bool paging);

/* The pages below TABLES that are not as they were at first, a bit each. */
extern u64 sandbox_changed;
/* Those that the window leads to. */
#define WINDOW_CHANGED ((BIT(WINDOW_PAGES) - 1) << DATA / PAGE)
_Static_assert(TABLES == 64 * PAGE, "one bit a page");

static inline void store(u64 address, unsigned bytes, u64 value)
{
	if (address < TABLES)
		sandbox_changed |= BIT(address / PAGE) | BIT((address + bytes - 1) / PAGE & 63);
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
