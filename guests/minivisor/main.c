/* minivisor: runs two guests, each in a VM of its own, in turn until both are done. */
#include "console.h"
#include "machine.h"
#include "mistakes.h"
#include "protocol.h"
#include "vm.h"

/* From image.ld and the guests. */
extern u8 guest_a_start[], guest_a_end[], guest_b_start[], guest_b_end[];
extern u8 guest_a_entry[], guest_a_stack_top[], guest_a_gdt[], guest_a_pml4[];
extern u8 guest_b_entry[], guest_b_stack_top[], guest_b_gdt[], guest_b_pdpt[];

static struct vm vms[2];

static void create_vms(void)
{
	const struct guest_image images[] = {
		{
			.id = 'A',
			.what = "64-bit, 4-level paging",
			.host_start = (u64)guest_a_start,
			.host_end = (u64)guest_a_end,
			.linear_base = GUEST_A_LINEAR,
			.linear_entry = (u64)guest_a_entry,
			.linear_stack = (u64)guest_a_stack_top,
			.linear_gdt = (u64)guest_a_gdt,
			.physical_cr3 = (u64)guest_a_pml4 - GUEST_A_LINEAR,
			.is_64_bit = true,
		},
		{
			.id = 'B',
			.what = "32-bit, PAE paging",
			.host_start = (u64)guest_b_start,
			.host_end = (u64)guest_b_end,
			.linear_base = GUEST_B_LINEAR,
			.linear_entry = (u64)guest_b_entry,
			.linear_stack = (u64)guest_b_stack_top,
			.linear_gdt = (u64)guest_b_gdt,
			.physical_cr3 = (u64)guest_b_pdpt - GUEST_B_LINEAR,
			.is_64_bit = false,
		},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(vms); i++)
		vm_create(&vms[i], &images[i]);
}

void main(void)
{
	bool running = true, stopped = false;

	print("minivisor: a small VMX hypervisor\n");
	mistakes_init();
	vmx_on();
	print("minivisor: VMX revision %#lx, %s control MSRs, %s%s%s\n", vmx_caps.basic & 0x7fffffff,
		vmx_caps.basic & VMX_BASIC_TRUE_CONTROLS ? "TRUE" : "plain",
		vmx_caps.secondary >> 32 & SECONDARY_EPT ? "EPT" : "no EPT",
		vmx_caps.ept_vpid & EPT_VPID_2MB_PAGES ? " with 2-MB pages" : "",
		vmx_caps.secondary >> 32 & SECONDARY_VPID ? ", VPID" : "");
	create_vms();
	while (running) {
		running = false;
		for (unsigned i = 0; i < ARRAY_SIZE(vms); i++) {
			if (vms[i].state != VM_RUNNABLE)
				continue;
			vm_run(&vms[i]);
			running = true;
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(vms); i++) {
		print_exits(&vms[i]);
		stopped |= vms[i].state == VM_STOPPED;
	}
	vmx_off();
	print("minivisor: VMXOFF\n");
	machine_end(stopped ? END_FAILED : END_OK);
}
