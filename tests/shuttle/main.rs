//! Four to eight threads in orders that chance makes, under shuttle.
//!
//! `RUSTFLAGS="--cfg tierlock_shuttle" cargo test --release --test shuttle`; `cargo xtask test` does it, and `TIERLOCK_SCHEDULES`
//! says how many orders each test tries of each scheduler. What a thread does is random too, and comes again with the schedule
//! that shuttle prints. There is no clock: chance says whether a deadline passes.
//!
//! shuttle fails a test that deadlocks or does not end. It knows no weak memory; that is for the models.
#![cfg(tierlock_shuttle)]

mod locks;
#[path = "../it/properties/model.rs"]
#[allow(dead_code, reason = "the rest is for the properties")]
mod model;
mod sessions;
mod support;
#[path = "../it/properties/visitor.rs"]
mod visitor;
#[path = "../it/properties/worker.rs"]
mod worker;
