//! Checks on guest segment registers (SDM vol. 3, 27.3.1.2).

use super::checks::CANONICAL;
use super::conditions::*;
use super::guest::OUTCOME;
use super::{found, rules, Check, Condition, Context};
use crate::vmx::describe::segment_type;
use crate::vmx::fields::{field::*, Field};

/// The parts of access rights.
trait Rights {
    fn kind(self) -> u64;
    fn code_or_data(self) -> bool;
    fn dpl(self) -> u64;
    fn unusable(self) -> bool;
}

impl Rights for u64 {
    fn kind(self) -> u64 {
        self & 15
    }
    fn code_or_data(self) -> bool {
        self >> 4 & 1 != 0
    }
    fn dpl(self) -> u64 {
        self >> 5 & 3
    }
    fn unusable(self) -> bool {
        self >> 16 & 1 != 0
    }
}

const IF_LDTR_USABLE: Condition = Condition {
    fields: &[GUEST_LDTR_ACCESS_RIGHTS],
    holds: |c| !c.get(GUEST_LDTR_ACCESS_RIGHTS).unusable(),
};
const IF_SS_USABLE: Condition = Condition {
    fields: &[GUEST_SS_ACCESS_RIGHTS],
    holds: |c| !c.get(GUEST_SS_ACCESS_RIGHTS).unusable(),
};
const IF_DS_USABLE: Condition = Condition {
    fields: &[GUEST_DS_ACCESS_RIGHTS],
    holds: |c| !c.get(GUEST_DS_ACCESS_RIGHTS).unusable(),
};
const IF_ES_USABLE: Condition = Condition {
    fields: &[GUEST_ES_ACCESS_RIGHTS],
    holds: |c| !c.get(GUEST_ES_ACCESS_RIGHTS).unusable(),
};

const TI_CLEAR: Check = Check {
    holds: |c, f| c.get(f[0]) & 4 == 0,
    words: |c, f| {
        format!(
            "{}; TI (bit 2) must be 0, as the register is loaded from the GDT",
            found(c, f[0])
        )
    },
};

/// Bits 63:32 of a base.
const BASE_32: Check = Check {
    holds: |c, f| c.get(f[0]) >> 32 == 0,
    words: |c, f| format!("{}; bits 63:32 must be 0", found(c, f[0])),
};

rules! {
    /// Selectors, and bases outside virtual-8086 mode's own rules.
    SELECTORS_AND_BASES "27.3.1.2" OUTCOME;
    "guest.tr.ti", [GUEST_TR_SELECTOR], TI_CLEAR;
    "guest.ldtr.ti", [GUEST_LDTR_SELECTOR] if IF_LDTR_USABLE, TI_CLEAR;
    "guest.ss.rpl", [GUEST_SS_SELECTOR GUEST_CS_SELECTOR] if IF_PROTECTED_RESTRICTED, Check {
        holds: |c, f| c.get(f[0]) & 3 == c.get(f[1]) & 3,
        words: |c, f| format!("{} and {}; both must have the same RPL (bits 1:0)", found(c, f[0]), found(c, f[1])),
    };
    "guest.tr.base", [GUEST_TR_BASE], CANONICAL;
    "guest.fs.base", [GUEST_FS_BASE], CANONICAL;
    "guest.gs.base", [GUEST_GS_BASE], CANONICAL;
    "guest.ldtr.base", [GUEST_LDTR_BASE] if IF_LDTR_USABLE, CANONICAL;
    "guest.cs.base", [GUEST_CS_BASE], BASE_32;
    "guest.ss.base", [GUEST_SS_BASE] if IF_SS_USABLE, BASE_32;
    "guest.ds.base", [GUEST_DS_BASE] if IF_DS_USABLE, BASE_32;
    "guest.es.base", [GUEST_ES_BASE] if IF_ES_USABLE, BASE_32;
}

/// Neither virtual-8086 nor unrestricted.
const IF_PROTECTED_RESTRICTED: Condition = Condition {
    fields: &[
        GUEST_RFLAGS,
        SECONDARY_PROCESSOR_BASED_CONTROLS,
        PRIMARY_PROCESSOR_BASED_CONTROLS,
    ],
    holds: |c| !c.virtual_8086() && !c.unrestricted(),
};

