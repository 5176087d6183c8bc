//! From rules to names: what a job has to ask for at a level, given what it holds and what the cluster is like now.

use std::collections::BTreeSet;

use tierlock::ganeti::{LEVELS, Level};
use tierlock::{Level as _, Mode};

use crate::args::Args;
use crate::cluster::{Cluster, Instance};
use crate::names::Name;
use crate::opcodes::Rule;

/// Some names of a level, in order and once each, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    All,
    Names(Vec<Name>),
}

impl Selection {
    pub(crate) fn of(mut names: Vec<Name>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self::Names(names)
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Names(names) if names.is_empty())
    }
}

/// What a job holds, by level, as the job itself keeps account of it.
#[derive(Debug, Default)]
pub(crate) struct Holdings([Option<Holding>; LEVELS.len()]);

#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) mode: Mode,
    pub(crate) names: Selection,
}

impl Holdings {
    pub(crate) fn of(&self, level: Level) -> Option<&Holding> {
        self.0[level.rank()].as_ref()
    }

    pub(crate) fn set(&mut self, level: Level, holding: Option<Holding>) {
        self.0[level.rank()] = holding;
    }
}

/// What the rules look at.
pub(crate) struct Resolver<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) args: &'a Args,
    /// The nodes an instance gets, primary first.
    pub(crate) chosen: &'a [Name],
    pub(crate) held: &'a Holdings,
    /// What was asked for at the node level.
    pub(crate) asked_nodes: Option<&'a Selection>,
}

impl Resolver<'_> {
    /// What to ask for at `level`.
    pub(crate) fn names(&self, rules: &[Rule], level: Level) -> Selection {
        let named = || [&self.args.nodes, &*self.args.extra_nodes, self.chosen].concat();
        self.union(rules, level, named)
    }

    /// What to keep of `level`: the groups are those of the nodes still held.
    pub(crate) fn names_kept(&self, rules: &[Rule], level: Level) -> Selection {
        self.union(rules, level, || self.owned(Level::Node))
    }

    fn union(&self, rules: &[Rule], level: Level, nodes: impl Fn() -> Vec<Name>) -> Selection {
        let mut union = Vec::new();
        for &rule in rules {
            match rule {
                Rule::All => return Selection::All,
                Rule::LikeNode => match self.asked_nodes {
                    Some(Selection::All) => return Selection::All,
                    Some(Selection::Names(names)) => union.extend(names),
                    None => {}
                },
                Rule::NodeGroups => union.extend(self.groups(nodes())),
                _ => union.extend(self.rule(rule, level)),
            }
        }
        Selection::of(union)
    }

    fn rule(&self, rule: Rule, level: Level) -> Vec<Name> {
        let args = self.args;
        match rule {
            Rule::Target => self.target(level).to_vec(),
            Rule::Extra if level == Level::NodeGroup => args.extra_groups.clone(),
            Rule::Extra => args.extra_nodes.clone(),
            Rule::New => args.new.clone(),
            Rule::Master => self.cluster.master.into_iter().collect(),
            Rule::Chosen => self.chosen.to_vec(),
            Rule::InstancePrimary => self.instances().iter().map(|i| i.primary).collect(),
            Rule::InstanceNodes => self.instances().iter().flat_map(|i| i.nodes()).collect(),
            Rule::InstanceDrbdSecondaries => {
                self.instances().iter().filter(|i| i.drbd).filter_map(|i| i.secondary).collect()
            }
            Rule::InstanceGroups => self.instance_groups(),
            Rule::InstancePrimaryGroups => self.groups(self.rule(Rule::InstancePrimary, level)),
            Rule::InstanceNetworks => {
                self.instances().iter().flat_map(|i| i.networks.iter().copied()).collect()
            }
            Rule::NodeGroupPeers => self.members(self.groups(args.nodes.clone())),
            Rule::NodePrimaryInstances => self.primaries(&args.nodes),
            Rule::NodeSecondaryInstances => self.secondaries(&args.nodes),
            Rule::NodeDrbdInstances => self.drbd_instances(&args.nodes),
            Rule::GroupInstances => {
                let members = self.members(args.groups.clone());
                [self.primaries(&members), self.secondaries(&members)].concat()
            }
            Rule::GroupPrimaryInstances => self.primaries(&self.members(args.groups.clone())),
            Rule::GroupMembers => self.members(args.groups.clone()),
            Rule::OwnedGroupsMembers => self.members(self.owned(Level::NodeGroup)),
            Rule::OwnedGroupsMembersForeign => {
                let own: BTreeSet<Name> = self.instance_groups().into_iter().collect();
                let mut groups = self.owned(Level::NodeGroup);
                groups.retain(|group| !own.contains(group));
                self.members(groups)
            }
            Rule::OwnedNode => self.owned(Level::Node),
            Rule::None | Rule::All | Rule::LikeNode | Rule::NodeGroups => Vec::new(),
        }
    }

    /// The names that the job gives for this level.
    fn target(&self, level: Level) -> &[Name] {
        match level {
            Level::Instance => &self.args.instances,
            Level::Node | Level::NodeRes => &self.args.nodes,
            Level::NodeGroup => &self.args.groups,
            Level::Network => &self.args.networks,
            Level::Cluster | Level::NodeAlloc => &[],
        }
    }

    fn owned(&self, level: Level) -> Vec<Name> {
        match self.held.of(level).map(|holding| &holding.names) {
            None => Vec::new(),
            Some(Selection::All) => self.cluster.names(level).collect(),
            Some(Selection::Names(names)) => names.clone(),
        }
    }

    /// The instances held, as far as they are in the configuration.
    fn instances(&self) -> Vec<&Instance> {
        match self.held.of(Level::Instance).map(|holding| &holding.names) {
            None => Vec::new(),
            Some(Selection::All) => self.cluster.instances.values().collect(),
            Some(Selection::Names(names)) => {
                names.iter().filter_map(|name| self.cluster.instances.get(name)).collect()
            }
        }
    }

    fn instance_groups(&self) -> Vec<Name> {
        self.groups(self.rule(Rule::InstanceNodes, Level::Node))
    }

    fn groups(&self, nodes: Vec<Name>) -> Vec<Name> {
        // Many instances have few nodes.
        let nodes: BTreeSet<Name> = nodes.into_iter().collect();
        nodes
            .iter()
            .filter_map(|node| self.cluster.nodes.get(node))
            .map(|node| node.group)
            .collect()
    }

    fn members(&self, groups: Vec<Name>) -> Vec<Name> {
        let groups: BTreeSet<Name> = groups.into_iter().collect();
        groups
            .iter()
            .filter_map(|group| self.cluster.groups.get(group))
            .flatten()
            .copied()
            .collect()
    }

    fn primaries(&self, nodes: &[Name]) -> Vec<Name> {
        let nodes = nodes.iter().filter_map(|node| self.cluster.nodes.get(node));
        nodes.flat_map(|node| node.primaries.iter().copied()).collect()
    }

    fn secondaries(&self, nodes: &[Name]) -> Vec<Name> {
        let nodes = nodes.iter().filter_map(|node| self.cluster.nodes.get(node));
        nodes.flat_map(|node| node.secondaries.iter().copied()).collect()
    }

    fn drbd_instances(&self, nodes: &[Name]) -> Vec<Name> {
        let mut instances = [self.primaries(nodes), self.secondaries(nodes)].concat();
        let is_drbd = |name: &Name| self.cluster.instances.get(name).is_some_and(|i| i.drbd);
        instances.retain(is_drbd);
        instances
    }
}
