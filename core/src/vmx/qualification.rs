//! What an exit qualification says (SDM vol. 3, 28.2.1).

use super::reasons::Qualification;

/// One part of an exit qualification, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: &'static str,
    pub value: u64,
    pub text: String,
}

fn part(name: &'static str, value: u64, text: impl Into<String>) -> Part {
    Part {
        name,
        value,
        text: text.into(),
    }
}

/// The bits `high:low` of `value`.
fn bits(value: u64, high: u32, low: u32) -> u64 {
    value >> low & (u64::MAX >> (63 - (high - low)))
}

fn bit(value: u64, position: u32) -> bool {
    value >> position & 1 != 0
}

/// A part for each set bit of `value` that `names` lists.
fn flags(value: u64, names: &[(u32, &'static str, &'static str)]) -> Vec<Part> {
    names
        .iter()
        .filter(|row| bit(value, row.0))
        .map(|&(_, name, text)| part(name, 1, text))
        .collect()
}

const GENERAL_REGISTERS: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

fn register(value: u64) -> Part {
    let number = bits(value, 11, 8);
    part("register", number, GENERAL_REGISTERS[number as usize])
}

/// The words for `value`, the exit qualification of a reason whose kind is `kind`. `interruption` is the
/// VM-exit interruption information, which decides what the qualification of an exception holds.
pub fn decode(kind: Qualification, value: u64, interruption: u64) -> Vec<Part> {
    match kind {
        Qualification::None => Vec::new(),
        Qualification::Event => event(value, interruption),
        Qualification::StartUpIpi => vec![part(
            "vector",
            bits(value, 7, 0),
            format!("start-up page {value:#x}"),
        )],
        Qualification::TaskSwitch => task_switch(value),
        Qualification::LinearAddress => vec![part("address", value, format!("linear address {value:#x}"))],
        Qualification::Displacement => vec![part("displacement", value, format!("{:#x}", value as i64))],
        Qualification::CrAccess => cr_access(value),
        Qualification::MovDr => mov_dr(value),
        Qualification::Io => io(value),
        Qualification::Mwait => {
            let text = if bit(value, 0) {
                "the monitor is armed"
            } else {
                "the monitor is not armed"
            };
            vec![part("armed", bits(value, 0, 0), text)]
        }
        Qualification::EntryFailure => vec![part("failure", value, entry_failure(value))],
        Qualification::MsrLoadEntry => vec![part(
            "entry",
            value,
            format!("MSR-load entry {value}, counted from 1"),
        )],
        Qualification::ApicAccess => apic_access(value),
        Qualification::ApicWrite => {
            vec![part(
                "offset",
                bits(value, 11, 0),
                format!("page offset {:#x}", bits(value, 11, 0)),
            )]
        }
        Qualification::EoiVector => {
            vec![part(
                "vector",
                bits(value, 7, 0),
                format!("vector {:#x}", bits(value, 7, 0)),
            )]
        }
        Qualification::EptViolation => ept_violation(value),
        Qualification::Pml => flags(value, &[NMI_UNBLOCKING, ASYNCHRONOUS]),
        Qualification::Spp => {
            let text = if bit(value, 11) {
                "SPP miss"
            } else {
                "SPP misconfiguration"
            };
            let mut parts = vec![part("kind", bits(value, 11, 11), text)];
            parts.extend(flags(value, &[NMI_UNBLOCKING, ASYNCHRONOUS]));
            parts
        }
        Qualification::InstructionTimeout => flags(
            value,
            &[
                (0, "context-invalid", "the guest's context is not valid"),
                NMI_UNBLOCKING,
            ],
        ),
        Qualification::MsrAddress => vec![part("msr", value, format!("MSR {value:#x}"))],
    }
}

const NMI_UNBLOCKING: (u32, &str, &str) = (12, "nmi-unblocking", "IRET had ended blocking by NMI");
const ASYNCHRONOUS: (u32, &str, &str) = (16, "asynchronous", "asynchronous to instruction execution");

