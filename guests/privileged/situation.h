/* A case under construction: the sandbox's memory and registers, and the instructions to be tried there. */
#ifndef SITUATION_H
#define SITUATION_H

#include "sandbox.h"
#include "types.h"

enum mode { LONG64, COMPATIBILITY32, COMPATIBILITY16, PROTECTED32, PROTECTED16, VIRTUAL8086, REAL, MODES };
enum register_number { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };
enum segment_number { ES, CS, SS, DS, FS, GS };

#define RFLAGS_IF BIT(9)
#define RFLAGS_TF BIT(8)
#define RFLAGS_DF BIT(10)
#define RFLAGS_IOPL(n) ((u64)(n) << 12)
#define RFLAGS_NT BIT(14)
#define RFLAGS_RF BIT(16)
#define RFLAGS_VM BIT(17)
#define RFLAGS_AC BIT(18)
#define RFLAGS_VIF BIT(19)
#define RFLAGS_VIP BIT(20)

struct situation {
	u64 random;
	enum mode mode;
	unsigned bits;  /* of the code */
	unsigned level; /* of privilege */
	unsigned at;    /* where the next byte of code goes, from CODE on */
	bool enforced;  /* control-flow enforcement is in force, and the outcome has what that left */
	u64 ssp;        /* then, where the shadow stack begins */
	volatile u64 *in;
};

/* Random choice. All of a case comes from the seed and its number. */
u64 random64(struct situation *s);
unsigned below(struct situation *s, unsigned limit);
bool chance(struct situation *s, unsigned percent);
#define one_of(s, array) ((array)[below(s, ARRAY_SIZE(array))])

/* Begins case `number`; chooses a mode of `modes`, a set of BIT(mode), and a level; fills tables and registers with
 * what leads somewhere. No code yet. */
void situation_begin(struct situation *s, u64 seed, u64 number);
void situation_fill(struct situation *s, u64 modes);
bool in_long_mode(const struct situation *s);
bool has_descriptors(const struct situation *s);
bool is_paging(const struct situation *s);
void use(struct situation *s, enum register_number reg, u64 value); /* as the case finds it */

/* What the sandbox holds. */
u64 random_descriptor(struct situation *s);
u64 descriptor_base(u64 descriptor);
u16 random_selector(struct situation *s);
u16 plain_selector(unsigned level, enum segment_number segment);
u64 code_address(const struct situation *s, unsigned offset); /* as RIP has it */
unsigned code_target(struct situation *s);                   /* an offset that control may come to */
u64 wild_address(struct situation *s); /* not canonical; its lower half is harmless */
u64 data_address(const struct situation *s, unsigned offset);
void random_gate(struct situation *s, unsigned vector);
void take_by_task(const struct situation *s, unsigned vector, unsigned task); /* one of the fault tasks */
void mark_accessed(void); /* all segments in the tables */
void descriptor_store(unsigned slot, u64 descriptor);
u64 task_address(unsigned n);

void interrupt_gate(const struct situation *s, unsigned vector, u64 offset, u16 selector, unsigned stack);

/* The window: its paging entries, and flat data for the level, through which it is reached. */
u64 window_entry(const struct situation *s, unsigned page);
unsigned window_entry_bytes(const struct situation *s);
void make_data_flat(const struct situation *s);
/* MOV from memory, MOV to memory, XADD. */
void emit_access(struct situation *s, unsigned how, u64 address);

/* Instructions. The size of an operand is in bytes. */
void emit(struct situation *s, unsigned byte);
void emit_bytes(struct situation *s, unsigned count, u64 bytes); /* the lowest first */
void emit_operand_size(struct situation *s, unsigned bytes);
void emit_segment(struct situation *s, enum segment_number segment);
void emit_memory(struct situation *s, unsigned reg, u64 address); /* ModRM and displacement */
/* The same with 32-bit addresses in 16-bit code, too, and the prefix that this takes. */
void emit_wide_memory(struct situation *s, unsigned reg, u64 address);
void emit_wide_address(struct situation *s);
void emit_far_pointer(struct situation *s, unsigned bytes, u64 offset, u16 selector, u64 at);
unsigned operand_size(struct situation *s);

/* The families: each adds the instructions of a case. */
struct family {
	const char *name;
	void (*build)(struct situation *s);
	u64 modes;
};
extern const struct family families[];
extern const unsigned family_count, mixed_count; /* the first of them are the mix, the others have to be asked for */

void build_selectors(struct situation *s);
void build_far(struct situation *s);
void build_returns(struct situation *s);
void build_interrupts(struct situation *s);
void build_tasks(struct situation *s);
void build_control(struct situation *s);
void build_fast_calls(struct situation *s);
void build_sensitive(struct situation *s);
void build_virtual(struct situation *s);
void build_paging(struct situation *s);
void build_alignment(struct situation *s);
void build_debug(struct situation *s);
void build_stack(struct situation *s);
void build_limits(struct situation *s);
void build_msrs(struct situation *s);
void build_keys(struct situation *s);
void build_invalidation(struct situation *s);
void build_enforcement(struct situation *s);

#endif
