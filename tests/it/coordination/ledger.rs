//! What Ganga says of its `SessionLockManager`, sentence by sentence.

mod damage;
mod hammer;
#[cfg(unix)]
mod processes;
mod store;
mod traps;

use tierlock::coordination::ledger::{Ids, Ledger, LedgerError};
use tierlock::coordination::{CoordinationError, DriverErrorKind};

use self::store::{COUNTER, REGISTRY, Store};

fn ids(ids: impl Into<Ids>) -> Ids {
    ids.into()
}

#[test]
fn startup_begins_to_count_at_0_if_nothing_is_there() {
    assert_eq!(Store::new().session("a").make_new_ids(1).unwrap(), 0..1);
}

#[test]
fn startup_counts_from_the_minimum_or_from_where_it_was_whichever_is_more() {
    let store = Store::new();
    let (a, b, c) =
        (store.ledger("a", "jobs"), store.ledger("b", "jobs"), store.ledger("c", "jobs"));
    a.startup(100).unwrap();
    b.startup(50).unwrap();
    assert_eq!(b.make_new_ids(1).unwrap(), 100..101);
    c.startup(200).unwrap();
    assert_eq!(a.make_new_ids(1).unwrap(), 200..201);
}

#[test]
fn startup_makes_both_copies_of_the_counter_and_the_session_without_an_id() {
    let store = Store::new();
    let a = store.session("a");
    assert!(store.content(REGISTRY).is_some() && store.content(COUNTER).is_some());
    assert_eq!(a.ids().unwrap(), Ids::default());
    let b = store.session("b");
    assert_eq!(b.other_sessions().unwrap()[0].ids(), Some(&Ids::default()));
}

#[test]
fn startup_of_a_session_that_has_begun_keeps_what_it_holds() {
    let store = Store::new();
    let a = store.session("a");
    a.make_new_ids(3).unwrap();
    a.startup(10).unwrap();
    assert_eq!(a.ids().unwrap(), ids(0..3));
    assert_eq!(a.make_new_ids(1).unwrap(), 10..11);
}

#[test]
fn nothing_is_made_locked_or_released_before_startup_or_after_shutdown() {
    let store = Store::new();
    let _begun = store.session("begun");
    let a = store.ledger("a", "jobs");
    let refused = |a: &Ledger| {
        let made = a.make_new_ids(1).map(Ids::from);
        for refused in [made, a.lock_ids(1), a.release_ids(1), a.ids()] {
            let error = refused.unwrap_err();
            assert!(matches!(error, LedgerError::NotStarted { .. }), "{error}");
            let said = error.to_string();
            assert!(
                said.contains("a (host, pid ") && said.contains("registry jobs at store:"),
                "{said}"
            );
        }
    };
    refused(&a);
    a.startup(0).unwrap();
    a.make_new_ids(1).unwrap();
    a.shutdown().unwrap();
    refused(&a);
}

#[test]
fn make_new_ids_returns_consecutive_ids_that_are_locked_already() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    assert_eq!(a.make_new_ids(5).unwrap(), 0..5);
    assert_eq!(b.make_new_ids(2).unwrap(), 5..7);
    assert_eq!(b.lock_ids(0..9).unwrap(), ids([5, 6, 7, 8]));
    assert_eq!(a.ids().unwrap(), ids(0..5));
}

#[test]
fn making_no_ids_makes_none() {
    let store = Store::new();
    let a = store.session("a");
    assert!(a.make_new_ids(0).unwrap().is_empty());
    assert!(a.ids().unwrap().is_empty());
    assert_eq!(a.make_new_ids(1).unwrap(), 0..1);
}

#[test]
fn make_new_ids_counts_above_whatever_anybody_has_locked() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.lock_ids([3, 40]).unwrap();
    assert_eq!(b.make_new_ids(1).unwrap(), 41..42);
    assert_eq!(a.make_new_ids(1).unwrap(), 42..43);
    a.check().unwrap();
}

#[test]
fn ids_that_were_released_are_not_made_again() {
    let store = Store::new();
    let a = store.session("a");
    let made = a.make_new_ids(5).unwrap();
    a.release_ids(made).unwrap();
    a.shutdown().unwrap();
    assert_eq!(store.session("b").make_new_ids(1).unwrap(), 5..6);
}

#[test]
fn as_many_ids_as_there_are_not_are_refused_and_nothing_is_taken() {
    let store = Store::new();
    let a = store.session("a");
    a.make_new_ids(2).unwrap();
    let before = store.content(REGISTRY);
    let error = a.make_new_ids(u64::MAX - 1).unwrap_err();
    assert!(matches!(error, LedgerError::OutOfIds { wanted, .. } if wanted == u64::MAX - 1));
    assert!(error.to_string().contains("registry jobs at store:"), "{error}");
    assert!(matches!(a.lock_ids([7, u64::MAX]), Err(LedgerError::OutOfIds { .. })));
    assert_eq!(store.content(REGISTRY), before);
    assert_eq!(a.make_new_ids(1).unwrap(), 2..3);
}

