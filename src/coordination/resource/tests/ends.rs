//! What becomes of resources that nobody here uses any more, of call-backs that panic, and of members that are no more.

use std::future::{Future, IntoFuture};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

use super::{Engine, Member, work};
use crate::coordination::coordinator::key_of;
use crate::coordination::memory::{Call, Fate, Leg};
use crate::coordination::resource::{Resource, User};
use crate::coordination::{ClusterLock, Coordinator, HeldBy};
use crate::core::mode::Mode;
use crate::hold::Lock;
use crate::name::LockName;
use crate::owner::Owner;
use crate::shared_lock::SharedLock;

const FOR_LONG: Duration = Duration::from_secs(1_000_000);

impl Member {
    fn tape(&self) -> ClusterLock {
        self.coordinator.lock("tape").unwrap()
    }

    /// Makes a resource of a name as a level does, which asks nobody whether there is one.
    fn adopt(&self) -> (SharedLock, Arc<Resource>) {
        let lock = Arc::new(Lock::new(LockName::alone("n1".into())));
        let key = key_of(["level", "node", "n1"], "a lock", "n1").unwrap();
        let told = Box::new(|lock: &Arc<Lock>, by: &Arc<str>| lock.abandon(by));
        let resource = self.coordinator.adopt(key, Arc::clone(&lock), told);
        resource.cache();
        (SharedLock::of(lock), resource)
    }
}

fn members_of(held: Vec<HeldBy>) -> Vec<String> {
    held.into_iter().map(|held| held.member.name().to_string()).collect()
}

#[test]
fn what_could_not_be_given_back_when_its_last_user_went_is_given_back_later() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a"), engine.member("b"));
    let guard = a.tape().exclusive(&owner).into_owned().now().unwrap();
    engine.world.interpose(|call, _| match call {
        Call::Swap { .. } => Fate::IsLost,
        _ => Fate::Arrives,
    });
    drop(guard);
    engine.world.calm();
    assert!(b.tape().exclusive(&next).now().is_err(), "nobody could say that it is free");
    engine.world.advance(1_000);
    work(&[&a, &b]);
    a.coordinator.check().unwrap();
    assert!(b.tape().holders().unwrap().is_empty());
    drop(b.tape().exclusive(&next).now().unwrap());
}

#[test]
fn what_was_granted_when_nobody_waited_for_it_any_more_is_given_back() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a"), engine.member("b"));
    let guard = b.tape().exclusive(&owner).into_owned().now().unwrap();
    let pending = a.tape().exclusive(&next).into_owned().enqueue();
    work(&[&a, &b]);
    assert_eq!(members_of(b.tape().waiters().unwrap()), ["a"]);
    drop(guard);
    assert_eq!(members_of(b.tape().holders().unwrap()), ["a"], "of which it does not know yet");
    drop(pending);
    work(&[&a, &b]);
    assert!(b.tape().holders().unwrap().is_empty());
}

#[test]
fn who_ended_while_a_kept_lock_was_held_is_told_though_nobody_here_uses_it_any_more() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a"), engine.member("b"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let lock = a.tape().cached();
        let _guard = lock.exclusive(&owner).now().unwrap();
        panic!("in the middle of it");
    }));
    assert!(panicked.is_err());
    work(&[&a, &b]);
    let abandoned = b.tape().exclusive(&next).into_owned().now().unwrap().abandoned();
    assert_eq!(abandoned.unwrap().owner.split(' ').next(), Some("owner"));
}

#[test]
fn a_name_made_anew_is_not_given_back_by_the_one_there_was_before() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a"), engine.member("b"));
    let (lock, before) = a.adopt();
    let pending = lock.exclusive(&owner).enqueue();
    before.settle(true).unwrap();
    pending.wait().unwrap().delete().unwrap();
    drop(lock);
    let (lock, resource) = a.adopt();
    // It has much to do before it comes to this one, which is to be looked at as well.
    before.ring();
    a.coordinator.retire([before]);
    let pending = lock.exclusive(&owner).enqueue();
    resource.settle(true).unwrap();
    assert!(pending.is_decided());
    let guard = pending.wait().unwrap();
    work(&[&a]);
    engine.world.advance(2_000);
    work(&[&a]);
    let (other, elsewhere) = b.adopt();
    let waits = other.exclusive(&next).enqueue();
    elsewhere.settle(true).unwrap();
    work(&[&a, &b]);
    assert!(!waits.is_decided(), "{:?} is held", resource);
    drop(guard);
    work(&[&a, &b]);
    assert!(waits.is_decided());
}

