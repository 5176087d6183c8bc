//! A record as it lies in its file.
//!
//! ```text
//! tierlock record 1 <version> <length of the key in bytes>
//! <key>
//! <content>
//! <hash of all before it, 16 digits>
//! ```
//! So a file that is cut short, partly zeros or under a foreign name is noticed.

use super::names::hash;

const HEAD: &str = "tierlock record 1 ";

/// The last line: a newline before and after the digits.
const TAIL_BYTES: usize = 18;

/// What head and tail add to key and content, at most.
pub(super) const FRAME_BYTES_MAX: usize = 128;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<'p> {
    pub(super) version: u64,
    pub(super) key: &'p str,
    pub(super) content: &'p [u8],
}

impl<'p> Page<'p> {
    pub(super) fn write(&self) -> Vec<u8> {
        let Self { version, key, content } = self;
        let mut bytes = format!("{HEAD}{version} {}\n{key}\n", key.len()).into_bytes();
        bytes.extend_from_slice(content);
        let hash = hash(&bytes);
        bytes.extend_from_slice(format!("\n{hash:016x}\n").as_bytes());
        bytes
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn read(bytes: &'p [u8]) -> Result<Self, &'static str> {
        if bytes.is_empty() {
            return Err("it is empty");
        }
        let end = bytes.len().checked_sub(TAIL_BYTES).ok_or("it is cut short")?;
        let (body, tail) = bytes.split_at(end);
        if tail != format!("\n{:016x}\n", hash(body)).as_bytes() {
            return Err("it is torn: its content and its checksum do not agree");
        }
        Self::parse(body).ok_or("it is of a format unknown here")
    }

    fn parse(body: &'p [u8]) -> Option<Self> {
        let line = body.iter().position(|byte| *byte == b'\n')?;
        let (head, body) = (std::str::from_utf8(&body[..line]).ok()?, &body[line + 1..]);
        let (version, length) = head.strip_prefix(HEAD)?.split_once(' ')?;
        let (key, rest) = body.split_at_checked(length.parse().ok()?)?;
        let content = rest.strip_prefix(b"\n")?;
        let version = version.parse().ok().filter(|version| *version > 0)?;
        Some(Self { version, key: std::str::from_utf8(key).ok()?, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<u8> {
        Page { version: 7, key: "lock/a", content: b"{\n}\n" }.write()
    }

    #[test]
    fn a_page_is_read_as_it_was_written() {
        for content in ["", "\n", "x", "\n0123456789abcdef\n"] {
            let page = Page { version: u64::MAX, key: "k\u{e4}/y", content: content.as_bytes() };
            assert_eq!(Page::read(&page.write()), Ok(page));
        }
    }

    #[test]
    fn a_page_cut_anywhere_is_an_error() {
        let whole = page();
        for length in 0..whole.len() {
            Page::read(&whole[..length]).expect_err("it is cut");
        }
    }

    #[test]
    fn a_page_with_a_byte_changed_or_zeros_from_anywhere_is_an_error() {
        let whole = page();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            Page::read(&changed).expect_err("a bit is flipped");
            let mut zeros = whole.clone();
            zeros[at..].fill(0);
            Page::read(&zeros).expect_err("it ends in zeros");
        }
    }
}
