//! What a driver makes of the records that it shall store, if it meddles with them.
//!
//! Knows how a record looks. What is no record is stored as it is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};
use tierlock::coordination::MemberId;

use super::buggy::Bug;

/// What comes of something that shall be stored.
pub(super) enum Meddled {
    Stored(Vec<u8>),
    /// It is said to be stored, and is not.
    Lost,
}

const TOKENS_PER_GRANT: u64 = 1 << 20;

fn parse(content: &[u8]) -> Option<Value> {
    serde_json::from_slice(content).ok().filter(|value: &Value| value.get("holders").is_some())
}

fn write(record: &Value) -> Vec<u8> {
    serde_json::to_vec(record).expect("it was read")
}

pub(super) fn meddle(
    bug: Bug,
    releases: &AtomicU64,
    before: Option<&[u8]>,
    content: &[u8],
) -> Meddled {
    let Some(mut record) = parse(content) else { return Meddled::Stored(content.to_vec()) };
    let before = before.and_then(parse).unwrap_or_else(|| json!({ "holders": [], "queue": {} }));
    let releases_something = || holds_less(&before, &record);
    match bug {
        Bug::LosesReleases if releases_something() => return Meddled::Lost,
        Bug::LosesLateReleases if releases_something() => {
            if releases.fetch_add(1, Relaxed) > 0 {
                return Meddled::Lost;
            }
        }
        Bug::LosesWithdrawals if waits_less(&before, &record) => return Meddled::Lost,
        Bug::LastComeFirst if waits_more(&before, &record) => turn_round(&mut record),
        Bug::ForgetsPriorities => forget_priorities(&mut record),
        Bug::ForgetsConversions => record["queue"]["conversions"] = json!([]),
        Bug::TokensComeAgain => record["next_token"] = json!(least_token(&record)),
        Bug::ForgetsAbandonments => forget_abandonments(&mut record),
        Bug::AbandonsEverything => abandon(&before, &mut record),
        _ => return Meddled::Stored(content.to_vec()),
    }
    Meddled::Stored(write(&record))
}

/// What is stored, as if nobody but this member stood in line.
pub(super) fn without_others(content: Vec<u8>, me: Option<&MemberId>) -> Vec<u8> {
    let Some(mut record) = parse(&content) else { return content };
    let name = me.map(|me| json!(me.name()));
    let others = |waiter: &Value| Some(&waiter["member"]["name"]) != name.as_ref();
    let queue = &mut record["queue"];
    if let Some(groups) = queue.get_mut("groups").and_then(Value::as_array_mut) {
        for group in groups.iter_mut() {
            let members = group["members"].as_array_mut().expect("a group has members");
            members.retain(|member| !others(&member[1]));
        }
        groups.retain(|group| group["members"] != json!([]));
    }
    write(&record)
}

fn list<'r>(of: &'r Value, name: &str) -> impl Iterator<Item = &'r Value> {
    of.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// Whether somebody holds no more, or in a weaker mode, what he held before.
fn holds_less(before: &Value, after: &Value) -> bool {
    let strength = |mode: &Value| {
        let modes = ["intent_shared", "intent_exclusive", "shared", "shared_intent_exclusive"];
        modes.iter().position(|known| mode == known).unwrap_or(modes.len())
    };
    list(before, "holders").any(|holder| {
        let member = &holder["party"]["member"];
        let now = list(after, "holders").find(|now| now["party"]["member"] == *member);
        now.is_none_or(|now| strength(&now["mode"]) < strength(&holder["mode"]))
    })
}

/// Those who wait.
fn waiting(record: &Value) -> BTreeSet<String> {
    let queue = &record["queue"];
    let converting = list(queue, "conversions").map(|c| c["waiter"]["member"].to_string());
    let members = list(queue, "groups").flat_map(|group| list(group, "members"));
    converting.chain(members.map(|member| member[1]["member"].to_string())).collect()
}

/// Whether somebody came, and nobody went.
fn waits_more(before: &Value, after: &Value) -> bool {
    let (before, after) = (waiting(before), waiting(after));
    before != after && before.is_subset(&after)
}

/// Whether somebody waits no more who did, and was granted nothing.
fn waits_less(before: &Value, after: &Value) -> bool {
    let grants = |record: &Value| -> BTreeSet<(String, String)> {
        let grant = |h: &Value| (h["party"]["member"].to_string(), h["token"].to_string());
        list(record, "holders").map(grant).collect()
    };
    let granted: BTreeSet<_> =
        grants(after).difference(&grants(before)).map(|(member, _)| member.clone()).collect();
    let (before, after) = (waiting(before), waiting(after));
    before.difference(&after).any(|gone| !granted.contains(gone))
}

/// The last of those who wait alone has the place of the first, and so on.
fn turn_round(record: &mut Value) {
    let Some(groups) = record["queue"].get_mut("groups").and_then(Value::as_array_mut) else {
        return;
    };
    let tickets: Vec<_> = groups.iter().map(|group| group["earliest"].clone()).collect();
    groups.reverse();
    for (group, ticket) in groups.iter_mut().zip(tickets) {
        group["earliest"] = ticket.clone();
        group["members"][0][0] = ticket;
    }
}

fn forget_priorities(record: &mut Value) {
    let Some(groups) = record["queue"].get_mut("groups").and_then(Value::as_array_mut) else {
        return;
    };
    groups.iter_mut().for_each(|group| group["priority"] = json!(0));
    groups.sort_by_key(|group| group["earliest"].as_u64());
}

/// The least number that nobody has whom the record still knows.
fn least_token(record: &Value) -> u64 {
    let told = list(record, "holders").filter_map(|holder| holder.get("previous"));
    let known = list(record, "holders").chain(told).chain(record.get("abandoned"));
    let last = known.filter_map(|of| of["token"].as_u64()).max();
    last.map_or(1, |last| last + TOKENS_PER_GRANT)
}

fn forget_abandonments(record: &mut Value) {
    record.as_object_mut().expect("it is a record").remove("abandoned");
    for holder in record["holders"].as_array_mut().expect("it is a record") {
        holder.as_object_mut().expect("a holder has names").remove("previous");
    }
}

/// Whoever comes to hold it alone is told of anybody who held it before.
fn abandon(before: &Value, record: &mut Value) {
    let Some(last) = list(before, "holders").last() else { return };
    let holders = record["holders"].as_array_mut().expect("it is a record");
    let [holder] = &mut holders[..] else { return };
    if holder["mode"] == "exclusive" && holder["party"] != last["party"] {
        holder["previous"] = json!({
            "party": last["party"], "token": last["token"], "since": last["since"], "at": last["since"],
        });
    }
}
