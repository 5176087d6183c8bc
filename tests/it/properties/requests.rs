//! Requests that wait, as bytes, which a fuzzer writes: owners ask for two locks and a set, change their minds, and give back, in
//! one thread. No two hold what conflicts, nobody waits for whom nothing stands in the way, and nothing is left in the end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tierlock::{
    ALL, AcquireError, AcquireLock, AcquireSet, Guard, LockSet, Membership, Mode, Names, Owner,
    Pending, SetGuard, SetRequest, SharedLock, exclusive, shared,
};

const OWNERS: usize = 4;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Takes three bytes for each step.
pub(crate) fn replay(bytes: &[u8]) {
    let mut scene = Scene::new();
    for step in bytes.chunks_exact(3) {
        scene.step(step[0], step[1], step[2]);
        scene.check();
    }
    scene.end();
}

/// What an owner has of something: nothing, a request, or a hold.
enum Having<P, G> {
    Nothing,
    Asked(P, Mode),
    Held(G),
}

type OfLock = Having<Pending<AcquireLock<'static>>, Guard<'static>>;
type OfSet = Having<Pending<AcquireSet>, SetGuard>;

struct Scene {
    owners: [Owner; OWNERS],
    locks: [SharedLock; 2],
    set: LockSet,
    /// By lock, then by owner.
    of_locks: [[OfLock; OWNERS]; 2],
    of_set: [OfSet; OWNERS],
}

impl Scene {
    fn new() -> Self {
        Self {
            owners: ["a", "b", "c", "d"].map(Owner::new),
            locks: ["lock-0", "lock-1"].map(SharedLock::new),
            set: LockSet::new("set", Membership::Listed, NAMES).expect("each name once"),
            of_locks: [(); 2].map(|()| [(); OWNERS].map(|()| Having::Nothing)),
            of_set: [(); OWNERS].map(|()| Having::Nothing),
        }
    }

    /// | byte | says |
    /// |---|---|
    /// | 0 | who does it, and with what: a lock, or the set |
    /// | 1 | what is done, and at which of five priorities |
    /// | 2 | in which mode, or with which names |
    fn step(&mut self, who: u8, what: u8, how: u8) {
        let (who, of) = (usize::from(who) % OWNERS, usize::from(who) / OWNERS % 3);
        let (what, priority) = (what % 8, i32::from(what / 8 % 5) - 2);
        match self.locks.get(of) {
            Some(lock) => {
                let mode = Mode::ALL[usize::from(how) % 5];
                let (owner, having) = (&self.owners[who], &mut self.of_locks[of][who]);
                step_of_lock(having, lock, owner, what, mode, priority);
            }
            None => {
                let (owner, having) = (&self.owners[who], &mut self.of_set[who]);
                step_of_set(having, &self.set, owner, what, how, priority);
            }
        }
    }

    fn check(&self) {
        for (lock, having) in self.locks.iter().zip(&self.of_locks) {
            self.check_lock(lock, having);
        }
        for (at, one) in guards(&self.of_set) {
            for (_, other) in guards(&self.of_set).filter(|(other, _)| *other > at) {
                for name in NAMES {
                    let modes = one.holds(name).zip(other.holds(name));
                    assert!(modes.is_none_or(|(a, b)| a.admits(b)), "{name}: {modes:?}");
                }
            }
        }
        let waits = |having: &OfSet| matches!(having, Having::Asked(p, _) if !p.is_decided());
        let waiting = self.of_set.iter().filter(|having| waits(having)).count();
        let all = self.of_set.iter().filter(|having| !matches!(having, Having::Nothing)).count();
        assert!(waiting == 0 || waiting < all, "all wait for one another");
    }

    fn check_lock(&self, lock: &SharedLock, having: &[OfLock; OWNERS]) {
        let holds = |who: usize| self.owners[who].holds(lock);
        for (who, having) in having.iter().enumerate() {
            let others = (0..OWNERS).filter(|other| *other != who).filter_map(holds);
            match having {
                Having::Nothing => assert_eq!(holds(who), None),
                Having::Held(guard) => {
                    assert_eq!(holds(who), Some(guard.mode()));
                    assert!(others.into_iter().all(|other| other.admits(guard.mode())));
                }
                Having::Asked(pending, mode) if pending.is_decided() => {
                    assert_eq!(holds(who), Some(*mode));
                }
                Having::Asked(pending, mode) => {
                    let in_the_way = others.into_iter().any(|other| !other.admits(*mode));
                    assert!(in_the_way || pending.position() != Some(0), "{mode} waits for nobody");
                }
            }
        }
    }

