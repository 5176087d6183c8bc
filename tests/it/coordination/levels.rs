//! Levels of a manager that several members share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tierlock::coordination::Coordinator;
use tierlock::coordination::memory::{Call, Fate, Memory};
use tierlock::{
    ALL, AcquireError, BuildError, Error, HoldError, Level, LevelId, LockManager, MembershipError,
    Mode,
};

use crate::support::until;

const SOON: Duration = Duration::from_secs(10);

fn cluster() -> LevelId {
    LevelId::new(0, "cluster")
}

fn node() -> LevelId {
    LevelId::new(1, "node")
}

/// Managers of several members, that share both levels.
fn managers<const N: usize>(store: &str) -> [(Coordinator, LockManager); N] {
    let url = format!("memory:levels-{store}");
    std::array::from_fn(|at| {
        let member = Coordinator::connect(&url).join(&format!("worker-{at}")).unwrap();
        let manager = LockManager::builder()
            .fixed_level(cluster(), ["BIG"])
            .root("BIG")
            .level(node(), ["n1", "n2", "n3"])
            .cluster_wide(cluster(), &member)
            .cluster_wide(node(), &member)
            .build()
            .unwrap();
        (member, manager)
    })
}

#[test]
fn sessions_of_two_members_exclude_each_other_by_name() {
    let [(_a, here), (_b, there)] = managers("names");
    let (mut first, mut second) = (here.session("first"), there.session("second"));
    first.acquire([cluster().shared("BIG"), node().exclusive("n1")]).wait().unwrap();
    second.acquire([cluster().shared("BIG"), node().exclusive("n2")]).wait().unwrap();
    second.release(node(), ALL).unwrap();
    let refused = second.acquire(node().exclusive("n1")).now().unwrap_err();
    assert!(matches!(refused, AcquireError::WouldBlock { .. }), "{refused}");
    let timed_out =
        second.acquire(node().exclusive("n1")).timeout(Duration::from_millis(50)).wait();
    assert!(timed_out.unwrap_err().is_timeout());
    drop(first);
    second.acquire(node().exclusive("n1")).timeout(SOON).wait().unwrap();
    second.verify().unwrap();
}

#[test]
fn all_of_a_level_is_held_across_members() {
    let [(_a, here), (_b, there)] = managers("all");
    let (mut first, mut second) = (here.session("first"), there.session("second"));
    first.acquire([cluster().shared("BIG"), node().exclusive(ALL)]).wait().unwrap();
    second.acquire(cluster().shared("BIG")).wait().unwrap();
    assert!(second.acquire(node().shared("n3")).now().is_err());
    first.keep(node(), ["n1", "n2"]).unwrap();
    second.acquire(node().shared("n3")).timeout(SOON).wait().unwrap();
    second.release_all();
    second.acquire(cluster().shared("BIG")).wait().unwrap();
    assert!(second.acquire(node().shared("n1")).now().is_err());
    drop(first);
    second.acquire(node().shared("n1")).timeout(SOON).wait().unwrap();
}

#[test]
fn narrowing_gets_what_another_member_keeps_unused() {
    let [(_a, here), (_b, there)] = managers("narrow");
    let mut first = here.session("first");
    first.acquire([cluster().shared("BIG"), node().exclusive(["n1", "n2"])]).wait().unwrap();
    drop(first);
    let mut second = there.session("second");
    second.acquire([cluster().shared("BIG"), node().exclusive(ALL)]).timeout(SOON).wait().unwrap();
    second.release(node(), "n3").unwrap();
    assert_eq!(second.owned(node()), ["n1".into(), "n2".into()]);
    second.downgrade(node(), "n1").unwrap();
    second.verify().unwrap();
    let mut third = here.session("third");
    third.acquire([cluster().shared("BIG"), node().exclusive("n3")]).timeout(SOON).wait().unwrap();
}

#[test]
fn going_on_with_less_of_all_gets_what_another_member_keeps_unused() {
    let [(_a, here), (_b, there)] = managers("less-of-all");
    let mut first = here.session("first");
    first.acquire([cluster().shared("BIG"), node().exclusive(["n1", "n2"])]).wait().unwrap();
    drop(first);
    let mut second = there.session("second");
    second.acquire([cluster().shared("BIG"), node().exclusive(ALL)]).timeout(SOON).wait().unwrap();
    second.downgrade(node(), "n3").unwrap();
    let modes = ["n1", "n2", "n3"].map(|name| second.holds(node(), name));
    assert_eq!(modes, [Some(Mode::Exclusive), Some(Mode::Exclusive), Some(Mode::Shared)]);
    second.verify().unwrap();
}

