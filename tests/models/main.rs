//! Models of the word, the queue and the hand-off between them, explored by loom in every order that matters.
//!
//! `RUSTFLAGS="--cfg tierlock_loom" cargo test --release --test models`; `cargo xtask test` does it. Each model guards a cell
//! that loom watches, so that a weakened ordering shows as well as a broken exclusion. There is no clock: a deadline has always
//! passed, so a timed request withdraws at once and meets whatever grants it in every interleaving.
#![cfg(tierlock_loom)]

mod conditions;
mod locks;
mod owner;
mod pending;
mod striped;
mod support;
mod sync;

#[path = "../../src/condition.rs"]
#[allow(dead_code, unreachable_pub, reason = "the library needs the rest")]
mod condition;

/// As the files of the library that are modelled by themselves expect it.
mod clock {
    #[expect(clippy::disallowed_methods, reason = "nobody looks at it")]
    pub(crate) fn now() -> std::time::Instant {
        std::time::Instant::now()
    }
}

/// The same.
mod core {
    pub(crate) mod mode {
        pub(crate) use tierlock::Mode;
    }
}
