//! Calls that hold a lock by a name made of their arguments.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tierlock::coordination::synchronized::{Coordinator, SynchronizedError, synchronized};
use tierlock::template::{Data, TemplateFault};
use tierlock::{AcquireError, Error, Mode, Owner, ssynchronized};

use super::{EXCLUSIVE, SHARED, acquire_failed, agent, creation_failed, not_started, stopped};
use crate::support::ms;

fn foo_and_bar() -> Data {
    Data::new().with("foo", Data::new().with("val", 7)).with("bar", Data::new().with("val", 8))
}

fn is_free(agent: &Coordinator, name: &str) -> bool {
    agent.get_lock(name).unwrap().acquire(false, EXCLUSIVE).unwrap()
}

#[test]
fn the_name_is_made_of_the_arguments_and_of_what_is_called() {
    let agent = agent("calls");
    let call = synchronized("lock-{f_name}-{foo.val}-{bar[val]}", true, &agent).unwrap();
    let within = || is_free(&agent, "lock-func-7-8");
    assert!(!call.call("func", &foo_and_bar(), within).unwrap());
    assert!(within());
}

#[test]
fn f_name_is_what_is_called_whatever_argument_has_that_name() {
    let agent = agent("f-name");
    let call = synchronized("{f_name}", true, &agent).unwrap();
    let arguments = Data::new().with("f_name", "argument");
    assert!(!call.call("func", &arguments, || is_free(&agent, "func")).unwrap());
}

#[test]
fn a_call_returns_what_it_does_and_releases_also_if_it_panics() {
    let agent = agent("call-panics");
    let call = synchronized("lock", true, &agent).unwrap();
    assert_eq!(call.call("func", &Data::new(), || 17).unwrap(), 17);
    let panics = || call.call("func", &Data::new(), || panic!("half way"));
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert!(is_free(&agent, "lock"));
}

#[test]
fn a_call_that_does_not_get_the_lock_is_not_made() {
    let agent = agent("not-called");
    let held = agent.get_lock("lock").unwrap();
    held.acquire(true, EXCLUSIVE).unwrap();
    let impatient = synchronized("lock", false, &agent).unwrap();
    acquire_failed(impatient.call("func", &Data::new(), || panic!("called")));
    let patient = synchronized("lock", ms(5), &agent).unwrap();
    acquire_failed(patient.call("func", &Data::new(), || panic!("called")));
}

#[test]
fn calls_are_declared_before_the_agent_starts() {
    let agent = stopped("declared");
    let call = synchronized("lock-{id}", true, &agent).unwrap();
    let data = Data::new().with("id", 7);
    not_started(call.call("func", &data, || panic!("called")));
    agent.start().unwrap();
    call.call("func", &data, || ()).unwrap();
}

#[test]
fn a_template_that_cannot_be_read_is_refused_when_the_call_is_declared() {
    let error = synchronized("lock-{", true, &stopped("unread")).unwrap_err();
    assert!(matches!(error.fault, TemplateFault::Malformed { .. }));
}

#[test]
fn a_nested_call_for_the_same_name_fails_at_once() {
    let agent = agent("nested-calls");
    let call = synchronized("lock", true, &agent).unwrap();
    let inner = call.call("outer", &Data::new(), || call.call("inner", &Data::new(), || ()));
    acquire_failed(inner.unwrap());
}

#[test]
fn calls_that_share_go_together() {
    let agent = agent("calls-share");
    let call = synchronized("lock", false, &agent).unwrap();
    let together = call.clone().shared();
    let inner = together.call("outer", &Data::new(), || {
        acquire_failed(call.call("exclusive", &Data::new(), || ()));
        together.call("inner", &Data::new(), || 17)
    });
    assert_eq!(inner.unwrap().unwrap(), 17);
}

#[ssynchronized("share", in = agent)]
fn held_by_annotation<R>(agent: &Coordinator, within: impl FnOnce() -> R) -> Result<R, Error> {
    Ok(within())
}

#[ssynchronized("share", in = agent, shared)]
fn shared_by_annotation<R>(agent: &Coordinator, within: impl FnOnce() -> R) -> Result<R, Error> {
    Ok(within())
}

