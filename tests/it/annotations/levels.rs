//! Locks by name at a level, of a session or of a manager, and levels that are derived.

use tierlock::ganeti::{self, Level::*};
use tierlock::{
    AcquireError, BuildError, Error, Level, Levels, LockManager, Membership, MembershipError, Mode,
    Owner, Session, ssynchronized,
};

use super::refusal;
use crate::support::Waiter;

fn cluster() -> LockManager {
    ganeti::manager(["web1", "web2"], ["default"], ["n1", "n2"], ["lan"]).build().unwrap()
}

mod sessions {
    use super::*;

    #[ssynchronized("BGL", in = job.at(Cluster), shared)]
    #[ssynchronized("{node}", in = job.at(Node))]
    fn reboot<T>(
        job: &mut Session,
        node: &str,
        then: impl FnOnce(&mut Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        then(job)
    }

    #[test]
    fn a_session_knows_what_is_held_for_it_until_it_is_given_back() {
        let mut job = cluster().session("job-17");
        reboot(&mut job, "n1", |job| {
            assert_eq!(job.holds(Cluster, "BGL"), Some(Mode::Shared));
            assert_eq!(job.holds(Node, "n1"), Some(Mode::Exclusive));
            assert_eq!(job.owned(Node), ["n1".into()]);
            assert_eq!((job.holds(Node, "n2"), job.holds_all(Node)), (None, None));
            Ok(())
        })
        .unwrap();
        assert_eq!((job.holds(Cluster, "BGL"), job.holds(Node, "n1")), (None, None));
    }

    #[test]
    fn a_session_takes_levels_in_order_with_what_is_held_for_it() {
        let mut job = cluster().session("job-17");
        reboot(&mut job, "n1", |job| {
            job.acquire(NodeRes.exclusive("n1")).wait()?;
            let wrong = job.acquire(Instance.exclusive("web1")).wait().unwrap_err();
            assert!(matches!(wrong, AcquireError::OutOfOrder { .. }), "{wrong}");
            job.release(NodeRes, "n1")?;
            let wrong = job.acquire(Instance.exclusive("web1")).wait().unwrap_err();
            assert!(matches!(wrong, AcquireError::OutOfOrder { .. }), "{wrong}");
            let wrong = job.acquire(Node.exclusive("n2")).wait().unwrap_err();
            assert!(matches!(wrong, AcquireError::AlreadyHeld { .. }), "{wrong}");
            let wrong = job.add(Node, "n3").wait().unwrap_err();
            assert!(matches!(wrong, MembershipError::Acquire(AcquireError::AlreadyHeld { .. })));
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn an_empty_name_is_said_to_be_one_of_its_level() {
        #[ssynchronized("{node}", in = cluster.at(Node))]
        fn visit(cluster: &LockManager, node: &str) -> Result<(), Error> {
            Ok(())
        }

        let (cluster, job) = (cluster(), Owner::new("job-17"));
        let mut session = cluster.session("job-18");
        let by_manager = refusal(job.sync_scope(|| visit(&cluster, ""))).to_string();
        let by_session = refusal(reboot(&mut session, "", |_| Ok(()))).to_string();
        assert!(by_manager.contains("node/"), "{by_manager}");
        assert!(by_session.contains("node/"), "{by_session}");
    }

    #[test]
    fn what_a_session_holds_counts_for_annotations() {
        #[ssynchronized("{instance}", in = job.at(Instance))]
        fn stop(job: &mut Session, instance: &str) -> Result<(), Error> {
            Ok(())
        }

        let mut job = cluster().session("job-17");
        assert!(matches!(refusal(stop(&mut job, "web1")), AcquireError::RootNotHeld { .. }));
        job.acquire(Cluster.shared("BGL")).wait().unwrap();
        stop(&mut job, "web1").unwrap();
        job.acquire(Node.exclusive("n1")).wait().unwrap();
        assert!(matches!(refusal(stop(&mut job, "web1")), AcquireError::OutOfOrder { .. }));
    }

    #[test]
    fn annotations_out_of_order_are_refused_when_it_comes_to_it() {
        #[ssynchronized("{node}", in = job.at(Node))]
        #[ssynchronized("{instance}", in = job.at(Instance))]
        fn wrong(job: &mut Session, node: &str, instance: &str) -> Result<(), Error> {
            Ok(())
        }

        let mut job = cluster().session("job-17");
        job.acquire(Cluster.shared("BGL")).wait().unwrap();
        let error = refusal(wrong(&mut job, "n1", "web1"));
        assert!(matches!(error, AcquireError::OutOfOrder { .. }), "{error}");
        assert_eq!(job.holds(Node, "n1"), None);
    }

    #[test]
    fn a_panic_releases_and_the_next_holder_hears_of_it() {
        let manager = cluster();
        let mut job = manager.session("hasty");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = reboot(&mut job, "n1", |_| -> Result<(), Error> { panic!("half way") });
        }));
        assert!(panicked.is_err());
        let mut next = manager.session("next");
        next.acquire(Cluster.shared("BGL")).now().unwrap();
        let grant = next.acquire(Node.exclusive("n1")).now().unwrap();
        assert_eq!(&*grant.abandoned()[0].owner, "hasty");
    }

    #[test]
    fn an_async_function_takes_a_sessions_level_too() {
        struct Job {
            job: Session,
        }

        impl Job {
            #[ssynchronized("BGL", in = self.job.at(Cluster), shared)]
            #[ssynchronized("{node}", in = self.job.at(Node), timeout = "1s")]
            async fn migrate(&mut self, node: &str) -> Result<Option<Mode>, Error> {
                std::future::ready(()).await;
                Ok(self.job.holds(Node, node))
            }
        }

        fn sent<T: Send>(value: T) -> T {
            value
        }

        let mut job = Job { job: cluster().session("job-17") };
        assert_eq!(pollster::block_on(sent(job.migrate("n1"))).unwrap(), Some(Mode::Exclusive));
        assert_eq!(job.job.holds(Node, "n1"), None);
    }
}

mod managers {
    use super::*;

