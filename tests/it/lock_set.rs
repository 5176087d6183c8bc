//! Names taken together, all of them or whatever is free, and the set-lock above them.

use std::sync::Arc;
use std::thread;

use tierlock::Mode::{Exclusive, Shared};
use tierlock::{
    ALL, AcquireError, HoldError, LockSet, Membership, MembershipError, Names, Owner, SetGuard,
    SetRequest, UpgradeError, exclusive, shared,
};

use crate::support::{LONG, Waiter, ms, now, panic_holding, slots, until};

/// A set of single letters, to which others may be added.
fn set(names: &str) -> LockSet {
    let names = names.chars().map(String::from);
    LockSet::new("set", Membership::Listed, names).expect("each letter once")
}

fn owner(name: &str) -> Owner {
    Owner::new(name)
}

/// Held by a new owner of this name.
#[track_caller]
fn held(set: &LockSet, name: &str, request: SetRequest) -> SetGuard {
    set.acquire(&owner(name), request).now().expect("nobody stands in the way")
}

/// Tells whether somebody else could have this now.
fn admits(set: &LockSet, request: SetRequest) -> bool {
    set.acquire(&owner("observer"), request).now().is_ok()
}

/// A thread that waits for something of the set.
fn waits(set: &LockSet, name: &str, request: SetRequest) -> Waiter<Result<SetGuard, AcquireError>> {
    let set = set.clone();
    Waiter::begin(name, move |owner| set.acquire(owner, request).timeout(LONG).wait())
}

fn text(names: &[Arc<str>]) -> String {
    names.concat()
}

