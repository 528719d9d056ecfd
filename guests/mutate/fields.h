/* The fields that are mutated, and how. */
#ifndef FIELDS_H
#define FIELDS_H

#include "types.h"

enum kind {
	PLAIN,	      /* any value does */
	CONTROLS,     /* bits that a capability MSR rules over */
	POINTER,      /* of a 4-KB structure */
	LIST,	      /* of 16-byte entries */
	COUNT,	      /* of a list */
	TARGET_COUNT, /* of CR3-target values */
	SELECTOR,
	RIGHTS,
	LIMIT,
	BASE,
	REGISTER, /* bits with a meaning each */
	CR3,
	PAT,
	RIP,
	RSP,
	ACTIVITY,
	EVENT,
	LENGTH,
	LINK,
	EPTP,
	SMALL,
	NOT_CANONICAL, /* an address that is never used */
	PDPTE,
};

struct field {
	u16 encoding;
	u8 kind;
	/* bits that stay as they are */
	u64 kept;
};

extern const struct field fields[];
extern const unsigned field_count;

/* What of the guest's state a VM exit saves. */
extern const u16 saved_fields[];
extern const unsigned saved_count;
#define MOST_SAVED 64

#endif
