/* A virtual machine: one guest, one VMCS, one EPT. */
#ifndef VM_H
#define VM_H

#include "ept.h"
#include "vmx.h"

enum vm_state { VM_RUNNABLE, VM_DONE, VM_STOPPED };

struct vm {
	char id; /* 'A' or 'B' */
	enum vm_state state;
	struct guest_registers registers;
	void *vmcs;
	u64 *ept;
	bool launched;
	bool halted;       /* in HLT, waits for an interrupt */
	unsigned expiries; /* of the preemption timer that are still to come */
	u64 *timer_flag;   /* where the guest wants to hear of the last one */
	u64 exits[EXIT_REASONS];
	char line[96]; /* what the guest wrote since its last newline */
	unsigned line_length;
};

/* What the exit handler wants done next. */
enum next { NEXT_RESUME, NEXT_YIELD };

/* The image of a guest, and how its first instruction finds the CPU. Addresses are guest-linear or
 * guest-physical as their names say. */
struct guest_image {
	char id;
	const char *what;
	u64 host_start, host_end; /* host-physical: where the loader put it */
	u64 linear_base, linear_entry, linear_stack, linear_gdt;
	u64 physical_cr3;
	bool is_64_bit;
};

/* Makes the VM, its EPT and its VMCS. The VMCS is current afterwards. */
void vm_create(struct vm *vm, const struct guest_image *image);

/* Enters the VM again and again until it yields or stops. */
void vm_run(struct vm *vm);

/* Handles one VM exit of the VM whose VMCS is current. */
enum next handle_exit(struct vm *vm);

/* Injects the interrupt that a halted guest waits for. */
void inject_tick(struct vm *vm);

/* Prints how often the VM exited, and why. */
void print_exits(const struct vm *vm);

#endif
