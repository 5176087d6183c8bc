//! The rules between levels, and what a session holds of them. In which order it gives back: `traps`, T3.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tierlock::Mode::{Exclusive, Shared};
use tierlock::{
    ALL, AcquireError, BuildError, HoldError, Level, LevelId, LockManager, MembershipError, Owner,
    Plan, Session, UpgradeError, ganeti,
};

use crate::support::{LONG, Waiter, ms, now, on_a_slow_machine, panic_holding, slots, until};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Cluster,
    Instance,
    Node,
    Path,
}

use Tier::{Cluster, Instance, Node, Path};

impl Level for Tier {
    fn rank(&self) -> usize {
        *self as usize
    }

    fn name(&self) -> &str {
        ["cluster", "instance", "node", "path"][self.rank()]
    }
}

/// Two locks at the level of the root, two instances, three nodes, and paths on demand.
fn manager() -> LockManager {
    LockManager::builder()
        .level(Cluster, ["BIG", "side"])
        .root("BIG")
        .level(Instance, ["web1", "web2"])
        .level(Node, ["n1", "n2", "n3"])
        .on_demand_level(Path)
        .build()
        .expect("a sound description")
}

/// A session that holds the root shared.
fn rooted(manager: &LockManager, name: &str) -> Session {
    let mut session = manager.session(name);
    session.acquire(Cluster.shared("BIG")).now().expect("nobody holds the root exclusively");
    session
}

/// Tells whether another session could have this now.
fn admits<const COUNT: usize>(
    manager: &LockManager,
    wanted: [tierlock::LevelRequest; COUNT],
) -> bool {
    rooted(manager, "observer").acquire(wanted).now().is_ok()
}

fn text(names: &[Arc<str>]) -> String {
    names.join(" ")
}

/// What is held at each level.
fn holds(session: &Session) -> String {
    let levels = [Cluster, Instance, Node, Path].into_iter().flat_map(|level| {
        let names = session.owned(level).into_iter();
        names.map(move |name| match session.holds(level, &name) {
            Some(Exclusive) => format!("{name}:x"),
            Some(Shared) => format!("{name}:s"),
            other => panic!("{name} is listed, but held {other:?}"),
        })
    });
    levels.collect::<Vec<_>>().join(" ")
}

fn slots_of(session: &Session) -> usize {
    slots(session.owner())
}

mod order {
    use super::*;

    #[test]
    fn a_level_is_not_taken_while_something_deeper_is_held() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.shared("n1")).now().unwrap();
        for refused in
            [job.acquire(Instance.shared("web1")).now(), job.acquire(Instance.shared(ALL)).wait()]
        {
            let Err(AcquireError::OutOfOrder { wanted, held, mode, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(
                (&*wanted, held.to_string().as_str(), mode),
                ("instance", "node/n1", Shared)
            );
        }
        assert_eq!(holds(&job), "BIG:s n1:s");
    }

    #[test]
    fn once_what_is_deeper_was_given_back_one_may_go_up_again() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.shared(["n1", "n2"])).now().unwrap();
        job.release(Node, "n1").unwrap();
        assert!(job.acquire(Instance.shared("web1")).now().is_err());
        job.release(Node, "n2").unwrap();
        job.acquire(Instance.shared("web1")).now().unwrap();
        assert_eq!(holds(&job), "BIG:s web1:s");
    }

    #[test]
    fn a_level_is_acquired_once_at_a_time() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.exclusive(["n1", "n2"])).now().unwrap();
        for wanted in [Node.shared("n3"), Node.exclusive("n1"), Node.shared(ALL).opportunistic()] {
            let refused = job.acquire(wanted).wait();
            let Err(AcquireError::AlreadyHeld { lock, held, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!((lock.to_string().as_str(), held), ("node/n1", Some(Exclusive)));
        }
        // Having given a part back is not having given everything back.
        job.release(Node, "n2").unwrap();
        assert!(job.acquire(Node.shared("n2")).now().is_err());
        job.release(Node, "n1").unwrap();
        assert!(job.acquire(Node.shared("n2")).now().is_ok());
    }

    #[test]
    fn asking_for_no_names_takes_nothing_and_does_not_count_as_holding() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.exclusive([""; 0])).now().unwrap();
        assert_eq!(slots_of(&job), 2);
        job.acquire([Instance.shared("web1"), Node.shared([""; 0])]).now().unwrap();
        job.acquire(Node.shared("n1")).now().unwrap();
        assert_eq!(holds(&job), "BIG:s web1:s n1:s");
    }

    #[test]
    fn all_of_an_empty_level_counts_as_holding_it() {
        let manager =
            LockManager::builder().level(Cluster, ["a"]).level(Instance, [""; 0]).build().unwrap();
        let mut job = manager.session("job");
        job.acquire(Instance.shared(ALL)).now().unwrap();
        assert_eq!(job.holds_all(Instance), Some(Shared));
        assert!(matches!(
            job.acquire(Cluster.shared("a")).now(),
            Err(AcquireError::OutOfOrder { .. })
        ));
    }

    #[test]
    fn an_opportunistic_request_that_got_nothing_does_not_count_as_holding() {
        let manager = manager();
        let mut other = rooted(&manager, "other");
        other.acquire(Node.exclusive(ALL)).now().unwrap();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.shared(ALL).opportunistic()).wait().unwrap();
        job.acquire(Instance.shared("web1")).now().unwrap();
        assert_eq!(holds(&job), "BIG:s web1:s");
    }

    #[test]
    fn levels_asked_for_together_are_asked_for_in_order_and_once() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        for wanted in [
            [Node.shared("n1"), Instance.shared("web1")],
            [Node.shared("n1"), Node.shared("n2")],
            [Node.shared("n1"), Node.shared([""; 0])],
        ] {
            let refused = job.acquire(wanted).now();
            assert!(matches!(refused, Err(AcquireError::OutOfOrder { .. })), "{refused:?}");
        }
        assert_eq!(holds(&job), "BIG:s");
    }
}

