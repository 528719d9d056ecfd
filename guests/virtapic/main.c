/*
 * virtapic: a VM with a virtual APIC. Its interrupts are virtual ones, that the CPU delivers and ends by itself; the host
 * hears only of what it asked to hear of, and of what the CPU cannot carry out.
 */
#include "console.h"
#include "ept.h"
#include "guest.h"
#include "machine.h"
#include "selectors.h"
#include "vmx.h"

#define MEMORY (16 * SIZE_2MB / 2) /* what the guest sees of physical memory, as it is */

static u8 vmcs[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static u32 virtual_apic[PAGE_SIZE / 4] __attribute__((aligned(PAGE_SIZE)));
static u8 guest_stack[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static struct guest_registers registers;
extern u8 gdt[];

static void write_controls(void)
{
	struct vm_controls controls = {
		.pin = vmx_adjust("pin-based", vmx_caps.pin, PIN_EXTERNAL_INTERRUPT_EXITING, 0),
		.primary = vmx_adjust("primary", vmx_caps.primary,
			PRIMARY_TPR_SHADOW | PRIMARY_SECONDARY_CONTROLS, 0),
		.secondary = vmx_adjust("secondary", vmx_caps.secondary,
			SECONDARY_APIC_ACCESSES | SECONDARY_EPT | SECONDARY_APIC_REGISTERS |
				SECONDARY_INTERRUPT_DELIVERY,
			0),
		.exit = vmx_adjust("exit", vmx_caps.exit, EXIT_HOST_64_BIT, 0),
		.entry = vmx_adjust("entry", vmx_caps.entry, ENTRY_IA32E_GUEST, 0),
	};
	u64 *ept = ept_create();

	vmx_write_controls(&controls);
	/* Accesses to the APIC are virtualized for sure only where EPT maps it by a 4-KB page (SDM vol. 3, "Issues
	 * Pertaining to Page Size and TLB Management"). */
	for (u64 page = 0; page < MEMORY; page += PAGE_SIZE)
		ept_map(ept, page, page, EPT_ALL, PAGE_SIZE);
	vmwrite(EPT_POINTER, ept_pointer(ept));
	vmwrite(VIRTUAL_APIC_ADDRESS, (u64)virtual_apic);
	vmwrite(APIC_ACCESS_ADDRESS, (u64)apic);
	for (unsigned i = 0; i < 4; i++)
		vmwrite(EOI_EXIT_BITMAP0 + 2 * i, 0);
	vmwrite(EOI_EXIT_BITMAP0 + 2 * (VECTOR_REPORTED / 64), BIT(VECTOR_REPORTED % 64));
}

/* One interrupt is requested when the guest begins. */
static void request(u8 vector)
{
	virtual_apic[(APIC_IRR + vector / 32 * 16) / 4] |= BIT(vector % 32);
	vmwrite(GUEST_INTERRUPT_STATUS, vector);
}

static void write_guest_state(void)
{
	struct table_register idtr = guest_idtr();

	vmx_write_guest_defaults(RIGHTS_CODE64, SEL_CODE64);
	vmwrite(GUEST_CR0, read_cr0());
	vmwrite(GUEST_CR3, read_cr3());
	vmwrite(GUEST_CR4, read_cr4());
	vmwrite(GUEST_GDTR_BASE, (u64)gdt);
	vmwrite(GUEST_GDTR_LIMIT, 0x27);
	vmwrite(GUEST_IDTR_BASE, idtr.base);
	vmwrite(GUEST_IDTR_LIMIT, idtr.limit);
	vmwrite(GUEST_RSP, (u64)guest_stack + PAGE_SIZE - 8);
	vmwrite(GUEST_RIP, (u64)guest_main);
	request(VECTOR_FIRST);
}

/* Says whether the guest goes on. */
static bool handle(u64 reason)
{
	u64 qualification = vmread(EXIT_QUALIFICATION);

	switch (reason) {
	case EXIT_VMCALL:
		return false;
	case EXIT_VIRTUALIZED_EOI:
		print("host: the guest has ended vector %#lx\n", qualification);
		return true;
	case EXIT_APIC_WRITE:
		print("host: the guest wrote %#x at %#lx\n", virtual_apic[qualification / 4], qualification);
		return true;
	case EXIT_APIC_ACCESS:
		print("host: the guest reads at %#lx\n", qualification);
		registers.rax = 0x1234;
		vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSTRUCTION_LENGTH));
		return true;
	default:
		print("host: exit reason %#lx, qualification %#lx, is not expected\n", reason, qualification);
		machine_end(END_FAILED);
	}
}

void main(void)
{
	enum vmx_result result;
	bool launched = false;

	vmx_on();
	vmx_init_region(vmcs);
	if (vmclear(vmcs) != VMX_SUCCEED || vmptrld(vmcs) != VMX_SUCCEED)
		vmx_die("VMPTRLD", VMX_FAIL_INVALID);
	vmx_write_host_state();
	write_controls();
	write_guest_state();
	do {
		result = vm_enter(&registers, launched);
		if (result != VMX_SUCCEED)
			vmx_die("VM entry", result);
		launched = true;
	} while (handle(vmread(EXIT_REASON)));
	vmx_off();
	machine_end(END_OK);
}
