//! What a process knows of its session in a registry, whatever becomes of what is stored.

use super::registry::Registry;
use crate::core::ids::Ids;
use crate::core::member::MemberId;

/// One for all who use the registry by way of the member.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Since when it has a session, if it has one.
    pub(super) since_s: Option<u64>,
    /// What the session holds for certain.
    ids: Ids,
    /// What it may hold beside: whether that was given, or given back, is not known, since the engine failed.
    doubtful: Ids,
    /// How far the registry was counted when it was last seen.
    seen: Option<u64>,
}

impl Own {
    pub(super) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// No id below this one is new.
    pub(super) fn next(&self) -> u64 {
        self.seen.unwrap_or(0)
    }

    /// Tells whether there was a registry at some time.
    pub(super) fn has_seen_it(&self) -> bool {
        self.seen.is_some()
    }

    /// The session is over: it holds nothing, and how far the registry was counted is still known.
    pub(super) fn end(&mut self) {
        *self = Self { seen: self.seen, ..Self::default() };
    }

    /// Takes in what is stored, for certain.
    pub(super) fn learn(&mut self, me: &MemberId, registry: &Registry) {
        self.seen = self.seen.max(Some(registry.next()));
        self.doubtful = Ids::default();
        self.ids = registry.ids_of(me).cloned().unwrap_or_default();
    }

    /// Takes in what is about to be stored, in case that nobody will say whether it was: what it takes away is
    /// not sure any more, and what it gives is not sure yet.
    pub(super) fn expect(&mut self, me: &MemberId, registry: &Registry) {
        let planned = registry.ids_of(me).cloned().unwrap_or_default();
        if planned != self.ids {
            let possible = self.ids.union(&planned).union(&self.doubtful);
            self.ids = self.ids.intersection(&planned);
            self.doubtful = possible.difference(&self.ids);
        }
    }

    /// Why the registry cannot be what this process left, nor what others made of that.
    pub(super) fn contradiction(&self, me: &MemberId, registry: &Registry) -> Option<String> {
        if registry.next() < self.next() {
            let (was, is) = (self.next(), registry.next());
            return Some(format!("it was counted to {was}, and it says {is}"));
        }
        // A session that is over is not asked what it holds, nor one that is yet to say so.
        self.since_s?;
        let stored = match registry.session(me) {
            Some(session) => session.ids()?,
            None => &Ids::default(),
        };
        if *stored == self.ids {
            return None;
        }
        let missing = self.ids.difference(stored);
        if !missing.is_empty() {
            return Some(format!("this session holds {missing}, and it does not say so"));
        }
        let excess = stored.difference(&self.ids).difference(&self.doubtful);
        let excess = Some(excess).filter(|excess| !excess.is_empty())?;
        Some(format!("it says that this session holds {excess}, which it does not"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that saw its session hold 0, 1 and 2 of three ids, and what it saw.
    fn own() -> (Own, MemberId, Registry) {
        let (me, mut registry) = (MemberId::new("m", "host", 12, 0), Registry::new(3));
        registry.attend(&me, 0, &Ids::from(0..3)).unwrap();
        let mut own = Own { since_s: Some(0), ..Own::default() };
        own.learn(&me, &registry);
        (own, me, registry)
    }

    #[test]
    fn what_was_seen_contradicts_nothing_and_what_is_more_or_less_or_earlier_does() {
        let (own, me, registry) = own();
        assert_eq!(own.contradiction(&me, &registry), None);
        let (mut less, mut more, earlier) = (registry.clone(), registry.clone(), Registry::new(2));
        less.release(&me, &Ids::from(1));
        more.lock(&me, &Ids::from(7)).unwrap();
        let why = |registry| own.contradiction(&me, registry).unwrap();
        assert_eq!(why(&less), "this session holds 1, and it does not say so");
        assert_eq!(why(&more), "it says that this session holds 7, which it does not");
        assert_eq!(why(&earlier), "it was counted to 3, and it says 2");
        assert_eq!(why(&Registry::new(3)), "this session holds 0-2, and it does not say so");
    }

    #[test]
    fn what_may_have_been_stored_contradicts_nothing_nor_does_what_was_there_before() {
        let (mut own, me, before) = own();
        let mut after = before.clone();
        after.release(&me, &Ids::from(1));
        after.make(&me, 2).unwrap();
        own.expect(&me, &after);
        assert_eq!(own.contradiction(&me, &before), None);
        assert_eq!(own.contradiction(&me, &after), None);
        assert_eq!(*own.ids(), Ids::from([0, 2]));
        // Once it is seen, it is not in doubt.
        own.learn(&me, &after);
        assert!(own.contradiction(&me, &before).is_some());
    }

    #[test]
    fn whoever_has_no_session_or_one_that_is_silent_is_contradicted_by_the_count_alone() {
        let (mut own, me, registry) = own();
        let silent = Registry::rebuilt(3, [me.clone()], 0);
        assert_eq!(own.contradiction(&me, &silent), None);
        own.end();
        assert_eq!(own.contradiction(&me, &registry), None);
        assert!(own.contradiction(&me, &Registry::new(2)).is_some());
    }
}
