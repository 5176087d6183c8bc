//! Of the suite itself.

use std::fmt::Write;
use std::{env, fs, path};

use super::*;
use crate::coordination::memory::Memory;

/// The claims, as the documentation has them.
fn listed() -> String {
    let mut list = String::new();
    for (of, themes) in [("a driver", DRIVER), ("members that share locks", COORDINATOR)] {
        writeln!(list, "What is claimed of {of}:\n").expect("a string takes all");
        for (about, claims) in themes {
            writeln!(list, "- {about}").expect("a string takes all");
            for claim in *claims {
                let sentence = claim.name.replace('_', " ");
                let of = match claim.of {
                    Of::All => String::new(),
                    Of::With(capability) => {
                        format!(" (with [`{capability:?}`](Capability::{capability:?}))")
                    }
                    Of::Without(capability) => {
                        format!(" (without [`{capability:?}`](Capability::{capability:?}))")
                    }
                };
                writeln!(list, "  - {sentence}{of}").expect("a string takes all");
            }
        }
        list.push('\n');
    }
    list
}

#[test]
fn every_claim_is_in_the_documentation() {
    let file = path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = file.join("src/coordination/conformance/claims.md");
    if env::var_os("UPDATE").is_some() {
        fs::write(&file, listed()).expect("the tree can be written");
    }
    let written = fs::read_to_string(&file).expect("it is there");
    assert_eq!(written, listed(), "write it anew with UPDATE=1");
}

#[test]
fn no_two_claims_have_one_name() {
    let names = DRIVER.iter().chain(COORDINATOR).flat_map(|(_, claims)| *claims);
    let mut names: Vec<_> = names.map(|claim| claim.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_claim_that_does_not_come_to_an_end_is_broken() {
    let store = Memory::new();
    let connect = Box::new(move || Arc::new(store.clone()) as _);
    let limit = Duration::from_millis(50);
    let suite = Suite { connect, processes: Processes::none(), run: unique(), limit };
    const ENDLESS: &[Claim] = claims![waits_for_ever];
    let report = Arc::new(suite).check(&[("endless", ENDLESS)], |_| true);
    assert_eq!(report.broken.len(), 1, "{report}");
    assert!(report.broken[0].1.contains("did not come to an end"), "{report}");
}

fn waits_for_ever(_: &Ground) {
    loop {
        thread::park();
    }
}
