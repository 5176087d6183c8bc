//! Nodes that fail, are declared failed, leave and come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tierlock::coordination::CoordinationError;
use tierlock::coordination::global::{GlobalLockEvent, GlobalLockWaiter};
use tierlock::coordination::memory::{Call, Fate, Leg, Memory, World};

use super::*;

fn is_broken<T>(result: &Result<T, GlobalLockError>) -> bool {
    let Err(GlobalLockError::Coordination(error)) = result else { return false };
    matches!(error, CoordinationError::Broken { .. })
}

fn is_lost<T>(result: &Result<T, GlobalLockError>) -> bool {
    let Err(GlobalLockError::Coordination(error)) = result else { return false };
    matches!(error, CoordinationError::Lost { .. })
}

#[test]
fn a_node_declared_failed_is_forgotten_and_those_who_wait_are_served() {
    let nodes = nodes::<3>("declared");
    let [one, two, three]: [User; 3] = users(&nodes);
    let locks = GlobalLockCoordinator::new(&nodes[2]);
    one.upgrade(Write, SOON).unwrap();
    let waiter = two.upgrade_async(Read).unwrap().waiter().unwrap();
    assert!(locks.node_failed("config", nodes[0].member()).unwrap());
    waiter.wait_lock(SOON).unwrap();
    three.upgrade(Read, SOON).unwrap();
    soon(|| three.holders().unwrap().iter().all(|held| held.member != *nodes[0].member()));
    assert!(!locks.node_failed("config", nodes[0].member()).unwrap());
}

#[test]
fn a_node_declared_failed_that_still_runs_hears_of_it_and_is_fenced_off() {
    let nodes = nodes::<2>("fenced");
    let [one, two]: [User; 2] = users(&nodes);
    let lost = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&lost);
    one.subscribe(move |_, event| {
        if *event == GlobalLockEvent::Lost {
            heard.store(true, Ordering::SeqCst);
        }
    });
    one.upgrade(Write, SOON).unwrap();
    let old = one.token().unwrap();
    GlobalLockCoordinator::new(&nodes[1]).node_failed("config", nodes[0].member()).unwrap();
    two.upgrade(Write, SOON).unwrap();
    assert!(two.token().unwrap() > old);
    let by = two.abandoned().unwrap().owner;
    assert!(by.contains("node-0"), "{by}");
    soon(|| lost.load(Ordering::SeqCst));
    assert!(is_broken(&one.check()) && is_broken(&one.token()));
    assert!(is_broken(&one.upgrade(Read, None)) && is_broken(&one.upgrade(Upgrade, None)));
    assert_eq!((one.granted(), one.grantable()), (Write, NoLock));
    // It is lost once: when it is given up, the node begins anew.
    assert!(is_broken(&one.downgrade(NoLock)));
    one.check().unwrap();
    two.downgrade(NoLock).unwrap();
    one.upgrade(Write, SOON).unwrap();
    assert!(one.token().unwrap() > two.token().map_or(old, |token| token));
}

#[test]
fn a_loss_is_told_once_until_something_is_granted_anew() {
    let nodes = nodes::<2>("told-once");
    let [one, two]: [User; 2] = users(&nodes);
    let losses = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&losses);
    one.subscribe(move |_, event| {
        counted.fetch_add(usize::from(*event == GlobalLockEvent::Lost), Ordering::SeqCst);
    });
    let locks = GlobalLockCoordinator::new(&nodes[1]);
    for times in 1..=2 {
        one.upgrade(Write, SOON).unwrap();
        locks.node_failed("config", nodes[0].member()).unwrap();
        two.upgrade(Write, SOON).unwrap();
        soon(|| losses.load(Ordering::SeqCst) == times);
        two.downgrade(NoLock).unwrap();
        assert!(is_broken(&one.downgrade(NoLock)));
    }
    one.upgrade(Write, SOON).unwrap();
    nodes[0].leave().unwrap();
    for _ in 0..3 {
        assert!(is_lost(&one.uncache()));
    }
    assert_eq!(losses.load(Ordering::SeqCst), 3);
}

