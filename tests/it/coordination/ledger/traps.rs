//! What went wrong with Ganga's `SessionLockManager`, once each, and cannot here.
//!
//! Two need no test here: that a forked process is no member, and not its parent's either, is the member's own rule
//! (a fork takes `unsafe`, which this crate forbids in its tests as well); and nothing is stored in two steps of which the
//! machine could lose one, so what survives that it loses power is the driver's promise alone.

use tierlock::coordination::CoordinationError;
use tierlock::coordination::ledger::{Ids, Ledger, LedgerError};

use super::ids;
use super::store::{COUNTER, REGISTRY, Store};

/// 1. Closing a second descriptor dropped the lock of the first.
#[test]
fn asking_who_holds_an_id_and_auditing_lets_go_of_nothing() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(3).unwrap();
    for _ in 0..20 {
        a.session_of(1).unwrap().unwrap();
        a.check().unwrap();
        a.other_sessions().unwrap();
        a.reap().unwrap();
    }
    assert_eq!(b.lock_ids(0..3).unwrap(), Ids::default());
}

/// 2. Above 235,857 ids the record was cut when read, and looked empty.
#[test]
fn a_million_ids_in_a_row_and_many_scattered_ones_stay_held() {
    const SCATTERED: u64 = 300_000;
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    assert_eq!(a.make_new_ids(1_000_000).unwrap(), 0..1_000_000);
    assert_eq!(b.lock_ids(0..1_000_001).unwrap(), ids(1_000_000));
    let scattered: Ids = (0..SCATTERED).map(|at| 2_000_000 + 2 * at).collect();
    assert_eq!(a.lock_ids(&scattered).unwrap().len(), SCATTERED);
    assert_eq!(b.lock_ids(&scattered).unwrap(), Ids::default());
    assert_eq!(a.ids().unwrap().len(), 1_000_000 + SCATTERED);
    // Nor would they be free if it were cut.
    let whole = store.content(REGISTRY).unwrap();
    store.overwrite(REGISTRY, &whole[..1 << 20]);
    assert!(b.lock_ids(5).is_err());
}

/// 2 again: what has no room is refused, and nothing is lost by it.
#[test]
fn more_ranges_than_a_registry_has_room_for_are_refused_and_what_is_held_stays_held() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(2).unwrap();
    let before = store.content(REGISTRY);
    let start = u64::MAX / 2;
    let too_many: Ids = (0..500_000).map(|at| start + 2 * at).collect();
    let error = a.lock_ids(too_many).unwrap_err();
    let LedgerError::Coordination(CoordinationError::TooLarge { resource, bytes, .. }) = &error
    else {
        panic!()
    };
    assert!(&**resource == REGISTRY && *bytes > 16 << 20, "{error}");
    assert_eq!(store.content(REGISTRY), before);
    assert_eq!(b.lock_ids(0..3).unwrap(), ids(2));
    assert_eq!(a.release_ids(0..2).unwrap(), ids(0..2));
}

/// 3. The counter was emptied before it was locked, and written after.
#[test]
fn an_empty_counter_makes_nobody_count_back() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(3).unwrap();
    store.overwrite(COUNTER, "");
    assert_eq!(b.make_new_ids(1).unwrap(), 3..4);
    assert_eq!(store.session("c").make_new_ids(1).unwrap(), 4..5);
}

/// 4. Whose file name contained one's pid was taken for oneself.
#[test]
fn sessions_of_one_process_are_others_to_one_another() {
    let store = Store::new();
    let (a, b) = (store.session("1"), store.session("11"));
    a.make_new_ids(2).unwrap();
    assert_eq!(b.lock_ids(0..2).unwrap(), Ids::default());
    assert_eq!(a.other_sessions().unwrap().len(), 1);
    store.kill("11");
    assert_eq!(a.reap().unwrap().len(), 1);
}

/// 5. The loop that reaped skipped the neighbours of what it took out.
#[test]
fn dead_sessions_side_by_side_are_all_reaped_at_once() {
    let store = Store::new();
    let a = store.session("a");
    let others: Vec<Ledger> = (0..7).map(|at| store.session(&format!("b{at}"))).collect();
    for other in &others {
        other.make_new_ids(1).unwrap();
    }
    (0..6).for_each(|at| store.kill(&format!("b{at}")));
    assert_eq!(a.reap().unwrap().len(), 6);
    assert_eq!(a.lock_ids(0..7).unwrap(), ids(0..6));
}