mod root {
    use super::*;

    #[test]
    fn nothing_is_taken_before_it() {
        let manager = manager();
        let mut job = manager.session("job");
        for wanted in [Node.shared("n1"), Instance.exclusive(ALL), Cluster.shared("side")] {
            let refused = job.acquire(wanted).now();
            let Err(AcquireError::RootNotHeld { root, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(root.to_string(), "cluster/BIG");
        }
        assert_eq!(slots_of(&job), 0);
    }

    #[test]
    fn it_may_be_taken_in_either_mode_by_name_or_with_all_or_in_the_same_request() {
        let manager = manager();
        for root in [Cluster.shared("BIG"), Cluster.exclusive(["BIG", "side"]), Cluster.shared(ALL)]
        {
            let mut job = manager.session("job");
            job.acquire(root.clone()).now().unwrap();
            job.acquire(Node.shared("n1")).now().unwrap();
            job.release_all();
            job.acquire([root, Node.shared("n1")]).now().unwrap();
            assert!(job.holds(Node, "n1").is_some());
        }
    }

    #[test]
    fn it_is_given_back_last() {
        let manager = manager();
        let mut job = manager.session("job");
        job.acquire([Cluster.exclusive(["BIG", "side"]), Path.shared("/etc")]).now().unwrap();
        for refused in [
            job.release(Cluster, "BIG"),
            job.release(Cluster, ALL),
            job.keep(Cluster, "side"),
            job.keep(Cluster, [""; 0]),
        ] {
            let Err(HoldError::RootNeeded { root, held, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(
                (root.to_string(), held.to_string()),
                ("cluster/BIG".into(), "path//etc".into())
            );
        }
        assert_eq!(holds(&job), "BIG:x side:x /etc:s");
        job.release(Cluster, "side").unwrap();
        job.release(Path, ALL).unwrap();
        job.release(Cluster, "BIG").unwrap();
        assert_eq!(slots_of(&job), 0);
    }

    #[test]
    fn it_stays_when_all_of_its_level_is_narrowed_to_it() {
        let manager = manager();
        let mut job = manager.session("job");
        job.acquire([Cluster.exclusive(ALL), Node.shared("n1")]).now().unwrap();
        assert!(job.release(Cluster, "BIG").is_err());
        job.release(Cluster, "side").unwrap();
        assert_eq!(holds(&job), "BIG:x n1:s");
        job.downgrade(Cluster, "BIG").unwrap();
        assert_eq!(holds(&job), "BIG:s n1:s");
    }

    #[test]
    fn an_opportunistic_request_does_not_stand_for_it() {
        let manager = manager();
        let mut alone = manager.session("alone");
        alone.acquire(Cluster.exclusive("BIG")).now().unwrap();
        let mut job = manager.session("job");
        for wanted in [
            vec![Cluster.shared("BIG").opportunistic(), Node.exclusive("n1")],
            vec![Cluster.shared(ALL).opportunistic(), Node.exclusive("n1")],
            vec![Cluster.shared(["BIG", "side"]).at_least(1)],
        ] {
            let refused = job.acquire(wanted).now();
            assert!(matches!(refused, Err(AcquireError::RootNotHeld { .. })), "{refused:?}");
            assert_eq!(slots_of(&job), 0);
        }
        // By itself it either is had or nothing is.
        job.acquire(Cluster.shared("BIG").opportunistic()).now().unwrap();
        assert_eq!(slots_of(&job), 0);
        drop(alone);
        job.acquire(Cluster.shared("BIG").opportunistic()).now().unwrap();
        assert_eq!(holds(&job), "BIG:s");
    }

    #[test]
    fn it_is_not_removed() {
        let manager = manager();
        let mut job = manager.session("job");
        job.acquire([Cluster.exclusive(ALL), Node.shared("n1")]).now().unwrap();
        for refused in [
            job.remove(Cluster, "BIG").now(),
            job.remove(Cluster, ALL).now(),
            job.remove(Cluster, ["BIG", "side"]).wait(),
        ] {
            assert!(matches!(refused, Err(MembershipError::RootStays { .. })), "{refused:?}");
        }
        job.remove(Cluster, "side").now().unwrap();
        assert_eq!(text(&manager.names(Cluster)), "BIG");
    }

    #[test]
    fn held_exclusively_it_does_not_change_the_rules() {
        let manager = manager();
        let mut job = manager.session("job");
        job.acquire([Cluster.exclusive("BIG"), Node.shared("n1")]).now().unwrap();
        assert!(job.acquire(Instance.shared("web1")).now().is_err());
        assert!(job.acquire(Node.shared("n2")).now().is_err());
    }

    #[test]
    fn a_manager_without_one_has_no_rule_about_it() {
        let manager =
            LockManager::builder().level(Cluster, ["a"]).level(Instance, ["b"]).build().unwrap();
        let mut job = manager.session("job");
        job.acquire(Instance.shared("b")).now().unwrap();
        job.release_all();
        job.acquire([Cluster.shared("a"), Instance.shared("b")]).now().unwrap();
        job.release(Cluster, "a").unwrap();
        assert!(job.holds(Instance, "b").is_some());
    }
}

mod together {
    use super::*;

    #[test]
    fn several_levels_are_granted_whole() {
        let manager = manager();
        let mut job = manager.session("job");
        let wanted = [
            Cluster.shared("BIG"),
            Instance.exclusive(["web2", "web1"]),
            Node.shared(ALL),
            Path.exclusive("/etc"),
        ];
        job.acquire(wanted).priority(-5).timeout(LONG).wait().unwrap();
        assert_eq!(holds(&job), "BIG:s web1:x web2:x n1:s n2:s n3:s /etc:x");
        assert_eq!((job.holds_all(Node), job.holds_all(Instance)), (Some(Shared), None));
    }

    #[test]
    fn refused_at_the_third_level_nothing_of_it_is_kept_and_nothing_held_before_is_lost() {
        let manager = manager();
        let mut other = rooted(&manager, "other");
        other.acquire(Path.exclusive("/etc")).now().unwrap();
        let mut job = manager.session("job");
        job.acquire(Cluster.shared(["BIG", "side"])).now().unwrap();
        let wanted = || [Instance.exclusive("web1"), Node.exclusive(ALL), Path.shared("/etc")];
        for refused in [job.acquire(wanted()).now(), job.acquire(wanted()).timeout(ms(10)).wait()] {
            assert!(refused.unwrap_err().is_transient());
            assert_eq!(holds(&job), "BIG:s side:s");
            assert!(admits(&manager, [Instance.exclusive(ALL), Node.exclusive(ALL)]));
        }
        assert_eq!(slots_of(&job), 3);
    }

    #[test]
    fn a_name_that_is_not_there_at_the_last_level_is_known_before_anything_is_taken() {
        let manager = manager();
        let mut all = rooted(&manager, "all");
        all.acquire(Instance.exclusive(ALL)).now().unwrap();
        let mut job = manager.session("job");
        // With what stands in the way it would wait for ever.
        let refused = job
            .acquire([Cluster.shared("BIG"), Instance.shared("web1"), Node.shared("nope")])
            .wait();
        let Err(AcquireError::NotFound { lock, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!((lock.to_string().as_str(), slots_of(&job)), ("node/nope", 0));
    }

    #[test]
    fn one_wake_up_ends_the_wait_for_all_levels() {
        let manager = manager();
        let mut first = rooted(&manager, "first");
        first.acquire(Instance.exclusive("web1")).now().unwrap();
        let mut second = rooted(&manager, "second");
        second.acquire(Node.exclusive("n2")).now().unwrap();
        let waiter = {
            let manager = manager.clone();
            let owner = Owner::new("waiter");
            let session = manager.session_of(owner.clone());
            Waiter::of(&owner, move || {
                let mut session = session;
                let wanted =
                    [Cluster.shared("BIG"), Instance.exclusive(ALL), Node.shared(["n1", "n2"])];
                session.acquire(wanted).timeout(LONG).wait().map(|_| session)
            })
        };
        assert!(!admits(&manager, [Instance.shared("web2")]));
        drop(first);
        // Handed on to the next level by whoever released the first, it goes on waiting there.
        assert!(!admits(&manager, [Node.exclusive("n1")]));
        assert!(!waiter.is_through());
        drop(second);
        assert_eq!(slots(&waiter.owner), 6);
        assert_eq!(holds(&waiter.join().unwrap()), "BIG:s web1:x web2:x n1:s n2:s");
    }

    #[test]
    fn one_budget_of_time_serves_all_levels() {
        // A budget for each level would last longer by what was waited for at the first.
        assert!(on_a_slow_machine(|budget| {
            let manager = manager();
            let [first, _second] =
                [Instance.exclusive("web1"), Node.exclusive("n1")].map(|wanted| {
                    let mut session = rooted(&manager, "holder");
                    session.acquire(wanted).now().unwrap();
                    session
                });
            let begun = now();
            let waiter = Waiter::begin("waiter", {
                let manager = manager.clone();
                let wanted = [Cluster.shared("BIG"), Instance.shared("web1"), Node.shared("n1")];
                move |owner| {
                    manager.session_of(owner.clone()).acquire(wanted).timeout(budget).wait()
                }
            });
            until(|| begun.elapsed() > budget * 2 / 3);
            let at_the_first = begun.elapsed();
            drop(first);
            let Err(AcquireError::TimedOut { lock, waited, .. }) = waiter.join() else { panic!() };
            assert!(waited >= budget);
            lock.name() == "n1" && waited < at_the_first + budget
        }));
    }

    #[test]
    fn asking_for_nothing_at_all_is_granted() {
        let manager = manager();
        let mut job = manager.session("job");
        job.acquire([]).wait().unwrap();
        job.acquire(manager.plan([]).unwrap()).now().unwrap();
        assert_eq!(slots_of(&job), 0);
    }
}

mod plans {
    use super::*;

    fn plan(manager: &LockManager) -> Plan {
        let wanted =
            [Cluster.shared("BIG"), Instance.exclusive(["web2", "web1"]), Node.shared(ALL)];
        manager.plan(wanted).unwrap()
    }

    #[test]
    fn a_plan_is_acquired_again_and_again_by_any_session() {
        let manager = manager();
        let plan = plan(&manager);
        for name in ["job-1", "job-2"] {
            let mut job = manager.session(name);
            for _ in 0..3 {
                job.acquire(&plan).priority(3).wait().unwrap();
                assert_eq!(holds(&job), "BIG:s web1:x web2:x n1:s n2:s n3:s");
                job.release_all();
            }
        }
    }

    #[test]
    fn a_plan_serves_many_threads_at_once() {
        let manager = manager();
        let plan = plan(&manager);
        let alone = AtomicBool::new(true);
        thread::scope(|scope| {
            for at in 0..4 {
                let (manager, plan, alone) = (&manager, plan.clone(), &alone);
                scope.spawn(move || {
                    let mut job = manager.session(format!("thread-{at}"));
                    for _ in 0..100 {
                        job.acquire(&plan).wait().unwrap();
                        assert!(alone.swap(false, Ordering::SeqCst));
                        alone.store(true, Ordering::SeqCst);
                        job.release_all();
                    }
                });
            }
        });
    }

    #[test]
    fn a_plan_obeys_the_rules_of_the_session_that_uses_it() {
        let manager = manager();
        let nodes = manager.plan([Node.shared("n1")]).unwrap();
        let mut job = manager.session("job");
        assert!(matches!(job.acquire(&nodes).now(), Err(AcquireError::RootNotHeld { .. })));
        job.acquire(Cluster.shared("BIG")).now().unwrap();
        job.acquire(&nodes).now().unwrap();
        assert!(matches!(job.acquire(&nodes).now(), Err(AcquireError::AlreadyHeld { .. })));
    }

    #[test]
    fn a_plan_does_not_name_a_lock_that_is_gone() {
        let manager = manager();
        let plan = plan(&manager);
        rooted(&manager, "remover").remove(Instance, "web2").now().unwrap();
        let mut job = manager.session("job");
        let refused = job.acquire(&plan).wait();
        let Err(AcquireError::NotFound { owner, lock, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((&*owner, lock.to_string().as_str()), ("job", "instance/web2"));
        assert_eq!(slots_of(&job), 0);
    }

    #[test]
    fn a_plan_finds_a_name_that_was_created_again() {
        let manager = manager();
        let plan = plan(&manager);
        let mut other = rooted(&manager, "other");
        other.remove(Instance, "web2").now().unwrap();
        other.add_held(Instance, "web2").now().unwrap();
        let mut job = manager.session("job");
        // The lock that has the name now is the other's.
        assert!(matches!(job.acquire(&plan).now(), Err(AcquireError::WouldBlock { .. })));
        drop(other);
        job.acquire(&plan).now().unwrap();
        assert!(!admits(&manager, [Instance.shared("web2")]));
    }

    #[test]
    fn a_plan_for_all_of_a_level_has_whatever_is_there_when_it_is_used() {
        let manager = manager();
        let plan = plan(&manager);
        rooted(&manager, "other").add(Node, "n4").now().unwrap();
        let mut job = manager.session("job");
        job.acquire(&plan).now().unwrap();
        assert_eq!(text(&job.owned(Node)), "n1 n2 n3 n4");
    }

    #[test]
    fn a_plan_out_of_order_is_not_made() {
        let manager = manager();
        for wanted in
            [[Node.shared("n1"), Instance.shared("web1")], [Node.shared("n1"), Node.shared("n2")]]
        {
            assert!(matches!(manager.plan(wanted), Err(AcquireError::OutOfOrder { .. })));
        }
    }

    #[test]
    fn a_plan_for_what_is_not_there_is_not_made() {
        let manager = manager();
        assert!(matches!(manager.plan([Node.shared("nope")]), Err(AcquireError::NotFound { .. })));
        assert!(matches!(
            manager.plan([LevelId::new(9, "moon").shared("n1")]),
            Err(AcquireError::UnknownLevel { .. })
        ));
    }

    #[test]
    fn a_plan_of_another_manager_is_refused_though_the_levels_are_called_alike() {
        let (manager, twin) = (manager(), manager());
        let plan = plan(&twin);
        let mut job = manager.session("job");
        let refused = job.acquire(&plan).wait();
        assert!(matches!(refused, Err(AcquireError::UnknownLevel { .. })), "{refused:?}");
        assert_eq!(slots_of(&job), 0);
        // Clones of a manager are the same manager.
        twin.clone().session("other").acquire(&plan).now().unwrap();
    }

    #[test]
    fn a_plan_keeps_its_names_on_demand_in_being() {
        let manager = manager();
        let plan = manager.plan([Cluster.shared("BIG"), Path.exclusive(["/etc", "/usr"])]).unwrap();
        manager.session("job").acquire(&plan).now().unwrap();
        assert_eq!(text(&manager.names(Path)), "/etc /usr");
        drop(plan);
        assert!(manager.names(Path).is_empty());
    }

    #[test]
    fn a_plan_and_its_session_outlive_the_manager() {
        let (mut job, plan) = {
            let manager = manager();
            (manager.session("job"), plan(&manager))
        };
        job.acquire(&plan).now().unwrap();
        assert_eq!(holds(&job), "BIG:s web1:x web2:x n1:s n2:s n3:s");
    }
}

mod giving_back {
    use super::*;

    #[test]
    fn dropping_a_session_gives_everything_back() {
        let manager = manager();
        let mut job = manager.session("job");
        job.acquire([Cluster.exclusive("BIG"), Instance.exclusive(ALL), Path.exclusive("/etc")])
            .now()
            .unwrap();
        drop(job);
        let mut next = manager.session("next");
        next.acquire([Cluster.exclusive(ALL), Instance.exclusive(ALL), Path.exclusive(ALL)])
            .now()
            .unwrap();
    }

    #[test]
    fn giving_everything_back_leaves_a_session_as_good_as_new() {
        let manager = manager();
        let mut job = manager.session("job");
        for _ in 0..3 {
            job.acquire([Cluster.exclusive("BIG"), Node.exclusive(ALL)]).now().unwrap();
            job.release_all();
            assert_eq!((slots_of(&job), holds(&job).as_str()), (0, ""));
        }
    }

    #[test]
    fn parts_of_a_level_are_given_back_while_deeper_ones_are_held() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire([Instance.exclusive(ALL), Node.shared("n1")]).now().unwrap();
        job.keep(Instance, "web1").unwrap();
        assert_eq!(holds(&job), "BIG:s web1:x n1:s");
        assert!(admits(&manager, [Instance.exclusive("web2")]));
        job.downgrade(Instance, "web1").unwrap();
        assert!(admits(&manager, [Instance.shared(ALL)]));
        job.release(Instance, ALL).unwrap();
        assert_eq!(holds(&job), "BIG:s n1:s");
    }

    #[test]
    fn what_is_not_held_is_named_and_nothing_changes() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.exclusive(["n1", "n2"])).now().unwrap();
        let expected = [
            (job.release(Node, ["n1", "n3"]), "node/n3"),
            (job.keep(Node, ["n1", "nope"]), "node/nope"),
            (job.downgrade(Node, "n3"), "node/n3"),
            (job.release(Instance, "web1"), "instance/web1"),
            (job.keep(Instance, "web1"), "instance/web1"),
            (job.downgrade(Instance, ALL), "instance/[lockset]"),
        ];
        for (refused, name) in expected {
            let Err(HoldError::NotHeld { owner, lock }) = refused else { panic!("{refused:?}") };
            assert_eq!((&*owner, lock.to_string().as_str()), ("job", name));
        }
        assert_eq!(holds(&job), "BIG:s n1:x n2:x");
        // Of no names nothing is asked.
        job.release(Instance, [""; 0]).unwrap();
        job.keep(Instance, [""; 0]).unwrap();
    }

    #[test]
    fn a_session_moves_between_threads_with_what_it_holds() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.exclusive("n1")).now().unwrap();
        let job = thread::spawn(move || {
            job.downgrade(Node, "n1").unwrap();
            job
        });
        let job = job.join().unwrap();
        assert_eq!(holds(&job), "BIG:s n1:s");
        thread::spawn(move || drop(job)).join().unwrap();
        assert!(admits(&manager, [Node.exclusive("n1")]));
    }
}

mod stronger {
    use super::*;

    #[test]
    fn what_comes_last_may_be_waited_for() {
        let manager = manager();
        let mut reader = rooted(&manager, "reader");
        reader.acquire(Node.shared("n2")).now().unwrap();
        let owner = Owner::new("job");
        let mut job = manager.session_of(owner.clone());
        job.acquire([Cluster.shared("BIG"), Node.shared(["n1", "n2"])]).now().unwrap();
        let waiter = Waiter::of(&owner, move || {
            let upgraded = job.upgrade(Node, ALL).timeout(LONG).wait();
            upgraded.map(|()| job)
        });
        assert!(!admits(&manager, [Node.shared("n2")]));
        drop(reader);
        assert_eq!(holds(&waiter.join().unwrap()), "BIG:s n1:x n2:x");
    }

    #[test]
    fn what_has_something_deeper_behind_it_is_tried_but_not_waited_for() {
        let manager = manager();
        let mut reader = rooted(&manager, "reader");
        reader.acquire(Instance.shared("web1")).now().unwrap();
        let mut job = rooted(&manager, "job");
        job.acquire([Instance.shared(["web1", "web2"]), Path.shared("/etc")]).now().unwrap();
        let refused = job.upgrade(Instance, "web1").wait().unwrap_err();
        assert!(matches!(refused, UpgradeError::WouldDeadlock { .. }), "{refused}");
        let refused = job.upgrade(Instance, "web1").now().unwrap_err();
        assert!(matches!(refused, UpgradeError::Acquire(_)), "{refused}");
        job.upgrade(Instance, "web2").wait().unwrap();
        assert_eq!(holds(&job), "BIG:s web1:s web2:x /etc:s");
    }

    #[test]
    fn the_root_is_upgraded_while_nothing_else_is_held() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.upgrade(Cluster, "BIG").wait().unwrap();
        assert_eq!(holds(&job), "BIG:x");
    }
}

mod members {
    use super::*;

    #[test]
    fn a_name_held_is_removed_though_deeper_levels_are_held() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire([Instance.exclusive("web1"), Node.exclusive(ALL)]).now().unwrap();
        job.remove(Instance, "web1").now().unwrap();
        assert_eq!(
            (text(&manager.names(Instance)).as_str(), holds(&job).as_str()),
            ("web2", "BIG:s n1:x n2:x n3:x")
        );
        // Nothing of the level is left, so that it counts as not held.
        assert!(admits(&manager, [Instance.exclusive(ALL)]));
    }

    #[test]
    fn names_of_a_level_not_held_are_changed_only_while_nothing_deeper_is_held() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.shared("n1")).now().unwrap();
        for refused in [
            job.add(Instance, "web3").now(),
            job.add_held(Instance, "web3").now(),
            job.remove(Instance, "web1").wait(),
        ] {
            let Err(MembershipError::Acquire(refused)) = refused else { panic!("{refused:?}") };
            assert!(matches!(refused, AcquireError::OutOfOrder { .. }), "{refused}");
        }
        job.release(Node, ALL).unwrap();
        job.add(Instance, "web3").now().unwrap();
        job.remove(Instance, ["web1", "web3"]).now().unwrap();
        assert_eq!(text(&manager.names(Instance)), "web2");
    }

    #[test]
    fn names_are_changed_only_with_the_root() {
        let manager = manager();
        let mut job = manager.session("job");
        for refused in [job.add(Instance, "web3").now(), job.remove(Instance, "web1").now()] {
            let Err(MembershipError::Acquire(refused)) = refused else { panic!("{refused:?}") };
            assert!(matches!(refused, AcquireError::RootNotHeld { .. }), "{refused}");
        }
    }

    #[test]
    fn names_added_held_are_held_with_what_was_held_before() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Instance.exclusive("web1")).now().unwrap();
        job.add_held(Instance, ["web0", "web3"]).now().unwrap();
        assert_eq!(holds(&job), "BIG:s web0:x web1:x web3:x");
        assert!(!admits(&manager, [Instance.shared("web3")]));
    }

    #[test]
    fn names_added_free_do_not_count_as_holding_the_level() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.add(Instance, "web3").now().unwrap();
        assert_eq!((holds(&job).as_str(), slots_of(&job)), ("BIG:s", 2));
        job.acquire(Instance.exclusive("web3")).now().unwrap();
    }

    #[test]
    fn a_change_that_has_to_wait_waits_and_a_try_does_not() {
        let manager = manager();
        let mut all = rooted(&manager, "all");
        all.acquire(Instance.shared(ALL)).now().unwrap();
        let mut job = rooted(&manager, "job");
        let refused = job.add(Instance, "web3").now();
        assert!(matches!(refused, Err(MembershipError::Acquire(AcquireError::WouldBlock { .. }))));
        let refused = job.remove(Instance, "web1").timeout(ms(5)).wait();
        assert!(matches!(refused, Err(MembershipError::Acquire(AcquireError::TimedOut { .. }))));
        assert_eq!(holds(&job), "BIG:s");
        let adder = Waiter::of(&job.owner().clone(), move || job.add(Instance, "web3").wait());
        drop(all);
        adder.join().unwrap();
        assert_eq!(text(&manager.names(Instance)), "web1 web2 web3");
    }
}

