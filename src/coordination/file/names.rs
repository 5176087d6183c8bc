//! Names of files for names of any kind.

use std::fmt::Write;

/// A file name's length in bytes that every file system takes, with room to spare.
const BYTES_MAX: usize = 200;

/// Ends the readable part of a name that was too long, and occurs in no other.
const CUT: char = '~';

/// The file name of this text: another for another text, also where upper and lower case are one.
///
/// Lower-case letters, digits, `-`, `_` and `.` stand for themselves, `+` for a slash, `!a` for `A`, `%xx` for any other byte.
/// No name begins with a dot. Of what is too long the beginning can be read, and a hash stands for the rest: two of those could
/// meet, so whoever reads the file compares the whole text in it.
pub(super) fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + 16);
    let mut readable = 0;
    for byte in text.bytes() {
        push(byte, &mut name);
        if name.len() <= BYTES_MAX - 17 {
            readable = name.len();
        }
    }
    if name.len() > BYTES_MAX {
        name.truncate(readable);
        let _ = write!(name, "{CUT}{:016x}", hash(text.as_bytes()));
    }
    name
}

fn push(byte: u8, name: &mut String) {
    match byte {
        b'.' if name.is_empty() => name.push_str("%2e"),
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(char::from(byte)),
        b'/' => name.push('+'),
        b'A'..=b'Z' => name.extend(['!', char::from(byte.to_ascii_lowercase())]),
        _ => drop(write!(name, "%{byte:02x}")),
    }
}

/// The text whose file name this is: `None` if only the file knows it. An error if it is nobody's.
pub(super) fn text_of(name: &str) -> Result<Option<String>, NotAName> {
    if name.contains(CUT) {
        return Ok(None);
    }
    let text = decode(name).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(NotAName)?;
    if file_name(&text) == name { Ok(Some(text)) } else { Err(NotAName) }
}

fn decode(name: &str) -> Option<Vec<u8>> {
    let mut bytes = name.bytes();
    let mut text = Vec::with_capacity(name.len());
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'+' => b'/',
            b'!' => bytes.next()?.to_ascii_uppercase(),
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => byte,
        });
    }
    Some(text)
}

/// The name of a file that nothing is stored in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAName;

/// FNV-1a in 64 bits: written into files, so it stays what it is.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // From the published test vectors.
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn an_ordinary_name_can_be_read() {
        assert_eq!(file_name("lock/node/n1.example_2-3"), "lock+node+n1.example_2-3");
        assert_eq!(file_name("lock/BGL"), "lock+!b!g!l");
    }

    #[test]
    fn different_texts_have_different_names_whatever_the_case() {
        let pieces = [
            "", "a", "A", "!", "+", "/", "%", "%2f", "!a", "~", ".", "..", "ä", "Ä", "é",
            "e\u{301}", " ", "\0",
        ];
        let mut seen = HashMap::new();
        for one in pieces {
            for two in pieces {
                for three in pieces {
                    let text = format!("{one}{two}{three}");
                    let name = file_name(&text).to_lowercase();
                    let other = seen.entry(name).or_insert_with(|| text.clone());
                    assert_eq!(*other, text);
                }
            }
        }
    }

    #[test]
    fn a_name_of_any_length_is_legal_and_differs_in_its_last_byte() {
        for unit in ["a", "A", "ä", "/", "\u{1}"] {
            for length in [1, 50, 182, 183, 184, 199, 200, 201, 512, 1024] {
                let text = unit.repeat(length);
                let name = file_name(&text);
                assert!((1..=BYTES_MAX).contains(&name.len()), "{} bytes", name.len());
                assert!(!name.starts_with('.') && !name.contains(['/', '\0']), "{name}");
                assert_ne!(name, file_name(&format!("{text}b")));
                let read = text_of(&name).expect("it is a name");
                assert!(read.is_none_or(|read| read == text), "{name}");
            }
        }
    }

    #[test]
    fn what_nobody_is_called_is_no_name() {
        for name in [".tmp", "A", "%2F", "%61", "%", "%2", "!", "a b", "ä", "%ff", "!1"] {
            assert_eq!(text_of(name), Err(NotAName), "{name}");
        }
    }
}