/// 6. Others were judged by a clock that was not theirs.
#[test]
fn no_time_stamp_ends_or_spares_a_session() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(1).unwrap();
    let since = a.session_of(0).unwrap().unwrap().since_unix_s();
    for stamp in [0, u64::MAX] {
        let record = String::from_utf8(store.content(REGISTRY).unwrap()).unwrap();
        let stamped =
            record.replace(&format!(r#""since_s":{since}"#), &format!(r#""since_s":{stamp}"#));
        store.overwrite(REGISTRY, stamped);
        assert_eq!(b.reap().unwrap(), []);
        assert_eq!(b.lock_ids(0).unwrap(), Ids::default());
        let session = b.session_of(0).unwrap().unwrap();
        assert!(session.to_string().contains(" since "), "{session}");
        store.overwrite(REGISTRY, record);
    }
    store.kill("a");
    assert_eq!(b.reap().unwrap().len(), 1);
}

/// 7. A session's name was of the minute: the next one of a process was refused.
#[test]
fn a_member_that_joins_again_at_once_has_another_session_and_nothing_of_the_first() {
    let store = Store::new();
    let first = store.session("a");
    first.make_new_ids(2).unwrap();
    store.kill("a");
    let again = store.session("a");
    assert_eq!(again.ids().unwrap(), Ids::default());
    assert!(first.release_ids(0).is_err());
    assert_eq!(again.reap().unwrap().len(), 1);
    assert_eq!(again.make_new_ids(1).unwrap(), 2..3);
}

/// 8. What became shorter kept the tail of what was longer.
#[test]
fn a_registry_that_shrinks_is_whole() {
    let store = Store::new();
    let a = store.session("a");
    let odd: Ids = (0..200).map(|at| 2 * at).collect();
    a.lock_ids(&odd).unwrap();
    let long = store.content(REGISTRY).unwrap().len();
    a.release_ids(odd).unwrap();
    assert!(store.content(REGISTRY).unwrap().len() < long / 4);
    a.check().unwrap();
}

/// 9. Who was taken for dead worked on, and learnt of it at its next write.
#[test]
fn a_session_that_is_dead_can_neither_get_nor_keep_nor_give_back_anything() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    a.make_new_ids(2).unwrap();
    store.kill("a");
    assert_eq!(b.lock_ids(0..2).unwrap(), ids(0..2));
    let after = store.content(REGISTRY);
    let lost =
        |error: LedgerError| matches!(error, LedgerError::Coordination(error) if error.is_lost());
    assert!(lost(a.make_new_ids(1).unwrap_err()));
    assert!(lost(a.release_ids(0).unwrap_err()));
    assert!(lost(a.startup(0).unwrap_err()));
    assert_eq!(store.content(REGISTRY), after);
}

/// 10. The audit failed by itself when it had something to say: see `damage`, where every flaw is said.
/// 11. One lock was around all registries, and polled for.
#[test]
fn no_call_is_kept_waiting_by_another_session_or_touches_another_registry() {
    let store = Store::new();
    let (jobs, tasks) = (store.ledger("a", "jobs"), store.ledger("b", "tasks"));
    jobs.startup(0).unwrap();
    tasks.startup(0).unwrap();
    let before = (store.version(REGISTRY), store.version(COUNTER));
    // Whoever dies in the midst of it leaves nothing that others had to wait for.
    store.fail(1, super::store::Fault::DieBefore);
    tasks.make_new_ids(1).unwrap_err();
    let next = store.ledger("c", "tasks");
    next.startup(0).unwrap();
    next.make_new_ids(1).unwrap();
    assert_eq!((store.version(REGISTRY), store.version(COUNTER)), before);
}

/// A call costs one swap, or two if it counts further, however many others there are.
#[test]
fn a_call_is_one_swap_or_two_if_it_counts_further() {
    let store = Store::new();
    let (a, b) = (store.session("a"), store.session("b"));
    b.make_new_ids(4).unwrap();
    let swaps = |call: &dyn Fn()| {
        let before = store.swaps();
        call();
        store.swaps() - before
    };
    assert_eq!(swaps(&|| assert_eq!(a.make_new_ids(3).unwrap(), 4..7)), 2);
    assert_eq!(swaps(&|| drop(a.release_ids(4).unwrap())), 1);
    assert_eq!(swaps(&|| drop(a.lock_ids(4).unwrap())), 1);
    assert_eq!(swaps(&|| drop(a.lock_ids(4).unwrap())), 0);
    assert_eq!(swaps(&|| a.check().unwrap()), 0);
}
