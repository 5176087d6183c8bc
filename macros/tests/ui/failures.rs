#![allow(unused)]

use tierlock::{SharedLock, ssynchronized};

#[ssynchronized(lock)]
fn returns_nothing(lock: &SharedLock) {}

#[ssynchronized(lock)]
async fn returns_nothing_later(lock: &SharedLock) {}

#[ssynchronized(lock)]
fn returns_no_result(lock: &SharedLock) -> Option<u32> {
    Some(17)
}

#[ssynchronized(lock)]
async fn returns_no_result_later(lock: &SharedLock) -> u32 {
    17
}

#[ssynchronized(lock)]
fn has_an_error_that_cannot_be_made(lock: &SharedLock) -> Result<u32, std::fmt::Error> {
    Ok(17)
}

#[ssynchronized(lock, on_error = |error| error.to_string())]
fn makes_something_else_of_the_error(lock: &SharedLock) -> u32 {
    17
}

fn main() {}
