//! Seeing every lock: what a snapshot shows, and what it never shows.

mod agreement;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tierlock::monitor::{Field, Fields, Group, Provider, Row, Snapshot};
use tierlock::{
    ALL, Guard, Level, LevelId, LockManager, LockMonitor, LockSet, Membership, Mode, Owner,
    SharedLock, exclusive, shared,
};

use crate::support::{LONG, Waiter, ms, panic_holding, until, waits};

fn watching(locks: &[&SharedLock]) -> LockMonitor {
    let monitor = LockMonitor::new();
    locks.iter().for_each(|lock| monitor.register(*lock));
    monitor
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot.rows().iter().map(|row| row.name.to_string()).collect()
}

fn owners(row: &Row) -> Vec<(&str, Mode)> {
    row.owners.iter().map(|holder| (holder.owner.name(), holder.mode)).collect()
}

fn members(group: &Group) -> Vec<&str> {
    group.members.iter().map(|waiting| waiting.owner.name()).collect()
}

/// Waits until a snapshot shows so many waiting for this lock, and returns it.
#[track_caller]
fn when_awaited(monitor: &LockMonitor, lock: &str, count: usize) -> Snapshot {
    let awaited = |snapshot: &Snapshot| {
        let row = snapshot.row(lock).expect("it is registered");
        row.pending.iter().map(|group| group.members.len()).sum::<usize>() == count
    };
    let mut snapshot = monitor.snapshot();
    until(|| {
        snapshot = monitor.snapshot();
        awaited(&snapshot)
    });
    snapshot
}

#[test]
fn a_snapshot_shows_every_holder_and_every_waiter() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let (first, tenth) = (Owner::new("job-1"), Owner::new("job-10"));
    let held = [lock.shared(&tenth).now().unwrap(), lock.shared(&first).now().unwrap()];
    let writer = waits(&lock, "writer", Mode::Exclusive, |a| a.timeout(LONG));
    let urgent = waits(&lock, "urgent", Mode::Exclusive, |a| a.timeout(LONG).priority(-3));
    let readers =
        ["reader-10", "reader-9"].map(|n| waits(&lock, n, Mode::Shared, |a| a.timeout(LONG)));

    let snapshot = when_awaited(&monitor, "config", 4);
    let row = snapshot.row("config").unwrap();
    assert_eq!(row.mode, Some(Mode::Shared));
    assert_eq!(owners(row), [("job-1", Mode::Shared), ("job-10", Mode::Shared)]);
    let pending: Vec<_> = row.pending.iter().map(|g| (g.mode, g.priority, members(g))).collect();
    assert_eq!(
        pending,
        [
            (Mode::Exclusive, -3, vec!["urgent"]),
            (Mode::Exclusive, 0, vec!["writer"]),
            (Mode::Shared, 0, vec!["reader-9", "reader-10"]),
        ]
    );
    assert!(!row.deleted && row.abandoned.is_none() && !row.unsettled && !row.is_free());

    drop(held);
    drop(urgent.join());
    drop(writer.join());
    readers.into_iter().for_each(|reader| drop(reader.join()));
    assert!(monitor.snapshot().row("config").unwrap().is_free());
}

#[test]
fn the_time_waited_grows_while_somebody_waits() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let owner = Owner::new("job-1");
    let held = lock.exclusive(&owner).now().unwrap();
    let waiter = waits(&lock, "job-2", Mode::Shared, |a| a.timeout(LONG));
    let waited = || monitor.snapshot().rows()[0].pending[0].members[0].waited;
    until(|| waited() >= ms(2));
    let before = waited();
    until(|| waited() > before);
    drop(held);
    drop(waiter.join());
}

#[test]
fn who_waits_for_a_stronger_mode_is_shown_with_the_one_it_keeps() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let (first, second) = (Owner::new("job-1"), Owner::new("job-2"));
    let other = lock.shared(&second).now().unwrap();
    let mut guard: Guard<'static> = lock.shared(&first).now().unwrap().into_owned();
    let waiter = Waiter::of(&first, move || guard.upgrade().timeout(LONG).wait().map(|()| guard));

    let snapshot = when_awaited(&monitor, "config", 1);
    let row = snapshot.row("config").unwrap();
    assert_eq!(owners(row), [("job-1", Mode::Shared), ("job-2", Mode::Shared)]);
    assert_eq!((row.pending[0].from, row.pending[0].mode), (Some(Mode::Shared), Mode::Exclusive));
    assert_eq!(members(&row.pending[0]), ["job-1"]);

    drop(other);
    let guard = waiter.join().unwrap();
    assert_eq!(owners(&monitor.snapshot().rows()[0]), [("job-1", Mode::Exclusive)]);
    drop(guard);
}

