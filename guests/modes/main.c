/* modes: goes through the CPU's modes one after the other, and says how often each of them was visited. For debuggers:
 * every mode has a function whose name and address they know. */
#include "console.h"
#include "machine.h"

void through_modes(void);

/* In the order of their visits, counted by the functions of switch.S. */
extern volatile u32 visits[5];

void main(void)
{
	static const char *const names[] = {"compatibility", "protected 32", "protected 16", "real-address",
		"virtual-8086"};
	bool all = true;

	through_modes();
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		print("modes: %s %u\n", names[i], visits[i]);
		all &= visits[i] == 2;
	}
	machine_end(all ? END_OK : END_FAILED);
}
