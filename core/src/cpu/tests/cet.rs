//! Control-flow enforcement: shadow stacks and indirect-branch tracking (SDM vol. 1, chapter 17).

use super::*;
use crate::cpu::cet::control::*;
use crate::cpu::exception::{control_protection, vector};
use crate::cpu::{RAX, RBX, RDX};

/// Pages of shadow stacks, read-only and dirty, with the RAM behind them: a supervisor's, a user's.
const SUPERVISOR: u64 = 0x40_0000;
const USER: u64 = 0x60_0000;
const BEHIND: u64 = 0x20_0000;
const TOP: u64 = 0x1000;

const CALL: &[u8] = &[0xe8, 0x10, 0x00, 0x00, 0x00];
const RET: &[u8] = &[0xc3];
const NOP: &[u8] = &[0x90];
const INT3: &[u8] = &[0xcc];
const IRETQ: &[u8] = &[0x48, 0xcf];
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const JMP_RAX: &[u8] = &[0xff, 0xe0];
const NOTRACK_JMP_RAX: &[u8] = &[0x3e, 0xff, 0xe0];
const RDSSPQ_RAX: &[u8] = &[0xf3, 0x48, 0x0f, 0x1e, 0xc8];
const INCSSPQ_RAX: &[u8] = &[0xf3, 0x48, 0x0f, 0xae, 0xe8];
const RSTORSSP_RBX: &[u8] = &[0xf3, 0x0f, 0x01, 0x2b];
const SAVEPREVSSP: &[u8] = &[0xf3, 0x0f, 0x01, 0xea];
const SETSSBSY: &[u8] = &[0xf3, 0x0f, 0x01, 0xe8];
const CLRSSBSY_RBX: &[u8] = &[0xf3, 0x0f, 0xae, 0x33];
/// WRSSQ [RBX], RAX and WRUSSQ [RBX], RAX.
const WRSSQ: &[u8] = &[0x48, 0x0f, 0x38, 0xf6, 0x03];
const WRUSSQ: &[u8] = &[0x66, 0x48, 0x0f, 0x38, 0xf5, 0x03];

/// 64-bit mode with both kinds of shadow stacks mapped, CR4.CET and `control` in IA32_S_CET; SSP at the supervisor's top.
fn bench(control: u64) -> Bench {
    let mut bench = Bench::long();
    bench.store::<8>(PAGE_TABLES + 0x2010, BEHIND | 0xe1);
    bench.store::<8>(PAGE_TABLES + 0x2018, BEHIND | 0xe5);
    let cpu = &mut bench.cpu;
    cpu.cr4 |= CR4_CET;
    cpu.cet.supervisor = control;
    cpu.cet.ssp = SUPERVISOR + TOP;
    cpu.update_space();
    bench
}

impl Bench {
    fn shadow(&mut self, below_top: u64) -> u64 {
        self.load::<8>(BEHIND + TOP - below_top)
    }

    /// On the stack, as an attacker does.
    fn change_return_address(&mut self) {
        let top = self.cpu.regs[RSP];
        self.store::<8>(top, CODE);
    }
}

#[test]
fn calls_and_returns_go_through_the_shadow_stack() {
    let mut bench = bench(SH_STK_EN);
    bench.run(CALL);
    assert_eq!(bench.cpu.rip, CODE + 0x15);
    assert_eq!(
        (bench.cpu.cet.ssp, bench.shadow(8)),
        (SUPERVISOR + TOP - 8, CODE + 5)
    );
    bench.run(RDSSPQ_RAX);
    assert_eq!(bench.cpu.regs[RAX], SUPERVISOR + TOP - 8);
    bench.run(RET);
    assert_eq!((bench.cpu.rip, bench.cpu.cet.ssp), (CODE + 5, SUPERVISOR + TOP));

    // A call to the next instruction is how code reads RIP.
    bench.run(&[0xe8, 0, 0, 0, 0]);
    assert_eq!(bench.cpu.cet.ssp, SUPERVISOR + TOP);

    bench.run(CALL);
    bench.change_return_address();
    let code = bench.fault(RET, vector::CONTROL_PROTECTION);
    assert_eq!(code, control_protection::NEAR_RETURN as u64);
}

