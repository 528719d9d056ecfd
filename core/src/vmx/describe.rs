//! The value of a VMCS field in words.

use super::controls::Word;
use super::errors::instruction_error_text;
use super::fields::{field, Field, Format};
use super::qualification;
use super::reasons::{self, ExitReason};
use super::vmcs::Vmcs;

const CR0: &[(u8, &str)] = &[
    (0, "PE"),
    (1, "MP"),
    (2, "EM"),
    (3, "TS"),
    (4, "ET"),
    (5, "NE"),
    (16, "WP"),
    (18, "AM"),
    (29, "NW"),
    (30, "CD"),
    (31, "PG"),
];
const CR4: &[(u8, &str)] = &[
    (0, "VME"),
    (1, "PVI"),
    (2, "TSD"),
    (3, "DE"),
    (4, "PSE"),
    (5, "PAE"),
    (6, "MCE"),
    (7, "PGE"),
    (8, "PCE"),
    (9, "OSFXSR"),
    (10, "OSXMMEXCPT"),
    (11, "UMIP"),
    (12, "LA57"),
    (13, "VMXE"),
    (14, "SMXE"),
    (16, "FSGSBASE"),
    (17, "PCIDE"),
    (18, "OSXSAVE"),
    (19, "KL"),
    (20, "SMEP"),
    (21, "SMAP"),
    (22, "PKE"),
    (23, "CET"),
    (24, "PKS"),
    (25, "UINTR"),
    (27, "LASS"),
    (28, "LAM_SUP"),
    (32, "FRED"),
];
const RFLAGS: &[(u8, &str)] = &[
    (0, "CF"),
    (2, "PF"),
    (4, "AF"),
    (6, "ZF"),
    (7, "SF"),
    (8, "TF"),
    (9, "IF"),
    (10, "DF"),
    (11, "OF"),
    (14, "NT"),
    (16, "RF"),
    (17, "VM"),
    (18, "AC"),
    (19, "VIF"),
    (20, "VIP"),
    (21, "ID"),
];
const EFER: &[(u8, &str)] = &[(0, "SCE"), (8, "LME"), (10, "LMA"), (11, "NXE")];
const DEBUGCTL: &[(u8, &str)] = &[
    (0, "LBR"),
    (1, "BTF"),
    (2, "BLD"),
    (6, "TR"),
    (7, "BTS"),
    (8, "BTINT"),
    (9, "BTS_OFF_OS"),
    (10, "BTS_OFF_USR"),
    (11, "FREEZE_LBRS_ON_PMI"),
    (12, "FREEZE_PERFMON_ON_PMI"),
    (13, "ENABLE_UNCORE_PMI"),
    (14, "FREEZE_WHILE_SMM"),
    (15, "RTM_DEBUG"),
];
const DR7: &[(u8, &str)] = &[
    (0, "L0"),
    (1, "G0"),
    (2, "L1"),
    (3, "G1"),
    (4, "L2"),
    (5, "G2"),
    (6, "L3"),
    (7, "G3"),
    (8, "LE"),
    (9, "GE"),
    (11, "RTM"),
    (13, "GD"),
];
const INTERRUPTIBILITY: &[(u8, &str)] = &[
    (0, "blocking by STI"),
    (1, "blocking by MOV SS"),
    (2, "blocking by SMI"),
    (3, "blocking by NMI"),
    (4, "enclave interruption"),
];
const PENDING_DEBUG: &[(u8, &str)] = &[
    (0, "B0"),
    (1, "B1"),
    (2, "B2"),
    (3, "B3"),
    (11, "BLD"),
    (12, "enabled breakpoint"),
    (14, "BS"),
    (16, "RTM"),
];
/// The mnemonics of the exceptions, by vector.
pub const EXCEPTIONS: [&str; 22] = [
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS", "#GP", "#PF",
    "15", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
];

/// The names of the set bits of `value`; a bit that the table does not name is given by its number.
fn flags(value: u64, names: &[(u8, &str)]) -> Vec<String> {
    (0..64)
        .filter(|bit| value >> bit & 1 != 0)
        .map(|bit| match names.iter().find(|row| row.0 == bit) {
            Some((_, name)) => name.to_string(),
            None => format!("bit {bit}"),
        })
        .collect()
}

