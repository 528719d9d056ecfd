/* Extended page tables: guest-physical to host-physical. */
#ifndef EPT_H
#define EPT_H

#include "types.h"

#define EPT_READ BIT(0)
#define EPT_WRITE BIT(1)
#define EPT_EXECUTE BIT(2)
#define EPT_ALL (EPT_READ | EPT_WRITE | EPT_EXECUTE)

#define SIZE_2MB BIT(21)

/* Page-table pages and guest memory come from one pool of zeroed pages; ends the run when it is empty. */
void *page_alloc(void);

/* An empty hierarchy. */
u64 *ept_create(void);

/* The EPT pointer for a hierarchy: 4 levels, write-back. */
u64 ept_pointer(const u64 *root);

/* Maps one 4-KB page, or one 2-MB page where size is SIZE_2MB. What was there before is replaced; the caller
 * does the INVEPT that less rights would need. */
void ept_map(u64 *root, u64 guest_physical, u64 host_physical, u64 rights, u64 size);

/* The entry that maps a guest-physical address, NULL where a table on the way is missing. It may be not
 * present. */
u64 *ept_entry(u64 *root, u64 guest_physical);

#endif
