//! Looking at a snapshot: as a table, as a graph, as the reason of a wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tierlock::monitor::{Repeat, Row, Snapshot, Who, Why};
use tierlock::{Guard, LockMonitor, Mode, Owner, SharedLock};

use super::{Fixed, names, watching, when_awaited};
use crate::support::{LONG, Waiter, ms, waits};

/// What a monitor shows of these rows.
fn shown(rows: Vec<Row>) -> Snapshot {
    let (monitor, fixed) = (LockMonitor::new(), Arc::new(Fixed(rows)));
    monitor.register(&fixed);
    monitor.snapshot()
}

fn awaited(row: Row, owner: &str) -> Row {
    row.awaited_by(owner, Mode::Exclusive, 0, Duration::from_secs(2))
}

fn held(name: &str, owner: &str) -> Row {
    Row::new(name).held_by(owner, Mode::Exclusive)
}

#[track_caller]
fn why(snapshot: &Snapshot, owner: &str) -> Why {
    snapshot.why(owner).unwrap_or_else(|| panic!("{owner} waits in\n{snapshot}"))
}

mod why {
    use super::*;

    #[test]
    fn it_names_the_whole_chain_of_blockers() {
        let locks = ["a", "b"].map(SharedLock::new);
        let monitor = watching(&locks.iter().collect::<Vec<_>>());
        let [first, second] = ["job-1", "job-2"].map(Owner::new);
        let deep = locks[1].exclusive(&first).now().unwrap();
        let upper: Guard<'static> = locks[0].exclusive(&second).now().unwrap().into_owned();
        let (lower, owner) = (locks[1].clone(), second.clone());
        let middle = Waiter::of(&second, move || {
            let got = lower.shared(&owner).timeout(LONG).wait().map(drop);
            drop(upper);
            got
        });
        drop(when_awaited(&monitor, "b", 1));
        let last = waits(&locks[0], "job-3", Mode::Shared, |a| a.timeout(LONG));
        let snapshot = when_awaited(&monitor, "a", 1);

        let why = snapshot.why(&last.owner).unwrap();
        let steps: Vec<_> = why.steps().iter().map(|s| (s.depth, s.owner.name())).collect();
        assert_eq!(steps, [(0, "job-3"), (1, "job-2"), (2, "job-1")]);
        let wait = why.steps()[1].waits.as_ref().unwrap();
        assert_eq!((wait.lock.to_string().as_str(), wait.mode), ("b", Mode::Shared));
        assert_eq!(why.ends().map(Who::name).collect::<Vec<_>>(), ["job-1"]);
        assert!(!why.has_cycle());
        drop(deep);
        middle.join().unwrap();
        drop(last.join());
    }

    #[test]
    fn a_real_deadlock_shows_as_a_cycle() {
        let locks = ["a", "b"].map(SharedLock::new);
        let monitor = watching(&locks.iter().collect::<Vec<_>>());
        let jobs = ["job-1", "job-2"].map(Owner::new);
        let guards = [0, 1].map(|at: usize| locks[at].exclusive(&jobs[at]).now().unwrap());
        let wait = |at: usize| {
            let (lock, owner) = (locks[1 - at].clone(), jobs[at].clone());
            Waiter::of(&jobs[at], move || lock.exclusive(&owner).timeout(LONG).wait().map(drop))
        };
        let waiters = [0, 1].map(wait);
        drop(when_awaited(&monitor, "a", 1));
        let snapshot = when_awaited(&monitor, "b", 1);
        let why = snapshot.why(&jobs[0]).unwrap();
        assert!(why.has_cycle(), "{why}");
        assert_eq!(why.ends().count(), 0);
        assert_eq!(
            why.steps().last().map(|s| (s.owner.name(), s.repeat)),
            Some(("job-1", Some(Repeat::Cycle)))
        );
        drop(guards);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    }

    #[test]
    fn holders_that_conflict_come_first_then_those_in_front() {
        let row =
            Row::new("a").held_by("reader", Mode::Shared).held_by("intender", Mode::IntentShared);
        let row = row
            .awaited_by("urgent", Mode::Exclusive, -5, Duration::from_secs(3))
            .awaited_by("writer", Mode::SharedIntentExclusive, 0, Duration::from_secs(2))
            .awaited_by("asking", Mode::IntentExclusive, 0, Duration::from_secs(1))
            .awaited_by("behind", Mode::Exclusive, 0, ms(100));
        assert_eq!(
            why(&shown(vec![row]), "asking").to_string(),
            "\
asking waits for a intent-exclusive (1.0s)
  reader holds a shared
  urgent waits in front for a exclusive at -5 (3.0s)
    intender holds a intent-shared
  writer waits in front for a shared-intent-exclusive (2.0s)
"
        );
    }

