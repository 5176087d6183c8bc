//! What can be sent, shared and carried through a panic, and how large it is.

use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};

use tierlock::{
    Abandoned, Acquire, AcquireError, AcquireLevel, AcquireLevels, AcquireLock, AcquireOwned,
    AcquireSet, Acquiring, Ageing, All, Blocker, BuildError, ChangeMembers, DeleteLock, Error,
    Grant, Guard, HoldError, LevelGuard, LevelId, LevelRequest, LevelSeat, LockManager,
    LockManagerBuilder, LockMonitor, LockName, LockSet, ManagerLevel, Membership, MembershipError,
    Mode, Names, Owner, Pending, Plan, Scoped, Session, SessionLevel, SetGuard, SetRequest,
    SharedLock, UpgradeError, UpgradeLock, UpgradeNames, Visit, Wanted, annotation, condition,
    ganeti, monitor,
};

/// Tells whether a type has a trait: the inherent constant, where there is one, hides the trait's.
macro_rules! has {
    ($type:ty: $trait:path) => {{
        #[allow(dead_code, reason = "hidden where the type has the trait")]
        trait Otherwise {
            const HAS: bool = false;
        }
        struct Has<T: ?Sized>(PhantomData<T>);
        impl<T: ?Sized> Otherwise for Has<T> {}
        #[allow(dead_code, reason = "not there where the type does not")]
        impl<T: ?Sized + $trait> Has<T> {
            const HAS: bool = true;
        }
        <Has<$type>>::HAS
    }};
}

/// The rows that are not so: `Send`, `Sync`, `Unpin`, `UnwindSafe`, `RefUnwindSafe`.
macro_rules! wrong_rows {
    ($($type:ty => $send:literal $sync:literal $unpin:literal $unwind:literal $ref_unwind:literal),* $(,)?) => {{
        let mut wrong = Vec::new();
        $(
            let is = [
                has!($type: Send),
                has!($type: Sync),
                has!($type: Unpin),
                has!($type: UnwindSafe),
                has!($type: RefUnwindSafe),
            ];
            if is != [$send, $sync, $unpin, $unwind, $ref_unwind].map(|mark| mark == 'x') {
                wrong.push((stringify!($type), is));
            }
        )*
        wrong
    }};
}