#[test]
fn an_attempt_is_granted_what_nobody_has() {
    let [(_a, here)] = managers("attempt");
    let mut job = here.session("job");
    job.acquire([cluster().shared("BIG"), node().exclusive(["n1", "n2"])]).now().unwrap();
    job.release(node(), ALL).unwrap();
    job.acquire(node().shared(ALL)).now().unwrap();
    job.upgrade(node(), ALL).now().unwrap();
    assert_eq!(job.holds_all(node()), Some(Mode::Exclusive));
}

#[test]
fn what_is_free_in_the_whole_cluster_is_taken_opportunistically() {
    let [(_a, here), (_b, there)] = managers("opportunistic");
    let (mut first, mut second) = (here.session("first"), there.session("second"));
    first.acquire([cluster().shared("BIG"), node().exclusive("n2")]).wait().unwrap();
    let request = node().exclusive(ALL).opportunistic();
    second.acquire([cluster().shared("BIG"), request]).wait().unwrap();
    assert_eq!(second.owned(node()), ["n1".into(), "n3".into()]);
}

#[test]
fn a_name_is_upgraded_where_nobody_else_holds_it() {
    let [(_a, here), (_b, there)] = managers("upgrade");
    let (mut first, mut second) = (here.session("first"), there.session("second"));
    first.acquire([cluster().shared("BIG"), node().shared(["n1", "n2"])]).wait().unwrap();
    first.upgrade(node(), "n1").now().unwrap();
    assert_eq!(first.holds(node(), "n1"), Some(Mode::Exclusive));
    second.acquire([cluster().shared("BIG"), node().shared("n2")]).timeout(SOON).wait().unwrap();
    assert!(first.upgrade(node(), "n2").now().is_err());
    drop(second);
    first.upgrade(node(), "n2").timeout(SOON).wait().unwrap();
    first.verify().unwrap();
}

#[test]
fn an_upgrade_of_a_name_that_waits_is_not_refused_since_somebody_elsewhere_waits() {
    let [(_a, here), (_b, there)] = managers("upgrade-beside");
    let (mut first, mut second) = (here.session("first"), here.session("second"));
    let mut third = there.session("third");
    for session in [&mut first, &mut second] {
        session.acquire([cluster().shared("BIG"), node().shared("n1")]).wait().unwrap();
    }
    third.acquire(cluster().shared("BIG")).wait().unwrap();
    let upgrade = first.upgrade(node(), "n1").enqueue();
    let pending = third.acquire(node().exclusive("n1")).enqueue();
    // Longer than a member keeps what others want.
    assert!(!upgrade.wait_timeout(Duration::from_millis(50)));
    drop(second);
    assert!(upgrade.wait_timeout(SOON));
    upgrade.wait().unwrap();
    assert!(!pending.is_decided());
    drop(first);
    assert!(pending.wait_timeout(SOON));
    pending.wait().unwrap();
}

#[test]
fn an_upgrade_of_a_name_is_not_refused_since_somebody_elsewhere_waits() {
    let [(_a, here), (_b, there), (_c, elsewhere)] = managers("upgrade-first");
    let (mut first, mut second) = (here.session("first"), there.session("second"));
    let mut third = elsewhere.session("third");
    for session in [&mut first, &mut second] {
        session.acquire([cluster().shared("BIG"), node().shared("n1")]).wait().unwrap();
    }
    third.acquire(cluster().shared("BIG")).wait().unwrap();
    let pending = third.acquire(node().exclusive("n1")).enqueue();
    // The member heard of it, and lets nobody in.
    until(|| {
        let mut last = here.session("last");
        last.acquire([cluster().shared("BIG"), node().shared("n1")]).now().is_err()
    });
    let upgrade = first.upgrade(node(), "n1").enqueue();
    assert!(!upgrade.is_decided(), "{:?}", upgrade.wait());
    drop(second);
    assert!(upgrade.wait_timeout(SOON));
    upgrade.wait().unwrap();
    assert!(!pending.is_decided());
    drop(first);
    assert!(pending.wait_timeout(SOON));
    pending.wait().unwrap();
}

#[test]
fn tokens_grow_from_holder_to_holder_and_there_is_none_for_what_is_not_held() {
    let [(_a, here), (_b, there)] = managers("tokens");
    let mut last = 0;
    for round in 0..10 {
        let manager = if round % 2 == 0 { &here } else { &there };
        let mut job = manager.session("job");
        let wanted = [cluster().shared("BIG"), node().exclusive("n1")];
        job.acquire(wanted).timeout(SOON).wait().unwrap();
        let token = job.token(node(), "n1").unwrap().unwrap();
        assert!(token > last, "{token} after {last}");
        assert_eq!(job.token(node(), "n2").unwrap(), None);
        last = token;
    }
}

