//! Shares of files that are created, read and deleted by agents which know of each other by their locks alone, as those of Manila do.
//!
//! `cargo run --example synchronized` has its agents in one process. With `-- file:///DIR` it shares the directory with whatever other
//! runs of it there are: start it in two terminals.

use std::env;
use std::error::Error;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use tierlock::coordination::synchronized::{Coordinator, Lock, SynchronizedError, synchronized};
use tierlock::coordination::{self, Connect};
use tierlock::template::Data;
use tierlock::{Mode, ssynchronized};

/// The agent of this process.
static LOCK_COORDINATOR: LazyLock<Coordinator> =
    LazyLock::new(|| Coordinator::new(connect()).prefix("manila-"));

fn connect() -> Connect {
    let url = env::args().nth(1).unwrap_or_else(|| "memory:shares".into());
    coordination::Coordinator::connect(&url).ttl(Duration::from_secs(5))
}

struct Share {
    id: u32,
}

/// The template is checked when it is compiled: `{share.name}` would be an error here.
#[ssynchronized("share-{share.id}", in = LOCK_COORDINATOR, timeout = "10s")]
fn create(share: &Share) -> Result<(), tierlock::Error> {
    println!("share {} is created", share.id);
    Ok(())
}

/// Several may read at a time, in this process and in others.
#[ssynchronized("share-{share.id}", in = LOCK_COORDINATOR, shared, timeout = "10s")]
fn read(share: &Share) -> Result<u32, tierlock::Error> {
    Ok(share.id * 100)
}

fn main() -> Result<(), Box<dyn Error>> {
    LOCK_COORDINATOR.start()?;
    println!("agent {}", LOCK_COORDINATOR.joined().ok_or("lost")?.member());

    thread::scope(|scope| {
        let work = |id| move || create(&Share { id }).and_then(|()| read(&Share { id }));
        let workers: Vec<_> = (0..6).map(|at| scope.spawn(work(at % 2))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic").map(drop))
    })?;

    delete_by_template(7)?;
    look_at_what_another_agent_has()?;
    LOCK_COORDINATOR.stop()?;
    Ok(())
}

/// Where names come from a configuration, they are made at run time.
fn delete_by_template(id: u32) -> Result<(), Box<dyn Error>> {
    let exclusively =
        synchronized("{f_name}-{share[id]}", Duration::from_secs(10), &LOCK_COORDINATOR)?;
    let arguments = Data::new().with("share", Data::new().with("id", id));
    exclusively.call("delete", &arguments, || println!("share {id} is deleted"))?;

    let nameless = exclusively.call("delete", &Data::new(), || unreachable!());
    println!("refused: {}", nameless.expect_err("no share was given"));
    Ok(())
}

/// Whoever does not get a lock hears so, and sees who has it.
fn look_at_what_another_agent_has() -> Result<(), Box<dyn Error>> {
    let other = Coordinator::new(connect()).prefix("manila-");
    other.start()?;
    let theirs = Lock::new("quota-{project}", &Data::new().with("project", "p1"), &other)?;
    theirs.acquire(true, Mode::Exclusive)?;

    let ours = LOCK_COORDINATOR.get_lock("quota-p1")?;
    assert!(!ours.acquire(false, Mode::Exclusive)?, "it is theirs");
    match ours.with(Duration::from_millis(50), Mode::Exclusive, || ()) {
        Err(SynchronizedError::LockAcquireFailed(error)) => println!("busy: {error}"),
        outcome => outcome?,
    }
    for holder in ours.break_lock()? {
        println!("taken from {}", holder.member);
    }
    assert!(ours.acquire(true, Mode::Exclusive)?);
    assert!(!theirs.is_still_owner() && !theirs.release());
    println!("token {}", ours.token().ok_or("lost")?);
    Ok(other.stop()?)
}
