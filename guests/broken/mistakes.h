/*
 * brokenvisor is minivisor with one mistake, chosen by the word mistake=NAME of the command line. The
 * hypervisor calls these hooks; in a build without -DBROKEN they are empty.
 */
#ifndef MISTAKES_H
#define MISTAKES_H

#include "vmx.h"

struct vm;

#ifdef BROKEN

/* Reads the word; with mistake=list prints the table and ends the run. */
void mistakes_init(void);
void mistakes_before_vmxon(void);
void mistakes_after_vmxon(void);
/* The VMCS of vm is current and complete. */
void mistakes_before_entry(struct vm *vm);
void mistakes_on_exit(struct vm *vm, u64 reason);
/* An instruction failed: when a mistake was made, tells what the CPU reported and ends the run. */
void mistakes_report_vmfail(const char *what, enum vmx_result result);

#else

static inline void mistakes_init(void) {}
static inline void mistakes_before_vmxon(void) {}
static inline void mistakes_after_vmxon(void) {}
static inline void mistakes_before_entry(struct vm *vm)
{
	(void)vm;
}
static inline void mistakes_on_exit(struct vm *vm, u64 reason)
{
	(void)vm, (void)reason;
}
static inline void mistakes_report_vmfail(const char *what, enum vmx_result result)
{
	(void)what, (void)result;
}

#endif
#endif
