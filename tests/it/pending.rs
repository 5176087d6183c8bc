//! A request under way: who hears of it and how, what is left of it when it is dropped, and that nothing comes of it before it
//! is taken.

mod dropped;
#[cfg(unix)]
mod faces;
mod hostile;
mod order;
mod outcome;
mod races;
mod runtimes;
mod time;
mod wakers;

use std::any::type_name_of_val;
use std::env;
use std::future::IntoFuture;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;

use tierlock::{Acquire, AcquireLock, Guard, Mode, Owner, Pending, SharedLock};

use crate::support::until;

fn lock() -> SharedLock {
    SharedLock::new("config")
}

/// Held by a new owner of this name.
#[track_caller]
fn held(lock: &SharedLock, name: &str, mode: Mode) -> Guard<'static> {
    lock.acquire(&Owner::new(name), mode).now().expect("nobody stands in the way").into_owned()
}

/// Asked for by a new owner of this name.
fn asked(lock: &SharedLock, name: &str, mode: Mode) -> Pending<AcquireLock<'static>> {
    asked_on(lock, name, mode, |request| request)
}

/// As [`asked`], on these terms.
fn asked_on(
    lock: &SharedLock,
    name: &str,
    mode: Mode,
    terms: impl for<'a> FnOnce(Acquire<AcquireLock<'a>>) -> Acquire<AcquireLock<'a>>,
) -> Pending<AcquireLock<'static>> {
    terms(lock.acquire(&Owner::new(name), mode)).into_owned().enqueue()
}

/// A waker that counts.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A task that is polled by hand.
struct Task<F> {
    future: F,
    bell: Arc<Bell>,
}

impl<F: Future + Unpin> Task<F> {
    fn new(future: impl IntoFuture<IntoFuture = F>) -> Self {
        Self { future: future.into_future(), bell: Arc::default() }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        poll_with(&mut self.future, &self.bell)
    }

    /// How often it was woken.
    fn woken(&self) -> usize {
        self.bell.rung()
    }

    /// Polls it whenever it is woken, until it is over.
    #[track_caller]
    fn run(mut self) -> F::Output {
        loop {
            let woken = self.woken();
            if let Poll::Ready(outcome) = self.poll() {
                return outcome;
            }
            until(|| self.woken() > woken);
        }
    }

    /// Takes the outcome, which is there.
    #[track_caller]
    fn finish(mut self) -> F::Output {
        match self.poll() {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("it waits still"),
        }
    }
}

/// The outcome of a request that is decided. Whatever should be decided is asked so: waiting for it could be for ever.
#[track_caller]
fn outcome<F: Future + Unpin>(request: impl IntoFuture<IntoFuture = F>) -> F::Output {
    Task::new(request).finish()
}

fn poll_with<F: Future + Unpin>(
    future: &mut F,
    wake: &Arc<impl Wake + Send + Sync + 'static>,
) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(wake));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// Joins a thread that is about to end.
#[track_caller]
fn join<T>(thread: JoinHandle<T>) -> T {
    until(|| thread.is_finished());
    thread.join().expect("it does not panic")
}

/// Tells whether this process runs nothing but `test`. If not, starts one that does, after these commands of the shell and with
/// these variables, and sees it pass.
#[track_caller]
fn is_alone(test: impl Fn(), commands: &str, variables: &[(&str, &str)]) -> bool {
    const ALONE: &str = "TIERLOCK_TEST_ALONE";
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let (_, name) = type_name_of_val(&test).split_once("::").expect("a test is in a module");
    let program = env::current_exe().expect("it was started from a file");
    let output = Command::new("sh")
        .args(["-c", &format!("{commands}\nexec \"$0\" \"$@\"")])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "yes")
        .envs(variables.iter().copied())
        .output()
        .expect("there is a shell");
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success() && out.contains("1 passed"), "{name} alone:\n{out}{err}");
    eprint!("{err}");
    false
}
