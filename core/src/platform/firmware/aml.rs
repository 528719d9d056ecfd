//! The few terms of ACPI's machine language (ACPI 6.5, chapter 20) that the DSDT is made of.

const ZERO_OP: u8 = 0x00;
const NAME_OP: u8 = 0x08;
const BYTE_PREFIX: u8 = 0x0A;
const DWORD_PREFIX: u8 = 0x0C;
const SCOPE_OP: u8 = 0x10;
const BUFFER_OP: u8 = 0x11;
const PACKAGE_OP: u8 = 0x12;
const EXTENDED: u8 = 0x5B;
const DEVICE_OP: u8 = 0x82;

/// A term whose length stands before its contents; the length counts itself.
fn sized(opcode: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut term = opcode.to_vec();
    if contents.len() + 1 < 1 << 6 {
        term.push(contents.len() as u8 + 1);
    } else {
        let length = contents.len() + 2;
        term.extend([1 << 6 | (length & 0xF) as u8, (length >> 4) as u8]);
    }
    term.extend_from_slice(contents);
    term
}

pub fn scope(name: &[u8; 4], terms: &[Vec<u8>]) -> Vec<u8> {
    sized(&[SCOPE_OP], &[name.as_slice(), &terms.concat()].concat())
}

pub fn device(name: &[u8; 4], terms: &[Vec<u8>]) -> Vec<u8> {
    sized(
        &[EXTENDED, DEVICE_OP],
        &[name.as_slice(), &terms.concat()].concat(),
    )
}

pub fn name(name: &[u8; 4], value: &[u8]) -> Vec<u8> {
    [&[NAME_OP], name.as_slice(), value].concat()
}

pub fn byte(value: u8) -> Vec<u8> {
    match value {
        0 => vec![ZERO_OP],
        _ => vec![BYTE_PREFIX, value],
    }
}

pub fn package(elements: &[Vec<u8>]) -> Vec<u8> {
    sized(
        &[PACKAGE_OP],
        &[&[elements.len() as u8], elements.concat().as_slice()].concat(),
    )
}

/// An EISA identifier such as `PNP0A03`: three letters of 5 bits, four hexadecimal digits, most significant first.
pub fn eisa_id(text: &[u8; 7]) -> Vec<u8> {
    let (letters, digits) = text.split_at(3);
    let digit = |digit: u8| {
        u32::from(if digit > b'9' {
            digit - b'A' + 10
        } else {
            digit - b'0'
        })
    };
    let letters = letters
        .iter()
        .fold(0, |id, &letter| id << 5 | u32::from(letter & 0x1F));
    let id = digits.iter().fold(letters, |id, &at| id << 4 | digit(at));
    [[DWORD_PREFIX].as_slice(), &id.to_be_bytes()].concat()
}

/// A buffer of resource descriptors with the end tag after them, its checksum unused.
pub fn resources(descriptors: &[Vec<u8>]) -> Vec<u8> {
    let mut contents = descriptors.concat();
    contents.extend([0x79, 0]);
    let length = byte(contents.len() as u8);
    sized(&[BUFFER_OP], &[length, contents].concat())
}

/// Decoded I/O ports `first..first + count`.
pub fn ports(first: u16, count: u8) -> Vec<u8> {
    let [low, high] = first.to_le_bytes();
    vec![0x47, 1, low, high, low, high, 1, count]
}

/// The numbers of the buses `first..=last` that a bridge produces.
pub fn buses(first: u16, last: u16) -> Vec<u8> {
    const BUS_NUMBERS: u8 = 2;
    const FIXED: u8 = 0b1100;
    let mut descriptor = vec![0x88, 13, 0, BUS_NUMBERS, FIXED, 0];
    for word in [0, first, last, 0, last - first + 1] {
        descriptor.extend(word.to_le_bytes());
    }
    descriptor
}

/// An interrupt line, edge-triggered and active high.
pub fn interrupt(line: u8) -> Vec<u8> {
    let [low, high] = (1u16 << line).to_le_bytes();
    vec![0x22, low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_as_the_specification_encodes_them() {
        assert_eq!(package(&[byte(0), byte(5)]), [0x12, 5, 2, 0, 0x0A, 5]);
        assert_eq!(eisa_id(b"PNP0A03"), [0x0C, 0x41, 0xD0, 0x0A, 0x03]);
        assert_eq!(name(b"_UID", &byte(0)), *b"\x08_UID\0");
        let long = sized(&[SCOPE_OP], &[0; 100]);
        assert_eq!((long.len(), &long[..3]), (103, [0x10, 0x46, 6].as_slice()));
    }
}
