//! A request dropped at whatever moment leaves everything as if it had never been made.
//!
//! Every kind of request is dropped in every state that it can be in, in a world of its own; beside it stands a world where
//! nobody asked. Afterwards nobody can tell the two apart.

use std::any::Any;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tierlock::Mode::{Exclusive, IntentExclusive, Shared};
use tierlock::ganeti::Level::{Cluster, Instance, Network, Node};
use tierlock::monitor::{Group, Row};
use tierlock::{
    ALL, AcquireLock, AcquireOwned, AcquireSet, Guard, Level, LevelRequest, LockManager,
    LockMonitor, LockSet, Membership, Mode, Owner, Pending, Session, SetGuard, SetRequest,
    SharedLock, exclusive, ganeti, shared,
};

use super::{Bell, asked, held, outcome, poll_with};
use crate::support::{holds, in_time, ms, slots, until};

/// Every lock that a request may touch.
struct World {
    lock: SharedLock,
    set: LockSet,
    paths: LockSet,
    manager: LockManager,
    monitor: LockMonitor,
    asker: Owner,
}

/// What the asker holds.
#[derive(Default)]
struct Held {
    guard: Option<Guard<'static>>,
    names: Option<SetGuard>,
    session: Option<Session>,
}

type Asked<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Somebody who comes next, one of several in each world of its own.
type Behind = &'static [fn(&World) -> Next];

/// Something that can be asked for, and what stands in its way.
struct Kind {
    name: &'static str,
    before: fn(&World) -> Held,
    /// In the order in which the request comes to them.
    blockers: fn(&World) -> Vec<Box<dyn Any>>,
    ask: for<'a> fn(&'a World, &'a mut Held, How) -> Asked<'a>,
    /// Who may come next: wants something that the request gets.
    behind: Behind,
    /// Withdrawing it ends the session.
    takes_session: bool,
}

#[derive(Clone, Copy, Debug)]
struct How {
    face: Face,
    timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    /// `.await`, which asks when it is polled.
    Awaited,
    /// `enqueue()`, not looked at.
    Enqueued,
    /// `enqueue()` and `.await`.
    EnqueuedAndAwaited,
}

/// When a request is dropped.
#[derive(Clone, Copy, Debug)]
enum Moment {
    NotPolled,
    /// After so many of those in its way have left.
    Waiting(usize),
    /// After all of them have left.
    Granted,
    /// Asked for when nobody was in its way.
    HadAtOnce,
    /// Its time was up when so many of those in its way had left.
    Refused(usize),
    /// As before; and a look before it is dropped.
    RefusedAndSeen(usize),
    RefusedAtOnce,
}

impl Moment {
    /// How many of those in the way leave before it.
    fn leave(self, blockers: usize) -> usize {
        match self {
            Self::NotPolled | Self::HadAtOnce | Self::RefusedAtOnce => 0,
            Self::Waiting(count) | Self::Refused(count) | Self::RefusedAndSeen(count) => count,
            Self::Granted => blockers,
        }
    }

    fn timeout(self) -> Option<Duration> {
        match self {
            Self::Refused(_) | Self::RefusedAndSeen(_) => Some(ms(2)),
            Self::RefusedAtOnce => Some(Duration::ZERO),
            _ => None,
        }
    }
}

macro_rules! ask {
    ($how:expr, $request:expr) => {{
        let request = match $how.timeout {
            Some(timeout) => $request.timeout(timeout),
            None => $request,
        };
        match $how.face {
            Face::Awaited => Box::pin(async move {
                let _outcome = request.await;
            }),
            Face::Enqueued | Face::EnqueuedAndAwaited => {
                let pending = request.enqueue();
                Box::pin(async move {
                    let _outcome = pending.await;
                })
            }
        }
    }};
}

