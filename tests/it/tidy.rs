//! The source tree keeps its own rules.
//!
//! Comments and what string literals contain are taken out before anything is looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate from the ground up, each with what it may use. Arrows only point down: to rows above.
#[rustfmt::skip]
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("sync", &[]),
    ("clock", &[]),
    ("condition", &["clock", "sync"]),
    ("name", &["core"]),
    ("request", &["core", "name"]),
    ("error", &["core", "name", "request"]),
    ("template", &["error"]),
    ("waits", &[]),
    ("striped", &["core", "sync"]),
    ("raw", &["core", "name", "striped", "sync", "waits"]),
    ("owner", &["core", "striped", "sync"]),
    ("current", &["owner"]),
    ("descriptor", &[]),
    ("listeners", &["descriptor"]),
    ("hold", &["core", "error", "listeners", "owner", "raw", "striped"]),
    ("beyond", &["core", "error", "hold", "owner"]),
    ("bundle", &["core", "hold", "owner"]),
    ("task", &["beyond", "bundle", "core", "error", "hold", "owner", "raw"]),
    ("timer", &["clock"]),
    ("chain", &["clock", "core", "hold", "listeners", "owner", "raw", "sync", "task", "timer"]),
    ("target", &["core", "task"]),
    ("pending", &["chain", "clock", "core", "descriptor", "sync", "target", "task", "timer"]),
    ("acquire", &["chain", "clock", "core", "pending", "target"]),
    ("shared_lock", &["acquire", "core", "error", "hold", "name", "owner", "raw", "target", "task"]),
    ("set", &["beyond", "bundle", "core", "error", "hold", "name", "request", "sync", "task", "waits"]),
    ("set_hold", &["bundle", "core", "error", "hold", "name", "owner", "raw", "request", "set", "task"]),
    ("change", &["beyond", "core", "error", "hold", "name", "owner", "request", "set", "set_hold", "target", "task"]),
    ("lock_set", &["acquire", "change", "core", "error", "hold", "owner", "request", "set", "set_hold", "target", "task"]),
    ("lent", &["core", "name", "owner", "set", "set_hold"]),
    ("level", &["core", "request"]),
    ("plan", &["core", "error", "lent", "level", "owner", "request", "set", "task"]),
    ("session", &["acquire", "beyond", "change", "core", "error", "hold", "lent", "level", "name", "owner", "plan", "request", "set", "set_hold", "target", "task"]),
    ("annotation", &["acquire", "core", "current", "error", "lock_set", "name", "owner", "request", "session", "shared_lock", "target", "task"]),
    ("snapshot", &["core", "name", "owner"]),
    ("monitor", &["clock", "core", "hold", "listeners", "lock_set", "name", "owner", "raw", "set", "shared_lock", "snapshot", "waits"]),
    ("coordination", &["acquire", "annotation", "beyond", "chain", "clock", "core", "error", "hold", "listeners", "name", "owner", "pending", "raw", "set", "shared_lock", "sync", "target", "task", "template"]),
    ("manager", &["acquire", "coordination", "core", "error", "lent", "level", "monitor", "name", "owner", "plan", "request", "session", "set"]),
    ("ganeti", &["core", "manager", "request", "set"]),
];

/// What decides has no thread, no clock, no lock and no I/O.
const FORBIDDEN_IN_CORE: &[&str] = &["fs", "io", "net", "sync", "thread", "time"];

/// Crates that the core does without.
const FORBIDDEN_CRATES_IN_CORE: &[&str] = &["crossbeam", "parking_lot", "tracing"];

/// What is said in these files of `src` alone.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("Instant::now", &["clock.rs"]),
    ("clock_gettime", &["clock.rs"]),
    ("SystemTime", &["clock.rs"]),
    ("tierlock_loom", &["owner/slots.rs", "sync.rs"]),
    ("tierlock_shuttle", &["sync.rs"]),
];

/// What neither the library nor its tests contain.
const NOWHERE: &[&str] = &["todo!", "unimplemented!", "#[ignore", "thread::sleep"];

/// What a room holds, and what one can still find something in.
const LINES_MAX: usize = 600;