fn event(value: u64, interruption: u64) -> Vec<Part> {
    const DEBUG: u64 = 1;
    const PAGE_FAULT: u64 = 14;
    // Types 3, 5 and 6 are exceptions (SDM vol. 3, table 25-18).
    if !bit(interruption, 31) || !matches!(bits(interruption, 10, 8), 3 | 5 | 6) {
        return Vec::new();
    }
    match bits(interruption, 7, 0) {
        DEBUG => debug_conditions(value),
        PAGE_FAULT => vec![part(
            "address",
            value,
            format!("faulting linear address {value:#x}"),
        )],
        _ => Vec::new(),
    }
}

fn debug_conditions(value: u64) -> Vec<Part> {
    flags(
        value,
        &[
            (0, "b0", "breakpoint 0 met"),
            (1, "b1", "breakpoint 1 met"),
            (2, "b2", "breakpoint 2 met"),
            (3, "b3", "breakpoint 3 met"),
            (11, "bld", "bus lock"),
            (13, "bd", "debug-register access detected"),
            (14, "bs", "single step or taken branch"),
            (16, "rtm", "inside a transactional region"),
        ],
    )
}

fn task_switch(value: u64) -> Vec<Part> {
    let selector = bits(value, 15, 0);
    let source = bits(value, 31, 30);
    let text = ["CALL", "IRET", "JMP", "task gate in the IDT"][source as usize];
    vec![
        part("selector", selector, format!("TSS selector {selector:#06x}")),
        part("source", source, text),
    ]
}

fn cr_access(value: u64) -> Vec<Part> {
    let number = bits(value, 3, 0);
    let kind = bits(value, 5, 4);
    let text = ["MOV to CR", "MOV from CR", "CLTS", "LMSW"][kind as usize];
    let mut parts = vec![
        part("cr", number, format!("CR{number}")),
        part("access", kind, text),
    ];
    match kind {
        0 | 1 => parts.push(register(value)),
        3 => {
            let from_memory = bits(value, 6, 6);
            let operand = if from_memory != 0 {
                "memory operand"
            } else {
                "register operand"
            };
            parts.push(part("operand", from_memory, operand));
            parts.push(part(
                "source",
                bits(value, 31, 16),
                format!("source {:#06x}", bits(value, 31, 16)),
            ));
        }
        _ => {}
    }
    parts
}

fn mov_dr(value: u64) -> Vec<Part> {
    let number = bits(value, 2, 0);
    let direction = bits(value, 4, 4);
    let text = if direction == 0 {
        "MOV to DR"
    } else {
        "MOV from DR"
    };
    vec![
        part("dr", number, format!("DR{number}")),
        part("access", direction, text),
        register(value),
    ]
}

fn io(value: u64) -> Vec<Part> {
    let size = bits(value, 2, 0) + 1;
    let port = bits(value, 31, 16);
    let input = bits(value, 3, 3);
    let immediate = bits(value, 6, 6);
    let mut parts = vec![
        part("port", port, format!("port {port:#x}")),
        part(
            "size",
            size,
            format!("{size} byte{}", if size == 1 { "" } else { "s" }),
        ),
        part("direction", input, if input != 0 { "in" } else { "out" }),
    ];
    parts.extend(flags(
        value,
        &[(4, "string", "string instruction"), (5, "rep", "REP prefix")],
    ));
    parts.push(part(
        "operand",
        immediate,
        if immediate != 0 {
            "port in an immediate"
        } else {
            "port in DX"
        },
    ));
    parts
}

fn entry_failure(value: u64) -> &'static str {
    match value {
        0 => "a check of the guest state",
        2 => "the PDPTEs could not be loaded",
        3 => "an NMI was to be injected into a guest with blocking by STI",
        4 => "the VMCS link pointer is invalid",
        _ => "not defined by the SDM",
    }
}

fn apic_access(value: u64) -> Vec<Part> {
    let offset = bits(value, 11, 0);
    let kind = bits(value, 15, 12);
    let text = match kind {
        0 => "linear access, data read",
        1 => "linear access, data write",
        2 => "linear access, instruction fetch",
        3 => "linear access, read or write during event delivery",
        4 => "linear access for monitoring",
        10 => "guest-physical access during event delivery",
        11 => "guest-physical access for monitoring or trace",
        15 => "guest-physical access for an instruction fetch or during an instruction",
        _ => "not defined by the SDM",
    };
    let mut parts = vec![
        part("offset", offset, format!("page offset {offset:#x}")),
        part("access", kind, text),
    ];
    parts.extend(flags(value, &[ASYNCHRONOUS]));
    parts
}

