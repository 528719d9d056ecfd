//! Our processor against the host's: random user-mode instructions on random operands, one at a time and in streams.
//!
//! `GDBVMX_ORACLE_CASES` is the number of cases for each group of instructions, `GDBVMX_ORACLE_SEED` where they begin,
//! `GDBVMX_ORACLE_ONLY` what to stay with: names of groups, mnemonics, or features as iced-x86 names them
//! (`AVX2,F16C`).

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod emulated;
mod generate;
mod groups;
mod masks;
mod native;
mod opcodes;
mod place;
mod random;
mod report;
mod state;
mod xsave;

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use iced_x86::{Code, Instruction};

use generate::{Encodings, Generator};
use groups::GROUPS;
use random::Random;
use state::*;

/// The native side lies at fixed addresses: one test at a time.
static HOST: Mutex<()> = Mutex::new(());

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text}, and not a number"))
    })
}

/// What `GDBVMX_ORACLE_ONLY` leaves of the comparable forms.
fn wanted() -> HashSet<Code> {
    let only = std::env::var("GDBVMX_ORACLE_ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    let is_wanted = |code: &Code| {
        let features = code.cpuid_features().iter().map(|feature| format!("{feature:?}"));
        let mut names = features.chain([
            format!("{:?}", code.mnemonic()),
            GROUPS[groups::group_of(*code)].name.to_string(),
        ]);
        only.is_empty() || names.any(|name| only.iter().any(|one| one.eq_ignore_ascii_case(&name)))
    };
    let wanted: HashSet<Code> = groups::comparable().into_iter().filter(is_wanted).collect();
    assert!(
        !wanted.is_empty(),
        "nothing that can be compared is called {only:?}"
    );
    wanted
}

fn host() -> Option<native::Native> {
    if std::arch::is_x86_feature_detected!("avx") {
        return Some(native::Native::new());
    }
    println!("skipped: the host processor has no AVX, by which the state is loaded");
    None
}

/// Runs a case on both sides. What differs in ours but is left open becomes the host's.
fn compare(
    emulated: &mut emulated::Emulated,
    native: &native::Native,
    case: &Case,
    insn: &Instruction,
) -> (Outcome, Outcome) {
    let mut theirs = native.run(case);
    let mut ours = emulated.run(case, 1);
    masks::forget_payloads(insn, &mut theirs);
    masks::forget_payloads(insn, &mut ours);
    masks::forgive_last_place(insn, &case.state, &mut ours, &theirs);
    masks::forgive_details(insn, &mut ours, &theirs);
    if theirs.fault.is_none() {
        let open = masks::undefined_flags(insn, &case.state);
        ours.state.flags = ours.state.flags & !open | theirs.state.flags & open;
    }
    (ours, theirs)
}

#[test]
fn instructions_do_what_the_host_does() {
    let cases = setting("GDBVMX_ORACLE_CASES", 2_000);
    let seed = setting("GDBVMX_ORACLE_SEED", 1);
    let _only = HOST.lock();
    let Some(native) = host() else { return };
    let mut emulated = emulated::Emulated::new();
    let (encodings, wanted) = (Encodings::new(), wanted());
    let mut wrong: BTreeMap<Code, (u64, String)> = BTreeMap::new();
    println!("{:24} {:>6} {:>10} {:>12}", "group", "forms", "cases", "disagree");
    for (number, group) in GROUPS.iter().enumerate() {
        let mut codes = wanted.clone();
        codes.retain(|code| groups::group_of(*code) == number);
        let Some(generator) = Generator::new(&encodings, &codes) else {
            continue;
        };
        // A group alone has the cases that it has among all.
        let mut random = Random(seed);
        let (mut seen, mut disagree, mut done) = (HashSet::new(), 0, 0);
        while done < cases {
            let bitness = generator.bitness(&mut random);
            let (case, insn) = generator.case(&mut random, bitness);
            if masks::undefined_result(&insn, &case.state) {
                continue;
            }
            done += 1;
            seen.insert(insn.code());
            let (ours, theirs) = compare(&mut emulated, &native, &case, &insn);
            if ours != theirs {
                disagree += 1;
                let first = || (0, report::describe(&case, &ours, &theirs));
                wrong.entry(insn.code()).or_insert_with(first).0 += 1;
            }
        }
        println!("{:24} {:6} {done:10} {disagree:12}", group.name, seen.len());
    }
    for (code, (count, text)) in &wrong {
        println!("{code:?}: {count} differ; the first: {text}");
    }
    assert!(
        wrong.is_empty(),
        "{} forms differ from the host processor",
        wrong.len()
    );
}