#[test]
fn whoever_hears_that_the_node_is_lost_may_use_its_resources() {
    let uses: [fn(&User); 6] = [
        |user| assert!(is_lost(&user.check())),
        |user| assert!(is_lost(&user.token())),
        |user| assert_eq!(user.grantable(), NoLock),
        |user| assert!(is_lost(&user.upgrade(Read, SOON))),
        |user| assert!(is_lost(&user.upgrade_async(Write).map(drop))),
        |user| assert!(is_lost(&user.downgrade(NoLock))),
    ];
    // Some other thread of the node may be quicker.
    for finds_out in [uses; 20].into_iter().flatten() {
        let (memory, world) = Memory::simulated(1);
        let (clock, once) = (world.clone(), AtomicBool::new(true));
        // The node counts from before its first word, and so is the first to know.
        world.interpose(move |call, leg| {
            let is_word = matches!(call, Call::Beat(_)) && leg == Leg::There;
            if is_word && once.swap(false, Ordering::SeqCst) {
                clock.advance(5);
            }
            Fate::Arrives
        });
        let node = Coordinator::over(Arc::new(memory)).ttl(Duration::from_secs(10));
        let node = node.join("node").unwrap();
        let user: User = user(&node);
        user.upgrade(Read, SOON).unwrap();
        let (theirs, heard) = (user.clone(), Arc::new(AtomicBool::new(false)));
        let tells = Arc::clone(&heard);
        node.on_lost(move |_| {
            // Whether it was told the resource yet, it gets an answer.
            assert!([Read, NoLock].contains(&theirs.granted()));
            tells.store(true, Ordering::SeqCst);
        });
        world.advance(9_995);
        let use_it = thread::spawn(move || finds_out(&user));
        soon(|| use_it.is_finished() && heard.load(Ordering::SeqCst));
        use_it.join().unwrap();
    }
}

/// A node that declared another failed, and is to hear so, and one that comes after it.
fn after_a_failure(store: &str) -> ([Coordinator; 3], [User; 3]) {
    let nodes = nodes(store);
    let users: [User; 3] = users(&nodes);
    users[0].upgrade(Write, SOON).unwrap();
    GlobalLockCoordinator::new(&nodes[1]).node_failed("config", nodes[0].member()).unwrap();
    (nodes, users)
}

#[test]
fn what_nobody_of_a_node_took_leaves_the_clean_up_to_the_next() {
    let (_nodes, [one, two, three]) = after_a_failure("untaken");
    soon(|| one.check().is_err());
    let waiter = two.upgrade_async(Write).unwrap().waiter();
    soon(|| waiter.as_ref().is_none_or(GlobalLockWaiter::is_decided));
    drop(waiter);
    two.downgrade(NoLock).unwrap();
    three.upgrade(Write, SOON).unwrap();
    assert!(three.abandoned().unwrap().owner.contains("node-0"));
}

#[test]
fn a_node_that_does_not_ask_leaves_the_clean_up_to_the_next_exclusive_holder() {
    let gives_up: [fn(User); 3] =
        [|user| user.downgrade(NoLock).unwrap(), |user| user.downgrade(Read).unwrap(), drop];
    for (at, gives_up) in gives_up.into_iter().enumerate() {
        let (_nodes, [_one, two, three]) = after_a_failure(&format!("unasked-{at}"));
        two.upgrade(Write, SOON).unwrap();
        gives_up(two);
        three.upgrade(Write, SOON).unwrap();
        let told = three.abandoned().unwrap_or_else(|| panic!("{at}: nothing"));
        assert!(told.owner.contains("node-0"), "{at}");
        assert!(three.abandoned().is_none(), "it is told once");
    }
}

