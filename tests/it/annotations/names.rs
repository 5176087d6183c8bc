//! Locks by name: what a template makes, and where the name means a lock.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use tierlock::{AcquireError, Error, LockSet, Membership, Mode, Owner, exclusive, ssynchronized};

use super::refusal;
use crate::support::ms;

struct Share {
    id: u32,
    host: (String, u16),
}

impl Share {
    fn new() -> Self {
        Self { id: 7, host: ("h1".to_owned(), 22) }
    }

    fn kind(&self) -> &'static str {
        "nfs"
    }
}

/// The names that are locked just now.
fn locked(locks: &LockSet) -> String {
    locks.names().join(" ")
}

macro_rules! names {
    ($($function:ident: $template:literal => $name:literal),* $(,)?) => {
        $(
            #[ssynchronized($template, in = locks)]
            fn $function(
                locks: &LockSet,
                share: &Share,
                snap: &HashMap<&str, String>,
                ids: &[u32],
                name: impl Into<String> + std::fmt::Display,
            ) -> Result<String, Error> {
                let _ = (share, snap, ids, name);
                Ok(locked(locks))
            }
        )*

        #[test]
        fn a_template_makes_the_name_of_its_arguments() {
            let (locks, share) = (LockSet::on_demand("shares"), Share::new());
            let snap = HashMap::from([("name", "daily".to_owned())]);
            $(assert_eq!($function(&locks, &share, &snap, &[3, 4], "web1").unwrap(), $name);)*
            assert_eq!(locked(&locks), "");
        }
    };
}

names! {
    constant: "config" => "config",
    field: "share-{share.id}" => "share-7",
    tuple: "{share.host.0}:{share.host.1}" => "h1:22",
    method: "{share.kind()}-{share.kind().len()}" => "nfs-3",
    key: r#"{snap["name"]}"# => "daily",
    index: "{ids[0]}-{ids[1]}" => "3-4",
    argument: "{name}" => "web1",
    create: "share-{share.id}-{f_name}" => "share-7-create",
    braces: "{{{name}}}-{{}}" => "{web1}-{}",
    width: "{share.id:03}|{name:_<6}|{name:>2.3}" => "007|web1__|web",
    debug: "{name:}-{share.id:x}-{share.id:#06b}-{ids:?}" => "web1-7-0b0111-[3, 4]",
    padded_function: "{f_name:.>16}" => ".padded_function",
}

#[test]
fn the_order_of_arguments_and_how_they_are_passed_does_not_matter() {
    #[ssynchronized("{id}", in = locks)]
    fn first(id: u32, locks: &LockSet) -> Result<String, Error> {
        Ok(locked(locks))
    }

    #[ssynchronized("{id}", in = locks)]
    fn second(locks: &LockSet, id: u32) -> Result<String, Error> {
        Ok(locked(locks))
    }

    let locks = LockSet::on_demand("shares");
    assert_eq!((first(7, &locks).unwrap(), second(&locks, 7).unwrap()), ("7".into(), "7".into()));
}

#[test]
fn a_value_that_is_empty_is_an_error_and_no_name() {
    #[ssynchronized("share-{id}-{f_name}", in = locks)]
    fn create(locks: &LockSet, id: &str) -> Result<(), Error> {
        Ok(())
    }

    #[ssynchronized("share-{id:_>4}", in = locks)]
    fn padded(locks: &LockSet, id: &str) -> Result<(), Error> {
        Ok(())
    }

    #[ssynchronized("share-{id:?}", in = locks)]
    fn debugged(locks: &LockSet, id: &str) -> Result<(), Error> {
        Ok(())
    }

    #[ssynchronized("share-{id:.0}", in = locks)]
    fn cut_off(locks: &LockSet, id: &str) -> Result<(), Error> {
        Ok(())
    }

    #[ssynchronized("share-{id}", in = locks)]
    async fn later(locks: &LockSet, id: &str) -> Result<(), Error> {
        Ok(())
    }

    let (locks, job) = (LockSet::on_demand("shares"), Owner::new("job-17"));
    let error = refusal(job.sync_scope(|| create(&locks, "")));
    let AcquireError::EmptyValue { placeholder, .. } = error else { panic!("{error}") };
    assert_eq!(placeholder, "{id}");
    assert_eq!(
        error.to_string(),
        "job-17 asked for shares/share--create, but {id} in its name is empty"
    );
    let refusals = [
        refusal(create(&locks, " \t")),
        refusal(padded(&locks, "")),
        refusal(debugged(&locks, "")),
        refusal(cut_off(&locks, "web1")),
        refusal(pollster::block_on(later(&locks, ""))),
    ];
    for error in refusals {
        assert!(matches!(error, AcquireError::EmptyValue { .. }), "{error}");
    }
    assert!(
        create(&locks, "a").is_ok() && padded(&locks, "a").is_ok() && debugged(&locks, "a").is_ok()
    );
}

