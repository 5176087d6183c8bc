//! What is read where something else was written.

use super::*;

/// Records as they look in use.
fn typical() -> [Vec<u8>; 3] {
    let free = after([]);
    let holders = after([
        Step::Ask { who: 'a', mode: Mode::Exclusive, priority: 0, lifetime_ms: 10 },
        ask('b', Mode::Shared),
        ask('c', Mode::Exclusive),
        Step::Ask { who: 'd', mode: Mode::Shared, priority: -1, lifetime_ms: 0 },
        ask('e', Mode::Shared),
        Step::Expire,
        Step::Bury { who: 'c' },
    ]);
    let queue = after([
        ask('a', Mode::Exclusive),
        Step::Bury { who: 'a' },
        ask('b', Mode::Exclusive),
        Step::Lower { who: 'b', to: Some(Mode::Shared) },
        ask('c', Mode::Shared),
        ask('b', Mode::IntentExclusive),
        Step::Ask { who: 'd', mode: Mode::Exclusive, priority: 3, lifetime_ms: 7 },
    ]);
    [free, holders, queue].map(|trial| trial.record.encode().expect("it is small"))
}

/// Reads what may be damaged. Either that is an error, or it is a record on which one can go on.
fn read(bytes: &[u8]) {
    let Ok(record) = Record::decode(Some(bytes)) else { return };
    assert_eq!(record.check(), Ok(()));
    go_on(record);
}

fn go_on(mut record: Record) {
    let now = Moment(5);
    let _ = record.ask(party('z', 3), Mode::Exclusive, 0, now);
    record.expire(Moment(u64::MAX));
    while let Some(holder) = record.holders().first() {
        let member = holder.party.member.clone();
        record.renumber(&member);
        record.bury(&member, now);
    }
    assert_eq!(record.waiting().count(), 0, "everybody went");
    record.encode().expect("it has become smaller");
}

#[test]
fn a_record_that_ends_early_is_damaged() {
    for bytes in typical() {
        for length in 0..bytes.len() {
            let read = Record::decode(Some(&bytes[..length]));
            assert!(matches!(read, Err(Unreadable::Damaged(_))), "{length} bytes read {read:?}");
        }
    }
}

#[test]
fn whatever_one_byte_becomes_is_an_error_or_a_record() {
    for bytes in typical() {
        for at in 0..bytes.len() {
            for &byte in b" \"\\,:[]{}-.019aeh_~\n\0\x7f\x80\xc3\xff" {
                let mut damaged = bytes.clone();
                damaged[at] = byte;
                read(&damaged);
            }
        }
    }
}

#[test]
fn whatever_is_left_out_or_doubled_is_an_error_or_a_record() {
    for bytes in typical() {
        for at in 0..bytes.len() {
            let rest = bytes.len() - at;
            for length in [1, 2, 3, 5, 8, 21, 55].into_iter().filter(|length| *length <= rest) {
                read(&[&bytes[..at], &bytes[at + length..]].concat());
                read(&[&bytes[..at + length], &bytes[at..]].concat());
            }
        }
    }
}

