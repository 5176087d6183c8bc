//! Nothing comes of a request until its outcome is taken, and then all of it.

use tierlock::Mode::{Exclusive, IntentExclusive, Shared, SharedIntentExclusive};
use tierlock::ganeti::Level::{Cluster, Instance, Node};
use tierlock::{
    ALL, AcquireError, Level, LockManager, LockSet, Membership, MembershipError, Mode, Owner,
    Session, UpgradeError, exclusive, ganeti, shared,
};

use super::{asked, held, lock, outcome};
use crate::support::{admits, ms, panic_holding, slots, until};

fn set() -> LockSet {
    LockSet::new("set", Membership::Listed, ["a", "b"]).unwrap()
}

fn names(set: &LockSet) -> String {
    set.names().join(" ")
}

mod upgrades {
    use super::*;

    #[test]
    fn one_that_was_granted_and_dropped_leaves_the_guard_as_it_was_and_lets_in_who_fits() {
        for (from, to, fits) in [
            (Shared, Exclusive, Shared),
            (Shared, IntentExclusive, Shared),
            (IntentExclusive, Shared, IntentExclusive),
        ] {
            let lock = lock();
            let (mut guard, other) = (held(&lock, "guard", from), held(&lock, "other", from));
            let upgrade = guard.upgrade_to(to).enqueue();
            let (next, writer) = (asked(&lock, "next", fits), asked(&lock, "writer", Exclusive));
            drop(other);
            assert!(upgrade.is_decided() && !next.is_decided());
            assert_eq!(lock.mode(), Some(from.join(to)));
            drop(upgrade);
            assert!(next.is_decided() && guard.mode() == from);
            drop((guard, next));
            assert!(outcome(writer).is_ok());
        }
    }

    #[test]
    fn one_that_was_granted_and_taken_is_what_the_guard_says() {
        let lock = lock();
        let (mut guard, other) = (held(&lock, "guard", Shared), held(&lock, "other", Shared));
        let upgrade = guard.upgrade_to(IntentExclusive).enqueue();
        drop(other);
        assert!(outcome(upgrade).is_ok());
        assert_eq!(
            (guard.mode(), lock.mode()),
            (SharedIntentExclusive, Some(SharedIntentExclusive))
        );
        drop(guard);
        assert_eq!(lock.mode(), None);
    }

    #[test]
    fn one_that_waits_keeps_the_guard_as_it_is_when_it_is_withdrawn() {
        let lock = lock();
        let (mut guard, _other) = (held(&lock, "guard", Shared), held(&lock, "other", Shared));
        let upgrade = guard.upgrade().enqueue();
        let next = asked(&lock, "next", Shared);
        assert!(!next.is_decided() && upgrade.cancel().is_none());
        assert!(next.is_decided() && guard.mode() == Shared);
        // And it can be asked again.
        drop((next, guard.upgrade().enqueue()));
        assert!(guard.upgrade().timeout(ms(2)).enqueue().wait().is_err());
    }

    #[test]
    fn one_that_is_taken_hears_who_abandoned_the_lock() {
        let lock = lock();
        panic_holding(held(&lock, "hasty", Exclusive));
        let (mut guard, other) = (held(&lock, "guard", Shared), held(&lock, "other", Shared));
        let upgrade = guard.upgrade().enqueue();
        drop(other);
        drop(upgrade);
        assert!(guard.abandoned().is_none());
        outcome(guard.upgrade().enqueue()).unwrap();
        assert_eq!(&*guard.abandoned().expect("it holds it exclusively").owner, "hasty");
    }

    #[test]
    fn of_names_some_of_which_were_free_for_it_all_go_back() {
        let set = set();
        let hold = |name| set.acquire(&Owner::new("holder"), shared(name)).now().unwrap();
        let mut guard = set.acquire(&Owner::new("guard"), shared(["a", "b"])).now().unwrap();
        let other = hold("b");
        let upgrade = guard.upgrade(ALL).enqueue();
        let next = set.acquire(&Owner::new("next"), shared("a")).enqueue();
        assert!(!upgrade.is_decided() && !next.is_decided());
        drop(other);
        assert!(upgrade.is_decided() && !next.is_decided());
        drop(upgrade);
        assert!(next.is_decided());
        assert_eq!(["a", "b"].map(|name| guard.holds(name)), [Some(Shared); 2]);
        drop(next);
        outcome(guard.upgrade(ALL).enqueue()).unwrap();
        assert_eq!(["a", "b"].map(|name| guard.holds(name)), [Some(Exclusive); 2]);
    }

    #[test]
    fn one_refused_at_once_is_decided_and_changes_nothing() {
        let set = set();
        let _other = set.acquire(&Owner::new("other"), shared("a")).now().unwrap();
        let mut guard = set.acquire(&Owner::new("guard"), shared(["a", "b"])).now().unwrap();
        let upgrade = guard.upgrade(ALL).enqueue();
        assert!(upgrade.is_decided());
        assert!(matches!(outcome(upgrade), Err(UpgradeError::WouldDeadlock { .. })));
        assert!(set.acquire(&Owner::new("next"), shared(ALL)).now().is_ok());
        assert!(outcome(guard.upgrade("c").enqueue()).is_err());
        assert_eq!(guard.holds("b"), Some(Shared));
    }
}