    /// When all have given up or given back, everything is to be had.
    fn end(self) {
        let Self { locks, set, of_locks, of_set, .. } = self;
        drop((of_locks, of_set));
        let last = Owner::new("last");
        assert!(locks.iter().all(|lock| lock.exclusive(&last).now().is_ok()));
        assert!(set.acquire(&last, exclusive(NAMES)).now().is_ok());
        assert!(set.acquire(&last, exclusive(ALL)).now().is_ok());
    }
}

fn guards(of_set: &[OfSet]) -> impl Iterator<Item = (usize, &SetGuard)> {
    of_set.iter().enumerate().filter_map(|(at, having)| match having {
        Having::Held(guard) => Some((at, guard)),
        _ => None,
    })
}

fn step_of_lock(
    having: &mut OfLock,
    lock: &SharedLock,
    owner: &Owner,
    what: u8,
    mode: Mode,
    priority: i32,
) {
    *having = match std::mem::replace(having, Having::Nothing) {
        Having::Nothing => {
            let request = lock.acquire(owner, mode).into_owned().priority(priority);
            match what {
                0..3 => Having::Asked(request.enqueue(), mode),
                3 => request.now().map_or(Having::Nothing, Having::Held),
                _ => Having::Nothing,
            }
        }
        Having::Asked(pending, mode) => asked(pending, mode, what, priority),
        Having::Held(mut guard) => {
            match what {
                0..3 => return,
                3 => drop(guard.downgrade_to(mode)),
                4 => drop(guard.upgrade_to(mode).now()),
                5 => drop(guard.upgrade_to(mode).priority(priority).enqueue()),
                _ => {}
            }
            Having::Held(guard)
        }
    };
}

/// Goes on with a request that was made: whatever becomes of it, it is not blocked on.
fn asked<T>(
    mut pending: Pending<T>,
    mode: Mode,
    what: u8,
    priority: i32,
) -> Having<Pending<T>, T::Granted>
where
    T: tierlock::Target<Error = AcquireError>,
{
    match what {
        0 => {
            pending.set_priority(priority);
            Having::Asked(pending, mode)
        }
        1 => match pending.cancel() {
            Some(granted) => Having::Held(granted.expect("nothing is deleted")),
            None => Having::Nothing,
        },
        2 => Having::Nothing,
        _ => match Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(granted) => Having::Held(granted.expect("nothing is deleted")),
            Poll::Pending => Having::Asked(pending, mode),
        },
    }
}

fn step_of_set(having: &mut OfSet, set: &LockSet, owner: &Owner, what: u8, how: u8, priority: i32) {
    let is_named = |at: usize| how & 1 << at != 0;
    let these = NAMES.into_iter().enumerate().filter(|(at, _)| is_named(*at)).map(|(_, name)| name);
    let names: Names = if is_named(3) { ALL.into() } else { these.collect() };
    *having = match std::mem::replace(having, Having::Nothing) {
        Having::Nothing => {
            let request: SetRequest = if is_named(4) { shared(names) } else { exclusive(names) };
            let request = if what == 2 { request.opportunistic() } else { request };
            let request = set.acquire(owner, request).priority(priority);
            match what {
                0..3 => Having::Asked(request.enqueue(), Mode::Shared),
                3 => request.now().map_or(Having::Nothing, Having::Held),
                _ => Having::Nothing,
            }
        }
        Having::Asked(pending, mode) => asked(pending, mode, what, priority),
        Having::Held(mut guard) => {
            match what {
                0 => drop(guard.keep(names)),
                1 => drop(guard.release(names)),
                2 => drop(guard.downgrade(names)),
                3 => drop(guard.upgrade(names).now()),
                4 => drop(guard.upgrade(names).enqueue()),
                _ => return,
            }
            Having::Held(guard)
        }
    };
}
