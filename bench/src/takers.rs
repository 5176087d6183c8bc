//! Ways to hold one lock that processes share, by a directory.

use std::fs::{self, File};
use std::path::Path;

use tierlock::Owner;
use tierlock::coordination::Coordinator;

/// Holds it exclusively while it calls.
pub(crate) type Taker = Box<dyn FnMut(&mut dyn FnMut())>;

pub(crate) const GIVEN_BACK: &str = "tierlock, given back each time";
pub(crate) const KEPT: &str = "tierlock, kept";
pub(crate) const FLOCK: &str = "std, File::lock (flock)";
pub(crate) const FD_LOCK: &str = "fd-lock 4 (flock)";

/// All of them.
#[allow(dead_code, reason = "the other process is told which")]
pub(crate) const TAKERS: [&str; 4] = [GIVEN_BACK, KEPT, FLOCK, FD_LOCK];

/// This way to hold the lock of a directory, in this process as `who`.
///
/// # Panics
/// If it is none of [`TAKERS`], or the directory cannot be used.
pub(crate) fn taker(name: &str, directory: &Path, who: &str) -> Taker {
    fs::create_dir_all(directory).expect("it can be written");
    match name {
        GIVEN_BACK => tierlock(&directory.join("given-back"), who, false),
        KEPT => tierlock(&directory.join("kept"), who, true),
        FLOCK => {
            let file = open(&directory.join("flock"));
            Box::new(move |call| {
                file.lock().expect("it is a file of this machine");
                call();
                file.unlock().expect("it is locked");
            })
        }
        FD_LOCK => {
            let mut lock = fd_lock::RwLock::new(open(&directory.join("fd-lock")));
            Box::new(move |call| {
                let _guard = lock.write().expect("it is a file of this machine");
                call();
            })
        }
        _ => panic!("nothing is called {name:?}"),
    }
}

fn tierlock(store: &Path, who: &str, kept: bool) -> Taker {
    let url = format!("file://{}", store.display());
    let coordinator = Coordinator::connect(&url).join(who).expect("nobody is called so");
    let lock = coordinator.lock("config").expect("it is a name");
    let (lock, owner) = (if kept { lock.cached() } else { lock }, Owner::new("job"));
    Box::new(move |call| {
        let _member = &coordinator;
        let _guard = lock.exclusive(&owner).wait().expect("the member lives");
        call();
    })
}

fn open(path: &Path) -> File {
    File::options().create(true).truncate(false).write(true).open(path).expect("it can be written")
}
