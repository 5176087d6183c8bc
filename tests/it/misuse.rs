//! Bad input and misuse: an error that says who asked for what and what stands against it; nothing taken, nothing lost.

use std::error::Error as _;
use std::fmt::Display;
use std::time::Duration;

use tierlock::Mode::{Exclusive, IntentShared, Shared};
use tierlock::{
    ALL, AcquireError, BuildError, Error, HoldError, Level, LevelId, LevelRequest, LockManager,
    LockSet, Membership, MembershipError, Mode, Owner, Session, SharedLock, UpgradeError,
    exclusive, ganeti, shared,
};

use crate::support::{Waiter, admits, ms, panic_holding, slots, waits};

fn owner(name: &str) -> Owner {
    Owner::new(name)
}

#[track_caller]
fn says(error: &impl Display, expected: &str) {
    assert_eq!(error.to_string(), expected);
}

/// A session of Ganeti's hierarchy that holds the BGL shared.
fn job() -> (LockManager, Session) {
    let manager = ganeti::manager(["web1"], [""; 0], ["n1", "n2"], [""; 0]).build().unwrap();
    let mut job = manager.session("job-17");
    job.acquire(Cluster.shared("BGL")).now().unwrap();
    (manager, job)
}

use ganeti::Level::{Cluster, Instance, Network, Node};

mod what_is_not_acquired {
    use super::*;

    #[test]
    fn what_is_held_already() {
        let (lock, owner) = (SharedLock::new("config"), owner("job-17"));
        let _guard = lock.exclusive(&owner).now().unwrap();
        let error = lock.shared(&owner).now().unwrap_err();
        says(&error, "job-17 asked for config shared, but holds it exclusive");
    }

    #[test]
    fn what_is_asked_for_already() {
        let lock = SharedLock::new("config");
        let other = owner("other");
        let held = lock.exclusive(&other).now().unwrap();
        let waiter = waits(&lock, "job-17", Exclusive, |request| request);
        let error = lock.shared(&waiter.owner).now().unwrap_err();
        says(&error, "job-17 asked for config shared, but asks for it already");
        drop(held);
        assert!(waiter.join().is_ok());
    }

    #[test]
    fn of_a_set_of_which_something_is_held() {
        let set = LockSet::new("node", Membership::Listed, ["n1", "n2"]).unwrap();
        let owner = owner("job-17");
        let _guard = set.acquire(&owner, shared("n1")).now().unwrap();
        let error = set.acquire(&owner, exclusive("n2")).now().unwrap_err();
        let expected =
            "job-17 asked for node/[lockset] intent-exclusive, but holds it intent-shared";
        says(&error, expected);
    }

    #[test]
    fn at_a_level_of_which_something_is_held() {
        let (_, mut job) = job();
        job.acquire(Node.shared("n1")).now().unwrap();
        let error = job.acquire(Node.exclusive("n2")).now().unwrap_err();
        says(&error, "job-17 asked for node/n1 exclusive, but holds it shared");
    }

    #[test]
    fn what_was_deleted() {
        let (lock, owner) = (SharedLock::new("config"), owner("job-17"));
        lock.delete(&owner).now().unwrap();
        let error = lock.shared(&owner).now().unwrap_err();
        says(&error, "job-17 asked for config shared, but it was deleted");
    }

    #[test]
    fn what_is_not_there() {
        let (_, mut job) = job();
        let error = job.acquire(Node.shared(["n1", "n9"])).now().unwrap_err();
        let expected =
            "job-17 asked for node/n9 shared, but there is none (it may have been removed)";
        says(&error, expected);
    }

    #[test]
    fn what_could_not_be_had_in_time() {
        let lock = SharedLock::new("config");
        let owners: Vec<_> = (1..=6).map(|at| owner(&format!("job-{at}"))).collect();
        let ask = || lock.exclusive(&owners[5]).timeout(Duration::ZERO).wait().unwrap_err();
        let first = lock.shared(&owners[0]).now().unwrap();
        let text = "job-6 timed out after 0ns waiting for config exclusive, blocked by";
        says(&ask(), &format!("{text} job-1 (shared)"));
        let _others: Vec<_> =
            owners[1..5].iter().map(|o| lock.acquire(o, IntentShared).now().unwrap()).collect();
        let four =
            "job-1 (shared), job-2 (intent-shared), job-3 (intent-shared), job-4 (intent-shared)";
        says(&ask(), &format!("{text} {four} and 1 more"));
        drop(first);
    }