fn ept_violation(value: u64) -> Vec<Part> {
    let mut parts = flags(
        value,
        &[
            (0, "read", "data read"),
            (1, "write", "data write"),
            (2, "fetch", "instruction fetch"),
        ],
    );
    let rights = bits(value, 5, 3);
    let allowed: Vec<&str> = [(0, "read"), (1, "write"), (2, "execute")]
        .iter()
        .filter(|r| bit(rights, r.0))
        .map(|r| r.1)
        .collect();
    let text = match allowed.len() {
        0 => "EPT allows nothing".to_string(),
        _ => format!("EPT allows {}", allowed.join(", ")),
    };
    parts.push(part("rights", rights, text));
    parts.extend(flags(
        value,
        &[(
            6,
            "user-execute",
            "EPT allows execution by user-mode linear addresses",
        )],
    ));
    let translation = match (bit(value, 7), bit(value, 8)) {
        (false, _) => "no guest-linear address",
        (true, false) => "access to a guest paging structure",
        (true, true) => "access to the translation of the guest-linear address",
    };
    parts.push(part("linear-valid", bits(value, 7, 7), translation));
    if bit(value, 7) && bit(value, 8) {
        parts.extend(flags(
            value,
            &[
                (9, "user-address", "user-mode linear address"),
                (10, "writable-address", "read/write linear address"),
                (11, "execute-disable-address", "execute-disable linear address"),
            ],
        ));
    }
    parts.extend(flags(
        value,
        &[
            NMI_UNBLOCKING,
            (13, "shadow-stack", "shadow-stack access"),
            (
                14,
                "supervisor-shadow-stack",
                "supervisor shadow-stack control set",
            ),
            (15, "guest-paging-verification", "guest-paging verification"),
            ASYNCHRONOUS,
        ],
    ));
    parts
}

/// The parts in one line.
pub fn sentence(parts: &[Part]) -> String {
    parts
        .iter()
        .map(|part| part.text.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(kind: Qualification, value: u64) -> String {
        sentence(&decode(kind, value, 0))
    }

    #[test]
    fn accesses() {
        assert_eq!(words(Qualification::CrAccess, 0x304), "CR4, MOV to CR, rbx");
        assert_eq!(
            words(Qualification::CrAccess, 0x0001_0030),
            "CR0, LMSW, register operand, source 0x0001"
        );
        assert_eq!(words(Qualification::CrAccess, 0x20), "CR0, CLTS");
        assert_eq!(words(Qualification::MovDr, 0x117), "DR7, MOV from DR, rcx");
        assert_eq!(
            words(Qualification::Io, 0x03f8_0000),
            "port 0x3f8, 1 byte, out, port in DX"
        );
        assert_eq!(
            words(Qualification::Io, 0x0060_0049),
            "port 0x60, 2 bytes, in, port in an immediate"
        );
        assert_eq!(
            words(Qualification::TaskSwitch, 0x8000_0018),
            "TSS selector 0x0018, JMP"
        );
    }

    #[test]
    fn ept_violations_tell_access_rights_and_translation() {
        assert_eq!(
            words(Qualification::EptViolation, 0x182),
            "data write, EPT allows nothing, access to the translation of the guest-linear address"
        );
        assert_eq!(
            words(Qualification::EptViolation, 0x8b),
            "data read, data write, EPT allows read, access to a guest paging structure"
        );
    }

    #[test]
    fn the_vector_decides_what_the_qualification_of_an_exception_holds() {
        let exception = |vector: u64| 1 << 31 | 3 << 8 | vector;
        assert_eq!(
            sentence(&decode(Qualification::Event, 0x4001, exception(1))),
            "breakpoint 0 met, single step or taken branch"
        );
        assert_eq!(
            decode(Qualification::Event, 0x1234, exception(14))[0].value,
            0x1234
        );
        assert!(decode(Qualification::Event, 0, exception(13)).is_empty());
        assert!(decode(Qualification::Event, 0x4001, 1 << 31 | 2 << 8 | 2).is_empty());
    }
}
