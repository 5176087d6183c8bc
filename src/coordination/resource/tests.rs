//! What members do, each step when it is told to, and what that asks of the engine.

mod ends;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::coordination::agent::Hands;
use crate::coordination::memory::{Call, Fate, Leg, Memory, World};
use crate::coordination::{ClusterGuard, ClusterLock, Coordinator, Driver, Key, Swap};
use crate::core::mode::Mode;
use crate::error::UpgradeError;
use crate::owner::Owner;

/// A store, what is asked of it, and the world around it.
struct Engine {
    store: Memory,
    world: World,
    reads: Arc<AtomicUsize>,
    swaps: Arc<AtomicUsize>,
}

/// A member whose work is done when somebody says so.
struct Member {
    coordinator: Coordinator,
    hands: Hands,
    lock: ClusterLock,
}

impl Engine {
    fn new() -> Self {
        let (store, world) = Memory::simulated(1);
        let (reads, swaps) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let counts = (Arc::clone(&reads), Arc::clone(&swaps));
        world.interpose(move |call, leg| {
            match (call, leg) {
                (Call::Read(_), Leg::There) => counts.0.fetch_add(1, Ordering::Relaxed),
                (Call::Swap { .. }, Leg::There) => counts.1.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
            Fate::Arrives
        });
        Self { store, world, reads, swaps }
    }

    fn member(&self, name: &str) -> Member {
        let connect = Coordinator::connect("memory:").min_hold(Duration::ZERO);
        let store = Arc::new(self.store.clone());
        let (coordinator, hands) = connect.by_hand(store, name).unwrap();
        let lock = coordinator.lock("config").unwrap();
        Member { coordinator, hands, lock }
    }

    /// How often the store was read and written since this was asked last.
    fn asked(&self) -> (usize, usize) {
        (self.reads.swap(0, Ordering::Relaxed), self.swaps.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.world.calm();
    }
}

impl Member {
    fn caching(self) -> Self {
        Self { lock: self.lock.cached(), ..self }
    }

    /// Does all there is to do at this moment.
    fn work(&self) {
        while self.hands.work() {}
    }

    fn hold(&self, owner: &Owner, mode: Mode) -> ClusterGuard<'static> {
        self.lock.acquire(owner, mode).into_owned().now().unwrap()
    }
}

fn work(members: &[&Member]) {
    // What one does may be news to the other.
    for _ in 0..10 {
        members.iter().for_each(|member| member.work());
    }
}

#[test]
fn what_a_member_keeps_unused_when_it_leaves_is_nobodys_abandonment() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a").caching(), engine.member("b"));
    drop(a.hold(&owner, Mode::Exclusive));
    assert_eq!(b.lock.holders().unwrap().len(), 1, "it is kept");
    a.coordinator.leave().unwrap();
    assert!(b.lock.holders().unwrap().is_empty());
    assert!(b.hold(&next, Mode::Exclusive).abandoned().is_none());
}

#[test]
fn what_a_member_uses_less_of_than_it_keeps_when_it_leaves_is_abandoned_as_it_is_used() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    for (used, is_told) in [(Mode::Shared, false), (Mode::Exclusive, true)] {
        let (a, b) = (engine.member("a").caching(), engine.member("b"));
        drop(a.hold(&owner, Mode::Exclusive));
        let guard = a.hold(&owner, used);
        a.coordinator.leave().unwrap();
        assert!(guard.check().unwrap_err().is_lost());
        assert_eq!(b.hold(&next, Mode::Exclusive).abandoned().is_some(), is_told, "{used}");
    }
}

#[test]
fn a_member_that_is_dropped_gives_back_what_it_keeps() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a").caching(), engine.member("b"));
    drop(a.hold(&owner, Mode::Exclusive));
    drop(a);
    assert!(b.hold(&next, Mode::Exclusive).abandoned().is_none());
}

#[test]
fn a_member_leaves_though_the_engine_is_out_of_reach() {
    let engine = Engine::new();
    let owner = Owner::new("owner");
    let a = engine.member("a").caching();
    drop(a.hold(&owner, Mode::Exclusive));
    engine.world.crash(a.coordinator.member());
    assert!(a.coordinator.leave().unwrap_err().is_transient());
    assert!(a.coordinator.check().unwrap_err().is_lost());
}