#[test]
fn tokens_grow_whether_a_name_is_held_by_itself_or_by_all_of_its_level() {
    let [(_a, here), (_b, there)] = managers("tokens-by-all");
    let mut last = 0;
    for round in 0..12 {
        let manager = if round % 2 == 0 { &here } else { &there };
        let mut job = manager.session("job");
        let node = if round % 3 == 0 { node().exclusive(ALL) } else { node().exclusive("n1") };
        job.acquire([cluster().shared("BIG"), node]).timeout(SOON).wait().unwrap();
        let token = job.token(self::node(), "n1").unwrap().unwrap();
        assert!(token > last, "{token} after {last} in round {round}");
        last = token;
    }
}

#[test]
fn loss_of_the_member_fails_every_session_that_relied_on_it() {
    let [(a, here), (_b, there)] = managers("lost");
    let (mut first, mut second) = (here.session("first"), there.session("second"));
    first.acquire([cluster().shared("BIG"), node().exclusive("n1")]).wait().unwrap();
    second.acquire(cluster().shared("BIG")).wait().unwrap();
    let pending = second.acquire(node().exclusive("n1")).enqueue();
    a.leave().unwrap();
    assert!(first.verify().unwrap_err().is_lost());
    assert!(pending.wait_timeout(SOON));
    let grant = pending.wait().unwrap();
    assert!(grant.abandoned()[0].owner.contains("worker-0"), "{:?}", grant.abandoned());
    first.release(node(), ALL).unwrap();
    let error = first.acquire(node().shared("n2")).now().unwrap_err();
    assert!(matches!(error, AcquireError::Coordination { .. }), "{error}");
    let error = here.session("late").acquire(cluster().shared("BIG")).wait().unwrap_err();
    assert!(matches!(error, AcquireError::Coordination { .. }), "{error}");
}

#[test]
fn names_on_demand_are_given_back_when_there_are_many() {
    let url = "memory:levels-on-demand";
    let [a, b] = ["a", "b"].map(|name| Coordinator::connect(url).join(name).unwrap());
    let [here, there] = [&a, &b].map(|member| {
        let builder = LockManager::builder().on_demand_level(LevelId::new(0, "path"));
        builder.cluster_wide(LevelId::new(0, "path"), member).build().unwrap()
    });
    let path = LevelId::new(0, "path");
    for name in 0..2000 {
        here.session("job").acquire(path.exclusive(format!("p{name}"))).wait().unwrap();
    }
    let mut job = there.session("job");
    job.acquire(path.exclusive(["p0", "p1999"])).timeout(SOON).wait().unwrap();
    drop(job);
    here.session("job").acquire(path.exclusive(["p0"])).timeout(SOON).wait().unwrap();
}

#[test]
fn a_manager_is_not_built_over_a_level_that_its_member_has_already() {
    let member = Coordinator::connect("memory:").join("worker").unwrap();
    let build = || {
        let builder = LockManager::builder().level(LevelId::new(0, "node"), ["n1"]);
        builder.cluster_wide(LevelId::new(0, "node"), &member).build()
    };
    let first = build().unwrap();
    assert!(matches!(build(), Err(BuildError::Coordination(_))));
    drop(first);
    build().unwrap();
    let builder = LockManager::builder().level(LevelId::new(0, "node"), ["n1"]);
    let error = builder.cluster_wide(LevelId::new(0, "volume"), &member).build().unwrap_err();
    assert!(matches!(error, BuildError::UnknownLevel { .. }), "{error}");
}

#[test]
fn names_are_added_and_removed_by_each_manager_for_itself() {
    let [(_a, here), (_b, there)] = managers("members");
    let mut job = here.session("job");
    job.acquire(cluster().shared("BIG")).wait().unwrap();
    job.add(node(), "n4").wait().unwrap();
    let refused = job.add_held(node(), "n5").wait().unwrap_err();
    assert!(matches!(refused, MembershipError::HeldAcross { .. }), "{refused}");
    job.acquire(node().exclusive(["n3", "n4"])).wait().unwrap();
    job.remove(node(), ["n3", "n4"]).wait().unwrap();
    job.release_all();
    job.acquire([cluster().shared("BIG"), node().exclusive(ALL)]).wait().unwrap();
    job.remove(node(), ["n2"]).wait().unwrap();
    drop(job);
    let mut job = there.session("job");
    let wanted = [cluster().shared("BIG"), node().exclusive(["n2", "n3"])];
    job.acquire(wanted).timeout(SOON).wait().unwrap();
}