#[test]
fn the_core_only_decides() {
    let broken = sources("src/core").flat_map(|file| {
        // It counts who shares a text, and orders nothing.
        let code = file.code.replace("std::sync::Arc;", "");
        let std = ["std", "core", "alloc"].into_iter().flat_map(|root| used(&code, root));
        let own = used(&file.code, "crate").into_iter().filter(|module| module != "core");
        let crates = words(&file.code)
            .filter(|word| FORBIDDEN_CRATES_IN_CORE.iter().any(|name| word.starts_with(name)));
        std.filter(|module| FORBIDDEN_IN_CORE.contains(&module.as_str()))
            .map(|module| format!("std::{module}"))
            .chain(own.map(|module| format!("crate::{module}")))
            .chain(crates.map(str::to_owned))
            .map(|name| format!("{} uses {name}", file.name))
            .collect::<Vec<_>>()
    });
    assert_none("src/core decides, and knows nothing of what waits", broken);
}

#[test]
fn a_module_uses_only_what_its_row_in_the_table_lists() {
    let table: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let broken = sources("src").filter(|file| file.name != "src/lib.rs").flat_map(|file| {
        let Some(allowed) = table.get(file.module()) else {
            return vec![format!("{} has no row", file.name)];
        };
        let siblings = used(&file.code, "super").into_iter().filter(|_| file.is_top());
        let siblings = siblings.filter(|name| table.contains_key(name.as_str()));
        used(&file.code, "crate")
            .into_iter()
            .chain(siblings)
            .filter(|name| name != file.module() && !allowed.contains(&name.as_str()))
            .map(|name| format!("{} uses crate::{name}", file.name))
            .collect()
    });
    assert_none("an arrow is not in ARROWS (tests/it/tidy.rs)", broken);
}

#[test]
fn the_arrows_of_the_table_point_down() {
    let broken = ARROWS.iter().enumerate().flat_map(|(row, (module, uses))| {
        let below = &ARROWS[..row];
        uses.iter()
            .filter(|used| below.iter().all(|(name, _)| name != *used))
            .map(move |used| format!("{module} uses {used}, which is not in a row above"))
    });
    assert_none("an arrow in ARROWS (tests/it/tidy.rs) points up, or nowhere", broken);
}

#[test]
fn each_row_of_the_table_is_a_module() {
    let modules: BTreeSet<_> = sources("src").map(|file| file.module().to_owned()).collect();
    let stale = ARROWS.iter().filter(|(module, _)| !modules.contains(*module));
    assert_none(
        "ARROWS (tests/it/tidy.rs) has rows without a file",
        stale.map(|(module, _)| (*module).to_owned()),
    );
}

#[test]
fn the_clock_and_the_models_are_known_to_their_own_files_alone() {
    let broken = sources("src").flat_map(|file| {
        ONLY_IN
            .iter()
            .filter(|(text, files)| file.code.contains(text) && !files.contains(&file.in_src()))
            .map(|(text, files)| format!("{} says {text}; allowed in {files:?}", file.name))
            .collect::<Vec<_>>()
    });
    assert_none("said outside the files it belongs to", broken);
}

#[test]
fn nothing_is_unfinished_ignored_or_ordered_by_sleeping() {
    let broken = sources("src").chain(sources("tests")).flat_map(|file| {
        NOWHERE
            .iter()
            .filter(|text| file.code.contains(**text))
            .map(|text| format!("{} says {text}", file.name))
            .collect::<Vec<_>>()
    });
    assert_none("neither the library nor its tests say this", broken);
}

#[test]
fn the_crate_forbids_unsafe_code() {
    let lib = code(&read("src/lib.rs"));
    assert!(lib.contains("#![forbid(unsafe_code)]"), "src/lib.rs must forbid unsafe code");
}

#[test]
fn no_file_of_the_library_is_too_long_to_be_one_room() {
    let long = sources("src")
        .filter(|file| file.lines > LINES_MAX)
        .map(|file| format!("{} has {} lines", file.name, file.lines));
    assert_none(&format!("more than {LINES_MAX} lines"), long);
}