/// What `value` means in `field`, piece by piece; nothing where the number says it all. `vmcs` is the
/// structure the field belongs to: an exit qualification means something only beside its exit reason.
pub fn describe(field: Field, value: u64, vmcs: &Vmcs) -> Vec<String> {
    match field.info().format {
        Format::Hex | Format::Decimal | Format::Linear | Format::Physical => Vec::new(),
        Format::Controls(word) => controls(word, value),
        Format::ExceptionBitmap => (0..32).filter(|v| value >> v & 1 != 0).map(exception).collect(),
        Format::EptPointer => ept_pointer(value),
        Format::Selector => selector(value),
        Format::AccessRights => access_rights(value),
        Format::ActivityState => vec![activity_state(value).to_string()],
        Format::InterruptibilityState => flags(value, INTERRUPTIBILITY),
        Format::PendingDebugExceptions => flags(value, PENDING_DEBUG),
        Format::InterruptStatus => vec![
            format!("RVI {:#x}", value & 0xff),
            format!("SVI {:#x}", value >> 8),
        ],
        Format::EntryInterruption | Format::ExitInterruption => interruption(value),
        Format::ExitReason => exit_reason(value),
        Format::ExitQualification => exit_qualification(value, vmcs),
        Format::InstructionError => instruction_error_text(value)
            .map(str::to_string)
            .into_iter()
            .collect(),
        Format::Cr0 => flags(value, CR0),
        Format::Cr4 => flags(value, CR4),
        Format::Rflags => rflags(value),
        Format::Dr7 => dr7(value),
        Format::Efer => flags(value, EFER),
        Format::Pat => pat(value),
        Format::DebugCtl => flags(value, DEBUGCTL),
    }
}

fn controls(word: Word, value: u64) -> Vec<String> {
    // The bits that are always 1 say nothing.
    let silent = word.default1() & !word.defined();
    word.describe(value & !silent)
}

fn exception(vector: u64) -> String {
    EXCEPTIONS
        .get(vector as usize)
        .map_or_else(|| vector.to_string(), |name| name.to_string())
}

fn ept_pointer(value: u64) -> Vec<String> {
    let mut words = vec![
        format!("table at {:#x}", value & 0x000f_ffff_ffff_f000),
        format!("memory type {} ({})", value & 7, memory_type(value & 7)),
        format!("{}-level walk", (value >> 3 & 7) + 1),
    ];
    if value >> 6 & 1 != 0 {
        words.push("accessed and dirty flags".to_string());
    }
    if value >> 7 & 1 != 0 {
        words.push("supervisor shadow-stack control".to_string());
    }
    words
}

/// The name of a memory type as PAT and EPT encode it.
pub fn memory_type(value: u64) -> &'static str {
    match value {
        0 => "UC",
        1 => "WC",
        4 => "WT",
        5 => "WP",
        6 => "WB",
        7 => "UC-",
        _ => "reserved",
    }
}

fn pat(value: u64) -> Vec<String> {
    value
        .to_le_bytes()
        .iter()
        .map(|&entry| memory_type(u64::from(entry)).to_string())
        .collect()
}

fn selector(value: u64) -> Vec<String> {
    if value & 0xfffc == 0 {
        return vec!["null".to_string()];
    }
    let table = if value & 4 != 0 { "LDT" } else { "GDT" };
    vec![
        format!("{table} entry {}", value >> 3),
        format!("RPL {}", value & 3),
    ]
}