#[test]
fn a_manager_shows_all_its_levels_with_their_set_locks() {
    let (tenant, volume) = (LevelId::new(0, "tenant"), LevelId::new(1, "volume"));
    let manager =
        LockManager::builder().level(&tenant, ["b", "a"]).on_demand_level(&volume).build().unwrap();
    let monitor = manager.monitor();
    let mut job = manager.session("job-17");
    job.acquire([tenant.shared("a"), volume.exclusive(["v10", "v2"])]).now().unwrap();
    let snapshot = monitor.snapshot();
    let all =
        ["tenant/[lockset]", "tenant/a", "tenant/b", "volume/[lockset]", "volume/v2", "volume/v10"];
    assert_eq!(names(&snapshot), all);
    let modes: Vec<_> = snapshot.rows().iter().map(|row| row.mode).collect();
    let (shared, exclusive) = (Some(Mode::Shared), Some(Mode::Exclusive));
    let intents = (Some(Mode::IntentShared), Some(Mode::IntentExclusive));
    assert_eq!(modes, [intents.0, shared, None, intents.1, exclusive, exclusive]);
    drop(job);
    assert_eq!(names(&monitor.snapshot()), all[..4], "what was there on demand is gone");
}

#[test]
fn a_set_held_as_a_whole_shows_its_owner_at_the_set_lock_alone() {
    let set = LockSet::new("nodes", Membership::Listed, ["n1", "n2"]).unwrap();
    let monitor = LockMonitor::new();
    monitor.register(&set);
    let owner = Owner::new("job");
    let _guard = set.acquire(&owner, exclusive(ALL)).now().unwrap();
    let held = monitor.snapshot().held();
    assert_eq!(names(&held), ["nodes/[lockset]"]);
    assert_eq!(owners(&held.rows()[0]), [("job", Mode::Exclusive)]);
}

#[test]
fn rows_are_in_natural_order_and_set_locks_among_them() {
    let set =
        LockSet::new("node", Membership::Listed, ["node10", "node2", "Z", "node09", "a"]).unwrap();
    let (late, early) = (SharedLock::new("x10"), SharedLock::new("x9"));
    let monitor = watching(&[&late, &early]);
    monitor.register(&set);
    let expected = [
        "x9",
        "x10",
        "node/Z",
        "node/[lockset]",
        "node/a",
        "node/node2",
        "node/node09",
        "node/node10",
    ];
    assert_eq!(names(&monitor.snapshot()), expected);
    let snapshot = monitor.snapshot();
    assert!(snapshot.rows().is_sorted_by_key(|row| &row.name));
}

#[test]
fn rows_of_one_name_stand_in_the_order_of_registration() {
    let locks: Vec<_> = (0..5).map(|_| SharedLock::new("config")).collect();
    let all: Vec<_> = [3, 1, 4, 0, 2].map(|at| &locks[at]).into();
    let monitor = watching(&all);
    let owners: Vec<_> = (0..5).map(|at| Owner::new(format!("job-{at}"))).collect();
    let guards = std::iter::zip(&locks, &owners).map(|(lock, owner)| lock.shared(owner).now());
    let _guards: Vec<_> = guards.map(Result::unwrap).collect();
    let snapshot = monitor.snapshot();
    let shown: Vec<_> = snapshot.rows().iter().map(|row| row.owners[0].owner.name()).collect();
    assert_eq!(shown, ["job-3", "job-1", "job-4", "job-0", "job-2"]);
}

#[test]
fn registering_again_changes_nothing() {
    let (lock, set) = (SharedLock::new("config"), LockSet::on_demand("paths"));
    let monitor = watching(&[&lock, &lock.clone(), &lock]);
    monitor.register(&set);
    monitor.register(&set.clone());
    assert_eq!(names(&monitor.snapshot()), ["config", "paths/[lockset]"]);
}

#[test]
fn what_nobody_refers_to_drops_out() {
    let monitor = LockMonitor::new();
    let stays = SharedLock::new("stays");
    monitor.register(&stays);
    for round in 0..200 {
        monitor.register(&SharedLock::new(format!("lock-{round}")));
        monitor.register(&LockSet::on_demand(format!("set-{round}")));
    }
    assert_eq!(names(&monitor.snapshot()), ["stays"]);
    let goes = SharedLock::new("goes");
    monitor.register(&goes);
    assert_eq!(names(&monitor.snapshot()), ["goes", "stays"]);
    drop(goes);
    assert_eq!(names(&monitor.snapshot()), ["stays"]);
    assert_eq!(format!("{monitor:?}"), "LockMonitor { registered: 1 }");
}

