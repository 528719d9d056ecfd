#include "watchdog.h"

#include "cpu.h"

#define IOAPIC 0xfec00000
#define IOAPIC_DATA (IOAPIC + 0x10)
#define REDIRECTION(pin) (0x10 + 2 * (pin))
#define DELIVER_NMI 0x400
#define TIMER_PIN 2

#define PIT_COUNTER0 0x40
#define PIT_CONTROL 0x43
#define PIT_ONCE 0x30 /* counter 0, both bytes, mode 0 */

static void ioapic_write(u32 reg, u32 value)
{
	*(volatile u32 *)IOAPIC = reg;
	*(volatile u32 *)IOAPIC_DATA = value;
}

void watchdog_open(void)
{
	ioapic_write(REDIRECTION(TIMER_PIN) + 1, 0);
	ioapic_write(REDIRECTION(TIMER_PIN), DELIVER_NMI);
}

void watchdog_start(void)
{
	outb(PIT_CONTROL, PIT_ONCE);
	outb(PIT_COUNTER0, 0xff);
	outb(PIT_COUNTER0, 0xff);
}
