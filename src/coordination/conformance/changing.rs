//! Claims about holding in another mode than before.

use super::peer::{Peer, assert_held, assert_waits, granted, pairs, wait_for_nobody_in_line};
use super::{Claim, Ground, PATIENCE, claims, eventually};
use crate::core::mode::Mode;
use crate::error::UpgradeError;
use std::time::Duration;

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    an_upgrade_waits_until_the_others_are_gone,
    an_upgrade_is_to_the_mode_that_covers_both,
    of_two_that_upgrade_what_both_hold_the_second_is_refused,
    an_upgrade_that_is_given_up_leaves_what_was_held,
    a_downgrade_lets_in_what_goes_with_it_and_nothing_else,
    readers_go_along_with_a_writer_that_becomes_a_reader,
];

fn an_upgrade_waits_until_the_others_are_gone(ground: &Ground) {
    let [a, b] = ground.peers();
    let (mut guard, other) = (a.take(Mode::Shared), b.take(Mode::Shared));
    let upgrade = guard.upgrade().enqueue();
    a.wait_in_line();
    assert_waits(&upgrade, "an upgrade beside another holder");
    other.check().expect("nobody loses a hold to an upgrade");
    drop(other);
    granted(upgrade, "an upgrade that is alone");
    assert_held(&b.lock, &[(&a, Mode::Exclusive)]);
    assert!(b.attempt(Mode::IntentShared).is_none(), "somebody is let in beside an exclusive hold");
}

fn an_upgrade_is_to_the_mode_that_covers_both(ground: &Ground) {
    let [a, b] = ground.peers();
    for (held, wanted) in pairs() {
        let mut guard = a.take(held);
        let upgraded = guard.upgrade_to(wanted).timeout(PATIENCE).wait();
        upgraded.unwrap_or_else(|error| panic!("nobody stands in its way: {error}"));
        let joined = held.join(wanted);
        assert_eq!(guard.mode(), joined, "{held} upgraded to {wanted}");
        assert_held(&b.lock, &[(&a, joined)]);
        assert_admits_only(&b, joined);
    }
}

/// Tells that a lock which another holds in this mode can be had in those that go with it.
fn assert_admits_only(peer: &Peer, held: Mode) {
    for mode in Mode::ALL {
        let had = peer.attempt(mode).is_some();
        assert_eq!(had, held.admits(mode), "{mode} beside {held} is had");
    }
}

fn of_two_that_upgrade_what_both_hold_the_second_is_refused(ground: &Ground) {
    let [a, b] = ground.peers();
    let (mut first, mut second) = (a.take(Mode::Shared), b.take(Mode::Shared));
    let upgrade = first.upgrade().enqueue();
    a.wait_in_line();
    let refused = second.upgrade().timeout(PATIENCE).wait();
    let is_deadlock = matches!(refused, Err(UpgradeError::WouldDeadlock { .. }));
    assert!(is_deadlock, "the second of two upgrades would deadlock, and came to {refused:?}");
    assert_eq!((second.mode(), second.check()), (Mode::Shared, Ok(())), "it holds what it held");
    assert_waits(&upgrade, "the first of two upgrades");
    drop(second);
    granted(upgrade, "the first of two upgrades");
    first.check().expect("what was granted is held");
}

fn an_upgrade_that_is_given_up_leaves_what_was_held(ground: &Ground) {
    let [a, b, c] = ground.peers();
    let (mut guard, other) = (a.take(Mode::Shared), b.take(Mode::Shared));
    let error = guard.upgrade().timeout(Duration::from_millis(50)).wait();
    let error = error.expect_err("another holds it");
    let timed_out = matches!(&error, UpgradeError::Acquire(error) if error.is_timeout());
    assert!(timed_out, "not a timeout: {error}");
    wait_for_nobody_in_line(&b.lock);
    drop(guard.upgrade().enqueue());
    wait_for_nobody_in_line(&b.lock);
    assert_eq!((guard.mode(), guard.check()), (Mode::Shared, Ok(())), "it holds what it held");
    assert_held(&b.lock, &[(&a, Mode::Shared), (&b, Mode::Shared)]);
    eventually("a reader is let in again", || c.attempt(Mode::Shared).is_some());
    other.check().expect("nobody loses a hold to an upgrade");
}

fn a_downgrade_lets_in_what_goes_with_it_and_nothing_else(ground: &Ground) {
    let [a, b] = ground.peers();
    for (held, weaker) in pairs().filter(|(held, weaker)| held.covers(*weaker)) {
        let mut guard = a.take(held);
        guard.downgrade_to(weaker).expect("it is weaker");
        assert_held(&b.lock, &[(&a, weaker)]);
        assert_admits_only(&b, weaker);
        guard.check().expect("what was kept is held");
    }
    // Whoever waits hears of it.
    let mut guard = a.take(Mode::Exclusive);
    let pending = b.queue(Mode::Shared);
    guard.downgrade();
    drop(granted(pending, "a reader behind a writer that became a reader"));
}

fn readers_go_along_with_a_writer_that_becomes_a_reader(ground: &Ground) {
    let [a, writer, reader] = ground.peers();
    let mut guard = a.take(Mode::Exclusive);
    let writes = writer.queue(Mode::Exclusive);
    let reads = reader.queue(Mode::Shared);
    guard.downgrade();
    let reading = granted(reads, "a reader, when the holder becomes one");
    assert_waits(&writes, "a writer");
    assert_held(&a.lock, &[(&a, Mode::Shared), (&reader, Mode::Shared)]);
    drop((guard, reading));
    drop(granted(writes, "a writer, when the readers are gone"));
}