mod levels {
    use super::*;

    #[test]
    fn one_that_the_manager_does_not_have_is_named_by_every_call() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        // Too deep, or of another name at its rank.
        for level in
            [LevelId::new(4, "moon"), LevelId::new(2, "moon"), LevelId::new(usize::MAX, "moon")]
        {
            let acquire = job.acquire(level.shared("a")).now().map(drop);
            let upgrade = job.upgrade(&level, "a").now();
            let held = [
                job.release(&level, "a"),
                job.keep(&level, "a"),
                job.downgrade(&level, "a"),
                upgrade.map_err(|error| match error {
                    UpgradeError::Hold(error) => error,
                    other => panic!("{other}"),
                }),
            ];
            for refused in held {
                let Err(HoldError::UnknownLevel { level, .. }) = refused else {
                    panic!("{refused:?}")
                };
                assert_eq!(&*level, "moon");
            }
            let changed = [job.add(&level, "a").now(), job.remove(&level, "a").now()];
            let asked = changed.into_iter().map(|refused| match refused {
                Err(MembershipError::Acquire(error)) => Err(error),
                other => panic!("{other:?}"),
            });
            for refused in asked.chain([acquire]) {
                let Err(AcquireError::UnknownLevel { level, .. }) = refused else {
                    panic!("{refused:?}")
                };
                assert_eq!(&*level, "moon");
            }
            assert_eq!(job.holds(&level, "a"), None);
            assert_eq!(job.holds_all(&level), None);
            assert!(job.owned(&level).is_empty() && manager.names(&level).is_empty());
        }
        assert_eq!(holds(&job), "BIG:s");
    }

    #[test]
    fn levels_known_at_run_time_are_as_good() {
        let names = ["cluster", "tenant", "volume"];
        let levels = names.iter().enumerate().map(|(rank, name)| LevelId::new(rank, *name));
        // In whatever order they are described.
        let builder = levels.rev().fold(LockManager::builder(), |b, level| b.level(level, ["a"]));
        let manager = builder.build().unwrap();
        let [cluster, tenant, volume] = names.map(|name| manager.level(name).unwrap());
        let mut job = manager.session("job");
        job.acquire([cluster.shared("a"), volume.shared("a")]).now().unwrap();
        assert!(matches!(
            job.acquire(tenant.shared("a")).now(),
            Err(AcquireError::OutOfOrder { .. })
        ));
        assert_eq!(manager.level("moon"), None);
    }

    #[test]
    fn a_manager_is_not_made_of_levels_that_do_not_add_up() {
        let level = |rank, name: &'static str| LevelId::new(rank, name);
        let build = |levels: Vec<LevelId>| {
            let builder =
                levels.into_iter().fold(LockManager::builder(), |b, level| b.level(level, ["a"]));
            builder.build().map(drop)
        };
        assert_eq!(
            build(vec![level(0, "a"), level(2, "b")]),
            Err(BuildError::MissingRank { rank: 1 })
        );
        assert_eq!(
            build(vec![level(0, "a"), level(0, "b")]),
            Err(BuildError::DuplicateLevel { level: "b".into(), rank: 0 })
        );
        assert_eq!(
            build(vec![level(0, "a"), level(1, "a")]),
            Err(BuildError::DuplicateLevel { level: "a".into(), rank: 1 })
        );
        let twice = LockManager::builder().level(level(0, "a"), ["x", "x"]).build();
        assert!(matches!(twice, Err(BuildError::DuplicateName { .. })));
    }

    #[test]
    fn the_root_has_to_be_listed_at_the_first_level() {
        let level = |rank| LevelId::new(rank, format!("level-{rank}"));
        for builder in [
            LockManager::builder(),
            LockManager::builder().on_demand_level(level(0)),
            LockManager::builder().level(level(0), ["a"]),
            LockManager::builder().level(level(0), ["a"]).level(level(1), ["BIG"]),
        ] {
            assert!(matches!(builder.root("BIG").build(), Err(BuildError::NoRoot { .. })));
        }
    }

    #[test]
    fn a_level_on_demand_has_any_name() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Path.exclusive(["/usr", "/etc"])).now().unwrap();
        assert_eq!(holds(&job), "BIG:s /etc:x /usr:x");
        assert!(!admits(&manager, [Path.shared("/etc")]));
        assert!(matches!(job.add(Path, "/var").now(), Err(MembershipError::NotModifiable { .. })));
        drop(job);
        assert!(manager.names(Path).is_empty());
    }
}

