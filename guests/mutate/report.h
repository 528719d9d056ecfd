/* The lines on the debug console. */
#ifndef REPORT_H
#define REPORT_H

#include "vmx.h"
#include "world.h"

void report_msr(u32 msr, u64 value);
void report_cpuid(u32 leaf, u32 subleaf, const struct cpuid *values);
void report_case(u64 number);
/* ` MFIELD=VALUE`, M being the mark. */
void report_mutation(char mark, u32 field, u64 value);
void report_text(const char *text);
void report_send(void);
void report_list_entry(unsigned at, const struct msr_entry *entry);
/* Before the entry: what of the guest's state an exit may change. */
void report_remember_saved(void);
/* Ends the line of the case, and sends it. */
void report_outcome(enum vmx_result result);
void report_end(void);

/* A field that exists only on some processors: false where this one has not got it. */
bool vmread_optional(u32 field, u64 *value);

#endif