    /// Two services that call each other, and know of no session.
    #[ssynchronized("BGL", in = manager.at(Cluster), shared)]
    fn with_cluster<T>(
        manager: &LockManager,
        then: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        then()
    }

    #[ssynchronized("{node}", in = manager.at(Node))]
    fn with_node<T>(
        manager: &LockManager,
        node: &str,
        then: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        then()
    }

    #[ssynchronized("{instance}", in = manager.at(Instance), now)]
    fn with_instance(manager: &LockManager, instance: &str) -> Result<(), Error> {
        Ok(())
    }

    #[ssynchronized("{node}", in = manager.at(Node), owner = owner, now)]
    fn node_as(manager: &LockManager, owner: &Owner, node: &str) -> Result<(), Error> {
        Ok(())
    }

    #[test]
    fn what_one_owner_holds_in_calls_is_taken_in_order() {
        let manager = cluster();
        let error = refusal(with_node(&manager, "n1", || Ok(())));
        assert!(matches!(error, AcquireError::RootNotHeld { .. }), "{error}");
        with_cluster(&manager, || with_instance(&manager, "web1")).unwrap();
        let error = refusal(with_cluster(&manager, || {
            with_node(&manager, "n1", || with_instance(&manager, "web1"))
        }));
        assert!(matches!(error, AcquireError::OutOfOrder { .. }), "{error}");
        let again = || with_node(&manager, "n1", || with_node(&manager, "n2", || Ok(())));
        let error = refusal(with_cluster(&manager, again));
        assert!(matches!(error, AcquireError::AlreadyHeld { .. }), "{error}");
    }

    #[test]
    fn owners_are_told_apart_and_forgotten_when_they_left() {
        let manager = cluster();
        let other = Owner::new("other");
        let error = refusal(with_cluster(&manager, || node_as(&manager, &other, "n1")));
        assert!(matches!(error, AcquireError::RootNotHeld { .. }), "{error}");
        with_cluster(&manager, || other.sync_scope(|| with_cluster(&manager, || Ok(())))).unwrap();
        let text = format!("{manager:?}");
        assert!(text.contains("visitors: Visitors(Mutex { data: {} })"), "{text}");
    }

    #[test]
    fn threads_exclude_one_another() {
        let manager = cluster();
        let (own, other) = (manager.clone(), manager.clone());
        let waiter = with_cluster(&manager, || {
            with_node(&manager, "n1", || {
                let waiter = Waiter::begin("waiter", move |owner| {
                    owner.sync_scope(|| with_cluster(&own, || with_node(&own, "n1", || Ok(()))))
                });
                assert!(!waiter.is_through());
                let snapshot = other.monitor().snapshot();
                assert_eq!(snapshot.row("node/n1").unwrap().owners.len(), 1);
                Ok(waiter)
            })
        });
        waiter.unwrap().join().unwrap();
    }
}

mod derived {
    use super::*;