#[test]
fn shadow_stacks_are_written_by_shadow_stack_accesses_alone() {
    let mut bench = bench(SH_STK_EN | WR_SHSTK_EN);
    bench.cpu.regs[RBX] = SUPERVISOR;
    bench.cpu.regs[RAX] = 0x55;
    bench.run(WRSSQ);
    assert_eq!(bench.load::<8>(BEHIND), 0x55);
    // MOV [RBX], RAX.
    assert_eq!(bench.fault(&[0x48, 0x89, 0x03], vector::PAGE_FAULT), 0b011);
    // Elsewhere a shadow-stack access faults, and says that it was one.
    bench.cpu.regs[RBX] = 0xc000;
    assert_eq!(bench.fault(WRSSQ, vector::PAGE_FAULT), 0x43);
    // To a user's by WRUSS only, as a user.
    bench.cpu.regs[RBX] = USER + 8;
    assert_eq!(bench.fault(WRSSQ, vector::PAGE_FAULT), 0x43);
    bench.run(WRUSSQ);
    assert_eq!(bench.load::<8>(BEHIND + 8), 0x55);
    bench.cpu.regs[RBX] = SUPERVISOR;
    assert_eq!(bench.fault(WRUSSQ, vector::PAGE_FAULT), 0x47);
    bench.cpu.cet.supervisor = SH_STK_EN;
    bench.fault(WRSSQ, vector::INVALID_OPCODE);
}

#[test]
fn events_push_a_frame_of_three_and_iret_takes_it() {
    let mut bench = bench(SH_STK_EN);
    bench.cpu.cet.ssp -= 4;
    bench.run(INT3);
    bench.assert_in(vector::BREAKPOINT);
    assert_eq!(bench.cpu.cet.ssp, SUPERVISOR + TOP - 32);
    assert_eq!(
        [8, 16, 24, 32].map(|below| bench.shadow(below)),
        [0, CODE0 as u64, CODE + 1, SUPERVISOR + TOP - 4]
    );
    bench.run(IRETQ);
    assert_eq!(
        (bench.cpu.rip, bench.cpu.cet.ssp),
        (CODE + 1, SUPERVISOR + TOP - 4)
    );

    bench.run(INT3);
    bench.change_return_address();
    let code = bench.fault(IRETQ, vector::CONTROL_PROTECTION);
    assert_eq!(code, control_protection::FAR_RETURN as u64);
}

#[test]
fn a_supervisor_stack_is_entered_by_its_token_and_left_free() {
    let mut bench = bench(SH_STK_EN).user();
    let token = SUPERVISOR + TOP - 8;
    bench.store::<8>(BEHIND + TOP - 8, token);
    bench.gate(0x80, USER_GATE);
    bench.cpu.cet.user = SH_STK_EN;
    bench.cpu.cet.ssp = USER + 0x800;
    bench.cpu.cet.pl_ssp[0] = token;
    bench.cpu.update_space();
    bench.run(&[0xcd, 0x80]);
    assert_eq!((bench.cpu.cpl, bench.cpu.cet.ssp), (0, token));
    assert_eq!(bench.shadow(8), token | 1);
    assert_eq!(bench.cpu.cet.pl_ssp[3], USER + 0x800);
    bench.run(IRETQ);
    assert_eq!((bench.cpu.cpl, bench.cpu.cet.ssp), (3, USER + 0x800));
    assert_eq!(bench.shadow(8), token);

    // The interrupt table names another for an IST gate.
    let other = SUPERVISOR + TOP - 0x108;
    bench.store::<8>(BEHIND + TOP - 0x108, other);
    bench.store::<8>(0xc008, other);
    bench.cpu.cet.interrupt_table = 0xc000;
    bench.gate_to(0x80, CODE0, USER_GATE, 1);
    bench.run(&[0xcd, 0x80]);
    assert_eq!(bench.cpu.cet.ssp, other);
    assert_eq!(bench.shadow(0x108), other | 1);
}

/// SDM vol. 2, IRET: only where a supervisor is left is the token looked for as a supervisor.
#[test]
fn a_program_s_iret_frees_a_token_on_its_own_shadow_stack() {
    let mut bench = bench(0).user();
    let (frame, outer) = (0x700, USER + 0x400);
    let token = USER + frame + 24;
    for (at, value) in [outer, CODE + 0x40, CODE3 as u64, token | 1]
        .into_iter()
        .enumerate()
    {
        bench.store::<8>(BEHIND + frame + 8 * at as u64, value);
    }
    let top = bench.cpu.regs[RSP];
    for (at, value) in [CODE + 0x40, CODE3 as u64, 2, top, DATA3 as u64]
        .into_iter()
        .enumerate()
    {
        bench.store::<8>(top + 8 * at as u64, value);
    }
    bench.cpu.cet.user = SH_STK_EN;
    bench.cpu.cet.ssp = USER + frame;
    bench.cpu.update_space();
    bench.run(IRETQ);
    assert_eq!((bench.cpu.rip, bench.cpu.cet.ssp), (CODE + 0x40, outer));
    assert_eq!(bench.load::<8>(BEHIND + frame + 24), token);
}