impl World {
    fn new() -> Self {
        let lock = SharedLock::new("config");
        let set = LockSet::new("set", Membership::Listed, ["a", "b", "c", "d"]).unwrap();
        let paths = LockSet::on_demand("paths");
        let manager =
            ganeti::manager(["web1", "web2"], [""; 0], ["n1", "n2", "n3"], ["lan"]).build();
        let manager = manager.unwrap();
        let monitor = manager.monitor();
        monitor.register(&lock);
        monitor.register(&set);
        monitor.register(&paths);
        Self { lock, set, paths, manager, monitor, asker: Owner::new("asker") }
    }

    /// Somebody else who holds this of the lock.
    fn holder(&self, mode: Mode) -> Box<dyn Any> {
        Box::new(held(&self.lock, "blocker", mode))
    }

    fn holder_in(&self, set: &LockSet, request: SetRequest) -> Box<dyn Any> {
        Box::new(set.acquire(&Owner::new("blocker"), request).now().unwrap())
    }

    fn holder_at(&self, request: LevelRequest) -> Box<dyn Any> {
        let mut session = self.rooted(Owner::new("blocker"));
        session.acquire(request).now().unwrap();
        Box::new(session)
    }

    /// A session that holds the root.
    fn rooted(&self, owner: Owner) -> Session {
        let mut session = self.manager.session_of(owner);
        session.acquire(Cluster.shared("BGL")).now().unwrap();
        session
    }

    fn holding(&self, mode: Mode) -> Held {
        let guard = self.lock.acquire(&self.asker, mode).now().unwrap().into_owned();
        Held { guard: Some(guard), ..Held::default() }
    }

    fn holding_names(&self, request: SetRequest) -> Held {
        let names = self.set.acquire(&self.asker, request).now().unwrap();
        Held { names: Some(names), ..Held::default() }
    }

    fn holding_level(&self, request: LevelRequest) -> Held {
        let mut session = self.rooted(self.asker.clone());
        session.acquire(request).now().unwrap();
        Held { session: Some(session), ..Held::default() }
    }

    fn holding_root(&self) -> Held {
        Held { session: Some(self.rooted(self.asker.clone())), ..Held::default() }
    }

    fn next(&self, mode: Mode) -> Next {
        Next::Lock(asked(&self.lock, "next", mode))
    }

    fn next_in(&self, set: &LockSet, request: SetRequest) -> Next {
        Next::Set(set.acquire(&Owner::new("next"), request).enqueue())
    }

    fn next_at(&self, mut wanted: Vec<LevelRequest>) -> Next {
        wanted.insert(0, Cluster.shared("BGL"));
        Next::Levels(self.manager.session("next").acquire_owned(wanted).enqueue())
    }

    /// Where the asker waits.
    fn waits_at(&self) -> Vec<String> {
        let snapshot = self.monitor.snapshot();
        let waits = |group: &Group| group.members.iter().any(|w| w.owner.name() == "asker");
        let rows = snapshot.rows().iter().filter(|row| row.pending.iter().any(waits));
        rows.map(|row| row.name.to_string()).collect()
    }

    /// Everything that can be seen, but for how long it has been so.
    fn look(&self) -> String {
        let rows = self.monitor.snapshot();
        let rows: Vec<_> = rows.rows().iter().map(line).collect();
        let asker = (holds(&self.asker), slots(&self.asker));
        format!("asker {asker:?}\n{}\n", rows.join("\n"))
    }
}

fn line(row: &Row) -> String {
    let owners = row.owners.iter().map(|held| format!(" {}:{}", held.owner.name(), held.mode));
    let pending = row.pending.iter().map(|group| {
        let names: Vec<_> = group.members.iter().map(|waiting| waiting.owner.name()).collect();
        format!(" [{} {:?} {} {names:?}]", group.mode, group.from, group.priority)
    });
    let pending: String = pending.collect();
    let held = (row.mode, row.deleted, row.abandoned.is_some());
    format!("{} {held:?}{} |{pending}", row.name, owners.collect::<String>())
}