mod deletions {
    use super::*;

    #[test]
    fn a_lock_is_deleted_when_that_is_taken_and_not_when_it_is_granted() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let owner = Owner::new("deletes");
        let (dropped, next) = (lock.delete(&owner).enqueue(), asked(&lock, "next", Exclusive));
        drop(holder);
        assert!(dropped.is_decided() && !lock.is_deleted());
        drop(dropped);
        assert!(outcome(next).is_ok() && slots(&owner) == 0);

        let holder = held(&lock, "holder", Exclusive);
        let (taken, next) = (lock.delete(&owner).enqueue(), asked(&lock, "next", Exclusive));
        drop(holder);
        assert!(taken.is_decided() && !next.is_decided());
        outcome(taken).unwrap();
        assert!(lock.is_deleted() && matches!(outcome(next), Err(AcquireError::Deleted { .. })));
    }

    #[test]
    fn of_two_that_wait_to_delete_it_the_second_finds_it_deleted() {
        let lock = lock();
        let holder = held(&lock, "holder", Shared);
        let [first, second] = ["first", "second"].map(Owner::new);
        let (first, second) = (lock.delete(&first).enqueue(), lock.delete(&second).enqueue());
        drop(holder);
        assert!(first.is_decided() && outcome(first).is_ok());
        assert!(second.is_decided());
        assert!(matches!(outcome(second), Err(AcquireError::Deleted { .. })));
    }
}

mod members {
    use super::*;

    #[test]
    fn names_are_added_when_that_is_taken_and_not_when_it_is_granted() {
        let set = set();
        let all = set.acquire(&Owner::new("holder"), shared(ALL)).now().unwrap();
        let owner = Owner::new("adds");
        let dropped = set.add(&owner, "c").enqueue();
        let [taken, other] =
            ["taken", "other"].map(|name| set.add(&Owner::new(name), "c").enqueue());
        drop(all);
        assert!(dropped.is_decided() && names(&set) == "a b");
        drop(dropped);
        assert!(names(&set) == "a b" && slots(&owner) == 0);
        outcome(taken).unwrap();
        assert_eq!(names(&set), "a b c");
        // It was granted as well, but somebody else was faster to take it.
        assert!(other.is_decided());
        assert!(matches!(outcome(other), Err(MembershipError::AlreadyExists { .. })));
        assert!(set.acquire(&owner, exclusive(ALL)).now().is_ok());
    }

    #[test]
    fn names_added_held_are_held_when_that_is_taken() {
        let set = set();
        let all = set.acquire(&Owner::new("holder"), shared(ALL)).now().unwrap();
        let [dropped, taken] = ["dropped", "taken"].map(Owner::new);
        let (dropped, taken) =
            (set.add_held(&dropped, "c").enqueue(), set.add_held(&taken, "d").enqueue());
        drop((all, dropped));
        let guard = outcome(taken).unwrap();
        assert_eq!((names(&set).as_str(), guard.holds("d")), ("a b d", Some(Exclusive)));
        drop(guard);
        assert!(set.acquire(&Owner::new("next"), exclusive("d")).now().is_ok());
    }

    #[test]
    fn names_are_removed_when_that_is_taken_and_not_when_it_is_granted() {
        let set = set();
        let ask = |name| set.acquire(&Owner::new("asks"), exclusive(name)).enqueue();
        let [holder, owner] = ["holder", "removes"].map(Owner::new);
        let hold = || set.acquire(&holder, exclusive(["a", "b"])).now().unwrap();
        let held = hold();
        let (dropped, next) = (set.remove(&owner, ["a", "b"]).enqueue(), ask("a"));
        drop(held);
        assert!(dropped.is_decided() && !next.is_decided() && names(&set) == "a b");
        drop(dropped);
        assert!(outcome(next).is_ok() && names(&set) == "a b" && slots(&owner) == 0);

        let held = hold();
        let (taken, next) = (set.remove(&owner, ["a", "b"]).enqueue(), ask("a"));
        let too_late = set.remove(&Owner::new("too late"), "a").enqueue();
        drop(held);
        outcome(taken).unwrap();
        assert!(names(&set).is_empty() && slots(&owner) == 0);
        assert!(matches!(outcome(next), Err(AcquireError::Deleted { .. })));
        assert!(matches!(
            outcome(too_late),
            Err(MembershipError::Acquire(AcquireError::Deleted { .. }))
        ));
    }

    #[test]
    fn what_is_held_already_is_changed_when_that_is_taken_too() {
        let set = set();
        let mut guard = set.acquire(&Owner::new("holder"), exclusive(ALL)).now().unwrap();
        drop(guard.add("c").enqueue());
        drop(guard.remove("a").enqueue());
        assert_eq!(names(&set), "a b");
        assert!(outcome(guard.add("c").enqueue()).is_ok());
        assert!(outcome(guard.remove("a")).is_ok());
        assert_eq!(names(&set), "b c");
    }
}

