//! The state after power-up, RESET and INIT (SDM vol. 3, 10.1.1, table 10-1), as the table has it.

use super::*;
use crate::cpu::Activity;
use crate::debug::registers::{Register, TABLE};

/// Of INIT: everything is as after RESET, or nothing changes.
const RESET: u128 = 0;
const KEPT: u128 = !0;

/// Registers by a debugger's names, their value after power-up and RESET, and the bits that INIT leaves as they were.
const ROWS: &[(&[&str], u128, u128)] = &[
    (&["eflags"], 2, RESET),
    (&["rip"], 0xfff0, RESET),
    (&["cr0"], 0x6000_0010, (CR0_CD | CR0_NW) as u128),
    (&["cr2", "cr3", "cr4", "efer"], 0, RESET),
    (&["cs"], 0xf000, RESET),
    (&["cs_base"], 0xffff_0000, RESET),
    (&["ss", "ds", "es", "fs", "gs", "ldtr", "tr"], 0, RESET),
    (
        &[
            "ss_base",
            "ds_base",
            "es_base",
            "fs_base",
            "gs_base",
            "ldtr_base",
            "tr_base",
            "gdtr_base",
            "idtr_base",
        ],
        0,
        RESET,
    ),
    (
        &[
            "cs_limit",
            "ss_limit",
            "ds_limit",
            "es_limit",
            "fs_limit",
            "gs_limit",
            "ldtr_limit",
            "tr_limit",
            "gdtr_limit",
            "idtr_limit",
        ],
        0xffff,
        RESET,
    ),
    // Present, accessed, read/write; CS can be executed, too.
    (&["cs_rights"], 0x9b, RESET),
    (
        &["ss_rights", "ds_rights", "es_rights", "fs_rights", "gs_rights"],
        0x93,
        RESET,
    ),
    // An LDT, and a busy TSS.
    (&["ldtr_rights"], 0x82, RESET),
    (&["tr_rights"], 0x8b, RESET),
    (
        &[
            "rax", "rbx", "rcx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
            "r15",
        ],
        0,
        RESET,
    ),
    (&["st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7"], 0, KEPT),
    (&["fctrl"], 0x40, KEPT),
    (&["fstat", "fop", "fioff", "fooff"], 0, KEPT),
    (&["ftag"], 0x5555, KEPT),
    (&["mxcsr"], 0x1f80, KEPT),
    (&["dr0", "dr1", "dr2", "dr3"], 0, RESET),
    (&["dr6"], 0xffff_0ff0, RESET),
    (&["dr7"], 0x400, RESET),
    (&["xcr0"], 1, KEPT),
    (&["xss", "pkru"], 0, KEPT),
    (&["ssp", "u_cet", "s_cet"], 0, RESET),
];

/// The vector registers have too many names for a row each.
fn is_vector(name: &str) -> bool {
    name.starts_with("xmm") || name.starts_with("ymmh")
}

/// Registers without a state of their own: CPL is 0 in real-address mode, the x87 segments are not kept.
const DERIVED: &[&str] = &["cpl", "fiseg", "foseg"];

/// All registers with what the table says; RDX has the processor's signature.
fn expected(cpu: &Cpu) -> Vec<(&'static Register, u128, u128)> {
    let row = |register: &'static Register| {
        let name = register.name.as_str();
        if DERIVED.contains(&name) {
            return None;
        }
        let (reset, kept) = if is_vector(name) {
            (0, KEPT)
        } else if name == "rdx" {
            (cpu.profile.signature() as u128, RESET)
        } else {
            let row = ROWS.iter().find(|(names, ..)| names.contains(&name));
            row.map(|(_, reset, kept)| (*reset, *kept))
                .unwrap_or_else(|| panic!("the table does not say what {name} is"))
        };
        Some((register, reset, kept))
    };
    TABLE.iter().filter_map(row).collect()
}

#[test]
fn registers_are_as_the_table_says_after_reset() {
    let cpu = Cpu::new(0, Arc::default());
    for (register, reset, _) in expected(&cpu) {
        assert_eq!(register.get(&cpu), reset, "{}", register.name);
    }
    assert_eq!((cpu.cpl, cpu.activity), (0, Activity::Active));
}

#[test]
fn registers_are_as_the_table_says_after_init() {
    let mut cpu = Cpu::new(0, Arc::default());
    for (register, reset, _) in expected(&cpu) {
        register.set(&mut cpu, !reset);
    }
    // The x87 tags go by what was written to the registers.
    cpu.x87.tag = 0x1234;
    let before = cpu.clone();
    cpu.init();
    for (register, reset, kept) in expected(&cpu) {
        let left = register.get(&before) & kept;
        assert_eq!(register.get(&cpu), left | reset & !kept, "{}", register.name);
        assert_ne!(register.get(&before), reset, "{} was not changed", register.name);
    }
    assert_eq!((cpu.cpl, cpu.activity), (0, Activity::Active));
}

/// MTRRs are disabled after RESET, and the time-stamp counter begins at 0.
#[test]
fn model_specific_registers_outlive_init() {
    let mut cpu = Cpu::new(0, Arc::default());
    assert_eq!(
        (cpu.msr.mtrr.default_type, cpu.msr.tsc_adjust, cpu.icount),
        (0, 0, 0)
    );
    assert_eq!(cpu.msr.pat, 0x0007_0406_0007_0406);
    cpu.msr.mtrr.default_type = 0xc06;
    (cpu.msr.lstar, cpu.msr.pat, cpu.msr.tsc_adjust, cpu.icount) = (1, 2, 3, 4);
    cpu.init();
    assert_eq!(cpu.msr.mtrr.default_type, 0xc06);
    assert_eq!(
        (cpu.msr.lstar, cpu.msr.pat, cpu.msr.tsc_adjust, cpu.icount),
        (1, 2, 3, 4)
    );
}

/// Other processors than the bootstrap processor wait, after RESET and after INIT.
#[test]
fn application_processors_wait_for_a_sipi() {
    let mut cpu = Cpu::new(1, Arc::default());
    assert_eq!(cpu.activity, Activity::WaitForSipi);
    cpu.start_up(0x12);
    assert_eq!(
        (cpu.seg[CS].selector, cpu.seg[CS].base, cpu.rip),
        (0x1200, 0x1_2000, 0)
    );
    assert_eq!(cpu.activity, Activity::Active);
    cpu.init();
    assert_eq!(cpu.activity, Activity::WaitForSipi);
}
