/* bench: does one part of the benchmark, chosen by part=NAME n=COUNT, and prints its checksum and its length
 * in TSC ticks. */
#include "cmdline.h"
#include "console.h"
#include "cpu.h"
#include "machine.h"
#include "parts.h"

static const struct part parts[] = {
	{"alu", "arithmetic and branches; an iteration is one step", NULL, run_alu},
	{"copy", "copies of 64 KB, 8 bytes at a time; an iteration is one copy", NULL, run_copy},
	{"chase4m", "a chain of pointers over 4 MB; an iteration is one pointer", prepare_chase_4m,
		run_chase},
	{"chase512k", "a chain of pointers over 512 KB; an iteration is one pointer", prepare_chase_512k,
		run_chase},
	{"recursion", "recursive Fibonacci numbers; an iteration is F(15)", NULL, run_recursion},
	{"vmexit", "VM exits on CPUID and back, with three VMREADs and a VMWRITE", prepare_vmexit,
		run_vmexit},
	{"vmexit-vpid", "the same in a guest with a VPID", prepare_vmexit_vpid, run_vmexit},
};

static const struct part *find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		if (text_equal(name, parts[i].name))
			return &parts[i];
	return NULL;
}

void main(void)
{
	char name[16] = "";
	const struct part *part;
	u64 n = cmdline_number("n", 1000), before, after, checksum;

	cmdline_value("part", name, sizeof(name));
	part = find(name);
	if (!part) {
		print("bench: part=%s is unknown; these are known:\n", name);
		for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
			print("  %-11s %s\n", parts[i].name, parts[i].what);
		machine_end(END_BAD_USAGE);
	}
	if (part->prepare)
		part->prepare();
	before = rdtsc();
	checksum = part->run(n);
	after = rdtsc();
	print("bench: part %s n %lu checksum %#lx tsc %lu\n", part->name, n, checksum, after - before);
}
