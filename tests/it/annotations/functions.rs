//! Every kind of function, with all that may be written on it.

use std::borrow::Cow;
use std::fmt::Display;

use tierlock::{Error, Mode, SharedLock, ssynchronized};

struct Instance {
    lock: SharedLock,
    name: String,
}

impl Instance {
    fn new() -> Self {
        Self { lock: SharedLock::new("instance"), name: "web1".to_owned() }
    }

    #[ssynchronized(self.lock)]
    fn by_reference<'a>(&'a self, other: &'a str) -> Result<&'a str, Error> {
        assert!(self.lock.mode().is_some());
        Ok(if self.name.is_empty() { other } else { &self.name })
    }

    #[ssynchronized(self.lock)]
    fn mutably(&mut self, name: impl Into<String>) -> Result<&mut Self, Error> {
        // The lock is part of what is changed.
        self.name = name.into();
        let lock = std::mem::replace(&mut self.lock, SharedLock::new("another"));
        assert_eq!(lock.mode(), Some(Mode::Exclusive));
        self.lock = lock;
        Ok(self)
    }

    #[ssynchronized(self.lock)]
    fn by_value(self) -> Result<SharedLock, Error> {
        assert_eq!(self.lock.mode(), Some(Mode::Exclusive));
        Ok(self.lock)
    }

    #[ssynchronized(self.lock)]
    async fn later(&mut self, name: &str) -> Result<&str, Error> {
        self.name.push_str(name);
        Ok(&self.name)
    }

    #[ssynchronized(self.lock)]
    async fn by_value_later(self) -> Result<SharedLock, Error> {
        assert_eq!(self.lock.mode(), Some(Mode::Exclusive));
        Ok(self.lock)
    }
}

#[test]
fn methods_take_themselves_in_any_way() {
    let mut instance = Instance::new();
    assert_eq!(instance.by_reference("none").unwrap(), "web1");
    assert_eq!(instance.mutably("web2").unwrap().name, "web2");
    assert_eq!(pollster::block_on(instance.later("-b")).unwrap(), "web2-b");
    assert_eq!(instance.lock.mode(), None);
    assert_eq!(instance.by_value().unwrap().mode(), None);
    assert_eq!(pollster::block_on(Instance::new().by_value_later()).unwrap().mode(), None);
}

#[ssynchronized(lock)]
fn generic<T, const COUNT: usize>(lock: &SharedLock, value: &T) -> Result<[T; COUNT], Error>
where
    T: Clone + Display,
{
    assert!(lock.mode().is_some());
    Ok(std::array::from_fn(|_| value.clone()))
}

#[ssynchronized(lock)]
fn listed(lock: &SharedLock, upto: u32) -> Result<impl Iterator<Item = u32> + use<>, Error> {
    Ok(0..upto)
}

#[ssynchronized(lock)]
async fn shown(lock: &SharedLock, name: &str) -> Result<impl Display, Error> {
    let held = lock.mode();
    Ok(format!("{name} {}", held.unwrap()))
}

#[ssynchronized(lock)]
fn coerced(lock: &SharedLock, by: u32) -> Result<Box<dyn Fn(u32) -> u32>, Error> {
    Ok(Box::new(move |value| value + by))
}

#[ssynchronized(lock)]
async fn coerced_later(lock: &SharedLock, by: u32) -> Result<Box<dyn Fn(&str) -> usize>, Error> {
    if by == 0 {
        return Ok(Box::new(|text| text.trim().len()));
    }
    let length = "abc".parse::<u32>().map_or(3, |number| number as usize);
    Ok(Box::new(move |text| text.len() + length))
}