#[test]
fn lock_ids_returns_the_subset_that_no_other_session_holds() {
    let store = Store::new();
    let (a, b, c) = (store.session("a"), store.session("b"), store.session("c"));
    a.make_new_ids(10).unwrap();
    a.release_ids([2, 3, 4, 8]).unwrap();
    assert_eq!(b.lock_ids([1, 2, 3, 9]).unwrap(), ids([2, 3]));
    assert_eq!(c.lock_ids(0..10).unwrap(), ids([4, 8]));
    assert_eq!(c.lock_ids(0..4).unwrap(), Ids::default());
}

#[test]
fn own_ids_count_as_locked_again() {
    let store = Store::new();
    let a = store.session("a");
    a.make_new_ids(3).unwrap();
    assert_eq!(a.lock_ids(1..5).unwrap(), ids(1..5));
    assert_eq!(a.ids().unwrap(), ids(0..5));
}

#[test]
fn release_ids_returns_those_that_were_held() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(4).unwrap();
    b.make_new_ids(1).unwrap();
    assert_eq!(a.release_ids([1, 2, 4, 77]).unwrap(), ids([1, 2]));
    assert_eq!(a.release_ids([1, 2]).unwrap(), Ids::default());
    assert_eq!(b.ids().unwrap(), ids(4));
    assert_eq!(b.lock_ids(0..5).unwrap(), ids([1, 2, 4]));
}

#[test]
fn session_of_says_host_process_and_since_when_or_nobody() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(1).unwrap();
    let session = b.session_of(0).unwrap().unwrap();
    assert_eq!((&**session.member().name(), session.member().pid()), ("a", std::process::id()));
    let text = session.to_string();
    let (who, since) = text.split_once(" since ").unwrap();
    assert_eq!(who, session.member().to_string());
    assert!(since.starts_with("20") && since.len() == "2026-11-24T15:48:45Z".len(), "{text}");
    assert_eq!(a.session_of(0).unwrap(), Some(session));
    assert_eq!(b.session_of(1).unwrap(), None);
}

#[test]
fn other_sessions_are_all_that_live_but_the_own_in_the_order_in_which_they_began() {
    let store = Store::new();
    let [_a, b, _c, _d] = ["a", "b", "c", "d"].map(|name| store.session(name));
    store.kill("c");
    let others = b.other_sessions().unwrap();
    assert_eq!(
        others.iter().map(|s| s.member().name().to_string()).collect::<Vec<_>>(),
        ["a", "d"]
    );
}

#[test]
fn reap_ends_the_sessions_of_dead_members_says_whose_and_spares_all_others() {
    let store = Store::new();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| store.session(name));
    for session in [&a, &b, &c, &d] {
        session.make_new_ids(2).unwrap();
    }
    store.kill("b");
    store.kill("c");
    let reaped = d.reap().unwrap();
    let said = reaped.iter().map(|s| (s.member().name().to_string(), s.ids().unwrap().to_string()));
    assert_eq!(said.collect::<Vec<_>>(), [("b".into(), "2-3".into()), ("c".into(), "4-5".into())]);
    assert_eq!(d.reap().unwrap(), []);
    assert_eq!((a.ids().unwrap(), d.ids().unwrap()), (ids(0..2), ids(6..8)));
    assert_eq!(d.lock_ids(0..8).unwrap(), ids(2..8));
}

#[test]
fn anyone_may_reap_without_a_session_of_its_own() {
    let store = Store::new();
    let a = store.session("a");
    a.make_new_ids(2).unwrap();
    store.kill("a");
    let caretaker = store.ledger("caretaker", "jobs");
    assert_eq!(caretaker.reap().unwrap().len(), 1);
    assert_eq!(store.session("b").other_sessions().unwrap(), []);
}

#[test]
fn what_a_dead_session_held_is_free_for_whoever_asks_and_shown_as_free_before() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(3).unwrap();
    store.kill("a");
    assert_eq!(b.session_of(1).unwrap(), None);
    assert_eq!(b.lock_ids(1).unwrap(), ids(1));
    assert_eq!(b.make_new_ids(1).unwrap(), 3..4);
    assert_eq!(b.lock_ids(0..4).unwrap(), ids(0..4));
}

#[test]
fn shutdown_frees_all_that_the_session_holds_and_once_is_enough() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(3).unwrap();
    a.shutdown().unwrap();
    a.shutdown().unwrap();
    assert_eq!(b.lock_ids(0..3).unwrap(), ids(0..3));
    a.startup(0).unwrap();
    assert_eq!(a.ids().unwrap(), Ids::default());
}