#[test]
fn system_calls_leave_the_supervisor_without_a_stack() {
    let mut bench = bench(SH_STK_EN).user();
    bench.cpu.efer |= EFER_SCE;
    bench.cpu.msr.lstar = CODE + 0x100;
    bench.cpu.msr.star = (CODE0 as u64) << 32 | 0x13 << 48;
    bench.cpu.cet.user = SH_STK_EN;
    bench.cpu.cet.ssp = USER + 0x800;
    bench.cpu.update_space();
    bench.run(&[0x0f, 0x05]);
    assert_eq!((bench.cpu.cet.ssp, bench.cpu.cet.pl_ssp[3]), (0, USER + 0x800));
    let token = SUPERVISOR + TOP - 8;
    bench.cpu.cet.pl_ssp[0] = token;
    let code = {
        let mut bench = Bench {
            cpu: bench.cpu.clone(),
            bus: Bus::new(0, 1),
            code: CodeCache::default(),
        };
        std::mem::swap(&mut bench.bus, &mut self::bench(0).bus);
        bench.cpu.tlb.flush_all();
        bench.cpu.cet.ssp = SUPERVISOR + TOP;
        bench.fault(SETSSBSY, vector::CONTROL_PROTECTION)
    };
    assert_eq!(code, control_protection::SETSSBSY as u64);
    bench.store::<8>(BEHIND + TOP - 8, token);
    bench.run(SETSSBSY);
    assert_eq!((bench.cpu.cet.ssp, bench.shadow(8)), (token, token | 1));
    bench.cpu.regs[RBX] = token;
    bench.run(CLRSSBSY_RBX);
    assert_eq!((bench.cpu.cet.ssp, bench.shadow(8)), (0, token));
    assert!(!bench.cpu.flags.carry());
    bench.run(CLRSSBSY_RBX);
    assert!(bench.cpu.flags.carry());
    // SYSRETQ.
    bench.run(&[0x48, 0x0f, 0x07]);
    assert_eq!((bench.cpu.cpl, bench.cpu.cet.ssp), (3, USER + 0x800));
}

#[test]
fn stacks_are_switched_by_restore_tokens() {
    let mut bench = bench(SH_STK_EN);
    let (old, other) = (SUPERVISOR + TOP, SUPERVISOR + 0x800);
    bench.store::<8>(BEHIND + 0x7f8, other | 1);
    bench.cpu.regs[RBX] = other - 8;
    bench.run(RSTORSSP_RBX);
    assert_eq!(bench.cpu.cet.ssp, other - 8);
    assert_eq!(bench.load::<8>(BEHIND + 0x7f8), old | 3);
    assert!(!bench.cpu.flags.carry());
    bench.run(SAVEPREVSSP);
    assert_eq!((bench.cpu.cet.ssp, bench.shadow(8)), (other, old | 1));
    // Back by the token that was saved.
    bench.cpu.regs[RBX] = old - 8;
    bench.run(RSTORSSP_RBX);
    bench.cpu.regs[RAX] = 1;
    bench.run(INCSSPQ_RAX);
    assert_eq!(bench.cpu.cet.ssp, old);
    let code = bench.fault(RSTORSSP_RBX, vector::CONTROL_PROTECTION);
    assert_eq!(code, control_protection::RSTORSSP as u64);
}

#[test]
fn without_shadow_stacks_their_instructions_do_not_exist_but_rdssp() {
    for code in [
        INCSSPQ_RAX,
        RSTORSSP_RBX,
        SAVEPREVSSP,
        SETSSBSY,
        CLRSSBSY_RBX,
        WRSSQ,
    ] {
        bench(0).fault(code, vector::INVALID_OPCODE);
    }
    let mut bench = Bench::long();
    bench.fault(WRUSSQ, vector::INVALID_OPCODE);
    bench.cpu.regs[RAX] = 0x1234;
    bench.run(RDSSPQ_RAX);
    assert_eq!(bench.cpu.regs[RAX], 0x1234);
}

/// Where an indirect jump ends that leads to `code`.
fn jump_to(control: u64, jump: &[u8], code: &[u8]) -> Bench {
    let mut bench = bench(control);
    for (at, byte) in code.iter().enumerate() {
        bench.store::<1>(CODE + 0x40 + at as u64, *byte as u64);
    }
    bench.cpu.regs[RAX] = CODE + 0x40;
    bench.run(jump);
    assert_eq!(bench.cpu.rip, CODE + 0x40);
    bench
}

#[test]
fn indirect_branches_land_on_endbranch() {
    let mut bench = jump_to(ENDBR_EN, JMP_RAX, ENDBR64);
    assert_eq!(bench.cpu.cet.supervisor, ENDBR_EN | TRACKER);
    bench.step();
    assert_eq!((bench.cpu.rip, bench.cpu.cet.supervisor), (CODE + 0x44, ENDBR_EN));

    let mut bench = jump_to(ENDBR_EN, JMP_RAX, NOP);
    bench.step();
    bench.assert_in(vector::CONTROL_PROTECTION);
    let [code, rip] = bench.stack::<8, 2>();
    assert_eq!((code, rip), (control_protection::ENDBRANCH as u64, CODE + 0x40));

    // A breakpoint may stand in ENDBRANCH's place.
    let mut bench = jump_to(ENDBR_EN, JMP_RAX, INT3);
    bench.step();
    bench.assert_in(vector::BREAKPOINT);
}

