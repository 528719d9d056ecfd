/* The table of mistakes: what each breaks, and what the CPU has to say to it. */
#ifndef TABLE_H
#define TABLE_H

#include "vm.h"

/* How the CPU answers. The number with it is in brackets. */
enum outcome {
	OUTCOME_VMFAIL_INVALID, /* CF; no VM-instruction error, as there is no VMCS to write it to */
	OUTCOME_VMFAIL_VALID,   /* ZF (VM-instruction error) */
	OUTCOME_ENTRY_FAILURE,  /* VM-entry failure during or after loading guest state (basic exit reason) */
	OUTCOME_VM_EXIT,        /* the guest runs, and exits at once (basic exit reason) */
	OUTCOME_EXCEPTION,      /* in the host (vector) */
	OUTCOME_SHUTDOWN,       /* the machine is gone: triple fault or VMX abort in the host */
	OUTCOME_RUNS_ON,        /* nothing fails, and the run gets nowhere */
};

enum stage {
	STAGE_ENTRY, /* before the first VM entry of the VM; its VMCS is current and complete */
	STAGE_BEFORE_VMXON,
	STAGE_AFTER_VMXON,
	STAGE_FIRST_EXIT, /* at the first VM exit of the VM, before it is handled */
};

struct mistake {
	const char *name;
	const char *breaks;
	enum outcome outcome;
	unsigned number;
	enum stage stage;
	char vm; /* which one it hits: 0 stands for 'A' */

	/* Either bits of a field of the VMCS: those in `clear` are cleared, then those in `set` set … */
	enum vmcs_field field;
	u64 clear, set;
	/* … or anything else. The result of an instruction that it tried is reported. */
	enum vmx_result (*make)(struct vm *vm);
};

extern const struct mistake mistakes[];
extern const unsigned mistake_count;

#endif
