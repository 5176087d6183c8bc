//! What a `file:` URL says.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Durability;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
}

impl Url {
    /// Reads `file:///path`, `file://localhost/path` or `file:/path`, with `?sync=none` or `?sync=full`.
    ///
    /// # Errors
    /// Says what of it is wrong.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("file:").ok_or("it does not begin with file:")?;
        if rest.contains('#') {
            return Err("it has a fragment; write %23 for a # in the path".into());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = decode(local(rest)?)?;
        if !path.starts_with(b"/") {
            return Err("its path is not absolute: write file:///path".into());
        }
        let path = PathBuf::from(std::ffi::OsString::from_vec(path));
        Ok(Self { path, durability: durability(query)? })
    }

    pub(super) fn write(path: &Path, durability: Durability) -> String {
        let mut url = String::from("file://");
        for byte in path.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                    url.push(char::from(*byte));
                }
                _ => drop(write!(url, "%{byte:02X}")),
            }
        }
        if durability == Durability::PowerLoss {
            url.push_str("?sync=full");
        }
        url
    }
}

/// The path, without the host before it.
fn local(rest: &str) -> Result<&str, String> {
    let Some(rest) = rest.strip_prefix("//") else { return Ok(rest) };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match host {
        "" | "localhost" => Ok(path),
        _ => Err(format!(
            "its host is {host:?}, and files are only shared on this one: write file:///path"
        )),
    }
}

fn durability(query: &str) -> Result<Durability, String> {
    let mut durability = None;
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let said = match (name, value) {
            ("sync", "none") => Durability::ProcessDeath,
            ("sync", "full") => Durability::PowerLoss,
            ("sync", _) => return Err(format!("its option sync is {value:?}, not none or full")),
            _ => return Err(format!("it has an option {name:?}, which is unknown; known: sync")),
        };
        if durability.replace(said).is_some() {
            return Err("it has the option sync twice".into());
        }
    }
    Ok(durability.unwrap_or_default())
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits: Vec<_> = bytes.by_ref().take(2).collect();
                let bad = || format!("it has %{} in it", OsStr::from_bytes(&digits).display());
                if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(bad());
                }
                let text = std::str::from_utf8(&digits).map_err(|_| bad())?;
                u8::from_str_radix(text, 16).map_err(|_| bad())?
            }
            _ => byte,
        });
    }
    if decoded.contains(&0) { Err("it has a zero byte in it".into()) } else { Ok(decoded) }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(url: &str) -> PathBuf {
        Url::parse(url).unwrap_or_else(|reason| panic!("{url}: {reason}")).path
    }

    fn reason(url: &str) -> String {
        Url::parse(url).expect_err(url)
    }

    #[test]
    fn a_path_is_read_whichever_way_it_is_written() {
        for url in ["file:///a/b", "file://localhost/a/b", "file:/a/b", "file:///%61/b"] {
            assert_eq!(path(url), Path::new("/a/b"), "{url}");
        }
        assert_eq!(path("file:///a%20b%3f%23c"), Path::new("/a b?#c"));
        assert_eq!(path("file:///%ff").as_os_str().as_bytes(), b"/\xff");
    }

    #[test]
    fn what_is_asked_for_is_read_from_the_query() {
        let durability = |url| Url::parse(url).map(|url| url.durability);
        for url in ["file:///a", "file:///a?", "file:///a?sync=none"] {
            assert_eq!(durability(url), Ok(Durability::ProcessDeath), "{url}");
        }
        assert_eq!(durability("file:///a?sync=full"), Ok(Durability::PowerLoss));
    }

    #[test]
    fn a_url_that_cannot_be_meant_is_refused_with_the_reason() {
        for (url, why) in [
            ("memory:", "file:"),
            ("file:", "absolute"),
            ("file:a", "absolute"),
            ("file://", "absolute"),
            ("file:///a?network=allow", "\"network\""),
            ("file:///a?sync=maybe", "\"maybe\""),
            ("file:///a?sync", "\"\""),
            ("file:///a?sync=full&sync=full", "twice"),
            ("file://example.org/a", "\"example.org\""),
            ("file:///a%", "%"),
            ("file:///a%2", "%2"),
            ("file:///a%zz", "%zz"),
            ("file:///a%+1", "%+1"),
            ("file:///a%00", "zero"),
            ("file:///a#b", "fragment"),
        ] {
            assert!(reason(url).contains(why), "{url}: {}", reason(url));
        }
    }

    #[test]
    fn any_path_is_written_as_the_url_that_means_it() {
        for name in ["/a/b", "/a b", "/ä?#%", "/\n"] {
            for durability in [Durability::ProcessDeath, Durability::PowerLoss] {
                let url = Url::write(Path::new(name), durability);
                assert_eq!(Url::parse(&url), Ok(Url { path: name.into(), durability }), "{url}");
            }
        }
    }
}
