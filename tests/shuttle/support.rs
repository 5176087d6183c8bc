//! What the tests share: how far they are explored, and the ways to wait.

use std::future::IntoFuture;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler, UrwRandomScheduler};
use shuttle::thread::yield_now;
use shuttle::{Config, Runner};
use tierlock::{Acquire, Ageing, Target};

use crate::worker::{Dice, Waits};

/// Tries so many schedules by each scheduler: at random, uniformly at random, and with few preemptions at odd places. Or the one
/// in the file that `TIERLOCK_REPLAY` names.
pub(crate) fn explore(test: impl Fn() + Copy + Send + Sync + 'static) {
    if let Some(schedule) = std::env::var_os("TIERLOCK_REPLAY") {
        return shuttle::replay_from_file(test, schedule);
    }
    let schedules = std::env::var("TIERLOCK_SCHEDULES");
    let schedules = schedules.map_or(6_000, |count| count.parse().expect("a number of schedules"));
    run(RandomScheduler::new(schedules), test);
    run(UrwRandomScheduler::new(schedules), test);
    run(PctScheduler::new(3, schedules), test);
}

fn run(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(test);
}

/// Random numbers that come again with the schedule.
pub(crate) fn dice() -> Dice {
    Dice(thread_rng().r#gen())
}

/// Waits in every way there is, or gives up.
pub(crate) struct AnyWay;

impl Waits for AnyWay {
    fn outcome<T: Target>(
        &self,
        dice: &mut Dice,
        request: Acquire<T>,
    ) -> Option<Result<T::Granted, T::Error>> {
        let mut request = request.priority(dice.below(5) as i32 - 2);
        if dice.one_in(4) {
            request = request.ageing(Ageing::every(Duration::from_millis(1)).floor(-4));
        }
        if dice.one_in(4) {
            request = request.timeout(Duration::from_millis(3));
        }
        match dice.below(8) {
            0..3 => Some(request.wait()),
            3 => Some(request.now()),
            4 => Some(block_on(request.into_future())),
            5 => {
                let pending = request.enqueue();
                pending.set_priority(dice.below(5) as i32 - 2);
                Some(pending.wait())
            }
            6 => {
                let pending = request.enqueue();
                (0..dice.below(4)).for_each(|_| yield_now());
                pending.cancel()
            }
            _ => poll_a_while(dice, request),
        }
    }
}

/// Polls a few times with nobody to be woken, and drops the future.
fn poll_a_while<T: Target>(
    dice: &mut Dice,
    request: Acquire<T>,
) -> Option<Result<T::Granted, T::Error>> {
    let mut future = pin!(request.into_future());
    for _ in 0..dice.below(4) {
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut nobody) {
            return Some(outcome);
        }
        yield_now();
    }
    None
}
