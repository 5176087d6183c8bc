//! A claim about drivers that no driver could break would say nothing: for each there is one here that does.

use std::collections::BTreeSet;
use std::thread;

use parking_lot::Mutex;
use tierlock::coordination::conformance::check_driver;

use super::buggy::{Bug, Engine};

/// Every bug, and the claims that it breaks; perhaps others as well.
#[rustfmt::skip]
const BUGS: &[(Bug, &[&str])] = &[
    (Bug::NameOfEachConnection, &["a_driver_says_what_it_is"]),
    (Bug::ClockJumpsBack, &["the_clock_never_goes_back"]),
    (Bug::ClockInSeconds, &["the_clock_goes_on_in_milliseconds"]),
    (Bug::ClockOfEachConnection, &["the_clock_is_common_to_all_connections"]),
    (Bug::EmptyAtFirst, &["nothing_is_stored_at_first"]),
    (Bug::EmptyIsNothing, &["any_bytes_can_be_stored"]),
    (Bug::ReadsWhatItReadFirst, &["what_was_swapped_is_read_by_everybody", "a_read_is_as_new_as_every_swap_done_before", "who_missed_every_report_sees_all_by_polling"]),
    (Bug::SwapsWhateverIsThere, &["a_swap_that_expects_another_version_changes_nothing", "of_those_who_swap_at_a_time_one_is_done", "increments_at_a_time_are_all_counted"]),
    (Bug::VersionsComeAgain, &["no_version_comes_again"]),
    (Bug::KeysInLowerCase, &["each_key_has_its_own_content"]),
    (Bug::KeysOfTheSameFolder, &["keys_are_listed_by_prefix"]),
    (Bug::ForgetsWhenUnused, &["what_was_stored_survives_all_who_use_it"]),
    (Bug::FirstReportIsMissing, &["a_watch_begins_before_it_is_returned", "a_watch_reports_that_a_member_died"]),
    (Bug::ReportsOnce, &["a_watch_reports_one_change_after_another"]),
    (Bug::WatchesDoNotEnd, &["a_watch_that_was_dropped_reports_no_more"]),
    (Bug::PollsWithoutPause, &["who_missed_every_report_sees_all_by_polling"]),
    (Bug::TakesAnotherName, &["a_name_that_lives_is_taken", "of_those_who_join_at_a_time_one_is_seated"]),
    (Bug::NamesInLowerCase, &["any_name_is_a_name_of_its_own"]),
    (Bug::OneDiesAllDie, &["members_of_one_process_live_and_die_apart"]),
    (Bug::LeavesLater, &["who_left_is_dead_at_once_and_for_ever", "who_drops_its_seat_dies"]),
    (Bug::LivesAreAlike, &["who_joins_again_is_somebody_else", "who_left_is_dead_at_once_and_for_ever"]),
    (Bug::LeavesByName, &["leaving_twice_is_leaving_once"]),
    (Bug::EverybodyLives, &["who_never_joined_does_not_live"]),
    (Bug::NobodyIsListed, &["who_joined_lives_under_its_name"]),
    (Bug::BeatsOfTheDeadCount, &["a_beat_of_the_dead_is_lost"]),
    (Bug::SwapsForEverybody, &["nothing_is_swapped_for_the_dead", "who_never_joined_does_not_live"]),
    (Bug::TrustsTooLong, &["a_beat_says_until_when_its_member_lives"]),
    (Bug::DiesInSpiteOfItsProcess, &["who_does_not_beat_lives_as_long_as_its_process"]),
    (Bug::BeatsAreIgnored, &["who_beats_in_time_lives"]),
    (Bug::NeverDies, &["who_does_not_beat_dies"]),
];

#[test]
fn each_claim_is_broken_by_a_driver_that_has_a_bug() {
    thread::scope(|scope| {
        for (bug, claims) in BUGS {
            scope.spawn(move || {
                let engine = Engine::new(*bug);
                let report =
                    check_driver(move || engine.connect(), |claim| claims.contains(&claim));
                let broken: BTreeSet<_> = report.broken.iter().map(|(claim, _)| *claim).collect();
                assert_eq!(broken, claims.iter().copied().collect(), "{bug:?}: {report}");
            });
        }
    });
}

#[test]
fn every_claim_has_a_bug_that_breaks_it() {
    let none = Engine::new(Bug::None);
    let listed = Mutex::new(BTreeSet::new());
    check_driver(
        move || none.connect(),
        |claim| {
            listed.lock().insert(claim.to_owned());
            false
        },
    );
    let broken = BUGS.iter().flat_map(|(_, claims)| claims.iter().map(|claim| (*claim).to_owned()));
    assert_eq!(broken.collect::<BTreeSet<_>>(), listed.into_inner());
}

#[test]
#[should_panic(expected = "1 broken\n  no version comes again: ")]
fn a_suite_that_finds_a_bug_says_which_claim_does_not_hold() {
    let engine = Engine::new(Bug::VersionsComeAgain);
    let report = check_driver(move || engine.connect(), |claim| claim == "no_version_comes_again");
    panic!("{report}");
}
