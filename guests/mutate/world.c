#include "world.h"

#include "cmdline.h"
#include "console.h"
#include "ept.h"
#include "machine.h"
#include "selectors.h"

#define TABLE_ENTRIES 512
#define PAGE_PRESENT BIT(0)
#define PAGE_WRITABLE BIT(1)
#define PAGE_ACCESSED BIT(5)
#define PAGE_DIRTY BIT(6)
#define LOWEST_CODE 0x1000 /* where real-address mode's vectors lead */
#define GATE_INTERRUPT 0x8e
#define REAL_RIGHTS 0x93
#define V86_RIGHTS 0xf3
#define RFLAGS_VM BIT(17)
#define VIRTUAL_TPR_OFFSET 0x80
#define VIRTUAL_TPR 0x50
#define INVVPID_ALL_CONTEXTS (BIT(32) | BIT(42)) /* of IA32_VMX_EPT_VPID_CAP */

static const struct setup setups[] = {
	{.name = "long", .is_64_bit = true, .paging = true},
	{.name = "long-ept", .is_64_bit = true, .paging = true, .ept = true},
	{.name = "pae", .paging = true},
	{.name = "pae-ept", .paging = true, .ept = true},
	{.name = "v8086", .paging = true, .virtual_8086 = true},
	{.name = "protected", .ept = true, .unrestricted = true},
	{.name = "real", .ept = true, .unrestricted = true},
};

/* The guest's pages: linear, guest-physical and host-physical addresses are the same. Only the stack may be
 * written. */
static struct {
	u8 code[PAGE_SIZE], descriptors[PAGE_SIZE], vectors[PAGE_SIZE], stack[PAGE_SIZE];
	u64 pml4[TABLE_ENTRIES], pdpt[TABLE_ENTRIES], pd[TABLE_ENTRIES], pt[TABLE_ENTRIES];
} guest __attribute__((aligned(PAGE_SIZE)));

#define PAGES __attribute__((aligned(PAGE_SIZE)))
static u8 vmcs[PAGE_SIZE] PAGES;
static u8 io_bitmaps[2][PAGE_SIZE] PAGES;
static u8 msr_bitmap[PAGE_SIZE] PAGES;
static u8 virtual_apic[PAGE_SIZE] PAGES;
static u8 apic_access[PAGE_SIZE] PAGES;
static u8 page_log[PAGE_SIZE] PAGES;
u8 spare_pages[2][PAGE_SIZE] PAGES;
struct msr_entry msr_lists[3][MSR_LIST_ENTRIES] __attribute__((aligned(16)));

struct __attribute__((packed)) gate_64 {
	u16 offset_low, selector;
	u8 ist, type;
	u16 offset_middle;
	u32 offset_high, reserved;
};

struct __attribute__((packed)) gate_32 {
	u16 offset_low, selector;
	u8 zero, type;
	u16 offset_high;
};

const struct setup *setup_named(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(setups); i++)
		if (text_equal(name, setups[i].name))
			return &setups[i];
	return NULL;
}

void print_setups(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(setups); i++)
		print(" %s", setups[i].name);
}

bool vmwrite_optional(u32 field, u64 value)
{
	bool failed;

	asm volatile("vmwrite %1, %2" : "=@ccbe"(failed) : "rm"(value), "r"((u64)field) : "memory");
	return !failed;
}

static void fill_page_tables(const struct setup *setup)
{
	const u64 start = (u64)&guest, tables = PAGE_PRESENT | PAGE_WRITABLE | PAGE_ACCESSED;
	/* a PDPTE of PAE paging has fewer bits than the others */
	const u64 pdpte = setup->is_64_bit ? tables : PAGE_PRESENT;

	guest.pml4[0] = (u64)guest.pdpt | tables;
	guest.pdpt[0] = (u64)guest.pd | pdpte;
	guest.pd[start >> 21 & 511] = (u64)guest.pt | tables;
	for (u64 page = start; page < (u64)guest.pml4; page += PAGE_SIZE)
		guest.pt[page >> 12 & 511] = page | PAGE_PRESENT | PAGE_ACCESSED | PAGE_DIRTY;
	guest.pt[(u64)guest.stack >> 12 & 511] |= PAGE_WRITABLE;
}

static void fill_descriptors(const struct setup *setup)
{
	u64 *gdt = (u64 *)guest.descriptors;

	gdt[SEL_CODE32 / 8] = 0x00cf9b000000ffff;
	gdt[SEL_DATA / 8] = 0x00cf93000000ffff;
	gdt[SEL_CODE64 / 8] = 0x00af9b000000ffff;
	gdt[SEL_TSS / 8] = 0x0000890000000067;
	if (!setup->is_64_bit) {
		u32 *task = (u32 *)(guest.descriptors + PAGE_SIZE / 2);

		task[1] = (u32)(u64)guest.stack + PAGE_SIZE;
		task[2] = SEL_DATA;
	}
}