#[test]
fn a_node_that_asks_later_hears_of_the_failure_as_long_as_nobody_had_the_resource_since() {
    let (_nodes, [_one, two, _three]) = after_a_failure("later");
    two.upgrade(Write, SOON).unwrap();
    two.downgrade(NoLock).unwrap();
    assert!(two.abandoned().is_none(), "it does not have it exclusively");
    two.upgrade(Write, SOON).unwrap();
    assert!(two.abandoned().unwrap().owner.contains("node-0"));
}

#[test]
fn of_a_node_that_did_not_ask_and_failed_itself_the_next_hears() {
    let (nodes, [_one, two, three]) = after_a_failure("itself-too");
    two.upgrade(Write, SOON).unwrap();
    GlobalLockCoordinator::new(&nodes[2]).node_failed("config", nodes[1].member()).unwrap();
    three.upgrade(Write, SOON).unwrap();
    assert!(three.abandoned().unwrap().owner.contains("node-1"));
    soon(|| two.check().is_err());
    assert!(is_broken(&two.downgrade(NoLock)));
    three.downgrade(NoLock).unwrap();
    two.upgrade(Write, SOON).unwrap();
    assert!(two.abandoned().is_none(), "it was three's to be told");
}

#[test]
fn an_upgrade_under_way_of_a_node_declared_failed_is_refused_if_it_held_something() {
    let nodes = nodes::<2>("under-way");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Read, SOON).unwrap();
    two.upgrade(Read, SOON).unwrap();
    let waiter = one.upgrade_async(Upgrade).unwrap().waiter().unwrap();
    GlobalLockCoordinator::new(&nodes[1]).node_failed("config", nodes[0].member()).unwrap();
    assert!(is_broken(&waiter.wait_lock(SOON)));
}

#[test]
fn a_node_that_waits_and_is_declared_failed_asks_anew() {
    let nodes = nodes::<2>("asks-anew");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let waiter = two.upgrade_async(Write).unwrap().waiter().unwrap();
    let locks = GlobalLockCoordinator::new(&nodes[0]);
    assert!(locks.node_failed("config", nodes[1].member()).unwrap());
    soon(|| one.waiters().unwrap().len() == 1);
    one.downgrade(NoLock).unwrap();
    waiter.wait_lock(SOON).unwrap();
}

#[test]
fn a_node_is_declared_failed_of_all_its_resources() {
    let [a, b] = nodes("everywhere");
    let (ours, theirs) = (GlobalLockCoordinator::new(&a), GlobalLockCoordinator::new(&b));
    let names = ["one", "two/three", "four%"];
    let held = names.map(|name| theirs.user::<RwLockValue>(name).unwrap());
    held.iter().for_each(|user| user.upgrade(Write, SOON).unwrap());
    assert_eq!(ours.node_failed_everywhere(a.member()).unwrap(), 0);
    assert_eq!(ours.node_failed_everywhere(b.member()).unwrap(), 3);
    for (name, held) in names.into_iter().zip(held) {
        ours.user::<RwLockValue>(name).unwrap().upgrade(Write, SOON).unwrap();
        soon(|| is_broken(&held.check()));
    }
}

#[test]
fn a_node_may_declare_itself_failed() {
    let [node] = nodes("itself");
    let user: User = user(&node);
    user.upgrade(Write, SOON).unwrap();
    GlobalLockCoordinator::new(&node).node_failed("config", node.member()).unwrap();
    assert!(is_broken(&user.check()));
}

