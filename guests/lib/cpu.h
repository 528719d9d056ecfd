/* The instructions that C has no words for. */
#ifndef CPU_H
#define CPU_H

#include "types.h"

#define MSR_IA32_FEATURE_CONTROL 0x3a
#define MSR_IA32_BIOS_SIGN_ID 0x8b
#define MSR_IA32_SYSENTER_CS 0x174
#define MSR_IA32_PAT 0x277
#define MSR_IA32_EFER 0xc0000080
#define MSR_IA32_STAR 0xc0000081
#define MSR_IA32_LSTAR 0xc0000082
#define MSR_IA32_FS_BASE 0xc0000100
#define MSR_IA32_GS_BASE 0xc0000101
#define MSR_IA32_KERNEL_GS_BASE 0xc0000102

#define CR0_PE BIT(0)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)
#define CR4_PAE BIT(5)
#define CR4_VMXE BIT(13)
#define CR4_PCIDE BIT(17)
#define CR4_PKE BIT(22)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define RFLAGS_FIXED BIT(1)

struct cpuid {
	u32 eax, ebx, ecx, edx;
};

struct __attribute__((packed)) table_register {
	u16 limit;
	u64 base;
};

static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid r;
	asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;
	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline u64 rdtsc(void)
{
	u32 lo, hi;
	asm volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (u64)hi << 32 | lo;
}

static inline void outb(u16 port, u8 value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outl(u16 port, u32 value)
{
	asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 value;
	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

#define READ_CR(n)                                                \
	static inline u64 read_cr##n(void)                        \
	{                                                         \
		u64 value;                                        \
		asm volatile("mov %%cr" #n ", %0" : "=r"(value)); \
		return value;                                     \
	}
#define WRITE_CR(n)                                                        \
	static inline void write_cr##n(u64 value)                          \
	{                                                                  \
		asm volatile("mov %0, %%cr" #n : : "r"(value) : "memory"); \
	}
READ_CR(0)
READ_CR(3)
READ_CR(4)
WRITE_CR(0)
WRITE_CR(4)

#define READ_SELECTOR(seg)                                        \
	static inline u16 read_##seg(void)                        \
	{                                                         \
		u16 value;                                        \
		asm volatile("mov %%" #seg ", %0" : "=r"(value)); \
		return value;                                     \
	}
READ_SELECTOR(cs)
READ_SELECTOR(ss)

static inline u16 read_tr(void)
{
	u16 value;
	asm volatile("str %0" : "=r"(value));
	return value;
}

static inline struct table_register read_gdtr(void)
{
	struct table_register r;
	asm volatile("sgdt %0" : "=m"(r));
	return r;
}

static inline struct table_register read_idtr(void)
{
	struct table_register r;
	asm volatile("sidt %0" : "=m"(r));
	return r;
}

static inline void load_idt(const struct table_register *r)
{
	asm volatile("lidt %0" : : "m"(*r));
}

#endif