/// The type field of access rights in words (SDM vol. 3, 3.4.5.1 and 3.5).
pub fn segment_type(rights: u64) -> String {
    const SYSTEM: [&str; 16] = [
        "reserved",
        "16-bit TSS",
        "LDT",
        "busy 16-bit TSS",
        "16-bit call gate",
        "task gate",
        "16-bit interrupt gate",
        "16-bit trap gate",
        "reserved",
        "TSS",
        "reserved",
        "busy TSS",
        "call gate",
        "reserved",
        "interrupt gate",
        "trap gate",
    ];
    let kind = (rights & 15) as usize;
    if rights & 0x10 == 0 {
        return SYSTEM[kind].to_string();
    }
    let base = match kind >> 1 & 7 {
        0 => "read-only data",
        1 => "read/write data",
        2 => "read-only expand-down data",
        3 => "read/write expand-down data",
        4 => "execute-only code",
        5 => "execute/read code",
        6 => "execute-only conforming code",
        _ => "execute/read conforming code",
    };
    if kind & 1 != 0 {
        format!("{base}, accessed")
    } else {
        base.to_string()
    }
}

fn access_rights(value: u64) -> Vec<String> {
    if value >> 16 & 1 != 0 {
        return vec!["unusable".to_string()];
    }
    let mut words = vec![
        format!("type {} ({})", value & 15, segment_type(value)),
        format!("DPL {}", value >> 5 & 3),
    ];
    const FLAGS: [(u8, &str); 5] = [(7, "present"), (12, "AVL"), (13, "L"), (14, "D/B"), (15, "G")];
    words.extend(
        FLAGS
            .iter()
            .filter(|row| value >> row.0 & 1 != 0)
            .map(|row| row.1.to_string()),
    );
    words
}

/// The name of an activity state (SDM vol. 3, 25.4.2).
pub fn activity_state(value: u64) -> &'static str {
    match value {
        0 => "active",
        1 => "HLT",
        2 => "shutdown",
        3 => "wait-for-SIPI",
        _ => "not defined by the SDM",
    }
}

/// The name of an interruption type (SDM vol. 3, tables 25-16 and 25-18).
pub fn interruption_type(kind: u64) -> &'static str {
    match kind {
        0 => "external interrupt",
        2 => "NMI",
        3 => "hardware exception",
        4 => "software interrupt",
        5 => "privileged software exception",
        6 => "software exception",
        7 => "other event",
        _ => "reserved type",
    }
}

fn interruption(value: u64) -> Vec<String> {
    if value >> 31 & 1 == 0 {
        return vec!["not valid".to_string()];
    }
    let (vector, kind) = (value & 0xff, value >> 8 & 7);
    let mut words = vec![interruption_type(kind).to_string()];
    words.push(match kind {
        3 | 5 | 6 => format!("vector {vector} ({})", exception(vector)),
        _ => format!("vector {vector:#x}"),
    });
    if value >> 11 & 1 != 0 {
        words.push("with error code".to_string());
    }
    if value >> 12 & 1 != 0 {
        words.push("NMI unblocking due to IRET".to_string());
    }
    words
}

fn exit_reason(value: u64) -> Vec<String> {
    let mut words = vec![match ExitReason::by_number(value as u16) {
        Some(reason) => format!("{} ({})", reason.name, reason.title),
        None => format!("{}, not defined by the SDM", value & 0xffff),
    }];
    let flags = [
        (reasons::ENTRY_FAILURE, "VM-entry failure"),
        (reasons::PENDING_MTF, "pending MTF VM exit"),
        (reasons::ENCLAVE_MODE, "from enclave mode"),
        (reasons::BUS_LOCK, "bus lock asserted"),
        (reasons::BUSY_SHADOW_STACK, "shadow stack prematurely busy"),
    ];
    words.extend(
        flags
            .iter()
            .filter(|(bit, _)| value & bit != 0)
            .map(|(_, text)| text.to_string()),
    );
    words
}

fn exit_qualification(value: u64, vmcs: &Vmcs) -> Vec<String> {
    match ExitReason::by_number(vmcs.get(field::EXIT_REASON) as u16) {
        Some(reason) => {
            let interruption = vmcs.get(field::EXIT_INTERRUPTION_INFO);
            let parts = qualification::decode(reason.qualification, value, interruption);
            parts.into_iter().map(|part| part.text).collect()
        }
        None => Vec::new(),
    }
}

