#include "sandbox.h"

#include "cpu.h"

#define PCI_ADDRESS 0xcf8
#define PCI_DATA 0xcfc
#define PCI_HOST_BRIDGE BIT(31)
#define LOW_MEMORY_END 0x100000
#define CR4_OSFXSR BIT(9)
#define LINE 64ul
#define MEMORY_END 0x2000000 /* what is beyond, no case comes to */

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_D BIT(6)
#define USED_BYTES 64 /* of tables with few entries */

extern const char low_start[], low_end[], image_bss_end[];

/* In whole lines: an emulator takes its time for each part of a REP STOS. */
static void terminate(u64 address, u64 bytes)
{
	static const u64 line[2] = {TERMINATORS, TERMINATORS};

	asm volatile("movups %2, %%xmm0\n"
		     "1: movaps %%xmm0, (%0)\n\t"
		     "movaps %%xmm0, 16(%0)\n\t"
		     "movaps %%xmm0, 32(%0)\n\t"
		     "movaps %%xmm0, 48(%0)\n\t"
		     "add $64, %0\n\t"
		     "sub $64, %1\n\t"
		     "jnz 1b"
		     : "+r"(address), "+r"(bytes)
		     : "m"(line)
		     : "memory", "cc");
}

static u64 vectors[VECTORS_BYTES / 8], paging[2][PAGING_BYTES / 8];
u64 sandbox_changed;

/* The 440FX's registers: PAM0 to PAM6 for 0xc0000 to 0xfffff, SMRAM for 0xa0000 to 0xbffff. A machine that has memory
 * there anyway need not know them. */
static void open_low_memory(void)
{
	static const struct {
		u8 at;
		u32 value;
	} registers[] = {{0x58, 0x33333000}, {0x5c, 0x33333333}, {0x70, 0x004a0000}};

	for (unsigned n = 0; n < ARRAY_SIZE(registers); n++) {
		outl(PCI_ADDRESS, (u32)PCI_HOST_BRIDGE | registers[n].at);
		outl(PCI_DATA, registers[n].value);
	}
}

/* The first 2 MB, with the image, of which a program may use those pages of the sandbox that are not the system's; and
 * the window. */
static void make_paging(u64 user)
{
	fill(PAGING, PAGING_BYTES, 0);
	for (u64 page = 0; page < 512; page++) {
		u64 address = page << 12, flags = PTE_P | PTE_W | (address < TABLES ? user : 0);

		store(PT + 8 * page, 8, address | flags);
		store(PT32 + 4 * page, 4, address | flags);
	}
	store(PML4, 8, PDPT | PTE_P | PTE_W | PTE_U);
	store(PDPT, 8, PD | PTE_P | PTE_W | PTE_U);
	store(PDPT_PAE, 8, PD | PTE_P);
	store(PD, 8, PT | PTE_P | PTE_W | PTE_U);
	store(PD + 8 * (WINDOW >> 21), 8, WINDOW_PT | PTE_P | PTE_W | PTE_U);
	store(PD32, 4, PT32 | PTE_P | PTE_W | PTE_U);
	store(PD32 + 4 * (WINDOW >> 22), 4, WINDOW_PT32 | PTE_P | PTE_W | PTE_U);
	for (u64 page = 0; page < WINDOW_PAGES; page++) {
		store(WINDOW_PT + 8 * page, 8, (DATA + (page << 12)) | PTE_P | PTE_W | PTE_U);
		store(WINDOW_PT32 + 4 * page, 4, (DATA + (page << 12)) | PTE_P | PTE_W | PTE_U);
	}
}

void sandbox_open(void)
{
	u64 image_end = ((u64)image_bss_end + LINE - 1) & ~(LINE - 1);

	write_cr4(read_cr4() | CR4_OSFXSR);
	open_low_memory();
	for (unsigned n = 0; n < 2; n++) {
		make_paging(n ? PTE_U : 0);
		copy((u64)paging[n], (const void *)PAGING, PAGING_BYTES);
	}
	for (unsigned vector = 0; vector < 256; vector++)
		store((u64)vectors + 4 * vector, 4, CODE << 12 | 0x300);
	terminate(LOW_MEMORY, LOW_MEMORY_END - LOW_MEMORY);
	terminate(image_end, MEMORY_END - image_end);
}

void sandbox_used(bool paging)
{
	if (!paging) {
		sandbox_changed = ~0ull;
		return;
	}
	for (u64 page = 0; page < TABLES / PAGE; page++)
		if ((*(volatile u64 *)(PT + 8 * page) | *(volatile u32 *)(PT32 + 4 * page)) & PTE_D)
			sandbox_changed |= BIT(page);
	/* through the window, wherever a page of it led at the time */
	for (u64 page = 0; page < WINDOW_PAGES; page++)
		if ((*(volatile u64 *)(WINDOW_PT + 8 * page) | *(volatile u32 *)(WINDOW_PT32 + 4 * page)) & PTE_D)
			sandbox_changed |= WINDOW_CHANGED;
}

void sandbox_restore(bool user)
{
	copy(VECTORS, vectors, VECTORS_BYTES);
	for (u64 page = 0; page < TABLES / PAGE; page++) {
		u64 from = page ? page * PAGE : LOW_MEMORY;

		if (sandbox_changed >> page & 1)
			terminate(from, (page + 1) * PAGE - from);
	}
	sandbox_changed = 0;
	for (u64 table = 0; table < PAGING_BYTES; table += PAGE)
		copy(PAGING + table, (const char *)paging[user] + table,
			PAGING + table == PT || PAGING + table == PT32 ? PAGE : USED_BYTES);
	copy(LOW_CODE, low_start, (u64)(low_end - low_start));
}
