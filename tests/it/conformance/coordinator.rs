//! A claim about members that share locks which nothing could break would say nothing: for each there is a driver that does.
//!
//! Some of them have a bug as drivers have, others meddle with the records: what those break is decided above the drivers, and
//! kept by any driver that keeps to its contract.

use std::collections::BTreeSet;
use std::thread;

use parking_lot::Mutex;
use tierlock::coordination::conformance::{Processes, check_coordinator};

use super::buggy::{Bug, Engine};

/// Every bug, and the claims that it breaks; perhaps others as well.
#[rustfmt::skip]
const BUGS: &[(Bug, &[&str])] = &[
    (Bug::StoresNothing, &["two_members_hold_at_a_time_what_goes_together_and_nothing_else", "owners_of_one_member_keep_out_others_as_owners_of_several_do", "an_upgrade_is_to_the_mode_that_covers_both"]),
    (Bug::SwapsWhateverIsThere, &["members_that_lock_at_random_never_hold_what_conflicts"]),
    (Bug::KeysInLowerCase, &["locks_of_different_names_are_held_apart"]),
    (Bug::LeavesTogether, &["members_over_one_connection_exclude_each_other_and_end_apart"]),
    (Bug::LosesReleases, &["what_is_given_back_is_had_by_whoever_asks_next", "what_is_cached_is_given_up_when_another_member_asks", "readers_go_together", "what_is_given_back_goes_to_whoever_waits", "a_downgrade_lets_in_what_goes_with_it_and_nothing_else", "readers_go_along_with_a_writer_that_becomes_a_reader", "a_broken_hold_goes_to_the_next_and_both_hear_of_it"]),
    (Bug::LosesLateReleases, &["what_is_granted_and_never_taken_is_given_back"]),
    (Bug::LosesWithdrawals, &["a_timeout_of_zero_waits_for_nothing_and_leaves_nothing", "a_timeout_that_passes_leaves_nothing", "a_waiter_that_times_out_lets_those_behind_it_go", "a_waiter_that_is_dropped_lets_those_behind_it_go", "a_waiter_that_is_cancelled_leaves_nothing", "an_upgrade_that_is_given_up_leaves_what_was_held"]),
    (Bug::PollsInAnHour, &["who_waits_is_served_though_every_report_is_missed"]),
    (Bug::SeesNoWaiters, &["an_attempt_that_is_refused_leaves_nothing", "a_writer_is_not_starved_by_readers_that_keep_coming", "a_reader_that_came_after_a_writer_goes_after_it"]),
    (Bug::LastComeFirst, &["who_came_first_goes_first"]),
    (Bug::ForgetsPriorities, &["who_is_more_urgent_goes_first_whoever_came_first", "who_becomes_more_urgent_goes_before_its_equals"]),
    (Bug::ForgetsConversions, &["an_upgrade_goes_before_newcomers", "an_upgrade_waits_until_the_others_are_gone", "of_two_that_upgrade_what_both_hold_the_second_is_refused"]),
    (Bug::TokensComeAgain, &["tokens_rise_from_one_exclusive_hold_to_the_next", "tokens_rise_from_those_who_share_to_those_who_do_not_and_back", "an_upgrade_has_a_token_above_those_of_all_who_shared", "tokens_rise_beyond_those_of_the_lost", "tokens_rise_whatever_members_do_at_random"]),
    (Bug::ForgetsWhenUnused, &["tokens_rise_though_everybody_left_meanwhile"]),
    (Bug::EverybodyLives, &["what_a_lost_member_held_goes_to_whoever_waits", "a_lost_member_in_line_holds_up_nobody", "an_upgrade_goes_when_the_other_holder_is_lost", "members_lost_while_they_shared_are_forgotten_by_the_next_who_shares"]),
    (Bug::ForgetsAbandonments, &["an_exclusive_hold_that_was_lost_is_told_to_the_next_and_to_nobody_else"]),
    (Bug::AbandonsEverything, &["a_shared_hold_that_was_lost_is_told_to_nobody"]),
    (Bug::NobodyIsListed, &["who_is_lost_hears_so_whatever_it_asks"]),
    (Bug::LivesAreAlike, &["who_joins_again_has_nothing_of_what_it_had"]),
    (Bug::NeverDies, &["who_hangs_is_lost_and_knows_before_anybody_has_what_it_held"]),
    (Bug::TrustsTooLong, &["who_hangs_is_lost_and_knows_before_anybody_has_what_it_held"]),
];

/// As [`BUGS`], of drivers that can be had in several processes.
#[rustfmt::skip]
const BUGS_ACROSS_PROCESSES: &[(Bug, &[&str])] = &[
    (Bug::StoresNothing, &["modes_of_two_processes_go_together_as_those_of_one"]),
    (Bug::LastComeFirst, &["processes_wait_in_one_line"]),
    (Bug::EverybodyLives, &["what_a_killed_process_held_goes_to_whoever_waits_and_is_told", "a_killed_process_in_line_holds_up_nobody"]),
    (Bug::ForgetsAbandonments, &["what_a_killed_process_held_goes_to_whoever_waits_and_is_told"]),
    (Bug::AbandonsEverything, &["what_a_killed_process_shared_goes_to_whoever_waits_and_is_told_to_nobody"]),
    (Bug::TokensComeAgain, &["tokens_rise_beyond_those_of_a_killed_process"]),
    (Bug::SwapsWhateverIsThere, &["of_processes_that_write_and_are_killed_one_writes_at_a_time_with_rising_tokens"]),
];