/// A request of somebody who comes next.
enum Next {
    Lock(Pending<AcquireLock<'static>>),
    Set(Pending<AcquireSet>),
    Levels(Pending<AcquireOwned>),
}

impl Next {
    fn is_decided(&self) -> bool {
        match self {
            Self::Lock(pending) => pending.is_decided(),
            Self::Set(pending) => pending.is_decided(),
            Self::Levels(pending) => pending.is_decided(),
        }
    }

    /// Takes the outcome, and gives back what it is.
    fn served(self) -> bool {
        match self {
            Self::Lock(pending) => outcome(pending).is_ok(),
            Self::Set(pending) => outcome(pending).is_ok(),
            Self::Levels(pending) => outcome(pending).is_ok(),
        }
    }
}

const NOTHING: fn(&World) -> Held = |_| Held::default();
const NOBODY: fn(&World) -> Vec<Box<dyn Any>> = |_| Vec::new();

const WRITER_BEHIND: Behind = &[|world| world.next(Exclusive)];
const READER_BEHIND: Behind = &[|world| world.next(Shared)];
const ALL_BEHIND: Behind = &[|world| world.next_in(&world.set, exclusive(ALL))];
const NAMES_BEHIND: Behind =
    &[ALL_BEHIND[0], |world| world.next_in(&world.set, exclusive(["a", "b", "c"]))];
const NAME_READERS_BEHIND: Behind = &[
    |world| world.next_in(&world.set, shared(ALL)),
    |world| world.next_in(&world.set, shared(["a", "b", "c"])),
];
const ALL_NODES_BEHIND: Behind = &[|world| world.next_at(vec![Node.exclusive(ALL)])];
const NODES_BEHIND: Behind =
    &[ALL_NODES_BEHIND[0], |world| world.next_at(vec![Node.exclusive(["n1", "n2", "n3"])])];
const NODE_READERS_BEHIND: Behind = &[
    |world| world.next_at(vec![Node.shared(ALL)]),
    |world| world.next_at(vec![Node.shared(["n1", "n2", "n3"])]),
];
const PLAN_BEHIND: Behind = &[|world| {
    let nodes = Node.exclusive(["n1", "n2", "n3"]);
    world.next_at(vec![Instance.exclusive("web1"), nodes, Network.exclusive("lan")])
}];

const EACH_NAME_HELD: fn(&World) -> Vec<Box<dyn Any>> =
    |world| ["a", "b", "c"].map(|name| world.holder_in(&world.set, exclusive(name))).into();
const EACH_NODE_HELD: fn(&World) -> Vec<Box<dyn Any>> =
    |world| ["n1", "n2", "n3"].map(|name| world.holder_at(Node.exclusive(name))).into();

fn plan() -> [LevelRequest; 3] {
    [Instance.exclusive("web1"), Node.shared(ALL), Network.exclusive("lan")]
}

/// What a [`plan`] meets.
const PLAN_HELD: fn(&World) -> Vec<Box<dyn Any>> = |world| {
    [Instance.shared("web1"), Node.exclusive("n2"), Network.shared("lan")]
        .map(|request| world.holder_at(request))
        .into()
};

const LOCKS: &[Kind] = &[
    Kind {
        name: "a lock",
        before: NOTHING,
        blockers: |world| vec![world.holder(Exclusive)],
        ask: |world, _, how| ask!(how, world.lock.exclusive(&world.asker)),
        behind: WRITER_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "a lock among readers",
        before: NOTHING,
        blockers: |world| vec![world.holder(IntentExclusive)],
        ask: |world, _, how| ask!(how, world.lock.shared(&world.asker)),
        behind: WRITER_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "a lock to be deleted",
        before: NOTHING,
        blockers: |world| vec![world.holder(Shared)],
        ask: |world, _, how| ask!(how, world.lock.delete(&world.asker)),
        behind: WRITER_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "a lock to be upgraded",
        before: |world| world.holding(Shared),
        blockers: |world| vec![Box::new((world.holder(Shared), world.holder(Shared)))],
        ask: |_, held, how| ask!(how, held.guard.as_mut().unwrap().upgrade()),
        behind: READER_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "a lock to be upgraded to both of two modes",
        before: |world| world.holding(Shared),
        blockers: |world| vec![world.holder(Shared)],
        ask: |_, held, how| ask!(how, held.guard.as_mut().unwrap().upgrade_to(IntentExclusive)),
        behind: READER_BEHIND,
        takes_session: false,
    },
];

const SETS: &[Kind] = &[
    Kind {
        name: "names",
        before: NOTHING,
        blockers: EACH_NAME_HELD,
        ask: |world, _, how| ask!(how, world.set.acquire(&world.asker, exclusive(["a", "b", "c"]))),
        behind: NAMES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names of which all are held",
        before: NOTHING,
        blockers: |world| vec![world.holder_in(&world.set, shared(ALL))],
        ask: |world, _, how| ask!(how, world.set.acquire(&world.asker, exclusive(["a", "c"]))),
        behind: NAMES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names that come on demand",
        before: NOTHING,
        blockers: |world| {
            ["/etc", "/usr"].map(|name| world.holder_in(&world.paths, shared(name))).into()
        },
        ask: |world, _, how| {
            ask!(how, world.paths.acquire(&world.asker, exclusive(["/bin", "/etc", "/usr"])))
        },
        behind: &[|world| world.next_in(&world.paths, exclusive(["/bin", "/etc"]))],
        takes_session: false,
    },
    Kind {
        name: "all of a set",
        before: NOTHING,
        blockers: |world| vec![world.holder_in(&world.set, shared("b"))],
        ask: |world, _, how| ask!(how, world.set.acquire(&world.asker, exclusive(ALL))),
        behind: NAMES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "no names",
        before: NOTHING,
        blockers: NOBODY,
        ask: |world, _, how| ask!(how, world.set.acquire(&world.asker, exclusive([""; 0]))),
        behind: NAMES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "what is free of a set",
        before: NOTHING,
        blockers: NOBODY,
        ask: |world, _, how| {
            ask!(how, world.set.acquire(&world.asker, exclusive(ALL).opportunistic()))
        },
        behind: NAMES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "more than is free of a set",
        before: NOTHING,
        blockers: NOBODY,
        ask: |world, _, how| ask!(how, world.set.acquire(&world.asker, exclusive(ALL).at_least(9))),
        behind: NAMES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "the last name held, to be upgraded",
        before: |world| world.holding_names(shared(["a", "b", "c"])),
        blockers: |world| vec![world.holder_in(&world.set, shared("c"))],
        ask: |_, held, how| ask!(how, held.names.as_mut().unwrap().upgrade("c")),
        behind: NAME_READERS_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "every name held, to be upgraded, of which some are free for it",
        before: |world| world.holding_names(shared(["a", "b", "c"])),
        blockers: |world| vec![world.holder_in(&world.set, shared("c"))],
        ask: |_, held, how| ask!(how, held.names.as_mut().unwrap().upgrade(ALL)),
        behind: NAME_READERS_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "all of a set, to be upgraded",
        before: |world| world.holding_names(shared(ALL)),
        blockers: |world| vec![world.holder_in(&world.set, shared(["a", "b"]))],
        ask: |_, held, how| ask!(how, held.names.as_mut().unwrap().upgrade(ALL)),
        behind: NAME_READERS_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be upgraded beside all of a set",
        before: |world| world.holding_names(shared(ALL)),
        blockers: NOBODY,
        ask: |_, held, how| ask!(how, held.names.as_mut().unwrap().upgrade(["a", "b"])),
        behind: NAME_READERS_BEHIND,
        takes_session: false,
    },
];

const MEMBERS: &[Kind] = &[
    Kind {
        name: "names to be added",
        before: NOTHING,
        blockers: |world| vec![world.holder_in(&world.set, shared(ALL))],
        ask: |world, _, how| ask!(how, world.set.add(&world.asker, ["e", "f"])),
        behind: ALL_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be added held",
        before: NOTHING,
        blockers: |world| vec![world.holder_in(&world.set, shared(ALL))],
        ask: |world, _, how| ask!(how, world.set.add_held(&world.asker, ["e", "f"])),
        behind: ALL_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be added by who holds all",
        before: |world| world.holding_names(exclusive(ALL)),
        blockers: NOBODY,
        ask: |_, held, how| ask!(how, held.names.as_mut().unwrap().add(["e", "f"])),
        behind: NAMES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be removed",
        before: NOTHING,
        blockers: EACH_NAME_HELD,
        ask: |world, _, how| ask!(how, world.set.remove(&world.asker, ["a", "b", "c"])),
        behind: NAMES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be removed by who holds them",
        before: |world| world.holding_names(exclusive(["a", "b"])),
        blockers: NOBODY,
        ask: |_, held, how| ask!(how, held.names.as_mut().unwrap().remove("b")),
        behind: NAMES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be added to a level",
        before: World::holding_root,
        blockers: |world| vec![world.holder_at(Node.shared(ALL))],
        ask: |_, held, how| ask!(how, held.session.as_mut().unwrap().add(Node, ["n8", "n9"])),
        behind: ALL_NODES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be added to a level held",
        before: World::holding_root,
        blockers: |world| vec![world.holder_at(Node.shared(ALL))],
        ask: |_, held, how| ask!(how, held.session.as_mut().unwrap().add_held(Node, ["n8", "n9"])),
        behind: ALL_NODES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be added held to a level of which some are held",
        before: |world| world.holding_level(Node.exclusive("n1")),
        blockers: NOBODY,
        ask: |_, held, how| ask!(how, held.session.as_mut().unwrap().add_held(Node, ["n8", "n9"])),
        behind: NODES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be removed from a level",
        before: World::holding_root,
        blockers: EACH_NODE_HELD,
        ask: |_, held, how| {
            ask!(how, held.session.as_mut().unwrap().remove(Node, ["n1", "n2", "n3"]))
        },
        behind: NODES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names to be removed from a level by who holds them",
        before: |world| world.holding_level(Node.exclusive(["n1", "n2"])),
        blockers: NOBODY,
        ask: |_, held, how| ask!(how, held.session.as_mut().unwrap().remove(Node, "n2")),
        behind: NODES_BEHIND,
        takes_session: false,
    },
];

const LEVELS: &[Kind] = &[
    Kind {
        name: "the root and what is below",
        before: |world| Held {
            session: Some(world.manager.session_of(world.asker.clone())),
            ..Held::default()
        },
        blockers: |world| {
            let mut session = world.manager.session("blocker");
            session.acquire(Cluster.exclusive("BGL")).now().unwrap();
            vec![Box::new(session)]
        },
        ask: |_, held, how| {
            let wanted = [Cluster.shared("BGL"), Node.exclusive("n1")];
            ask!(how, held.session.as_mut().unwrap().acquire(wanted))
        },
        behind: NODES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "names of a level",
        before: World::holding_root,
        blockers: EACH_NODE_HELD,
        ask: |_, held, how| {
            let wanted = Node.exclusive(["n1", "n2", "n3"]);
            ask!(how, held.session.as_mut().unwrap().acquire(wanted))
        },
        behind: NODES_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "several levels",
        before: World::holding_root,
        blockers: PLAN_HELD,
        ask: |_, held, how| ask!(how, held.session.as_mut().unwrap().acquire(plan())),
        behind: PLAN_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "what is free of a level between two others",
        before: World::holding_root,
        blockers: |world| {
            [Instance.shared("web1"), Network.shared("lan")]
                .map(|request| world.holder_at(request))
                .into()
        },
        ask: |_, held, how| {
            let free = Node.exclusive(ALL).opportunistic();
            let wanted = [Instance.exclusive("web1"), free, Network.exclusive("lan")];
            ask!(how, held.session.as_mut().unwrap().acquire(wanted))
        },
        behind: PLAN_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "a plan",
        before: World::holding_root,
        blockers: PLAN_HELD,
        ask: |world, held, how| {
            let plan = world.manager.plan(plan()).unwrap();
            ask!(how, held.session.as_mut().unwrap().acquire(plan))
        },
        behind: PLAN_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "a plan, with the session",
        before: World::holding_root,
        blockers: PLAN_HELD,
        ask: |world, held, how| {
            let plan = world.manager.plan(plan()).unwrap();
            ask!(how, held.session.take().unwrap().acquire_owned(plan))
        },
        behind: PLAN_BEHIND,
        takes_session: true,
    },
    Kind {
        name: "names of a level, to be upgraded, of which some are free for it",
        before: |world| world.holding_level(Node.shared(["n1", "n2", "n3"])),
        blockers: |world| vec![world.holder_at(Node.shared("n3"))],
        ask: |_, held, how| ask!(how, held.session.as_mut().unwrap().upgrade(Node, ALL)),
        behind: NODE_READERS_BEHIND,
        takes_session: false,
    },
    Kind {
        name: "all of a level, to be upgraded",
        before: |world| world.holding_level(Node.shared(ALL)),
        blockers: |world| vec![world.holder_at(Node.shared("n3"))],
        ask: |_, held, how| ask!(how, held.session.as_mut().unwrap().upgrade(Node, ALL)),
        behind: NODE_READERS_BEHIND,
        takes_session: false,
    },
];

fn kinds() -> impl Iterator<Item = &'static Kind> {
    [LOCKS, SETS, MEMBERS, LEVELS].into_iter().flatten()
}

