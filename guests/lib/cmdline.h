/* The words of the multiboot command line. */
#ifndef CMDLINE_H
#define CMDLINE_H

#include "types.h"

/* Remembers the command line; info is the physical address of the multiboot information. */
void cmdline_init(u32 info);

/* Copies the value of the word `key=value` and says whether there is one. A value longer than size - 1 is
 * cut. */
bool cmdline_value(const char *key, char *value, size_t size);

/* Says whether the word `key=value` is there. */
bool cmdline_is(const char *key, const char *value);

/* The number of the word `key=number`, or fallback. Decimal, with an optional k, m or g (times 1000 each). */
u64 cmdline_number(const char *key, u64 fallback);

bool text_equal(const char *a, const char *b);

#endif