#[test]
fn a_node_that_dies_is_forgotten_by_itself() {
    let (memory, world) = Memory::simulated(3);
    let memory = Arc::new(memory);
    // The clock of the world jumps: who lives has time, and who dies has none left.
    let [one, two] = [("one", 30), ("two", 3600)].map(|(name, seconds)| {
        let connect = Coordinator::over(memory.clone()).ttl(Duration::from_secs(seconds));
        connect.join(name).unwrap()
    });
    let (ours, theirs): (User, User) = (user(&one), user(&two));
    ours.upgrade(Write, SOON).unwrap();
    let waiter = theirs.upgrade_async(Write).unwrap().waiter().unwrap();
    world.crash(one.member());
    world.advance(29_000);
    assert!(!waiter.is_decided());
    ours.check().unwrap();
    world.advance(1_000);
    assert!(is_lost(&ours.check()));
    waiter.wait_lock(SOON).unwrap();
    assert!(theirs.abandoned().unwrap().owner.contains("one"));
}

#[test]
fn a_node_that_leaves_loses_what_it_had_and_says_so_to_all_who_use_it() {
    let nodes = nodes::<2>("leaves");
    let [one, two]: [User; 2] = users(&nodes);
    two.upgrade(Read, SOON).unwrap();
    one.upgrade(Read, SOON).unwrap();
    let waiter = one.upgrade_async(Write).unwrap().waiter().unwrap();
    let behind = one.upgrade_async(Write).unwrap().waiter().unwrap();
    nodes[0].leave().unwrap();
    assert!(is_lost(&waiter.wait_lock(SOON)));
    drop(waiter);
    assert!(is_lost(&behind.wait_lock(SOON)));
    assert!(is_lost(&one.check()) && is_lost(&one.upgrade(Read, None)) && is_lost(&one.token()));
    assert_eq!(one.grantable(), NoLock);
    assert!(is_lost(&one.downgrade(NoLock)));
    assert_eq!(one.granted(), NoLock);
    two.upgrade(Upgrade, SOON).unwrap();
}

#[test]
fn with_a_node_that_died_while_it_waited_nobody_is_deadlocked() {
    for round in 0..50 {
        let nodes = nodes::<2>(&format!("dead-{round}"));
        let [one, two]: [User; 2] = users(&nodes);
        two.upgrade(Read, SOON).unwrap();
        one.upgrade(Read, SOON).unwrap();
        let waiter = one.upgrade_async(Upgrade).unwrap().waiter().unwrap();
        if round % 2 == 0 {
            soon(|| two.called_back().is_some());
        }
        nodes[0].leave().unwrap();
        two.upgrade(Upgrade, SOON).unwrap();
        drop(waiter);
    }
}

#[test]
fn nobody_makes_way_for_a_node_that_died_while_it_waited() {
    let nodes = nodes::<2>("no-way");
    let [one, two]: [User; 2] = users(&nodes);
    two.upgrade(Write, SOON).unwrap();
    let waiter = one.upgrade_async(Write).unwrap().waiter().unwrap();
    soon(|| two.called_back().is_some());
    nodes[0].leave().unwrap();
    soon(|| two.called_back().is_none());
    assert_eq!(two.grantable(), Write);
    drop(waiter);
}

#[test]
fn a_node_that_leaves_with_it_exclusively_is_named_to_the_next() {
    let nodes = nodes::<2>("named");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let waiter = two.upgrade_async(Write).unwrap().waiter().unwrap();
    nodes[0].leave().unwrap();
    waiter.wait_lock(SOON).unwrap();
    let by = two.abandoned().unwrap().owner;
    assert!(by.contains("node-0"), "{by}");
    assert!(two.abandoned().is_none());
}

#[test]
fn a_node_that_joins_holds_nothing_and_finds_what_others_hold() {
    let nodes = nodes::<1>("joins");
    let [one]: [User; 1] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let late = Coordinator::connect("memory:global-joins").join("late").unwrap();
    let user: User = user(&late);
    assert_eq!((user.granted(), user.grantable()), (NoLock, NoLock));
    assert_eq!(user.holders().unwrap()[0].member, *nodes[0].member());
    assert!(is_timed_out(&user.upgrade(Read, BRIEFLY)));
}