mod ganetis {
    use super::*;
    use ganeti::Level as Ganeti;

    fn manager() -> LockManager {
        ganeti::manager(["web1"], ["default"], ["n1", "n2"], ["net1"]).build().unwrap()
    }

    #[test]
    fn it_has_seven_levels_in_this_order() {
        let names: Vec<_> = ganeti::LEVELS.iter().map(|level| level.name().to_owned()).collect();
        let expected =
            ["cluster", "instance", "node-alloc", "nodegroup", "node", "node-res", "network"];
        assert_eq!(names, expected);
        assert!(ganeti::LEVELS.iter().enumerate().all(|(rank, level)| level.rank() == rank));
        let manager = manager();
        assert!(expected.iter().all(|name| manager.level(name).is_some()));
    }

    #[test]
    fn it_begins_with_these_names() {
        let manager = manager();
        let names = ganeti::LEVELS.map(|level| text(&manager.names(level)));
        assert_eq!(names, ["BGL", "web1", "NAL", "default", "n1 n2", "n1 n2", "net1"]);
    }

    #[test]
    fn only_some_levels_can_be_changed() {
        let manager = manager();
        let mut job = manager.session("job");
        job.acquire(Ganeti::Cluster.shared(ganeti::BGL)).now().unwrap();
        for level in ganeti::LEVELS {
            let added = job.add(level, "new").now();
            if ganeti::MODIFIABLE_LEVELS.contains(&level) {
                added.unwrap();
                job.remove(level, "new").now().unwrap();
            } else {
                assert!(matches!(added, Err(MembershipError::NotModifiable { .. })), "{level:?}");
                let removed = job.remove(level, manager.names(level)).now();
                assert!(matches!(removed, Err(MembershipError::NotModifiable { .. })), "{level:?}");
            }
        }
    }