#[test]
fn a_deleted_lock_still_referred_to_shows_as_deleted() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    lock.delete(&Owner::new("job")).now().unwrap();
    let snapshot = monitor.snapshot();
    let row = snapshot.row("config").unwrap();
    assert!(row.deleted && row.is_free());
    assert!(snapshot.to_string().lines().any(|line| line.starts_with("config  deleted")));
    drop(lock);
    assert!(monitor.snapshot().rows().is_empty());
}

#[test]
fn a_name_removed_from_its_set_is_not_shown_any_more() {
    let set = LockSet::new("nodes", Membership::Listed, ["n1", "n2"]).unwrap();
    let monitor = LockMonitor::new();
    monitor.register(&set);
    let owner = Owner::new("job");
    set.remove(&owner, "n1").now().unwrap();
    set.add(&owner, "n3").now().unwrap();
    assert_eq!(names(&monitor.snapshot()), ["nodes/[lockset]", "nodes/n2", "nodes/n3"]);
}

#[test]
fn an_abandoned_lock_names_who_abandoned_it_until_the_next_holder_is_told() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let (hasty, next) = (Owner::new("hasty"), Owner::new("next"));
    panic_holding(lock.exclusive(&hasty).now().unwrap());
    let by = || monitor.snapshot().rows()[0].abandoned.clone();
    assert_eq!(by().as_deref(), Some("hasty"));
    drop(lock.shared(&next).now().unwrap());
    assert_eq!(by().as_deref(), Some("hasty"), "a shared holder is not told");
    drop(lock.exclusive(&next).now().unwrap());
    assert_eq!(by(), None);
}

#[test]
fn what_was_not_asked_for_is_not_shown() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let owner = Owner::new("job-1");
    let held = lock.exclusive(&owner).now().unwrap();
    let waiter = waits(&lock, "job-2", Mode::Shared, |a| a.timeout(LONG));
    drop(when_awaited(&monitor, "config", 1));
    for bits in 0..16 {
        let fields: Fields =
            Field::ALL.into_iter().filter(|f| bits & (1 << *f as u8) != 0).collect();
        let snapshot = monitor.query(fields);
        let row = &snapshot.rows()[0];
        assert_eq!(snapshot.fields(), fields);
        assert_eq!(row.mode.is_some(), fields.contains(Field::Mode));
        assert_eq!(row.owners.len(), usize::from(fields.contains(Field::Owner)));
        assert_eq!(row.pending.len(), usize::from(fields.contains(Field::Pending)));
        assert_eq!(snapshot.to_string().lines().count(), 2);
    }
    drop(held);
    drop(waiter.join());
}

/// Shows the same rows each time.
struct Fixed(Vec<Row>);

impl Provider for Fixed {
    fn rows(&self, _: Fields) -> Vec<Row> {
        self.0.clone()
    }
}

#[test]
fn a_provider_shows_rows_of_its_own_while_somebody_refers_to_it() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let jobs = Arc::new(Fixed(vec![
        Row::new("job/10").held_by("job-10", Mode::Exclusive),
        Row::new("job/9").awaited_by("job-12", Mode::Shared, 0, ms(1)).awaited_by(
            "job-11",
            Mode::Shared,
            0,
            ms(2),
        ),
    ]));
    monitor.register(&jobs);
    monitor.register(&(Arc::clone(&jobs) as Arc<dyn Provider>));
    let snapshot = monitor.snapshot();
    assert_eq!(names(&snapshot), ["config", "job/9", "job/10"]);
    assert_eq!(members(&snapshot.rows()[1].pending[0]), ["job-11", "job-12"]);
    assert!(monitor.query([Field::Name]).rows().iter().all(Row::is_free), "narrowed");
    drop(jobs);
    assert_eq!(names(&monitor.snapshot()), ["config"]);
}

/// Takes a snapshot and registers something while it is asked.
struct Nosy {
    monitor: LockMonitor,
    found: SharedLock,
    asked: AtomicUsize,
}

impl Provider for Nosy {
    fn rows(&self, fields: Fields) -> Vec<Row> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.monitor.register(&self.found);
        let seen = self.monitor.query(fields).rows().len();
        vec![Row::new(format!("saw {seen}"))]
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        assert!(self.monitor.waits().len() <= 2);
    }
}

