//! The cluster's configuration: what exists now, and how jobs change it.
//!
//! Only what decides about names of locks is kept. Migrations and the like leave it as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::value::RawValue;
use tierlock::ganeti::Level;
use tierlock::{SharedLock, ssynchronized};

use crate::args::Args;
use crate::input::{Entry, InputError, Source};
use crate::names::{Name, NameTable};
use crate::opcodes::Effect;

/// Ganeti's `_config_lock`: whoever changes the configuration is alone with it, whatever else it holds.
static CONFIG: LazyLock<SharedLock> = LazyLock::new(|| SharedLock::new("config"));

/// What exists. A job changes it only while it holds the locks concerned.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) master: Option<Name>,
    pub(crate) nodes: BTreeMap<Name, Node>,
    /// The nodes of each group.
    pub(crate) groups: BTreeMap<Name, BTreeSet<Name>>,
    pub(crate) instances: BTreeMap<Name, Instance>,
    pub(crate) networks: BTreeSet<Name>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) group: Name,
    /// The instances that have their primary here.
    pub(crate) primaries: BTreeSet<Name>,
    pub(crate) secondaries: BTreeSet<Name>,
}

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) primary: Name,
    pub(crate) secondary: Option<Name>,
    pub(crate) drbd: bool,
    pub(crate) networks: Vec<Name>,
}

impl Instance {
    /// Primary first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Name> {
        std::iter::once(self.primary).chain(self.secondary)
    }
}

/// The names of each kind in the order of the file, for those who give an index.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) nodes: Vec<Name>,
    pub(crate) groups: Vec<Name>,
    pub(crate) instances: Vec<Name>,
    pub(crate) networks: Vec<Name>,
}

