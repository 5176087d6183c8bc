//! What lock values are, and which fit together.

use tierlock::Mode;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Update {
    Nothing,
    Look,
    Announce,
    Change,
}

impl LockValue for Update {
    const ALL: &'static [Self] = &[Self::Nothing, Self::Look, Self::Announce, Self::Change];

    fn mode(self) -> Option<Mode> {
        match self {
            Self::Nothing => None,
            Self::Look => Some(Mode::IntentShared),
            Self::Announce => Some(Mode::SharedIntentExclusive),
            Self::Change => Some(Mode::Exclusive),
        }
    }

    fn keeps(self) -> bool {
        self >= Self::Announce
    }
}

/// Whether two nodes can have these at a time.
fn fit<V: LockValue>(store: &str, a: V, b: V) -> bool {
    let nodes = nodes::<2>(&format!("{store}-{a:?}-{b:?}"));
    let [one, two] = users::<V, 2>(&nodes);
    one.upgrade(a, SOON).unwrap();
    two.upgrade_async(b).unwrap().waiter().is_none_or(|waiter| waiter.is_decided())
}

#[test]
fn read_fits_read_and_no_lock_while_upgrade_and_write_fit_no_lock_alone() {
    for a in [NoLock, Read, Upgrade, Write] {
        for b in [NoLock, Read, Upgrade, Write] {
            let fits = a == NoLock || b == NoLock || (a, b) == (Read, Read);
            assert_eq!(fit("table", a, b), fits, "{a:?} beside {b:?}");
        }
    }
}

#[test]
fn values_of_ones_own_fit_as_their_modes_do() {
    for a in Update::ALL {
        for b in Update::ALL {
            let fits = a.mode().zip(b.mode()).is_none_or(|(a, b)| a.admits(b));
            assert_eq!(fit("own", *a, *b), fits, "{a:?} beside {b:?}");
            assert_eq!(a.admits(*b), fits);
            assert!(!fits || *b <= a.beside());
        }
        assert!(a.admits(a.beside()));
    }
}

#[test]
fn whoever_announces_a_change_makes_it_when_those_who_look_are_gone() {
    let nodes = nodes::<2>("announced");
    let [one, two] = users::<Update, 2>(&nodes);
    one.upgrade(Update::Announce, SOON).unwrap();
    two.upgrade(Update::Look, SOON).unwrap();
    let change = one.upgrade_async(Update::Change).unwrap().waiter().unwrap();
    assert!(!change.is_decided());
    two.downgrade(Update::Nothing).unwrap();
    change.wait_lock(SOON).unwrap();
}

/// Types of which values or modes are out of order.
macro_rules! bad {
    ($name:ident: $($value:ident = $mode:expr),* $(,)?; $all:expr) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(dead_code)]
        enum $name { $($value),* }

        impl LockValue for $name {
            const ALL: &'static [Self] = $all;

            fn mode(self) -> Option<Mode> {
                match self { $(Self::$value => $mode),* }
            }

            fn keeps(self) -> bool {
                true
            }
        }
    };
}

bad!(Empty: None = None; &[]);
bad!(LeastHolds: Some = Some(Mode::Shared); &[Self::Some]);
bad!(TwoHoldNothing: None = None, More = None; &[Self::None, Self::More]);
bad!(Descending: None = None, A = Some(Mode::Shared), B = Some(Mode::Exclusive); &[Self::None, Self::B, Self::A]);
bad!(Twice: None = None, A = Some(Mode::Shared); &[Self::None, Self::A, Self::A]);
bad!(NotCovering: None = None, A = Some(Mode::Shared), B = Some(Mode::IntentExclusive); &[Self::None, Self::A, Self::B]);
bad!(Incomplete: None = None, A = Some(Mode::Shared), B = Some(Mode::Exclusive); &[Self::None, Self::A]);

fn refusal<V: LockValue>(node: &Coordinator) -> String {
    let locks = GlobalLockCoordinator::new(node);
    match locks.user::<V>("config").unwrap_err() {
        GlobalLockError::BadValues { reason, .. } => reason.to_string(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_type_whose_order_and_modes_disagree_is_refused() {
    let [node] = nodes("bad-values");
    assert_eq!(refusal::<Empty>(&node), "there are none");
    assert_eq!(refusal::<LeastHolds>(&node), "Some is the least, and holds shared");
    assert_eq!(refusal::<TwoHoldNothing>(&node), "More is not the least, and holds nothing");
    assert_eq!(refusal::<Descending>(&node), "A comes after B, and is not greater");
    assert_eq!(refusal::<Twice>(&node), "A comes after A, and is not greater");
    let not_covering = "B (intent-exclusive) does not cover A (shared), which is smaller";
    assert_eq!(refusal::<NotCovering>(&node), not_covering);
}

#[test]
fn a_value_that_is_not_among_all_of_its_type_is_refused() {
    let [node] = nodes("unknown-value");
    let user = user::<Incomplete>(&node);
    let refused = |error| matches!(error, GlobalLockError::BadValues { .. });
    assert!(refused(user.upgrade(Incomplete::B, None).unwrap_err()));
    assert!(refused(user.downgrade(Incomplete::B).unwrap_err()));
    assert_eq!(user.granted(), Incomplete::None);
}

#[test]
fn a_node_has_one_user_of_a_resource() {
    let [node] = nodes("one-user");
    let (one, same) = (user::<RwLockValue>(&node), user::<RwLockValue>(&node));
    one.upgrade(Write, SOON).unwrap();
    assert_eq!(same.granted(), Write);
    same.downgrade(Read).unwrap();
    assert_eq!(one.granted(), Read);
    let other = GlobalLockCoordinator::new(&node).user::<Update>("config");
    assert!(matches!(other, Err(GlobalLockError::OtherValues { .. })));
    drop((one, same));
    assert_eq!(user::<Update>(&node).granted(), Update::Nothing);
}

#[test]
fn resources_that_have_no_name_are_refused() {
    let [node] = nodes("no-name");
    let locks = GlobalLockCoordinator::new(&node);
    let refused = locks.user::<RwLockValue>("").unwrap_err();
    assert!(refused.to_string().contains("a resource cannot be called"), "{refused}");
    assert!(locks.node_failed("", node.member()).is_err());
}

#[test]
fn resources_are_by_name_and_apart_from_locks_of_the_same() {
    let [a, b] = nodes("names");
    let (one, two) = (user::<RwLockValue>(&a), user::<RwLockValue>(&b));
    let elsewhere = GlobalLockCoordinator::new(&b).user::<RwLockValue>("other").unwrap();
    one.upgrade(Write, SOON).unwrap();
    elsewhere.upgrade(Write, None).unwrap();
    let owner = tierlock::Owner::new("owner");
    let (plain, tricky) = (b.lock("config").unwrap(), b.lock("global/config").unwrap());
    let _guards = (plain.exclusive(&owner).now().unwrap(), tricky.exclusive(&owner).now().unwrap());
    assert!(is_timed_out(&two.upgrade(Read, BRIEFLY)));
}