const VIRTUAL_8086_BASE: Check = Check {
    holds: |c, f| c.get(f[0]) == c.get(f[1]) << 4,
    words: |c, f| {
        let base = c.get(f[1]) << 4;
        format!(
            "{} and {}; in virtual-8086 mode the base is the selector times 16, {base:#x}",
            found(c, f[0]),
            found(c, f[1])
        )
    },
};

const VIRTUAL_8086_LIMIT: Check = Check {
    holds: |c, f| c.get(f[0]) == 0xffff,
    words: |c, f| {
        format!(
            "{}; in virtual-8086 mode the limit must be 0xffff",
            found(c, f[0])
        )
    },
};

const VIRTUAL_8086_RIGHTS: Check = Check {
    holds: |c, f| c.get(f[0]) == 0xf3,
    words: |c, f| {
        format!(
            "{}; in virtual-8086 mode the access rights must be 0xf3",
            found(c, f[0])
        )
    },
};

rules! {
    /// The code and data segments of a guest in virtual-8086 mode.
    VIRTUAL_8086 "27.3.1.2" OUTCOME;
    "guest.cs.v86_base", [GUEST_CS_BASE GUEST_CS_SELECTOR] if IF_VIRTUAL_8086, VIRTUAL_8086_BASE;
    "guest.ss.v86_base", [GUEST_SS_BASE GUEST_SS_SELECTOR] if IF_VIRTUAL_8086, VIRTUAL_8086_BASE;
    "guest.ds.v86_base", [GUEST_DS_BASE GUEST_DS_SELECTOR] if IF_VIRTUAL_8086, VIRTUAL_8086_BASE;
    "guest.es.v86_base", [GUEST_ES_BASE GUEST_ES_SELECTOR] if IF_VIRTUAL_8086, VIRTUAL_8086_BASE;
    "guest.fs.v86_base", [GUEST_FS_BASE GUEST_FS_SELECTOR] if IF_VIRTUAL_8086, VIRTUAL_8086_BASE;
    "guest.gs.v86_base", [GUEST_GS_BASE GUEST_GS_SELECTOR] if IF_VIRTUAL_8086, VIRTUAL_8086_BASE;
    "guest.cs.v86_limit", [GUEST_CS_LIMIT] if IF_VIRTUAL_8086, VIRTUAL_8086_LIMIT;
    "guest.ss.v86_limit", [GUEST_SS_LIMIT] if IF_VIRTUAL_8086, VIRTUAL_8086_LIMIT;
    "guest.ds.v86_limit", [GUEST_DS_LIMIT] if IF_VIRTUAL_8086, VIRTUAL_8086_LIMIT;
    "guest.es.v86_limit", [GUEST_ES_LIMIT] if IF_VIRTUAL_8086, VIRTUAL_8086_LIMIT;
    "guest.fs.v86_limit", [GUEST_FS_LIMIT] if IF_VIRTUAL_8086, VIRTUAL_8086_LIMIT;
    "guest.gs.v86_limit", [GUEST_GS_LIMIT] if IF_VIRTUAL_8086, VIRTUAL_8086_LIMIT;
    "guest.cs.v86_rights", [GUEST_CS_ACCESS_RIGHTS] if IF_VIRTUAL_8086, VIRTUAL_8086_RIGHTS;
    "guest.ss.v86_rights", [GUEST_SS_ACCESS_RIGHTS] if IF_VIRTUAL_8086, VIRTUAL_8086_RIGHTS;
    "guest.ds.v86_rights", [GUEST_DS_ACCESS_RIGHTS] if IF_VIRTUAL_8086, VIRTUAL_8086_RIGHTS;
    "guest.es.v86_rights", [GUEST_ES_ACCESS_RIGHTS] if IF_VIRTUAL_8086, VIRTUAL_8086_RIGHTS;
    "guest.fs.v86_rights", [GUEST_FS_ACCESS_RIGHTS] if IF_VIRTUAL_8086, VIRTUAL_8086_RIGHTS;
    "guest.gs.v86_rights", [GUEST_GS_ACCESS_RIGHTS] if IF_VIRTUAL_8086, VIRTUAL_8086_RIGHTS;
}

