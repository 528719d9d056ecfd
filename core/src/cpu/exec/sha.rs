//! SHA-1 and SHA-256 (SDM vol. 1, 12.14; FIPS 180-4): rounds and message schedules, four words at a time.

use super::lanes::{build, lane, Xmm};
use super::vector::{select_packed, Legacy, Source};
use crate::cpu::decode::{Form, Group};
use crate::cpu::insn::{Handler, Insn};
use crate::cpu::{Cpu, Done};
use crate::platform::Bus;

/// Lanes from the highest to the lowest, as both standards name their words.
fn words(value: Xmm) -> [u32; 4] {
    [3, 2, 1, 0].map(|number| lane(value, number))
}

fn from_words(words: [u32; 4]) -> Xmm {
    build::<u32>(|number| words[3 - number as usize])
}

fn choose(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ !x & z
}

fn majority(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ x & z ^ y & z
}

fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

/// Four rounds of SHA-1; E is already in the first word of `schedule`.
fn rounds(state: Xmm, schedule: Xmm, stage: u8) -> Xmm {
    let (mix, constant): (fn(u32, u32, u32) -> u32, u32) = match stage & 3 {
        0 => (choose, 0x5a82_7999),
        1 => (parity, 0x6ed9_eba1),
        2 => (majority, 0x8f1b_bcdc),
        _ => (parity, 0xca62_c1d6),
    };
    let ([mut a, mut b, mut c, mut d], mut e) = (words(state), 0);
    for word in words(schedule) {
        let next = mix(b, c, d)
            .wrapping_add(a.rotate_left(5))
            .wrapping_add(word)
            .wrapping_add(constant)
            .wrapping_add(e);
        (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
    }
    from_words([a, b, c, d])
}

/// E for the next four rounds, added to their first word.
fn next_e(a: Xmm, schedule: Xmm) -> Xmm {
    let [first, others @ ..] = words(schedule);
    let e = words(a)[0].rotate_left(30);
    from_words([first.wrapping_add(e), others[0], others[1], others[2]])
}

fn first_message(a: Xmm, b: Xmm) -> Xmm {
    let ([w0, w1, w2, w3], [w4, w5, ..]) = (words(a), words(b));
    from_words([w2 ^ w0, w3 ^ w1, w4 ^ w2, w5 ^ w3])
}

fn second_message(a: Xmm, b: Xmm) -> Xmm {
    let ([x0, x1, x2, x3], [_, w13, w14, w15]) = (words(a), words(b));
    let w16 = (x0 ^ w13).rotate_left(1);
    from_words([
        w16,
        (x1 ^ w14).rotate_left(1),
        (x2 ^ w15).rotate_left(1),
        (x3 ^ w16).rotate_left(1),
    ])
}

fn small_sigma_0(x: u32) -> u32 {
    x.rotate_right(7) ^ x.rotate_right(18) ^ x >> 3
}

fn small_sigma_1(x: u32) -> u32 {
    x.rotate_right(17) ^ x.rotate_right(19) ^ x >> 10
}

fn big_sigma_0(x: u32) -> u32 {
    x.rotate_right(2) ^ x.rotate_right(13) ^ x.rotate_right(22)
}

fn big_sigma_1(x: u32) -> u32 {
    x.rotate_right(6) ^ x.rotate_right(11) ^ x.rotate_right(25)
}

fn first_message_256(a: Xmm, b: Xmm) -> Xmm {
    let next = |number| match number {
        3 => lane(b, 0),
        _ => lane(a, number + 1),
    };
    build::<u32>(|number| lane::<u32>(a, number).wrapping_add(small_sigma_0(next(number))))
}

fn second_message_256(a: Xmm, b: Xmm) -> Xmm {
    let [x3, x2, x1, x0] = words(a);
    let [w15, w14, ..] = words(b);
    let w16 = x0.wrapping_add(small_sigma_1(w14));
    let w17 = x1.wrapping_add(small_sigma_1(w15));
    let w18 = x2.wrapping_add(small_sigma_1(w16));
    let w19 = x3.wrapping_add(small_sigma_1(w17));
    from_words([w19, w18, w17, w16])
}

/// Two rounds of SHA-256. `cdgh` and `abef` are the working variables, `schedule` has words and constants added.
fn rounds_256(cdgh: Xmm, abef: Xmm, schedule: Xmm) -> Xmm {
    let ([mut a, mut b, mut e, mut f], [mut c, mut d, mut g, mut h]) = (words(abef), words(cdgh));
    for number in 0..2 {
        let first = h
            .wrapping_add(big_sigma_1(e))
            .wrapping_add(choose(e, f, g))
            .wrapping_add(lane(schedule, number));
        let second = big_sigma_0(a).wrapping_add(majority(a, b, c));
        (h, g, f, e) = (g, f, e, d.wrapping_add(first));
        (d, c, b, a) = (c, b, a, first.wrapping_add(second));
    }
    from_words([a, b, e, f])
}

packed! {
    Sha1rnds4 |a, b, imm| rounds(a, b, imm);
    Sha1nexte |a, b, _| next_e(a, b);
    Sha1msg1 |a, b, _| first_message(a, b);
    Sha1msg2 |a, b, _| second_message(a, b);
    Sha256msg1 |a, b, _| first_message_256(a, b);
    Sha256msg2 |a, b, _| second_message_256(a, b);
}

/// SHA256RNDS2: the schedule is in XMM0.
fn sha256rnds2<S: Source>(cpu: &mut Cpu, bus: &mut Bus, insn: &Insn) -> Done {
    cpu.check_sse()?;
    let [b, _] = S::read::<Legacy, 16>(cpu, bus, insn)?;
    let result = rounds_256(cpu.xmm(insn.r[0]), b, cpu.xmm(0));
    cpu.set_xmm(insn.r[0], result);
    Ok(())
}

fn select_sha256rnds2(form: &Form) -> Option<Handler> {
    by_source!(form, sha256rnds2)
}

pub static ROWS: Group = vector_rows! {
    Sha1rnds4 => select_packed::<Sha1rnds4>;
    Sha1nexte => select_packed::<Sha1nexte>;
    Sha1msg1 => select_packed::<Sha1msg1>;
    Sha1msg2 => select_packed::<Sha1msg2>;
    Sha256rnds2 => select_sha256rnds2;
    Sha256msg1 => select_packed::<Sha256msg1>;
    Sha256msg2 => select_packed::<Sha256msg2>;
};