#[test]
fn what_was_kept_under_a_name_made_anew_is_given_to_whoever_asks() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a"), engine.member("b"));
    let (lock, before) = a.adopt();
    let pending = lock.exclusive(&owner).enqueue();
    before.settle(true).unwrap();
    drop(pending.wait().unwrap());
    drop(lock);
    let (_unused, _resource) = a.adopt();
    a.coordinator.retire([before]);
    work(&[&a]);
    let (other, elsewhere) = b.adopt();
    let waits = other.exclusive(&next).enqueue();
    elsewhere.settle(true).unwrap();
    work(&[&a, &b]);
    assert!(waits.is_decided(), "{elsewhere:?}");
}

#[test]
fn whoever_is_not_used_any_more_is_not_remembered() {
    let engine = Engine::new();
    let a = engine.member("a");
    for at in 0..1_000 {
        drop(a.coordinator.lock(&format!("tape-{at}")).unwrap());
    }
    assert!(a.coordinator.resources().remembered() < 100);
}

/// Does something when it is recalled.
struct Does<F>(F);

impl<F: Fn() + Send + Sync + 'static> User for Does<F> {
    fn on_recall(&self, mode: Option<Mode>) {
        if mode.is_some() {
            (self.0)();
        }
    }

    fn on_loss(&self) {}
}

#[test]
fn a_call_back_that_panics_stops_nobody() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a").caching(), engine.member("b"));
    let _user = a.lock.resource().user(|| Arc::new(Does(|| panic!("it does"))));
    drop(a.hold(&owner, Mode::Exclusive));
    let pending = b.lock.exclusive(&next).enqueue();
    let panicked = catch_unwind(AssertUnwindSafe(|| work(&[&b, &a])));
    assert!(panicked.is_err());
    a.lock.resource().settle(true).unwrap();
    work(&[&a, &b]);
    assert!(pending.is_decided());
    drop(pending.wait().unwrap());
    drop(a.hold(&owner, Mode::Exclusive));
}

#[test]
fn what_is_said_in_a_call_back_is_done() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a").caching(), engine.member("b"));
    let resource = Arc::downgrade(a.lock.resource());
    let uncache = move || Weak::upgrade(&resource).unwrap().uncache().unwrap();
    let _user = a.lock.resource().user(|| Arc::new(Does(uncache)));
    drop(a.hold(&owner, Mode::Exclusive));
    let pending = b.lock.shared(&next).enqueue();
    work(&[&a, &b]);
    assert!(pending.is_decided());
    assert_eq!(members_of(b.lock.holders().unwrap()), ["b"]);
}

#[test]
fn who_waits_is_refused_when_the_member_leaves() {
    let engine = Engine::new();
    let [owner, next] = ["owner", "next"].map(Owner::new);
    let (a, b) = (engine.member("a"), engine.member("b"));
    let _guard = b.hold(&owner, Mode::Exclusive);
    let pending = a.lock.exclusive(&next).enqueue();
    work(&[&a, &b]);
    a.coordinator.leave().unwrap();
    a.work();
    assert!(pending.is_decided());
    assert!(pending.wait().is_err());
}

#[test]
fn whoever_is_told_of_a_lost_member_may_use_what_the_one_who_found_out_has_locked() {
    let engine = Engine::new();
    let a = engine.member("a");
    let (mine, (tell, told)) = (Arc::new(Mutex::new(())), mpsc::channel());
    let theirs = Arc::clone(&mine);
    a.coordinator.on_lost(|_| panic!("no affair of the next"));
    a.coordinator.on_lost(move |_| {
        drop(theirs.lock().unwrap());
        tell.send(()).unwrap();
    });
    let locked = mine.lock().unwrap();
    engine.world.advance(60_000);
    assert!(a.coordinator.check().unwrap_err().is_lost());
    drop(locked);
    told.recv_timeout(FOR_LONG).unwrap();
}

