#include "vmx.h"

#include "console.h"
#include "machine.h"
#include "mistakes.h"
#include "selectors.h"

#define FEATURE_CONTROL_LOCKED BIT(0)
#define FEATURE_CONTROL_VMX BIT(2)
#define CPUID_1_ECX_VMX BIT(5)

struct vmx_capabilities vmx_caps;
u8 vmxon_region[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

static _Noreturn void no_vmx(const char *why)
{
	print("host: no VMX: %s\n", why);
	machine_end(END_NO_VMX);
}

#define VMX_INSTRUCTION(text, ...)                                                      \
	({                                                                              \
		bool cf, zf;                                                            \
		asm volatile(text : "=@ccc"(cf), "=@ccz"(zf) : __VA_ARGS__ : "memory"); \
		cf ? VMX_FAIL_INVALID : zf ? VMX_FAIL_VALID : VMX_SUCCEED;              \
	})

enum vmx_result vmxon(const void *region)
{
	u64 address = (u64)region;
	return VMX_INSTRUCTION("vmxon %2", "m"(address));
}

enum vmx_result vmclear(const void *region)
{
	u64 address = (u64)region;
	return VMX_INSTRUCTION("vmclear %2", "m"(address));
}

enum vmx_result vmptrld(const void *region)
{
	u64 address = (u64)region;
	return VMX_INSTRUCTION("vmptrld %2", "m"(address));
}

u64 vmread(enum vmcs_field field)
{
	u64 value;
	bool failed;

	asm volatile("vmread %2, %0" : "=rm"(value), "=@ccbe"(failed) : "r"((u64)field) : "memory");
	if (failed) {
		print("host: VMREAD of field %#x failed\n", field);
		machine_end(END_FAILED);
	}
	return value;
}

void vmwrite(enum vmcs_field field, u64 value)
{
	bool failed;

	asm volatile("vmwrite %1, %2" : "=@ccbe"(failed) : "rm"(value), "r"((u64)field) : "memory");
	if (failed) {
		print("host: VMWRITE of %#lx to field %#x failed\n", value, field);
		machine_end(END_FAILED);
	}
}

_Noreturn void vmx_die(const char *what, enum vmx_result result)
{
	mistakes_report_vmfail(what, result);
	if (result == VMX_FAIL_VALID)
		print("host: %s: VMfailValid, VM-instruction error %lu\n", what,
			vmread(VM_INSTRUCTION_ERROR));
	else
		print("host: %s: VMfailInvalid\n", what);
	machine_end(END_FAILED);
}

static void read_capabilities(void)
{
	bool true_controls;

	vmx_caps.basic = rdmsr(MSR_IA32_VMX_BASIC);
	vmx_caps.misc = rdmsr(MSR_IA32_VMX_MISC);
	true_controls = vmx_caps.basic & VMX_BASIC_TRUE_CONTROLS;
	vmx_caps.pin = rdmsr(true_controls ? MSR_IA32_VMX_TRUE_PINBASED_CTLS : MSR_IA32_VMX_PINBASED_CTLS);
	vmx_caps.primary =
		rdmsr(true_controls ? MSR_IA32_VMX_TRUE_PROCBASED_CTLS : MSR_IA32_VMX_PROCBASED_CTLS);
	vmx_caps.exit = rdmsr(true_controls ? MSR_IA32_VMX_TRUE_EXIT_CTLS : MSR_IA32_VMX_EXIT_CTLS);
	vmx_caps.entry = rdmsr(true_controls ? MSR_IA32_VMX_TRUE_ENTRY_CTLS : MSR_IA32_VMX_ENTRY_CTLS);
	if (vmx_caps.primary >> 32 & PRIMARY_SECONDARY_CONTROLS)
		vmx_caps.secondary = rdmsr(MSR_IA32_VMX_PROCBASED_CTLS2);
	/* this MSR exists only where a control of its own does */
	if (vmx_caps.secondary >> 32 & (SECONDARY_EPT | SECONDARY_VPID))
		vmx_caps.ept_vpid = rdmsr(MSR_IA32_VMX_EPT_VPID_CAP);
}

static void enable_vmx(void)
{
	u64 control = rdmsr(MSR_IA32_FEATURE_CONTROL);

	if (!(control & FEATURE_CONTROL_LOCKED))
		wrmsr(MSR_IA32_FEATURE_CONTROL, control | FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX);
	else if (!(control & FEATURE_CONTROL_VMX))
		no_vmx("the firmware locked it off (IA32_FEATURE_CONTROL bit 2 is 0, bit 0 is 1)");
	write_cr0((read_cr0() | rdmsr(MSR_IA32_VMX_CR0_FIXED0)) & rdmsr(MSR_IA32_VMX_CR0_FIXED1));
	write_cr4((read_cr4() | CR4_VMXE | rdmsr(MSR_IA32_VMX_CR4_FIXED0)) & rdmsr(MSR_IA32_VMX_CR4_FIXED1));
}

void vmx_init_region(void *region)
{
	*(u32 *)region = vmx_caps.basic & 0x7fffffff;
}

void vmx_on(void)
{
	enum vmx_result result;

	if (!(cpuid(1, 0).ecx & CPUID_1_ECX_VMX))
		no_vmx("CPUID.1:ECX bit 5 is 0, this CPU has no VT-x (or it is hidden)");
	read_capabilities();
	enable_vmx();
	vmx_init_region(vmxon_region);
	mistakes_before_vmxon();
	result = vmxon(vmxon_region);
	if (result != VMX_SUCCEED)
		vmx_die("VMXON", result);
	mistakes_after_vmxon();
}

void vmx_off(void)
{
	asm volatile("vmxoff" : : : "cc", "memory");
	write_cr4(read_cr4() & ~CR4_VMXE);
}

u32 vmx_adjust(const char *what, u64 caps, u64 required, u64 optional)
{
	u32 must = (u32)caps, may = (u32)(caps >> 32);

	if (required & ~may) {
		print("host: this CPU lacks %s controls %#lx\n", what, required & ~may);
		machine_end(END_NO_VMX);
	}
	return (u32)required | ((u32)optional & may) | must;
}

void vmx_write_host_state(void)
{
	struct table_register gdtr = read_gdtr(), idtr = read_idtr();
	extern u8 tss[];

	vmwrite(HOST_CR0, read_cr0());
	vmwrite(HOST_CR3, read_cr3());
	vmwrite(HOST_CR4, read_cr4());
	vmwrite(HOST_CS_SELECTOR, read_cs());
	vmwrite(HOST_SS_SELECTOR, read_ss());
	vmwrite(HOST_DS_SELECTOR, read_ss());
	vmwrite(HOST_ES_SELECTOR, read_ss());
	vmwrite(HOST_FS_SELECTOR, 0);
	vmwrite(HOST_GS_SELECTOR, 0);
	vmwrite(HOST_TR_SELECTOR, read_tr());
	vmwrite(HOST_FS_BASE, rdmsr(MSR_IA32_FS_BASE));
	vmwrite(HOST_GS_BASE, rdmsr(MSR_IA32_GS_BASE));
	vmwrite(HOST_TR_BASE, (u64)tss);
	vmwrite(HOST_GDTR_BASE, gdtr.base);
	vmwrite(HOST_IDTR_BASE, idtr.base);
	vmwrite(HOST_IA32_SYSENTER_CS, 0);
	vmwrite(HOST_IA32_SYSENTER_ESP, 0);
	vmwrite(HOST_IA32_SYSENTER_EIP, 0);
	vmwrite(HOST_RIP, (u64)vm_exit);
}

void vmx_write_controls(const struct vm_controls *controls)
{
	vmwrite(PIN_BASED_CONTROLS, controls->pin);
	vmwrite(PRIMARY_CONTROLS, controls->primary);
	if (controls->primary & PRIMARY_SECONDARY_CONTROLS)
		vmwrite(SECONDARY_CONTROLS, controls->secondary);
	vmwrite(EXIT_CONTROLS, controls->exit);
	vmwrite(ENTRY_CONTROLS, controls->entry);
	if (controls->exit & EXIT_LOAD_EFER)
		vmwrite(HOST_IA32_EFER, rdmsr(MSR_IA32_EFER));
	vmwrite(EXCEPTION_BITMAP, 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MASK, 0);
	vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, 0);
	vmwrite(CR0_GUEST_HOST_MASK, 0);
	vmwrite(CR4_GUEST_HOST_MASK, 0);
	vmwrite(CR3_TARGET_COUNT, 0);
	vmwrite(EXIT_MSR_STORE_COUNT, 0);
	vmwrite(EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(ENTRY_INTERRUPTION_INFO, 0);
}

void vmx_write_guest_defaults(u32 code_rights, u16 code_selector)
{
	static const struct {
		enum vmcs_field selector, base, limit, rights;
	} data[] = {
		{GUEST_SS_SELECTOR, GUEST_SS_BASE, GUEST_SS_LIMIT, GUEST_SS_ACCESS_RIGHTS},
		{GUEST_DS_SELECTOR, GUEST_DS_BASE, GUEST_DS_LIMIT, GUEST_DS_ACCESS_RIGHTS},
		{GUEST_ES_SELECTOR, GUEST_ES_BASE, GUEST_ES_LIMIT, GUEST_ES_ACCESS_RIGHTS},
		{GUEST_FS_SELECTOR, GUEST_FS_BASE, GUEST_FS_LIMIT, GUEST_FS_ACCESS_RIGHTS},
		{GUEST_GS_SELECTOR, GUEST_GS_BASE, GUEST_GS_LIMIT, GUEST_GS_ACCESS_RIGHTS},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
		vmwrite(data[i].selector, SEL_DATA);
		vmwrite(data[i].base, 0);
		vmwrite(data[i].limit, 0xffffffff);
		vmwrite(data[i].rights, RIGHTS_DATA);
	}
	vmwrite(GUEST_CS_SELECTOR, code_selector);
	vmwrite(GUEST_CS_BASE, 0);
	vmwrite(GUEST_CS_LIMIT, 0xffffffff);
	vmwrite(GUEST_CS_ACCESS_RIGHTS, code_rights);
	vmwrite(GUEST_TR_SELECTOR, SEL_TSS);
	vmwrite(GUEST_TR_BASE, 0);
	vmwrite(GUEST_TR_LIMIT, 0x67);
	vmwrite(GUEST_TR_ACCESS_RIGHTS, RIGHTS_TSS_BUSY);
	vmwrite(GUEST_LDTR_SELECTOR, 0);
	vmwrite(GUEST_LDTR_BASE, 0);
	vmwrite(GUEST_LDTR_LIMIT, 0);
	vmwrite(GUEST_LDTR_ACCESS_RIGHTS, RIGHTS_UNUSABLE);
	vmwrite(GUEST_IDTR_BASE, 0);
	vmwrite(GUEST_IDTR_LIMIT, 0);
	vmwrite(GUEST_IA32_DEBUGCTL, 0);
	vmwrite(GUEST_DR7, 0x400);
	vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
	vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
	vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
	vmwrite(GUEST_ACTIVITY_STATE, 0);
	vmwrite(GUEST_IA32_SYSENTER_CS, 0);
	vmwrite(GUEST_IA32_SYSENTER_ESP, 0);
	vmwrite(GUEST_IA32_SYSENTER_EIP, 0);
	vmwrite(VMCS_LINK_POINTER, ~0ull);
}