#[test]
fn a_record_that_nobody_can_read_is_looked_at_less_and_less_until_it_changes() {
    let engine = Engine::new();
    let (owner, a) = (Owner::new("owner"), engine.member("a"));
    let guard = a.hold(&owner, Mode::Exclusive);
    a.work();
    let other = engine.store.join("other", Duration::from_secs(1_000_000)).unwrap();
    let key = Key::of(["lock", "config"]).unwrap();
    let intact = engine.store.read(&key).unwrap();
    let store = |version, content: &[u8]| {
        let swap = engine.store.compare_and_swap(&key, version, content, other.id()).unwrap();
        let Swap::Done(version) = swap else { panic!("nobody else stores anything") };
        version
    };
    for damage in [&b"torn"[..], br#"{"format":7}"#] {
        let damaged = store(engine.store.read(&key).unwrap().version, damage);
        engine.asked();
        let mut read_at: Vec<usize> = Vec::new();
        for tenth in 0..3_000 {
            a.work();
            let (reads, _) = engine.asked();
            read_at.extend(std::iter::repeat_n(tenth, reads));
            engine.world.advance(100);
            a.coordinator.seat().beat(Duration::from_secs(10)).unwrap();
        }
        assert_eq!(read_at[..7], [0, 1, 3, 7, 15, 31, 63], "{read_at:?}");
        assert!(read_at.len() < 18, "once a minute in the end: {read_at:?}");
        store(damaged, intact.content.as_ref().unwrap());
        a.work();
        assert_eq!(engine.asked().0, 1, "as soon as it was repaired");
        guard.check().unwrap();
    }
    assert!(guard.release().unwrap());
}

/// Counts what is said to be wrong.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
    fn enter(&self, _: &tracing::Id) {}
    fn exit(&self, _: &tracing::Id) {}
}

#[test]
fn that_a_record_cannot_be_read_is_said_once() {
    let engine = Engine::new();
    let (owner, a) = (Owner::new("owner"), engine.member("a"));
    let _guard = a.hold(&owner, Mode::Exclusive);
    let key = Key::of(["lock", "config"]).unwrap();
    let version = engine.store.read(&key).unwrap().version;
    let me = a.coordinator.member();
    engine.store.compare_and_swap(&key, version, b"torn", me).unwrap();
    let said = Arc::<AtomicUsize>::default();
    tracing::subscriber::with_default(Warnings(Arc::clone(&said)), || {
        for _ in 0..90 {
            a.work();
            engine.world.advance(100);
        }
    });
    assert_eq!(said.load(Ordering::Relaxed), 1);
}

#[test]
fn what_a_member_stored_itself_is_no_news_to_it() {
    let engine = Engine::new();
    let (owner, a) = (Owner::new("owner"), engine.member("a"));
    let guard = a.hold(&owner, Mode::Exclusive);
    assert_eq!(engine.asked(), (1, 1));
    a.work();
    drop(guard);
    assert_eq!(engine.asked(), (1, 1));
    a.work();
    assert_eq!(engine.asked(), (0, 0));
}

#[test]
fn many_who_wait_here_are_one_piece_of_news() {
    let engine = Engine::new();
    let (a, b) = (engine.member("a"), engine.member("b"));
    let owner = Owner::new("owner");
    let guard = a.hold(&owner, Mode::Exclusive);
    engine.asked();
    let owners: Vec<_> = (0..20).map(|at| Owner::new(format!("waiter-{at}"))).collect();
    let pending: Vec<_> = owners.iter().map(|owner| b.lock.exclusive(owner).enqueue()).collect();
    b.work();
    assert_eq!(engine.asked(), (1, 1), "one request is made for all of them");
    drop(pending);
    b.work();
    assert_eq!(engine.asked(), (1, 1), "and withdrawn");
    drop(guard);
}

#[test]
fn a_hand_over_is_one_read_of_each_member_and_one_swap() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a"), engine.member("b"));
    let guard = a.hold(&owner, Mode::Exclusive);
    let pending = b.lock.exclusive(&next).enqueue();
    work(&[&a, &b]);
    engine.asked();
    drop(guard);
    work(&[&a, &b]);
    assert!(pending.is_decided());
    assert_eq!(engine.asked(), (2, 1));
    drop(pending.wait().unwrap());
    work(&[&a, &b]);
    assert_eq!(engine.asked(), (1, 1), "it is given back");
}