#[test]
fn a_member_that_leaves_frees_all_that_it_held() {
    let store = Store::new();
    let coordinator = store.join("a");
    let a = Ledger::open(&coordinator, "jobs").unwrap();
    a.startup(0).unwrap();
    a.make_new_ids(3).unwrap();
    coordinator.leave().unwrap();
    assert!(a.lock_ids(7).is_err());
    assert_eq!(store.session("b").lock_ids(0..3).unwrap(), ids(0..3));
}

#[test]
fn check_says_nothing_of_what_is_well() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(3).unwrap();
    b.lock_ids([1, 10]).unwrap();
    a.check().unwrap();
    store.ledger("auditor", "jobs").check().unwrap();
}

#[test]
fn registries_of_one_store_have_nothing_to_do_with_one_another() {
    let store = Store::new();
    let coordinator = store.join("a");
    let jobs = Ledger::open(&coordinator, "jobs").unwrap();
    let tasks = Ledger::open(&coordinator, "jobs/registry").unwrap();
    jobs.startup(0).unwrap();
    tasks.startup(70).unwrap();
    assert_eq!(jobs.make_new_ids(2).unwrap(), 0..2);
    assert_eq!(tasks.make_new_ids(1).unwrap(), 70..71);
    store.overwrite("ledger/jobs%2Fregistry/registry", "?");
    assert!(tasks.ids().is_err());
    assert_eq!(jobs.lock_ids(0..80).unwrap().len(), 80);
}

#[test]
fn whoever_opens_a_registry_twice_has_one_session_in_it() {
    let store = Store::new();
    let coordinator = store.join("a");
    let first = Ledger::open(&coordinator, "jobs").unwrap();
    let second = Ledger::open(&coordinator, "jobs").unwrap();
    first.startup(0).unwrap();
    assert_eq!(second.make_new_ids(1).unwrap(), 0..1);
    assert_eq!(first.release_ids(0).unwrap(), ids(0));
    second.shutdown().unwrap();
    assert!(matches!(first.make_new_ids(1), Err(LedgerError::NotStarted { .. })));
}

#[test]
fn a_registry_without_a_name_is_refused() {
    let error = Ledger::open(&Store::new().join("a"), "").unwrap_err();
    assert!(matches!(
        &error,
        LedgerError::Coordination(CoordinationError::BadName { what: "a registry", .. })
    ));
}

#[test]
fn an_engine_that_fails_is_an_error_that_may_pass_and_nothing_is_lost() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(2).unwrap();
    store.fail(0, store::Fault::FailBefore);
    let error = a.release_ids(0).unwrap_err();
    assert!(error.is_transient() && !error.is_lost(), "{error}");
    let LedgerError::Coordination(error) = error else { panic!() };
    assert!(matches!(error, CoordinationError::Engine { ref error, .. }
        if error.kind() == DriverErrorKind::Unavailable));
    assert_eq!(b.lock_ids(0..2).unwrap(), Ids::default());
    assert_eq!(a.release_ids(0..2).unwrap(), ids(0..2));
}

#[test]
fn whatever_a_ledger_says_is_an_error_of_the_crate() {
    let store = Store::new();
    let a = store.ledger("a", "jobs");
    let work = || -> Result<(), tierlock::Error> {
        a.make_new_ids(1)?;
        Ok(())
    };
    let error = work().unwrap_err();
    assert!(matches!(error, tierlock::Error::Ledger(LedgerError::NotStarted { .. })), "{error}");
}

#[test]
fn a_member_that_is_lost_and_ids_that_are_anothers_are_lost() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(1).unwrap();
    store.delete(REGISTRY);
    store.delete(COUNTER);
    b.repair(0).unwrap();
    b.lock_ids(0).unwrap();
    let taken = a.lock_ids(0).unwrap_err();
    assert!(matches!(taken, LedgerError::Taken { .. }) && taken.is_lost(), "{taken}");
    assert!(!taken.is_transient());
    store.kill("b");
    let lost = b.make_new_ids(1).unwrap_err();
    assert!(lost.is_lost() && !lost.is_transient(), "{lost}");
}

#[test]
fn what_a_ledger_says_of_a_hostile_name_is_one_line() {
    let store = Store::new();
    let a = store.ledger("a", "jobs\nall is well\u{1b}[2J");
    let not_started = a.make_new_ids(1).unwrap_err();
    let gone = a.check().unwrap_err();
    a.startup(1).unwrap();
    let out_of_ids = a.make_new_ids(u64::MAX).unwrap_err();
    store.overwrite(
        "ledger/jobs%0Aall is well%1B[2J/registry",
        r#"{"format":1,"next":0,"sessions":[],"\nall is well":0}"#,
    );
    let damaged = a.check().unwrap_err();
    for error in [not_started, gone, out_of_ids, damaged] {
        let said = error.to_string();
        assert!(said.contains("all is well"), "{said:?}");
        assert!(!said.contains(char::is_control), "{said:?}");
    }
}
