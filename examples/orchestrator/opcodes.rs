//! The table of opcodes: which locks each takes, in which order, and what becomes of them while it runs.
//!
//! An unknown level, mode, rule or phase is an error on reading, so nothing later needs to expect one.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;
use tierlock::ganeti::{LEVELS, Level, MODIFIABLE_LEVELS};
use tierlock::{Level as _, Mode};

use crate::input::{Entry, InputError, Source};

/// Every variant by its full name, `OPCODE/variant`, and when the phases of a job are.
#[derive(Debug)]
pub(crate) struct Opcodes {
    pub(crate) variants: HashMap<String, Variant>,
    pub(crate) fractions: Fractions,
}

/// One way to run an opcode.
#[derive(Debug)]
pub(crate) struct Variant {
    /// The mode of the BGL, which comes before all steps.
    pub(crate) bgl: Mode,
    pub(crate) steps: Vec<Step>,
    pub(crate) later: Vec<Change>,
    /// What a job has to say about itself.
    pub(crate) args: Vec<Arg>,
    pub(crate) effect: Effect,
}

/// What a job has to do with one level before it runs.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a lock step, an object")]
pub(crate) struct Step {
    #[serde(rename = "do")]
    pub(crate) action: StepAction,
    #[serde(deserialize_with = "level")]
    pub(crate) level: Level,
    #[serde(deserialize_with = "mode")]
    pub(crate) mode: Mode,
    #[serde(rename = "names")]
    pub(crate) rules: Vec<Rule>,
    #[serde(default)]
    pub(crate) opportunistic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StepAction {
    Acquire,
    /// Create the locks, held from the start.
    Add,
}

/// A change to what a running job holds.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a later step, an object")]
pub(crate) struct Change {
    pub(crate) at: Phase,
    #[serde(rename = "do")]
    pub(crate) action: ChangeAction,
    #[serde(deserialize_with = "level")]
    pub(crate) level: Level,
    #[serde(default, rename = "names")]
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChangeAction {
    Release,
    Keep,
    Downgrade,
    Add,
    Remove,
}

/// A way to work out names; see `name_rules` in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Rule {
    #[serde(rename = "ALL")]
    All,
    #[serde(rename = "NONE")]
    None,
    #[serde(rename = "target")]
    Target,
    #[serde(rename = "extra")]
    Extra,
    #[serde(rename = "new")]
    New,
    #[serde(rename = "master")]
    Master,
    #[serde(rename = "chosen")]
    Chosen,
    #[serde(rename = "inst.primary")]
    InstancePrimary,
    #[serde(rename = "inst.nodes")]
    InstanceNodes,
    #[serde(rename = "inst.drbd-secondaries")]
    InstanceDrbdSecondaries,
    #[serde(rename = "inst.groups")]
    InstanceGroups,
    #[serde(rename = "inst.primary-groups")]
    InstancePrimaryGroups,
    #[serde(rename = "inst.networks")]
    InstanceNetworks,
    #[serde(rename = "node.groups")]
    NodeGroups,
    #[serde(rename = "node.group-peers")]
    NodeGroupPeers,
    #[serde(rename = "node.primary-instances")]
    NodePrimaryInstances,
    #[serde(rename = "node.secondary-instances")]
    NodeSecondaryInstances,
    #[serde(rename = "node.drbd-instances")]
    NodeDrbdInstances,
    #[serde(rename = "group.instances")]
    GroupInstances,
    #[serde(rename = "group.primary-instances")]
    GroupPrimaryInstances,
    #[serde(rename = "group.members")]
    GroupMembers,
    #[serde(rename = "owned-groups.members")]
    OwnedGroupsMembers,
    #[serde(rename = "owned-groups.members-foreign")]
    OwnedGroupsMembersForeign,
    #[serde(rename = "like.node")]
    LikeNode,
    #[serde(rename = "owned.node")]
    OwnedNode,
}

/// When, while a job runs, something changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Prereq,
    Exec,
    /// The new state is in the configuration from here on.
    Commit,
    Sync,
    End,
}

impl Phase {
    pub(crate) const ALL: [Self; 5] =
        [Self::Prereq, Self::Exec, Self::Commit, Self::Sync, Self::End];
}

/// Where in a job's duration each phase falls, from 0 to 1.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Fractions {
    #[serde(deserialize_with = "fraction")]
    prereq: f64,
    #[serde(deserialize_with = "fraction")]
    exec: f64,
    #[serde(deserialize_with = "fraction")]
    commit: f64,
    #[serde(deserialize_with = "fraction")]
    sync: f64,
    #[serde(deserialize_with = "fraction")]
    end: f64,
}

