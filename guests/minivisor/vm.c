#include "vm.h"

#include "console.h"
#include "machine.h"
#include "mistakes.h"
#include "protocol.h"
#include "selectors.h"

#define GUEST_GDT_LIMIT 0x27
#define IO_BITMAP_OPEN_PORT 0x80 /* the POST port: the guests may write it without an exit */

static u8 vmcs_regions[2][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static u8 io_bitmaps[2][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static u8 msr_bitmap[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static u8 large_page[SIZE_2MB] __attribute__((aligned(SIZE_2MB), section(".large")));

/* All ports exit but one; all MSRs belong to the guest but IA32_BIOS_SIGN_ID (and those that the bitmap
 * cannot name). */
static void fill_bitmaps(void)
{
	u8 *read_low = msr_bitmap, *write_low = msr_bitmap + 2048;

	for (unsigned i = 0; i < PAGE_SIZE; i++)
		io_bitmaps[0][i] = io_bitmaps[1][i] = 0xff;
	io_bitmaps[0][IO_BITMAP_OPEN_PORT / 8] &= (u8)~BIT(IO_BITMAP_OPEN_PORT % 8);
	read_low[MSR_IA32_BIOS_SIGN_ID / 8] |= BIT(MSR_IA32_BIOS_SIGN_ID % 8);
	write_low[MSR_IA32_BIOS_SIGN_ID / 8] |= BIT(MSR_IA32_BIOS_SIGN_ID % 8);
}

static void write_controls(const struct vm *vm, bool is_64_bit)
{
	struct vm_controls controls = {
		.pin = vmx_adjust(
			"pin-based", vmx_caps.pin, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING, 0),
		.primary = vmx_adjust("primary", vmx_caps.primary,
			PRIMARY_HLT_EXITING | PRIMARY_USE_IO_BITMAPS | PRIMARY_SECONDARY_CONTROLS,
			PRIMARY_USE_MSR_BITMAPS),
		.secondary = vmx_adjust("secondary", vmx_caps.secondary, SECONDARY_EPT, SECONDARY_VPID),
		.exit = vmx_adjust("exit", vmx_caps.exit, EXIT_HOST_64_BIT,
			EXIT_ACK_INTERRUPT | EXIT_SAVE_EFER | EXIT_LOAD_EFER),
		.entry = vmx_adjust(
			"entry", vmx_caps.entry, is_64_bit ? ENTRY_IA32E_GUEST : 0, ENTRY_LOAD_EFER),
	};

	vmx_write_controls(&controls);
	vmwrite(IO_BITMAP_A, (u64)io_bitmaps[0]);
	vmwrite(IO_BITMAP_B, (u64)io_bitmaps[1]);
	if (controls.primary & PRIMARY_USE_MSR_BITMAPS)
		vmwrite(MSR_BITMAP, (u64)msr_bitmap);
	vmwrite(EPT_POINTER, ept_pointer(vm->ept));
	if (controls.secondary & SECONDARY_VPID)
		vmwrite(VPID, 1 + vm->id - 'A');
	if (controls.entry & ENTRY_LOAD_EFER)
		vmwrite(GUEST_IA32_EFER, is_64_bit ? EFER_LME | EFER_LMA : 0);
}

static void write_guest_state(const struct guest_image *image)
{
	const u64 *pdptes = (const u64 *)(image->host_start + image->physical_cr3);

	vmx_write_guest_defaults(
		image->is_64_bit ? RIGHTS_CODE64 : RIGHTS_CODE32, image->is_64_bit ? SEL_CODE64 : SEL_CODE32);
	vmwrite(GUEST_CR0,
		(CR0_PE | CR0_PG | rdmsr(MSR_IA32_VMX_CR0_FIXED0)) & rdmsr(MSR_IA32_VMX_CR0_FIXED1));
	vmwrite(GUEST_CR4, (CR4_PAE | rdmsr(MSR_IA32_VMX_CR4_FIXED0)) & rdmsr(MSR_IA32_VMX_CR4_FIXED1));
	vmwrite(GUEST_CR3, image->physical_cr3);
	vmwrite(GUEST_GDTR_BASE, image->linear_gdt);
	vmwrite(GUEST_GDTR_LIMIT, GUEST_GDT_LIMIT);
	vmwrite(GUEST_RIP, image->linear_entry);
	vmwrite(GUEST_RSP, image->linear_stack);
	/* With EPT the CPU takes a PAE guest's PDPTEs from here, not from memory (SDM vol. 3, "Checks on
	 * guest page-directory-pointer-table entries"). */
	if (!image->is_64_bit)
		for (unsigned i = 0; i < 4; i++)
			vmwrite(GUEST_PDPTE0 + 2 * i, pdptes[i]);
}

static void map_memory(struct vm *vm, const struct guest_image *image)
{
	vm->ept = ept_create();
	for (u64 page = image->host_start; page < image->host_end; page += PAGE_SIZE)
		ept_map(vm->ept, page - image->host_start, page, EPT_ALL, PAGE_SIZE);
	if (vm->id == 'B')
		ept_map(vm->ept, GPA_LOG, (u64)page_alloc(), EPT_READ, PAGE_SIZE);
	else if (vmx_caps.ept_vpid & EPT_VPID_2MB_PAGES)
		ept_map(vm->ept, GPA_LARGE, (u64)large_page, EPT_READ | EPT_WRITE, SIZE_2MB);
	else
		ept_map(vm->ept, GPA_LARGE, (u64)large_page, EPT_READ | EPT_WRITE, PAGE_SIZE);
}

void vm_create(struct vm *vm, const struct guest_image *image)
{
	enum vmx_result result;

	vm->id = image->id;
	vm->vmcs = vmcs_regions[vm->id - 'A'];
	fill_bitmaps();
	map_memory(vm, image);

	vmx_init_region(vm->vmcs);
	if ((result = vmclear(vm->vmcs)) != VMX_SUCCEED)
		vmx_die("VMCLEAR", result);
	if ((result = vmptrld(vm->vmcs)) != VMX_SUCCEED)
		vmx_die("VMPTRLD", result);
	vmx_write_host_state();
	write_controls(vm, image->is_64_bit);
	write_guest_state(image);
	print("minivisor: guest %c: %s, linear %#lx is guest-physical 0 is host-physical %#lx, EPTP %#lx, "
	      "VMCS %#lx\n",
		vm->id, image->what, image->linear_base, image->host_start, vmread(EPT_POINTER),
		(u64)vm->vmcs);
}

void vm_run(struct vm *vm)
{
	enum vmx_result result = vmptrld(vm->vmcs);

	if (result != VMX_SUCCEED)
		vmx_die("VMPTRLD", result);
	if (vm->halted)
		inject_tick(vm);
	do {
		mistakes_before_entry(vm);
		result = vm_enter(&vm->registers, vm->launched);
		if (result != VMX_SUCCEED)
			vmx_die(vm->launched ? "VMRESUME" : "VMLAUNCH", result);
		vm->launched = true;
	} while (handle_exit(vm) == NEXT_RESUME);
}
