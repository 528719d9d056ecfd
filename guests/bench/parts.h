/* What is measured. Each part does `n` iterations and returns a checksum that any right machine gets too. */
#ifndef PARTS_H
#define PARTS_H

#include "types.h"

/* Gets ready what `n` does not count: called once, before the clock is read. May be NULL. */
struct part {
	const char *name;
	const char *what;
	void (*prepare)(void);
	u64 (*run)(u64 n);
};

u64 run_alu(u64 n);
u64 run_copy(u64 n);
u64 run_recursion(u64 n);
void prepare_chase_4m(void);
void prepare_chase_512k(void);
u64 run_chase(u64 n);
void prepare_vmexit(void);
void prepare_vmexit_vpid(void);
u64 run_vmexit(u64 n);

#endif