impl Kind {
    fn count_blockers(&self) -> usize {
        (self.blockers)(&World::new()).len()
    }

    /// Sees that the world where the request was made and dropped becomes the one where nobody asked.
    fn check(&self, moment: Moment, face: Face) {
        for (at, behind) in self.behind.iter().enumerate() {
            let not_asked = self.play(moment, None, behind);
            let asked = self.play(moment, Some((face, &not_asked[0])), behind);
            for (asked, not_asked) in asked.iter().zip(&not_asked) {
                let message = format!("{}, {face:?}, {moment:?}, before {at}", self.name);
                assert!(asked == not_asked, "{message}:\n{asked}\ninstead of\n{not_asked}");
            }
        }
    }

    /// Asks, or does not, and drops that when the moment has come; what can be seen then, and as others leave. One that asks
    /// is told what is to be seen first.
    fn play(
        &self,
        moment: Moment,
        asks: Option<(Face, &String)>,
        behind: impl Fn(&World) -> Next,
    ) -> Vec<String> {
        let (world, mut seen) = (World::new(), Vec::new());
        let mut held = (self.before)(&world);
        let mut blockers = (self.blockers)(&world);
        if matches!(moment, Moment::HadAtOnce) {
            blockers.clear();
        }
        let next = {
            let asked = asks.map(|(face, _)| self.ask(&world, &mut held, moment, face));
            let next = behind(&world);
            blockers.drain(..moment.leave(blockers.len()));
            if asked.is_some() {
                self.check_moment(&world, moment, &next);
            }
            if matches!(moment, Moment::RefusedAndSeen(_)) {
                // Whoever refuses it may be giving back what it had.
                in_time(|| asks.is_none_or(|(_, first)| world.look() == *first));
                seen.push(world.look());
            }
            next
        };
        if self.takes_session {
            held.session = None;
        }
        seen.push(world.look());
        drop(blockers);
        seen.push(world.look());
        drop(held);
        seen.push(world.look());
        assert!(next.is_decided() && next.served(), "{}, {moment:?}: nobody next", self.name);
        seen
    }

