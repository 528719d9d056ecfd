/* Makes the chosen mistake at its place, and compares what the CPU reports with what the table expects. */
#include "mistakes.h"

#include "cmdline.h"
#include "console.h"
#include "machine.h"
#include "table.h"

static const struct mistake *chosen;
static bool made;

static const char *const outcome_names[] = {
	[OUTCOME_VMFAIL_INVALID] = "vmfail-invalid",
	[OUTCOME_VMFAIL_VALID] = "vmfail-valid",
	[OUTCOME_ENTRY_FAILURE] = "entry-failure",
	[OUTCOME_VM_EXIT] = "vm-exit",
	[OUTCOME_EXCEPTION] = "exception",
	[OUTCOME_SHUTDOWN] = "shutdown",
	[OUTCOME_RUNS_ON] = "runs-on",
};

/* One line for each mistake, fields separated by tabs. */
static _Noreturn void list(void)
{
	print("name\toutcome\tnumber\tvalue\tbreaks\n");
	for (unsigned i = 0; i < mistake_count; i++)
		print("%s\t%s\t%u\t%u\t%s\n", mistakes[i].name, outcome_names[mistakes[i].outcome],
			mistakes[i].number, END_MISTAKE + i, mistakes[i].breaks);
	machine_end(END_OK);
}

/* Prints what the CPU reported and ends the run, with the value of the mistake when that was expected. */
static _Noreturn void report(enum outcome outcome, unsigned number)
{
	bool expected = outcome == chosen->outcome && number == chosen->number;

	print("brokenvisor: reported: %s %u\n", outcome_names[outcome], number);
	if (!expected)
		print("brokenvisor: expected: %s %u\n", outcome_names[chosen->outcome], chosen->number);
	print("brokenvisor: %s\n", expected ? "as expected" : "NOT as expected");
	machine_end(expected ? END_MISTAKE + (unsigned)(chosen - mistakes) : END_FAILED);
}

static void on_exception(const struct trap_frame *frame)
{
	if (made)
		report(OUTCOME_EXCEPTION, (unsigned)frame->vector);
}

void mistakes_init(void)
{
	char name[40];

	trap_hook = on_exception;
	if (!cmdline_value("mistake", name, sizeof(name)))
		return;
	if (text_equal(name, "list"))
		list();
	for (unsigned i = 0; i < mistake_count; i++)
		if (text_equal(name, mistakes[i].name))
			chosen = &mistakes[i];
	if (!chosen) {
		print("brokenvisor: mistake=%s is unknown; mistake=list prints all\n", name);
		machine_end(END_BAD_USAGE);
	}
	print("brokenvisor: mistake: %s: %s\n", chosen->name, chosen->breaks);
}

static void make(struct vm *vm)
{
	enum vmx_result result = VMX_SUCCEED;

	made = true;
	if (chosen->make)
		result = chosen->make(vm);
	else
		vmwrite(chosen->field, (vmread(chosen->field) & ~chosen->clear) | chosen->set);
	mistakes_report_vmfail("the instruction", result);
}

static bool is_due(enum stage stage, const struct vm *vm)
{
	return chosen && !made && chosen->stage == stage &&
	       (!vm || vm->id == (chosen->vm ? chosen->vm : 'A'));
}

void mistakes_before_vmxon(void)
{
	if (is_due(STAGE_BEFORE_VMXON, NULL))
		make(NULL);
}

void mistakes_after_vmxon(void)
{
	if (is_due(STAGE_AFTER_VMXON, NULL))
		make(NULL);
}

void mistakes_before_entry(struct vm *vm)
{
	if (is_due(STAGE_ENTRY, vm))
		make(vm);
}

void mistakes_on_exit(struct vm *vm, u64 reason)
{
	if (is_due(STAGE_FIRST_EXIT, vm)) {
		make(vm);
		return;
	}
	if (!made)
		return;
	print("brokenvisor: exit reason %#lx, qualification %#lx, RIP %#lx\n", reason,
		vmread(EXIT_QUALIFICATION), vmread(GUEST_RIP));
	report(reason & EXIT_REASON_ENTRY_FAILURE ? OUTCOME_ENTRY_FAILURE : OUTCOME_VM_EXIT, (u16)reason);
}

void mistakes_report_vmfail(const char *what, enum vmx_result result)
{
	unsigned error = 0;

	if (!made || result == VMX_SUCCEED)
		return;
	if (result == VMX_FAIL_VALID)
		error = (unsigned)vmread(VM_INSTRUCTION_ERROR);
	print("brokenvisor: %s failed\n", what);
	report(result == VMX_FAIL_VALID ? OUTCOME_VMFAIL_VALID : OUTCOME_VMFAIL_INVALID, error);
}