    #[test]
    fn nodes_and_their_resources_are_independent() {
        let manager = manager();
        let mut job = manager.session("job");
        job.acquire([Ganeti::Cluster.shared("BGL"), Ganeti::Node.exclusive("n1")]).now().unwrap();
        let mut other = manager.session("other");
        let wanted = [Ganeti::Cluster.shared("BGL"), Ganeti::NodeRes.exclusive(["n1", "n2"])];
        other.acquire(wanted).now().unwrap();
        job.add(Ganeti::Node, "n3").now().unwrap();
        assert_eq!(manager.names(Ganeti::NodeRes).len(), 2);
    }

    #[test]
    fn a_job_goes_through_all_seven() {
        let manager = manager();
        let mut job = manager.session("job");
        job.acquire(Ganeti::Cluster.shared(ganeti::BGL)).now().unwrap();
        for level in &ganeti::LEVELS[1..] {
            job.acquire(level.exclusive(ALL)).now().unwrap();
        }
        assert!(ganeti::LEVELS[1..].iter().all(|level| job.holds_all(level) == Some(Exclusive)));
        job.release_all();
        assert_eq!(slots_of(&job), 0);
    }
}

mod owners {
    use super::*;

    #[test]
    fn two_sessions_of_one_owner_hold_a_level_once() {
        let manager = manager();
        let owner = Owner::new("job");
        let [mut first, mut second] =
            [manager.session_of(owner.clone()), manager.session_of(owner.clone())];
        first.acquire(Cluster.shared("BIG")).now().unwrap();
        for refused in [
            second.acquire(Cluster.shared("BIG")).now(),
            second.acquire(Cluster.shared(ALL)).wait(),
        ] {
            assert!(matches!(refused, Err(AcquireError::AlreadyHeld { .. })), "{refused:?}");
        }
        drop(first);
        second.acquire(Cluster.shared("BIG")).now().unwrap();
    }

