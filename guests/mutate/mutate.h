/* Random values for fields, the same for the same seed on every machine. */
#ifndef MUTATE_H
#define MUTATE_H

#include "fields.h"

/* Starts the sequence that belongs to a seed and the number of a case. */
void random_start(u64 seed, u64 number);
u64 random(void);
/* From 0 to below - 1. */
unsigned random_below(unsigned below);

/* Bochs 2.7 ends when it is to inject a pending MTF exit (type 7). */
void random_without_other_events(bool without);

/* Another value for the field that holds `value`. */
u64 mutated(const struct field *field, u64 value);

#endif
