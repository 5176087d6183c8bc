//! Every way to wait, and to stop waiting.

use std::future::IntoFuture;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{after, select};
use tierlock::{Acquire, Ageing, Pending, Target};

use crate::worker::{Dice, Waits};

/// A thread that waits as chance has it.
pub(crate) struct AnyFace {
    #[cfg(unix)]
    poll: std::cell::RefCell<mio::Poll>,
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
});

const FACES: [&str; 9] = [
    "now",
    "wait",
    "wait in time",
    "await",
    "await in tokio",
    "select",
    "poll a descriptor",
    "cancel",
    "await and drop",
];

static COUNTS: [AtomicU64; FACES.len()] = [const { AtomicU64::new(0) }; FACES.len()];

/// How often each was had.
pub(crate) fn count() -> String {
    let each = FACES.iter().zip(&COUNTS);
    let each = each.map(|(face, count)| format!("{face} {}", count.load(Ordering::Relaxed)));
    format!("requests: {}", each.collect::<Vec<_>>().join(", "))
}

impl Waits for AnyFace {
    fn outcome<T: Target>(
        &self,
        dice: &mut Dice,
        request: Acquire<T>,
    ) -> Option<Result<T::Granted, T::Error>> {
        let mut request = request.priority(dice.below(7) as i32 - 3);
        if dice.one_in(3) {
            let floor = dice.below(10) as i32 - 20;
            request = request.ageing(Ageing::every(Duration::from_millis(1)).floor(floor));
        }
        if dice.one_in(6) {
            request = request.timeout(some_time(dice));
        }
        let face = dice.below(FACES.len());
        COUNTS[face].fetch_add(1, Ordering::Relaxed);
        match face {
            0 => Some(request.now()),
            1 => Some(request.wait()),
            2 => Some(request.timeout(some_time(dice)).wait()),
            3 => Some(pollster::block_on(request.into_future())),
            4 => Some(RUNTIME.handle().block_on(request.into_future())),
            5 => Self::select(dice, request.enqueue()),
            6 => self.poll(dice, request.enqueue()),
            7 => {
                let pending = request.enqueue();
                pending.set_priority(dice.below(7) as i32 - 3);
                let _ = pending.wait_timeout(some_time(dice));
                pending.cancel()
            }
            _ => RUNTIME.handle().block_on(async {
                tokio::time::timeout(some_time(dice), request.into_future()).await.ok()
            }),
        }
    }
}

/// Up to three milliseconds.
fn some_time(dice: &mut Dice) -> Duration {
    Duration::from_micros(dice.below(3000) as u64)
}

impl AnyFace {
    pub(crate) fn new() -> Self {
        #[cfg(unix)]
        return Self { poll: mio::Poll::new().expect("a poll").into() };
        #[cfg(not(unix))]
        Self {}
    }

    fn select<T: Target>(
        dice: &mut Dice,
        pending: Pending<T>,
    ) -> Option<Result<T::Granted, T::Error>> {
        select! {
            recv(pending.receiver()) -> _ => Some(pending.wait()),
            recv(after(some_time(dice))) -> _ => pending.cancel(),
        }
    }

    #[cfg(unix)]
    fn poll<T: Target>(
        &self,
        dice: &mut Dice,
        pending: Pending<T>,
    ) -> Option<Result<T::Granted, T::Error>> {
        use std::os::fd::{AsFd, AsRawFd};

        use mio::unix::SourceFd;
        let descriptor = pending.descriptor().expect("a descriptor");
        let number = descriptor.as_fd().as_raw_fd();
        let mut poll = self.poll.borrow_mut();
        let interest = mio::Interest::READABLE;
        poll.registry()
            .register(&mut SourceFd(&number), mio::Token(0), interest)
            .expect("registered");
        let _ = poll.poll(&mut mio::Events::with_capacity(1), Some(some_time(dice)));
        poll.registry().deregister(&mut SourceFd(&number)).expect("deregistered");
        if pending.is_decided() { Some(pending.wait()) } else { None }
    }

    #[cfg(not(unix))]
    fn poll<T: Target>(
        &self,
        _: &mut Dice,
        pending: Pending<T>,
    ) -> Option<Result<T::Granted, T::Error>> {
        Some(pending.wait())
    }
}
