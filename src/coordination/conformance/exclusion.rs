//! Claims about who may hold a lock at a time.

use std::sync::Mutex;
use std::thread;

use super::super::Coordinator;
use super::peer::{Peer, assert_held, assert_line, pairs};
use super::{Claim, Ground, PATIENCE, TTL, claims};
use crate::core::mode::Mode;

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    two_members_hold_at_a_time_what_goes_together_and_nothing_else,
    owners_of_one_member_keep_out_others_as_owners_of_several_do,
    what_is_given_back_is_had_by_whoever_asks_next,
    an_attempt_that_is_refused_leaves_nothing,
    members_over_one_connection_exclude_each_other_and_end_apart,
    locks_of_different_names_are_held_apart,
    what_is_cached_is_given_up_when_another_member_asks,
    members_that_lock_at_random_never_hold_what_conflicts,
];

fn two_members_hold_at_a_time_what_goes_together_and_nothing_else(ground: &Ground) {
    let [a, b] = ground.peers();
    for (held, wanted) in pairs() {
        let guard = a.take(held);
        let had = b.attempt(wanted);
        assert_eq!(had.is_some(), held.admits(wanted), "{wanted} beside {held} is had");
        let both = [(&a, held), (&b, wanted)];
        assert_held(&a.lock, &both[..1 + usize::from(had.is_some())]);
        drop((guard, had));
        assert_held(&a.lock, &[]);
    }
}

fn owners_of_one_member_keep_out_others_as_owners_of_several_do(ground: &Ground) {
    let [a, b] = ground.peers();
    let second = a.beside("second");
    for (one, two) in pairs().filter(|(one, two)| one.admits(*two)) {
        let (first_guard, second_guard) = (a.take(one), second.take(two));
        for mode in Mode::ALL {
            let goes = one.admits(mode) && two.admits(mode);
            assert_eq!(b.attempt(mode).is_some(), goes, "{mode} beside {one} and {two} is had");
        }
        drop(first_guard);
        for mode in Mode::ALL {
            let goes = two.admits(mode);
            assert_eq!(b.attempt(mode).is_some(), goes, "{mode} beside {two} is had");
        }
        drop(second_guard);
    }
}

fn what_is_given_back_is_had_by_whoever_asks_next(ground: &Ground) {
    let [a, b] = ground.peers();
    for mode in Mode::ALL {
        let guard = a.take(mode);
        assert_eq!(guard.release(), Ok(true), "it was held until it was released");
        drop(b.attempt(Mode::Exclusive).expect("what was released is free"));
        drop(a.take(mode));
        let guard = b.attempt(Mode::Exclusive).expect("what was dropped is free");
        guard.check().expect("what was granted is held");
    }
    assert_held(&a.lock, &[]);
}

fn an_attempt_that_is_refused_leaves_nothing(ground: &Ground) {
    let [a, b, c] = ground.peers();
    let guard = a.take(Mode::Exclusive);
    let pending = c.queue(Mode::Exclusive);
    for mode in Mode::ALL {
        assert!(b.attempt(mode).is_none(), "{mode} is had beside an exclusive hold");
        assert_held(&b.lock, &[(&a, Mode::Exclusive)]);
        assert_line(&b.lock, &[&c]);
    }
    guard.check().expect("who was granted it holds it still");
    drop(pending);
}

fn members_over_one_connection_exclude_each_other_and_end_apart(ground: &Ground) {
    let driver = ground.connect();
    let join = |name: &str| {
        let connect = Coordinator::over(driver.clone()).ttl(TTL);
        let joined = connect.join(&ground.name(name)).expect("a second member can join");
        Peer::new(joined, &ground.name("lock"), name)
    };
    let (a, b) = (join("one"), join("other"));
    let guard = a.take(Mode::Exclusive);
    assert!(b.attempt(Mode::Shared).is_none(), "two members hold it at a time");
    let other = b.at(&ground.name("other-lock"));
    let other_guard = other.take(Mode::Exclusive);
    a.leave();
    assert!(guard.check().is_err(), "a member that left holds something");
    other_guard.check().expect("who did not leave holds what it held");
    drop(b.take(Mode::Exclusive));
}