#[test]
fn the_changelog_begins_with_the_version_of_the_manifest() {
    let version = env!("CARGO_PKG_VERSION");
    let changelog = read("CHANGELOG.md");
    let latest = changelog.lines().find(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    assert!(
        latest.is_some_and(|line| line.split_whitespace().next() == Some(version)),
        "the first entry of CHANGELOG.md is {latest:?}, the version in Cargo.toml is {version}"
    );
}

#[test]
fn what_is_looked_for_is_seen_in_code_and_nowhere_else() {
    let text = r##"
        use std::{fmt::{self, Debug}, time::Duration,}; // std::thread
        /* std::net /* std::io */ std::io */ /// std::fs
        fn f<'a>(_: &'a str) -> char { "\"std::net"; r#"std::" std::net"#; '"' }
        const QUOTE: char = '\''; use std::
            sync::Arc; fn nonstd::other() {}
    "##;
    let names = ["fmt", "sync", "time"].map(str::to_owned);
    assert_eq!(used(&code(text), "std"), BTreeSet::from(names));
    assert_eq!(code(text).lines().count(), text.lines().count());
}

/// A Rust file of the tree.
struct Source {
    /// Its path from the root of the tree, with slashes.
    name: String,
    lines: usize,
    code: String,
}

impl Source {
    fn in_src(&self) -> &str {
        self.name.strip_prefix("src/").expect("asked of files in src")
    }

    fn module(&self) -> &str {
        let path = self.in_src();
        path.split_once('/').map_or_else(|| path.trim_end_matches(".rs"), |(folder, _)| folder)
    }

    fn is_top(&self) -> bool {
        !self.in_src().contains('/')
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: impl AsRef<Path>) -> String {
    let path = root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file in `folder` and below, by name; there is at least one.
fn sources(folder: &str) -> impl Iterator<Item = Source> {
    let mut paths = Vec::new();
    collect(&root().join(folder), &mut paths);
    assert!(!paths.is_empty(), "no Rust file in {folder}");
    paths.sort();
    paths.into_iter().map(|path| {
        let text = read(&path);
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        Source { name: name.replace('\\', "/"), lines: text.lines().count(), code: code(&text) }
    })
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder);
    for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder that can be read").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn assert_none(rule: &str, broken: impl IntoIterator<Item = String>) {
    let broken: Vec<_> = broken.into_iter().collect();
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character| !is_word(character)).filter(|word| !word.is_empty())
}

/// The names that follow `root::` in `code`, those in `root::{..}` too.
fn used(code: &str, root: &str) -> BTreeSet<String> {
    let path = format!("{root}::");
    code.match_indices(&path)
        .filter(|(at, _)| !code[..*at].ends_with(is_word))
        .flat_map(|(at, _)| first_names(code[at + path.len()..].trim_start()))
        .collect()
}

/// The name that `tree` begins with, or each of them if it begins with a group; `*` if it names everything.
fn first_names(tree: &str) -> Vec<String> {
    match tree.strip_prefix('{') {
        Some(group) => members(group).into_iter().flat_map(first_names).collect(),
        None if tree.starts_with('*') => vec!["*".to_owned()],
        None => words(tree).take(1).map(str::to_owned).collect(),
    }
}

/// What the commas of a group separate, up to the brace that closes it.
fn members(group: &str) -> Vec<&str> {
    let (mut members, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match character {
            ',' | '}' if depth == 0 => {
                members.push(group[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    members
}

/// `text` without comments and literals, on as many lines.
fn code(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let (skipped, next) = rest.split_at(comment_or_literal(rest));
        if skipped.is_empty() {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(skipped.chars().filter(|character| *character == '\n'));
            rest = next;
        }
    }
    code
}

/// How much of `text` the comment, string or character is that it begins with.
fn comment_or_literal(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if let Some(string) = text.strip_prefix('"') {
        return 1 + string_end(string);
    }
    if let Some(raw) = text.strip_prefix('r') {
        return raw_string(raw).map_or(0, |length| 1 + length);
    }
    text.strip_prefix('\'').and_then(character).map_or(0, |length| 1 + length)
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        let Some(mark) = rest.find(['/', '*']) else { return text.len() };
        match &rest.as_bytes()[mark..] {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                at += mark + 1;
                continue;
            }
        }
        at += mark + 2;
        if depth == 0 {
            return at;
        }
    }
}

fn string_end(string: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in string.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    string.len()
}

fn raw_string(raw: &str) -> Option<usize> {
    let hashes = raw.find(|character| character != '#')?;
    let string = raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", &raw[..hashes]);
    Some(hashes + 1 + string.find(&end)? + end.len())
}

/// None for a lifetime.
fn character(text: &str) -> Option<usize> {
    if text.starts_with('\\') {
        return text.get(2..)?.find('\'').map(|at| at + 3);
    }
    let first = text.chars().next()?.len_utf8();
    text[first..].starts_with('\'').then_some(first + 1)
}