/// What is held: each name with the first letter of its mode.
fn holds(guard: &SetGuard) -> String {
    let mode = |name: &Arc<str>| guard.holds(name).expect("a name listed is held");
    let shown = guard.names().into_iter().map(|name| match mode(&name) {
        Exclusive => format!("{name}x"),
        _ => format!("{name}s"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

mod all {
    use super::*;

    #[test]
    fn all_of_a_hundred_thousand_names_is_one_lock() {
        let names = (0..100_000).map(|at| format!("n{at:05}"));
        let set = LockSet::new("set", Membership::Listed, names).unwrap();
        let owner = owner("nightly");
        for request in [exclusive(ALL), shared(ALL)] {
            let guard = set.acquire(&owner, request).now().unwrap();
            assert_eq!(slots(&owner), 1);
            assert_eq!(guard.names().len(), 100_000);
        }
    }

    #[test]
    fn exclusively_it_keeps_everybody_out() {
        let set = set("ab");
        let guard = held(&set, "holder", exclusive(ALL));
        assert_eq!((guard.holds_all(), guard.holds("a")), (Some(Exclusive), Some(Exclusive)));
        assert!(!admits(&set, shared("a")) && !admits(&set, exclusive("b")));
        assert!(!admits(&set, shared(ALL)) && !admits(&set, exclusive(ALL)));
        drop(guard);
        assert!(admits(&set, exclusive(ALL)));
    }

    #[test]
    fn shared_it_admits_readers_of_anything_and_no_writer() {
        let set = set("ab");
        let guard = held(&set, "holder", shared(ALL));
        assert_eq!((guard.holds_all(), guard.holds("a")), (Some(Shared), Some(Shared)));
        assert!(admits(&set, shared("a")) && admits(&set, shared(ALL)));
        assert!(!admits(&set, exclusive("b")) && !admits(&set, exclusive(ALL)));
    }

    #[test]
    fn of_an_empty_set_it_is_held_all_the_same() {
        let set = set("");
        let guard = held(&set, "holder", exclusive(ALL));
        assert_eq!((guard.holds_all(), guard.names().len()), (Some(Exclusive), 0));
        let refused = set.add(&owner("other"), "a").now();
        assert!(matches!(refused, Err(MembershipError::Acquire(AcquireError::WouldBlock { .. }))));
    }

    #[test]
    fn it_waits_for_whoever_holds_a_name_and_then_has_it() {
        let set = set("ab");
        let holder = held(&set, "holder", exclusive("b"));
        let waiter = waits(&set, "waiter", exclusive(ALL));
        assert!(!waiter.is_through());
        drop(holder);
        assert_eq!(waiter.join().unwrap().holds_all(), Some(Exclusive));
    }
}

mod names {
    use super::*;

    #[test]
    fn names_are_independent_of_each_other() {
        let set = set("abc");
        let _first = held(&set, "first", exclusive("a"));
        let _second = held(&set, "second", exclusive("b"));
        assert!(admits(&set, shared("c")) && !admits(&set, shared("a")));
    }

    #[test]
    fn a_name_held_shared_admits_all_shared_and_one_held_exclusively_does_not() {
        let set = set("ab");
        let reader = held(&set, "reader", shared("a"));
        assert!(admits(&set, shared(ALL)) && !admits(&set, exclusive(ALL)));
        drop(reader);
        let _writer = held(&set, "writer", exclusive("a"));
        assert!(!admits(&set, shared(ALL)));
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let set = set("abc");
        let guard = held(&set, "holder", shared(["c", "a", "c", "a"]));
        assert_eq!(text(&guard.names()), "ac");
    }

    #[test]
    fn names_come_as_anything_that_makes_a_name() {
        let set = set("ab");
        let requests: [Names; 7] = [
            "a".into(),
            String::from("a").into(),
            Arc::<str>::from("a").into(),
            vec!["a"].into(),
            ["a"][..].into(),
            (&vec![String::from("a")]).into(),
            ["a"].into_iter().collect(),
        ];
        for names in requests {
            assert_eq!(text(&held(&set, "holder", shared(names)).names()), "a");
        }
    }

    #[test]
    fn one_that_is_not_there_is_named_and_nothing_is_taken() {
        let set = set("abc");
        let owner = owner("job");
        for refused in [
            set.acquire(&owner, exclusive(["a", "nope", "zzz"])).now(),
            set.acquire(&owner, exclusive(["a", "nope", "zzz"])).wait(),
        ] {
            let Err(AcquireError::NotFound { lock, .. }) = refused else { panic!() };
            assert_eq!(lock.to_string(), "set/nope");
        }
        assert_eq!(slots(&owner), 0);
        assert!(admits(&set, exclusive(ALL)));
    }

    #[test]
    fn asking_for_none_gets_nothing_and_holds_nothing() {
        let set = set("ab");
        let _all = held(&set, "holder", exclusive(ALL));
        let owner = owner("job");
        let guard = set.acquire(&owner, exclusive([""; 0])).now().unwrap();
        assert_eq!((guard.names().len(), guard.holds_all(), slots(&owner)), (0, None, 0));
    }

    #[test]
    fn a_request_that_fails_half_way_keeps_nothing() {
        let set = set("abc");
        let _holder = held(&set, "holder", shared("b"));
        let owner = owner("job");
        assert!(set.acquire(&owner, exclusive(["a", "b", "c"])).now().is_err());
        assert!(set.acquire(&owner, exclusive(["a", "b", "c"])).timeout(ms(5)).wait().is_err());
        assert_eq!(slots(&owner), 0);
        assert!(admits(&set, exclusive(["a", "c"])));
        // Not even an intention is left.
        assert!(admits(&set, shared(ALL)));
    }

    #[test]
    fn one_owner_acquires_in_a_set_once_at_a_time() {
        let set = set("ab");
        let owner = owner("twice");
        let mut guard = set.acquire(&owner, shared("a")).now().unwrap();
        let again = |request: SetRequest| set.acquire(&owner, request).now();
        for request in [shared("a"), shared("b"), exclusive(ALL), shared("b").opportunistic()] {
            assert!(matches!(again(request), Err(AcquireError::AlreadyHeld { .. })));
        }
        guard.release("a").unwrap();
        assert!(again(shared("b")).is_ok());
    }

    #[test]
    fn a_timeout_is_one_budget_for_all_names() {
        let set = set("ab");
        let _holders = [held(&set, "first", exclusive("a")), held(&set, "second", exclusive("b"))];
        let start = now();
        let refused = set.acquire(&owner("job"), exclusive(["a", "b"])).timeout(ms(30)).wait();
        assert!(refused.unwrap_err().is_timeout());
        assert!(start.elapsed() >= ms(30));
    }

    #[test]
    fn a_waiter_for_a_hundred_names_is_woken_once_all_are_handed_over() {
        let letters: Vec<String> = (0..100).map(|at| format!("n{at:02}")).collect();
        let set = LockSet::new("set", Membership::Listed, letters.clone()).unwrap();
        let mut holders: Vec<_> =
            letters.iter().map(|name| held(&set, name, exclusive(name.as_str()))).collect();
        let waiter = waits(&set, "waiter", exclusive(letters));
        // The last name first, so that each of the others is what stops it.
        holders.swap(0, 99);
        while let Some(holder) = holders.pop() {
            assert!(!waiter.is_through(), "woken before it had everything");
            drop(holder);
        }
        // Everything was handed over by the hands that released it: the slots are full before it runs.
        assert_eq!(slots(&waiter.owner), 101);
        assert_eq!(waiter.join().unwrap().names().len(), 100);
    }

    #[test]
    fn a_waiter_keeps_what_it_has_while_it_waits_for_the_next() {
        let set = set("ab");
        let holder = held(&set, "holder", exclusive("b"));
        let waiter = waits(&set, "waiter", exclusive(["a", "b"]));
        assert!(!admits(&set, shared("a")));
        drop(holder);
        assert_eq!(holds(&waiter.join().unwrap()), "ax bx");
    }

    #[test]
    fn names_taken_in_opposite_order_by_many_threads_never_deadlock() {
        let set = set("abcde");
        thread::scope(|scope| {
            for at in 0..4 {
                let set = &set;
                scope.spawn(move || {
                    let owner = owner(&format!("thread-{at}"));
                    for round in 0..200 {
                        let mut names = ["a", "b", "c", "d", "e"];
                        names.rotate_left((round + at) % 5);
                        let request = exclusive(&names[..3]);
                        drop(set.acquire(&owner, request).wait().unwrap());
                    }
                });
            }
        });
        assert!(admits(&set, exclusive(ALL)));
    }
}

mod opportunistic {
    use super::*;

    #[test]
    fn it_takes_what_is_free_and_waits_for_nothing() {
        let set = set("abcd");
        let _holders = [held(&set, "first", exclusive("b")), held(&set, "second", shared("c"))];
        let request = exclusive(ALL).opportunistic();
        assert_eq!(text(&held(&set, "job", request).names()), "ad");
        let request = shared(["b", "c", "d", "nope"]).opportunistic();
        assert_eq!(text(&set.acquire(&owner("job"), request).wait().unwrap().names()), "cd");
    }

    #[test]
    fn nothing_is_free_while_another_holds_all_of_it() {
        let set = set("ab");
        let _all = held(&set, "holder", exclusive(ALL));
        let owner = owner("job");
        let guard = set.acquire(&owner, shared(ALL).opportunistic()).wait().unwrap();
        assert_eq!((guard.names().len(), slots(&owner)), (0, 0));
    }

    #[test]
    fn having_got_nothing_holds_nothing_not_even_an_intention() {
        let set = set("a");
        let _holder = held(&set, "holder", shared("a"));
        let owner = owner("job");
        let guard = set.acquire(&owner, exclusive(ALL).opportunistic()).now().unwrap();
        assert_eq!((guard.names().len(), slots(&owner)), (0, 0));
        assert!(admits(&set, shared(ALL)));
    }

    #[test]
    fn with_less_than_the_least_number_it_fails_and_keeps_nothing() {
        let set = set("abc");
        let _holder = held(&set, "holder", exclusive("a"));
        let owner = owner("job");
        for request in [exclusive(ALL).at_least(3), shared(["a", "b", "nope"]).at_least(2)] {
            let refused = set.acquire(&owner, request).wait();
            assert!(matches!(refused, Err(AcquireError::NotEnough { .. })), "{refused:?}");
            assert_eq!(slots(&owner), 0);
        }
        assert!(admits(&set, exclusive(["b", "c"])));
        assert_eq!(text(&held(&set, "job", exclusive(ALL).at_least(2)).names()), "bc");
    }

    #[test]
    fn it_does_not_overtake_a_writer_that_waits_unless_more_urgent() {
        let set = set("a");
        let reader = held(&set, "reader", shared("a"));
        let writer = waits(&set, "writer", exclusive("a"));
        assert!(!admits(&set, shared("a")));
        let request = || shared("a").opportunistic();
        let late = owner("late");
        assert_eq!(set.acquire(&late, request()).now().unwrap().names().len(), 0);
        assert_eq!(set.acquire(&late, request()).priority(-1).now().unwrap().names().len(), 1);
        drop(reader);
        assert!(writer.join().is_ok());
    }
}

mod narrowing {
    use super::*;

    #[test]
    fn names_given_back_are_free_and_the_others_are_not() {
        let set = set("abc");
        let mut guard = held(&set, "holder", exclusive(["a", "b", "c"]));
        guard.release(["a", "c"]).unwrap();
        assert_eq!(holds(&guard), "bx");
        assert!(admits(&set, exclusive(["a", "c"])) && !admits(&set, shared("b")));
    }

    #[test]
    fn all_but_some_names_are_given_back() {
        let set = set("abc");
        let mut guard = held(&set, "holder", exclusive(["a", "b", "c"]));
        guard.keep("b").unwrap();
        assert_eq!(holds(&guard), "bx");
        assert!(admits(&set, exclusive(["a", "c"])) && !admits(&set, shared("b")));
    }

    #[test]
    fn from_all_some_names_are_kept_by_themselves() {
        for (request, shown) in [(exclusive(ALL), "ax cx"), (shared(ALL), "as cs")] {
            let set = set("abcd");
            let mut guard = held(&set, "holder", request);
            guard.keep(["a", "c"]).unwrap();
            assert_eq!((holds(&guard).as_str(), guard.holds_all()), (shown, None));
            assert!(admits(&set, exclusive(["b", "d"])) && !admits(&set, exclusive("a")));
        }
    }

    #[test]
    fn from_all_some_names_are_given_back() {
        let set = set("abcd");
        let mut guard = held(&set, "holder", exclusive(ALL));
        guard.release(["b", "d"]).unwrap();
        assert_eq!(holds(&guard), "ax cx");
        assert!(admits(&set, exclusive(["b", "d"])) && !admits(&set, shared("c")));
    }

    #[test]
    fn narrowing_all_shared_leaves_the_way_to_all_shared_open() {
        let set = set("abc");
        let mut guard = held(&set, "holder", shared(ALL));
        guard.keep("a").unwrap();
        assert!(admits(&set, shared(ALL)) && admits(&set, exclusive(["b", "c"])));
    }

    #[test]
    fn giving_back_the_last_name_gives_back_everything() {
        for request in [exclusive(["a", "b"]), exclusive(ALL)] {
            let set = set("ab");
            let owner = owner("holder");
            let mut guard = set.acquire(&owner, request).now().unwrap();
            guard.release(["a", "b"]).unwrap();
            assert_eq!((slots(&owner), guard.holds_all()), (0, None));
            assert!(admits(&set, exclusive(ALL)));
            assert!(set.acquire(&owner, shared("a")).now().is_ok());
        }
    }

    #[test]
    fn keeping_none_gives_everything_back_and_keeping_all_nothing() {
        let set = set("ab");
        let mut guard = held(&set, "holder", exclusive("a"));
        guard.keep(ALL).unwrap();
        assert_eq!(holds(&guard), "ax");
        guard.keep([""; 0]).unwrap();
        assert!(guard.names().is_empty() && admits(&set, exclusive(ALL)));
    }

    #[test]
    fn a_name_not_held_is_named_and_nothing_is_given_back() {
        let set = set("abc");
        let mut guard = held(&set, "holder", exclusive(["a", "b"]));
        for refused in
            [guard.release(["a", "c"]), guard.keep(["a", "c"]), guard.downgrade(["a", "c"])]
        {
            let Err(HoldError::NotHeld { lock, .. }) = refused else { panic!() };
            assert_eq!(lock.to_string(), "set/c");
        }
        assert_eq!(holds(&guard), "ax bx");
    }

    #[test]
    fn a_waiter_for_all_is_let_in_when_narrowing_makes_room() {
        let set = set("abc");
        let mut guard = held(&set, "holder", exclusive(ALL));
        let waiter = waits(&set, "waiter", exclusive(["b", "c"]));
        guard.keep("a").unwrap();
        assert_eq!(slots(&waiter.owner), 3);
        assert_eq!(holds(&waiter.join().unwrap()), "bx cx");
    }
}

mod downgrade {
    use super::*;

    #[test]
    fn some_names_are_shared_then() {
        let set = set("ab");
        let mut guard = held(&set, "holder", exclusive(["a", "b"]));
        guard.downgrade("a").unwrap();
        assert_eq!(holds(&guard), "as bx");
        assert!(admits(&set, shared("a")) && !admits(&set, shared("b")));
        assert!(!admits(&set, shared(ALL)));
        guard.downgrade("b").unwrap();
        assert!(admits(&set, shared(ALL)));
    }

    #[test]
    fn all_at_once_they_cost_one_lock() {
        let set = set("abc");
        let owner = owner("holder");
        let mut guard = set.acquire(&owner, exclusive(ALL)).now().unwrap();
        guard.downgrade(ALL).unwrap();
        assert_eq!((guard.holds_all(), slots(&owner)), (Some(Shared), 1));
        assert!(admits(&set, shared(ALL)) && !admits(&set, exclusive("a")));
    }

    #[test]
    fn some_of_all_are_shared_and_the_others_stay_exclusive() {
        let set = set("abc");
        let mut guard = held(&set, "holder", exclusive(ALL));
        guard.downgrade("b").unwrap();
        assert_eq!((holds(&guard).as_str(), guard.holds_all()), ("ax bs cx", None));
        assert!(admits(&set, shared("b")) && !admits(&set, shared("a")));
    }

    #[test]
    fn everything_held_is_shared_after_all_of_it_was_downgraded_however_it_came_to_be_held() {
        let set = set("abc");
        let mut guard = held(&set, "holder", shared(ALL));
        guard.upgrade("a").now().unwrap();
        guard.upgrade(ALL).now().unwrap();
        guard.downgrade(ALL).unwrap();
        assert_eq!((holds(&guard).as_str(), guard.holds_all()), ("as bs cs", Some(Shared)));
        assert!(admits(&set, shared(ALL)) && admits(&set, shared("a")));
    }

    #[test]
    fn what_is_shared_stays_so() {
        let set = set("ab");
        let mut guard = held(&set, "holder", shared(["a", "b"]));
        guard.downgrade("a").unwrap();
        guard.downgrade(ALL).unwrap();
        assert_eq!(holds(&guard), "as bs");
    }
}

mod upgrade {
    use super::*;

    type Upgraded = (SetGuard, Result<(), UpgradeError>);

    /// An upgrade under way.
    fn upgrading(mut guard: SetGuard, names: impl Into<Names>) -> Waiter<Upgraded> {
        let names = names.into();
        Waiter::of(&owner("upgrading"), move || {
            let upgraded = guard.upgrade(names).timeout(LONG).wait();
            (guard, upgraded)
        })
    }

    #[test]
    fn some_names_held_shared_are_exclusive_then() {
        let set = set("abc");
        let mut guard = held(&set, "holder", shared(["a", "b"]));
        guard.upgrade("a").now().unwrap();
        assert_eq!(holds(&guard), "ax bs");
        assert!(!admits(&set, shared("a")) && admits(&set, shared("b")));
        guard.upgrade(ALL).now().unwrap();
        assert_eq!((holds(&guard).as_str(), guard.holds_all()), ("ax bx", None));
    }

    #[test]
    fn waiting_for_all_with_one_held_exclusively_by_itself_is_refused() {
        let set = set("abc");
        let mut guard = held(&set, "holder", shared(ALL));
        let _other = held(&set, "other", shared("b"));
        guard.upgrade("a").now().unwrap();
        let refused = guard.upgrade(ALL).timeout(ms(10)).wait().unwrap_err();
        assert!(matches!(refused, UpgradeError::WouldDeadlock { .. }), "{refused}");
        assert!(admits(&set, shared("c")), "it is held as before");
    }

    #[test]
    fn all_held_shared_is_exclusive_then_at_the_cost_of_one_lock() {
        let set = set("abc");
        let owner = owner("holder");
        let mut guard = set.acquire(&owner, shared(ALL)).now().unwrap();
        guard.upgrade(ALL).now().unwrap();
        assert_eq!((guard.holds_all(), slots(&owner)), (Some(Exclusive), 1));
        assert!(!admits(&set, shared("a")));
    }

    #[test]
    fn some_of_all_are_exclusive_beside_readers_of_the_others() {
        let set = set("abc");
        let reader = held(&set, "reader", shared("c"));
        let mut guard = held(&set, "holder", shared(ALL));
        guard.upgrade(["a", "b"]).now().unwrap();
        assert_eq!((holds(&guard).as_str(), guard.holds_all()), ("ax bx cs", Some(Shared)));
        assert!(admits(&set, shared("c")) && !admits(&set, shared("a")));
        assert!(!admits(&set, shared(ALL)) && !admits(&set, exclusive("c")));
        guard.downgrade("a").unwrap();
        assert_eq!(holds(&guard), "as bx cs");
        assert!(admits(&set, shared("a")) && !admits(&set, shared(ALL)));
        guard.downgrade("b").unwrap();
        assert!(admits(&set, shared(ALL)));
        drop(reader);
    }

    #[test]
    fn some_of_all_kept_by_themselves_are_held_as_they_were() {
        let set = set("abcd");
        let mut guard = held(&set, "holder", shared(ALL));
        guard.upgrade(["a", "b"]).now().unwrap();
        guard.keep(["b", "c"]).unwrap();
        assert_eq!((holds(&guard).as_str(), guard.holds_all()), ("bx cs", None));
        assert!(admits(&set, exclusive(["a", "d"])));
        guard.release("b").unwrap();
        assert!(admits(&set, shared(ALL)));
    }

    #[test]
    fn refused_it_leaves_everything_as_it_was() {
        let set = set("abc");
        let _reader = held(&set, "reader", shared("b"));
        for request in [shared(ALL), shared(["a", "b", "c"])] {
            let owner = owner("holder");
            let mut guard = set.acquire(&owner, request).now().unwrap();
            let before = (holds(&guard), guard.holds_all(), slots(&owner));
            let refused = guard.upgrade(["a", "b", "c"]).now();
            assert!(matches!(refused, Err(UpgradeError::Acquire(AcquireError::WouldBlock { .. }))));
            assert!(matches!(
                guard.upgrade(["a", "b", "c"]).wait(),
                Err(UpgradeError::WouldDeadlock { .. })
            ));
            assert_eq!((holds(&guard), guard.holds_all(), slots(&owner)), before);
            assert!(admits(&set, shared(ALL)) && admits(&set, shared("a")));
        }
    }

    #[test]
    fn the_greatest_name_held_may_be_waited_for() {
        let set = set("abc");
        let reader = held(&set, "reader", shared("b"));
        let guard = held(&set, "holder", shared(["a", "b"]));
        let upgrading = upgrading(guard, ["a", "b"]);
        // The name before it is exclusive while the last is waited for.
        assert!(!admits(&set, shared("a")) && !admits(&set, shared("b")));
        drop(reader);
        let (guard, upgraded) = upgrading.join();
        assert_eq!((upgraded, holds(&guard).as_str()), (Ok(()), "ax bx"));
    }

    #[test]
    fn a_wait_for_the_greatest_name_that_times_out_restores_what_was_held() {
        let set = set("ab");
        let _reader = held(&set, "reader", shared("b"));
        let mut guard = held(&set, "holder", shared(["a", "b"]));
        let refused = guard.upgrade(["a", "b"]).timeout(ms(10)).wait();
        let Err(UpgradeError::Acquire(refused)) = refused else { panic!() };
        assert!(refused.is_timeout());
        assert_eq!(holds(&guard), "as bs");
        assert!(admits(&set, shared(ALL)) && admits(&set, shared(["a", "b"])));
    }

    #[test]
    fn another_than_the_greatest_name_is_not_waited_for() {
        let set = set("ab");
        let _reader = held(&set, "reader", shared("a"));
        let mut guard = held(&set, "holder", shared(["a", "b"]));
        let refused = guard.upgrade("a").wait().unwrap_err();
        let UpgradeError::WouldDeadlock { lock, held, wanted, blockers, .. } = refused else {
            panic!("{refused}")
        };
        assert_eq!((lock.to_string().as_str(), held, wanted), ("set/a", Shared, Exclusive));
        assert_eq!(&*blockers[0].owner, "reader");
        assert_eq!(holds(&guard), "as bs");
    }

    #[test]
    fn all_may_be_waited_for() {
        let set = set("ab");
        let reader = held(&set, "reader", shared("b"));
        let guard = held(&set, "holder", shared(ALL));
        let upgrading = upgrading(guard, ALL);
        assert!(!admits(&set, shared("a")));
        drop(reader);
        let (guard, upgraded) = upgrading.join();
        assert_eq!((upgraded, guard.holds_all()), (Ok(()), Some(Exclusive)));
    }

    #[test]
    fn two_holders_of_all_that_upgrade_do_not_wait_for_each_other() {
        let set = set("ab");
        let mut second = held(&set, "second", shared(ALL));
        let first = upgrading(held(&set, "first", shared(ALL)), ALL);
        assert!(!admits(&set, shared("a")));
        let refused = second.upgrade(ALL).wait().unwrap_err();
        assert!(matches!(refused, UpgradeError::WouldDeadlock { .. }), "{refused}");
        assert_eq!(second.holds_all(), Some(Shared));
        drop(second);
        assert_eq!(first.join().0.holds_all(), Some(Exclusive));
    }

    #[test]
    fn a_name_not_held_is_named_and_nothing_changes() {
        let set = set("abc");
        let mut guard = held(&set, "holder", shared(["a", "b"]));
        let refused = guard.upgrade(["a", "c"]).now().unwrap_err();
        let UpgradeError::Hold(HoldError::NotHeld { lock, .. }) = refused else {
            panic!("{refused}")
        };
        assert_eq!((lock.to_string().as_str(), holds(&guard).as_str()), ("set/c", "as bs"));
    }

    #[test]
    fn of_no_names_it_does_nothing() {
        let set = set("ab");
        let _other = held(&set, "other", shared(ALL));
        for request in [shared(ALL), shared("a")] {
            let mut guard = held(&set, "holder", request);
            let before = holds(&guard);
            assert_eq!(guard.upgrade([""; 0]).wait(), Ok(()));
            assert_eq!(holds(&guard), before);
        }
    }

    #[test]
    fn of_what_is_exclusive_it_does_nothing() {
        let set = set("ab");
        for request in [exclusive(ALL), exclusive(["a", "b"])] {
            let mut guard = held(&set, "holder", request);
            guard.upgrade(["a", "b"]).wait().unwrap();
            guard.upgrade(ALL).wait().unwrap();
            assert_eq!(holds(&guard), "ax bx");
        }
    }
}

mod members {
    use super::*;

    fn removing(set: &LockSet, names: impl Into<Names>) -> Waiter<Result<(), MembershipError>> {
        let (set, names) = (set.clone(), names.into());
        Waiter::begin("remover", move |owner| set.remove(owner, names).timeout(LONG).wait())
    }

    #[test]
    fn added_names_are_there_and_free() {
        let set = set("b");
        set.add(&owner("job"), ["c", "a"]).now().unwrap();
        assert_eq!(text(&set.names()), "abc");
        assert!(admits(&set, exclusive(["a", "b", "c"])));
    }

    #[test]
    fn adding_waits_for_whoever_holds_all_in_any_mode() {
        for request in [shared(ALL), exclusive(ALL)] {
            let set = set("a");
            let all = held(&set, "holder", request);
            let added = set.clone();
            let adder = Waiter::begin("adder", move |owner| added.add(owner, "b").wait());
            assert_eq!((text(&set.names()).as_str(), adder.is_through()), ("a", false));
            drop(all);
            adder.join().unwrap();
            assert_eq!(text(&set.names()), "ab");
        }
    }

    #[test]
    fn adding_does_not_wait_for_holders_of_names() {
        let set = set("a");
        let _holder = held(&set, "holder", exclusive("a"));
        assert!(set.add(&owner("adder"), "b").now().is_ok());
    }

    #[test]
    fn a_name_that_is_there_is_named_and_none_is_added() {
        let set = set("b");
        let refused = set.add(&owner("job"), ["a", "b", "c"]).now().unwrap_err();
        let MembershipError::AlreadyExists { lock, .. } = refused else { panic!("{refused}") };
        assert_eq!((lock.to_string().as_str(), text(&set.names()).as_str()), ("set/b", "b"));
        assert!(admits(&set, exclusive(ALL)));
    }

    #[test]
    fn of_two_that_add_the_same_name_one_does_and_the_other_is_told() {
        let set = set("");
        let all = held(&set, "holder", shared(ALL));
        let adders = ["first", "second"].map(|name| {
            let set = set.clone();
            Waiter::begin(name, move |owner| set.add(owner, "a").wait())
        });
        drop(all);
        let mut results = adders.map(Waiter::join);
        results.sort_by_key(Result::is_err);
        assert_eq!(results[0], Ok(()));
        assert!(matches!(results[1], Err(MembershipError::AlreadyExists { .. })));
        assert!(admits(&set, exclusive(ALL)));
    }

    #[test]
    fn a_name_added_held_is_never_seen_free() {
        let set = set("");
        let name = "n";
        for _ in 0..200 {
            let adder = {
                let set = set.clone();
                thread::spawn(move || set.add_held(&owner("adder"), name).wait().unwrap())
            };
            // The first request that finds the name finds it held.
            let refused = loop {
                match set.acquire(&owner("observer"), exclusive(name)).now() {
                    Err(AcquireError::NotFound { .. }) => thread::yield_now(),
                    other => break other,
                }
            };
            assert!(matches!(refused, Err(AcquireError::WouldBlock { .. })), "{refused:?}");
            adder.join().unwrap().remove(name).now().unwrap();
        }
    }

    #[test]
    fn whoever_holds_all_exclusively_may_add_and_holds_what_is_added() {
        let set = set("a");
        let mut guard = held(&set, "holder", exclusive(ALL));
        guard.add("b").now().unwrap();
        assert_eq!(holds(&guard), "ax bx");
        assert!(!admits(&set, shared("b")));
        guard.keep("b").unwrap();
        assert_eq!(holds(&guard), "bx");
    }

    #[test]
    fn whoever_holds_names_exclusively_may_add() {
        let set = set("a");
        let mut guard = held(&set, "holder", exclusive("a"));
        guard.add("b").now().unwrap();
        assert_eq!(holds(&guard), "ax");
        assert!(admits(&set, shared("b")));
    }

    #[test]
    fn whoever_holds_something_shared_may_not_add() {
        for request in [shared(ALL), shared("a")] {
            let set = set("a");
            let mut guard = held(&set, "holder", request);
            let refused = guard.add("b").wait().unwrap_err();
            assert!(matches!(refused, MembershipError::HeldOtherwise { .. }), "{refused}");
            assert_eq!((text(&set.names()).as_str(), holds(&guard).as_str()), ("a", "as"));
        }
    }

    #[test]
    fn removed_names_are_gone() {
        let set = set("abc");
        set.remove(&owner("job"), ["a", "c"]).now().unwrap();
        assert_eq!(text(&set.names()), "b");
        let refused = set.acquire(&owner("late"), shared("a")).now();
        assert!(matches!(refused, Err(AcquireError::NotFound { .. })));
    }

    #[test]
    fn whoever_waits_for_a_removed_name_is_told_and_keeps_nothing() {
        let set = set("ab");
        let mut guard = held(&set, "remover", exclusive("b"));
        let waiter = waits(&set, "waiter", exclusive(["a", "b"]));
        assert!(!admits(&set, shared("a")));
        guard.remove("b").now().unwrap();
        let (owner, refused) = (waiter.owner.clone(), waiter.join());
        let Err(AcquireError::Deleted { lock, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!((lock.to_string().as_str(), slots(&owner)), ("set/b", 0));
        assert!(admits(&set, exclusive(ALL)));
    }

    #[test]
    fn removing_waits_for_holders_of_the_names_and_of_all() {
        for request in [shared("b"), shared(ALL)] {
            let set = set("abc");
            let holder = held(&set, "holder", request);
            let remover = removing(&set, ["a", "b"]);
            assert!(!remover.is_through());
            drop(holder);
            remover.join().unwrap();
            assert_eq!(text(&set.names()), "c");
        }
    }

    #[test]
    fn removing_is_all_or_nothing() {
        let set = set("abc");
        let holder = held(&set, "holder", shared("b"));
        let remover = owner("remover");
        for refused in [
            set.remove(&remover, ["a", "b", "c"]).now(),
            set.remove(&remover, ["a", "b", "c"]).timeout(ms(5)).wait(),
            set.remove(&remover, ["a", "nope"]).wait(),
        ] {
            assert!(matches!(refused, Err(MembershipError::Acquire(_))), "{refused:?}");
            assert_eq!((text(&set.names()).as_str(), slots(&remover)), ("abc", 0));
        }
        drop(holder);
        assert!(admits(&set, exclusive(ALL)));
    }

    #[test]
    fn a_holder_removes_what_it_holds_exclusively_and_nothing_else() {
        let set = set("abc");
        let mut guard = held(&set, "holder", exclusive(["a", "b"]));
        guard.downgrade("b").unwrap();
        for names in [["a", "b"], ["a", "c"]] {
            let refused = guard.remove(names).wait().unwrap_err();
            assert!(matches!(refused, MembershipError::HeldOtherwise { .. }), "{refused}");
        }
        guard.remove("a").now().unwrap();
        assert_eq!((text(&set.names()).as_str(), holds(&guard).as_str()), ("bc", "bs"));
    }

    #[test]
    fn a_holder_of_all_exclusively_removes_any_name_and_holds_the_rest() {
        let set = set("abc");
        let mut guard = held(&set, "holder", exclusive(ALL));
        guard.remove(["a", "b"]).now().unwrap();
        assert_eq!((text(&set.names()).as_str(), holds(&guard).as_str()), ("c", "cx"));
        guard.remove(ALL).now().unwrap();
        assert_eq!((set.names().len(), guard.holds_all()), (0, Some(Exclusive)));
    }

    #[test]
    fn after_the_last_exclusive_name_was_removed_the_set_is_only_held_shared() {
        let set = set("abc");
        let mut guard = held(&set, "holder", exclusive(["a", "b"]));
        guard.downgrade("b").unwrap();
        guard.remove("a").now().unwrap();
        assert!(admits(&set, shared(ALL)));

        let mut guard = held(&set, "other", shared(ALL));
        guard.upgrade("c").now().unwrap();
        guard.remove("c").now().unwrap();
        assert!(admits(&set, shared(ALL)));
    }

    #[test]
    fn removing_all_removes_what_was_there_when_it_was_asked_for() {
        let set = set("a");
        let reader = held(&set, "reader", shared("a"));
        let remover = removing(&set, ALL);
        assert!(!admits(&set, shared("a")));
        // A name that comes while the remover waits, and is held by another.
        let newcomer = set.add_held(&owner("newcomer"), "b").now().unwrap();
        drop(reader);
        remover.join().unwrap();
        assert_eq!((text(&set.names()).as_str(), holds(&newcomer).as_str()), ("b", "bx"));
    }

    #[test]
    fn a_name_created_again_while_a_chain_waits_for_an_earlier_one_is_found_again() {
        let set = set("ab");
        let holder = held(&set, "holder", exclusive("a"));
        let waiter = waits(&set, "waiter", exclusive(["a", "b"]));
        let other = owner("other");
        set.remove(&other, "b").now().unwrap();
        set.add(&other, "b").now().unwrap();
        drop(holder);
        let guard = waiter.join().unwrap();
        assert_eq!(holds(&guard), "ax bx");
        assert!(!admits(&set, shared("b")));
    }

    #[test]
    fn a_name_removed_while_a_chain_waits_for_an_earlier_one_fails_it_and_nothing_is_kept() {
        let set = set("abc");
        let holder = held(&set, "holder", exclusive("a"));
        let waiter = waits(&set, "waiter", exclusive(["a", "b", "c"]));
        set.remove(&owner("other"), "b").now().unwrap();
        drop(holder);
        let (owner, refused) = (waiter.owner.clone(), waiter.join());
        let Err(AcquireError::Deleted { lock, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!((lock.to_string().as_str(), slots(&owner)), ("set/b", 0));
        assert!(admits(&set, exclusive(ALL)));
    }

    #[test]
    fn fixed_names_and_names_on_demand_are_neither_added_nor_removed() {
        let fixed = LockSet::new("set", Membership::Fixed, ["a"]).unwrap();
        for set in [fixed, LockSet::on_demand("set")] {
            let owner = owner("job");
            let mut guard = held(&set, "holder", exclusive("a"));
            for refused in [
                set.add(&owner, "b").now(),
                set.add_held(&owner, "b").now().map(drop),
                set.remove(&owner, "a").now(),
                guard.remove("a").now(),
                guard.add("b").now(),
            ] {
                assert!(matches!(refused, Err(MembershipError::NotModifiable { .. })));
            }
            assert_eq!(slots(&owner), 0);
        }
    }
}

mod on_demand {
    use super::*;

    #[test]
    fn a_name_held_stays_the_same_lock_while_many_others_come_and_go() {
        let set = LockSet::on_demand("paths");
        let _holder = held(&set, "holder", exclusive("/etc"));
        let owner = owner("job");
        for at in 0..1000 {
            drop(set.acquire(&owner, shared(format!("/{at}"))).now().unwrap());
            assert!(set.acquire(&owner, shared("/etc")).now().is_err(), "after {at}");
        }
        assert_eq!(set.names().len(), 1);
    }

    #[test]
    fn names_come_when_asked_for_and_vanish_when_free() {
        let set = LockSet::on_demand("paths");
        for _ in 0..3 {
            let guard = held(&set, "holder", exclusive(["/etc", "/usr"]));
            assert_eq!(set.names().len(), 2);
            assert!(!admits(&set, shared("/etc")));
            drop(guard);
            assert!(set.names().is_empty());
        }
    }

    #[test]
    fn a_name_waited_for_stays_while_its_holders_change() {
        let set = LockSet::on_demand("paths");
        let holder = held(&set, "holder", exclusive("/etc"));
        let waiter = waits(&set, "waiter", exclusive("/etc"));
        drop(holder);
        assert_eq!(waiter.join().unwrap().holds("/etc"), Some(Exclusive));
        assert!(set.names().is_empty());
    }

    #[test]
    fn many_names_come_and_go_without_a_trace() {
        let set = LockSet::on_demand("paths");
        let owner = owner("job");
        for at in 0..10_000 {
            drop(set.acquire(&owner, exclusive(format!("/{at}"))).now().unwrap());
        }
        assert!(set.names().is_empty());
    }

    #[test]
    fn whoever_holds_all_holds_any_name() {
        let set = LockSet::on_demand("paths");
        let mut guard = held(&set, "holder", exclusive(ALL));
        assert_eq!(guard.holds("/etc"), Some(Exclusive));
        guard.keep(["/etc", "/usr"]).unwrap();
        guard.downgrade("/usr").unwrap();
        assert_eq!((guard.holds("/etc"), guard.holds("/usr")), (Some(Exclusive), Some(Shared)));
        assert!(!admits(&set, shared("/etc")) && admits(&set, exclusive("/var")));
    }

    #[test]
    fn whoever_holds_all_can_go_on_with_any_name_in_another_mode() {
        let set = LockSet::on_demand("paths");
        let mut guard = held(&set, "holder", exclusive(ALL));
        guard.downgrade("/etc").unwrap();
        assert_eq!(guard.holds("/etc"), Some(Shared));
        drop(guard);
        let mut guard = held(&set, "holder", shared(ALL));
        guard.upgrade("/etc").now().unwrap();
        assert_eq!((guard.holds("/etc"), guard.holds("/usr")), (Some(Exclusive), Some(Shared)));
    }

    #[test]
    fn one_name_on_many_threads_is_one_lock() {
        let set = LockSet::on_demand("paths");
        let inside = std::sync::Mutex::new(());
        thread::scope(|scope| {
            for at in 0..4 {
                let (set, inside) = (&set, &inside);
                scope.spawn(move || {
                    let owner = owner(&format!("thread-{at}"));
                    for _ in 0..500 {
                        let _guard = set.acquire(&owner, exclusive("/etc")).wait().unwrap();
                        let _alone = inside.try_lock().expect("nobody else holds the name");
                    }
                });
            }
        });
        assert!(set.names().is_empty());
    }
}

mod abandoned {
    use super::*;

    fn told(guard: &SetGuard) -> Vec<String> {
        guard.abandoned().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_next_exclusive_holder_of_a_name_is_told_once() {
        let set = set("abc");
        panic_holding(held(&set, "hasty", exclusive(["a", "b"])));
        assert!(told(&held(&set, "reader", shared(["a", "b"]))).is_empty());
        assert!(told(&held(&set, "other", exclusive("c"))).is_empty());
        let next = held(&set, "next", exclusive(["a", "c"]));
        assert_eq!(told(&next), ["set/a was abandoned by hasty"]);
        drop(next);
        let rest = held(&set, "rest", exclusive(["a", "b", "c"]));
        assert_eq!(told(&rest), ["set/b was abandoned by hasty"]);
    }

    #[test]
    fn the_next_exclusive_holder_of_all_is_told_of_every_name() {
        let set = set("abc");
        panic_holding(held(&set, "hasty", exclusive(["a", "c"])));
        assert!(told(&held(&set, "reader", shared(ALL))).is_empty());
        let next = held(&set, "next", exclusive(ALL));
        let expected = ["set/a was abandoned by hasty", "set/c was abandoned by hasty"];
        assert_eq!(told(&next), expected);
        drop(next);
        assert!(told(&held(&set, "after", exclusive(ALL))).is_empty());
    }

    #[test]
    fn whoever_panics_with_all_abandons_every_name() {
        let set = set("ab");
        panic_holding(held(&set, "hasty", exclusive(ALL)));
        assert_eq!(told(&held(&set, "first", exclusive("a"))), ["set/a was abandoned by hasty"]);
        assert_eq!(told(&held(&set, "second", exclusive(ALL))), ["set/b was abandoned by hasty"]);
    }

    #[test]
    fn names_held_shared_are_not_abandoned() {
        let set = set("ab");
        let mut guard = held(&set, "hasty", exclusive(["a", "b"]));
        guard.downgrade("b").unwrap();
        panic_holding(guard);
        assert_eq!(told(&held(&set, "next", exclusive(ALL))), ["set/a was abandoned by hasty"]);
        panic_holding(held(&set, "hasty", shared(ALL)));
        assert!(told(&held(&set, "next", exclusive(ALL))).is_empty());
    }

    #[test]
    fn a_name_on_demand_does_not_vanish_with_its_mark() {
        let set = LockSet::on_demand("paths");
        panic_holding(held(&set, "hasty", exclusive("etc")));
        let next = held(&set, "next", exclusive("etc"));
        assert_eq!(told(&next), ["paths/etc was abandoned by hasty"]);
        drop(next);
        assert!(set.names().is_empty());
    }

    #[test]
    fn a_name_removed_and_created_again_is_not_abandoned() {
        let set = set("a");
        panic_holding(held(&set, "hasty", exclusive("a")));
        let other = owner("other");
        set.remove(&other, "a").now().unwrap();
        set.add(&other, "a").now().unwrap();
        assert!(told(&held(&set, "next", exclusive("a"))).is_empty());
    }

    #[test]
    fn whoever_upgrades_to_exclusive_is_told() {
        let set = set("ab");
        panic_holding(held(&set, "hasty", exclusive(["a", "b"])));
        let mut guard = held(&set, "next", shared(["a", "b"]));
        guard.upgrade("b").now().unwrap();
        assert_eq!(told(&guard), ["set/b was abandoned by hasty"]);
        guard.upgrade("a").now().unwrap();
        assert_eq!(told(&guard)[1], "set/a was abandoned by hasty");
    }

    #[test]
    fn a_guard_taken_while_unwinding_abandons_nothing() {
        struct TidiesUp(LockSet);
        impl Drop for TidiesUp {
            fn drop(&mut self) {
                drop(held(&self.0, "destructor", exclusive("a")));
            }
        }
        let set = set("a");
        panic_holding(TidiesUp(set.clone()));
        assert!(told(&held(&set, "next", exclusive("a"))).is_empty());
    }
}

/// Every mode in which a set can be held: by names, by all, and by all with some names stronger.
#[test]
fn what_is_held_of_a_set_keeps_out_exactly_what_conflicts_with_it() {
    fn with_some_exclusive(set: &LockSet) -> SetGuard {
        let mut guard = held(set, "holder", shared(ALL));
        guard.upgrade("a").now().unwrap();
        guard
    }
    type Take = fn(&LockSet) -> SetGuard;
    let holds: [(Take, [bool; 6]); 5] = [
        (|set| held(set, "holder", shared("a")), [true, false, true, true, true, false]),
        (|set| held(set, "holder", exclusive("a")), [false, false, true, true, false, false]),
        (|set| held(set, "holder", shared(ALL)), [true, false, true, false, true, false]),
        (with_some_exclusive, [false, false, true, false, false, false]),
        (|set| held(set, "holder", exclusive(ALL)), [false; 6]),
    ];
    for (row, (take, expected)) in holds.into_iter().enumerate() {
        let set = set("ab");
        let _guard = take(&set);
        let requests =
            [shared("a"), exclusive("a"), shared("b"), exclusive("b"), shared(ALL), exclusive(ALL)];
        let admitted = requests.map(|request| admits(&set, request));
        assert_eq!(admitted, expected, "row {row}");
    }
}

#[test]
fn a_set_guard_moves_between_threads_and_outlives_its_set() {
    let (guard, set) = {
        let set = set("ab");
        (held(&set, "holder", exclusive("a")), set.clone())
    };
    thread::spawn(move || {
        let mut guard = guard;
        assert_eq!(guard.holds("a"), Some(Exclusive));
        guard.keep([""; 0]).unwrap();
    })
    .join()
    .unwrap();
    assert!(admits(&set, exclusive(ALL)));
}

/// A guard gives back the last name first, is at it for a while, and only then tells whom it let go. Whose time is up meanwhile
/// was granted the name, whatever has become of the queue.
#[test]
fn a_waiter_whose_time_is_up_while_it_is_let_go_puts_nobody_else_out_of_the_queue() {
    let names: Vec<String> = (0..20_000).map(|at| format!("n{at:05}")).collect();
    let set = LockSet::new("set", Membership::Listed, names.clone()).unwrap();
    let last = names[names.len() - 1].as_str();
    for round in 0..10 {
        let holder = held(&set, "holder", exclusive(names.clone()));
        let begun = now();
        let impatient = {
            let (set, last) = (set.clone(), last.to_owned());
            Waiter::begin("impatient", move |owner| {
                drop(set.acquire(owner, exclusive(last)).timeout(ms(20 + round)).wait());
            })
        };
        until(|| begun.elapsed() > ms(18));
        let leaving = thread::spawn(move || drop(holder));
        until(|| begun.elapsed() > ms(19));
        let next = waits(&set, "next", exclusive(last));
        impatient.join();
        leaving.join().unwrap();
        assert!(next.join().is_ok());
        assert!(begun.elapsed() < LONG, "round {round}: only its timeout told it");
    }
}