static void fill_vectors(const struct setup *setup, bool real)
{
	const u64 to = (u64)guest.code;
	struct gate_64 *wide = (struct gate_64 *)guest.vectors;
	struct gate_32 *narrow = (struct gate_32 *)guest.vectors;

	for (unsigned i = 0; i < 256; i++) {
		if (real)
			((u32 *)guest.vectors)[i] = LOWEST_CODE >> 4 << 16;
		else if (setup->is_64_bit)
			wide[i] = (struct gate_64){(u16)to, SEL_CODE64, 0, GATE_INTERRUPT, (u16)(to >> 16), 0, 0};
		else
			narrow[i] = (struct gate_32){(u16)to, SEL_CODE32, 0, GATE_INTERRUPT, (u16)(to >> 16)};
	}
}

static u64 make_ept(void)
{
	u64 *root = ept_create();

	for (u64 page = (u64)&guest; page < (u64)&guest + sizeof(guest); page += PAGE_SIZE)
		ept_map(root, page, page, EPT_READ | EPT_EXECUTE, PAGE_SIZE);
	ept_map(root, (u64)guest.stack, (u64)guest.stack, EPT_ALL, PAGE_SIZE);
	ept_map(root, LOWEST_CODE, (u64)guest.code, EPT_READ | EPT_EXECUTE, PAGE_SIZE);
	return ept_pointer(root);
}

static void write_controls(const struct setup *setup)
{
	u64 secondary = (setup->ept ? SECONDARY_EPT : 0) | (setup->unrestricted ? SECONDARY_UNRESTRICTED_GUEST : 0);
	struct vm_controls controls = {
		.pin = vmx_adjust(
			"pin-based", vmx_caps.pin, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_PREEMPTION_TIMER, 0),
		.primary = vmx_adjust("primary", vmx_caps.primary, secondary ? PRIMARY_SECONDARY_CONTROLS : 0, 0),
		.secondary = vmx_adjust("secondary", vmx_caps.secondary, secondary, setup->ept ? SECONDARY_VPID : 0),
		.exit = vmx_adjust("exit", vmx_caps.exit,
			EXIT_HOST_64_BIT | EXIT_SAVE_PAT | EXIT_LOAD_PAT | EXIT_SAVE_EFER | EXIT_LOAD_EFER, EXIT_LOAD_CET),
		.entry = vmx_adjust("entry", vmx_caps.entry,
			ENTRY_LOAD_PAT | ENTRY_LOAD_EFER | (setup->is_64_bit ? ENTRY_IA32E_GUEST : 0), ENTRY_LOAD_CET),
	};

	vmx_write_controls(&controls);
	vmwrite(EXCEPTION_BITMAP, 0xffffffff);
	vmwrite(PREEMPTION_TIMER_VALUE, 0);
	vmwrite(IO_BITMAP_A, (u64)io_bitmaps[0]);
	vmwrite(IO_BITMAP_B, (u64)io_bitmaps[1]);
	vmwrite(MSR_BITMAP, (u64)msr_bitmap);
	vmwrite(EXIT_MSR_STORE_ADDRESS, (u64)msr_lists[0]);
	vmwrite(EXIT_MSR_LOAD_ADDRESS, (u64)msr_lists[1]);
	vmwrite(ENTRY_MSR_LOAD_ADDRESS, (u64)msr_lists[2]);
	vmwrite_optional(VIRTUAL_APIC_ADDRESS, (u64)virtual_apic);
	vmwrite_optional(APIC_ACCESS_ADDRESS, (u64)apic_access);
	vmwrite_optional(PML_ADDRESS, (u64)page_log);
	vmwrite_optional(EPTP_LIST_ADDRESS, (u64)spare_pages[0]);
	vmwrite_optional(VMREAD_BITMAP, (u64)spare_pages[0]);
	vmwrite_optional(VMWRITE_BITMAP, (u64)spare_pages[0]);
	vmwrite_optional(SUB_PAGE_TABLE, (u64)spare_pages[0]);
	vmwrite_optional(TSC_MULTIPLIER, BIT(48));
	vmwrite_optional(TPR_THRESHOLD, 0);
	vmwrite_optional(VM_FUNCTION_CONTROLS, 0);
	vmwrite_optional(VPID, 1);
	vmwrite_optional(EPT_POINTER, setup->ept ? make_ept() : 0);
	vmwrite_optional(HOST_IA32_PERF_GLOBAL_CTRL, 0);
	vmwrite_optional(GUEST_IA32_PERF_GLOBAL_CTRL, 0);
	vmwrite(HOST_IA32_PAT, rdmsr(MSR_IA32_PAT));
	vmwrite(GUEST_IA32_PAT, rdmsr(MSR_IA32_PAT));
	vmwrite(GUEST_IA32_EFER, setup->is_64_bit ? EFER_LME | EFER_LMA : 0);
}

