/* Text on COM1. */
#ifndef CONSOLE_H
#define CONSOLE_H

#include "types.h"

void console_init(void);
void console_putc(char c);

/* Knows %s %c %d %u %x, the l modifier, # with x, a width, '-' and a leading 0. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
