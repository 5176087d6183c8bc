//! What waits and what is shared between threads: parking_lot and std, or what stands in for them where every step of a thread
//! is ordered by a tool.
//!
//! | cfg | by | explores |
//! |---|---|---|
//! | `tierlock_loom` | loom | every order of two or three threads, weak memory included |
//! | `tierlock_shuttle` | shuttle | orders of many threads, as chance has it |
//!
//! The only place that knows them. `Arc` is std's in all, since loom's has no `Weak`.

pub(crate) use self::imp::{Condvar, Mutex, MutexGuard, RwLock, TIME_PASSES, atomic};

/// Orders what stands before an exchange of an atomic before what stands after it, on any address.
///
/// On x86 a locked instruction does that by itself, and the compiler alone has to be told.
#[inline]
pub(crate) fn fence_after_exchange() {
    use std::sync::atomic::{Ordering, compiler_fence, fence};
    if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// The same, where models have to see it.
#[cfg(not(tierlock_loom))]
pub(crate) use fence_after_exchange as fence_after_mark;
#[cfg(tierlock_loom)]
pub(crate) use imp::fence_after_mark;

/// What is not ordered by tools when whole locks are.
pub(crate) mod unwatched {
    use std::cell::Cell;

    pub(crate) use std::sync::OnceLock;
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

    /// A number for this thread, never given to another.
    #[inline]
    pub(crate) fn this_thread() -> u64 {
        static GIVEN: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            static NUMBER: Cell<u64> = const { Cell::new(0) };
        }
        NUMBER.with(|number| {
            if number.get() == 0 {
                number.set(GIVEN.fetch_add(1, Ordering::Relaxed) + 1);
            }
            number.get()
        })
    }
}

/// What conditions are made of, which have models of their own.
pub(crate) mod pipe {
    pub(crate) use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
    pub use parking_lot::{Mutex, MutexGuard};
}

#[cfg(not(any(tierlock_loom, tierlock_shuttle)))]
mod imp {
    use std::time::Instant;

    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};

    pub(crate) mod atomic {
        pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
    }

    /// Deadlines pass by themselves.
    pub(crate) const TIME_PASSES: bool = true;

    /// Wakes the threads that wait for a state behind a mutex.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            self.0.wait(guard);
        }

        /// Returns true if `until` has passed.
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> bool {
            self.0.wait_until(guard, until).timed_out()
        }
    }
}

#[cfg(any(tierlock_loom, tierlock_shuttle))]
mod imp {
    use std::ops::{Deref, DerefMut};
    use std::sync::PoisonError;
    use std::time::Instant;

    #[cfg(tierlock_loom)]
    use loom::sync as ordered;
    #[cfg(tierlock_shuttle)]
    use shuttle::sync as ordered;

    pub(crate) mod atomic {
        pub(crate) use super::ordered::atomic::{AtomicU64, Ordering};
    }

    #[cfg(tierlock_loom)]
    pub(crate) fn fence_after_mark() {
        loom::sync::atomic::fence(atomic::Ordering::SeqCst);
    }

    /// There is no clock: a request that no thread waits for is out of time as soon as it has one.
    pub(crate) const TIME_PASSES: bool = false;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(ordered::Mutex<T>);

    /// Holds its inner guard but for the moment in which a condition waits.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T>(Option<ordered::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(ordered::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("held")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("held")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(ordered::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn read(&self) -> ordered::RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn write(&self) -> ordered::RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(ordered::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(ordered::Condvar::new())
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.0.take().expect("held");
            guard.0 = Some(self.0.wait(inner).unwrap_or_else(PoisonError::into_inner));
        }

        /// Returns true if `until` has passed.
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> bool {
            let passed = has_passed();
            if !passed {
                self.wait(guard);
            }
            passed
        }
    }

    /// A deadline has always passed, and meets every order that way.
    #[cfg(tierlock_loom)]
    fn has_passed() -> bool {
        true
    }

    /// A deadline has passed, or comes too late for whoever decides.
    #[cfg(tierlock_shuttle)]
    fn has_passed() -> bool {
        use shuttle::rand::{Rng, thread_rng};
        thread_rng().gen_bool(0.5)
    }
}