/// What was found in access rights, with the type in words.
fn found_type(c: &Context, field: Field) -> String {
    let rights = c.get(field);
    format!(
        "{}: type {} ({})",
        found(c, field),
        rights.kind(),
        segment_type(rights)
    )
}

const CS_TYPE: Check = Check {
    holds: |c, f| match c.get(f[0]).kind() {
        9 | 11 | 13 | 15 => true,
        3 => c.unrestricted(),
        _ => false,
    },
    words: |c, f| {
        let also = if c.unrestricted() {
            ", or 3 (read/write data, accessed)"
        } else {
            ""
        };
        format!(
            "{}; CS must have type 9, 11, 13 or 15 (accessed code){also}",
            found_type(c, f[0])
        )
    },
};

const SS_TYPE: Check = Check {
    holds: |c, f| matches!(c.get(f[0]).kind(), 3 | 7),
    words: |c, f| {
        format!(
            "{}; a usable SS must have type 3 or 7 (read/write data, accessed)",
            found_type(c, f[0])
        )
    },
};

const DATA_TYPE: Check = Check {
    holds: |c, f| {
        let kind = c.get(f[0]).kind();
        kind & 1 != 0 && (kind & 8 == 0 || kind & 2 != 0)
    },
    words: |c, f| {
        format!(
            "{}; a usable segment must be accessed (bit 0) and, if code, readable (bit 1)",
            found_type(c, f[0])
        )
    },
};

const CODE_OR_DATA: Check = Check {
    holds: |c, f| c.get(f[0]).code_or_data(),
    words: |c, f| format!("{}; S (bit 4) must be 1, for code or data", found(c, f[0])),
};

const CS_DPL: Check = Check {
    holds: |c, f| {
        let (cs, ss) = (c.get(f[0]), c.get(f[1]));
        match cs.kind() {
            3 => cs.dpl() == 0,
            9 | 11 => cs.dpl() == ss.dpl(),
            13 | 15 => cs.dpl() <= ss.dpl(),
            _ => true,
        }
    },
    words: |c, f| {
        let (cs, ss) = (c.get(f[0]), c.get(f[1]));
        let allowed = match cs.kind() {
            3 => "0, as CS is a data segment".to_string(),
            9 | 11 => format!("equal to that of SS, {}, as CS is not conforming", ss.dpl()),
            _ => format!("at most that of SS, {}, as CS is conforming", ss.dpl()),
        };
        format!(
            "{}; DPL (bits 6:5) is {} and must be {allowed}",
            found_type(c, f[0]),
            cs.dpl()
        )
    },
};

const SS_DPL_RPL: Check = Check {
    holds: |c, f| c.get(f[0]).dpl() == c.get(f[1]) & 3,
    words: |c, f| {
        format!(
            "{} and {}; DPL (bits 6:5) is {} and must be equal to the RPL, {}",
            found(c, f[0]),
            found(c, f[1]),
            c.get(f[0]).dpl(),
            c.get(f[1]) & 3
        )
    },
};

const SS_DPL_ZERO: Check =
    Check {
        holds: |c, f| c.get(f[0]).dpl() == 0 || !(c.get(f[1]).kind() == 3 || c.get(f[2]) & 1 == 0),
        words: |c, f| {
            format!(
        "{}; DPL (bits 6:5) must be 0 while CS has type 3 or CR0.PE is 0 (CS has type {}, CR0.PE is {})",
        found(c, f[0]), c.get(f[1]).kind(), c.get(f[2]) & 1
    )
        },
    };

const DATA_DPL: Check = Check {
    holds: |c, f| {
        let rights = c.get(f[0]);
        rights.unusable() || rights.kind() > 11 || rights.dpl() >= c.get(f[1]) & 3
    },
    words: |c, f| {
        format!(
            "{} and {}; DPL (bits 6:5) is {} and must not be below the RPL, {}",
            found(c, f[0]),
            found(c, f[1]),
            c.get(f[0]).dpl(),
            c.get(f[1]) & 3
        )
    },
};

