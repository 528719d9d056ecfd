/* The functions that gcc may call even in freestanding code. */
#include "types.h"

void *memset(void *to, int value, size_t n);
void *memcpy(void *restrict to, const void *restrict from, size_t n);

void *memset(void *to, int value, size_t n)
{
	void *start = to;
	asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
	return start;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	void *start = to;
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return start;
}
