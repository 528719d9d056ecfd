#include "guest.h"

#include "console.h"
#include "selectors.h"

u8 apic[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

struct gate {
	u16 offset_low, selector, rights, offset_middle;
	u32 offset_high, reserved;
};

#define RIGHTS_INTERRUPT_GATE 0x8e00

static struct gate idt[VECTOR_REPORTED + 1];

struct interrupt_frame;

static void apic_write(unsigned offset, u32 value)
{
	*(volatile u32 *)(apic + offset) = value;
}

/* In EAX, where the host puts it when it has to answer. */
static u32 apic_read(unsigned offset)
{
	u32 value;

	asm volatile("movl (%1), %0" : "=a"(value) : "r"(apic + offset) : "memory");
	return value;
}

static void take(unsigned vector)
{
	print("guest: vector %#x\n", vector);
	apic_write(APIC_EOI, 0);
}

#define HANDLER(name, vector)                                                              \
	static __attribute__((interrupt)) void name(struct interrupt_frame *frame)         \
	{                                                                                  \
		(void)frame;                                                               \
		take(vector);                                                              \
	}
HANDLER(on_first, VECTOR_FIRST)
HANDLER(on_self, VECTOR_SELF)
HANDLER(on_reported, VECTOR_REPORTED)

static void set_gate(unsigned vector, void (*handler)(struct interrupt_frame *))
{
	u64 offset = (u64)handler;

	idt[vector] = (struct gate){
		.offset_low = (u16)offset,
		.selector = SEL_CODE64,
		.rights = RIGHTS_INTERRUPT_GATE,
		.offset_middle = (u16)(offset >> 16),
		.offset_high = (u32)(offset >> 32),
	};
}

struct table_register guest_idtr(void)
{
	set_gate(VECTOR_FIRST, on_first);
	set_gate(VECTOR_SELF, on_self);
	set_gate(VECTOR_REPORTED, on_reported);
	return (struct table_register){.limit = sizeof(idt) - 1, .base = (u64)idt};
}

_Noreturn void guest_main(void)
{
	print("guest: interrupts are off\n");
	asm volatile("sti; nop" : : : "memory");
	print("guest: interrupts are on\n");
	apic_write(APIC_ICR, ICR_SELF | VECTOR_SELF);
	apic_write(APIC_TPR, 0x50);
	apic_write(APIC_ICR, ICR_SELF | VECTOR_REPORTED);
	apic_write(APIC_ICR, ICR_SELF | VECTOR_SELF);
	print("guest: they wait while the task priority is %#x\n", apic_read(APIC_TPR));
	apic_write(APIC_TPR, 0);
	apic_write(APIC_ICR, 0xc4500);
	print("guest: current count %#x\n", apic_read(APIC_CURRENT_COUNT));
	asm volatile("vmcall");
	__builtin_unreachable();
}