#[ssynchronized(lock)]
fn destructured(
    (lock, name): (&SharedLock, Cow<'_, str>),
    mut times: usize,
) -> Result<String, Error> {
    times += 1;
    Ok(name.repeat(times))
}

#[test]
fn functions_are_generic_borrow_and_hide_types() {
    let lock = SharedLock::new("config");
    assert_eq!(generic::<_, 3>(&lock, &7).unwrap(), [7, 7, 7]);
    assert_eq!(listed(&lock, 3).unwrap().count(), 3);
    assert_eq!(pollster::block_on(shown(&lock, "web1")).unwrap().to_string(), "web1 exclusive");
    assert_eq!(coerced(&lock, 2).unwrap()(3), 5);
    assert_eq!(pollster::block_on(coerced_later(&lock, 2)).unwrap()("abc"), 6);
    assert_eq!(destructured((&lock, "ab".into()), 1).unwrap(), "abab");
}

/// Functions of a trait, with a body and without.
trait Node {
    fn lock(&self) -> &SharedLock;

    #[ssynchronized(self.lock())]
    fn reboot(&self) -> Result<Option<Mode>, Error> {
        Ok(self.lock().mode())
    }

    fn wipe(&self) -> Result<Option<Mode>, Error>;

    async fn migrate(&self, to: &str) -> Result<String, Error>;
}

impl Node for SharedLock {
    fn lock(&self) -> &SharedLock {
        self
    }

    #[ssynchronized(self, shared)]
    fn wipe(&self) -> Result<Option<Mode>, Error> {
        Ok(self.mode())
    }

    #[ssynchronized(self, intent_shared)]
    async fn migrate(&self, to: &str) -> Result<String, Error> {
        Ok(format!("{to} {}", self.mode().unwrap()))
    }
}

#[test]
fn traits_and_their_implementations_are_annotated_alike() {
    let node = SharedLock::new("n1");
    assert_eq!(node.reboot().unwrap(), Some(Mode::Exclusive));
    assert_eq!(node.wipe().unwrap(), Some(Mode::Shared));
    let migrated = pollster::block_on(node.migrate("n2")).unwrap();
    assert_eq!(migrated, format!("n2 {}", Mode::IntentShared));
}

mod described {
    #![deny(missing_docs, unused, clippy::pedantic, clippy::nursery)]

    use super::{Error, SharedLock, ssynchronized};

    /// Its documentation, its other attributes and its visibility stay, and no lint finds anything in what is written.
    ///
    /// # Errors
    /// If the lock is not acquired.
    #[must_use = "it stays"]
    #[inline]
    #[ssynchronized(lock, shared)]
    #[expect(clippy::cast_possible_truncation, reason = "it is small")]
    pub(super) fn annotated(lock: &SharedLock, value: u64) -> Result<u32, Error> {
        drop(lock.clone());
        Ok(value as u32)
    }

    #[ssynchronized(lock, shared)]
    #[ssynchronized("{value}", in = locks, now)]
    pub(super) async fn twice_later(
        lock: &SharedLock,
        locks: &tierlock::LockSet,
        value: u64,
    ) -> Result<u64, Error> {
        std::future::ready(value).await;
        Ok(value)
    }

    #[ssynchronized(lock, on_error = |_| ())]
    pub(super) fn nothing(lock: &SharedLock) {
        drop(lock.clone());
    }

    #[rustfmt::skip]
    #[ssynchronized(lock)]
    pub(super) fn on_one_line(lock: &SharedLock) -> Result<u32, Error> { Ok(17) }

    #[rustfmt::skip]
    #[ssynchronized(lock)]
    pub(super) async fn a_macro(lock: &SharedLock) -> Result<Vec<u32>, Error> { later!() }

    macro_rules! later {
        () => {
            Ok(vec![17])
        };
    }
    use later;

    #[ssynchronized(lock)]
    pub(super) fn with_items(lock: &SharedLock) -> Result<u32, Error> {
        const NUMBER: u32 = 17;
        Ok(NUMBER)
    }
}

#[test]
fn what_is_written_on_a_function_stays() {
    let lock = SharedLock::new("config");
    assert_eq!(described::annotated(&lock, 7).unwrap(), 7);
    described::nothing(&lock);
    assert_eq!(described::on_one_line(&lock).unwrap(), described::with_items(&lock).unwrap());
    assert_eq!(pollster::block_on(described::a_macro(&lock)).unwrap(), [17]);
    let locks = tierlock::LockSet::on_demand("values");
    assert_eq!(pollster::block_on(described::twice_later(&lock, &locks, 3)).unwrap(), 3);
}

#[test]
fn the_body_sees_none_of_the_names_written() {
    #[ssynchronized(error)]
    fn odd(error: &SharedLock, held: u32, asked: u32) -> Result<u32, Error> {
        assert!(error.mode().is_some());
        Ok(held + asked)
    }

    assert_eq!(odd(&SharedLock::new("config"), 1, 2).unwrap(), 3);
}