impl Fractions {
    pub(crate) fn of(&self, phase: Phase) -> f64 {
        match phase {
            Phase::Prereq => self.prereq,
            Phase::Exec => self.exec,
            Phase::Commit => self.commit,
            Phase::Sync => self.sync,
            Phase::End => self.end,
        }
    }
}

/// A key of a job's `args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arg {
    I,
    N,
    G,
    W,
    X,
    Xg,
    New,
    P,
    S,
    Children,
}

/// What a job does to the configuration, as far as it changes which locks exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    InstanceCreate,
    InstanceRemove,
    InstanceRename,
    NodeAdd,
    NodeRemove,
    GroupAdd,
    GroupRemove,
    NetworkAdd,
}

impl Effect {
    fn of(opcode: &str) -> Self {
        match opcode {
            "OP_INSTANCE_CREATE" => Self::InstanceCreate,
            "OP_INSTANCE_REMOVE" => Self::InstanceRemove,
            "OP_INSTANCE_RENAME" => Self::InstanceRename,
            "OP_NODE_ADD" => Self::NodeAdd,
            "OP_NODE_REMOVE" => Self::NodeRemove,
            "OP_GROUP_ADD" => Self::GroupAdd,
            "OP_GROUP_REMOVE" => Self::GroupRemove,
            "OP_NETWORK_ADD" => Self::NetworkAdd,
            _ => Self::None,
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with opcodes and replay_phase_fractions")]
struct OpcodesFile<'a> {
    replay_phase_fractions: Fractions,
    #[serde(borrow)]
    opcodes: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "an opcode, an object")]
struct OpcodeEntry {
    id: String,
    #[serde(deserialize_with = "mode")]
    bgl: Mode,
    variants: Vec<VariantEntry>,
}

#[derive(Deserialize)]
#[serde(expecting = "a variant, an object")]
struct VariantEntry {
    id: String,
    args: Vec<Arg>,
    locks: Vec<Step>,
    later: Vec<Change>,
}

pub(crate) fn read(source: &Source) -> Result<Opcodes, InputError> {
    let file: OpcodesFile<'_> = source.document()?;
    let mut variants = HashMap::new();
    for entry in source.entries("opcodes", &file.opcodes) {
        let opcode: OpcodeEntry = entry.object()?;
        for variant in opcode.variants {
            check_steps(&entry, &variant)?;
            check_changes(&entry, &variant, opcode.bgl)?;
            let name = format!("{}/{}", opcode.id, variant.id);
            let effect = Effect::of(&opcode.id);
            let VariantEntry { args, locks: steps, later, .. } = variant;
            let variant = Variant { bgl: opcode.bgl, steps, later, args, effect };
            if variants.insert(name.clone(), variant).is_some() {
                return Err(entry.error("variants.id", format_args!("{name} is there twice")));
            }
        }
    }
    Ok(Opcodes { variants, fractions: file.replay_phase_fractions })
}

fn check_steps(entry: &Entry<'_>, variant: &VariantEntry) -> Result<(), InputError> {
    let mut seen = HashSet::from([Level::Cluster.rank()]);
    let mut deepest = Level::Cluster.rank();
    for (i, step) in variant.locks.iter().enumerate() {
        let error = |field: &str, problem: String| {
            Err(entry.error(&format!("variants.{}.locks[{i}].{field}", variant.id), problem))
        };
        if step.level.rank() <= deepest {
            return error(
                "level",
                format!("{} does not come after the level before", step.level.name()),
            );
        }
        let modifiable =
            MODIFIABLE_LEVELS.contains(&step.level) && !step.rules.contains(&Rule::All);
        if step.action == StepAction::Add && (step.mode != Mode::Exclusive || !modifiable) {
            return error(
                "do",
                "locks are added by name, held exclusively, and not at every level".to_owned(),
            );
        }
        let follows = |rule: &Rule| matches!(rule, Rule::LikeNode | Rule::OwnedNode);
        if step.rules.iter().any(follows) && !seen.contains(&Level::Node.rank()) {
            return error("names", "the node level is not taken before".to_owned());
        }
        deepest = step.level.rank();
        seen.insert(deepest);
    }
    Ok(())
}

/// The BGL stays to the end, and a lock that its job does not hold comes and goes only under the exclusive BGL, as in
/// Ganeti; see [`record`](crate::record).
fn check_changes(entry: &Entry<'_>, variant: &VariantEntry, bgl: Mode) -> Result<(), InputError> {
    let held_exclusively = |level: Level| {
        variant.locks.iter().any(|step| step.level == level && step.mode == Mode::Exclusive)
    };
    for (i, change) in variant.later.iter().enumerate() {
        let level = change.level;
        let modifiable = MODIFIABLE_LEVELS.contains(&level) && !change.rules.contains(&Rule::All);
        let problem = match change.action {
            _ if level == Level::Cluster => "the BGL stays to the end",
            ChangeAction::Add | ChangeAction::Remove if !modifiable => {
                "locks come and go by name, and not at this level"
            }
            ChangeAction::Add if bgl == Mode::Shared => "needs the exclusive BGL",
            ChangeAction::Remove if bgl == Mode::Shared && !held_exclusively(level) => {
                "needs the lock exclusively, or the BGL"
            }
            _ => continue,
        };
        return Err(entry.error(&format!("variants.{}.later[{i}].do", variant.id), problem));
    }
    Ok(())
}

fn level<'de, D: Deserializer<'de>>(deserialiser: D) -> Result<Level, D::Error> {
    let name = String::deserialize(deserialiser)?;
    let found = LEVELS.into_iter().find(|level| level.name() == name);
    found.ok_or_else(|| D::Error::custom(format_args!("no such level: {name:?}")))
}

fn mode<'de, D: Deserializer<'de>>(deserialiser: D) -> Result<Mode, D::Error> {
    match String::deserialize(deserialiser)?.as_str() {
        "shared" => Ok(Mode::Shared),
        "exclusive" => Ok(Mode::Exclusive),
        other => Err(D::Error::custom(format_args!("neither shared nor exclusive: {other:?}"))),
    }
}

fn fraction<'de, D: Deserializer<'de>>(deserialiser: D) -> Result<f64, D::Error> {
    let fraction = f64::deserialize(deserialiser)?;
    if (0.0..=1.0).contains(&fraction) {
        Ok(fraction)
    } else {
        Err(D::Error::custom(format_args!("not between 0 and 1: {fraction}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../data/opcodes.json");

    fn with(variant: &str) -> String {
        let text = format!(
            r#"{{"replay_phase_fractions": {{"prereq": 0, "exec": 0, "commit": 0, "sync": 0, "end": 1}},
            "opcodes": [
            {{"id": "OP", "bgl": "shared", "variants": [{{"id": "v", "args": [], {variant}}}]}}]}}"#
        );
        read(&Source::new("o.json", text)).unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_table_is_read() {
        let opcodes =
            read(&Source::new("opcodes.json", SHIPPED)).expect("the shipped file is well formed");
        assert_eq!(opcodes.variants.len(), 135);
        assert_eq!(opcodes.variants["OP_INSTANCE_RENAME/default"].bgl, Mode::Exclusive);
        assert_eq!(opcodes.variants["OP_NODE_ADD/default"].effect, Effect::NodeAdd);
    }

    #[test]
    fn a_malformed_table_names_the_field() {
        let step = r#"{"do": "acquire", "level": "node", "mode": "shared", "names": ["ALL"]}"#;
        let cases = [
            (r#""locks": 7, "later": []"#.to_owned(), "variants[0].locks: invalid type"),
            (r#""later": []"#.to_owned(), "variants[0]: missing field `locks`"),
            (
                format!(r#""locks": [{}], "later": []"#, step.replace("node", "nod")),
                "locks[0].level: no such level: \"nod\"",
            ),
            (
                format!(r#""locks": [{}], "later": []"#, step.replace("ALL", "all")),
                "locks[0].names[0]: unknown variant `all`",
            ),
            (
                format!(r#""locks": [{}], "later": []"#, step.replace("shared", "S")),
                "locks[0].mode: neither shared nor exclusive",
            ),
            (
                format!(r#""locks": [{step}, {step}], "later": []"#),
                "variants.v.locks[1].level: node does not come after",
            ),
            (
                format!(r#""locks": [{}], "later": []"#, step.replace("ALL", "like.node")),
                "locks[0].names: the node level is not taken",
            ),
            (
                format!(r#""locks": [{}], "later": []"#, step.replace("acquire", "add")),
                "locks[0].do: locks are added by name",
            ),
            (
                r#""locks": [], "later": [{"at": "exec", "do": "add", "level": "node"}]"#
                    .to_owned(),
                "later[0].do: needs the exclusive BGL",
            ),
        ];
        for (variant, message) in cases {
            let error = with(&variant);
            assert!(error.starts_with("o.json:3: opcodes[0].variants"), "{error}");
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_phase_outside_the_job_is_an_error() {
        let text = SHIPPED.replacen("\"sync\": 0.8", "\"sync\": 1.8", 1);
        let error = read(&Source::new("o.json", text)).unwrap_err().to_string();
        assert!(error.contains("replay_phase_fractions.sync: not between 0 and 1"), "{error}");
    }
}