    #[test]
    fn what_could_not_be_had_in_time_because_of_one_that_waits() {
        let lock = SharedLock::new("config");
        let reader = owner("reader");
        let held = lock.shared(&reader).now().unwrap();
        let writer = waits(&lock, "writer", Exclusive, |request| request);
        let late = owner("late");
        let error = lock.shared(&late).timeout(Duration::ZERO).wait().unwrap_err();
        let expected = "late timed out after 0ns waiting for config shared, blocked by writer (waiting exclusive)";
        says(&error, expected);
        drop(held);
        assert!(writer.join().is_ok());
    }

    #[test]
    fn what_could_not_be_had_at_once() {
        let (lock, [first, second]) = (SharedLock::new("config"), ["first", "second"].map(owner));
        let _guard = lock.shared(&first).now().unwrap();
        let error = lock.exclusive(&second).now().unwrap_err();
        says(&error, "second could not have config exclusive at once");
    }

    #[test]
    fn what_comes_before_something_held() {
        let (_, mut job) = job();
        job.acquire(Node.exclusive("n1")).now().unwrap();
        let error = job.acquire(Instance.shared("web1")).now().unwrap_err();
        says(
            &error,
            "job-17 asked for level instance, but holds node/n1 exclusive, which comes later",
        );
    }

    #[test]
    fn what_comes_before_the_root() {
        let (manager, _) = job();
        let error = manager.session("job-18").acquire(Node.shared(ALL)).now().unwrap_err();
        says(&error, "job-18 asked for level node, but does not hold the root cluster/BGL");
    }

    #[test]
    fn at_a_level_that_is_not_there() {
        let (_, mut job) = job();
        let error = job.acquire(LevelId::new(7, "moon").shared(ALL)).now().unwrap_err();
        says(&error, "job-17 asked for level moon, which this manager does not have");
    }

    #[test]
    fn where_too_little_is_free() {
        let (_, mut job) = job();
        let error = job.acquire(Node.exclusive(ALL).at_least(3)).now().unwrap_err();
        says(&error, "job-17 asked for at least 3 locks of node, but only 2 were free");
    }

    #[test]
    fn only_what_time_may_change_is_transient() {
        let (lock, [first, second]) = (SharedLock::new("config"), ["first", "second"].map(owner));
        let guard = lock.shared(&first).now().unwrap();
        let errors = [
            (lock.shared(&first).now().unwrap_err(), false, false),
            (lock.exclusive(&second).now().unwrap_err(), true, false),
            (lock.exclusive(&second).timeout(Duration::ZERO).wait().unwrap_err(), true, true),
            (job().1.acquire(Node.shared("n9")).now().unwrap_err(), false, false),
            (job().1.acquire(Node.shared(ALL).at_least(9)).now().unwrap_err(), true, false),
        ];
        for (error, transient, timeout) in errors {
            assert_eq!((error.is_transient(), error.is_timeout()), (transient, timeout), "{error}");
        }
        drop(guard);
    }
}

mod what_is_not_upgraded {
    use super::*;

    #[test]
    fn where_two_would_wait_for_each_other() {
        let (lock, [first, second]) = (SharedLock::new("config"), ["first", "second"].map(owner));
        let mut other = lock.shared(&second).now().unwrap();
        let upgrading = {
            let guard = lock.shared(&first).now().unwrap().into_owned();
            Waiter::of(&first, move || {
                let mut guard = guard;
                guard.upgrade().wait().map(|()| guard)
            })
        };
        let error = other.upgrade().wait().unwrap_err();
        let expected = "second cannot wait for config exclusive while it holds it shared: \
            it would deadlock, blocked by first (shared)";
        says(&error, expected);
        drop(other);
        assert!(upgrading.join().is_ok());
    }

