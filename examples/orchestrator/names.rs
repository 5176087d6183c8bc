//! Names as small numbers.
//!
//! Every name there will ever be is known once the files are read, so the table is complete before the first job runs
//! and needs no lock.

use std::collections::HashMap;
use std::sync::Arc;

/// A name of the [`NameTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(u32);

impl Name {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    #[cfg(test)]
    pub(crate) const fn numbered(number: u32) -> Self {
        Self(number)
    }
}

/// All names of the cluster and of what its jobs will create.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, Name>,
}

impl NameTable {
    pub(crate) fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.find(text) {
            return name;
        }
        let name = Name(
            u32::try_from(self.texts.len())
                .expect("a file of 4,294,967,296 names does not fit into memory"),
        );
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, name);
        name
    }

    pub(crate) fn find(&self, text: &str) -> Option<Name> {
        self.numbers.get(text).copied()
    }

    pub(crate) fn text(&self, name: Name) -> &Arc<str> {
        &self.texts[name.index()]
    }

    pub(crate) fn texts(&self, names: &[Name]) -> Vec<Arc<str>> {
        names.iter().map(|&name| Arc::clone(self.text(name))).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.texts.iter()
    }
}