#[test]
fn whoever_awaits_the_end_of_a_member_does_not_keep_it_alive() {
    let engine = Engine::new();
    let (a, b) = (engine.member("a"), engine.member("b"));
    let lost = a.coordinator.lost();
    let mut never = a.coordinator.lost();
    let polled = std::pin::Pin::new(&mut never).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    drop(never);
    drop(a);
    assert!(pollster::block_on(lost).is_lost());
    assert_eq!(b.coordinator.members().unwrap().len(), 1);
}

#[test]
fn whoever_awaits_a_lock_does_not_go_to_the_engine_itself() {
    let engine = Engine::new();
    let (owner, a) = (Owner::new("owner"), engine.member("a"));
    let mut asked = Box::pin(a.lock.exclusive(&owner).into_future());
    let mut context = Context::from_waker(Waker::noop());
    engine.asked();
    assert!(asked.as_mut().poll(&mut context).is_pending());
    assert_eq!(engine.asked(), (0, 0));
    a.work();
    assert!(asked.as_mut().poll(&mut context).is_ready());
}

#[test]
fn an_upgrade_that_is_tried_asks_the_engine() {
    let engine = Engine::new();
    let (owner, a) = (Owner::new("owner"), engine.member("a"));
    let mut guard = a.hold(&owner, Mode::Shared);
    guard.upgrade().now().unwrap();
    assert_eq!(a.lock.holders().unwrap()[0].mode, Mode::Exclusive);
}

#[test]
fn an_upgrade_of_a_hold_that_is_lost_is_an_error() {
    let engine = Engine::new();
    let (owner, a) = (Owner::new("owner"), engine.member("a").caching());
    let mut guard = a.hold(&owner, Mode::Exclusive);
    guard.downgrade();
    a.coordinator.leave().unwrap();
    assert!(guard.upgrade().now().is_err());
    assert!(guard.upgrade().wait().is_err());
}

#[test]
fn a_lost_member_says_so_once() {
    let engine = Engine::new();
    let (owner, a) = (Owner::new("owner"), engine.member("a"));
    struct Counts(AtomicUsize);
    impl User for Counts {
        fn on_recall(&self, _: Option<Mode>) {}

        fn on_loss(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let user = a.lock.resource().user(|| Arc::new(Counts(0.into()))).unwrap();
    let _guard = a.hold(&owner, Mode::Exclusive);
    engine.world.advance(60_000);
    (0..3).for_each(|_| assert!(a.lock.resource().settle(true).is_err()));
    assert_eq!(user.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_grant_that_ends_sooner_does_so_here_though_the_answer_is_lost() {
    let engine = Engine::new();
    let (owner, a) = (Owner::new("owner"), engine.member("a"));
    let guard = a.hold(&owner, Mode::Exclusive);
    let token = a.lock.resource().record().unwrap().holders()[0].token;
    engine.world.interpose(|call, leg| match (call, leg) {
        (Call::Swap { .. }, Leg::Back) => Fate::IsLost,
        _ => Fate::Arrives,
    });
    assert!(a.lock.resource().set_end(token, 1).is_err());
    guard.check().unwrap();
    engine.world.advance(1);
    assert!(guard.check().is_err(), "others may have it");
}

#[test]
fn what_is_broken_is_what_was_held_in_that_moment() {
    let engine = Engine::new();
    let [first, second] = ["first", "second"].map(Owner::new);
    let (a, b) = (engine.member("a"), engine.member("b"));
    let held = Mutex::new(Some(a.hold(&first, Mode::Exclusive)));
    let (next, store) = (Mutex::new(None), b.lock.clone());
    engine.world.interpose(move |call, leg| {
        // Between what is read and what is written.
        let guard = matches!((call, leg), (Call::Swap { .. }, Leg::There))
            .then(|| held.lock().unwrap().take())
            .flatten();
        if let Some(guard) = guard {
            drop(guard);
            *next.lock().unwrap() = store.exclusive(&second).into_owned().now().ok();
        }
        Fate::Arrives
    });
    let broken = engine.member("c").lock.break_lock().unwrap();
    assert_eq!(members_of(broken), ["b"]);
}

#[test]
fn nobody_joins_for_no_time() {
    let refused = Coordinator::connect("memory:").ttl(Duration::ZERO).join("a");
    assert!(refused.unwrap_err().to_string().contains("time-to-live"));
}