    #[test]
    fn what_is_not_held() {
        let (_, mut job) = job();
        let error = job.upgrade(Node, "n1").now().unwrap_err();
        says(&error, "job-17 does not hold node/n1");
        assert!(matches!(error, UpgradeError::Hold(HoldError::NotHeld { .. })));
    }

    #[test]
    fn where_others_do_not_make_way() {
        let (lock, [first, second]) = (SharedLock::new("config"), ["first", "second"].map(owner));
        let mut guard = lock.shared(&first).now().unwrap();
        let _other = lock.shared(&second).now().unwrap();
        says(&guard.upgrade().now().unwrap_err(), "first could not have config exclusive at once");
        assert_eq!(guard.mode(), Shared);
    }
}

mod what_is_not_given_back {
    use super::*;

    #[test]
    fn what_is_not_held() {
        let (_, mut job) = job();
        says(&job.release(Node, "n1").unwrap_err(), "job-17 does not hold node/n1");
        says(&job.keep(Node, ALL).unwrap_err(), "job-17 does not hold node/[lockset]");
    }

    #[test]
    fn the_root_before_what_is_deeper() {
        let (_, mut job) = job();
        job.acquire(Node.exclusive(ALL)).now().unwrap();
        let error = job.release(Cluster, ALL).unwrap_err();
        let expected =
            "job-17 cannot release the root cluster/BGL while it holds node/[lockset] exclusive";
        says(&error, expected);
    }

    #[test]
    fn at_a_level_that_is_not_there() {
        let (_, mut job) = job();
        let error = job.release(LevelId::new(1, "moon"), ALL).unwrap_err();
        says(&error, "job-17 spoke of level moon, which this manager does not have");
    }

    #[test]
    fn by_a_downgrade_to_what_is_not_weaker() {
        let (lock, owner) = (SharedLock::new("config"), owner("job-17"));
        let mut guard = lock.shared(&owner).now().unwrap();
        let error = guard.downgrade_to(Mode::IntentExclusive).unwrap_err();
        let expected = "job-17 cannot downgrade config from shared to intent-exclusive, which it does not cover";
        says(&error, expected);
    }
}

mod what_is_not_changed {
    use super::*;

    #[test]
    fn a_name_that_is_there() {
        let (_, mut job) = job();
        let error = job.add(Node, ["n3", "n2"]).now().unwrap_err();
        says(&error, "job-17 cannot add node/n2: there is one already");
    }

    #[test]
    fn names_that_are_fixed_or_on_demand() {
        let (_, mut job) = job();
        let error = job.add(Cluster, "BGL2").now().unwrap_err();
        says(&error, "job-17 cannot change the members of cluster: they are fixed");
        let error = LockSet::on_demand("paths").add(&owner("job"), "/etc").now().unwrap_err();
        says(&error, "job cannot change the members of paths: they are there on demand");
    }

    #[test]
    fn what_is_held_otherwise() {
        let (_, mut job) = job();
        job.acquire(Node.shared("n1")).now().unwrap();
        let error = job.remove(Node, "n1").now().unwrap_err();
        says(&error, "job-17 cannot change node/n1 while it holds node/n1 shared");
        let error = job.add(Node, "n3").now().unwrap_err();
        says(&error, "job-17 cannot change node/[lockset] while it holds node/n1 shared");
    }

    #[test]
    fn the_root() {
        let level = LevelId::new(0, "cluster");
        let manager = LockManager::builder().level(&level, ["BIG"]).root("BIG").build().unwrap();
        let mut job = manager.session("job-17");
        job.acquire(level.exclusive("BIG")).now().unwrap();
        let error = job.remove(&level, "BIG").now().unwrap_err();
        says(&error, "job-17 cannot remove cluster/BIG: it is the root");
    }

    #[test]
    fn what_is_not_there() {
        let (_, mut job) = job();
        let error = job.remove(Node, "n9").now().unwrap_err();
        let expected =
            "job-17 asked for node/n9 exclusive, but there is none (it may have been removed)";
        says(&error, expected);
    }
}

mod what_is_not_built {
    use super::*;

    #[test]
    fn of_names_that_are_there_twice() {
        let error = LockSet::new("node", Membership::Fixed, ["n1", "n2", "n1"]).unwrap_err();
        says(&error, "node/n1 is there twice");
    }

