#![allow(unused)]

use std::future::Future;
use std::pin::Pin;
use tierlock::{Error, SharedLock, ssynchronized};

#[ssynchronized(lock)]
const fn in_the_compiler(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock)]
unsafe fn vouched_for(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock)]
extern "C" fn called_from_c(lock: &SharedLock) -> Result<(), Error> {
    Ok(())
}

#[ssynchronized(lock)]
fn a_future(lock: &SharedLock) -> impl Future<Output = ()> {
    async {}
}

#[ssynchronized(lock, on_error = panic)]
fn a_boxed_future(lock: &SharedLock) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async {})
}

trait Store {
    #[ssynchronized(self.lock())]
    fn without_a_body(&self) -> Result<(), Error>;
}

#[ssynchronized(lock)]
struct Instance {
    lock: SharedLock,
}

fn main() {}
