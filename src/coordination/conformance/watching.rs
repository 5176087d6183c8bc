//! Claims about watches.
//!
//! A report may get lost now and then, so that one alone proves nothing: most have to come.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::super::{Driver, Key, Reporter, Subject, Version, Watch};
use super::{Claim, Ground, alive, change, claims, eventually, read, store};

#[rustfmt::skip]
pub(super) const CLAIMS: &[Claim] = claims![
    a_watch_begins_before_it_is_returned,
    a_watch_reports_one_change_after_another,
    a_watch_reports_that_a_member_died,
    a_watch_that_was_dropped_reports_no_more,
    who_missed_every_report_sees_all_by_polling,
];

/// How often the same is tried.
const ROUNDS: usize = 5;

/// How long a report may take.
const REPORT: Duration = Duration::from_secs(2);

/// Watches a subject, and hears what is reported.
fn listen(driver: &dyn Driver, subject: Subject) -> (Watch, Receiver<Subject>) {
    let (says, hears) = mpsc::channel();
    let reporter = Reporter::new(move |subject| drop(says.send(subject.clone())));
    (driver.watch(subject, reporter).expect("a subject can be watched"), hears)
}

fn record(key: &Key) -> Subject {
    Subject::Record(key.clone())
}

/// Whether something is reported in time, which has to be about this subject.
fn is_reported(hears: &Receiver<Subject>, subject: &Subject) -> bool {
    let Ok(reported) = hears.recv_timeout(REPORT) else { return false };
    assert_eq!(reported, *subject, "a report of what is not watched");
    true
}

fn assert_most(reported: usize) {
    assert!(reported > ROUNDS / 2, "{reported} of {ROUNDS} changes were reported in {REPORT:?}");
}

fn a_watch_begins_before_it_is_returned(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let seat = ground.member(&*b);
    let reported = (0..ROUNDS).filter(|round| {
        let key = ground.key(&round.to_string());
        let (_watch, hears) = listen(&*a, record(&key));
        store(&*b, &key, Version::ABSENT, b"", seat.id());
        is_reported(&hears, &record(&key))
    });
    assert_most(reported.count());
}

fn a_watch_reports_one_change_after_another(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let (key, seat) = (ground.key("key"), ground.member(&*b));
    let (_watch, hears) = listen(&*a, record(&key));
    let (_other_watch, others) = listen(&*a, record(&ground.key("other")));
    let reported = (0..ROUNDS).filter(|_| {
        while hears.try_recv().is_ok() {}
        change(&*b, &key, seat.id());
        is_reported(&hears, &record(&key))
    });
    assert_most(reported.count());
    while let Ok(reported) = others.try_recv() {
        assert_eq!(reported, record(&ground.key("other")), "a report of what is not watched");
    }
}

fn a_watch_reports_that_a_member_died(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let reported = (0..ROUNDS).filter(|round| {
        let seat = ground.join(&*b, &round.to_string(), super::TTL);
        let subject = Subject::Member(seat.id().clone());
        let (_watch, hears) = listen(&*a, subject.clone());
        seat.leave().expect("a member can leave");
        is_reported(&hears, &subject)
    });
    assert_most(reported.count());
}

fn a_watch_that_was_dropped_reports_no_more(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let (key, seat) = (ground.key("key"), ground.member(&*b));
    let (dropped, ended) = listen(&*a, record(&key));
    let (_kept, hears) = listen(&*a, record(&key));
    change(&*b, &key, seat.id());
    drop(dropped);
    // What was under way arrives before what comes later.
    let mut late = 0;
    let mut heard = 0;
    for round in 0..ROUNDS {
        change(&*b, &key, seat.id());
        heard += usize::from(is_reported(&hears, &record(&key)));
        let reports = ended.try_iter().count();
        late += if round == 0 { 0 } else { reports };
    }
    assert_eq!(late, 0, "reports to a watch that was dropped");
    assert!(heard > 0, "the watch that was kept ended as well");
}

fn who_missed_every_report_sees_all_by_polling(ground: &Ground) {
    let (a, b) = ground.connect_twice();
    let interval = a.poll_interval();
    assert!(!interval.is_zero(), "to poll without a pause is no way to wait");
    let (key, seat) = (ground.key("key"), ground.member(&*b));
    let deaf = || Reporter::new(|_| ());
    let subjects = [record(&key), Subject::Member(seat.id().clone())];
    let _watches = subjects.map(|subject| a.watch(subject, deaf()).expect("it can be watched"));
    assert!(alive(&*a, seat.id()));
    assert_eq!(read(&*a, &key).version, Version::ABSENT);
    let version = change(&*b, &key, seat.id());
    assert_eq!(read(&*a, &key).version, version);
    let (driver, member): (Arc<dyn Driver>, _) = (a, seat.id().clone());
    drop(seat);
    eventually("who left is seen to be dead", || !alive(&*driver, &member));
}