    #[test]
    fn of_levels_that_do_not_add_up() {
        let level = |rank| LevelId::new(rank, "node");
        let error = LockManager::builder().on_demand_level(level(1)).build().unwrap_err();
        says(&error, "there is no level of rank 0: ranks count from 0 without a gap");
        let builder = LockManager::builder().on_demand_level(level(0)).on_demand_level(level(1));
        says(&builder.build().unwrap_err(), "level node (rank 1) is there twice");
    }

    #[test]
    fn on_a_root_that_is_not_there() {
        let builder = LockManager::builder().level(LevelId::new(0, "cluster"), ["a"]).root("BIG");
        let expected = "the root cluster/BIG is not a lock of the first level";
        says(&builder.build().unwrap_err(), expected);
    }
}

/// A lock that was abandoned is no error, but reads like one.
#[test]
fn an_abandoned_lock_names_who_left_it() {
    let lock = SharedLock::new("config");
    panic_holding(lock.exclusive(&owner("hasty")).now().unwrap().into_owned());
    let next = owner("next");
    let guard = lock.exclusive(&next).now().unwrap();
    says(&guard.abandoned().unwrap(), "config was abandoned by hasty");
}

/// One type for whoever does not want to tell them apart, with the same words.
#[test]
fn every_error_becomes_the_one_of_the_crate_and_says_the_same() {
    let (_, mut job) = job();
    let acquire: AcquireError = job.acquire(Node.shared("n9")).now().unwrap_err();
    let upgrade: UpgradeError = job.upgrade(Node, "n1").now().unwrap_err();
    let hold: HoldError = job.release(Node, "n1").unwrap_err();
    let membership: MembershipError = job.add(Node, "n1").now().unwrap_err();
    let build: BuildError = LockManager::builder().root("BIG").build().unwrap_err();
    let texts = [
        acquire.to_string(),
        upgrade.to_string(),
        hold.to_string(),
        membership.to_string(),
        build.to_string(),
    ];
    let errors: [Error; 5] =
        [acquire.into(), upgrade.into(), hold.into(), membership.into(), build.into()];
    for (error, text) in errors.iter().zip(texts) {
        says(error, &text);
        assert!(error.source().is_none(), "the text says it all");
    }
    let nested = Error::from(MembershipError::from(AcquireError::UnknownLevel {
        owner: "job-17".into(),
        level: "moon".into(),
    }));
    says(&nested, "job-17 asked for level moon, which this manager does not have");
}

/// Names that somebody might have typed, or sent.
fn hostile() -> [String; 10] {
    [
        String::new(),
        " ".to_owned(),
        "\n".to_owned(),
        "a\r\nb\tc\0d\u{1b}[2J".to_owned(),
        "/".to_owned(),
        "../../etc".to_owned(),
        "[lockset]".to_owned(),
        "{name} %s {}".to_owned(),
        "n\u{e4}\u{301}\u{1f512}\u{202e}".to_owned(),
        "x".repeat(1 << 20),
    ]
}

mod names {
    use super::*;

    #[test]
    fn any_text_is_a_name_and_each_is_another_lock() {
        let set = LockSet::new("set", Membership::Listed, hostile()).unwrap();
        let owners = hostile().map(Owner::new);
        let guards: Vec<_> = hostile()
            .into_iter()
            .zip(&owners)
            .map(|(name, owner)| set.acquire(owner, exclusive(name)).now().unwrap())
            .collect();
        for (guard, name) in guards.iter().zip(hostile()) {
            assert_eq!(guard.holds(&name), Some(Exclusive));
        }
        assert_eq!(set.names().len(), hostile().len());
        drop(guards);
        set.remove(&owners[0], hostile().to_vec()).now().unwrap();
        assert!(set.names().is_empty());
    }

