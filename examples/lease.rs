//! Workers that share three licences, of which one forgets to give its own back: leases, a pool of them, and who cleans up.
//!
//! `cargo run --example lease [URL]`, with `file:///DIR` in several terminals to share the licences between them; `memory:`
//! unless it is said.

use std::error::Error;
use std::time::Duration;
use std::{env, process, thread};

use tierlock::coordination::Coordinator;
use tierlock::coordination::lease::{LeaseError, Leases};

const WORKERS: usize = 5;
const LICENCES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let coordinator = Coordinator::connect(&url).join(&format!("shop-{}", process::id()))?;
    let leases = Leases::new(&coordinator)?.lasting(Duration::from_secs(5));
    leases.on_cleanup(|_, cleanup| println!("to be cleaned up: {cleanup}"));
    match leases.create_pool("licence", LICENCES) {
        Err(LeaseError::GroupExists { .. }) => println!("the pool is there already"),
        created => created?,
    }
    thread::scope(|scope| {
        let work = |at: usize| work(&leases.owned_by(format!("worker-{at}")), at);
        let workers = (0..WORKERS).map(|at| scope.spawn(move || work(at)));
        workers
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    match leases.delete_group("licence") {
        Ok(()) => println!("the pool is deleted"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

/// Takes a licence for a moment; the first worker takes one for shorter than it needs it.
fn work(leases: &Leases, at: usize) -> Result<(), LeaseError> {
    let lifetime = if at == 0 { Duration::from_millis(50) } else { Duration::from_secs(5) };
    let leases = leases.lasting(lifetime);
    let Some(licence) = leases.acquire_from_group_within("licence", PATIENCE)? else {
        println!("worker {at} has waited enough");
        return Ok(());
    };
    println!("worker {at} has {}, token {}", licence.name(), licence.token()?);
    if at == 0 {
        let (tell, told) = std::sync::mpsc::channel();
        licence.on_lost(move |why| tell.send(why.to_string()).expect("it is waited for"));
        println!("worker {at} hears: {}", told.recv().expect("it is told"));
        return Ok(());
    }
    licence.release()
}