mod sessions {
    use super::*;

    fn manager() -> LockManager {
        ganeti::manager(["web1"], [""; 0], ["n1", "n2"], [""; 0]).build().unwrap()
    }

    fn rooted(manager: &LockManager, name: &str) -> Session {
        let mut session = manager.session(name);
        session.acquire(Cluster.shared("BGL")).now().unwrap();
        session
    }

    fn modes(session: &Session) -> [Option<Mode>; 3] {
        let nodes = ["n1", "n2"].map(|name| session.holds(Node, name));
        [session.holds(Cluster, "BGL"), nodes[0], nodes[1]]
    }

    #[test]
    fn one_lent_to_a_request_holds_what_it_held_unless_the_outcome_is_taken() {
        let manager = manager();
        let mut holder = rooted(&manager, "holder");
        holder.acquire(Node.exclusive("n2")).now().unwrap();
        let mut job = rooted(&manager, "job");
        let waits = job.acquire(Node.exclusive(["n1", "n2"])).enqueue();
        drop(waits);
        assert_eq!(modes(&job), [Some(Shared), None, None]);
        let granted = job.acquire(Node.exclusive(["n1", "n2"])).enqueue();
        holder.release_all();
        assert!(granted.is_decided());
        drop(granted);
        assert_eq!((modes(&job), slots(job.owner())), ([Some(Shared), None, None], 2));
        outcome(job.acquire(Node.exclusive(["n1", "n2"])).enqueue()).unwrap();
        assert_eq!(modes(&job), [Some(Shared), Some(Exclusive), Some(Exclusive)]);
    }

    #[test]
    fn one_that_went_with_its_request_comes_back_with_the_grant_or_with_the_refusal() {
        let manager = manager();
        let mut holder = rooted(&manager, "holder");
        holder.acquire(Node.exclusive("n2")).now().unwrap();
        let ask = |session: Session| session.acquire_owned(Node.exclusive(["n1", "n2"]));
        let hasty = ask(rooted(&manager, "job")).timeout(ms(2)).enqueue();
        until(|| hasty.is_decided());
        let refused = hasty.wait().unwrap_err();
        assert!(refused.error.is_timeout());
        let job = refused.session;
        assert_eq!((modes(&job), slots(job.owner())), ([Some(Shared), None, None], 2));
        let refused = outcome(job.acquire_owned(Instance.shared("web9")).enqueue()).unwrap_err();
        assert!(matches!(refused.error, AcquireError::NotFound { .. }));
        let pending = ask(refused.session).enqueue();
        holder.release_all();
        let (job, grant) = outcome(pending).unwrap();
        assert!(grant.abandoned().is_empty());
        assert_eq!(modes(&job), [Some(Shared), Some(Exclusive), Some(Exclusive)]);
    }

    #[test]
    fn one_that_went_with_its_request_comes_back_if_a_name_is_removed_meanwhile() {
        let manager = manager();
        let mut holder = rooted(&manager, "holder");
        holder.acquire(Node.exclusive("n2")).now().unwrap();
        let pending = rooted(&manager, "job").acquire_owned(Node.shared(["n1", "n2"])).enqueue();
        holder.remove(Node, "n2").now().unwrap();
        let refused = outcome(pending).unwrap_err();
        assert!(matches!(refused.error, AcquireError::Deleted { .. }));
        assert_eq!(modes(&refused.session), [Some(Shared), None, None]);
        assert!(rooted(&manager, "next").acquire(Node.exclusive(ALL)).now().is_ok());
    }

    #[test]
    fn an_upgrade_of_a_level_goes_back_when_it_is_dropped() {
        let manager = manager();
        let mut job = rooted(&manager, "job");
        job.acquire(Node.shared(["n1", "n2"])).now().unwrap();
        let mut other = rooted(&manager, "other");
        other.acquire(Node.shared("n2")).now().unwrap();
        let upgrade = job.upgrade(Node, ALL).enqueue();
        assert!(!upgrade.is_decided());
        other.release_all();
        assert!(upgrade.is_decided());
        drop(upgrade);
        assert_eq!(modes(&job), [Some(Shared); 3]);
        assert!(rooted(&manager, "next").acquire(Node.shared(ALL)).now().is_ok());
        outcome(job.upgrade(Node, ALL).enqueue()).unwrap();
        assert_eq!(modes(&job), [Some(Shared), Some(Exclusive), Some(Exclusive)]);
    }
}

#[test]
fn a_lock_granted_is_held_from_then_on_though_nobody_took_it() {
    let lock = lock();
    let holder = held(&lock, "holder", Exclusive);
    let owner = Owner::new("next");
    let pending = lock.shared(&owner).enqueue();
    drop(holder);
    assert!(lock.is_held_by(&owner, Shared) && !admits(&lock, Exclusive));
    assert!(matches!(lock.shared(&owner).now(), Err(AcquireError::AlreadyHeld { .. })));
    drop(pending);
    assert!(admits(&lock, Exclusive));
}