/// What no driver can break, and why. That these claims can fail is seen by breaking the library.
const OF_THE_LIBRARY: &[(&str, &str)] =
    &[("a_hold_has_one_token", "a guard keeps the token that it was given, and asks nobody again")];

/// Each bug with each claim that it breaks, at a time.
fn assert_broken(
    bugs: &[(Bug, &[&'static str])],
    engine: impl Fn(Bug) -> (Engine, Processes) + Sync,
) {
    thread::scope(|scope| {
        let pairs = bugs.iter().flat_map(|(bug, claims)| claims.iter().map(|claim| (*bug, *claim)));
        for (bug, claim) in pairs {
            let engine = &engine;
            scope.spawn(move || {
                let (engine, processes) = engine(bug);
                let connect = move || engine.connect();
                let report = check_coordinator(connect, processes, |listed| listed == claim);
                let broken: Vec<_> = report.broken.iter().map(|(claim, _)| *claim).collect();
                assert_eq!(broken, [claim], "{bug:?}: {report}");
                eprintln!("{bug:?}: {report}");
            });
        }
    });
}

#[test]
fn each_claim_about_members_is_broken_by_a_driver_that_has_a_bug() {
    assert_broken(BUGS, |bug| (Engine::new(bug), Processes::none()));
}

#[test]
fn every_claim_about_members_has_a_bug_that_breaks_it() {
    let none = Engine::new(Bug::None);
    let listed = Mutex::new(BTreeSet::new());
    check_coordinator(
        move || none.connect(),
        Processes::none(),
        |claim| {
            listed.lock().insert(claim.to_owned());
            false
        },
    );
    let broken = BUGS.iter().chain(BUGS_ACROSS_PROCESSES).flat_map(|(_, claims)| *claims);
    let broken = broken.chain(OF_THE_LIBRARY.iter().map(|(claim, _)| claim));
    let broken: BTreeSet<_> = broken.map(|claim| (*claim).to_owned()).collect();
    assert_eq!(broken, listed.into_inner());
}

#[cfg(unix)]
mod processes {
    use std::any::type_name_of_val;
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tierlock::coordination::conformance::{Processes, Skipped, check_coordinator, child};
    use tierlock::coordination::file::File;

    use super::{BUGS_ACROSS_PROCESSES, assert_broken};
    use crate::conformance::buggy::{Bug, Engine};

    const BUG: &str = "TIERLOCK_TEST_BUG";

    /// A directory of the test's own, which goes with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let name = format!("conformance-{}", std::process::id());
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            fs::create_dir_all(&path).expect("the target directory can be written");
            Self(path)
        }

        fn store(&self) -> PathBuf {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            self.0.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// This program again, with a driver that has this bug.
    fn again(bug: Bug) -> Processes {
        Processes::started_by(move || {
            let test = type_name_of_val(&plays_a_part_in_another_process);
            let (_, test) = test.split_once("::").expect("a test is in a module");
            let mut again = Command::new(env::current_exe().expect("it was started from a file"));
            again.args(["--exact", test, "--nocapture"]).env(BUG, format!("{bug:?}"));
            again
        })
    }

    #[test]
    fn plays_a_part_in_another_process() {
        child(|url| {
            let name = env::var(BUG).expect("it is told which");
            let bugs = BUGS_ACROSS_PROCESSES.iter().map(|(bug, _)| *bug);
            let bug = bugs.chain([Bug::None]).find(|bug| format!("{bug:?}") == name);
            let path = url.strip_prefix("file://").expect("its driver is in a directory");
            Engine::in_directory(bug.expect("it is listed"), path.into()).connect()
        });
    }

    #[test]
    fn each_claim_about_processes_is_broken_by_a_driver_that_has_a_bug() {
        let directory = Directory::new();
        assert_broken(BUGS_ACROSS_PROCESSES, |bug| {
            (Engine::in_directory(bug, directory.store()), again(bug))
        });
    }

    #[test]
    fn what_cannot_be_asked_is_said_to_be_skipped_and_why() {
        let directory = Directory::new();
        let store = directory.store();
        let connect = move || std::sync::Arc::new(File::open(&store).expect("it opens")) as _;
        let chosen = |claim: &str| claim == "processes_wait_in_one_line";
        let report = check_coordinator(connect, Processes::none(), chosen);
        assert_eq!(report.skipped, [("processes_wait_in_one_line", Skipped::NoProgram)]);
        assert!(report.kept.is_empty() && report.broken.is_empty(), "{report}");
        let said = report.to_string();
        assert!(said.contains("processes wait in one line: skipped, since there is no"), "{said}");
    }

    #[test]
    fn a_program_that_plays_no_part_is_found_out() {
        let directory = Directory::new();
        let store = directory.store();
        let connect = move || std::sync::Arc::new(File::open(&store).expect("it opens")) as _;
        let processes = Processes::started_by(|| Command::new("true"));
        let chosen = |claim: &str| claim == "processes_wait_in_one_line";
        let report = check_coordinator(connect, processes, chosen);
        assert!(report.broken[0].1.contains("`conformance::child`"), "{report}");
    }
}