#[test]
fn a_record_of_a_later_format_says_so_whatever_else_it_has() {
    let later: [&[u8]; 2] = [br#"{"format":2}"#, br#"{"more":[],"format":2,"holders":{"a":1}}"#];
    for bytes in later {
        assert_eq!(Record::decode(Some(bytes)).unwrap_err(), Unreadable::Format(2));
    }
    let text = String::from_utf8(typical()[1].clone()).expect("it is text");
    let later = text.replace(r#""format":1"#, r#""format":2"#);
    assert_eq!(Record::decode(Some(later.as_bytes())).unwrap_err(), Unreadable::Format(2));
}

#[test]
fn nothing_that_no_record_looks_like_is_read() {
    let [_, holders, queue] = typical().map(|bytes| String::from_utf8(bytes).expect("it is text"));
    #[rustfmt::skip]
    let cases = [
        (&holders, r#""format":1"#, r#""format":-1"#),
        (&holders, r#""format":1"#, r#""format":1,"format":1"#),
        (&holders, r#""format":1"#, r#""format":1,"more":0"#),
        // Numbers that were never given, or twice, or from which one could not count on.
        (&holders, r#""next_token":4194305"#, r#""next_token":0"#),
        (&holders, r#""next_token":4194305"#, r#""next_token":4194304"#),
        (&holders, r#""next_token":4194305"#, r#""next_token":18446744073709551615"#),
        (&holders, r#""token":3145729"#, r#""token":2097154"#),
        (&holders, r#""token":3145729"#, r#""token":0"#),
        (&holders, r#""token":1,"since""#, r#""token":0,"since""#),
        (&holders, r#""token":1,"since""#, r#""token":4194305,"since""#),
        (&holders, r#""arrivals":5"#, r#""arrivals":18446744073709551615"#),
        (&queue, r#""ticket":4"#, r#""ticket":5"#),
        (&queue, r#""ticket":4"#, r#""ticket":6"#),
        (&queue, r#""ticket":4"#, r#""ticket":0"#),
        // Members that hold what others hold, twice, or what they wait for.
        (&holders, r#""mode":"shared","token":1048577"#, r#""mode":"exclusive","token":1048577"#),
        (&holders, r#""name":"b""#, r#""name":"d""#),
        (&queue, r#""name":"d""#, r#""name":"c""#),
        (&queue, r#""from":"shared""#, r#""from":"intent_shared""#),
        (&queue, r#""to":"shared_intent_exclusive""#, r#""to":"shared""#),
        (&queue, r#""to":"shared_intent_exclusive""#, r#""to":"intent_exclusive""#),
        // Places in which nobody can stand.
        (&queue, r#""earliest":5"#, r#""earliest":4"#),
        (&queue, r#""earliest":5"#, r#""earliest":6"#),
        (&queue, r#""mode":"exclusive","priority":3,"earliest":5"#, r#""mode":"shared","priority":3,"earliest":0"#),
        (&queue, r#""groups":["#, r#""groups":[{"mode":"shared","priority":3,"earliest":3,"members":[]},"#),
        (&queue, r#""groups":["#, &format!("\"groups\":[{SHARED_BY_E},{},", SHARED_BY_E.replace('2', "3").replace(r#""e""#, r#""f""#))),
        // Somebody who could go, and some who wait for one another.
        (&holders, r#""arrivals":5"#, &format!(r#""arrivals":5,"groups":[{SHARED_BY_E}]"#).replace(r#""e""#, r#""f""#)),
        (&queue, HOLD_OF_C, ""),
        (&queue, r#""conversions":["#, &format!(r#""conversions":[{CONVERSION_OF_C},"#)),
    ];
    for (text, from, to) in cases {
        assert!(text.contains(from), "{text} has no {from}");
        let damaged = text.replacen(from, to, 1);
        let read = Record::decode(Some(damaged.as_bytes()));
        assert!(matches!(read, Err(Unreadable::Damaged(_))), "{damaged} read {read:?}");
    }
}

const SHARED_BY_E: &str = r#"{"mode":"shared","priority":7,"earliest":2,"members":[[2,{"member":{"name":"e","host":"h","pid":1,"life":1},"owner":"o"}]]}"#;

const HOLD_OF_C: &str = r#",{"party":{"member":{"name":"c","host":"h","pid":1,"life":1},"owner":"o"},"mode":"shared","token":2097153,"since":0}"#;

const CONVERSION_OF_C: &str = r#"{"ticket":3,"priority":0,"from":"shared","to":"exclusive","waiter":{"member":{"name":"c","host":"h","pid":1,"life":1},"owner":"o"}}"#;

#[test]
fn what_is_too_large_or_too_deep_is_damaged_before_it_takes_memory() {
    let deep = b"[".repeat(RECORD_BYTES_MAX);
    let mut large = typical()[1].clone();
    large.resize(RECORD_BYTES_MAX + 1, b' ');
    for bytes in [deep, large] {
        assert!(matches!(Record::decode(Some(&bytes)), Err(Unreadable::Damaged(_))));
    }
}

#[test]
fn records_look_as_they_lie_in_the_stores_of_those_who_wrote_them() {
    for (written, lies) in typical().iter().zip(LIE_IN_STORES) {
        let written = std::str::from_utf8(written).expect("it is text");
        assert_eq!(written, lies.trim_end(), "what was stored cannot be changed any more");
    }
}

#[test]
fn whatever_happens_to_a_record_in_a_store_it_keeps_the_rules() {
    for lies in LIE_IN_STORES {
        let steps = (0..=u8::MAX).map(|step| step.wrapping_mul(47));
        fuzzed::record(&lies.bytes().chain(steps).collect::<Vec<_>>());
    }
}

/// Records of this format, each a line; fuzzing starts with them as well.
const LIE_IN_STORES: [&str; 3] = [
    include_str!("records/free.json"),
    include_str!("records/holders.json"),
    include_str!("records/queue.json"),
];

#[test]
fn nothing_stored_is_a_resource_that_nobody_asked_for() {
    let record = Record::decode(None).expect("that is no damage");
    assert_eq!(record.encode(), Record::default().encode());
}