    #[test]
    fn any_text_names_a_lock_by_itself_an_owner_a_set_and_a_level() {
        for name in hostile() {
            let (lock, owner) = (SharedLock::new(name.as_str()), Owner::new(name.as_str()));
            assert_eq!((lock.name().name(), owner.name()), (name.as_str(), name.as_str()));
            assert!(lock.exclusive(&owner).now().is_ok() && admits(&lock, Exclusive));
            let level = LevelId::new(0, name.as_str());
            let builder = LockManager::builder().level(&level, [name.as_str()]);
            let manager = builder.root(name.as_str()).build().unwrap();
            let mut job = manager.session(name.as_str());
            job.acquire(level.exclusive(name.as_str())).now().unwrap();
            assert_eq!(job.holds(&level, &name), Some(Exclusive));
        }
    }

    #[test]
    fn no_name_breaks_the_line_of_an_error() {
        for name in hostile() {
            let set = LockSet::new(name.as_str(), Membership::Listed, [name.as_str()]).unwrap();
            let [first, second] = [0, 1].map(|_| Owner::new(name.as_str()));
            let _guard = set.acquire(&first, exclusive(name.as_str())).now().unwrap();
            let request = set.acquire(&second, shared(name.as_str()));
            let text = request.timeout(ms(2)).wait().unwrap_err().to_string();
            assert_eq!(text.lines().count(), 1);
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn names_of_another_case_or_form_are_other_names() {
        let set = LockSet::on_demand("set");
        let names = ["a", "A", "a ", "\u{e9}", "e\u{301}"];
        let owners = names.map(owner);
        let guards: Vec<_> = names
            .iter()
            .zip(&owners)
            .map(|(name, owner)| set.acquire(owner, exclusive(*name)).now().unwrap())
            .collect();
        assert_eq!((guards.len(), set.names().len()), (5, 5));
    }

    #[test]
    fn a_member_may_be_called_like_the_set_lock() {
        let set = LockSet::new("set", Membership::Listed, ["[lockset]", "a"]).unwrap();
        let [first, second] = ["first", "second"].map(owner);
        let _guard = set.acquire(&first, exclusive("[lockset]")).now().unwrap();
        assert!(set.acquire(&second, exclusive("a")).now().is_ok());
        assert!(set.acquire(&second, exclusive(["[lockset]", "a"])).now().is_err());
    }

    #[test]
    fn a_hundred_thousand_names_are_asked_for_at_once() {
        let names: Vec<_> = (0..100_000).map(|at| at.to_string()).collect();
        let set = LockSet::on_demand("set");
        let owner = owner("job");
        let guard = set.acquire(&owner, exclusive(names)).now().unwrap();
        assert_eq!(slots(&owner), 100_001);
        drop(guard);
        assert_eq!((slots(&owner), set.names().len()), (0, 0));
    }
}

/// Whatever a session is asked and refuses, it holds afterwards what it held before.
#[test]
fn no_refused_call_takes_or_loses_anything() {
    let (manager, mut job) = job();
    job.acquire(Node.exclusive("n1")).now().unwrap();
    let held = |job: &Session| (job.owned(Cluster), job.owned(Node), slots(job.owner()));
    let before = held(&job);
    let moon = LevelId::new(9, "moon");
    let requests: Vec<Vec<LevelRequest>> = vec![
        vec![moon.shared("a")],
        vec![Cluster.shared("BGL")],
        vec![Instance.shared("web1")],
        vec![Node.shared("n2")],
        vec![Network.exclusive("nope")],
        vec![Network.exclusive(ALL), moon.shared("a")],
        vec![Network.exclusive(ALL), Node.shared("n2")],
        vec![Network.shared(ALL).at_least(1)],
    ];
    for wanted in requests {
        assert!(job.acquire(wanted.clone()).now().is_err(), "{wanted:?}");
        assert!(job.acquire(wanted.clone()).wait().is_err(), "{wanted:?}");
        assert_eq!(held(&job), before, "{wanted:?}");
    }
    assert!(job.release(Cluster, "BGL").is_err() && job.keep(Node, "n2").is_err());
    assert!(job.downgrade(Node, ["n1", "n2"]).is_err() && job.upgrade(Node, "n2").wait().is_err());
    assert!(job.add(Node, ["n3", "n1"]).wait().is_err() && job.add(Cluster, "x").wait().is_err());
    assert!(job.remove(Node, "n2").wait().is_err() && job.remove(Instance, "web1").wait().is_err());
    assert_eq!(held(&job), before);
    assert_eq!(manager.names(Node).len(), 2);
}