    #[test]
    fn a_cycle_is_cut_and_named() {
        let rows = vec![awaited(held("a", "job-1"), "job-2"), awaited(held("b", "job-2"), "job-1")];
        assert_eq!(
            why(&shown(rows), "job-1").to_string(),
            "\
job-1 waits for b exclusive (2.0s)
  job-2 holds b exclusive and waits for a exclusive (2.0s)
    job-1 holds a exclusive and waits for b exclusive (2.0s): a cycle
"
        );
    }

    #[test]
    fn a_cycle_through_somebody_in_front_is_found() {
        // job-1 waits behind job-2 for what job-3 holds, job-3 waits for what job-2 holds: by its place in front.
        let queued =
            awaited(awaited(Row::new("a").held_by("job-3", Mode::Shared), "job-2"), "job-1");
        let rows = vec![queued, awaited(held("b", "job-2"), "job-3")];
        let why = why(&shown(rows), "job-2");
        assert!(why.has_cycle(), "{why}");
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let two = Row::new("a").held_by("job-1", Mode::Shared).held_by("job-2", Mode::Shared);
        let rows = vec![
            awaited(two, "asking"),
            awaited(awaited(held("b", "job-3"), "job-1"), "job-2"),
            awaited(held("c", "job-4"), "job-3"),
        ];
        assert_eq!(
            why(&shown(rows), "asking").to_string(),
            "\
asking waits for a exclusive (2.0s)
  job-1 holds a shared and waits for b exclusive (2.0s)
    job-3 holds b exclusive and waits for c exclusive (2.0s)
      job-4 holds c exclusive
  job-2 holds a shared and waits for b exclusive (2.0s)
    job-3 holds b exclusive and waits for c exclusive (2.0s): see above
    job-1 waits in front for b exclusive (2.0s)
"
        );
    }

    #[test]
    fn a_conversion_in_front_tells_what_it_waits_for() {
        let lock = SharedLock::new("a");
        let monitor = watching(&[&lock]);
        let (first, second) = (Owner::new("job-1"), Owner::new("job-2"));
        let other = lock.shared(&second).now().unwrap();
        let mut guard: Guard<'static> = lock.shared(&first).now().unwrap().into_owned();
        let converts =
            Waiter::of(&first, move || guard.upgrade().timeout(LONG).wait().map(|()| drop(guard)));
        drop(when_awaited(&monitor, "a", 1));
        let asking = waits(&lock, "asking", Mode::IntentShared, |a| a.timeout(LONG));
        let snapshot = when_awaited(&monitor, "a", 2);
        let why = snapshot.why(&asking.owner).unwrap();
        let steps: Vec<_> =
            why.steps().iter().map(|s| (s.depth, s.owner.name(), s.waits.is_some())).collect();
        assert_eq!(steps, [(0, "asking", true), (1, "job-1", true), (2, "job-2", false)], "{why}");
        drop(other);
        converts.join().unwrap();
        drop(asking.join());
    }

    #[test]
    fn who_does_not_wait_has_no_reason_to() {
        let snapshot = shown(vec![held("a", "job-1")]);
        assert_eq!(snapshot.why("job-1"), None);
        assert_eq!(snapshot.why("nobody"), None);
    }

    #[test]
    fn who_was_granted_meanwhile_is_in_nobodys_way() {
        let why = why(&shown(vec![awaited(Row::new("a"), "job-1")]), "job-1");
        assert!(why.to_string().ends_with("\n  nothing is in its way any more\n"), "{why}");
    }

    #[test]
    fn owners_of_one_name_are_told_apart() {
        let locks = ["a", "b"].map(SharedLock::new);
        let monitor = watching(&locks.iter().collect::<Vec<_>>());
        let [first, second] = ["job", "job"].map(Owner::new);
        let guards =
            [locks[0].exclusive(&first).now().unwrap(), locks[1].exclusive(&second).now().unwrap()];
        let third = waits(&locks[0], "job", Mode::Shared, |a| a.timeout(LONG));
        let snapshot = when_awaited(&monitor, "a", 1);
        let why = snapshot.why(&third.owner).unwrap();
        assert_eq!(why.steps().len(), 2, "the holder is another one, and does not wait: {why}");
        assert!(!why.has_cycle());
        assert_eq!(snapshot.why(&first), None);
        assert_eq!(names(&snapshot.of(&second)), ["b"]);
        assert_eq!(names(&snapshot.of("job")), ["a", "b"]);
        drop(guards);
        drop(third.join());
    }

