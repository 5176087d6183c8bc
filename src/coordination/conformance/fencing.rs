//! Claims about fencing tokens.

use std::sync::Arc;

use super::super::ClusterGuard;
use super::exclusion::play_at_random;
use super::peer::{Peer, assert_waits, granted};
use super::{Claim, Ground, TTL, claims, eventually};
use crate::core::mode::Mode;

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    a_hold_has_one_token,
    tokens_rise_from_one_exclusive_hold_to_the_next,
    tokens_rise_from_those_who_share_to_those_who_do_not_and_back,
    an_upgrade_has_a_token_above_those_of_all_who_shared,
    tokens_rise_beyond_those_of_the_lost,
    tokens_rise_whatever_members_do_at_random,
    tokens_rise_though_everybody_left_meanwhile if Persistent,
];

fn token(guard: &ClusterGuard<'_>) -> u64 {
    guard.token().unwrap_or_else(|error| panic!("what is held has a token: {error}"))
}

fn assert_above(token: u64, before: &[u64]) {
    assert!(before.iter().all(|before| token > *before), "token {token} after {before:?}");
}

fn a_hold_has_one_token(ground: &Ground) {
    let [a, b] = ground.peers();
    let mut guard = a.take(Mode::Exclusive);
    let first = token(&guard);
    assert!(first > 0, "no token is zero");
    assert_eq!(token(&guard), first, "asked again");
    guard.downgrade();
    assert_eq!(token(&guard), first, "after a downgrade");
    let other = b.take(Mode::Shared);
    assert_eq!((token(&guard), token(&other)), (first, token(&other)), "beside another");
}

fn tokens_rise_from_one_exclusive_hold_to_the_next(ground: &Ground) {
    let [a, b] = ground.peers();
    let [c, d] = ["three", "four"].map(|name| ground.peer(name).cached());
    let beside = c.beside("another");
    let mut last = 0;
    for round in 0..24 {
        // The same member again, another owner of it, and members that keep what they had.
        let peer = [&a, &a, &b, &c, &beside, &d][round * 5 % 6];
        let next = token(&peer.take(Mode::Exclusive));
        assert_above(next, &[last]);
        last = next;
    }
}

fn tokens_rise_from_those_who_share_to_those_who_do_not_and_back(ground: &Ground) {
    let peers: [Peer; 3] = ground.peers();
    let mut last = 0;
    for round in 0..6 {
        let writes = token(&peers[round % 3].take(Mode::Exclusive));
        assert_above(writes, &[last]);
        let reading = peers.each_ref().map(|peer| peer.take(Mode::Shared));
        let reads = reading.each_ref().map(token);
        reads.iter().for_each(|read| assert_above(*read, &[writes]));
        last = reads.into_iter().max().expect("there are some");
    }
}

fn an_upgrade_has_a_token_above_those_of_all_who_shared(ground: &Ground) {
    let [a, b] = ground.peers();
    let mut guard = a.take(Mode::Shared);
    let before = token(&guard);
    let beside = a.beside("second").take(Mode::Shared);
    let other = b.take(Mode::Shared);
    let shared = [before, token(&beside), token(&other)];
    let upgrade = guard.upgrade().enqueue();
    assert_waits(&upgrade, "an upgrade beside other holders");
    drop((beside, other));
    granted(upgrade, "an upgrade that is alone");
    let upgraded = token(&guard);
    assert_above(upgraded, &shared);
    drop(guard);
    assert_above(token(&b.take(Mode::Shared)), &[upgraded]);
}

fn tokens_rise_beyond_those_of_the_lost(ground: &Ground) {
    let [b] = ground.peers();
    let mut last = 0;
    for round in 0..4 {
        let a = ground.peer("lost");
        let guard = a.take(Mode::Exclusive);
        assert_above(token(&guard), &[last]);
        last = token(&guard);
        a.leave();
        assert!(guard.token().is_err(), "a token of what is lost");
        if round % 2 == 0 {
            let next = token(&b.take(Mode::Exclusive));
            assert_above(next, &[last]);
            last = next;
        }
    }
}

fn tokens_rise_whatever_members_do_at_random(ground: &Ground) {
    let disorder = play_at_random(ground).disorder;
    assert_eq!(disorder, None, "a token, and one of a hold before that it does not exceed");
}

fn tokens_rise_though_everybody_left_meanwhile(ground: &Ground) {
    let connection = ground.connect();
    let unused = Arc::downgrade(&connection);
    let a = ground.peer_over(connection, "first", TTL);
    let last = token(&a.take(Mode::Exclusive));
    drop(a);
    eventually("nobody uses the connection of who left", || unused.strong_count() == 0);
    assert_above(token(&ground.peer("another").take(Mode::Exclusive)), &[last]);
}
