/* The exit handler: one function for each reason, found by table. */
#include "vm.h"

#include "console.h"
#include "mistakes.h"
#include "protocol.h"

#define TIMER_TSC_TICKS 20000 /* between two expiries of the preemption timer */
#define MISC_TIMER_RATE 0x1f

#define IO_SIZE(qualification) (((qualification) & 7) + 1)
#define IO_IN BIT(3)
#define IO_STRING BIT(4)
#define IO_PORT(qualification) ((u16)((qualification) >> 16))

#define EPT_VIOLATION_WRITE BIT(1)

static enum next stop(struct vm *vm, enum vm_state state)
{
	vm->state = state;
	return NEXT_YIELD;
}

/* Steps over the instruction that exited. It also ended the shadow of an STI or MOV SS before it. */
static void advance(void)
{
	vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSTRUCTION_LENGTH));
	vmwrite(GUEST_INTERRUPTIBILITY_STATE,
		vmread(GUEST_INTERRUPTIBILITY_STATE) & ~(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
}

static void inject_exception(u64 vector, u64 error_code)
{
	vmwrite(ENTRY_EXCEPTION_ERROR_CODE, error_code);
	vmwrite(ENTRY_INTERRUPTION_INFO, INTERRUPTION_VALID | INTERRUPTION_ERROR_CODE |
						 INTERRUPTION_TYPE(TYPE_HARDWARE_EXCEPTION) | vector);
}

void inject_tick(struct vm *vm)
{
	vm->halted = false;
	vmwrite(ENTRY_INTERRUPTION_INFO,
		INTERRUPTION_VALID | INTERRUPTION_TYPE(TYPE_EXTERNAL_INTERRUPT) | VECTOR_TICK);
}

/* Host address of guest-physical memory, NULL where the guest has none. The host is mapped one to one. */
static void *guest_memory(struct vm *vm, u64 guest_physical)
{
	u64 *entry = ept_entry(vm->ept, guest_physical);
	u64 mask = guest_physical >= GPA_LARGE ? SIZE_2MB - 1 : PAGE_SIZE - 1;

	if (!entry || !(*entry & EPT_ALL))
		return NULL;
	return (void *)((*entry & 0x000ffffffffff000ull & ~mask) | (guest_physical & mask));
}

static void guest_putc(struct vm *vm, char c)
{
	if (c != '\n' && vm->line_length < sizeof(vm->line) - 1) {
		vm->line[vm->line_length++] = c;
		return;
	}
	vm->line[vm->line_length] = 0;
	vm->line_length = 0;
	print("guest %c: %s\n", vm->id, vm->line);
}

static enum next on_exception_or_nmi(struct vm *vm)
{
	u64 info = vmread(EXIT_INTERRUPTION_INFO);

	if (INTERRUPTION_TYPE_OF(info) == TYPE_NMI)
		return NEXT_RESUME;
	print("minivisor: guest %c: exception, interruption information %#lx, at RIP %#lx\n", vm->id, info,
		vmread(GUEST_RIP));
	return stop(vm, VM_STOPPED);
}

/* The interrupt was acknowledged by the exit, or stays pending in the masked PIC: there is nothing to do for
 * it. */
static enum next on_external_interrupt(struct vm *vm)
{
	(void)vm;
	return NEXT_RESUME;
}

static enum next on_cpuid(struct vm *vm)
{
	struct guest_registers *r = &vm->registers;
	struct cpuid c;

	switch ((u32)r->rax) {
	case CPUID_SIGNATURE: /* "minivisor" in EBX, ECX, EDX */
		c = (struct cpuid){CPUID_FEATURES, 0x696e696d, 0x6f736976, 0x00000072};
		break;
	case CPUID_FEATURES:
		c = (struct cpuid){vmx_caps.pin >> 32 & PIN_PREEMPTION_TIMER ? FEATURE_TIMER : 0, 0, 0, 0};
		break;
	default:
		c = cpuid((u32)r->rax, (u32)r->rcx);
	}
	r->rax = c.eax;
	r->rbx = c.ebx;
	r->rcx = c.ecx;
	r->rdx = c.edx;
	advance();
	return NEXT_RESUME;
}

static enum next on_hlt(struct vm *vm)
{
	advance();
	vm->halted = true;
	return NEXT_YIELD;
}

static enum next on_vmcall(struct vm *vm)
{
	struct guest_registers *r = &vm->registers;

	advance();
	switch (r->rax) {
	case HC_DONE:
		return stop(vm, VM_DONE);
	case HC_YIELD:
		return NEXT_YIELD;
	case HC_SAY:
		for (u64 gpa = r->rbx;; gpa++) {
			const char *c = guest_memory(vm, gpa);
			if (!c || !*c)
				return NEXT_RESUME;
			guest_putc(vm, *c);
		}
	case HC_TIMER:
		vm->expiries = (unsigned)r->rbx;
		vm->timer_flag = guest_memory(vm, r->rcx);
		vmwrite(PREEMPTION_TIMER_VALUE, TIMER_TSC_TICKS >> (vmx_caps.misc & MISC_TIMER_RATE));
		vmwrite(PIN_BASED_CONTROLS, vmread(PIN_BASED_CONTROLS) | PIN_PREEMPTION_TIMER);
		return NEXT_RESUME;
	default:
		print("minivisor: guest %c: hypercall %lu is unknown\n", vm->id, r->rax);
		return stop(vm, VM_STOPPED);
	}
}

static enum next on_io(struct vm *vm)
{
	u64 qualification = vmread(EXIT_QUALIFICATION);

	if (IO_PORT(qualification) != PORT_CONSOLE || IO_SIZE(qualification) != 1 ||
		qualification & (IO_IN | IO_STRING)) {
		print("minivisor: guest %c: port %#x is not there (qualification %#lx)\n", vm->id,
			IO_PORT(qualification), qualification);
		return stop(vm, VM_STOPPED);
	}
	guest_putc(vm, (char)vm->registers.rax);
	advance();
	return NEXT_RESUME;
}

static enum next on_rdmsr(struct vm *vm)
{
	struct guest_registers *r = &vm->registers;
	u64 value;

	switch ((u32)r->rcx) {
	case MSR_IA32_BIOS_SIGN_ID:
		value = (u64)MICROCODE_REVISION << 32;
		break;
	case MSR_IA32_FS_BASE: /* exits only where the CPU has no MSR bitmaps */
		value = vmread(GUEST_FS_BASE);
		break;
	default:
		inject_exception(VECTOR_GP, 0);
		return NEXT_RESUME;
	}
	r->rax = (u32)value;
	r->rdx = value >> 32;
	advance();
	return NEXT_RESUME;
}

static enum next on_wrmsr(struct vm *vm)
{
	if ((u32)vm->registers.rcx == MSR_IA32_BIOS_SIGN_ID)
		advance(); /* as hardware does it: the write is without effect */
	else
		inject_exception(VECTOR_GP, 0);
	return NEXT_RESUME;
}

static enum next on_ept_violation(struct vm *vm)
{
	u64 gpa = vmread(GUEST_PHYSICAL_ADDRESS) & ~(PAGE_SIZE - 1);
	u64 qualification = vmread(EXIT_QUALIFICATION);

	if (vm->id == 'A' && gpa >= GPA_HEAP && gpa < GPA_HEAP + HEAP_PAGES * PAGE_SIZE) {
		ept_map(vm->ept, gpa, (u64)page_alloc(), EPT_READ | EPT_WRITE, PAGE_SIZE);
		return NEXT_RESUME;
	}
	if (vm->id == 'B' && gpa == GPA_LOG && qualification & EPT_VIOLATION_WRITE) {
		print("minivisor: guest B: first write to page %#lx, now writable\n", gpa);
		*ept_entry(vm->ept, gpa) |=
			EPT_WRITE; /* more rights: the violation itself dropped the old translation */
		return NEXT_RESUME;
	}
	print("minivisor: guest %c: no memory at guest-physical %#lx (qualification %#lx, RIP %#lx)\n",
		vm->id, gpa, qualification, vmread(GUEST_RIP));
	return stop(vm, VM_STOPPED);
}

static enum next on_preemption_timer(struct vm *vm)
{
	if (vm->expiries && --vm->expiries == 0) {
		if (vm->timer_flag)
			*vm->timer_flag = 1;
		vmwrite(PIN_BASED_CONTROLS, vmread(PIN_BASED_CONTROLS) & ~PIN_PREEMPTION_TIMER);
	}
	return NEXT_RESUME;
}

static enum next on_triple_fault(struct vm *vm)
{
	print("minivisor: guest %c: triple fault at RIP %#lx\n", vm->id, vmread(GUEST_RIP));
	return stop(vm, VM_STOPPED);
}

static const struct {
	const char *name;
	enum next (*handle)(struct vm *vm);
} reasons[EXIT_REASONS] = {
	[EXIT_EXCEPTION_OR_NMI] = {"exception-or-nmi", on_exception_or_nmi},
	[EXIT_EXTERNAL_INTERRUPT] = {"external-interrupt", on_external_interrupt},
	[EXIT_TRIPLE_FAULT] = {"triple-fault", on_triple_fault},
	[EXIT_CPUID] = {"cpuid", on_cpuid},
	[EXIT_HLT] = {"hlt", on_hlt},
	[EXIT_VMCALL] = {"vmcall", on_vmcall},
	[EXIT_IO_INSTRUCTION] = {"io-instruction", on_io},
	[EXIT_RDMSR] = {"rdmsr", on_rdmsr},
	[EXIT_WRMSR] = {"wrmsr", on_wrmsr},
	[EXIT_EPT_VIOLATION] = {"ept-violation", on_ept_violation},
	[EXIT_PREEMPTION_TIMER] = {"preemption-timer", on_preemption_timer},
};

/* An event whose delivery was cut short by the exit is delivered again. */
static void reinject(void)
{
	u64 info = vmread(IDT_VECTORING_INFO);

	if (!(info & INTERRUPTION_VALID))
		return;
	vmwrite(ENTRY_INTERRUPTION_INFO, info & ~BIT(12));
	vmwrite(ENTRY_EXCEPTION_ERROR_CODE, vmread(IDT_VECTORING_ERROR_CODE));
	vmwrite(ENTRY_INSTRUCTION_LENGTH, vmread(EXIT_INSTRUCTION_LENGTH));
}

enum next handle_exit(struct vm *vm)
{
	u64 reason = vmread(EXIT_REASON);
	u16 basic = (u16)reason;

	mistakes_on_exit(vm, reason);
	if (!(reason & EXIT_REASON_ENTRY_FAILURE) && basic < EXIT_REASONS) {
		vm->exits[basic]++;
		reinject();
		if (reasons[basic].handle)
			return reasons[basic].handle(vm);
	}
	print("minivisor: guest %c: exit reason %#lx is not handled (qualification %#lx, RIP %#lx)\n", vm->id,
		reason, vmread(EXIT_QUALIFICATION), vmread(GUEST_RIP));
	return stop(vm, VM_STOPPED);
}

void print_exits(const struct vm *vm)
{
	u64 total = 0;

	for (unsigned i = 0; i < EXIT_REASONS; i++)
		total += vm->exits[i];
	print("minivisor: guest %c: %lu exits\n", vm->id, total);
	for (unsigned i = 0; i < EXIT_REASONS; i++)
		if (vm->exits[i])
			print("  %-20s %5lu\n", reasons[i].name ? reasons[i].name : "another reason",
				vm->exits[i]);
}
