//! Claims about members that are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{ClusterGuard, CoordinationError};
use super::hindered::Hindered;
use super::peer::{assert_held, assert_line, assert_waits, granted, holding};
use super::{Claim, Ground, PATIENCE, TTL, TTL_SHORT, claims, eventually};
use crate::core::mode::Mode;
use crate::error::AcquireError;

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    what_a_lost_member_held_goes_to_whoever_waits,
    an_exclusive_hold_that_was_lost_is_told_to_the_next_and_to_nobody_else,
    a_shared_hold_that_was_lost_is_told_to_nobody,
    a_lost_member_in_line_holds_up_nobody,
    an_upgrade_goes_when_the_other_holder_is_lost,
    members_lost_while_they_shared_are_forgotten_by_the_next_who_shares,
    who_is_lost_hears_so_whatever_it_asks,
    who_joins_again_has_nothing_of_what_it_had,
    a_broken_hold_goes_to_the_next_and_both_hear_of_it,
    who_hangs_is_lost_and_knows_before_anybody_has_what_it_held if Leases,
];

/// Whose hold this one was told of that ended without a release.
fn told(guard: &ClusterGuard<'_>) -> Option<String> {
    guard.abandoned().map(|abandoned| abandoned.owner.to_string())
}

#[track_caller]
fn assert_told_of(guard: &ClusterGuard<'_>, owner: &str, member: &str) {
    let told = told(guard).unwrap_or_else(|| panic!("nobody is told that {owner} was lost"));
    assert!(told.contains(owner) && told.contains(member), "{owner} of {member}, not {told}");
}

#[track_caller]
fn assert_lost(checked: Result<(), CoordinationError>) {
    let lost = matches!(checked, Err(CoordinationError::Lost { .. }));
    assert!(lost, "what is lost is held, as far as its holder knows: {checked:?}");
}

fn what_a_lost_member_held_goes_to_whoever_waits(ground: &Ground) {
    let [b] = ground.peers();
    for held in Mode::ALL {
        let a = ground.peer("lost");
        let guard = a.take(held);
        let pending = b.queue(Mode::Exclusive);
        assert_waits(&pending, "who asks for what is held");
        a.leave();
        let next = granted(pending, "who waits for what a lost member held");
        assert_held(&b.lock, &[(&b, Mode::Exclusive)]);
        assert_lost(guard.check());
        next.check().expect("what was granted is held");
    }
}

fn an_exclusive_hold_that_was_lost_is_told_to_the_next_and_to_nobody_else(ground: &Ground) {
    let [b, c] = ground.peers();
    let a = ground.peer("lost");
    let name = a.id().name().to_string();
    let _guard = a.beside("job-17").take(Mode::Exclusive);
    a.leave();
    // Who shares repairs nothing.
    let reader = c.take(Mode::Shared);
    assert_eq!(told(&reader), None, "who shares is told");
    drop(reader);
    let next = b.take(Mode::Exclusive);
    assert_told_of(&next, "job-17", &name);
    drop(next);
    for peer in [&c, &b] {
        assert_eq!(told(&peer.take(Mode::Exclusive)), None, "it is told twice");
    }
}

fn a_shared_hold_that_was_lost_is_told_to_nobody(ground: &Ground) {
    let [b] = ground.peers();
    for held in Mode::ALL.into_iter().filter(|mode| *mode != Mode::Exclusive) {
        let a = ground.peer("lost");
        let _guard = a.take(held);
        a.leave();
        let next = b.take(Mode::Exclusive);
        assert_eq!(told(&next), None, "a lost hold in {held} is told");
    }
}

fn a_lost_member_in_line_holds_up_nobody(ground: &Ground) {
    let [a, b, c] = ground.peers();
    let guard = a.take(Mode::Shared);
    let writes = b.queue(Mode::Exclusive);
    let reads = c.queue(Mode::Shared);
    assert_waits(&reads, "a reader behind a writer");
    b.leave();
    let reading = granted(reads, "a reader behind a writer that is lost");
    assert_held(&a.lock, &[(&a, Mode::Shared), (&c, Mode::Shared)]);
    assert_line(&a.lock, &[]);
    drop((guard, reading, writes));
}

fn an_upgrade_goes_when_the_other_holder_is_lost(ground: &Ground) {
    let [a, b] = ground.peers();
    let (mut guard, lost) = (a.take(Mode::Shared), b.take(Mode::Shared));
    let upgrade = guard.upgrade().enqueue();
    a.wait_in_line();
    b.leave();
    granted(upgrade, "an upgrade beside one who is lost");
    assert_held(&a.lock, &[(&a, Mode::Exclusive)]);
    assert_lost(lost.check());
    assert_eq!(told(&guard), None, "a lost shared hold is told");
}

