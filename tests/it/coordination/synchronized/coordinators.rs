//! Agents: when they take part, as whom, and what they make locks of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tierlock::coordination::memory::{Call, Fate, Leg, Memory, World};
use tierlock::coordination::synchronized::{
    Coordinator, Lock, LockGuard, Synchronized, SynchronizedError,
};
use tierlock::coordination::{self, Capability, CoordinationError, Driver};

use super::{EXCLUSIVE, agent, creation_failed, not_started, stopped};
use crate::support::until;

#[test]
fn agents_locks_and_guards_go_from_thread_to_thread() {
    fn goes<T: Send + Sync + Unpin>() {}
    goes::<Coordinator>();
    goes::<Lock>();
    goes::<LockGuard<'_>>();
    goes::<Synchronized>();
    goes::<SynchronizedError>();
}

#[test]
fn a_new_agent_takes_no_part_and_connects_to_nothing() {
    let nowhere = Coordinator::new(coordination::Coordinator::connect("carrier-pigeon://loft"));
    assert!(!nowhere.started());
    assert!(nowhere.joined().is_none());
    assert!(matches!(nowhere.start(), Err(CoordinationError::BadUrl { .. })));
}

#[test]
fn each_agent_has_a_fresh_id_unless_it_is_given_one() {
    let (one, two) = (agent("fresh-ids"), agent("fresh-ids"));
    assert_ne!(one.joined().unwrap().member(), two.joined().unwrap().member());
    let named = stopped("fresh-ids").agent_id("host-a").prefix("manila-");
    named.start().unwrap();
    assert_eq!(&**named.joined().unwrap().member().name(), "manila-host-a");
}

#[test]
fn starting_twice_is_starting_once() {
    let agent = agent("start-twice");
    let member = agent.joined().unwrap().member().clone();
    agent.start().unwrap();
    assert_eq!(*agent.joined().unwrap().member(), member);
    assert_eq!(agent.joined().unwrap().members().unwrap(), [member]);
}

#[test]
fn stopping_is_idempotent_and_leaves_the_cluster() {
    let (agent, other) = (agent("stop-twice"), agent("stop-twice"));
    assert_eq!(other.joined().unwrap().members().unwrap().len(), 2);
    agent.stop().unwrap();
    agent.stop().unwrap();
    assert!(!agent.started());
    assert_eq!(other.joined().unwrap().members().unwrap().len(), 1);
    stopped("stop-twice").stop().unwrap();
}

#[test]
fn clones_are_started_and_stopped_together() {
    let agent = stopped("clones");
    let clone = agent.clone();
    clone.start().unwrap();
    assert!(agent.started());
    agent.stop().unwrap();
    assert!(!clone.started());
}

#[test]
fn a_start_that_fails_is_an_error_and_another_may_succeed() {
    let first = stopped("taken").agent_id("host-a");
    let second = stopped("taken").agent_id("host-a");
    first.start().unwrap();
    assert!(matches!(second.start(), Err(CoordinationError::Engine { .. })));
    assert!(!second.started());
    not_started(second.get_lock("lock"));
    first.stop().unwrap();
    second.start().unwrap();
    assert!(second.started());
}

#[test]
fn an_engine_that_lacks_what_is_required_is_refused_at_the_start() {
    let connect = coordination::Coordinator::connect("memory:").require(Capability::Hosts);
    let agent = Coordinator::new(connect);
    assert!(matches!(agent.start(), Err(CoordinationError::Incapable { .. })));
    assert!(!agent.started());
}

#[test]
fn a_lock_is_made_only_while_the_agent_takes_part() {
    let agent = stopped("not-started").agent_id("a").prefix("manila-");
    let error = agent.get_lock("lock").unwrap_err();
    assert_eq!(
        error.to_string(),
        "manila-a cannot make the lock manila-lock: the coordinator is not started"
    );
    agent.start().unwrap();
    agent.get_lock("lock").unwrap();
    agent.stop().unwrap();
    not_started(agent.get_lock("lock"));
}

#[test]
fn the_prefix_keeps_the_locks_of_systems_apart() {
    let (manila, cinder) =
        (agent("prefixes").prefix("manila-"), agent("prefixes").prefix("cinder-"));
    let (one, two) = (manila.get_lock("lock").unwrap(), cinder.get_lock("lock").unwrap());
    assert_eq!((one.name(), two.name()), ("manila-lock", "cinder-lock"));
    assert!(one.acquire(false, EXCLUSIVE).unwrap());
    assert!(two.acquire(false, EXCLUSIVE).unwrap());
    let same = agent("prefixes").get_lock("manila-lock").unwrap();
    assert!(!same.acquire(false, EXCLUSIVE).unwrap());
}

#[test]
fn any_text_is_a_name_but_a_blank_or_an_endless_one() {
    let agent = agent("names").prefix("manila-");
    for name in ["größe-東京", "a b", "a\nb", "a/b", "..", "é", "e\u{301}", &"n".repeat(900)] {
        let (lock, other) = (agent.get_lock(name).unwrap(), agent.get_lock(name).unwrap());
        assert!(lock.acquire(false, EXCLUSIVE).unwrap(), "{name:?}");
        assert!(!other.acquire(false, EXCLUSIVE).unwrap(), "{name:?}");
        std::mem::forget(lock);
    }
    assert!(creation_failed(agent.get_lock("")).contains("blank"));
    assert!(creation_failed(agent.get_lock(" \t")).contains("blank"));
    assert!(creation_failed(agent.get_lock(&"n".repeat(2000))).contains("longer than 1024 bytes"));
}

