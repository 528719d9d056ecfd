/* What the guest of the mutations consists of, and the pages that its VMCS points to. The guest never runs an
 * instruction: its preemption timer has run out at VM entry. But events are delivered to it. */
#ifndef WORLD_H
#define WORLD_H

#include "vmx.h"

struct setup {
	const char *name;
	bool ept, is_64_bit, paging, unrestricted, virtual_8086;
};

struct msr_entry {
	u32 msr, reserved;
	u64 value;
};
#define MSR_LIST_ENTRIES 4
/* What exits store, what exits load, what entries load. */
extern struct msr_entry msr_lists[3][MSR_LIST_ENTRIES];

/* What of the host an exit may leave with other values. */
struct host_registers {
	u64 cr0, cr4, efer, pat;
	struct table_register gdtr, idtr;
};

/* Two pages that a pointer of the VMCS may be moved to without harm. */
extern u8 spare_pages[2][PAGE_SIZE];

/* The setup of that name, or NULL. */
const struct setup *setup_named(const char *name);
void print_setups(void);

/* Builds the guest's tables, and makes a VMCS that is current and whose entry succeeds. */
void world_create(const struct setup *setup);

/* Makes the VMCS clear again, with its fields as they are. */
void world_clear(void);

/* Puts memory that an entry or an event writes to back as it was. */
void world_reset_memory(void);

/* Drops what was cached of the guest's page tables, so that no case sees those of another's. */
void world_forget_translations(void);

/* A field that exists only on some processors: false where this one has not got it. */
bool vmwrite_optional(u32 field, u64 value);

#endif