/// Also however it is cut: one instruction at a time, where each does all that it does, and in blocks, where flags that
/// nobody reads are left out.
#[test]
fn streams_do_what_the_host_does() {
    const LENGTH: usize = 12;
    let streams = setting("GDBVMX_ORACLE_CASES", 2_000);
    let mut random = Random(setting("GDBVMX_ORACLE_SEED", 1));
    let _only = HOST.lock();
    let Some(native) = host() else { return };
    let mut emulated = emulated::Emulated::new();
    let (encodings, wanted) = (Encodings::new(), wanted());
    // Half of them from the everyday groups, which have handlers for blocks.
    let mut everyday = wanted.clone();
    everyday.retain(|code| GROUPS[groups::group_of(*code)].name.contains("integer"));
    let generators: Vec<Generator> = [everyday, wanted]
        .iter()
        .filter_map(|codes| Generator::new(&encodings, codes))
        .collect();
    let (mut faults, mut disagree) = (0, 0);
    for number in 0..streams {
        let generator = &generators[number as usize % generators.len()];
        let bitness = generator.bitness(&mut random);
        let case = generator.stream(&mut random, bitness, LENGTH);
        let theirs = native.run(&case);
        faults += theirs.fault.is_some() as u64;
        for stride in [1, 1024] {
            let mut ours = emulated.run(&case, stride);
            if let (Some(fault), Some(_)) = (theirs.fault, ours.fault) {
                masks::forgive_details(&report::instruction(&case, fault.rip), &mut ours, &theirs);
            }
            if ours != theirs {
                disagree += 1;
                if disagree <= 3 {
                    println!(
                        "in turns of {stride}: {}",
                        report::describe(&case, &ours, &theirs)
                    );
                }
            }
        }
    }
    println!("{streams} streams, {faults} of which end in an exception, {disagree} disagree");
    assert_eq!(disagree, 0, "streams differ from the host processor");
}

#[test]
fn extended_state_is_saved_and_restored_as_by_the_host() {
    let cases = setting("GDBVMX_ORACLE_CASES", 2_000);
    let mut random = Random(setting("GDBVMX_ORACLE_SEED", 1));
    let _only = HOST.lock();
    let Some(native) = host() else { return };
    let Some(generator) = xsave::Cases::new() else {
        println!("skipped: the host is no Intel processor with AVX state in XSAVE areas");
        return;
    };
    let mut emulated = emulated::Emulated::new();
    let (mut faults, mut disagree) = (0, 0);
    for _ in 0..cases {
        let saved = generator.case(&mut random);
        let mut theirs = native.run(&saved.case);
        faults += theirs.fault.is_some() as u64;
        let mut ours = emulated.run(&saved.case, random.pick(&[1, 1024]));
        xsave::forgive(&saved, &mut ours, &mut theirs);
        if ours != theirs {
            disagree += 1;
            if disagree <= 3 {
                println!("{}", report::describe(&saved.case, &ours, &theirs));
            }
        }
    }
    println!("{cases} areas, {faults} of which end in an exception, {disagree} disagree");
    assert_eq!(disagree, 0, "areas differ from the host processor's");
}
