//! Claims about members in several processes, some of which are killed.

use super::peer::{Asked, Peer, assert_held, assert_waits, granted, line, pairs};
use super::program::{OWNER, Process, written, written_key};
use super::{Claim, Ground, claims, eventually, read};
use crate::core::mode::Mode;

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    modes_of_two_processes_go_together_as_those_of_one if Processes,
    processes_wait_in_one_line if Processes,
    what_a_killed_process_held_goes_to_whoever_waits_and_is_told if Processes,
    what_a_killed_process_shared_goes_to_whoever_waits_and_is_told_to_nobody if Processes,
    a_killed_process_in_line_holds_up_nobody if Processes,
    tokens_rise_beyond_those_of_a_killed_process if Processes,
    of_processes_that_write_and_are_killed_one_writes_at_a_time_with_rising_tokens if Processes,
];

impl Process {
    /// Holds the lock from now on.
    fn take(&mut self, mode: Mode) {
        assert_eq!(self.ask(&format!("try {mode}")), "granted", "nobody stands in its way");
    }

    /// Asks, and comes back when it stands in line.
    fn queue(&mut self, mode: Mode, seen_by: &Peer) {
        assert_eq!(self.ask(&format!("queue {mode}")), "asked");
        let name = self.name();
        eventually("another process stands in line", || {
            line(&seen_by.lock).iter().any(|member| **member.name() == *name)
        });
    }

    fn release(&mut self) {
        assert_eq!(self.ask("release"), "held true", "it was held until it was released");
    }

    fn token(&mut self) -> u64 {
        let token = self.ask("token");
        token.parse().unwrap_or_else(|_| panic!("what is held has a token: {token}"))
    }
}

/// One here, and another process.
fn here_and_there(ground: &Ground) -> (Peer, Process) {
    (ground.peer("here"), ground.start("there"))
}

fn modes_of_two_processes_go_together_as_those_of_one(ground: &Ground) {
    let (here, mut there) = here_and_there(ground);
    for (held, wanted) in pairs() {
        there.take(held);
        let had = here.attempt(wanted).is_some();
        assert_eq!(had, held.admits(wanted), "{wanted} beside {held} in another process is had");
        there.release();
        let guard = here.take(held);
        let answer = there.ask(&format!("try {wanted}"));
        let expected = if held.admits(wanted) { "granted" } else { "refused" };
        assert_eq!(answer, expected, "{wanted} in another process beside {held}");
        if answer == "granted" {
            there.release();
        }
        drop(guard);
    }
}

fn processes_wait_in_one_line(ground: &Ground) {
    let (here, mut there) = here_and_there(ground);
    let holder = ground.peer("holder");
    let mut other = ground.start("other");
    let guard = holder.take(Mode::Exclusive);
    there.queue(Mode::Exclusive, &holder);
    let pending: Asked = here.queue(Mode::Exclusive);
    other.queue(Mode::Exclusive, &holder);
    drop(guard);
    assert_eq!(there.ask("await"), "granted");
    assert_waits(&pending, "who came second");
    there.release();
    let guard = granted(pending, "who came second");
    assert_held(&holder.lock, &[(&here, Mode::Exclusive)]);
    drop(guard);
    assert_eq!(other.ask("await"), "granted");
    other.release();
}

fn what_a_killed_process_held_goes_to_whoever_waits_and_is_told(ground: &Ground) {
    let (here, mut there) = here_and_there(ground);
    let other = ground.peer("other");
    let name = there.name().to_owned();
    there.take(Mode::Exclusive);
    let pending = here.queue(Mode::Exclusive);
    assert_waits(&pending, "who asks for what another process holds");
    there.kill();
    let guard = granted(pending, "who waits for what a killed process held");
    let told = guard.abandoned().expect("whoever is next is told").owner.to_string();
    assert!(told.contains(OWNER) && told.contains(&name), "{OWNER} of {name}, not {told}");
    drop(guard);
    assert!(other.take(Mode::Exclusive).abandoned().is_none(), "it is told twice");
}

fn what_a_killed_process_shared_goes_to_whoever_waits_and_is_told_to_nobody(ground: &Ground) {
    let (here, mut there) = here_and_there(ground);
    there.take(Mode::Shared);
    let pending = here.queue(Mode::Exclusive);
    there.kill();
    let guard = granted(pending, "who waits for what a killed process shared");
    assert!(guard.abandoned().is_none(), "a lost shared hold is told");
}

fn a_killed_process_in_line_holds_up_nobody(ground: &Ground) {
    let (here, mut there) = here_and_there(ground);
    let behind = ground.peer("behind");
    let guard = here.take(Mode::Shared);
    there.queue(Mode::Exclusive, &here);
    let pending = behind.queue(Mode::Shared);
    assert_waits(&pending, "a reader behind a writer");
    there.kill();
    drop(granted(pending, "a reader behind a writer that was killed"));
    drop(guard);
}

fn tokens_rise_beyond_those_of_a_killed_process(ground: &Ground) {
    let here = ground.peer("here");
    let mut last = 0;
    for _ in 0..2 {
        let mut there = ground.start("there");
        // In the place of one of this name that may have to be found dead first.
        let answer = there.ask(&format!("queue {}", Mode::Exclusive));
        assert_eq!((&*answer, &*there.ask("await")), ("asked", "granted"));
        let token = there.token();
        assert!(token > last, "token {token} after {last}");
        there.kill();
        let guard = here.take(Mode::Exclusive);
        last = guard.token().expect("what is held has a token");
        assert!(last > token, "token {last} after {token}");
    }
}

fn of_processes_that_write_and_are_killed_one_writes_at_a_time_with_rising_tokens(ground: &Ground) {
    const KILLS: u64 = 3;
    const WRITES: u64 = 40;
    let mut survivors = ["one", "two"].map(|name| ground.start(name));
    let mut heard = 0;
    for kill in 0..KILLS {
        let mut victim = ground.start(&format!("victim-{kill}"));
        survivors.iter_mut().for_each(|survivor| survivor.tell(&format!("write {WRITES}")));
        victim.tell("write 100000");
        (0..5).for_each(|_| assert_wrote(&victim.answer()));
        let rest = victim.kill();
        rest.iter().for_each(|answer| assert_wrote(answer));
        heard += 5 + rest.len() as u64;
        for survivor in &survivors {
            (0..WRITES).for_each(|_| assert_wrote(&survivor.answer()));
            assert_eq!(survivor.answer(), "wrote all");
            heard += WRITES;
        }
    }
    for survivor in survivors {
        assert_eq!(survivor.end(), Vec::<String>::new(), "what nobody asked for");
    }
    let stored = read(&*ground.connect(), &written_key(&ground.name("lock")));
    let (count, _) = written(stored.content.as_deref());
    // Who is killed may have written what it could not say any more.
    let all = heard..=heard + KILLS;
    assert!(all.contains(&count), "{heard} times somebody said that it wrote, {count} are there");
}

fn assert_wrote(answer: &str) {
    assert!(answer.starts_with("wrote "), "a process that writes says: {answer}");
}
