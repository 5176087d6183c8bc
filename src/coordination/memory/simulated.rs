//! A store whose clock and whose faults are somebody's to play with: what a simulation of a cluster runs on.
//!
//! What happens depends on the seed and on who calls when, on nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::super::{DriverError, DriverErrorKind, Key, MemberId, Moment, Subject};
use super::{Memory, State, Store};

impl Memory {
    /// An empty store whose clock stands still, and the world around it that moves the clock and makes faults.
    ///
    /// `seed` decides which reports are lost, if some are.
    ///
    /// # Examples
    /// A member that pauses for longer than its time-to-live:
    /// ```
    /// use std::time::Duration;
    /// use tierlock::coordination::{Driver, DriverErrorKind, memory::Memory};
    ///
    /// let (store, world) = Memory::simulated(1);
    /// let seat = store.join("worker-1", Duration::from_secs(10)).unwrap();
    /// world.advance(9_999);
    /// assert!(store.is_alive(seat.id()).unwrap());
    /// world.advance(1);
    /// assert_eq!(seat.beat().unwrap_err().kind(), DriverErrorKind::Lost);
    /// ```
    #[must_use]
    pub fn simulated(seed: u64) -> (Self, World) {
        let faults = Faults { luck: seed, ..Faults::default() };
        let memory =
            Self::at("memory:".to_owned(), State { faults: Some(faults), ..State::default() });
        let world = World(Arc::clone(&memory.0));
        (memory, world)
    }
}

/// The world around a simulated store: time, and what goes wrong.
///
/// To pause a member, let it do nothing for a while. Faults last until [`calm`](Self::calm); the dead stay dead.
#[derive(Clone)]
pub struct World(Arc<Store>);

/// Something that somebody asks of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the method of `Driver` or `Seat` of its name")]
pub enum Call<'c> {
    Read(&'c Key),
    Swap { key: &'c Key, by: &'c MemberId },
    Keys(&'c str),
    Watch(&'c Subject),
    Join(&'c str),
    Beat(&'c MemberId),
    Leave(&'c MemberId),
    IsAlive(&'c MemberId),
    Members,
}

impl Call<'_> {
    /// On whose behalf, as far as the store is told.
    #[must_use]
    pub fn by(&self) -> Option<&MemberId> {
        match self {
            Call::Swap { by, .. } | Call::Beat(by) | Call::Leave(by) => Some(by),
            _ => None,
        }
    }
}

/// Which part of its way a call is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leg {
    /// To the store, which knows nothing of it yet.
    There,
    /// To whoever called; the store has done it.
    Back,
}

/// What becomes of a call on one leg of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It gets there.
    Arrives,
    /// It does not; the caller is told [`Unavailable`](DriverErrorKind::Unavailable), whether or not it was done.
    IsLost,
}

type Interposed = Arc<dyn Fn(Call<'_>, Leg) -> Fate + Send + Sync>;

impl World {
    /// Moves the clock, so many milliseconds on. Whose time-to-live is over dies.
    pub fn advance(&self, ms: u64) {
        self.with_faults(|faults| faults.now = faults.now.plus_ms(ms));
        self.0.with_state(|_| ());
    }

    /// Has `interposed` decide over each call on each leg of its way.
    ///
    /// What it does meanwhile, happens in between: if it moves the clock, the call is late; if it has others call the store,
    /// they are there first. Their calls are decided over as well. What it captured is kept until [`calm`](Self::calm), the
    /// store too.
    pub fn interpose(&self, interposed: impl Fn(Call<'_>, Leg) -> Fate + Send + Sync + 'static) {
        let interposed: Interposed = Arc::new(interposed);
        self.replace(Some(interposed));
    }

    /// Loses one in so many reports of watches, by chance; none if 0.
    pub fn lose_reports(&self, one_in: u64) {
        self.with_faults(|faults| faults.lost_one_in = one_in);
    }

    /// Cuts the member off, as if its process were killed: nothing it says arrives any more, not even that it leaves. It dies
    /// when its time-to-live is over.
    pub fn crash(&self, member: &MemberId) {
        self.with_faults(|faults| faults.crashed.insert(member.clone()));
    }

    /// Makes no more faults, but for those that crashed.
    pub fn calm(&self) {
        self.lose_reports(0);
        self.replace(None);
    }

    fn replace(&self, interposed: Option<Interposed>) {
        let before =
            self.with_faults(|faults| std::mem::replace(&mut faults.interposed, interposed));
        // Dropped where nothing is locked: it may hold seats.
        drop(before);
    }

    fn with_faults<R>(&self, act: impl FnOnce(&mut Faults) -> R) -> R {
        act(self.0.state.lock().faults.as_mut().expect("the store of a world is simulated"))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// What is wrong with the world, and what time it is there.
#[derive(Default)]
pub(super) struct Faults {
    now: Moment,
    /// State of a generator, which is the seed at first.
    luck: u64,
    lost_one_in: u64,
    crashed: BTreeSet<MemberId>,
    interposed: Option<Interposed>,
}

impl Faults {
    pub(super) fn now(&self) -> Moment {
        self.now
    }

    pub(super) fn loses_report(&mut self) -> bool {
        self.lost_one_in > 0 && self.chance().is_multiple_of(self.lost_one_in)
    }

    /// The next number of SplitMix64 (Steele, Lea and Flood, 2014).
    fn chance(&mut self) -> u64 {
        self.luck = self.luck.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.luck ^ (self.luck >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The host and the process of a member, the same in each run.
pub(super) fn place(life: u64) -> (Arc<str>, u32) {
    ("simulated".into(), life as u32)
}

impl Store {
    /// Takes a call one leg further.
    pub(super) fn travel(&self, call: Call<'_>, leg: Leg) -> Result<(), DriverError> {
        if !self.simulated {
            return Ok(());
        }
        let faults = |state: &State| state.faults.as_ref().and_then(|f| f.interposed.clone());
        let interposed = faults(&self.state.lock());
        let fate = interposed.map_or(Fate::Arrives, |interposed| interposed(call, leg));
        // Asked afterwards: it may have crashed meanwhile.
        let crashed = call.by().is_some_and(|by| self.has_crashed(by));
        if fate == Fate::Arrives && !crashed {
            return Ok(());
        }
        let what = match leg {
            Leg::There => format!("{call:?} did not get through"),
            Leg::Back => format!("{call:?} got no answer"),
        };
        Err(DriverError::new(DriverErrorKind::Unavailable, what))
    }

    fn has_crashed(&self, member: &MemberId) -> bool {
        let state = self.state.lock();
        state.faults.as_ref().is_some_and(|faults| faults.crashed.contains(member))
    }
}