    fn ask<'a>(
        &self,
        world: &'a World,
        held: &'a mut Held,
        moment: Moment,
        face: Face,
    ) -> Asked<'a> {
        let mut asked = (self.ask)(world, held, How { face, timeout: moment.timeout() });
        let polls = match face {
            Face::Awaited => !matches!(moment, Moment::NotPolled),
            Face::Enqueued => false,
            Face::EnqueuedAndAwaited => true,
        };
        let is_ready = polls && poll_with(&mut asked, &Arc::new(Bell::default())).is_ready();
        // On a busy machine its time may be up already.
        assert!(!is_ready || moment.timeout().is_some());
        asked
    }

    /// Sees that the request is where it is to be dropped, and that whoever comes next has to wait for that.
    fn check_moment(&self, world: &World, moment: Moment, next: &Next) {
        let waits_at = world.waits_at();
        let message = format!("{}, {moment:?}: waits at {waits_at:?}", self.name);
        match moment {
            Moment::Waiting(_) => assert_eq!(waits_at.len(), 1, "{message}"),
            Moment::Refused(_) | Moment::RefusedAndSeen(_) => until(|| world.waits_at().is_empty()),
            _ => assert!(waits_at.is_empty(), "{message}"),
        }
        if matches!(moment, Moment::Waiting(_) | Moment::Granted) {
            assert!(!next.is_decided(), "{message}, and nobody waits for it");
        }
    }
}