/* What real-address and virtual-8086 mode have for segments. */
static void write_small_segments(u64 rights)
{
	static const u16 first[] = {GUEST_ES_SELECTOR, GUEST_CS_SELECTOR, GUEST_SS_SELECTOR, GUEST_DS_SELECTOR,
		GUEST_FS_SELECTOR, GUEST_GS_SELECTOR};

	for (unsigned i = 0; i < ARRAY_SIZE(first); i++) {
		const u64 at = first[i] == GUEST_CS_SELECTOR ? LOWEST_CODE : (u64)guest.stack & 0xff000;

		vmwrite(first[i], at >> 4);
		vmwrite(GUEST_ES_BASE + 2 * i, at);
		vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff);
		vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, rights);
	}
	vmwrite(GUEST_RIP, 0);
	vmwrite(GUEST_RSP, PAGE_SIZE - 64);
}

static void write_guest_state(const struct setup *setup, bool real)
{
	u64 free = setup->unrestricted ? CR0_PE | CR0_PG : 0;
	u64 cr0 = (rdmsr(MSR_IA32_VMX_CR0_FIXED0) & ~free) | CR0_ET;

	if (setup->paging)
		cr0 |= CR0_PG;
	vmx_write_guest_defaults(
		setup->is_64_bit ? RIGHTS_CODE64 : RIGHTS_CODE32, setup->is_64_bit ? SEL_CODE64 : SEL_CODE32);
	vmwrite(GUEST_CR0, cr0 | (real ? 0 : CR0_PE));
	vmwrite(GUEST_CR3, (u64)(setup->is_64_bit ? guest.pml4 : guest.pdpt));
	vmwrite(GUEST_CR4, rdmsr(MSR_IA32_VMX_CR4_FIXED0) | CR4_PAE);
	vmwrite(GUEST_GDTR_BASE, (u64)guest.descriptors);
	vmwrite(GUEST_GDTR_LIMIT, 0x27);
	vmwrite(GUEST_IDTR_BASE, (u64)guest.vectors);
	vmwrite(GUEST_IDTR_LIMIT, real ? 0x3ff : setup->is_64_bit ? 0xfff : 0x7ff);
	vmwrite(GUEST_TR_BASE, (u64)guest.descriptors + PAGE_SIZE / 2);
	vmwrite(GUEST_RIP, (u64)guest.code);
	vmwrite(GUEST_RSP, (u64)guest.stack + PAGE_SIZE - 64);
	vmwrite(HOST_IA32_SYSENTER_EIP, (u64)guest.code);
	if (setup->ept)
		for (unsigned i = 0; i < 4; i++)
			vmwrite(GUEST_PDPTE0 + 2 * i, setup->paging && !setup->is_64_bit ? guest.pdpt[i] : 0);
	if (setup->virtual_8086) {
		vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_VM);
		write_small_segments(V86_RIGHTS);
	}
	if (real)
		write_small_segments(REAL_RIGHTS);
}

/* What the guest's tables are for. */
static const struct setup *made_for;

void world_reset_memory(void)
{
	static const struct msr_entry good[MSR_LIST_ENTRIES] = {
		{.msr = MSR_IA32_SYSENTER_CS, .value = 0x10},
		{.msr = MSR_IA32_KERNEL_GS_BASE, .value = 0x1234000},
		{.msr = MSR_IA32_STAR, .value = 0x1000000000},
		{.msr = MSR_IA32_LSTAR, .value = 0x400000},
	};

	for (unsigned list = 0; list < ARRAY_SIZE(msr_lists); list++)
		for (unsigned i = 0; i < MSR_LIST_ENTRIES; i++)
			msr_lists[list][i] = good[i];
	virtual_apic[VIRTUAL_TPR_OFFSET] = VIRTUAL_TPR;
	/* Entries get accessed flags, and a PDPTE must not have one. */
	fill_page_tables(made_for);
}

void world_forget_translations(void)
{
	const struct {
		u64 vpid, linear;
	} all = {0};

	if ((vmx_caps.ept_vpid & INVVPID_ALL_CONTEXTS) == INVVPID_ALL_CONTEXTS)
		asm volatile("invvpid %0, %1" : : "m"(all), "r"(2ull) : "cc", "memory");
}

void world_clear(void)
{
	enum vmx_result result;

	if ((result = vmclear(vmcs)) != VMX_SUCCEED)
		vmx_die("VMCLEAR", result);
	if ((result = vmptrld(vmcs)) != VMX_SUCCEED)
		vmx_die("VMPTRLD", result);
}

void world_create(const struct setup *setup)
{
	const bool real = setup->unrestricted && text_equal(setup->name, "real");

	made_for = setup;
	fill_descriptors(setup);
	fill_vectors(setup, real);
	world_reset_memory();
	vmx_init_region(vmcs);
	/* one of them can be linked to, the other not */
	vmx_init_region(spare_pages[0]);
	world_clear();
	vmx_write_host_state();
	write_controls(setup);
	write_guest_state(setup, real);
}
