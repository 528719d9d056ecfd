/* A VM that does nothing but exit. It has no EPT and shares the host's page tables, so the cost is that of
 * the exit and entry alone. */
#include "console.h"
#include "machine.h"
#include "parts.h"
#include "selectors.h"
#include "vmx.h"

static u8 vmcs[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static struct guest_registers registers;
extern u8 gdt[];
void vmexit_guest(void);

/* The guest: R12 times CPUID, the sum of what comes back in EAX in R13; then VMCALL. */
asm(".pushsection .text\n"
    ".type vmexit_guest, @function\n"
    "vmexit_guest:\n"
    "1:	cpuid\n"
    "	add %rax, %r13\n"
    "	dec %r12\n"
    "	jnz 1b\n"
    "	vmcall\n"
    ".size vmexit_guest, . - vmexit_guest\n"
    ".popsection");

static void prepare(u32 primary, u32 secondary)
{
	struct vm_controls controls;

	vmx_on();
	controls = (struct vm_controls){
		.pin = vmx_adjust("pin-based", vmx_caps.pin, 0, 0),
		.primary = vmx_adjust("primary", vmx_caps.primary, primary, 0),
		.secondary = secondary ? vmx_adjust("secondary", vmx_caps.secondary, secondary, 0) : 0,
		.exit = vmx_adjust("exit", vmx_caps.exit, EXIT_HOST_64_BIT, 0),
		.entry = vmx_adjust("entry", vmx_caps.entry, ENTRY_IA32E_GUEST, 0),
	};
	vmx_init_region(vmcs);
	if (vmclear(vmcs) != VMX_SUCCEED || vmptrld(vmcs) != VMX_SUCCEED)
		vmx_die("VMPTRLD", VMX_FAIL_INVALID);
	vmx_write_host_state();
	vmx_write_controls(&controls);
	vmx_write_guest_defaults(RIGHTS_CODE64, SEL_CODE64);
	vmwrite(GUEST_CR0, read_cr0());
	vmwrite(GUEST_CR3, read_cr3());
	vmwrite(GUEST_CR4, read_cr4());
	vmwrite(GUEST_GDTR_BASE, (u64)gdt);
	vmwrite(GUEST_GDTR_LIMIT, 0x27);
	vmwrite(GUEST_RSP, 0); /* the guest has no stack, and no use for one */
	vmwrite(GUEST_RIP, (u64)vmexit_guest);
}

void prepare_vmexit(void)
{
	prepare(0, 0);
}

/* With a VPID, translations outlive exits and entries. */
void prepare_vmexit_vpid(void)
{
	prepare(PRIMARY_SECONDARY_CONTROLS, SECONDARY_VPID);
	vmwrite(VPID, 1);
}

/* Three VMREADs and one VMWRITE for a CPUID. Says whether the guest goes on. */
static bool handle(u64 number)
{
	u64 reason = vmread(EXIT_REASON);

	if (reason == EXIT_VMCALL)
		return false;
	if (reason != EXIT_CPUID) {
		print("bench: exit reason %#lx, qualification %#lx, is not expected\n", reason,
			vmread(EXIT_QUALIFICATION));
		machine_end(END_FAILED);
	}
	registers.rax = number;
	vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSTRUCTION_LENGTH));
	return true;
}

u64 run_vmexit(u64 n)
{
	enum vmx_result result;
	u64 exits = 0;

	registers.r12 = n;
	registers.r13 = 0;
	do {
		result = vm_enter(&registers, exits != 0);
		if (result != VMX_SUCCEED)
			vmx_die("VM entry", result);
	} while (handle(++exits));
	return registers.r13;
}