#[test]
fn before_it_is_polled_nothing_was_asked_for() {
    for kind in kinds() {
        kind.check(Moment::NotPolled, Face::Awaited);
    }
}

#[test]
fn while_it_waits_at_whichever_of_its_locks() {
    for kind in kinds() {
        for left in 0..kind.count_blockers() {
            for face in [Face::Awaited, Face::Enqueued, Face::EnqueuedAndAwaited] {
                kind.check(Moment::Waiting(left), face);
            }
        }
    }
}

#[test]
fn once_it_was_granted_but_not_taken() {
    for kind in kinds().filter(|kind| kind.count_blockers() > 0) {
        for face in [Face::Awaited, Face::Enqueued, Face::EnqueuedAndAwaited] {
            kind.check(Moment::Granted, face);
        }
    }
}

#[test]
fn if_it_was_had_at_once_but_not_taken() {
    for kind in kinds() {
        kind.check(Moment::HadAtOnce, Face::Enqueued);
    }
}

#[test]
fn once_it_was_refused_though_nobody_took_that() {
    for kind in kinds() {
        for left in 0..kind.count_blockers() {
            for face in [Face::Awaited, Face::Enqueued, Face::EnqueuedAndAwaited] {
                kind.check(Moment::Refused(left), face);
            }
        }
    }
}

/// Dropping it has nothing more to give back.
#[test]
fn once_it_was_refused_even_before_it_is_dropped() {
    for kind in kinds() {
        for left in 0..kind.count_blockers() {
            kind.check(Moment::RefusedAndSeen(left), Face::Enqueued);
        }
    }
}

#[test]
fn if_it_was_refused_at_once() {
    for kind in kinds().filter(|kind| kind.count_blockers() > 0) {
        kind.check(Moment::RefusedAtOnce, Face::Enqueued);
    }
}

/// The table would prove little if a request of it waited in one place only.
#[test]
fn the_requests_of_the_table_wait_at_a_lock_of_its_own_for_each_that_blocks_them() {
    for kind in kinds() {
        let world = World::new();
        let mut held = (kind.before)(&world);
        let blockers = (kind.blockers)(&world);
        let count = blockers.len();
        let how = How { face: Face::Enqueued, timeout: None };
        let _asked = (kind.ask)(&world, &mut held, how);
        let mut places = BTreeSet::new();
        for blocker in blockers {
            places.extend(world.waits_at());
            drop(blocker);
        }
        assert_eq!(places.len(), count, "{}: {places:?}", kind.name);
    }
}
