//! What waits and what is shared between threads: parking_lot and std, or loom in models.
//!
//! The only place that knows `cfg(tierlock_loom)`. `Arc` is std's in both, since loom's has no `Weak`.

pub(crate) use self::imp::{Condvar, Mutex, MutexGuard, TIME_PASSES, atomic};

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

#[cfg(not(tierlock_loom))]
mod imp {
    use std::time::Instant;

    pub(crate) use parking_lot::{Mutex, MutexGuard};

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

#[cfg(tierlock_loom)]
mod imp {
    use std::ops::{Deref, DerefMut};
    use std::time::Instant;

    pub(crate) mod atomic {
        pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    }

    pub(crate) fn fence_after_mark() {
        loom::sync::atomic::fence(atomic::Ordering::SeqCst);
    }

    /// Models have no clock: a deadline has always passed, and meets every interleaving that way.
    pub(crate) const TIME_PASSES: bool = false;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    /// Holds its inner guard but for the moment in which a condition waits.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("loom stops at the first panic")))
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

    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.0.take().expect("held");
            guard.0 = Some(self.0.wait(inner).expect("loom stops at the first panic"));
        }

        /// A deadline has always passed.
        pub(crate) fn wait_until<T>(&self, _: &mut MutexGuard<'_, T>, _: Instant) -> bool {
            true
        }
    }
}
