/*
 * mutate: enters a guest whose VMCS has a few fields with random values, and prints what came of it, one line a
 * case on the debug console (port 0xE9). The same seed gives the same cases on every processor.
 *
 *   setup=NAME   what the guest is like (setup=list names them)
 *   seed=N count=N   the sequence, and how many of it
 *   start=N      the number of the first case: each is the same whether or not those before it were run
 *   other-events=no   no event of type 7, which one reference has not got
 *
 * A line is `@NUMBER MFIELD=VALUE … OUTCOME …`, with the fields that were mutated (LNUMBER=… an entry of the MSR list)
 * and what came of it: F VMfailInvalid, F7 VMfailValid with its number, E and X a failed entry and an exit
 * with reason and, where they are not 0, q qualification, i and e interruption information and error code, v and w
 * the same of IDT vectoring, l and n instruction length and information, a guest-linear and p guest-physical
 * address, SFIELD=VALUE the guest state that the exit saved with another value than the entry found.
 */
#include "cmdline.h"
#include "console.h"
#include "machine.h"
#include "mutate.h"
#include "report.h"
#include "selectors.h"
#include "world.h"

#define MOST_FIELDS 128
#define MOST_MUTATIONS 4

struct run {
	u64 seed, start, count;
};

static u64 baseline[MOST_FIELDS];
static bool exists[MOST_FIELDS];
static bool launched;

static const u32 shown_leaves[][2] = {{0, 0}, {1, 0}, {7, 0}, {0xa, 0}, {0xd, 0}, {0xd, 1}, {0x80000000, 0}, {0x80000001, 0},
	{0x80000007, 0}, {0x80000008, 0}};

/* What a profile of this processor takes. */
static void print_profile(void)
{
	struct vmx_capabilities *caps = &vmx_caps;

	for (u32 msr = MSR_IA32_VMX_BASIC; msr <= MSR_IA32_VMX_EPT_VPID_CAP + 5; msr++) {
		bool true_msr = msr >= MSR_IA32_VMX_TRUE_PINBASED_CTLS && msr <= MSR_IA32_VMX_TRUE_ENTRY_CTLS;

		if (true_msr && !(caps->basic & VMX_BASIC_TRUE_CONTROLS))
			continue;
		if (msr == MSR_IA32_VMX_PROCBASED_CTLS2 && !(caps->primary >> 32 & PRIMARY_SECONDARY_CONTROLS))
			continue;
		if (msr == MSR_IA32_VMX_EPT_VPID_CAP && !(caps->secondary >> 32 & (SECONDARY_EPT | SECONDARY_VPID)))
			continue;
		if (msr == MSR_IA32_VMX_VMFUNC && !(caps->secondary >> 32 & SECONDARY_VM_FUNCTIONS))
			continue;
		report_msr(msr, rdmsr(msr));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(shown_leaves); i++) {
		struct cpuid values = cpuid(shown_leaves[i][0], shown_leaves[i][1]);

		report_cpuid(shown_leaves[i][0], shown_leaves[i][1], &values);
	}
}

static void read_baseline(void)
{
	if (field_count > MOST_FIELDS || saved_count > MOST_SAVED) {
		print("mutate: too many fields\n");
		machine_end(END_FAILED);
	}
	report_text("@base");
	for (unsigned i = 0; i < field_count; i++) {
		exists[i] = vmread_optional(fields[i].encoding, &baseline[i]);
		if (exists[i])
			exists[i] = vmwrite_optional(fields[i].encoding, baseline[i]);
		if (exists[i])
			report_mutation('M', fields[i].encoding, baseline[i]);
	}
	report_send();
}

static void restore_fields(void)
{
	for (unsigned i = 0; i < field_count; i++)
		if (exists[i])
			vmwrite(fields[i].encoding, baseline[i]);
	vmwrite(PREEMPTION_TIMER_VALUE, 0);
	world_reset_memory();
	world_forget_translations();
}