fn members_lost_while_they_shared_are_forgotten_by_the_next_who_shares(ground: &Ground) {
    let [a, b, c, d] = ground.peers();
    let sharing = [&a, &b, &c].map(|peer| peer.take(Mode::Shared));
    a.leave();
    b.leave();
    let guard = d.take(Mode::Shared);
    assert_held(&d.lock, &[(&c, Mode::Shared), (&d, Mode::Shared)]);
    drop((guard, sharing));
}

fn who_is_lost_hears_so_whatever_it_asks(ground: &Ground) {
    let [a, b] = ground.peers();
    let (of_lost, other) = (a.at(&ground.name("held")), b.at(&ground.name("held-by-another")));
    let mut guard = of_lost.take(Mode::Shared);
    let _held = other.take(Mode::Exclusive);
    let waits = a.at(&ground.name("held-by-another"));
    let pending = waits.queue(Mode::Exclusive);
    a.leave();
    assert_lost(a.coordinator.check());
    assert_lost(guard.check());
    assert_lost(guard.token().map(drop));
    assert!(guard.upgrade().timeout(PATIENCE).wait().is_err(), "the lost upgrade");
    assert!(guard.release() != Ok(true), "the lost release what they hold no more");
    assert!(pending.wait_timeout(PATIENCE), "what the lost wait for should be refused");
    assert_lost_request(pending.wait());
    assert_lost_request(a.acquire(Mode::Shared).now());
    assert_lost_request(a.acquire(Mode::Shared).wait());
    let members = b.coordinator.members().expect("they can be listed");
    assert!(!members.contains(a.id()) && members.contains(b.id()), "who lives: {members:?}");
}

#[track_caller]
fn assert_lost_request(outcome: Result<ClusterGuard<'static>, AcquireError>) {
    match outcome {
        Err(AcquireError::Coordination { reason, .. }) => assert_lost(Err(*reason)),
        other => panic!("a request of the lost came to {other:?}"),
    }
}

fn who_joins_again_has_nothing_of_what_it_had(ground: &Ground) {
    let a = ground.peer("again");
    let guard = a.take(Mode::Exclusive);
    let name = a.id().name().to_string();
    a.leave();
    let again = ground.peer("again");
    assert_ne!(a.id(), again.id(), "two lives of one name");
    let other = ground.peer("other");
    let next = other.take(Mode::Exclusive);
    assert_told_of(&next, "again", &name);
    assert!(again.attempt(Mode::Shared).is_none(), "it holds what it held in another life");
    assert_lost(guard.check());
    drop(guard);
    assert_held(&other.lock, &[(&other, Mode::Exclusive)]);
}

fn a_broken_hold_goes_to_the_next_and_both_hear_of_it(ground: &Ground) {
    let [a, b] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    let name = a.id().name().to_string();
    let broken = b.lock.break_lock().unwrap_or_else(|error| panic!("it can be broken: {error}"));
    let from: Vec<_> = broken.into_iter().map(|held| held.member).collect();
    assert_eq!(from, [a.id().clone()], "whom it was taken from");
    let next = b.take(Mode::Exclusive);
    assert_told_of(&next, "member-0", &name);
    eventually("whose hold was broken knows", || guard.check().is_err());
    assert_eq!(guard.release(), Ok(false), "it was held until it was released");
    next.check().expect("what was granted is held");
    assert_held(&b.lock, &[(&b, Mode::Exclusive)]);
    a.coordinator.check().expect("who lost a hold lives on");
}

fn who_hangs_is_lost_and_knows_before_anybody_has_what_it_held(ground: &Ground) {
    let (driver, hangs) = Hindered::hanging(ground.connect());
    let a = ground.peer_over(driver, "hangs", TTL_SHORT);
    let b = ground.peer_over(ground.connect(), "waits", TTL);
    let told = Arc::new(AtomicBool::new(false));
    let tells = Arc::clone(&told);
    a.coordinator.on_lost(move |_| tells.store(true, Ordering::Release));
    let guard = a.take(Mode::Exclusive);
    let pending = b.queue(Mode::Exclusive);
    hangs.store(true, Ordering::Release);
    let next = granted(pending, "who waits for what one held who hangs");
    assert_lost(guard.check());
    assert_told_of(&next, "hangs", a.id().name());
    eventually("a call-back hears that its member is lost", || told.load(Ordering::Acquire));
    assert!(!holding(&b.lock).iter().any(|(member, _)| member == a.id()));
}
