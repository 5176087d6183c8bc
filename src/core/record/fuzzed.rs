//! What anybody may have stored where a record should be, followed by anything that may happen to it.

use super::{Mode, Moment, Party, Record};
use crate::core::member::MemberId;

/// Reads a line as a record. If it is one, takes it through steps made of what follows the line, three bytes each, and writes
/// and reads it after each.
///
/// # Panics
/// If a rule of records is broken.
pub(crate) fn record(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let [content, steps] = [lines.next(), lines.next()].map(Option::unwrap_or_default);
    let Ok(mut record) = Record::decode(Some(content)) else { return };
    assert_eq!(record.check(), Ok(()));
    for (now, step) in steps.chunks_exact(3).enumerate() {
        take(&mut record, [step[0], step[1], step[2]], Moment(now as u64));
        assert_eq!(record.check(), Ok(()));
        // One that has grown too large is not stored.
        let Ok(written) = record.encode() else { return };
        record = Record::decode(Some(&written)).expect("what was written can be read");
        assert_eq!(record.encode().as_ref(), Ok(&written));
    }
}

fn take(record: &mut Record, [what, who, how]: [u8; 3], now: Moment) {
    let member = member(record, who);
    let mode = Mode::ALL[usize::from(how) % 5];
    let priority = i32::from(how / 5 % 4) - 1;
    let owner = "o".into();
    match what % 8 {
        0 | 1 => {
            let lifetime_ms = (what & 8 != 0).then_some(u64::from(how));
            let _ = record.ask(Party { member, owner, lifetime_ms }, mode, priority, now);
        }
        2 => record.withdraw(&member, now),
        3 => record.set_priority(&member, priority, now),
        4 => {
            let held = record.holder(&member).map(|holder| holder.mode);
            let kept = Some(mode).filter(|mode| held.is_some_and(|held| held.covers(*mode)));
            record.lower(&member, kept, now);
        }
        5 => record.bury(&member, now),
        6 => drop(record.expire(now)),
        _ => {
            record.renumber(&member);
            record.abandon(Party { member, owner, lifetime_ms: None }, now);
        }
    }
}

/// One that has to do with the record, or one of two others.
fn member(record: &Record, who: u8) -> MemberId {
    let nobody = MemberId::new("", "", 0, 0);
    let parties: Vec<_> = record.others(&nobody).collect();
    match parties.get(usize::from(who) % (parties.len() + 2)) {
        Some(party) => (*party).clone(),
        None => MemberId::new(format!("n{}", who % 2), "h", 1, 1),
    }
}
