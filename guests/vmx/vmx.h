/* VMX operation, virtual machines, and entering them. */
#ifndef VMX_H
#define VMX_H

#include "cpu.h"
#include "vmcs.h"

/* How an instruction of VMX ended (SDM vol. 3, "Conventions"): RFLAGS all clear, CF, or ZF. */
enum vmx_result { VMX_SUCCEED, VMX_FAIL_INVALID, VMX_FAIL_VALID };

/* The registers that VM entry and exit leave to software. enter.S knows the order. */
struct guest_registers {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};

/* What this CPU allows, from its capability MSRs. */
struct vmx_capabilities {
	u64 basic, misc, ept_vpid;
	/* low half: bits that must be 1; high half: bits that may be 1 */
	u64 pin, primary, secondary, exit, entry;
};

/* The VM-execution, exit and entry controls of one machine. */
struct vm_controls {
	u32 pin, primary, secondary, exit, entry;
};

extern struct vmx_capabilities vmx_caps;
extern u8 vmxon_region[PAGE_SIZE];

/* Reads the capabilities and enters VMX operation. Ends the run, and says why, where that is not possible. */
void vmx_on(void);
void vmx_off(void);

/* The least change to `required` that the capability MSR value `caps` allows, with as many bits of `optional`
 * as are allowed. Ends the run when a required bit is not. */
u32 vmx_adjust(const char *what, u64 caps, u64 required, u64 optional);

/* Puts the revision identifier into a region of one page. */
void vmx_init_region(void *region);

/* Writes the host-state area from what the CPU has now; HOST_RSP is written at each entry, HOST_RIP is
 * vm_exit in enter.S. */
void vmx_write_host_state(void);

/* Writes `controls` to the current VMCS. */
void vmx_write_controls(const struct vm_controls *controls);

/* Guest state that all our guests share: flat segments, a TSS, no events pending. Code rights choose 64 or 32
 * bit. */
void vmx_write_guest_defaults(u32 code_rights, u16 code_selector);

/* VMLAUNCH, or VMRESUME: 0 when the guest ran and a VM exit followed, else the VMfail. In enter.S. */
enum vmx_result vm_enter(struct guest_registers *registers, bool resume);
void vm_exit(void);

enum vmx_result vmclear(const void *region);
enum vmx_result vmptrld(const void *region);
enum vmx_result vmxon(const void *region);

/* A failed VMREAD or VMWRITE is printed and ends the run. */
u64 vmread(enum vmcs_field field);
void vmwrite(enum vmcs_field field, u64 value);

/* Prints what an instruction reported when it did not succeed, and ends the run. */
_Noreturn void vmx_die(const char *what, enum vmx_result result);

#endif
