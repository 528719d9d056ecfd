//! AES (SDM vol. 1, 12.13; FIPS 197): rounds of encryption and decryption on a state of sixteen bytes, column by column.

use super::lanes::{build, halves, lane, map, Xmm};
use super::vector::select_packed;
use crate::cpu::decode::Group;

/// Multiplication in the field of 256 elements, modulo x^8 + x^4 + x^3 + x + 1.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut power, mut product, mut bit) = (a, 0, 0);
    while bit < 8 {
        if b >> bit & 1 != 0 {
            product ^= power;
        }
        power = power << 1 ^ if power & 0x80 != 0 { 0x1b } else { 0 };
        bit += 1;
    }
    product
}

/// The substitution of bytes: the inverse in the field, then an affine map.
const fn substitutions() -> [u8; 256] {
    let mut table = [0; 256];
    // All elements but 0 are powers of 3; `inverse` is the power of its inverse, 0xf6.
    let (mut element, mut inverse, mut count) = (1u8, 1u8, 0);
    while count < 255 {
        let mixed = inverse
            ^ inverse.rotate_left(1)
            ^ inverse.rotate_left(2)
            ^ inverse.rotate_left(3)
            ^ inverse.rotate_left(4);
        table[element as usize] = mixed ^ 0x63;
        element = multiply(element, 3);
        inverse = multiply(inverse, 0xf6);
        count += 1;
    }
    table[0] = 0x63;
    table
}

const fn inverted(table: [u8; 256]) -> [u8; 256] {
    let mut inverse = [0; 256];
    let mut at = 0;
    while at < 256 {
        inverse[table[at] as usize] = at as u8;
        at += 1;
    }
    inverse
}

static SUBSTITUTIONS: [u8; 256] = substitutions();
static INVERSE_SUBSTITUTIONS: [u8; 256] = inverted(substitutions());

fn substitute(table: &[u8; 256], state: Xmm) -> Xmm {
    map::<u8>(state, |byte| table[byte as usize])
}

/// Row `r` goes `r` columns to the left; `columns` 3: to the right.
fn shift_rows(state: Xmm, columns: u32) -> Xmm {
    build::<u8>(|number| lane(state, (number + number % 4 * columns * 4) % 16))
}

/// Each column times a matrix, of which `factors` is the first row and the others are that turned.
fn mix_columns(state: Xmm, factors: [u8; 4]) -> Xmm {
    build::<u8>(|number| {
        let (column, row) = (number / 4 * 4, number % 4);
        (0..4).fold(0, |sum, other| {
            let factor = factors[(other + 4 - row) as usize % 4];
            sum ^ multiply(lane(state, column + other), factor)
        })
    })
}

const FORWARD: [u8; 4] = [2, 3, 1, 1];
const BACKWARD: [u8; 4] = [14, 11, 13, 9];

fn last_encryption(state: Xmm) -> Xmm {
    substitute(&SUBSTITUTIONS, shift_rows(state, 1))
}

fn last_decryption(state: Xmm) -> Xmm {
    substitute(&INVERSE_SUBSTITUTIONS, shift_rows(state, 3))
}

fn add(state: Xmm, key: Xmm) -> Xmm {
    halves(state, key, |a, b| a ^ b)
}

/// The two odd doublewords, each substituted, and once more turned by a byte and with the round's constant added.
fn assist_key(b: Xmm, constant: u8) -> Xmm {
    let substituted = substitute(&SUBSTITUTIONS, b);
    build::<u32>(|number| {
        let word: u32 = lane(substituted, number | 1);
        match number & 1 {
            0 => word,
            _ => word.rotate_right(8) ^ constant as u32,
        }
    })
}

packed! {
    Aesenc |state, key, _| add(mix_columns(last_encryption(state), FORWARD), key);
    Aesenclast |state, key, _| add(last_encryption(state), key);
    Aesdec |state, key, _| add(mix_columns(last_decryption(state), BACKWARD), key);
    Aesdeclast |state, key, _| add(last_decryption(state), key);
    Aesimc |_, key, _| mix_columns(key, BACKWARD);
    Aeskeygenassist |_, key, imm| assist_key(key, imm);
}

pub static ROWS: Group = vector_rows! {
    Aesenc Vaesenc => select_packed::<Aesenc>;
    Aesenclast Vaesenclast => select_packed::<Aesenclast>;
    Aesdec Vaesdec => select_packed::<Aesdec>;
    Aesdeclast Vaesdeclast => select_packed::<Aesdeclast>;
    Aesimc Vaesimc => select_packed::<Aesimc>;
    Aeskeygenassist Vaeskeygenassist => select_packed::<Aeskeygenassist>;
};
