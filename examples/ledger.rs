//! Job numbers that several processes share: `cargo run --example ledger [file:///DIR]`, also in several terminals at a time.

use std::error::Error;

use tierlock::coordination::Coordinator;
use tierlock::coordination::ledger::Ledger;

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let name = format!("worker-{}", std::process::id());
    let jobs = Ledger::open(&Coordinator::connect(&url).join(&name)?, "jobs")?;

    // No job has a number below 1.
    jobs.startup(1)?;
    for dead in jobs.reap()? {
        println!("{dead} ended without a word");
    }

    let new = jobs.make_new_ids(3)?;
    println!("jobs {new:?} are new, and nobody else gets them");

    let got = jobs.lock_ids(1..new.end)?;
    println!("of all jobs so far, these are mine: {got}");
    for id in (1..new.end).filter(|id| !got.contains(*id)) {
        match jobs.session_of(id)? {
            Some(session) => println!("job {id} is with {session}"),
            None => println!("job {id} was given back just now"),
        }
    }

    println!("press enter to give them back, or kill process {}", std::process::id());
    std::io::stdin().read_line(&mut String::new())?;
    jobs.check()?;
    println!("gave back {}", jobs.release_ids(got)?);
    jobs.shutdown()?;
    Ok(())
}
