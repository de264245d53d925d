//! Edits that make a mutant of a seed.

use proptest::prelude::*;

/// Longest mutant.
const BYTES_MAX: usize = 128 * 1024;
/// Bytes at which parsers decide.
const BYTES: &[u8] = b"\0\x01\x7f\x80\xff\n\r\t ,;:=.-_/\\\"'{}[]%*?#&0a\xc3";
/// Numbers at which lengths overflow.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    u64::MAX,
];

/// One edit. Its numbers are taken modulo what there is, so that every edit applies to every input.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    kind: Kind,
    at: usize,
    len: usize,
    value: u64,
}

#[derive(Copy, Clone, Debug)]
enum Kind {
    FlipBit,
    SetByte,
    SetNotableByte,
    AddToByte,
    SetNumber,
    Insert,
    InsertNotable,
    Remove,
    Truncate,
    Duplicate,
    RepeatOften,
    InsertWord,
    OverwriteWord,
    Splice,
}

const KINDS: [Kind; 14] = [
    Kind::FlipBit,
    Kind::SetByte,
    Kind::SetNotableByte,
    Kind::AddToByte,
    Kind::SetNumber,
    Kind::Insert,
    Kind::InsertNotable,
    Kind::Remove,
    Kind::Truncate,
    Kind::Duplicate,
    Kind::RepeatOften,
    Kind::InsertWord,
    Kind::OverwriteWord,
    Kind::Splice,
];

/// Any edit; short pieces more often than long ones.
pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    let len = prop_oneof![4 => 0..8_usize, 1 => 0..256_usize];
    (0..KINDS.len(), any::<u32>(), len, any::<u64>()).prop_map(|(kind, at, len, value)| Edit {
        kind: KINDS[kind],
        at: at as usize,
        len,
        value,
    })
}

/// Applies an edit.
pub(crate) fn apply(edit: &Edit, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
    let value = edit.value;
    let at = edit.at % (bytes.len() + 1);
    let end = (at + edit.len + 1).min(bytes.len());
    let notable = BYTES[value as usize % BYTES.len()];
    let word = words
        .get(value as usize % words.len().max(1))
        .copied()
        .unwrap_or_default();
    match edit.kind {
        Kind::FlipBit => change(bytes, at, |byte| byte ^ (1 << (value % 8))),
        Kind::SetByte => change(bytes, at, |_| value as u8),
        Kind::SetNotableByte => change(bytes, at, |_| notable),
        Kind::AddToByte => change(bytes, at, |byte| byte.wrapping_add((value % 17) as u8).wrapping_sub(8)),
        Kind::SetNumber => {
            let width = [1, 2, 3, 4, 8][edit.len % 5];
            let number = NUMBERS[value as usize % NUMBERS.len()].to_be_bytes();
            overwrite(bytes, at, &number[8 - width..]);
        }
        Kind::Insert => insert(bytes, at, &value.to_le_bytes()[..=edit.len % 8]),
        Kind::InsertNotable => insert(bytes, at, &[notable]),
        Kind::Remove => drop(bytes.drain(at..end)),
        Kind::Truncate => bytes.truncate(at),
        Kind::Duplicate => {
            let piece = bytes[at..end].to_vec();
            insert(bytes, at, &piece);
        }
        Kind::RepeatOften => insert(bytes, at, &bytes[at..end].repeat(1 + value as usize % 300)),
        Kind::InsertWord => insert(bytes, at, word.as_bytes()),
        Kind::OverwriteWord => overwrite(bytes, at, word.as_bytes()),
        Kind::Splice => {
            let other = seeds
                .get(value as usize % seeds.len().max(1))
                .map_or(&[][..], Vec::as_slice);
            let from = (value >> 32) as usize % (other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
    bytes.truncate(BYTES_MAX);
}

fn change(bytes: &mut [u8], at: usize, to: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = to(*byte);
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

fn overwrite(bytes: &mut [u8], at: usize, piece: &[u8]) {
    for (byte, new) in bytes[at..].iter_mut().zip(piece) {
        *byte = *new;
    }
}
