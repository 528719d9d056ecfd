#include "ept.h"

#include "console.h"
#include "machine.h"

#define POOL_PAGES 64
#define MEMORY_TYPE_WB 6ull
#define EPTP_WALK_LENGTH_4 (3ull << 3)
#define EPT_LARGE BIT(7)
#define EPT_ADDRESS 0x000ffffffffff000ull
#define LEVEL_4KB 1
#define LEVEL_2MB 2
#define LEVEL_ROOT 4

static u8 pool[POOL_PAGES][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static unsigned pool_used;

void *page_alloc(void)
{
	if (pool_used == POOL_PAGES) {
		print("host: out of pages\n");
		machine_end(END_FAILED);
	}
	return pool[pool_used++];
}

u64 *ept_create(void)
{
	return page_alloc();
}

u64 ept_pointer(const u64 *root)
{
	return (u64)root | EPTP_WALK_LENGTH_4 | MEMORY_TYPE_WB;
}

static u64 *entry_at(u64 *table, u64 guest_physical, unsigned level)
{
	return &table[guest_physical >> (12 + 9 * (level - 1)) & 511];
}

void ept_map(u64 *root, u64 guest_physical, u64 host_physical, u64 rights, u64 size)
{
	const unsigned leaf = size == SIZE_2MB ? LEVEL_2MB : LEVEL_4KB;
	u64 *table = root;

	for (unsigned level = LEVEL_ROOT; level > leaf; level--) {
		u64 *entry = entry_at(table, guest_physical, level);

		if (!*entry)
			*entry = (u64)page_alloc() | EPT_ALL;
		table = (u64 *)(*entry & EPT_ADDRESS);
	}
	*entry_at(table, guest_physical, leaf) =
		host_physical | rights | MEMORY_TYPE_WB << 3 | (leaf == LEVEL_2MB ? EPT_LARGE : 0);
}

u64 *ept_entry(u64 *root, u64 guest_physical)
{
	u64 *table = root;

	for (unsigned level = LEVEL_ROOT;; level--) {
		u64 *entry = entry_at(table, guest_physical, level);

		if (level == LEVEL_4KB || (level == LEVEL_2MB && *entry & EPT_LARGE))
			return entry;
		if (!(*entry & EPT_ALL))
			return NULL;
		table = (u64 *)(*entry & EPT_ADDRESS);
	}
}