fn locks_of_different_names_are_held_apart(ground: &Ground) {
    let long = "x".repeat(800);
    #[rustfmt::skip]
    let names = [
        "a", "A", "a/b", "a%2Fb", "a\\b", "/", "..", "../a", "\u{e9}", "e\u{301}", "\u{df}", "ss", " ", "a ", "*", "$HOME", ".tmp", "~",
        "\u{1f512}", &long, &long[1..],
    ];
    let names = names.map(|name| ground.name(name));
    let mut guards = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let a = ground.peer(&at.to_string()).at(name);
        let guard = a.attempt(Mode::Exclusive);
        guards.push(guard.unwrap_or_else(|| panic!("{name:?} is held with another name")));
    }
    let b = ground.peer("other");
    for (name, guard) in names.iter().zip(&guards) {
        assert!(b.at(name).attempt(Mode::Exclusive).is_none(), "{name:?} is held twice");
        guard.check().expect("what was granted is held");
    }
}

fn what_is_cached_is_given_up_when_another_member_asks(ground: &Ground) {
    let [a, b] = ground.peers().map(Peer::cached);
    drop(a.take(Mode::Exclusive));
    assert_held(&a.lock, &[(&a, Mode::Exclusive)]);
    drop(b.take(Mode::Shared));
    assert_held(&a.lock, &[(&a, Mode::Shared), (&b, Mode::Shared)]);
    drop(a.take(Mode::Exclusive));
    assert_held(&a.lock, &[(&a, Mode::Exclusive)]);
    drop(b.take(Mode::Exclusive));
    assert_held(&a.lock, &[(&b, Mode::Exclusive)]);
}

fn members_that_lock_at_random_never_hold_what_conflicts(ground: &Ground) {
    let referee = play_at_random(ground);
    let overlap = referee.overlap;
    assert_eq!(overlap, None, "a mode that was granted, and what was held meanwhile");
}

/// Sees who comes and goes, and whether that may be.
#[derive(Default)]
pub(super) struct Referee {
    held: Vec<Mode>,
    /// The greatest token of all, and of those who held it exclusively.
    greatest: u64,
    greatest_exclusive: u64,
    /// What was granted beside what.
    pub(super) overlap: Option<(Mode, Vec<Mode>)>,
    /// The token of a hold, and the one before that was not smaller.
    pub(super) disorder: Option<(u64, u64)>,
}

impl Referee {
    fn comes(&mut self, mode: Mode, token: u64) {
        if self.held.iter().any(|held| !held.admits(mode)) {
            self.overlap.get_or_insert((mode, self.held.clone()));
        }
        self.held.push(mode);
        let is_exclusive = mode == Mode::Exclusive;
        let before = if is_exclusive { self.greatest } else { self.greatest_exclusive };
        if token <= before {
            self.disorder.get_or_insert((token, before));
        }
        self.greatest = self.greatest.max(token);
        if is_exclusive {
            self.greatest_exclusive = self.greatest_exclusive.max(token);
        }
    }

    fn goes(&mut self, mode: Mode) {
        let at = self.held.iter().position(|held| *held == mode).expect("it came");
        self.held.swap_remove(at);
    }
}

/// Has members read and write at a time, some of which keep what they were granted.
pub(super) fn play_at_random(ground: &Ground) -> Referee {
    const ROUNDS: usize = 100;
    let peers: [Peer; 4] = ground.peers();
    let referee = Mutex::new(Referee::default());
    thread::scope(|scope| {
        let playing = peers.into_iter().enumerate().map(|(at, peer)| {
            let (peer, referee) = (if at % 2 == 0 { peer.cached() } else { peer }, &referee);
            scope.spawn(move || (0..ROUNDS).for_each(|round| play(&peer, at + round, referee)))
        });
        // One that panics says why.
        let outcomes = playing.collect::<Vec<_>>().into_iter().map(thread::ScopedJoinHandle::join);
        if let Some(Err(panic)) = outcomes.collect::<Vec<_>>().into_iter().find(Result::is_err) {
            std::panic::resume_unwind(panic);
        }
    });
    referee.into_inner().expect("who holds it does not panic")
}

fn play(peer: &Peer, round: usize, referee: &Mutex<Referee>) {
    let mode = if round.is_multiple_of(3) { Mode::Shared } else { Mode::Exclusive };
    let guard = peer.acquire(mode).timeout(PATIENCE).wait();
    let guard = guard.unwrap_or_else(|error| panic!("everybody goes in the end: {error}"));
    let token = guard.token().unwrap_or_else(|error| panic!("what is held has a token: {error}"));
    referee.lock().expect("nobody panics here").comes(mode, token);
    thread::yield_now();
    referee.lock().expect("nobody panics here").goes(mode);
}