#[test]
fn a_provider_may_call_back_into_the_monitor_which_leaves_it_out_there() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let found = SharedLock::new("found");
    let nosy = Nosy { monitor: monitor.clone(), found, asked: AtomicUsize::new(0) };
    let nosy = Arc::new(nosy);
    monitor.register(&nosy);
    assert_eq!(names(&monitor.snapshot()), ["config", "saw 2"]);
    assert_eq!(nosy.asked.load(Ordering::Relaxed), 1);
    assert_eq!(names(&monitor.snapshot()), ["config", "found", "saw 2"]);
    drop(nosy);
    assert_eq!(names(&monitor.snapshot()), ["config"]);
}

#[test]
fn a_monitor_survives_a_provider_that_panics() {
    struct Broken;
    impl Provider for Broken {
        fn rows(&self, _: Fields) -> Vec<Row> {
            panic!("out of order")
        }
    }
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let broken = Arc::new(Broken);
    monitor.register(&broken);
    for _ in 0..2 {
        assert!(std::panic::catch_unwind(|| monitor.snapshot()).is_err());
    }
    drop(broken);
    assert_eq!(names(&monitor.snapshot()), ["config"]);
}

#[test]
fn a_monitor_keeps_nothing_alive() {
    let set = LockSet::on_demand("paths");
    let monitor = LockMonitor::new();
    monitor.register(&set);
    let owner = Owner::new("job");
    let guard = set.acquire(&owner, shared(["/etc", "/usr"])).now().unwrap();
    let snapshot = monitor.snapshot();
    drop(guard);
    assert!(set.names().is_empty());
    drop(set);
    assert_eq!(names(&snapshot), ["paths//etc", "paths//usr", "paths/[lockset]"]);
    assert!(monitor.snapshot().rows().is_empty());
}

mod waits {
    use tierlock::monitor::Waits;

    use super::*;

    #[test]
    fn only_what_was_waited_for_is_counted_and_each_lock_of_a_request_by_itself() {
        let (tenant, volume) = (LevelId::new(0, "tenant"), LevelId::new(1, "volume"));
        let manager = LockManager::builder()
            .level(&tenant, ["a"])
            .level(&volume, ["v1", "v2"])
            .build()
            .unwrap();
        let monitor = manager.monitor();
        let mut busy = manager.session("busy");
        busy.acquire([tenant.shared("a"), volume.exclusive(["v1", "v2"])]).now().unwrap();
        let count = || monitor.waits().iter().map(Waits::count).collect::<Vec<_>>();
        assert_eq!(count(), [0, 0]);

        let (jobs, plan) = (manager.clone(), [tenant.shared("a"), volume.exclusive(["v1", "v2"])]);
        let waiter = Waiter::begin("patient", move |owner| {
            let mut session = jobs.session_of(owner.clone());
            session.acquire(plan).timeout(LONG).wait().unwrap();
        });
        drop(when_awaited(&monitor, "volume/v1", 1));
        busy.keep(&volume, "v2").unwrap();
        drop(when_awaited(&monitor, "volume/v2", 1));
        assert_eq!(count(), [0, 1], "handed on to the next lock");
        drop(busy);
        waiter.join();
        assert_eq!(count(), [0, 2]);
        let waits = &monitor.waits()[1];
        assert_eq!(waits.name(), "volume");
        assert!(waits.longest() <= waits.total() && !waits.total().is_zero());
        assert!(waits.quantile(1.0) <= waits.longest());
    }

    #[test]
    fn a_wait_that_ends_without_the_lock_counts_too() {
        let lock = SharedLock::new("config");
        let monitor = watching(&[&lock]);
        let (first, second) = (Owner::new("job-1"), Owner::new("job-2"));
        let _guard = lock.exclusive(&first).now().unwrap();
        assert!(lock.shared(&second).timeout(ms(3)).wait().is_err());
        assert!(lock.shared(&second).now().is_err(), "a try is not a wait");
        let waits = &monitor.waits()[0];
        assert_eq!((waits.name(), waits.count()), ("config", 1));
        // Counted from when it stood in line, which may be later than what its time is counted from.
        assert!(!waits.longest().is_zero());
    }

    #[test]
    fn waits_are_listed_in_natural_order_whether_there_were_any_or_not() {
        let locks = ["b10", "b9", "a"].map(SharedLock::new);
        let monitor = watching(&locks.iter().collect::<Vec<_>>());
        let waits = monitor.waits();
        assert_eq!(waits.iter().map(Waits::name).collect::<Vec<_>>(), ["a", "b9", "b10"]);
    }
}