#[test]
fn tracking_is_left_out_where_it_may_be() {
    for (control, jump) in [
        (ENDBR_EN | NO_TRACK_EN, NOTRACK_JMP_RAX),
        (ENDBR_EN | SUPPRESS, JMP_RAX),
        (0, JMP_RAX),
    ] {
        let mut bench = jump_to(control, jump, NOP);
        bench.step();
        assert_eq!((bench.cpu.rip, bench.cpu.cet.supervisor), (CODE + 0x41, control));
    }
    let mut bench = jump_to(ENDBR_EN, NOTRACK_JMP_RAX, NOP);
    bench.step();
    bench.assert_in(vector::CONTROL_PROTECTION);
}

#[test]
fn the_legacy_bitmap_lets_pages_be_landed_on() {
    const BITMAP_AT: u64 = 0xc000;
    let control = ENDBR_EN | LEG_IW_EN | BITMAP_AT;
    let mut bench = jump_to(control, JMP_RAX, NOP);
    let page = CODE >> 12;
    bench.store::<1>(BITMAP_AT + page / 8, 1 << (page % 8));
    bench.step();
    assert_eq!(bench.cpu.rip, CODE + 0x41);
    assert_eq!(bench.cpu.cet.supervisor, control | SUPPRESS);
}

#[test]
fn control_registers_are_checked() {
    let mut bench = Bench::long();
    let write = |bench: &mut Bench, number, value| {
        let mut bus = Bus::new(0, 1);
        bench.cpu.write_msr(&mut bus, number, value)
    };
    assert!(write(&mut bench, 0x6a0, SH_STK_EN | ENDBR_EN));
    assert!(write(&mut bench, 0x6a2, TRACKER));
    assert!(!write(&mut bench, 0x6a2, TRACKER | SUPPRESS));
    assert!(!write(&mut bench, 0x6a2, 1 << 6));
    assert!(!write(&mut bench, 0x6a0, 1 << 62));
    assert!(write(&mut bench, 0x6a7, USER) && !write(&mut bench, 0x6a7, USER + 1));
    assert!(write(&mut bench, 0x6a8, 0x1000) && !write(&mut bench, 0x6a8, 1 << 62));
    // MOV CR4, RAX with WP clear; MOV CR0, RAX with CET set.
    bench.cpu.regs[RAX] = bench.cpu.cr4 | CR4_CET;
    bench.cpu.cr0 &= !CR0_WP;
    bench.fault(&[0x0f, 0x22, 0xe0], vector::GENERAL_PROTECTION);
    bench.cpu.cr0 |= CR0_WP;
    bench.run(&[0x0f, 0x22, 0xe0]);
    assert_ne!(bench.cpu.cr4 & CR4_CET, 0);
    bench.cpu.regs[RAX] = bench.cpu.cr0 & !CR0_WP;
    bench.fault(&[0x0f, 0x22, 0xc0], vector::GENERAL_PROTECTION);
}

#[test]
fn xsaves_keeps_the_user_s_enforcement() {
    let mut bench = Bench::long();
    let cpu = &mut bench.cpu;
    cpu.cr4 |= CR4_OSXSAVE;
    cpu.msr.xss = 3 << 11;
    (cpu.cet.user, cpu.cet.pl_ssp) = (SH_STK_EN, [0x10, 0x20, 0x30, USER]);
    cpu.regs[RBX] = 0xc000;
    (cpu.regs[RAX], cpu.regs[RDX]) = (3 << 11, 0);
    bench.run(&[0x0f, 0xc7, 0x2b]);
    assert_eq!(bench.load::<8>(0xc000 + 520), 1 << 63 | 3 << 11);
    let saved = [0, 8, 16, 24, 32].map(|at| bench.load::<8>(0xc000 + 576 + at));
    assert_eq!(saved, [SH_STK_EN, USER, 0x10, 0x20, 0x30]);
    bench.cpu.cet = Default::default();
    bench.run(&[0x0f, 0xc7, 0x1b]);
    assert_eq!(
        (bench.cpu.cet.user, bench.cpu.cet.pl_ssp),
        (SH_STK_EN, [0x10, 0x20, 0x30, USER])
    );
    bench.store::<8>(0xc000 + 576, 1 << 6);
    bench.fault(&[0x0f, 0xc7, 0x1b], vector::GENERAL_PROTECTION);
}
