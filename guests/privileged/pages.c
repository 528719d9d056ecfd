/* Families about the rights of pages: paging entries, protection keys, and what is to be forgotten of translations. */
#include "situation.h"

#include "cpu.h"

#define RDPKRU 0xee010f
#define WRPKRU 0xef010f
#define INVPCID 0x82380f66
#define RELOAD_CR3 0xd8220fd8200f
#define DESCRIPTOR 0x40 /* of INVPCID, an offset in DATA */
#define PAGE_OF_USER BIT(2)
#define KEY(n) ((u64)(n) << 59)

static bool is_wide(const struct situation *s)
{
	return (s->in[IN_CR4] & CR4_PAE) != 0;
}

unsigned window_entry_bytes(const struct situation *s)
{
	return is_wide(s) ? 8 : 4;
}

u64 window_entry(const struct situation *s, unsigned page)
{
	return (is_wide(s) ? WINDOW_PT : WINDOW_PT32) + page * window_entry_bytes(s);
}

void make_data_flat(const struct situation *s)
{
	descriptor_store(SEL_PLAIN / 8 + 3 * s->level + 1, 0x00cf93000000ffff | (u64)s->level << 45);
}

/* All but `fixed` of the entries may change. */
static void make_window_random(struct situation *s, u64 fixed)
{
	static const u64 bits[] = {BIT(0), BIT(1), BIT(2), BIT(2), BIT(3), BIT(5), BIT(6), BIT(7), BIT(8), BIT(63),
		BIT(63), BIT(51), BIT(40), BIT(52)};
	u64 all = (is_wide(s) ? ~0ull : 0xffffffff) & ~fixed;

	for (unsigned page = 0; page < WINDOW_PAGES; page++) {
		u64 at = window_entry(s, page), value = *(volatile u64 *)at;

		for (unsigned n = below(s, 3); n; n--)
			value ^= one_of(s, bits) & all;
		store(at, window_entry_bytes(s), value);
	}
	if (chance(s, 20)) { /* the level above */
		u64 at = is_wide(s) ? PD + 8 * (WINDOW >> 21) : PD32 + 4 * (WINDOW >> 22);

		store(at, window_entry_bytes(s), *(volatile u64 *)at ^ (one_of(s, bits) & ~BIT(7) & all));
	}
}

static u64 window_address(struct situation *s)
{
	return WINDOW + below(s, WINDOW_PAGES) * 0x1000 + (chance(s, 30) ? 0xffd + below(s, 4) : 0x10);
}

void emit_access(struct situation *s, unsigned how, u64 address)
{
	unsigned size = below(s, 3);

	emit_wide_address(s);
	if (size)
		emit_operand_size(s, 2 * size);
	if (how == 2)
		emit(s, 0x0f);
	emit(s, (how == 2 ? 0xc0 : how == 1 ? 0x88 : 0x8a) | (size ? 1 : 0));
	emit_wide_memory(s, RAX, address);
}

/* False: control leaves by it. */
static bool emit_window_access(struct situation *s)
{
	unsigned how = below(s, 4);
	u64 address = window_address(s);

	if (how == 3 && s->mode == LONG64) {
		use(s, RBX, address);
		emit_bytes(s, 2, 0xe3ff); /* JMP there: fetch */
		return false;
	}
	emit_access(s, how & 1 ? 1 : how, address);
	return true;
}

void build_paging(struct situation *s)
{
	unsigned count = 1 + below(s, 3);

	if (!is_paging(s))
		return build_selectors(s);
	make_window_random(s, 0);
	make_data_flat(s);
	s->in[IN_RFLAGS] ^= chance(s, 50) ? RFLAGS_AC : 0;
	while (count-- && emit_window_access(s))
		;
}

