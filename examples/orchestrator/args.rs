//! What a job is about: the instances, nodes and so on that it names.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::cluster::{self, Catalogue};
use crate::input::{Entry, InputError};
use crate::names::{Name, NameTable};
use crate::opcodes::Arg;

/// What a job is about.
#[derive(Debug, Default)]
pub(crate) struct Args {
    pub(crate) instances: Vec<Name>,
    pub(crate) nodes: Vec<Name>,
    pub(crate) groups: Vec<Name>,
    pub(crate) networks: Vec<Name>,
    pub(crate) extra_nodes: Vec<Name>,
    pub(crate) extra_groups: Vec<Name>,
    pub(crate) new: Vec<Name>,
    /// The nodes that an instance gets, primary first.
    pub(crate) chosen: Vec<Name>,
}

/// The same as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "the arguments, an object")]
pub(crate) struct ArgsEntry {
    i: Option<References>,
    n: Option<References>,
    g: Option<References>,
    w: Option<References>,
    x: Option<References>,
    xg: Option<References>,
    new: Option<String>,
    p: Option<Reference>,
    s: Option<Reference>,
    children: Option<u64>,
}

impl ArgsEntry {
    /// The first of `needed` that is not there.
    pub(crate) fn missing<'a>(&self, needed: &'a [Arg]) -> Option<&'a Arg> {
        needed.iter().find(|&&arg| !is_optional(arg) && !self.has(arg))
    }

    pub(crate) fn new_name(&self) -> Option<&str> {
        self.new.as_deref()
    }

    /// Turns indexes and texts into names.
    pub(crate) fn resolve(
        self,
        entry: &Entry<'_>,
        catalogue: &Catalogue,
        names: &NameTable,
    ) -> Result<Args, InputError> {
        let Catalogue { nodes, groups, instances, networks } = catalogue;
        let node = Finder { entry, names, kind: "nodes", list: nodes };
        let group = Finder { kind: "groups", list: groups, ..node };
        let mut chosen = node.find_all("args.p", self.p.map(References::one))?;
        chosen.extend(node.find_all("args.s", self.s.map(References::one))?);
        Ok(Args {
            instances: Finder { kind: "instances", list: instances, ..node }
                .find_all("args.i", self.i)?,
            nodes: node.find_all("args.n", self.n)?,
            groups: group.find_all("args.g", self.g)?,
            networks: Finder { kind: "networks", list: networks, ..node }
                .find_all("args.w", self.w)?,
            extra_nodes: node.find_all("args.x", self.x)?,
            extra_groups: group.find_all("args.xg", self.xg)?,
            new: self.new.iter().filter_map(|new| names.find(new)).collect(),
            chosen,
        })
    }

    fn has(&self, arg: Arg) -> bool {
        match arg {
            Arg::I => self.i.is_some(),
            Arg::N => self.n.is_some(),
            Arg::G => self.g.is_some(),
            Arg::W => self.w.is_some(),
            Arg::X => self.x.is_some(),
            Arg::Xg => self.xg.is_some(),
            Arg::New => self.new.is_some(),
            Arg::P => self.p.is_some(),
            Arg::S => self.s.is_some(),
            Arg::Children => self.children.is_some(),
        }
    }
}

/// Something that exists: by its index in the cluster file, or by a name that an earlier job gave it.
enum Reference {
    Index(usize),
    Name(String),
}

/// One reference, or a list of them.
struct References(Vec<Reference>);

impl References {
    fn one(reference: Reference) -> Self {
        Self(vec![reference])
    }
}

/// Finds things of one kind for one job.
#[derive(Clone, Copy)]
struct Finder<'a> {
    entry: &'a Entry<'a>,
    names: &'a NameTable,
    kind: &'a str,
    /// In the order of the cluster file.
    list: &'a [Name],
}

impl Finder<'_> {
    fn find_all(
        &self,
        field: &str,
        references: Option<References>,
    ) -> Result<Vec<Name>, InputError> {
        let references = references.into_iter().flat_map(|references| references.0);
        references.map(|reference| self.find(field, &reference)).collect()
    }

    fn find(&self, field: &str, reference: &Reference) -> Result<Name, InputError> {
        match reference {
            Reference::Index(index) => {
                cluster::pick(self.list, *index, self.kind, self.entry, field)
            }
            Reference::Name(name) => self.names.find(name).ok_or_else(|| {
                let problem =
                    format_args!("{name:?} is neither in the cluster nor created by a job");
                self.entry.error(field, problem)
            }),
        }
    }
}

/// An instance may have no secondary, and the number of children decides about no lock.
fn is_optional(arg: Arg) -> bool {
    matches!(arg, Arg::S | Arg::Children)
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserialiser: D) -> Result<Self, D::Error> {
        let mut references = References::deserialize(deserialiser)?.0;
        match (references.pop(), references.is_empty()) {
            (Some(reference), true) => Ok(reference),
            _ => Err(D::Error::custom("one index or name is expected")),
        }
    }
}

impl<'de> Deserialize<'de> for References {
    fn deserialize<D: Deserializer<'de>>(deserialiser: D) -> Result<Self, D::Error> {
        deserialiser.deserialize_any(ReferencesVisitor)
    }
}

struct ReferencesVisitor;

impl<'de> Visitor<'de> for ReferencesVisitor {
    type Value = References;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index into the cluster file, a name, or a list of them")
    }

    fn visit_u64<E: Error>(self, index: u64) -> Result<References, E> {
        let index = usize::try_from(index).map_err(E::custom)?;
        Ok(References(vec![Reference::Index(index)]))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<References, E> {
        Ok(References(vec![Reference::Name(name.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<References, A::Error> {
        let mut references = Vec::new();
        while let Some(reference) = list.next_element::<Reference>()? {
            references.push(reference);
        }
        Ok(References(references))
    }
}