fn rflags(value: u64) -> Vec<String> {
    const IOPL: u64 = 3 << 12;
    const ALWAYS_1: u64 = 2;
    let mut words = flags(value & !IOPL & !ALWAYS_1, RFLAGS);
    if value & IOPL != 0 {
        words.push(format!("IOPL {}", value >> 12 & 3));
    }
    words
}

fn dr7(value: u64) -> Vec<String> {
    const ALWAYS_1: u64 = 1 << 10;
    const CONDITIONS: u64 = 0xffff_0000;
    let mut words = flags(value & !ALWAYS_1 & !CONDITIONS, DR7);
    for number in 0..4 {
        if value >> (2 * number) & 3 != 0 {
            let kind =
                ["execution", "write", "I/O", "read or write"][(value >> (16 + 4 * number) & 3) as usize];
            let length = [1, 2, 8, 4][(value >> (18 + 4 * number) & 3) as usize];
            words.push(format!(
                "DR{number}: {kind}, {length} byte{}",
                if length == 1 { "" } else { "s" }
            ));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(field: Field, value: u64) -> String {
        describe(field, value, &Vmcs::new(0)).join("; ")
    }

    #[test]
    fn values_in_words() {
        assert_eq!(words(field::GUEST_RIP, 0x1000), "");
        assert_eq!(
            words(field::GUEST_TR_ACCESS_RIGHTS, 0x8b),
            "type 11 (busy TSS); DPL 0; present"
        );
        assert_eq!(words(field::GUEST_LDTR_ACCESS_RIGHTS, 0x10000), "unusable");
        assert_eq!(
            words(field::GUEST_CS_ACCESS_RIGHTS, 0xa09b),
            "type 11 (execute/read code, accessed); DPL 0; present; L; G"
        );
        assert_eq!(words(field::HOST_CS_SELECTOR, 0x0b), "GDT entry 1; RPL 3");
        assert_eq!(
            words(field::PIN_BASED_CONTROLS, 0x17),
            "external-interrupt exiting"
        );
        assert_eq!(
            words(field::EPT_POINTER, 0x20_005e),
            "table at 0x200000; memory type 6 (WB); 4-level walk; accessed and dirty flags"
        );
        assert_eq!(words(field::GUEST_RFLAGS, 0x3202), "IF; IOPL 3");
        assert_eq!(words(field::EXCEPTION_BITMAP, 1 << 14 | 1 << 6), "#UD; #PF");
        assert_eq!(
            words(field::ENTRY_INTERRUPTION_INFO, 0x8000_0b0e),
            "hardware exception; vector 14 (#PF); with error code"
        );
        assert_eq!(
            words(field::EXIT_REASON, 0x8000_0021),
            "entry-failure-guest-state (VM-entry failure due to invalid guest state); VM-entry failure"
        );
        assert_eq!(
            words(field::VM_INSTRUCTION_ERROR, 7),
            "VM entry with invalid control fields"
        );
        assert_eq!(words(field::GUEST_DR7, 0xd_0402), "G0; DR0: write, 4 bytes");
        assert_eq!(
            words(field::HOST_IA32_PAT, 0x0007_0406_0007_0406),
            "WB; WT; UC-; UC; WB; WT; UC-; UC"
        );
    }

    #[test]
    fn a_qualification_is_read_beside_its_reason() {
        let mut vmcs = Vmcs::new(0);
        vmcs.set(field::EXIT_REASON, 30);
        assert_eq!(
            describe(field::EXIT_QUALIFICATION, 0x0080_0008, &vmcs)[0],
            "port 0x80"
        );
    }

    /// No value of any field makes the words fail.
    #[test]
    fn any_value_can_be_described() {
        let mut vmcs = Vmcs::new(0);
        for reason in 0..100 {
            vmcs.set(field::EXIT_REASON, reason);
            for interruption in [0, 0x8000_0301, 0x8000_030e] {
                vmcs.set(field::EXIT_INTERRUPTION_INFO, interruption);
                for value in [0, 1, u64::MAX, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa] {
                    for field in Field::all() {
                        describe(field, value & field.mask(), &vmcs);
                    }
                }
            }
        }
    }
}
