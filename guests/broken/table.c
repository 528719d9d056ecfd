#include "table.h"

#include "machine.h"
#include "protocol.h"

#define ALL (~0ull)
#define NON_CANONICAL BIT(62) /* with 48 and with 57 bits of linear address */
#define BEYOND_PHYSICAL BIT(55)
#define SEGMENT_TYPE_EXECUTABLE BIT(3)
#define SEGMENT_TYPE_BUSY BIT(1)
#define SEGMENT_D BIT(14)
#define EPTP_MEMORY_TYPE 7
#define EPTP_WALK_LENGTH 0x38
#define EPT_ADDRESS 0x000ffffffffff000ull
#define JUMP_TO_ITSELF 0xfeeb
#define EPT_PRESENT_WRITE_ONLY (EPT_READ | EPT_EXECUTE)

struct msr_entry {
	u32 msr, reserved;
	u64 value;
};

static u8 spare_region[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static struct msr_entry msr_area[1] __attribute__((aligned(16)));

static enum vmx_result vmxon_without_vmxe(struct vm *vm)
{
	(void)vm;
	write_cr4(read_cr4() & ~CR4_VMXE);
	return VMX_SUCCEED;
}

static enum vmx_result vmxon_without_ne(struct vm *vm)
{
	(void)vm;
	write_cr0(read_cr0() & ~CR0_NE);
	return VMX_SUCCEED;
}

static enum vmx_result vmxon_wrong_revision(struct vm *vm)
{
	(void)vm;
	*(u32 *)vmxon_region ^= 1;
	return VMX_SUCCEED;
}

static enum vmx_result vmxon_not_aligned(struct vm *vm)
{
	(void)vm;
	return vmxon(vmxon_region + 8);
}

static enum vmx_result vmread_before_vmxon(struct vm *vm)
{
	(void)vm;
	vmread(EXIT_REASON);
	return VMX_SUCCEED;
}

static enum vmx_result vmptrld_without_current(struct vm *vm)
{
	(void)vm;
	vmx_init_region(spare_region);
	return vmptrld(spare_region + 8);
}

static enum vmx_result vmxon_again(struct vm *vm)
{
	(void)vm;
	return vmxon(vmxon_region);
}

static enum vmx_result vmptrld_not_aligned(struct vm *vm)
{
	(void)vm;
	return vmptrld(spare_region + 8);
}

static enum vmx_result vmptrld_vmxon_region(struct vm *vm)
{
	(void)vm;
	return vmptrld(vmxon_region);
}

static enum vmx_result vmclear_vmxon_region(struct vm *vm)
{
	(void)vm;
	return vmclear(vmxon_region);
}

static enum vmx_result vmptrld_wrong_revision(struct vm *vm)
{
	(void)vm;
	vmx_init_region(spare_region);
	*(u32 *)spare_region ^= 1;
	return vmptrld(spare_region);
}

static enum vmx_result deliver_without_exiting(struct vm *vm)
{
	(void)vm;
	vmwrite(PIN_BASED_CONTROLS, vmread(PIN_BASED_CONTROLS) & ~PIN_EXTERNAL_INTERRUPT_EXITING);
	vmwrite(PRIMARY_CONTROLS, vmread(PRIMARY_CONTROLS) | PRIMARY_TPR_SHADOW);
	vmwrite(SECONDARY_CONTROLS, vmread(SECONDARY_CONTROLS) | SECONDARY_INTERRUPT_DELIVERY);
	vmwrite(VIRTUAL_APIC_ADDRESS, (u64)spare_region);
	return VMX_SUCCEED;
}

static enum vmx_result apic_on_stack(struct vm *vm)
{
	u64 top = vmread(GUEST_RSP) - sizeof(u64) - GUEST_A_LINEAR;

	vmwrite(SECONDARY_CONTROLS, vmread(SECONDARY_CONTROLS) | SECONDARY_APIC_ACCESSES);
	vmwrite(APIC_ACCESS_ADDRESS, *ept_entry(vm->ept, top) & ~(PAGE_SIZE - 1));
	return VMX_SUCCEED;
}

static enum vmx_result flags_result(bool cf, bool zf)
{
	return cf ? VMX_FAIL_INVALID : zf ? VMX_FAIL_VALID : VMX_SUCCEED;
}

static enum vmx_result vmread_no_such_field(struct vm *vm)
{
	u64 value;
	bool cf, zf;

	(void)vm;
	asm volatile("vmread %3, %0" : "=r"(value), "=@ccc"(cf), "=@ccz"(zf) : "r"(0x4ffeull) : "memory");
	return flags_result(cf, zf);
}

static enum vmx_result vmcall_in_root(struct vm *vm)
{
	bool cf, zf;

	(void)vm;
	asm volatile("vmcall" : "=@ccc"(cf), "=@ccz"(zf) : "a"(0) : "memory");
	return flags_result(cf, zf);
}

static enum vmx_result invept_bad_type(struct vm *vm)
{
	struct {
		u64 eptp, reserved;
	} descriptor = {ept_pointer(vm->ept), 0};
	bool cf, zf;

	asm volatile("invept %2, %3" : "=@ccc"(cf), "=@ccz"(zf) : "m"(descriptor), "r"(7ull) : "memory");
	return flags_result(cf, zf);
}

static enum vmx_result vmlaunch_after_mov_ss(struct vm *vm)
{
	bool cf, zf;
	u32 selector;

	(void)vm;
	asm volatile("mov %%ss, %2; mov %2, %%ss; vmlaunch"
		: "=@ccc"(cf), "=@ccz"(zf), "=&r"(selector)
		:
		: "memory");
	return flags_result(cf, zf);
}

static enum vmx_result forget_vmptrld(struct vm *vm)
{
	return vmclear(vm->vmcs); /* leaves no VMCS current */
}

static enum vmx_result claim_launched(struct vm *vm)
{
	vm->launched = true;
	return VMX_SUCCEED;
}

static enum vmx_result claim_not_launched(struct vm *vm)
{
	vm->launched = false;
	return VMX_SUCCEED;
}

/* Starts the VM afresh, in the region of the one that ran, but without VMCLEAR. */
static enum vmx_result forget_vmclear(struct vm *vm)
{
	vm->launched = false;
	return vmptrld(vm->vmcs);
}

static enum vmx_result misalign_msr_bitmap(struct vm *vm)
{
	(void)vm;
	vmwrite(PRIMARY_CONTROLS, vmread(PRIMARY_CONTROLS) | PRIMARY_USE_MSR_BITMAPS);
	vmwrite(MSR_BITMAP, vmread(MSR_BITMAP) | 8);
	return VMX_SUCCEED;
}

static enum vmx_result zero_vpid(struct vm *vm)
{
	(void)vm;
	vmwrite(SECONDARY_CONTROLS, vmread(SECONDARY_CONTROLS) | SECONDARY_VPID);
	vmwrite(VPID, 0);
	return VMX_SUCCEED;
}

/* IA32_FS_BASE may not be in the list: it belongs to a field of the VMCS. */
static void write_bad_msr_area(enum vmcs_field address, enum vmcs_field count)
{
	msr_area[0] = (struct msr_entry){.msr = MSR_IA32_FS_BASE};
	vmwrite(address, (u64)msr_area);
	vmwrite(count, 1);
}

static enum vmx_result bad_entry_msr_load(struct vm *vm)
{
	(void)vm;
	write_bad_msr_area(ENTRY_MSR_LOAD_ADDRESS, ENTRY_MSR_LOAD_COUNT);
	return VMX_SUCCEED;
}

static enum vmx_result bad_exit_msr_load(struct vm *vm)
{
	(void)vm;
	write_bad_msr_area(EXIT_MSR_LOAD_ADDRESS, EXIT_MSR_LOAD_COUNT);
	return VMX_SUCCEED;
}

static enum vmx_result empty_ept(struct vm *vm)
{
	vm->ept = ept_create();
	vmwrite(EPT_POINTER, ept_pointer(vm->ept));
	return VMX_SUCCEED;
}

static enum vmx_result write_only_ept(struct vm *vm)
{
	*ept_entry(vm->ept, vmread(GUEST_RIP) - GUEST_A_LINEAR) &= ~EPT_PRESENT_WRITE_ONLY;
	return VMX_SUCCEED;
}

static enum vmx_result fault_without_idt(struct vm *vm)
{
	const struct table_register none = {0, 0};

	(void)vm;
	load_idt(&none);
	asm volatile("ud2");
	return VMX_SUCCEED;
}

/* The exit handler does nothing. */
static enum vmx_result handle_nothing(struct vm *vm)
{
	enum vmx_result result;

	while ((result = vm_enter(&vm->registers, vm->launched)) == VMX_SUCCEED)
		vm->launched = true;
	return result;
}

/* The guest waits in a loop, and no control takes it off the CPU. */
static enum vmx_result busy_guest(struct vm *vm)
{
	u64 rip = vmread(GUEST_RIP), page = *ept_entry(vm->ept, rip - GUEST_A_LINEAR) & EPT_ADDRESS;

	*(u16 *)(page | (rip & (PAGE_SIZE - 1))) = JUMP_TO_ITSELF;
	vmwrite(PIN_BASED_CONTROLS, vmread(PIN_BASED_CONTROLS) & ~PIN_EXTERNAL_INTERRUPT_EXITING);
	return handle_nothing(vm);
}

/* The page of the guest's next instruction is taken out of the EPT; the CPU has its translation still. */
static enum vmx_result forget_invept(struct vm *vm)
{
	*ept_entry(vm->ept, vmread(GUEST_RIP) - GUEST_A_LINEAR) &= ~EPT_ALL;
	return handle_nothing(vm);
}

#define FAIL_INVALID OUTCOME_VMFAIL_INVALID, 0
#define FAIL(n) OUTCOME_VMFAIL_VALID, VMERROR_##n
#define BAD_GUEST_STATE OUTCOME_ENTRY_FAILURE, EXIT_INVALID_GUEST_STATE
#define SET(f, bits) .field = f, .set = bits
#define CLEAR(f, bits) .field = f, .clear = bits
#define STORE(f, value) .field = f, .clear = ALL, .set = value

/* clang-format off */
const struct mistake mistakes[] = {
	/* entering VMX operation */
	{"no-vmxe", "CR4.VMXE is 0 at VMXON",
	 OUTCOME_EXCEPTION, VECTOR_UD, STAGE_BEFORE_VMXON, .make = vmxon_without_vmxe},
	{"cr0-ne", "CR0.NE, a fixed bit, is 0 at VMXON",
	 OUTCOME_EXCEPTION, VECTOR_GP, STAGE_BEFORE_VMXON, .make = vmxon_without_ne},
	{"vmread-before-vmxon", "VMREAD outside VMX operation",
	 OUTCOME_EXCEPTION, VECTOR_UD, STAGE_BEFORE_VMXON, .make = vmread_before_vmxon},
	{"vmxon-revision", "the VMXON region has another revision identifier",
	 FAIL_INVALID, STAGE_BEFORE_VMXON, .make = vmxon_wrong_revision},
	{"vmxon-misaligned", "the VMXON region is not on a 4-KB boundary",
	 FAIL_INVALID, STAGE_BEFORE_VMXON, .make = vmxon_not_aligned},
	{"vmxon-twice", "VMXON in VMX root operation",
	 FAIL(VMXON_IN_ROOT), .make = vmxon_again},

	/* the VMCS as an object */
	{"vmptrld-first", "VMPTRLD of a misaligned VMCS, with no VMCS current",
	 FAIL_INVALID, STAGE_AFTER_VMXON, .make = vmptrld_without_current},
	{"vmptrld-misaligned", "VMPTRLD of a region that is not on a 4-KB boundary",
	 FAIL(VMPTRLD_ADDRESS), .make = vmptrld_not_aligned},
	{"vmptrld-vmxon-pointer", "VMPTRLD of the VMXON region",
	 FAIL(VMPTRLD_VMXON_POINTER), .make = vmptrld_vmxon_region},
	{"vmclear-vmxon-pointer", "VMCLEAR of the VMXON region",
	 FAIL(VMCLEAR_VMXON_POINTER), .make = vmclear_vmxon_region},
	{"vmcs-revision", "the VMCS region has another revision identifier",
	 FAIL(VMPTRLD_REVISION), .make = vmptrld_wrong_revision},
	{"vmread-no-such-field", "VMREAD of field 0x4ffe, which no CPU has",
	 FAIL(UNSUPPORTED_FIELD), .make = vmread_no_such_field},
	{"vmcall-in-root", "VMCALL in VMX root operation",
	 FAIL(VMCALL_IN_ROOT), .make = vmcall_in_root},
	{"invept-type", "INVEPT type 7",
	 FAIL(INVEPT_OPERAND), .make = invept_bad_type},
	{"no-vmptrld", "no VMCS is current at the VM entry",
	 FAIL_INVALID, .make = forget_vmptrld},
	{"vmresume-not-launched", "VMRESUME of a VMCS that was not launched",
	 FAIL(VMRESUME_NOT_LAUNCHED), .make = claim_launched},
	{"vmlaunch-not-clear", "VMLAUNCH again instead of VMRESUME",
	 FAIL(VMLAUNCH_NOT_CLEAR), STAGE_FIRST_EXIT, .make = claim_not_launched},
	{"no-vmclear", "a VMCS that was launched is used for a new VM without VMCLEAR",
	 FAIL(VMLAUNCH_NOT_CLEAR), STAGE_FIRST_EXIT, .make = forget_vmclear},
	{"mov-ss-blocking", "VMLAUNCH right after MOV SS",
	 FAIL(ENTRY_MOV_SS), .make = vmlaunch_after_mov_ss},

	/* VM-execution, exit and entry controls */
	{"missing-control", "pin-based control 1, which must be 1, is 0",
	 FAIL(ENTRY_CONTROLS), CLEAR(PIN_BASED_CONTROLS, BIT(1))},
	{"unsupported-control", "pin-based control 31, which no CPU has, is 1",
	 FAIL(ENTRY_CONTROLS), SET(PIN_BASED_CONTROLS, BIT(31))},
	{"virtual-nmis", "virtual NMIs without NMI exiting",
	 FAIL(ENTRY_CONTROLS), .field = PIN_BASED_CONTROLS, .clear = PIN_NMI_EXITING,
	 .set = PIN_VIRTUAL_NMIS},
	{"cr3-target-count", "511 CR3-target values",
	 FAIL(ENTRY_CONTROLS), STORE(CR3_TARGET_COUNT, 511)},
	{"io-bitmap-misaligned", "I/O bitmap A is not on a 4-KB boundary",
	 FAIL(ENTRY_CONTROLS), SET(IO_BITMAP_A, 8)},
	{"msr-bitmap-misaligned", "the MSR bitmap is not on a 4-KB boundary",
	 FAIL(ENTRY_CONTROLS), .make = misalign_msr_bitmap},
	{"eptp-memory-type", "memory type 2, which is reserved, in the EPT pointer",
	 FAIL(ENTRY_CONTROLS), .field = EPT_POINTER, .clear = EPTP_MEMORY_TYPE, .set = 2},
	{"eptp-walk-length", "a page walk of length 1 in the EPT pointer",
	 FAIL(ENTRY_CONTROLS), CLEAR(EPT_POINTER, EPTP_WALK_LENGTH)},
	{"apic-registers", "APIC-register virtualization without a TPR shadow",
	 FAIL(ENTRY_CONTROLS), SET(SECONDARY_CONTROLS, SECONDARY_APIC_REGISTERS)},
	{"interrupt-delivery", "virtual-interrupt delivery without external-interrupt exiting",
	 FAIL(ENTRY_CONTROLS), .make = deliver_without_exiting},
	{"posted-interrupts", "posted interrupts without virtual-interrupt delivery",
	 FAIL(ENTRY_CONTROLS), SET(PIN_BASED_CONTROLS, PIN_POSTED_INTERRUPTS)},
	{"vpid-zero", "VPID 0 with VPIDs enabled",
	 FAIL(ENTRY_CONTROLS), .make = zero_vpid},
	{"entry-interruption-info", "injection of an event of type 1, which is reserved",
	 FAIL(ENTRY_CONTROLS), STORE(ENTRY_INTERRUPTION_INFO, INTERRUPTION_VALID | INTERRUPTION_TYPE(1) |
	 VECTOR_TICK)},
	{"entry-exception-vector", "injection of a hardware exception with vector 32",
	 FAIL(ENTRY_CONTROLS), STORE(ENTRY_INTERRUPTION_INFO,
	 INTERRUPTION_VALID | INTERRUPTION_TYPE(TYPE_HARDWARE_EXCEPTION) | VECTOR_TICK)},

	/* host state */
	{"host-selector-rpl", "the host's DS selector has RPL 3",
	 FAIL(ENTRY_HOST_STATE), SET(HOST_DS_SELECTOR, 3)},
	{"host-cs-null", "the host's CS selector is 0",
	 FAIL(ENTRY_HOST_STATE), STORE(HOST_CS_SELECTOR, 0)},
	{"host-tr-null", "the host's TR selector is 0",
	 FAIL(ENTRY_HOST_STATE), STORE(HOST_TR_SELECTOR, 0)},
	{"host-cr4", "the host's CR4.VMXE, a fixed bit, is 0",
	 FAIL(ENTRY_HOST_STATE), CLEAR(HOST_CR4, CR4_VMXE)},
	{"host-cr0", "the host's CR0.NE, a fixed bit, is 0",
	 FAIL(ENTRY_HOST_STATE), CLEAR(HOST_CR0, CR0_NE)},
	{"host-rip-noncanonical", "the host's RIP is not canonical",
	 FAIL(ENTRY_HOST_STATE), SET(HOST_RIP, NON_CANONICAL)},
	{"host-tr-base-noncanonical", "the host's TR base is not canonical",
	 FAIL(ENTRY_HOST_STATE), SET(HOST_TR_BASE, NON_CANONICAL)},
	{"host-address-space", "the exit control host-address-space size is 0 in a 64-bit host",
	 FAIL(ENTRY_HOST_STATE), CLEAR(EXIT_CONTROLS, EXIT_HOST_64_BIT)},

	/* guest state */
	{"tr-type", "the guest's TSS is available (type 9), not busy (type 11)",
	 BAD_GUEST_STATE, CLEAR(GUEST_TR_ACCESS_RIGHTS, SEGMENT_TYPE_BUSY)},
	{"tr-unusable", "the guest's TR is unusable",
	 BAD_GUEST_STATE, SET(GUEST_TR_ACCESS_RIGHTS, RIGHTS_UNUSABLE)},
	{"tss-base-noncanonical", "the guest's TR base is not canonical",
	 BAD_GUEST_STATE, SET(GUEST_TR_BASE, NON_CANONICAL)},
	{"activity-state", "the guest's activity state was never written and holds 0xcccccccc",
	 BAD_GUEST_STATE, STORE(GUEST_ACTIVITY_STATE, 0xcccccccc)},
	{"cr4-fixed", "the guest's CR4.VMXE, a fixed bit, is 0",
	 BAD_GUEST_STATE, CLEAR(GUEST_CR4, CR4_VMXE)},
	{"cr0-fixed", "the guest's CR0.NE, a fixed bit, is 0",
	 BAD_GUEST_STATE, CLEAR(GUEST_CR0, CR0_NE)},
	{"cr0-pe-pg", "the guest has paging (CR0.PG) without protection (CR0.PE)",
	 BAD_GUEST_STATE, CLEAR(GUEST_CR0, CR0_PE)},
	{"cr4-pae", "a guest in IA-32e mode without CR4.PAE",
	 BAD_GUEST_STATE, CLEAR(GUEST_CR4, CR4_PAE)},
	{"guest-cr3", "the guest's CR3 is beyond the physical-address width",
	 BAD_GUEST_STATE, SET(GUEST_CR3, BEYOND_PHYSICAL)},
	{"guest-efer-lma", "the guest's EFER.LMA is 0, its entry control IA-32e mode guest is 1",
	 BAD_GUEST_STATE, CLEAR(GUEST_IA32_EFER, EFER_LMA)},
	{"guest-rip-noncanonical", "the guest's RIP is not canonical",
	 BAD_GUEST_STATE, SET(GUEST_RIP, NON_CANONICAL)},
	{"guest-rip-32-bit", "bit 32 of a 32-bit guest's RIP is 1",
	 BAD_GUEST_STATE, .vm = 'B', SET(GUEST_RIP, BIT(32))},
	{"guest-cs-type", "the guest's CS is a data segment",
	 BAD_GUEST_STATE, CLEAR(GUEST_CS_ACCESS_RIGHTS, SEGMENT_TYPE_EXECUTABLE)},
	{"guest-cs-l-and-d", "the guest's CS has both L and D",
	 BAD_GUEST_STATE, SET(GUEST_CS_ACCESS_RIGHTS, SEGMENT_D)},
	{"guest-ss-rpl", "the guest's SS selector has RPL 3, its CS selector RPL 0",
	 BAD_GUEST_STATE, SET(GUEST_SS_SELECTOR, 3)},
	{"guest-ds-limit", "the guest's DS has a limit in bytes, but G is 1",
	 BAD_GUEST_STATE, STORE(GUEST_DS_LIMIT, 0xffff0000)},
	{"guest-gdtr-limit", "the guest's GDTR limit has more than 16 bits",
	 BAD_GUEST_STATE, SET(GUEST_GDTR_LIMIT, BIT(16))},
	{"rflags-reserved", "the guest's RFLAGS bit 1 is 0",
	 BAD_GUEST_STATE, CLEAR(GUEST_RFLAGS, RFLAGS_FIXED)},
	{"interrupt-with-if-clear", "an external interrupt is injected while the guest's RFLAGS.IF is 0",
	 BAD_GUEST_STATE, STORE(ENTRY_INTERRUPTION_INFO, INTERRUPTION_VALID | VECTOR_TICK)},
	{"interruptibility-state", "blocking by STI and by MOV SS at once",
	 BAD_GUEST_STATE, SET(GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)},
	{"vmcs-link-pointer", "the VMCS link pointer is 8, not all ones",
	 BAD_GUEST_STATE, STORE(VMCS_LINK_POINTER, 8)},
	{"pdpte-reserved", "a reserved bit in a PDPTE of a PAE guest",
	 BAD_GUEST_STATE, .vm = 'B', SET(GUEST_PDPTE2, BIT(1))},
	{"msr-load-bad", "IA32_FS_BASE in the list of MSRs to load on VM entry",
	 OUTCOME_ENTRY_FAILURE, EXIT_MSR_LOADING, .make = bad_entry_msr_load},

	/* the entry succeeds, but */
	{"apic-access-page", "the APIC-access page is the guest's stack",
	 OUTCOME_VM_EXIT, EXIT_APIC_ACCESS, .make = apic_on_stack},
	{"ept-empty", "nothing is mapped in the EPT",
	 OUTCOME_VM_EXIT, EXIT_EPT_VIOLATION, .make = empty_ept},
	{"ept-write-only", "an EPT entry allows writes but not reads",
	 OUTCOME_VM_EXIT, EXIT_EPT_MISCONFIGURATION, .make = write_only_ept},
	{"guest-page-tables", "the guest's CR3 points to a page that holds no page table",
	 OUTCOME_VM_EXIT, EXIT_TRIPLE_FAULT, STORE(GUEST_CR3, GPA_LARGE)},
	{"exit-handler-triple-fault", "the exit handler faults while the IDT is empty",
	 OUTCOME_SHUTDOWN, 0, STAGE_FIRST_EXIT, .make = fault_without_idt},
	{"exit-msr-load-bad", "IA32_FS_BASE in the list of MSRs to load on VM exit: a VMX abort",
	 OUTCOME_SHUTDOWN, 0, .make = bad_exit_msr_load},

	/* nothing fails, but */
	{"rip-not-advanced", "the exit handler does not advance the guest's RIP past an instruction",
	 OUTCOME_RUNS_ON, 0, .make = handle_nothing},
	{"guest-without-exit", "the guest is in a loop, and no control makes it exit",
	 OUTCOME_RUNS_ON, 0, .make = busy_guest},
	{"invept-forgotten", "a page is taken out of the EPT without INVEPT",
	 OUTCOME_RUNS_ON, 0, STAGE_FIRST_EXIT, .make = forget_invept},
};

/* clang-format on */
const unsigned mistake_count = ARRAY_SIZE(mistakes);
