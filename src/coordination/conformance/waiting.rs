//! Claims about waiting, and about giving it up.

use std::time::Duration;

use super::hindered::Hindered;
use super::peer::wait_for_nobody_in_line;
use super::peer::{Peer, assert_held, assert_line, assert_waits, granted, holding, line};
use super::{Claim, Ground, PATIENCE, TTL, claims, eventually};
use crate::clock;
use crate::core::mode::Mode;

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    what_is_given_back_goes_to_whoever_waits,
    a_timeout_of_zero_waits_for_nothing_and_leaves_nothing,
    a_timeout_that_passes_leaves_nothing,
    a_waiter_that_times_out_lets_those_behind_it_go,
    a_waiter_that_is_dropped_lets_those_behind_it_go,
    a_waiter_that_is_cancelled_leaves_nothing,
    what_is_granted_and_never_taken_is_given_back,
    who_waits_is_served_though_every_report_is_missed,
];

/// Short, and long enough to be in line meanwhile on most machines.
const SHORT: Duration = Duration::from_millis(50);

fn what_is_given_back_goes_to_whoever_waits(ground: &Ground) {
    let [a, b] = ground.peers();
    for mode in Mode::ALL {
        let guard = a.take(Mode::Exclusive);
        let pending = b.queue(mode);
        assert_waits(&pending, "who asks for what is held");
        assert_held(&b.lock, &[(&a, Mode::Exclusive)]);
        drop(guard);
        let guard = granted(pending, "who waits");
        assert_held(&a.lock, &[(&b, mode)]);
        assert_line(&a.lock, &[]);
        guard.check().expect("what was granted is held");
    }
}

fn a_timeout_of_zero_waits_for_nothing_and_leaves_nothing(ground: &Ground) {
    let [a, b] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    for mode in Mode::ALL {
        let error = b.acquire(mode).timeout(Duration::ZERO).wait();
        let error = error.expect_err("it is held by another");
        assert!(error.is_timeout(), "not a timeout: {error}");
        wait_for_nobody_in_line(&a.lock);
        assert_held(&a.lock, &[(&a, Mode::Exclusive)]);
    }
    drop(guard);
    drop(b.take(Mode::Exclusive));
}

fn a_timeout_that_passes_leaves_nothing(ground: &Ground) {
    let [a, b] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    let began = clock::now();
    let error = b.acquire(Mode::Exclusive).timeout(SHORT).wait();
    let error = error.expect_err("it is held by another");
    assert!(error.is_timeout(), "not a timeout: {error}");
    assert!(clock::now() - began >= SHORT, "it was over before its time was");
    wait_for_nobody_in_line(&a.lock);
    assert_held(&a.lock, &[(&a, Mode::Exclusive)]);
    guard.check().expect("what was granted is held");
    drop(guard);
    assert_held(&a.lock, &[]);
}

fn a_waiter_that_times_out_lets_those_behind_it_go(ground: &Ground) {
    let [a, b, c] = ground.peers();
    let guard = a.take(Mode::Shared);
    let writes = b.acquire(Mode::Exclusive).timeout(20 * SHORT).enqueue();
    eventually("a writer stands in line, or its time is over", || {
        line(&a.lock).contains(b.id()) || writes.is_decided()
    });
    let reads = c.acquire(Mode::Shared).enqueue();
    let reading = granted(reads, "a reader behind a writer whose time was over");
    let error = writes.wait().expect_err("a reader is in its way");
    assert!(error.is_timeout(), "not a timeout: {error}");
    guard.check().expect("what was granted is held");
    drop(reading);
}

fn a_waiter_that_is_dropped_lets_those_behind_it_go(ground: &Ground) {
    let [a, b, c] = ground.peers();
    let guard = a.take(Mode::Shared);
    let writes = b.queue(Mode::Exclusive);
    let reads = c.queue(Mode::Shared);
    assert_waits(&reads, "a reader behind a writer");
    drop(writes);
    let reading = granted(reads, "a reader behind a writer that gave up");
    wait_for_nobody_in_line(&a.lock);
    assert_held(&a.lock, &[(&a, Mode::Shared), (&c, Mode::Shared)]);
    drop((guard, reading));
}

fn a_waiter_that_is_cancelled_leaves_nothing(ground: &Ground) {
    let [a, b] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    let pending = b.queue(Mode::Exclusive);
    assert!(pending.cancel().is_none(), "who waits is withdrawn");
    wait_for_nobody_in_line(&a.lock);
    drop(guard);
    assert_held(&a.lock, &[]);
}

fn what_is_granted_and_never_taken_is_given_back(ground: &Ground) {
    let [a, b] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    let pending = b.queue(Mode::Exclusive);
    drop(guard);
    assert!(pending.wait_timeout(PATIENCE), "who waits should go");
    assert_held(&a.lock, &[(&b, Mode::Exclusive)]);
    drop(pending);
    eventually("nobody holds what nobody took", || holding(&a.lock).is_empty());
    drop(a.take(Mode::Exclusive));
}

fn who_waits_is_served_though_every_report_is_missed(ground: &Ground) {
    let deaf = |name: &str| ground.peer_over(Hindered::deaf(ground.connect()), name, TTL);
    let [a, b, c] = ["one", "two", "three"].map(deaf);
    // What is given back.
    let guard = a.take(Mode::Exclusive);
    let pending = b.queue(Mode::Exclusive);
    drop(guard);
    drop(granted(pending, "who waits for what was given back"));
    // What another keeps unused.
    let keeps = Peer { lock: c.lock.clone().cached(), ..c };
    drop(keeps.take(Mode::Exclusive));
    drop(granted(b.acquire(Mode::Exclusive).enqueue(), "who waits for what another keeps"));
    // What the dead held.
    let guard = a.take(Mode::Exclusive);
    let pending = b.queue(Mode::Exclusive);
    a.leave();
    drop(granted(pending, "who waits for what the dead held"));
    drop(guard);
}