const PRESENT: Check = Check {
    holds: |c, f| c.get(f[0]) >> 7 & 1 != 0,
    words: |c, f| format!("{}; P (bit 7) must be 1", found(c, f[0])),
};

const RESERVED_LOW: Check = Check {
    holds: |c, f| c.get(f[0]) & 0xf00 == 0,
    words: |c, f| format!("{}; bits 11:8 are reserved and must be 0", found(c, f[0])),
};

const CS_DEFAULT_SIZE: Check = Check {
    holds: |c, f| !(c.ia32e_guest() && c.get(f[0]) >> 13 & 3 == 3),
    words: |c, f| {
        format!(
            "{}; D/B (bit 14) must be 0 while L (bit 13) is 1 in an IA-32e mode guest",
            found(c, f[0])
        )
    },
};

const GRANULARITY: Check = Check {
    holds: |c, f| {
        let limit = c.get(f[1]);
        match c.get(f[0]) >> 15 & 1 {
            0 => limit >> 20 == 0,
            _ => limit & 0xfff == 0xfff,
        }
    },
    words: |c, f| {
        let rule = match c.get(f[0]) >> 15 & 1 {
            0 => "G (bit 15) must be 1 if any of bits 31:20 of the limit is 1",
            _ => "G (bit 15) must be 0 if any of bits 11:0 of the limit is 0",
        };
        format!("{} and {}; {rule}", found(c, f[0]), found(c, f[1]))
    },
};

const RESERVED_HIGH: Check = Check {
    holds: |c, f| c.get(f[0]) >> 17 == 0,
    words: |c, f| format!("{}; bits 31:17 are reserved and must be 0", found(c, f[0])),
};

/// Protected or real-address mode, not virtual-8086 mode.
const IF_PROTECTED: Condition = Condition {
    fields: &[GUEST_RFLAGS],
    holds: |c| !c.virtual_8086(),
};

macro_rules! usable_condition {
    ($($name:ident $rights:ident)*) => {
        $(const $name: Condition = Condition {
            fields: &[$rights, GUEST_RFLAGS],
            holds: |c| !c.virtual_8086() && !c.get($rights).unusable(),
        };)*
    };
}

usable_condition! {
    IF_SS GUEST_SS_ACCESS_RIGHTS
    IF_DS GUEST_DS_ACCESS_RIGHTS
    IF_ES GUEST_ES_ACCESS_RIGHTS
    IF_FS GUEST_FS_ACCESS_RIGHTS
    IF_GS GUEST_GS_ACCESS_RIGHTS
}

