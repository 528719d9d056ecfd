#include "parts.h"

#define COPY_BYTES (64 * 1024)
#define CHASE_BYTES (4 * 1024 * 1024)
#define CHASE_STRIDE 64 /* one pointer in each cache line */
#define FIBONACCI 15

static u64 from[COPY_BYTES / 8], to[COPY_BYTES / 8];
static u8 chase_memory[CHASE_BYTES] __attribute__((aligned(PAGE_SIZE)));

static u64 next_random(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

u64 run_alu(u64 n)
{
	u64 state = 88172645463325252ull, sum = 0;

	for (; n; n--) {
		u64 r = next_random(&state);

		if (r & 1)
			sum += r >> 3;
		else
			sum ^= r * 5;
		if ((r & 0x70) == 0x30)
			sum = (sum << 7) | (sum >> 57);
	}
	return sum;
}

u64 run_copy(u64 n)
{
	u64 sum = 0;

	for (unsigned i = 0; i < COPY_BYTES / 8; i++)
		from[i] = i * 0x9e3779b97f4a7c15ull;
	for (u64 pass = 0; pass < n; pass++) {
		from[pass % (COPY_BYTES / 8)] += pass;
		for (unsigned i = 0; i < COPY_BYTES / 8; i++)
			to[i] = from[i];
		/* the copy is not to be moved or merged with the next one */
		asm volatile("" : : : "memory");
		sum += to[(pass * 7) % (COPY_BYTES / 8)];
	}
	return sum;
}

static __attribute__((noinline)) u64 fibonacci(unsigned k)
{
	return k < 2 ? k : fibonacci(k - 1) + fibonacci(k - 2);
}

u64 run_recursion(u64 n)
{
	u64 sum = 0;

	for (; n; n--) {
		unsigned k = FIBONACCI;

		asm volatile("" : "+r"(k)); /* the compiler may not know the argument */
		sum += fibonacci(k);
	}
	return sum;
}

static u64 *chase_node(unsigned index)
{
	return (u64 *)(chase_memory + (u64)index * CHASE_STRIDE);
}

/* One cycle through all nodes, in an order that no prefetcher guesses (Sattolo's shuffle). A node holds the
 * address of the next. */
static void prepare_chase(unsigned bytes)
{
	const unsigned nodes = bytes / CHASE_STRIDE;
	u64 state = 42;

	for (unsigned i = 0; i < nodes; i++)
		*chase_node(i) = (u64)chase_node(i);
	for (unsigned i = nodes - 1; i > 0; i--) {
		unsigned other = (unsigned)(next_random(&state) % i);
		u64 swap = *chase_node(i);

		*chase_node(i) = *chase_node(other);
		*chase_node(other) = swap;
	}
}

void prepare_chase_4m(void)
{
	prepare_chase(CHASE_BYTES);
}

void prepare_chase_512k(void)
{
	prepare_chase(512 * 1024);
}

u64 run_chase(u64 n)
{
	const u64 *node = chase_node(0);

	for (; n; n--)
		node = (const u64 *)*node;
	return (u64)node - (u64)chase_memory;
}