void build_keys(struct situation *s)
{
	static const u32 instructions[] = {RDPKRU, WRPKRU, WRPKRU};
	unsigned count = 1 + below(s, 3);
	/* Bochs asks PKRU who accesses, not whose page it is: where both are a program's it is the same */
	bool window = is_paging(s) && has_descriptors(s) && (s->level == 3 || !in_long_mode(s));

	if (window) {
		make_window_random(s, PAGE_OF_USER);
		make_data_flat(s);
		/* outside long mode these bits are reserved */
		for (unsigned page = 0; page < WINDOW_PAGES && is_wide(s); page++)
			if (in_long_mode(s) || chance(s, 10))
				store(window_entry(s, page), 8, *(volatile u64 *)window_entry(s, page) ^ KEY(below(s, 16)));
	}
	/* key 0 is that of the code and the stacks; for the handler's it has to let writes through */
	s->in[IN_PKRU] = random64(s) & (chance(s, 90) ? 0xfffffffc : 0xfffffffd);
	if (chance(s, 85))
		s->in[IN_CR4] |= CR4_PKE;
	use(s, RAX, random64(s) & (chance(s, 90) ? 0xfffffffc : 0xfffffffd));
	use(s, RCX, chance(s, 90) ? 0 : BIT(below(s, 32)));
	use(s, RDX, chance(s, 90) ? 0 : BIT(below(s, 32)));
	if (s->mode == LONG64) /* of which nothing is looked at */
		for (unsigned reg = RAX; reg <= RDX; reg++)
			s->in[IN_REGS + reg] |= chance(s, 50) ? random64(s) << 32 : 0;
	while (count--) {
		if (chance(s, 60))
			emit_bytes(s, 3, one_of(s, instructions));
		if (window && !emit_window_access(s))
			return;
	}
}

static void emit_invlpg(struct situation *s, u64 address)
{
	emit_wide_address(s);
	emit_bytes(s, 2, 0x010f);
	emit_wide_memory(s, 7, address);
}

/* `at`: where DATA begins in the data segment. */
static void emit_invpcid(struct situation *s, u64 type, u64 context, u64 address, u64 at)
{
	store(DATA + DESCRIPTOR, 8, context);
	store(DATA + DESCRIPTOR + 8, 8, address);
	use(s, RCX, type);
	emit_wide_address(s);
	emit_bytes(s, 4, INVPCID);
	emit_wide_memory(s, RCX, at + DESCRIPTOR);
}

/* A page is used, its entry changes, the old translation is forgotten in one of the ways to do it, it is used again. */
static void change_page(struct situation *s)
{
	unsigned page = below(s, WINDOW_PAGES), how = below(s, 3);
	u64 address = WINDOW + 0x1000 * page + 0x10;
	u32 entry = (u32)(DATA + 0x1000 * below(s, 2)) | (chance(s, 85) ? BIT(0) : 0) | (chance(s, 60) ? BIT(1) : 0) |
		(chance(s, 80) ? BIT(2) : 0) | (chance(s, 20) ? BIT(5) | BIT(6) : 0);

	make_data_flat(s);
	sandbox_changed |= WINDOW_CHANGED; /* the new entry may not say so */
	emit_access(s, below(s, 3), address);
	emit_wide_address(s);
	emit_operand_size(s, 4);
	emit(s, 0xc7);
	emit_wide_memory(s, 0, window_entry(s, page));
	emit_bytes(s, 4, entry);
	if (how == 0)
		emit_invlpg(s, address);
	else if (how == 1)
		emit_invpcid(s, below(s, 4), 0, address, DATA);
	else
		emit_bytes(s, 6, RELOAD_CR3);
	emit_access(s, below(s, 3), address);
}

void build_invalidation(struct situation *s)
{
	static const u64 types[] = {0, 0, 1, 1, 2, 3, 4, 0x80, BIT(31)};
	u64 type = one_of(s, types), context = chance(s, 60) ? 0 : random64(s) & 0xfff;
	u64 address = chance(s, 70) ? window_address(s) : wild_address(s);

	if (s->mode == LONG64 && chance(s, 50))
		s->in[IN_CR4] |= CR4_PCIDE;
	if (is_paging(s) && has_descriptors(s) && chance(s, 60))
		return change_page(s);
	if (chance(s, 30)) {
		emit_invlpg(s, chance(s, 80) ? address : random64(s) & 0xffffffff);
	} else {
		if (chance(s, 15))
			context |= BIT(12 + below(s, 52));
		emit_invpcid(s, type, context, address, data_address(s, 0));
	}
}