#[test]
fn an_agent_that_stops_gives_back_what_it_held() {
    let (agent, other) = (agent("stop-holding"), agent("stop-holding"));
    let (lock, next) = (agent.get_lock("lock").unwrap(), other.get_lock("lock").unwrap());
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    agent.stop().unwrap();
    assert!(next.acquire(false, EXCLUSIVE).unwrap());
    assert_eq!(next.abandoned(), None, "given back, not left behind");
    assert!(!lock.is_still_owner() && !lock.release());
    assert!(next.is_still_owner());
}

#[test]
fn locks_of_a_life_that_is_over_are_lost() {
    let agent = agent("lives");
    let lock = agent.get_lock("lock").unwrap();
    agent.stop().unwrap();
    agent.start().unwrap();
    let refused = lock.acquire(true, EXCLUSIVE);
    assert!(matches!(refused, Err(SynchronizedError::Coordination(_))), "{refused:?}");
    assert!(agent.get_lock("lock").unwrap().acquire(true, EXCLUSIVE).unwrap());
}

#[test]
fn a_lost_agent_is_not_started_and_can_start_anew() {
    let (store, world) = Memory::simulated(1);
    let connect = coordination::Coordinator::over(Arc::new(store.clone()));
    let agent = Coordinator::new(connect.ttl(Duration::from_secs(10))).agent_id("host-a");
    agent.start().unwrap();
    let first = agent.joined().unwrap().member().clone();
    world.advance(10_001);
    assert!(!agent.started());
    not_started(agent.get_lock("lock"));
    until(|| !store.is_alive(&first).unwrap());
    agent.start().unwrap();
    assert_ne!(*agent.joined().unwrap().member(), first);
    assert!(agent.get_lock("lock").unwrap().acquire(false, EXCLUSIVE).unwrap());
}

/// An agent that knows that it is lost as soon as time goes on, a little before the engine does.
fn on_the_verge(id: &str) -> (Memory, World, Coordinator) {
    let (store, world) = Memory::simulated(1);
    let (clock, once) = (world.clone(), AtomicBool::new(true));
    world.interpose(move |call, leg| {
        if matches!(call, Call::Beat(_)) && leg == Leg::There && once.swap(false, Ordering::SeqCst)
        {
            clock.advance(5);
        }
        Fate::Arrives
    });
    let connect = coordination::Coordinator::over(Arc::new(store.clone()));
    let agent = Coordinator::new(connect.ttl(Duration::from_secs(10))).agent_id(id);
    agent.start().unwrap();
    world.advance(9_994);
    assert!(agent.started());
    (store, world, agent)
}

#[test]
fn an_agent_that_is_lost_starts_anew_at_once_though_the_engine_does_not_know_yet() {
    for stops in [false, true] {
        let (store, world, agent) = on_the_verge("host-a");
        let first = agent.joined().unwrap().member().clone();
        world.advance(1);
        assert!(!agent.started() && store.is_alive(&first).unwrap());
        if stops {
            agent.stop().unwrap();
        }
        agent.start().unwrap();
        assert!(agent.started() && !store.is_alive(&first).unwrap());
    }
}

#[test]
fn whoever_hears_that_the_agent_is_lost_may_use_it_and_its_locks() {
    type Use = fn(&Coordinator, &Lock);
    let uses: [Use; 6] = [
        |agent, _| assert!(agent.start().is_ok() && agent.started()),
        |agent, _| assert!(agent.stop().is_ok()),
        |_, lock| assert!(!lock.acquired()),
        |_, lock| assert_eq!(lock.token(), None),
        |_, lock| assert!(!lock.release()),
        |_, lock| assert!(lock.acquire(false, EXCLUSIVE).is_err()),
    ];
    for finds_out in uses {
        let (_store, world, agent) = on_the_verge("host-a");
        let [lock, other] = ["lock", "lock"].map(|name| agent.get_lock(name).unwrap());
        assert!(lock.acquire(true, EXCLUSIVE).unwrap());
        let (heard, theirs) = (Arc::new(AtomicBool::new(false)), agent.clone());
        let tells = Arc::clone(&heard);
        agent.joined().unwrap().on_lost(move |_| {
            assert!(!other.acquired() && !other.release());
            theirs.start().unwrap();
            tells.store(true, Ordering::SeqCst);
        });
        world.advance(1);
        let use_it = thread::spawn(move || finds_out(&agent, &lock));
        until(|| use_it.is_finished() && heard.load(Ordering::SeqCst));
        use_it.join().unwrap();
    }
}

#[test]
fn whether_an_agent_lives_is_asked_of_the_engine() {
    let (_store, world, agent) = on_the_verge("host-a");
    assert!(agent.heartbeat().unwrap());
    world.interpose(|_, _| Fate::IsLost);
    assert!(agent.heartbeat().is_err() && agent.started(), "nobody knows, so far");
    world.advance(1);
    assert!(!agent.heartbeat().unwrap() && !agent.started());
    agent.stop().unwrap();
    assert!(!agent.heartbeat().unwrap());
}

#[test]
fn a_prefix_that_is_said_after_the_start_is_the_locks_and_not_the_members() {
    let agent = stopped("late-prefix").agent_id("host-a");
    agent.start().unwrap();
    let late = agent.prefix("manila-");
    assert_eq!(late.get_lock("lock").unwrap().name(), "manila-lock");
    assert_eq!(&**late.joined().unwrap().member().name(), "host-a");
    late.stop().unwrap();
    late.start().unwrap();
    assert_eq!(&**late.joined().unwrap().member().name(), "manila-host-a");
}