impl Cluster {
    /// Every name of `level`, or nothing for the two levels whose one name never changes.
    pub(crate) fn names(&self, level: Level) -> Box<dyn Iterator<Item = Name> + '_> {
        match level {
            Level::Instance => Box::new(self.instances.keys().copied()),
            Level::NodeGroup => Box::new(self.groups.keys().copied()),
            Level::Node | Level::NodeRes => Box::new(self.nodes.keys().copied()),
            Level::Network => Box::new(self.networks.iter().copied()),
            Level::Cluster | Level::NodeAlloc => Box::new(std::iter::empty()),
        }
    }

    /// Why `effect` must not be, if so: what has something in it stays.
    #[ssynchronized(CONFIG, shared, on_error = panic)]
    pub(crate) fn objection(&self, effect: Effect, args: &Args) -> Option<&'static str> {
        let node = |name| self.nodes.get(name);
        let in_use = |node: &Node| !node.primaries.is_empty() || !node.secondaries.is_empty();
        let group = |name| self.groups.get(name);
        match effect {
            Effect::NodeRemove if args.nodes.iter().filter_map(node).any(in_use) => {
                Some("a node to be removed has instances")
            }
            Effect::GroupRemove if args.groups.iter().filter_map(group).any(|g| !g.is_empty()) => {
                Some("a group to be removed has nodes")
            }
            _ => None,
        }
    }

    /// Does what a job does to the configuration; a new instance gets the nodes `chosen`, primary first.
    ///
    /// What is not there is not removed: a job that names it never comes so far.
    #[ssynchronized(CONFIG, on_error = panic)]
    pub(crate) fn apply(&mut self, effect: Effect, args: &Args, chosen: &[Name]) {
        let new = args.new.first().copied();
        match effect {
            Effect::None => {}
            Effect::InstanceCreate => {
                if let (Some(name), Some(&primary)) = (new, chosen.first()) {
                    let secondary = chosen.get(1).copied();
                    let drbd = secondary.is_some();
                    self.add_instance(
                        name,
                        Instance { primary, secondary, drbd, networks: vec![] },
                    );
                }
            }
            Effect::InstanceRemove => {
                args.instances.iter().for_each(|&name| drop(self.remove_instance(name)));
            }
            Effect::InstanceRename => {
                let old = args.instances.first().and_then(|&old| self.remove_instance(old));
                if let (Some(name), Some(instance)) = (new, old) {
                    self.add_instance(name, instance);
                }
            }
            Effect::NodeAdd => {
                if let (Some(name), Some(&group)) = (new, args.groups.first()) {
                    self.add_node(name, group);
                }
            }
            Effect::NodeRemove => args.nodes.iter().for_each(|&name| self.remove_node(name)),
            Effect::GroupAdd => self.groups.extend(new.map(|name| (name, BTreeSet::new()))),
            Effect::GroupRemove => {
                args.groups.iter().for_each(|group| drop(self.groups.remove(group)));
            }
            Effect::NetworkAdd => self.networks.extend(new),
        }
    }

    pub(crate) fn add_instance(&mut self, name: Name, instance: Instance) {
        if let Some(node) = self.nodes.get_mut(&instance.primary) {
            node.primaries.insert(name);
        }
        if let Some(node) = instance.secondary.and_then(|node| self.nodes.get_mut(&node)) {
            node.secondaries.insert(name);
        }
        self.instances.insert(name, instance);
    }

    pub(crate) fn remove_instance(&mut self, name: Name) -> Option<Instance> {
        let instance = self.instances.remove(&name)?;
        for node in instance.nodes() {
            if let Some(node) = self.nodes.get_mut(&node) {
                node.primaries.remove(&name);
                node.secondaries.remove(&name);
            }
        }
        Some(instance)
    }

    pub(crate) fn add_node(&mut self, name: Name, group: Name) {
        self.groups.entry(group).or_default().insert(name);
        let (primaries, secondaries) = (BTreeSet::new(), BTreeSet::new());
        self.nodes.insert(name, Node { group, primaries, secondaries });
    }

    pub(crate) fn remove_node(&mut self, name: Name) {
        let Some(node) = self.nodes.remove(&name) else { return };
        if let Some(members) = self.groups.get_mut(&node.group) {
            members.remove(&name);
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with nodes, groups, instances and so on")]
struct ClusterFile<'a> {
    #[serde(borrow)]
    master: &'a RawValue,
    disk_templates: Vec<String>,
    #[serde(borrow)]
    networks: Vec<&'a RawValue>,
    #[serde(borrow)]
    groups: Vec<&'a RawValue>,
    #[serde(borrow)]
    nodes: Vec<&'a RawValue>,
    #[serde(borrow)]
    instances: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with a name")]
struct GroupEntry {
    name: String,
}

#[derive(Deserialize)]
#[serde(expecting = "[name, group]")]
struct NodeRow(String, usize);

/// Name, primary, secondary or -1, disk template, networks.
#[derive(Deserialize)]
#[serde(expecting = "[name, primary, secondary, template, networks]")]
struct InstanceRow(String, usize, i64, usize, Vec<usize>);

/// Reads a cluster, entering its names into `names`.
pub(crate) fn read(
    source: &Source,
    names: &mut NameTable,
) -> Result<(Cluster, Catalogue), InputError> {
    let file: ClusterFile<'_> = source.document()?;
    let mut reader = Reader { names, cluster: Cluster::default(), catalogue: Catalogue::default() };
    for entry in source.entries("networks", &file.networks) {
        reader.network(&entry)?;
    }
    for entry in source.entries("groups", &file.groups) {
        reader.group(&entry)?;
    }
    for entry in source.entries("nodes", &file.nodes) {
        reader.node(&entry)?;
    }
    for entry in source.entries("instances", &file.instances) {
        reader.instance(&entry, &file.disk_templates)?;
    }
    let master = source.entry(file.master, "master".to_owned());
    let index = master.object()?;
    reader.cluster.master = Some(pick(&reader.catalogue.nodes, index, "nodes", &master, "")?);
    Ok((reader.cluster, reader.catalogue))
}

struct Reader<'a> {
    names: &'a mut NameTable,
    cluster: Cluster,
    catalogue: Catalogue,
}

impl Reader<'_> {
    fn network(&mut self, entry: &Entry<'_>) -> Result<(), InputError> {
        let name = self.names.intern(&entry.object::<String>()?);
        self.catalogue.networks.push(name);
        unique(self.cluster.networks.insert(name), entry)
    }

    fn group(&mut self, entry: &Entry<'_>) -> Result<(), InputError> {
        let name = self.names.intern(&entry.object::<GroupEntry>()?.name);
        self.catalogue.groups.push(name);
        unique(self.cluster.groups.insert(name, BTreeSet::new()).is_none(), entry)
    }

    fn node(&mut self, entry: &Entry<'_>) -> Result<(), InputError> {
        let NodeRow(name, group) = entry.row(&["name", "group"])?;
        let name = self.names.intern(&name);
        let group = pick(&self.catalogue.groups, group, "groups", entry, "group")?;
        self.catalogue.nodes.push(name);
        unique(!self.cluster.nodes.contains_key(&name), entry)?;
        self.cluster.add_node(name, group);
        Ok(())
    }

    fn instance(&mut self, entry: &Entry<'_>, templates: &[String]) -> Result<(), InputError> {
        let columns = ["name", "primary", "secondary", "template", "networks"];
        let InstanceRow(name, primary, secondary, template, networks) = entry.row(&columns)?;
        let nodes = &self.catalogue.nodes;
        let Some(template) = templates.get(template) else {
            return Err(
                entry.error("template", beyond(template, templates.len(), "disk_templates"))
            );
        };
        let secondary = match usize::try_from(secondary) {
            Ok(index) => Some(pick(nodes, index, "nodes", entry, "secondary")?),
            Err(_) if secondary == -1 => None,
            Err(_) => return Err(entry.error("secondary", "neither an index nor -1")),
        };
        let instance = Instance {
            primary: pick(nodes, primary, "nodes", entry, "primary")?,
            secondary,
            drbd: template == "drbd",
            networks: networks
                .into_iter()
                .map(|index| pick(&self.catalogue.networks, index, "networks", entry, "networks"))
                .collect::<Result<_, _>>()?,
        };
        let name = self.names.intern(&name);
        self.catalogue.instances.push(name);
        unique(!self.cluster.instances.contains_key(&name), entry)?;
        self.cluster.add_instance(name, instance);
        Ok(())
    }
}

