//! Which resource of a member stands for which record.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::driver::Key;
use super::resource::Resource;

/// The resources of one member. For each record one of them stands, the newest: what the record says of the member is its business
/// alone.
#[derive(Default)]
pub(crate) struct Registry {
    of: Mutex<HashMap<Key, Weak<Resource>>>,
    extending: Mutex<()>,
}

impl Registry {
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Resource>> {
        // It may be the last that knows it, and must not end under the mutex.
        let of = self.of.lock();
        of.get(key).and_then(Weak::upgrade)
    }

    pub(crate) fn get_or_make(
        &self,
        key: &Key,
        make: impl FnOnce() -> Arc<Resource>,
    ) -> Arc<Resource> {
        let mut of = self.of.lock();
        if let Some(resource) = of.get(key).and_then(Weak::upgrade) {
            return resource;
        }
        let resource = make();
        Self::put_into(&mut of, key, &resource);
        resource
    }

    /// Has this one stand for its record from now on.
    pub(crate) fn put(&self, key: &Key, resource: &Arc<Resource>) {
        Self::put_into(&mut self.of.lock(), key, resource);
    }

    fn put_into(of: &mut HashMap<Key, Weak<Resource>>, key: &Key, resource: &Arc<Resource>) {
        // Those that nobody uses any more go when there is no room for another.
        if of.len() == of.capacity() {
            of.retain(|_, resource| resource.strong_count() > 0);
        }
        of.insert(key.clone(), Arc::downgrade(resource));
    }

    pub(crate) fn all(&self) -> Vec<Arc<Resource>> {
        self.of.lock().values().filter_map(Weak::upgrade).collect()
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.of.lock().len()
    }

    /// For whoever puts a whole level, so that two cannot both find that nobody has it.
    pub(crate) fn extend(&self) -> MutexGuard<'_, ()> {
        self.extending.lock()
    }
}