rules! {
    /// The access rights of code and data segments outside virtual-8086 mode.
    ACCESS_RIGHTS "27.3.1.2" OUTCOME;
    "guest.cs.type", [GUEST_CS_ACCESS_RIGHTS SECONDARY_PROCESSOR_BASED_CONTROLS PRIMARY_PROCESSOR_BASED_CONTROLS]
        if IF_PROTECTED, CS_TYPE;
    "guest.ss.type", [GUEST_SS_ACCESS_RIGHTS] if IF_SS, SS_TYPE;
    "guest.ds.type", [GUEST_DS_ACCESS_RIGHTS] if IF_DS, DATA_TYPE;
    "guest.es.type", [GUEST_ES_ACCESS_RIGHTS] if IF_ES, DATA_TYPE;
    "guest.fs.type", [GUEST_FS_ACCESS_RIGHTS] if IF_FS, DATA_TYPE;
    "guest.gs.type", [GUEST_GS_ACCESS_RIGHTS] if IF_GS, DATA_TYPE;
    "guest.cs.s", [GUEST_CS_ACCESS_RIGHTS] if IF_PROTECTED, CODE_OR_DATA;
    "guest.ss.s", [GUEST_SS_ACCESS_RIGHTS] if IF_SS, CODE_OR_DATA;
    "guest.ds.s", [GUEST_DS_ACCESS_RIGHTS] if IF_DS, CODE_OR_DATA;
    "guest.es.s", [GUEST_ES_ACCESS_RIGHTS] if IF_ES, CODE_OR_DATA;
    "guest.fs.s", [GUEST_FS_ACCESS_RIGHTS] if IF_FS, CODE_OR_DATA;
    "guest.gs.s", [GUEST_GS_ACCESS_RIGHTS] if IF_GS, CODE_OR_DATA;
    "guest.cs.dpl", [GUEST_CS_ACCESS_RIGHTS GUEST_SS_ACCESS_RIGHTS] if IF_PROTECTED, CS_DPL;
    "guest.ss.dpl_rpl", [GUEST_SS_ACCESS_RIGHTS GUEST_SS_SELECTOR] if IF_PROTECTED_RESTRICTED, SS_DPL_RPL;
    "guest.ss.dpl_zero", [GUEST_SS_ACCESS_RIGHTS GUEST_CS_ACCESS_RIGHTS GUEST_CR0] if IF_PROTECTED, SS_DPL_ZERO;
    "guest.ds.dpl", [GUEST_DS_ACCESS_RIGHTS GUEST_DS_SELECTOR] if IF_PROTECTED_RESTRICTED, DATA_DPL;
    "guest.es.dpl", [GUEST_ES_ACCESS_RIGHTS GUEST_ES_SELECTOR] if IF_PROTECTED_RESTRICTED, DATA_DPL;
    "guest.fs.dpl", [GUEST_FS_ACCESS_RIGHTS GUEST_FS_SELECTOR] if IF_PROTECTED_RESTRICTED, DATA_DPL;
    "guest.gs.dpl", [GUEST_GS_ACCESS_RIGHTS GUEST_GS_SELECTOR] if IF_PROTECTED_RESTRICTED, DATA_DPL;
    "guest.cs.present", [GUEST_CS_ACCESS_RIGHTS] if IF_PROTECTED, PRESENT;
    "guest.ss.present", [GUEST_SS_ACCESS_RIGHTS] if IF_SS, PRESENT;
    "guest.ds.present", [GUEST_DS_ACCESS_RIGHTS] if IF_DS, PRESENT;
    "guest.es.present", [GUEST_ES_ACCESS_RIGHTS] if IF_ES, PRESENT;
    "guest.fs.present", [GUEST_FS_ACCESS_RIGHTS] if IF_FS, PRESENT;
    "guest.gs.present", [GUEST_GS_ACCESS_RIGHTS] if IF_GS, PRESENT;
    "guest.cs.reserved_low", [GUEST_CS_ACCESS_RIGHTS] if IF_PROTECTED, RESERVED_LOW;
    "guest.ss.reserved_low", [GUEST_SS_ACCESS_RIGHTS] if IF_SS, RESERVED_LOW;
    "guest.ds.reserved_low", [GUEST_DS_ACCESS_RIGHTS] if IF_DS, RESERVED_LOW;
    "guest.es.reserved_low", [GUEST_ES_ACCESS_RIGHTS] if IF_ES, RESERVED_LOW;
    "guest.fs.reserved_low", [GUEST_FS_ACCESS_RIGHTS] if IF_FS, RESERVED_LOW;
    "guest.gs.reserved_low", [GUEST_GS_ACCESS_RIGHTS] if IF_GS, RESERVED_LOW;
    "guest.cs.default_size", [GUEST_CS_ACCESS_RIGHTS ENTRY_CONTROLS] if IF_PROTECTED, CS_DEFAULT_SIZE;
    "guest.cs.granularity", [GUEST_CS_ACCESS_RIGHTS GUEST_CS_LIMIT] if IF_PROTECTED, GRANULARITY;
    "guest.ss.granularity", [GUEST_SS_ACCESS_RIGHTS GUEST_SS_LIMIT] if IF_SS, GRANULARITY;
    "guest.ds.granularity", [GUEST_DS_ACCESS_RIGHTS GUEST_DS_LIMIT] if IF_DS, GRANULARITY;
    "guest.es.granularity", [GUEST_ES_ACCESS_RIGHTS GUEST_ES_LIMIT] if IF_ES, GRANULARITY;
    "guest.fs.granularity", [GUEST_FS_ACCESS_RIGHTS GUEST_FS_LIMIT] if IF_FS, GRANULARITY;
    "guest.gs.granularity", [GUEST_GS_ACCESS_RIGHTS GUEST_GS_LIMIT] if IF_GS, GRANULARITY;
    "guest.cs.reserved_high", [GUEST_CS_ACCESS_RIGHTS] if IF_PROTECTED, RESERVED_HIGH;
    "guest.ss.reserved_high", [GUEST_SS_ACCESS_RIGHTS] if IF_SS, RESERVED_HIGH;
    "guest.ds.reserved_high", [GUEST_DS_ACCESS_RIGHTS] if IF_DS, RESERVED_HIGH;
    "guest.es.reserved_high", [GUEST_ES_ACCESS_RIGHTS] if IF_ES, RESERVED_HIGH;
    "guest.fs.reserved_high", [GUEST_FS_ACCESS_RIGHTS] if IF_FS, RESERVED_HIGH;
    "guest.gs.reserved_high", [GUEST_GS_ACCESS_RIGHTS] if IF_GS, RESERVED_HIGH;
}

