//! Many sessions at a time, some of which die at random.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tierlock::coordination::ledger::{Ids, Ledger, LedgerError};

use super::super::Dice;
use super::store::Store;

const SESSIONS: usize = 8;
const STEPS: usize = 400;

/// Who has which id, as the sessions themselves tell: an id is entered after it was got, and taken out before it is given
/// back.
#[derive(Default)]
struct Witness {
    held: Mutex<BTreeSet<u64>>,
    made: Mutex<BTreeSet<u64>>,
}

impl Witness {
    fn got(&self, ids: &Ids) {
        let mut held = self.held.lock().unwrap();
        ids.iter().for_each(|id| assert!(held.insert(id), "{id} is held by two"));
    }

    fn made(&self, ids: &Ids) {
        let mut made = self.made.lock().unwrap();
        ids.iter().for_each(|id| assert!(made.insert(id), "{id} was made twice"));
    }

    fn lets_go(&self, ids: &Ids) {
        let mut held = self.held.lock().unwrap();
        ids.iter().for_each(|id| assert!(held.remove(&id), "{id} was not held"));
    }
}

#[test]
fn eight_sessions_that_hammer_a_registry_share_no_id_and_lose_none() {
    let (store, witness, deaths) = (Store::new(), Witness::default(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for at in 0..SESSIONS {
            let (store, witness, deaths) = (&store, &witness, &deaths);
            scope.spawn(move || hammer(store, at, witness, deaths));
        }
    });
    assert!(deaths.into_inner() > SESSIONS);
    let last = store.session("last");
    last.check().unwrap();
    let made = witness.made.into_inner().unwrap();
    assert_eq!(witness.held.into_inner().unwrap(), BTreeSet::new());
    let all = Ids::from(0..made.last().unwrap() + 1);
    assert_eq!(last.lock_ids(&all).unwrap(), all);
}

fn hammer(store: &Arc<Store>, at: usize, witness: &Witness, deaths: &AtomicUsize) {
    let mut dice = Dice(at as u64 + 1);
    let mut life = 0;
    let mut session = store.session(&format!("s{at}-{life}"));
    let mut mine = Ids::default();
    for _ in 0..STEPS {
        step(&session, &mut mine, &mut dice, witness).unwrap();
        if dice.roll(40) == 0 {
            witness.lets_go(&mine);
            store.kill(&format!("s{at}-{life}"));
            assert!(session.make_new_ids(1).is_err());
            life += 1;
            deaths.fetch_add(1, Ordering::Relaxed);
            (session, mine) = (store.session(&format!("s{at}-{life}")), Ids::default());
        }
    }
    witness.lets_go(&mine);
    session.shutdown().unwrap();
}

fn step(
    session: &Ledger,
    mine: &mut Ids,
    dice: &mut Dice,
    witness: &Witness,
) -> Result<(), LedgerError> {
    match dice.roll(8) {
        0..3 => {
            let made = Ids::from(session.make_new_ids(dice.roll(5))?);
            witness.made(&made);
            witness.got(&made);
            *mine = mine.union(&made);
        }
        3..5 => {
            let from = dice.roll(500);
            let got = session.lock_ids(from..from + dice.roll(20))?;
            // Own ones count again.
            witness.got(&got.difference(mine));
            *mine = mine.union(&got);
        }
        5..7 => {
            let from = dice.roll(500);
            let released = mine.intersection(&Ids::from(from..from + 40));
            witness.lets_go(&released);
            assert_eq!(session.release_ids(&released)?, released);
            *mine = mine.difference(&released);
        }
        _ => {
            session.reap()?;
            session.check()?;
        }
    }
    assert_eq!(session.ids()?, *mine);
    Ok(())
}