    #[test]
    fn a_session_holds_nothing_that_it_was_not_asked_for() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.exclusive("n1")).now().unwrap();
        // The root and its set-lock, the node and its set-lock.
        assert_eq!(slots_of(&job), 4);
        assert_eq!((job.holds(Node, "n2"), job.holds(Instance, "web1")), (None, None));
    }
}

mod abandoned {
    use super::*;

    fn told(session: &mut Session, wanted: [tierlock::LevelRequest; 3]) -> Vec<String> {
        let grant = session.acquire(wanted).now().unwrap();
        grant.abandoned().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_next_exclusive_holder_is_told_of_every_level_once() {
        let manager = manager();
        let mut hasty = rooted(&manager, "hasty");
        hasty.acquire([Instance.exclusive(["web1", "web2"]), Node.shared("n1")]).now().unwrap();
        hasty.acquire(Path.exclusive("/etc")).now().unwrap();
        hasty.downgrade(Instance, "web2").unwrap();
        panic_holding(hasty);
        let mut reader = rooted(&manager, "reader");
        assert!(
            told(&mut reader, [Instance.shared(ALL), Node.shared(ALL), Path.shared("/etc")])
                .is_empty()
        );
        drop(reader);
        let wanted = || [Instance.exclusive(ALL), Node.exclusive(ALL), Path.exclusive("/etc")];
        let expected = ["instance/web1 was abandoned by hasty", "path//etc was abandoned by hasty"];
        let mut next = rooted(&manager, "next");
        assert_eq!(told(&mut next, wanted()), expected);
        drop(next);
        assert!(told(&mut rooted(&manager, "after"), wanted()).is_empty());
    }

    #[test]
    fn a_session_opened_while_unwinding_abandons_nothing() {
        struct TidiesUp(LockManager);
        impl Drop for TidiesUp {
            fn drop(&mut self) {
                rooted(&self.0, "destructor").acquire(Node.exclusive(ALL)).now().unwrap();
            }
        }
        let manager = manager();
        panic_holding(TidiesUp(manager.clone()));
        let wanted = [Instance.exclusive(ALL), Node.exclusive(ALL), Path.exclusive(ALL)];
        assert!(told(&mut rooted(&manager, "next"), wanted).is_empty());
    }
}

#[test]
fn a_session_shows_what_it_holds() {
    let manager = manager();
    let mut job = rooted(&manager, "job");
    job.acquire(Node.shared(["n1", "n2"])).now().unwrap();
    let shown = format!("{job:?}");
    let expected = r#"Session { owner: "job", cluster: ["BIG"], node: ["n1", "n2"], .. }"#;
    assert_eq!(shown, expected);
    assert_eq!(job.holds(Node, "n1"), Some(Shared));
}