/* An entry of the list that VM entry loads, of an MSR or with a value that is not for it. */
static void mutate_list(void)
{
	static const u32 msrs[] = {MSR_IA32_FS_BASE, MSR_IA32_GS_BASE, MSR_IA32_KERNEL_GS_BASE, MSR_IA32_SYSENTER_CS,
		0x800, 0x8ff, 0x79, 0x8b, MSR_IA32_VMX_BASIC, MSR_IA32_FEATURE_CONTROL, MSR_IA32_LSTAR, 0xffffffff,
		MSR_IA32_EFER};
	unsigned at = random_below(MSR_LIST_ENTRIES);
	struct msr_entry *entry = &msr_lists[2][at];

	entry->msr = msrs[random_below(ARRAY_SIZE(msrs))];
	if (random_below(4) == 0)
		entry->reserved = 1u << random_below(32);
	if (random_below(2) == 0)
		entry->value = BIT(random_below(64));
	vmwrite(ENTRY_MSR_LOAD_COUNT, at + 1);
	report_list_entry(at, entry);
}

static void mutate_fields(void)
{
	unsigned count = 1 + random_below(MOST_MUTATIONS);

	if (random_below(16) == 0)
		mutate_list();
	while (count--) {
		const unsigned i = random_below(field_count);
		u64 value;

		if (!exists[i])
			continue;
		value = mutated(&fields[i], vmread(fields[i].encoding));
		vmwrite(fields[i].encoding, value);
		report_mutation('M', fields[i].encoding, value);
	}
}

static void unblock_nmis(void)
{
	asm volatile("mov %%rsp, %%rax\n\t"
		     "push %0\n\t"
		     "push %%rax\n\t"
		     "pushf\n\t"
		     "push %1\n\t"
		     "push $1f\n\t"
		     "iretq\n"
		     "1:"
		     :
		     : "r"((u64)SEL_DATA), "r"((u64)SEL_CODE64)
		     : "rax", "memory");
}

/* What an exit may have changed of the host, and no exit changes back. */
static void restore_host(const struct host_registers *host)
{
	write_cr0(host->cr0);
	write_cr4(host->cr4);
	wrmsr(MSR_IA32_EFER, host->efer);
	wrmsr(MSR_IA32_PAT, host->pat);
	asm volatile("lgdt %0" : : "m"(host->gdtr));
	load_idt(&host->idtr);
	unblock_nmis();
}

static void one_case(u64 number, const struct run *run, const struct host_registers *host)
{
	struct guest_registers registers = {0};
	enum vmx_result result;

	random_start(run->seed, number);
	restore_fields();
	if (random_below(8) == 0) {
		world_clear();
		launched = false;
	}
	report_case(number);
	mutate_fields();
	report_remember_saved();
	result = vm_enter(&registers, launched);
	restore_host(host);
	if (result == VMX_SUCCEED && !(vmread(EXIT_REASON) & EXIT_REASON_ENTRY_FAILURE))
		launched = true;
	report_outcome(result);
}

void main(void)
{
	char name[16] = "";
	const struct setup *setup;
	struct host_registers host;
	struct run run = {
		.seed = cmdline_number("seed", 1),
		.start = cmdline_number("start", 0),
		.count = cmdline_number("count", 1000),
	};

	cmdline_value("setup", name, sizeof(name));
	setup = setup_named(name);
	if (!setup) {
		print("mutate: setups:");
		print_setups();
		print("\n");
		machine_end(text_equal(name, "list") ? END_OK : END_BAD_USAGE);
	}
	print("mutate: setup %s, seed %lu, cases %lu to %lu\n", setup->name, run.seed, run.start,
		run.start + run.count - 1);
	random_without_other_events(cmdline_is("other-events", "no"));
	/* which firmware leaves with one value or the other, and no entry changes */
	write_cr0(read_cr0() & ~(CR0_CD | CR0_NW));
	vmx_on();
	print_profile();
	world_create(setup);
	read_baseline();
	host = (struct host_registers){
		.cr0 = read_cr0(),
		.cr4 = read_cr4(),
		.efer = rdmsr(MSR_IA32_EFER),
		.pat = rdmsr(MSR_IA32_PAT),
		.gdtr = read_gdtr(),
		.idtr = read_idtr(),
	};
	for (u64 number = run.start; number < run.start + run.count; number++)
		one_case(number, &run, &host);
	report_end();
}