fn unique(new: bool, entry: &Entry<'_>) -> Result<(), InputError> {
    if new { Ok(()) } else { Err(entry.error("name", "is there twice")) }
}

/// The name at `index` of `list`, or an error in `field` of `entry`.
pub(crate) fn pick(
    list: &[Name],
    index: usize,
    kind: &str,
    entry: &Entry<'_>,
    field: &str,
) -> Result<Name, InputError> {
    list.get(index).copied().ok_or_else(|| entry.error(field, beyond(index, list.len(), kind)))
}

fn beyond(index: usize, len: usize, kind: &str) -> String {
    format!("index {index}, but there are {len} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../data/cluster-small.json");

    fn read_text(text: &str) -> Result<Cluster, String> {
        let read = read(&Source::new("c.json", text), &mut NameTable::default());
        read.map(|(cluster, _)| cluster).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_cluster_is_read() {
        let cluster = read_text(SHIPPED).expect("the shipped file is well formed");
        assert_eq!((cluster.nodes.len(), cluster.groups.len()), (20, 3));
        assert_eq!((cluster.instances.len(), cluster.networks.len()), (200, 5));
    }

    #[test]
    fn a_malformed_cluster_is_an_error() {
        let cases = [
            (
                "\"master\": 0",
                "\"master\": 20",
                "c.json:5: master: index 20, but there are 20 nodes",
            ),
            ("\"node0002", "\"node0001", "c.json:11: nodes[1].name: is there twice"),
            (
                "[\"node0002.example.com\",2]",
                "[\"node0002.example.com\"]",
                "c.json:11: nodes[1]: invalid length 1",
            ),
            (
                "[\"node0002.example.com\",2]",
                "[\"node0002.example.com\",-2]",
                "c.json:11: nodes[1].group: invalid value: integer `-2`",
            ),
            (
                "[\"node0002.example.com\",2]",
                "[\"node0002.example.com\",3]",
                "c.json:11: nodes[1].group: index 3, but there are 3 groups",
            ),
            (",16,11,0,[3]]", ",16,-2,0,[3]]", "instances[0].secondary: neither an index nor -1"),
            (
                ",16,11,0,[3]]",
                ",16,11,9,[3]]",
                "instances[0].template: index 9, but there are 5 disk_templates",
            ),
            (
                ",16,11,0,[3]]",
                ",16,11,0,[3,\"x\"]]",
                "instances[0].networks[1]: invalid type: string \"x\"",
            ),
            (
                ",16,11,0,[3]]",
                ",16,11,0,[5]]",
                "instances[0].networks: index 5, but there are 5 networks",
            ),
        ];
        for (good, bad, message) in cases {
            let error = read_text(&SHIPPED.replacen(good, bad, 1)).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_removed_instance_leaves_its_nodes() {
        let mut names = NameTable::default();
        let (mut cluster, catalogue) =
            read(&Source::new("c.json", SHIPPED), &mut names).expect("well formed");
        let name = catalogue.instances[0];
        let instance = cluster.remove_instance(name).expect("it is there");
        for node in instance.nodes() {
            let node = &cluster.nodes[&node];
            assert!(!node.primaries.contains(&name) && !node.secondaries.contains(&name));
        }
    }
}