#[test]
fn a_hand_over_of_what_is_kept_is_two_reads_of_each_member_and_two_swaps() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a").caching(), engine.member("b").caching());
    drop(a.hold(&owner, Mode::Exclusive));
    work(&[&a, &b]);
    engine.asked();
    let pending = b.lock.exclusive(&next).enqueue();
    work(&[&a, &b]);
    assert!(pending.is_decided());
    assert_eq!(engine.asked(), (4, 2));
}

#[test]
fn an_upgrade_refused_because_another_member_upgrades_leaves_nothing_in_line() {
    let engine = Engine::new();
    let [first, second] = ["first", "second"].map(Owner::new);
    let (a, b) = (engine.member("a"), engine.member("b"));
    let mut one = a.hold(&first, Mode::Shared);
    let mut two = b.hold(&second, Mode::IntentShared);
    work(&[&a, &b]);
    // It waits for nothing that the other waits for, until it wants more.
    let waits = two.upgrade_to(Mode::IntentExclusive).enqueue();
    work(&[&a, &b]);
    assert_eq!(b.lock.waiters().unwrap().len(), 1);
    let refused = one.upgrade().enqueue();
    work(&[&a, &b]);
    assert!(refused.is_decided() && !waits.is_decided());
    assert!(matches!(refused.wait(), Err(UpgradeError::WouldDeadlock { .. })));
    let waiting: Vec<_> = a.lock.waiters().unwrap().into_iter().map(|w| w.member).collect();
    assert_eq!(waiting, [b.coordinator.member().clone()], "who was refused asks for nothing");
    drop(one);
    work(&[&a, &b]);
    waits.wait().unwrap();
}

#[test]
fn what_was_asked_before_a_refused_upgrade_and_is_wanted_no_more_leaves_the_line() {
    let engine = Engine::new();
    let [first, second, third] = ["first", "second", "third"].map(Owner::new);
    let [a, b, c] = ["a", "b", "c"].map(|name| engine.member(name));
    let (mut one, _two) = (a.hold(&first, Mode::Shared), b.hold(&second, Mode::Shared));
    let mut three = c.hold(&third, Mode::IntentShared);
    let patient = one.upgrade_to(Mode::IntentExclusive).enqueue();
    work(&[&a, &b, &c]);
    let _waits = three.upgrade_to(Mode::IntentExclusive).enqueue();
    work(&[&a, &b, &c]);
    assert_eq!(b.lock.waiters().unwrap().len(), 2);
    // This one would wait for who waits for this member; the one before it only waited for a third.
    assert!(!patient.is_decided());
    drop(patient);
    let refused = one.upgrade().enqueue();
    work(&[&a, &b, &c]);
    assert!(refused.is_decided());
    assert!(matches!(refused.wait(), Err(UpgradeError::WouldDeadlock { .. })));
    let waiting: Vec<_> = b.lock.waiters().unwrap().into_iter().map(|w| w.member).collect();
    assert_eq!(waiting, [c.coordinator.member().clone()]);
}

#[test]
fn a_claim_granted_in_the_middle_of_a_round_is_not_taken_for_an_owners_hold() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a").caching(), engine.member("b"));
    let guard = a.hold(&owner, Mode::Exclusive);
    let pending = b.lock.exclusive(&next).enqueue();
    work(&[&a, &b]);
    // While the record is read, the owner gives the lock back, so that it is claimed and not collected when it is looked at.
    let held = std::sync::Mutex::new(Some(guard));
    let me = a.coordinator.member().clone();
    engine.world.interpose(move |call, leg| {
        if matches!(call, Call::Read(_)) && leg == Leg::Back {
            drop(held.lock().unwrap().take());
        }
        Fate::Arrives
    });
    a.lock.resource().settle(true).unwrap();
    engine.world.calm();
    work(&[&a, &b]);
    assert!(pending.is_decided(), "{:?}", a.lock.resource());
    assert!(a.lock.holders().unwrap().iter().all(|held| held.member != me));
}