#[test]
fn waiting_within_an_annotated_function_for_what_it_holds_fails_at_once_and_names_the_lock() {
    let agent = agent("nested-in-annotated");
    let lock = agent.get_lock("share").unwrap();
    let call = synchronized("share", true, &agent).unwrap();
    let nested = || {
        let by_call = acquire_failed(call.call("inner", &Data::new(), || panic!("called")));
        [acquire_failed(lock.acquire(true, EXCLUSIVE)), by_call]
    };
    for error in held_by_annotation(&agent, nested).unwrap() {
        let AcquireError::AlreadyHeld { lock, held, .. } = error else { panic!("{error}") };
        assert_eq!((lock.to_string().as_str(), held), ("share", Some(EXCLUSIVE)));
    }
    // What fits goes together, and who waits for a time only waits for that time.
    let within = || (lock.with(true, SHARED, || 17), lock.acquire(ms(5), EXCLUSIVE));
    assert_eq!(shared_by_annotation(&agent, within).unwrap(), (Ok(17), Ok(false)));
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
}

#[test]
fn waiting_for_what_this_owner_holds_by_the_cluster_lock_fails_at_once() {
    let agent = agent("nested-in-cluster");
    let lock = agent.get_lock("share").unwrap();
    let (cluster_lock, owner) = (lock.cluster_lock(), Owner::current());
    let guard = cluster_lock.acquire(&owner, EXCLUSIVE).wait().unwrap();
    let refused = acquire_failed(lock.acquire(true, SHARED));
    assert!(matches!(refused, AcquireError::AlreadyHeld { .. }), "{refused}");
    drop(guard);
    assert!(lock.acquire(true, SHARED).unwrap());
}

#[ssynchronized("share-{share_id}-{f_name}", in = agent)]
fn grow(agent: &Coordinator, share_id: u32) -> Result<bool, Error> {
    Ok(is_free(agent, &format!("share-{share_id}-grow")))
}

#[ssynchronized("share", in = agent, shared, timeout = "5ms")]
fn read(agent: &Coordinator) -> Result<Option<Mode>, Error> {
    let holders = agent.get_lock("share").unwrap().cluster_lock().holders().unwrap();
    Ok(holders.first().map(|holder| holder.mode))
}

#[ssynchronized("share-{name}", in = agent, now)]
fn named(agent: &Coordinator, name: &str) -> Result<(), Error> {
    if name == "again" { named(agent, name) } else { Ok(()) }
}

#[ssynchronized("share", in = agent)]
async fn awaited(agent: &Coordinator) -> Result<bool, Error> {
    Ok(is_free(agent, "share"))
}

#[ssynchronized("share", in = agent, owner = owner)]
fn owned(agent: &Coordinator, owner: &Owner) -> Result<String, Error> {
    let holders = agent.get_lock("share").unwrap().cluster_lock().holders().unwrap();
    Ok(holders[0].owner.to_string())
}

#[track_caller]
fn refusal<T>(result: Result<T, Error>) -> SynchronizedError {
    match result {
        Err(Error::Synchronized(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("acquired"),
    }
}

#[test]
fn an_annotated_function_holds_the_lock_of_its_name() {
    let agent = agent("annotated");
    assert!(!grow(&agent, 7).unwrap());
    assert!(is_free(&agent, "share-7-grow"));
    assert_eq!(read(&agent).unwrap(), Some(SHARED));
    assert!(!pollster::block_on(awaited(&agent)).unwrap());
    assert_eq!(owned(&agent, &Owner::new("job-17")).unwrap(), "job-17");
    assert!(is_free(&agent, "share"));
}

#[test]
fn an_annotated_function_fails_as_manila_does() {
    let stopped = stopped("annotated-fails");
    not_started::<()>(Err(refusal(grow(&stopped, 7))));
    let agent = agent("annotated-fails");
    creation_failed::<()>(Err(refusal(named(&agent, " "))));
    let lock = agent.get_lock("share").unwrap();
    lock.with(true, SHARED, || {
        let other = Owner::new("job-17");
        assert_eq!(other.sync_scope(|| read(&agent)).unwrap(), Some(SHARED));
    })
    .unwrap();
    lock.with(true, EXCLUSIVE, || {
        let other = Owner::new("job-17");
        let error = acquire_failed::<()>(Err(refusal(other.sync_scope(|| read(&agent)))));
        assert!(error.is_timeout(), "{error}");
    })
    .unwrap();
}

#[test]
fn an_annotated_function_within_its_own_lock_fails_at_once() {
    let agent = agent("annotated-nested");
    let already_held = |result| {
        let error = acquire_failed::<()>(Err(refusal(result)));
        assert!(matches!(error, AcquireError::AlreadyHeld { .. }), "{error}");
    };
    already_held(named(&agent, "again"));
    let lock = agent.get_lock("share").unwrap();
    lock.with(true, EXCLUSIVE, || already_held(owned_by_current(&agent))).unwrap();
}

#[ssynchronized("share", in = agent)]
fn owned_by_current(agent: &Coordinator) -> Result<(), Error> {
    panic!("{agent:?}: entered");
}
