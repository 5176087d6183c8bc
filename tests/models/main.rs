//! Models of the word, the queue and the hand-off between them, explored by loom in every order that matters.
//!
//! `RUSTFLAGS="--cfg tierlock_loom" cargo test --release --test models`; `cargo xtask test` does it. Each model guards a cell
//! that loom watches, so that a weakened ordering shows as well as a broken exclusion. There is no clock: a deadline has always
//! passed, so a timed request withdraws at once and meets whatever grants it in every interleaving.
#![cfg(tierlock_loom)]

mod locks;
mod pending;
mod striped;
mod support;