    #[test]
    fn a_chain_of_ten_thousand_is_told_to_its_end() {
        const LENGTH: usize = 10_000;
        let row = |at: usize| {
            awaited(held(&format!("lock-{at}"), &format!("job-{}", at + 1)), &format!("job-{at}"))
        };
        let why = why(&shown((0..LENGTH).map(row).collect()), "job-0");
        assert_eq!(why.steps().len(), LENGTH + 1);
        assert_eq!(
            why.ends().map(|who| who.name().to_owned()).collect::<Vec<_>>(),
            [format!("job-{LENGTH}")]
        );
    }

    #[test]
    fn a_queue_of_ten_thousand_is_told_once() {
        const LENGTH: usize = 10_000;
        let row =
            (0..LENGTH).fold(held("a", "first"), |row, at| awaited(row, &format!("job-{at}")));
        let snapshot = shown(vec![row]);
        let last = format!("job-{}", LENGTH - 1);
        assert_eq!(why(&snapshot, &last).steps().len(), LENGTH + 1);
    }
}

mod filters {
    use super::*;

    #[test]
    fn they_find_what_is_held_what_is_awaited_and_what_is_somebodys() {
        let snapshot = shown(vec![
            Row::new("free"),
            held("held", "job-1"),
            awaited(held("contended", "job-2"), "job-1"),
            awaited(Row::new("awaited"), "job-3"),
        ]);
        assert_eq!(names(&snapshot.held()), ["contended", "held"]);
        assert_eq!(names(&snapshot.contended()), ["awaited", "contended"]);
        assert_eq!(names(&snapshot.of("job-1")), ["contended", "held"]);
        assert_eq!(names(&snapshot.of("nobody")), [""; 0]);
    }
}

mod table {
    use super::*;

    #[test]
    fn it_is_aligned_and_says_what_differs_from_the_row() {
        let mixed =
            Row::new("b").held_by("job-10", Mode::IntentShared).held_by("job-9", Mode::Shared);
        let queued = mixed
            .awaited_by("job-1", Mode::Exclusive, -5, Duration::from_secs(3))
            .awaited_by("job-2", Mode::Shared, 0, ms(250))
            .awaited_by("job-3", Mode::Shared, 0, ms(50));
        assert_eq!(
            shown(vec![queued, Row::new("a-longer-name")]).to_string(),
            "\
Name           Mode    Owner                          Pending
a-longer-name  -       -                              -
b              shared  job-9, job-10 (intent-shared)  exclusive at -5: job-1 3.0s; shared: job-2 250.0ms, job-3 50.0ms
"
        );
    }

    #[test]
    fn a_hostile_name_cannot_forge_a_row() {
        let hostile =
            ["a\nforged  exclusive  root", "b\r\x1b[2Kc", "d, e", "f  exclusive", "-", "", "g\"h"];
        let rows: Vec<_> = hostile.iter().map(|name| held(name, name)).collect();
        let table = shown(rows).to_string();
        assert_eq!(table.lines().count(), 1 + hostile.len(), "{table}");
        assert!(table.chars().all(|c| c == '\n' || !c.is_control()), "{table:?}");
        for line in table.lines().skip(1) {
            let outside: String = line.split('"').step_by(2).collect();
            let cells: Vec<_> = outside.split_whitespace().collect();
            assert!(!cells.contains(&"root") && !cells.contains(&"e"), "{line}");
        }
    }

    #[test]
    fn one_long_name_does_not_widen_every_line() {
        let table = shown(vec![Row::new("x".repeat(10_000)), Row::new("short")]).to_string();
        assert!(table.lines().filter(|line| line.len() > 100).count() == 1, "{table}");
    }
}

mod dot {
    use super::*;