#[test]
fn random_sessions_of_four_members_end_and_exclude() -> Result<(), Error> {
    let members: [(Coordinator, LockManager); 4] = managers("random");
    let counters = [const { AtomicU64::new(0) }; 3];
    let names = ["n1", "n2", "n3"];
    let rounds = 150;
    let exclusive = AtomicU64::new(0);
    thread::scope(|scope| {
        for (at, (_, manager)) in members.iter().enumerate() {
            let (counters, exclusive) = (&counters, &exclusive);
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut job = manager.session(format!("job-{at}-{round}"));
                    let which = (at * 7 + round * 5) % 11;
                    let request = match which {
                        0 => node().exclusive(ALL),
                        1 => node().shared(ALL),
                        2..6 => node().exclusive([names[which % 3], names[(which + 1) % 3]]),
                        _ => node().shared(names[which % 3]),
                    };
                    let wanted = [cluster().shared("BIG"), request];
                    job.acquire(wanted).timeout(SOON).wait().unwrap();
                    job.verify().unwrap();
                    for (name, counter) in names.iter().zip(counters) {
                        if job.holds(node(), name) == Some(Mode::Exclusive) {
                            let before = counter.load(Ordering::Relaxed);
                            thread::yield_now();
                            counter.store(before + 1, Ordering::Relaxed);
                            exclusive.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let counted: u64 = counters.into_iter().map(AtomicU64::into_inner).sum();
    assert_eq!(counted, exclusive.into_inner());
    Ok(())
}

#[test]
fn a_name_that_cannot_be_stored_is_an_error_and_held_by_nobody() {
    let (path, host) = (LevelId::new(0, "path"), LevelId::new(1, "host"));
    let member = Coordinator::connect("memory:").join("worker").unwrap();
    let manager = LockManager::builder()
        .on_demand_level(&path)
        .level(&host, ["h1"])
        .cluster_wide(&path, &member)
        .cluster_wide(&host, &member)
        .build()
        .unwrap();
    for name in [String::new(), "x".repeat(2_000), "/".repeat(400)] {
        let mut job = manager.session("job");
        for names in [vec![name.clone()], vec!["fits".into(), name.clone()]] {
            let waited = job.acquire(path.exclusive(&names)).wait().unwrap_err();
            let tried = job.acquire(path.exclusive(&names)).now().unwrap_err();
            for refused in [waited, tried] {
                assert!(matches!(refused, AcquireError::Coordination { .. }), "{refused}");
                assert!(refused.to_string().contains("job"), "{refused}");
            }
        }
        let planned = manager.plan([path.exclusive(&name)]).unwrap_err();
        assert!(matches!(planned, AcquireError::Coordination { .. }), "{planned}");
        let added = job.add(&host, &*name).wait().unwrap_err();
        let unfit = |error: &AcquireError| matches!(error, AcquireError::Coordination { .. });
        assert!(matches!(&added, MembershipError::Acquire(error) if unfit(error)), "{added}");
        assert_eq!(manager.names(&host), ["h1".into()]);
        // What is picked from is what can be had.
        job.acquire(path.exclusive(["fits", &name]).opportunistic()).wait().unwrap();
        assert_eq!(job.owned(&path), ["fits".into()]);
    }
}

#[test]
fn what_cannot_be_had_by_itself_out_of_all_is_an_error_that_says_why_and_all_is_held_as_before() {
    let (memory, world) = Memory::simulated(1);
    let node = || LevelId::new(0, "node");
    let member = Coordinator::over(Arc::new(memory)).ttl(Duration::from_secs(1_000_000));
    let member = member.join("worker").unwrap();
    let builder = LockManager::builder().level(node(), ["n1", "n2"]);
    let manager = builder.cluster_wide(node(), &member).build().unwrap();
    let mut job = manager.session("job");
    job.acquire(node().exclusive(ALL)).wait().unwrap();
    world.interpose(|call, _| match call {
        Call::Swap { .. } => Fate::IsLost,
        _ => Fate::Arrives,
    });
    for refused in [job.keep(node(), "n1"), job.downgrade(node(), "n1"), job.release(node(), "n2")]
    {
        assert!(matches!(refused, Err(HoldError::Coordination { .. })), "{refused:?}");
        assert_eq!(job.holds_all(node()), Some(Mode::Exclusive));
    }
    world.calm();
    job.keep(node(), Vec::<String>::new()).unwrap();
    assert_eq!(job.holds(node(), "n1"), None);
}
