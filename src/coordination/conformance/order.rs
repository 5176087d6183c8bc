//! Claims about who goes next.

use super::peer::{Asked, Peer, assert_held, assert_line, assert_waits, granted, line};
use super::{Claim, Ground, claims, eventually};
use crate::core::mode::Mode;

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    who_came_first_goes_first,
    who_is_more_urgent_goes_first_whoever_came_first,
    who_becomes_more_urgent_goes_before_its_equals,
    readers_go_together,
    a_writer_is_not_starved_by_readers_that_keep_coming,
    a_reader_that_came_after_a_writer_goes_after_it,
    an_upgrade_goes_before_newcomers,
];

/// Has these granted one after the other, each of which gives it back.
fn assert_go(lock_of: &Peer, mut next: Vec<(&Peer, Asked)>) {
    while !next.is_empty() {
        let (peer, pending) = next.remove(0);
        let guard = granted(pending, &peer.id().to_string());
        assert_held(&lock_of.lock, &[(peer, guard.mode())]);
        let behind: Vec<&Peer> = next.iter().map(|(peer, _)| *peer).collect();
        assert_line(&lock_of.lock, &behind);
        next.iter().for_each(|(peer, pending)| assert_waits(pending, &peer.id().to_string()));
    }
}

fn who_came_first_goes_first(ground: &Ground) {
    let [a, b, c, d] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    let next = [&b, &c, &d].map(|peer| (peer, peer.queue(Mode::Exclusive)));
    assert_line(&a.lock, &[&b, &c, &d]);
    drop(guard);
    assert_go(&a, next.into());
}

fn who_is_more_urgent_goes_first_whoever_came_first(ground: &Ground) {
    let [a, b, c, d] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    let next = [(&b, 5), (&c, -5), (&d, 0)]
        .map(|(peer, priority)| (peer, peer.queue_urgently(Mode::Exclusive, priority)));
    drop(guard);
    let [last, first, second] = next;
    assert_go(&a, vec![first, second, last]);
}

fn who_becomes_more_urgent_goes_before_its_equals(ground: &Ground) {
    let [a, b, c] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    let [of_b, of_c] = [&b, &c].map(|peer| (peer, peer.queue(Mode::Exclusive)));
    of_c.1.set_priority(-1);
    let order = [c.id().clone(), b.id().clone()];
    eventually("who became more urgent stands in front", || line(&a.lock) == order);
    drop(guard);
    assert_go(&a, vec![of_c, of_b]);
}

fn readers_go_together(ground: &Ground) {
    let [a, b, c, d] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    let readers = [&b, &c, &d].map(|peer| (peer, peer.queue(Mode::Shared)));
    drop(guard);
    let reading = readers.map(|(peer, pending)| granted(pending, &peer.id().to_string()));
    assert_held(&a.lock, &[&b, &c, &d].map(|peer| (peer, Mode::Shared)));
    drop(reading);
}

fn a_writer_is_not_starved_by_readers_that_keep_coming(ground: &Ground) {
    let [a, b, writer] = ground.peers();
    let first = a.take(Mode::Shared);
    let writes = writer.queue(Mode::Exclusive);
    assert!(b.attempt(Mode::Shared).is_none(), "a reader overtakes a writer of another member");
    let second = a.beside("second");
    // Where a reader is in already, they hear of the writer and let nobody join.
    eventually("readers of a member that reads overtake no writer", || {
        second.attempt(Mode::Shared).is_none()
    });
    assert_waits(&writes, "the writer");
    drop(first);
    drop(granted(writes, "the writer"));
    drop(b.take(Mode::Shared));
}

fn a_reader_that_came_after_a_writer_goes_after_it(ground: &Ground) {
    let [a, writer, reader] = ground.peers();
    let guard = a.take(Mode::Shared);
    let writes = (&writer, writer.queue(Mode::Exclusive));
    let reads = (&reader, reader.queue(Mode::Shared));
    drop(guard);
    assert_go(&a, vec![writes, reads]);
}

fn an_upgrade_goes_before_newcomers(ground: &Ground) {
    let [a, b, newcomer] = ground.peers();
    let (mut guard, other) = (a.take(Mode::Shared), b.take(Mode::Shared));
    let waits = newcomer.queue_urgently(Mode::Exclusive, -1);
    let beside = a.beside("beside");
    eventually("the member that is to upgrade hears of the newcomer", || {
        beside.attempt(Mode::Shared).is_none()
    });
    let upgrade = guard.upgrade().enqueue();
    a.wait_in_line();
    assert_waits(&upgrade, "the upgrade");
    drop(other);
    granted(upgrade, "the upgrade");
    assert_held(&b.lock, &[(&a, Mode::Exclusive)]);
    assert_waits(&waits, "the newcomer");
    drop(guard);
    drop(granted(waits, "the newcomer"));
}