    /// What Graphviz would read: statements of identifiers, arrows, and attributes whose values are quoted or plain.
    fn statements(dot: &str) -> Vec<Vec<String>> {
        let body = dot.strip_prefix("digraph locks {\n").and_then(|rest| rest.strip_suffix("}\n"));
        let (mut statements, mut tokens, mut chars) =
            (Vec::new(), Vec::new(), body.expect("one graph").chars().peekable());
        while let Some(c) = chars.next() {
            match c {
                ';' => statements.push(std::mem::take(&mut tokens)),
                '"' => tokens.push(quoted(&mut chars)),
                c if c.is_whitespace() => {}
                c if c.is_alphanumeric() => {
                    let mut word = String::from(c);
                    while let Some(c) = chars.next_if(|c| c.is_alphanumeric()) {
                        word.push(c);
                    }
                    tokens.push(word);
                }
                '[' | ']' | '=' | ',' | '-' | '>' => tokens.push(c.to_string()),
                c => panic!("{c:?} outside of a string in\n{dot}"),
            }
        }
        assert!(tokens.is_empty(), "an unfinished statement: {tokens:?}");
        statements
    }

    fn quoted(chars: &mut impl Iterator<Item = char>) -> String {
        let mut text = String::from("\"");
        while let Some(c) = chars.next() {
            match c {
                '"' => return text,
                '\\' => text.extend(chars.next()),
                '\n' => panic!("a line ends in the string {text}"),
                c => text.push(c),
            }
        }
        panic!("the string {text} does not end")
    }

    #[test]
    fn it_draws_who_holds_and_who_waits_and_leaves_out_what_is_free() {
        let dot = shown(vec![Row::new("free"), awaited(held("a", "job-1"), "job-2")]).to_dot();
        let expected = "\
digraph locks {
    rankdir=LR;
    lock0 [shape=box, label=\"a\"];
    owner0 [label=\"job-1\"];
    lock0 -> owner0 [label=\"exclusive\"];
    owner1 [label=\"job-2\"];
    owner1 -> lock0 [style=dashed, label=\"exclusive 2.0s\"];
}
";
        assert_eq!(dot, expected);
    }

    #[test]
    fn an_owner_is_one_node_however_it_is_known() {
        let lock = SharedLock::new("a");
        let (monitor, owner) = (watching(&[&lock]), Owner::new("job-1"));
        let jobs = Arc::new(Fixed(vec![held("job/1", "job-1")]));
        monitor.register(&jobs);
        let _guard = lock.shared(&owner).now().unwrap();
        let dot = monitor.snapshot().to_dot();
        assert_eq!(dot.matches("label=\"job-1\"").count(), 1, "{dot}");
    }

    #[test]
    fn a_hostile_name_stays_a_label() {
        let hostile =
            ["\"]; evil [label=\"", "a\\", "b\n\"", "\\N&quot;", "]}", "<b>", "\u{202e}", ""];
        let rows = hostile.iter().map(|name| awaited(held(name, name), &format!("{name}!")));
        let statements = statements(&shown(rows.collect()).to_dot());
        let nodes: HashSet<_> = statements
            .iter()
            .filter(|s| s.get(1).is_some_and(|t| t == "["))
            .map(|s| &s[0])
            .collect();
        let edges: Vec<_> =
            statements.iter().filter(|s| s.get(1).is_some_and(|t| t == "-")).collect();
        assert_eq!((nodes.len(), edges.len()), (3 * hostile.len(), 2 * hostile.len()));
        assert!(edges.iter().all(|edge| nodes.contains(&edge[0]) && nodes.contains(&edge[3])));
        assert_eq!(statements.len(), 1 + nodes.len() + edges.len());
    }
}

#[cfg(feature = "serde")]
#[test]
fn a_snapshot_its_reasons_and_its_waits_serialise() {
    let (monitor, fixed) =
        (LockMonitor::new(), Arc::new(Fixed(vec![awaited(held("a\n", "job-1"), "job-2")])));
    monitor.register(&fixed);
    let snapshot = monitor.snapshot();
    let json = serde_json::to_value(&snapshot).unwrap();
    let row = serde_json::json!({
        "name": "a\\n",
        "mode": "exclusive",
        "owners": [{ "owner": "job-1", "mode": "exclusive" }],
        "pending": [{
            "mode": "exclusive",
            "from": null,
            "priority": 0,
            "members": [{ "owner": "job-2", "waited": { "secs": 2, "nanos": 0 } }],
        }],
        "deleted": false,
        "abandoned": null,
        "unsettled": false,
    });
    assert_eq!(
        json,
        serde_json::json!({ "fields": ["name", "mode", "owner", "pending"], "rows": [row] })
    );
    let why = serde_json::to_value(why(&snapshot, "job-2")).unwrap();
    assert_eq!(why["steps"][1]["holds"], serde_json::json!(["a\\n", "exclusive"]));
    let lock = SharedLock::new("config");
    monitor.register(&lock);
    assert_eq!(serde_json::to_value(monitor.waits()).unwrap()[0]["name"], "config");
}
