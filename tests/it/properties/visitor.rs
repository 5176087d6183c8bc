//! One of many who take a few locks in order, in any mode, and change modes while they hold them. However they wait.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tierlock::{AcquireError, Guard, Mode, Owner, SharedLock, UpgradeError};

use super::model::compatible;
use super::worker::{Dice, Waits};

/// The modes in which each lock is held, by another hand.
#[derive(Default)]
pub(crate) struct LockTable(Mutex<BTreeMap<(String, u64), Mode>>);

impl LockTable {
    fn write(&self, guard: &Guard<'_>, owner: u64, mode: Option<Mode>) {
        let mut table = self.0.lock().unwrap();
        let lock = guard.lock().name().to_string();
        table.remove(&(lock.clone(), owner));
        let Some(mode) = mode else { return };
        for ((other, _), held) in table.iter().filter(|((other, _), _)| *other == lock) {
            assert!(compatible(*held, mode), "{other}: {mode} beside {held}");
        }
        table.insert((lock, owner), mode);
    }
}

/// Takes some of the locks in order, changes modes at random, and gives them back.
pub(crate) fn visit<W: Waits>(
    waits: &W,
    dice: &mut Dice,
    owner: &Owner,
    locks: &[SharedLock],
    table: &LockTable,
) {
    let number = dice.roll();
    let mut guards: Vec<Guard<'_>> = Vec::new();
    for lock in dice.some(&locks.iter().collect::<Vec<_>>()) {
        let mode = Mode::ALL[dice.below(5)];
        match waits.outcome(dice, lock.acquire(owner, mode)) {
            Some(Ok(guard)) => guards.push(guard),
            Some(Err(AcquireError::TimedOut { .. } | AcquireError::WouldBlock { .. })) | None => {
                continue;
            }
            Some(Err(other)) => panic!("{other}"),
        }
        let guard = guards.last_mut().expect("pushed");
        table.write(guard, number, Some(mode));
        change(waits, dice, guard, number, table);
    }
    while !guards.is_empty() {
        let guard = guards.swap_remove(dice.below(guards.len()));
        table.write(&guard, number, None);
        drop(guard);
    }
}

fn change<W: Waits>(
    waits: &W,
    dice: &mut Dice,
    guard: &mut Guard<'_>,
    number: u64,
    table: &LockTable,
) {
    let mode = Mode::ALL[dice.below(5)];
    if guard.mode().covers(mode) && dice.one_in(2) {
        table.write(guard, number, Some(mode));
        guard.downgrade_to(mode).unwrap();
    } else if dice.one_in(2) {
        // Waiting for a stronger mode of the last lock held deadlocks only with others at that lock, and that is noticed.
        match waits.outcome(dice, guard.upgrade_to(mode)) {
            Some(Err(
                UpgradeError::WouldDeadlock { .. }
                | UpgradeError::Acquire(
                    AcquireError::TimedOut { .. } | AcquireError::WouldBlock { .. },
                ),
            ))
            | Some(Ok(()))
            | None => {}
            Some(Err(other)) => panic!("{other}"),
        }
        table.write(guard, number, Some(guard.mode()));
    }
}