const TR_TYPE: Check = Check {
    holds: |c, f| match c.get(f[0]).kind() {
        11 => true,
        3 => !c.ia32e_guest(),
        _ => false,
    },
    words: |c, f| {
        let allowed = if c.ia32e_guest() {
            "11 (busy 64-bit TSS)"
        } else {
            "3 or 11 (busy TSS)"
        };
        format!("{}; TR must have type {allowed}", found_type(c, f[0]))
    },
};

const LDTR_TYPE: Check = Check {
    holds: |c, f| c.get(f[0]).kind() == 2,
    words: |c, f| format!("{}; a usable LDTR must have type 2 (LDT)", found_type(c, f[0])),
};

const SYSTEM_SEGMENT: Check = Check {
    holds: |c, f| !c.get(f[0]).code_or_data(),
    words: |c, f| format!("{}; S (bit 4) must be 0, for a system segment", found(c, f[0])),
};

const USABLE: Check = Check {
    holds: |c, f| !c.get(f[0]).unusable(),
    words: |c, f| format!("{}; TR must be usable: bit 16 must be 0", found(c, f[0])),
};

rules! {
    /// The access rights of TR and LDTR.
    SYSTEM "27.3.1.2" OUTCOME;
    "guest.tr.type", [GUEST_TR_ACCESS_RIGHTS ENTRY_CONTROLS], TR_TYPE;
    "guest.tr.s", [GUEST_TR_ACCESS_RIGHTS], SYSTEM_SEGMENT;
    "guest.tr.present", [GUEST_TR_ACCESS_RIGHTS], PRESENT;
    "guest.tr.reserved_low", [GUEST_TR_ACCESS_RIGHTS], RESERVED_LOW;
    "guest.tr.granularity", [GUEST_TR_ACCESS_RIGHTS GUEST_TR_LIMIT], GRANULARITY;
    "guest.tr.unusable", [GUEST_TR_ACCESS_RIGHTS], USABLE;
    "guest.tr.reserved_high", [GUEST_TR_ACCESS_RIGHTS], RESERVED_HIGH;
    "guest.ldtr.type", [GUEST_LDTR_ACCESS_RIGHTS] if IF_LDTR_USABLE, LDTR_TYPE;
    "guest.ldtr.s", [GUEST_LDTR_ACCESS_RIGHTS] if IF_LDTR_USABLE, SYSTEM_SEGMENT;
    "guest.ldtr.present", [GUEST_LDTR_ACCESS_RIGHTS] if IF_LDTR_USABLE, PRESENT;
    "guest.ldtr.reserved_low", [GUEST_LDTR_ACCESS_RIGHTS] if IF_LDTR_USABLE, RESERVED_LOW;
    "guest.ldtr.granularity", [GUEST_LDTR_ACCESS_RIGHTS GUEST_LDTR_LIMIT] if IF_LDTR_USABLE, GRANULARITY;
    "guest.ldtr.reserved_high", [GUEST_LDTR_ACCESS_RIGHTS] if IF_LDTR_USABLE, RESERVED_HIGH;
}