#[test]
#[rustfmt::skip]
fn everything_moves_between_threads_and_what_is_held_survives_a_panic() {
    let wrong = wrong_rows! {
        // locks and who takes them
        SharedLock                              => 'x' 'x' 'x' 'x' 'x',
        LockSet                                 => 'x' 'x' 'x' 'x' 'x',
        LockManager                             => 'x' 'x' 'x' 'x' 'x',
        LockManagerBuilder                      => 'x' 'x' 'x' 'x' 'x',
        Owner                                   => 'x' 'x' 'x' 'x' 'x',
        Plan                                    => 'x' 'x' 'x' 'x' 'x',
        // what is held
        Guard<'static>                          => 'x' 'x' 'x' 'x' 'x',
        SetGuard                                => 'x' 'x' 'x' 'x' 'x',
        Session                                 => 'x' 'x' 'x' 'x' 'x',
        Grant                                   => 'x' 'x' 'x' 'x' 'x',
        LevelGuard                              => 'x' 'x' 'x' 'x' 'x',
        // what is asked
        Acquire<AcquireLock<'static>>           => 'x' 'x' 'x' 'x' 'x',
        Acquire<DeleteLock<'static>>            => 'x' 'x' 'x' 'x' 'x',
        Acquire<UpgradeLock<'static, 'static>>  => 'x' 'x' 'x' '-' 'x',
        Acquire<AcquireSet>                     => 'x' 'x' 'x' 'x' 'x',
        Acquire<ChangeMembers<Visit>>           => 'x' 'x' 'x' 'x' 'x',
        Acquire<ChangeMembers<SetGuard>>        => 'x' 'x' 'x' 'x' 'x',
        Acquire<UpgradeNames<&'static mut SetGuard>> => 'x' 'x' 'x' '-' 'x',
        Acquire<AcquireLevels<'static>>         => 'x' 'x' 'x' '-' 'x',
        Acquire<UpgradeNames<LevelSeat<'static>>> => 'x' 'x' 'x' '-' 'x',
        Acquire<AcquireOwned>                   => 'x' 'x' 'x' 'x' 'x',
        Acquire<AcquireLevel<'static>>          => 'x' 'x' 'x' '-' 'x',
        // what is under way
        Pending<AcquireLock<'static>>           => 'x' 'x' 'x' 'x' 'x',
        Pending<UpgradeLock<'static, 'static>>  => 'x' 'x' 'x' 'x' 'x',
        Pending<AcquireLevels<'static>>         => 'x' 'x' 'x' 'x' 'x',
        Pending<AcquireOwned>                   => 'x' 'x' 'x' 'x' 'x',
        Acquiring<AcquireLock<'static>>         => 'x' 'x' 'x' 'x' 'x',
        Acquiring<AcquireLevels<'static>>       => 'x' 'x' 'x' '-' 'x',
        // how it is asked
        Names                                   => 'x' 'x' 'x' 'x' 'x',
        SetRequest                              => 'x' 'x' 'x' 'x' 'x',
        LevelRequest                            => 'x' 'x' 'x' 'x' 'x',
        LevelId                                 => 'x' 'x' 'x' 'x' 'x',
        Wanted<'static>                         => 'x' 'x' 'x' 'x' 'x',
        Mode                                    => 'x' 'x' 'x' 'x' 'x',
        All                                     => 'x' 'x' 'x' 'x' 'x',
        Membership                              => 'x' 'x' 'x' 'x' 'x',
        Ageing                                  => 'x' 'x' 'x' 'x' 'x',
        SessionLevel<'static>                   => 'x' '-' 'x' '-' '-',
        ManagerLevel                            => 'x' 'x' 'x' 'x' 'x',
        annotation::Name                        => 'x' 'x' 'x' 'x' 'x',
        Scoped<Acquiring<AcquireOwned>>         => 'x' 'x' 'x' 'x' 'x',
        ganeti::Level                           => 'x' 'x' 'x' 'x' 'x',
        ganeti::Attempts                        => 'x' 'x' 'x' 'x' 'x',
        // what is told
        LockName                                => 'x' 'x' 'x' 'x' 'x',
        Abandoned                               => 'x' 'x' 'x' 'x' 'x',
        Blocker                                 => 'x' 'x' 'x' 'x' 'x',
        AcquireError                            => 'x' 'x' 'x' 'x' 'x',
        UpgradeError                            => 'x' 'x' 'x' 'x' 'x',
        HoldError                               => 'x' 'x' 'x' 'x' 'x',
        MembershipError                         => 'x' 'x' 'x' 'x' 'x',
        BuildError                              => 'x' 'x' 'x' 'x' 'x',
        Error                                   => 'x' 'x' 'x' 'x' 'x',
        // what is seen
        LockMonitor                             => 'x' 'x' 'x' 'x' 'x',
        monitor::Snapshot                       => 'x' 'x' 'x' 'x' 'x',
        monitor::Why                            => 'x' 'x' 'x' 'x' 'x',
        monitor::Waits                          => 'x' 'x' 'x' 'x' 'x',
        // conditions, which are no more than their mutex is
        condition::PipeCondition<u64>           => 'x' 'x' 'x' '-' '-',
        condition::SingleNotifyCondition        => 'x' 'x' 'x' 'x' '-',
    };
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_handle_is_as_large_as_a_pointer() {
    const POINTER: usize = size_of::<usize>();
    for size in [size_of::<SharedLock>(), size_of::<Owner>(), size_of::<LockSet>()] {
        assert_eq!(size, POINTER);
    }
    assert_eq!(size_of::<LockManager>(), POINTER);
    assert_eq!(size_of::<Option<SharedLock>>(), POINTER);
    assert_eq!(size_of::<Mode>(), 1);
}

/// Most requests fail or wait, so that what they return passes through many hands.
#[test]
#[cfg(target_pointer_width = "64")]
fn what_is_returned_is_small() {
    let sizes = [
        ("Guard", size_of::<Guard<'_>>(), 64),
        ("SetGuard", size_of::<SetGuard>(), 112),
        ("Session", size_of::<Session>(), 48),
        ("Grant", size_of::<Grant>(), 24),
        ("LockName", size_of::<LockName>(), 32),
        ("AcquireError", size_of::<AcquireError>(), 96),
        ("UpgradeError", size_of::<UpgradeError>(), 96),
        ("HoldError", size_of::<HoldError>(), 96),
        ("MembershipError", size_of::<MembershipError>(), 96),
        ("Error", size_of::<Error>(), 112),
    ];
    for (name, size, most) in sizes {
        assert!(size <= most, "{name}: {size} bytes");
    }
}
