//! What the library has in `crate::sync`, for files of it that are modelled by themselves.

use loom::sync::atomic::{Ordering, fence};

pub(crate) fn fence_after_exchange() {
    fence(Ordering::SeqCst);
}

pub(crate) mod unwatched {
    use std::cell::Cell;

    use loom::sync::Mutex;
    use loom::sync::atomic::AtomicBool;
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

    loom::thread_local! {
        static NUMBER: Cell<u64> = Cell::new(0);
    }

    /// Threads of models are told apart by themselves.
    pub(crate) fn name_thread(number: u64) {
        NUMBER.with(|own| own.set(number));
    }

    pub(crate) fn this_thread() -> u64 {
        NUMBER.with(Cell::get)
    }

    /// std's, but that loom sees who made the value and who found it.
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        is_set: AtomicBool,
        making: Mutex<()>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            let (is_set, making) = (AtomicBool::new(false), Mutex::new(()));
            Self { value: std::sync::OnceLock::new(), is_set, making }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            if let Some(value) = self.get() {
                return value;
            }
            let _making = self.making.lock().unwrap();
            let value = self.value.get_or_init(make);
            self.is_set.store(true, Ordering::Release);
            value
        }
    }
}

/// A mutex that loom watches and that can be made where loom is not, and a channel of which the end is all there is to hear.
#[allow(unreachable_pub, reason = "the library exports them")]
pub(crate) mod pipe {
    use std::ops::{Deref, DerefMut};
    use std::sync::{Arc, OnceLock};
    use std::time::Instant;

    use crossbeam_channel::RecvError;
    pub(crate) use crossbeam_channel::RecvTimeoutError;

    /// loom's mutex orders the threads; the value lies in one that is never contended, then.
    #[derive(Debug, Default)]
    pub struct Mutex<T: ?Sized> {
        turn: OnceLock<loom::sync::Mutex<()>>,
        value: parking_lot::Mutex<T>,
    }

    #[derive(Debug)]
    pub struct MutexGuard<'a, T: ?Sized> {
        mutex: &'a Mutex<T>,
        held: Option<(parking_lot::MutexGuard<'a, T>, loom::sync::MutexGuard<'a, ()>)>,
    }

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self { turn: OnceLock::new(), value: parking_lot::Mutex::new(value) }
        }
    }

    impl<T: ?Sized> Mutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { mutex: self, held: Some(self.hold()) }
        }

        fn hold(&self) -> (parking_lot::MutexGuard<'_, T>, loom::sync::MutexGuard<'_, ()>) {
            let turn = self.turn.get_or_init(|| loom::sync::Mutex::new(())).lock().unwrap();
            (self.value.try_lock().expect("it is our turn"), turn)
        }
    }

    impl<'a, T: ?Sized> MutexGuard<'a, T> {
        pub(crate) fn mutex(guard: &Self) -> &'a Mutex<T> {
            guard.mutex
        }

        pub(crate) fn unlocked<R>(guard: &mut Self, act: impl FnOnce() -> R) -> R {
            guard.held = None;
            let result = act();
            guard.held = Some(guard.mutex.hold());
            result
        }
    }

    impl<T: ?Sized> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.held.as_ref().expect("held").0
        }
    }

    impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.held.as_mut().expect("held").0
        }
    }

    #[derive(Debug)]
    struct End {
        is_near: loom::sync::Mutex<bool>,
        came: loom::sync::Condvar,
    }

    /// The end comes when it is dropped.
    #[derive(Debug)]
    pub(crate) struct Sender<T>(Arc<End>, std::marker::PhantomData<T>);

    #[derive(Clone, Debug)]
    pub(crate) struct Receiver<T>(Arc<End>, std::marker::PhantomData<T>);

    pub(crate) fn bounded<T>(_: usize) -> (Sender<T>, Receiver<T>) {
        let (is_near, came) = (loom::sync::Mutex::new(false), loom::sync::Condvar::new());
        let end = Arc::new(End { is_near, came });
        (
            Sender(Arc::clone(&end), std::marker::PhantomData),
            Receiver(end, std::marker::PhantomData),
        )
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            *self.0.is_near.lock().unwrap() = true;
            self.0.came.notify_all();
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn recv(&self) -> Result<T, RecvError> {
            let mut is_near = self.0.is_near.lock().unwrap();
            while !*is_near {
                is_near = self.0.came.wait(is_near).unwrap();
            }
            Err(RecvError)
        }

        /// A deadline has always passed.
        pub(crate) fn recv_deadline(&self, _: Instant) -> Result<T, RecvTimeoutError> {
            let is_near = *self.0.is_near.lock().unwrap();
            Err(if is_near { RecvTimeoutError::Disconnected } else { RecvTimeoutError::Timeout })
        }
    }
}