    #[derive(Level)]
    enum Tier {
        #[level(root = "BIG", fixed)]
        Cluster,
        #[level(name = "customers")]
        Tenant,
        IPAddress,
        #[level(on_demand)]
        BlockDevice2,
    }

    #[test]
    fn ranks_are_as_declared_and_names_in_kebab_case_or_given() {
        let levels: Vec<_> = Tier::LEVELS.iter().map(|l| (l.rank(), l.name().to_owned())).collect();
        let names = ["cluster", "customers", "ip-address", "block-device2"];
        assert_eq!(levels, names.map(str::to_owned).into_iter().enumerate().collect::<Vec<_>>());
    }

    #[test]
    fn a_manager_is_built_as_the_levels_declare() {
        let manager = LockManager::builder()
            .levels(|tier| match tier {
                Tier::Tenant => vec!["acme"],
                Tier::BlockDevice2 => panic!("a level on demand has no names yet"),
                Tier::Cluster | Tier::IPAddress => vec![],
            })
            .build()
            .unwrap();
        let mut job = manager.session("job-17");
        let refused = job.acquire(Tier::Tenant.shared("acme")).now().unwrap_err();
        assert!(matches!(refused, AcquireError::RootNotHeld { .. }));
        job.acquire(Tier::Cluster.shared("BIG")).now().unwrap();
        let fixed = job.add(Tier::Cluster, "other").now().unwrap_err();
        assert!(matches!(
            fixed,
            MembershipError::NotModifiable { membership: Membership::Fixed, .. }
        ));
        job.add(Tier::IPAddress, "10.0.0.1").now().unwrap();
        job.acquire(Tier::BlockDevice2.exclusive("sda")).now().unwrap();
    }

    #[test]
    fn a_root_that_is_given_as_well_is_there_once() {
        let manager = LockManager::builder().levels(|tier| match tier {
            Tier::Cluster => vec!["BIG"],
            _ => vec![],
        });
        assert_eq!(manager.build().unwrap().names(Tier::Cluster), ["BIG".into()]);
        let twice = LockManager::builder().levels(|_: &Tier| ["a", "a"]).build().unwrap_err();
        assert!(matches!(twice, BuildError::DuplicateName { .. }));
    }

    #[test]
    fn levels_that_are_not_derived_are_left_to_the_run_time() {
        enum ByHand {
            Second,
            First,
        }

        impl Level for ByHand {
            fn rank(&self) -> usize {
                match self {
                    Self::First => 0,
                    Self::Second => 1,
                }
            }

            fn name(&self) -> &str {
                match self {
                    Self::First => "first",
                    Self::Second => "second",
                }
            }
        }

        #[ssynchronized("a", in = manager.at(ByHand::First))]
        #[ssynchronized("b", in = manager.at(ByHand::Second))]
        fn right(manager: &LockManager) -> Result<(), Error> {
            Ok(())
        }

        #[ssynchronized("b", in = manager.at(ByHand::Second))]
        #[ssynchronized("a", in = manager.at(ByHand::First))]
        fn wrong(manager: &LockManager) -> Result<(), Error> {
            Ok(())
        }

        #[ssynchronized("BIG", in = manager.at(Tier::Cluster), shared)]
        #[ssynchronized("sda", in = manager.at(Tier::BlockDevice2))]
        fn derived(manager: &LockManager) -> Result<(), Error> {
            Ok(())
        }

        let builder = LockManager::builder().on_demand_level(ByHand::First);
        let manager = builder.on_demand_level(ByHand::Second).build().unwrap();
        right(&manager).unwrap();
        assert!(matches!(refusal(wrong(&manager)), AcquireError::OutOfOrder { .. }));
        let manager = LockManager::builder().levels(|_: &Tier| [""; 0]).build().unwrap();
        derived(&manager).unwrap();
    }

    #[test]
    fn ganetis_levels_say_the_same_of_themselves_as_its_constants() {
        assert_eq!(ganeti::Level::LEVELS, ganeti::LEVELS);
        assert_eq!(ganeti::Level::ROOT, Some(ganeti::BGL));
        let listed = |level: &&ganeti::Level| level.membership() == Membership::Listed;
        let listed: Vec<_> = ganeti::LEVELS.iter().filter(listed).copied().collect();
        assert_eq!(listed, ganeti::MODIFIABLE_LEVELS);
    }
}