#[test]
fn errors_name_the_lock_and_not_its_template() {
    #[ssynchronized("share-{id}", in = locks, timeout = "2ms")]
    fn grow(locks: &LockSet, id: u32) -> Result<(), Error> {
        Ok(())
    }

    let (locks, holder) = (LockSet::on_demand("shares"), Owner::new("holder"));
    let _guard = locks.acquire(&holder, exclusive("share-7")).now().unwrap();
    let error = refusal(grow(&locks, 7));
    assert!(
        error.is_timeout() && error.to_string().contains("shares/share-7 exclusive"),
        "{error}"
    );
    assert!(grow(&locks, 8).is_ok());
}

#[test]
fn different_names_are_different_locks_and_one_name_is_one() {
    #[ssynchronized("{id}", in = locks, shared)]
    fn read(
        locks: &LockSet,
        id: u32,
        then: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        then()
    }

    #[ssynchronized("{id}", in = locks, owner = owner, now)]
    fn write(owner: &Owner, locks: &LockSet, id: u32) -> Result<(), Error> {
        Ok(())
    }

    let (locks, other) = (LockSet::on_demand("shares"), Owner::new("other"));
    read(&locks, 7, || write(&other, &locks, 8)).unwrap();
    let error = refusal(read(&locks, 7, || write(&other, &locks, 7)));
    assert!(matches!(error, AcquireError::WouldBlock { .. }));
}

#[test]
fn a_set_that_lists_its_names_has_no_others() {
    #[ssynchronized("{region}", in = REGIONS, shared)]
    fn deploy(region: &str) -> Result<Vec<Arc<str>>, Error> {
        Ok(REGIONS.names())
    }

    static REGIONS: LazyLock<LockSet> =
        LazyLock::new(|| LockSet::new("regions", Membership::Fixed, ["eu", "us"]).unwrap());
    assert_eq!(deploy("eu").unwrap().len(), 2);
    assert!(matches!(refusal(deploy("mars")), AcquireError::NotFound { .. }));
}

#[test]
fn one_owner_is_in_a_set_once() {
    #[ssynchronized("a", in = locks)]
    #[ssynchronized("b", in = locks)]
    fn both(locks: &LockSet) -> Result<(), Error> {
        Ok(())
    }

    let error = refusal(both(&LockSet::on_demand("shares")));
    assert!(matches!(error, AcquireError::AlreadyHeld { .. }), "{error}");
}

#[test]
fn a_place_may_be_behind_pointers_and_come_from_a_call() {
    struct Service {
        locks: Arc<LockSet>,
    }

    impl Service {
        fn locks(&self) -> Box<LockSet> {
            Box::new(LockSet::clone(&self.locks))
        }

        #[ssynchronized("{name}", in = self.locks, mode = Mode::Shared)]
        fn behind_an_arc(&self, name: &str) -> Result<String, Error> {
            Ok(locked(&self.locks))
        }

        #[ssynchronized("{name}", in = self.locks(), timeout = ms(1))]
        async fn from_a_call(&self, name: &str) -> Result<String, Error> {
            Ok(locked(&self.locks))
        }
    }

    let service = Service { locks: Arc::new(LockSet::on_demand("shares")) };
    assert_eq!(service.behind_an_arc("a").unwrap(), "a");
    assert_eq!(pollster::block_on(service.from_a_call("b")).unwrap(), "b");
}
