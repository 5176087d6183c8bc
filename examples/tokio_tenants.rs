//! A service on tokio that guards what belongs to its tenants: reads of a tenant go together, a migration goes alone,
//! an upgrade takes all tenants as one lock, and those who pay do not wait behind it.
//!
//! `cargo run --example tokio_tenants`. A client that hangs up is a future that is dropped: its request leaves the queue.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tierlock::{ALL, AcquireError, LockSet, Owner, exclusive, shared};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

const TENANTS: [&str; 4] = ["acme", "initech", "tiny", "trial"];
const PAYING: [&str; 2] = ["acme", "initech"];
const REQUESTS: usize = 400;
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

type Clients = mpsc::Sender<Request>;
type Answer = Result<(), AcquireError>;

struct Request {
    tenant: &'static str,
    act: Act,
    limit: Duration,
    /// Closed when the client hangs up.
    client: oneshot::Sender<Answer>,
}

#[derive(Clone, Copy, PartialEq)]
enum Act {
    Read,
    Migrate,
}

/// What belongs to a tenant. A migration changes one number after the other: only between migrations are they equal.
#[derive(Default)]
struct Store {
    schema: AtomicU32,
    rows: AtomicU32,
}

struct Service {
    tenants: LockSet,
    stores: BTreeMap<&'static str, Store>,
}

impl Service {
    /// Serves requests until there are no more clients, each in a task of its own; returns how many were withdrawn.
    async fn serve(self: Arc<Self>, mut inbox: mpsc::Receiver<Request>) -> usize {
        let mut tasks = JoinSet::new();
        while let Some(request) = inbox.recv().await {
            tasks.spawn(Arc::clone(&self).handle(request));
        }
        tasks.join_all().await.into_iter().filter(|withdrawn| *withdrawn).count()
    }

    /// Tells whether the request was withdrawn.
    async fn handle(self: Arc<Self>, request: Request) -> bool {
        let Request { tenant, act, limit, mut client } = request;
        let owner = Owner::new(format!("a client of {tenant}"));
        let wanted = if act == Act::Migrate { exclusive(tenant) } else { shared(tenant) };
        let priority = if PAYING.contains(&tenant) { -10 } else { 0 };
        let acquire = self.tenants.acquire(&owner, wanted).priority(priority).timeout(limit);
        let guard = tokio::select! {
            biased;
            // Only the wait is given up. Whoever holds the tenant ends what it began.
            () = client.closed() => return true,
            guard = acquire => guard,
        };
        if guard.is_ok() {
            let step = u32::from(act == Act::Migrate);
            let schema = self.stores[tenant].schema.fetch_add(step, Relaxed);
            yield_now().await;
            let rows = self.stores[tenant].rows.fetch_add(step, Relaxed);
            assert_eq!(schema, rows, "somebody saw half a migration of {tenant}");
        }
        let _ = client.send(guard.map(drop));
        false
    }
}

/// Asks and waits for the answer. Dropping the future hangs up.
async fn ask(clients: &Clients, tenant: &'static str, act: Act, limit: Duration) -> Answer {
    let (client, answer) = oneshot::channel();
    let request = Request { tenant, act, limit, client };
    clients.send(request).await.expect("it serves while there are clients");
    answer.await.expect("every request is answered")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let stores = TENANTS.map(|tenant| (tenant, Store::default())).into();
    let service = Arc::new(Service { tenants: LockSet::on_demand("tenant"), stores });
    let (clients, inbox) = mpsc::channel(64);
    let server = tokio::spawn(Arc::clone(&service).serve(inbox));

    rush(&clients).await?;
    upgrade(&service, &clients).await?;

    drop(clients);
    let withdrawn = server.await?;
    assert_ne!(withdrawn, 0, "who hung up was served");
    assert!(service.tenants.names().is_empty(), "a tenant is held, or waited for");
    drop(service.tenants.acquire(&Owner::new("stranger"), exclusive(ALL)).now()?);
    println!("{withdrawn} requests were withdrawn; nobody holds, nobody waits, no name is left");
    Ok(())
}

/// Many clients at once, some of which have hardly any patience.
async fn rush(clients: &Clients) -> Answer {
    let mut tasks = JoinSet::new();
    for number in 0..REQUESTS {
        let (clients, tenant) = (clients.clone(), TENANTS[number % 4]);
        let act = if number % 5 == 0 { Act::Migrate } else { Act::Read };
        let patience = if number % 7 == 0 { Duration::from_millis(1) } else { LONG };
        tasks.spawn(timeout(patience, async move { ask(&clients, tenant, act, LONG).await }));
    }
    let answers: Vec<Answer> = tasks.join_all().await.into_iter().flatten().collect();
    let (served, hung_up) = (answers.len(), REQUESTS - answers.len());
    answers.into_iter().collect::<Answer>()?;
    println!("{REQUESTS} requests at once: {served} were served, {hung_up} clients hung up");
    Ok(())
}

/// One request after the other, so that it is known who gets what.
async fn upgrade(service: &Service, clients: &Clients) -> Answer {
    let (report, upgrade) = (Owner::new("report"), Owner::new("upgrade"));
    let reading = service.tenants.acquire(&report, shared("tiny")).await?;
    // In line from here on, although nobody looks at it yet.
    let all = service.tenants.acquire(&upgrade, exclusive(ALL)).enqueue();
    println!("an upgrade waits for all tenants, until a report on tiny ends");

    ask(clients, "acme", Act::Read, LONG).await?;
    println!("  acme pays, and is served meanwhile");
    let refused = ask(clients, "trial", Act::Read, SHORT).await.expect_err("trial does not pay");
    println!("  {refused}");
    let hung_up = timeout(SHORT, ask(clients, "tiny", Act::Migrate, LONG)).await;
    assert!(hung_up.is_err() && !all.is_decided());
    println!("  a client of tiny hung up");

    drop(reading);
    assert!(all.await?.holds_all().is_some());
    println!("the upgrade had them all as soon as the report ended");
    Ok(())
}
