/* Ends a case that has no end of its own: some make a handler that faults by itself. */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#define NMI_VECTOR 2

/* Once: the timer's interrupt becomes an NMI. */
void watchdog_open(void);
/* From now on a case has 55 ms of the machine's time, which is a multiple of what any needs that ends. */
void watchdog_start(void);

#endif