#[test]
fn a_node_that_joins_again_is_another_and_holds_nothing() {
    let nodes = nodes::<2>("again");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    nodes[0].leave().unwrap();
    let again = Coordinator::connect("memory:global-again").join("node-0").unwrap();
    let anew: User = user(&again);
    assert_eq!((anew.granted(), anew.grantable()), (NoLock, NoLock));
    two.upgrade(Write, SOON).unwrap();
    assert!(is_timed_out(&anew.upgrade(Read, BRIEFLY)));
    assert!(is_lost(&one.check()));
}

/// Two nodes, whose engine loses the first swap of the first of them on this leg of its way.
fn losing(leg: Leg) -> (World, [Coordinator; 2]) {
    let (memory, world) = Memory::simulated(5);
    let memory = Arc::new(memory);
    let nodes = ["one", "two"].map(|name| {
        // Nobody dies of a clock that runs.
        let connect = Coordinator::over(memory.clone()).ttl(Duration::from_secs(1_000_000));
        connect.min_hold(Duration::ZERO).join(name).unwrap()
    });
    let (me, once) = (nodes[0].member().clone(), AtomicBool::new(true));
    world.interpose(move |call, on| {
        let mine = matches!(call, Call::Swap { by, .. } if *by == me) && on == leg;
        if mine && once.swap(false, Ordering::SeqCst) { Fate::IsLost } else { Fate::Arrives }
    });
    (world, nodes)
}

#[test]
fn an_upgrade_whose_request_is_lost_says_so_and_keeps_nobody_out() {
    let (_world, nodes) = losing(Leg::There);
    let [one, two]: [User; 2] = users(&nodes);
    assert!(matches!(one.upgrade(Write, None), Err(GlobalLockError::Coordination(_))));
    assert_eq!((one.granted(), one.requested()), (NoLock, None));
    two.upgrade(Write, SOON).unwrap();
}

#[test]
fn an_upgrade_whose_answer_is_lost_says_so_and_keeps_nobody_out() {
    let (world, nodes) = losing(Leg::Back);
    let [one, two]: [User; 2] = users(&nodes);
    assert!(matches!(one.upgrade(Write, None), Err(GlobalLockError::Coordination(_))));
    assert_eq!((one.granted(), one.requested()), (NoLock, None));
    // It is there, though nobody knows; who it is there for finds out.
    if let Some(waiter) = two.upgrade_async(Write).unwrap().waiter() {
        soon(|| {
            world.advance(50);
            waiter.is_decided()
        });
        waiter.wait_lock(None).unwrap();
    }
    one.check().unwrap();
    assert!(is_timed_out(&one.upgrade(Read, BRIEFLY)));
}

#[test]
fn a_downgrade_whose_message_is_lost_is_said_again() {
    for leg in [Leg::There, Leg::Back] {
        let (memory, world) = Memory::simulated(9);
        let memory = Arc::new(memory);
        let nodes = ["one", "two"].map(|name| {
            let connect = Coordinator::over(memory.clone()).ttl(Duration::from_secs(1_000_000));
            connect.min_hold(Duration::ZERO).join(name).unwrap()
        });
        let [one, two]: [User; 2] = users(&nodes);
        one.upgrade(Write, SOON).unwrap();
        let waiter = two.upgrade_async(Write).unwrap().waiter().unwrap();
        soon(|| one.called_back().is_some());
        let (me, once) = (nodes[0].member().clone(), AtomicBool::new(true));
        world.interpose(move |call, on| {
            let mine = matches!(call, Call::Swap { by, .. } if *by == me) && on == leg;
            if mine && once.swap(false, Ordering::SeqCst) { Fate::IsLost } else { Fate::Arrives }
        });
        let _ = one.downgrade(NoLock);
        assert_eq!(one.granted(), NoLock);
        soon(|| {
            world.advance(50);
            waiter.is_decided()
        });
        waiter.wait_lock(None).unwrap();
        one.check().unwrap();
    }
}
