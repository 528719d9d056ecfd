#include "report.h"

#include "cpu.h"
#include "fields.h"

#define DEBUG_CONSOLE 0xe9
#define LINE 8192
#define RIGHTS_DPL 0x60
#define INFORMATION_ERROR_CODE BIT(11)

static char line[LINE];
static size_t used;

static void put(char c)
{
	if (used < LINE)
		line[used++] = c;
}

void report_text(const char *text)
{
	while (*text)
		put(*text++);
}

static void put_hex(u64 value)
{
	int shift = 60;

	while (shift && !(value >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		put("0123456789abcdef"[value >> shift & 15]);
}

/* ` xVALUE`, where there is something to tell. */
static void put_item(char name, u64 value)
{
	if (!value)
		return;
	put(' ');
	put(name);
	put_hex(value);
}

void report_send(void)
{
	const char *from = line;

	put('\n');
	asm volatile("rep outsb" : "+S"(from), "+c"(used) : "d"(DEBUG_CONSOLE) : "memory");
	used = 0;
}

void report_msr(u32 msr, u64 value)
{
	report_text("@msr ");
	put_hex(msr);
	put(' ');
	put_hex(value);
	report_send();
}

void report_cpuid(u32 leaf, u32 subleaf, const struct cpuid *values)
{
	const u32 words[] = {leaf, subleaf, values->eax, values->ebx, values->ecx, values->edx};

	report_text("@cpuid");
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		put(' ');
		put_hex(words[i]);
	}
	report_send();
}

void report_case(u64 number)
{
	put('@');
	put_hex(number);
}

void report_mutation(char mark, u32 field, u64 value)
{
	put(' ');
	put(mark);
	put_hex(field);
	put('=');
	put_hex(value);
}

void report_list_entry(unsigned at, const struct msr_entry *entry)
{
	report_text(" L");
	put_hex(at);
	put('=');
	put_hex(entry->msr);
	put(',');
	put_hex(entry->reserved);
	put(',');
	put_hex(entry->value);
}

bool vmread_optional(u32 field, u64 *value)
{
	bool failed;

	asm volatile("vmread %2, %0" : "=r"(*value), "=@ccbe"(failed) : "r"((u64)field) : "memory");
	return !failed;
}

static bool is_unusable(unsigned segment)
{
	return vmread(GUEST_ES_ACCESS_RIGHTS + 2 * segment) & RIGHTS_UNUSABLE;
}

/* A saved field without what the SDM leaves undefined: most of an unusable segment (vol. 3, 28.3.2). 0 for one that
 * this processor has not got. */
static u64 saved(u16 field)
{
	enum { ES, CS, SS, DS, FS, GS, LDTR, TR };
	unsigned segment;
	u64 value;

	if (!vmread_optional(field, &value))
		return 0;
	if (field >= GUEST_ES_ACCESS_RIGHTS && field <= GUEST_TR_ACCESS_RIGHTS) {
		segment = (field - GUEST_ES_ACCESS_RIGHTS) / 2;
		if (is_unusable(segment))
			value &= RIGHTS_UNUSABLE | (segment == SS ? RIGHTS_DPL : 0);
	} else if (field >= GUEST_ES_LIMIT && field <= GUEST_TR_LIMIT) {
		segment = (field - GUEST_ES_LIMIT) / 2;
		if (segment != CS && is_unusable(segment))
			value = 0;
	} else if (field >= GUEST_ES_BASE && field <= GUEST_TR_BASE) {
		segment = (field - GUEST_ES_BASE) / 2;
		if (segment != CS && segment != FS && segment != GS && is_unusable(segment))
			value = 0;
	}
	return value;
}

static u64 before[MOST_SAVED];

void report_remember_saved(void)
{
	for (unsigned i = 0; i < saved_count; i++)
		before[i] = saved(saved_fields[i]);
}

static void put_saved(void)
{
	for (unsigned i = 0; i < saved_count; i++) {
		const u64 value = saved(saved_fields[i]);

		if (value != before[i])
			report_mutation('S', saved_fields[i], value);
	}
}

static void put_event(char name, char code_name, enum vmcs_field info, enum vmcs_field code)
{
	u64 value = vmread(info);

	if (!(value & INTERRUPTION_VALID))
		return;
	put_item(name, value);
	if (value & INFORMATION_ERROR_CODE)
		put_item(code_name, vmread(code));
}

void report_outcome(enum vmx_result result)
{
	u64 reason;

	put(' ');
	if (result != VMX_SUCCEED) {
		put('F');
		if (result == VMX_FAIL_VALID)
			put_hex(vmread(VM_INSTRUCTION_ERROR));
		report_send();
		return;
	}
	reason = vmread(EXIT_REASON);
	put(reason & EXIT_REASON_ENTRY_FAILURE ? 'E' : 'X');
	put_hex(reason & ~EXIT_REASON_ENTRY_FAILURE);
	put_item('q', vmread(EXIT_QUALIFICATION));
	if (!(reason & EXIT_REASON_ENTRY_FAILURE)) {
		put_event('i', 'e', EXIT_INTERRUPTION_INFO, EXIT_INTERRUPTION_ERROR_CODE);
		put_event('v', 'w', IDT_VECTORING_INFO, IDT_VECTORING_ERROR_CODE);
		if (reason == EXIT_EPT_VIOLATION || reason == EXIT_EPT_MISCONFIGURATION) {
			put_item('p', vmread(GUEST_PHYSICAL_ADDRESS));
			if (vmread(EXIT_QUALIFICATION) & BIT(7))
				put_item('a', vmread(GUEST_LINEAR_ADDRESS));
		}
		put_saved();
	}
	report_send();
}

void report_end(void)
{
	report_text("@end");
	report_send();
}
