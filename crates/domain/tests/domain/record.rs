//! The record: what was written is read, what was damaged or does not follow is refused, and nothing makes it panic.

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::json;

use eventflow_domain::{
    Digest, Epoch, ExecutionId, Json, PartitionId, Sequence, Tenant, Timestamp, Value,
    execution::Event,
    record::{
        BODY_BYTES_MAX, Body, Chain, Entry, ExecutionEvents, FORMAT_LEVEL, Header, RecordFault,
        decode,
    },
};

use crate::support::{Outcome, Run, plans::order, run::identity};

const HEADER_BYTES: usize = 70;

/// The events of a whole run.
pub(crate) fn events() -> Vec<Event> {
    let plan = order();
    let mut run = Run::requested(&plan, Json::of(&json!({"id": 7})));
    run.finish(|job| Outcome::done(&json!({"done": job.task})));
    run.history.into_iter().map(|(event, _)| event).collect()
}

fn header(batch: u64) -> Header {
    Header {
        partition: PartitionId(3),
        epoch: Epoch(2),
        batch,
        time: Timestamp(1_700_000_000_000),
        previous: Digest::of(b"the record before"),
    }
}

fn sample() -> (Body, Vec<u8>) {
    let (tenant, execution) = identity();
    let mut body = Body::default();
    body.push(&Entry::EpochStarted {
        level: FORMAT_LEVEL,
        writer: "node-1".to_owned(),
    });
    body.push_events(&tenant, &execution, Sequence(1), &events());
    let bytes = body.seal(&header(0));
    (body, bytes)
}

/// A record's body with the events of a whole run.
pub(crate) fn batch_of_events() -> Body {
    let (tenant, execution) = identity();
    let mut body = Body::default();
    body.push_events(&tenant, &execution, Sequence(1), &events());
    body
}

#[test]
fn what_was_written_is_read() {
    let (_, bytes) = sample();
    let record = decode(&bytes).expect("a whole record");
    assert_eq!(record.header, header(0));
    let [
        Entry::EpochStarted { level, writer },
        Entry::Execution(entry),
    ] = &record.entries[..]
    else {
        panic!("two entries: {:?}", record.entries);
    };
    assert_eq!((*level, writer.as_str()), (FORMAT_LEVEL, "node-1"));
    let read = entry.parse().expect("events of this version");
    assert_eq!(
        read.iter()
            .map(|(_, event)| event.clone())
            .collect::<Vec<_>>(),
        events()
    );
    assert!(
        read.iter()
            .map(|(sequence, _)| sequence.0)
            .eq(1..=read.len() as u64)
    );
}

#[test]
fn an_entry_written_as_such_is_the_same_as_its_events_written_at_once() {
    let (tenant, execution) = identity();
    let written = events().iter().map(Json::of).collect();
    let entry = Entry::Execution(ExecutionEvents {
        tenant,
        execution,
        first: Sequence(1),
        events: written,
    });
    let mut body = Body::default();
    body.push(&entry);
    assert_eq!(body.seal(&header(0)), batch_of_events().seal(&header(0)));
}

#[test]
fn an_empty_record_is_a_record() {
    let body = Body::default();
    assert!(body.is_empty());
    let record = decode(&body.seal(&header(1))).expect("a whole record");
    assert_eq!(record.entries, []);
}

#[test]
fn a_value_with_line_breaks_comes_back_as_it_was() {
    let (tenant, execution) = identity();
    let text = "{\n  \"a\": [1,\r\n 2]\n}";
    let pretty = Value::Inline(Json::parse(text).expect("it is JSON"));
    let mut requested = events().swap_remove(0);
    let Event::ExecutionRequested(request) = &mut requested else {
        panic!("the first event is a request")
    };
    request.input = pretty;
    let mut body = Body::default();
    body.push_events(
        &tenant,
        &execution,
        Sequence(1),
        std::slice::from_ref(&requested),
    );
    body.push_events(&tenant, &execution, Sequence(2), &events()[1..]);
    let record = decode(&body.seal(&header(0))).expect("a whole record");
    assert_eq!(record.entries.len(), 2);
    let Entry::Execution(first) = &record.entries[0] else {
        panic!("events")
    };
    assert_eq!(first.parse().expect("events"), [(Sequence(1), requested)]);
}

#[test]
fn a_batch_of_many_executions_is_a_fraction_of_its_size() {
    let (tenant, execution) = identity();
    let mut body = Body::default();
    (0..50).for_each(|_| body.push_events(&tenant, &execution, Sequence(1), &events()));
    let bytes = body.seal(&header(0));
    assert!(
        bytes.len() < body.len() / 5,
        "{} of {}",
        bytes.len(),
        body.len()
    );
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (_, bytes) = sample();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_and_every_addition_is_noticed() {
    let (_, bytes) = sample();
    for length in 0..bytes.len() {
        let fault = decode(&bytes[..length]).expect_err("it is cut");
        let short = matches!(fault, RecordFault::Truncated(given) if given == length);
        assert_eq!(short, length < HEADER_BYTES, "{length}: {fault}");
    }
    for extra in [&b"\0"[..], b"\n", b"{}", &bytes] {
        assert_eq!(
            decode(&[&bytes, extra].concat()),
            Err(RecordFault::Checksum)
        );
    }
}

/// A record whose checksum is right, whatever it holds.
pub(crate) fn forged(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[test]
fn a_size_that_would_exhaust_memory_is_refused() {
    for size in [
        u32::MAX,
        u32::try_from(BODY_BYTES_MAX).expect("it fits") + 1,
    ] {
        let (_, mut bytes) = sample();
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&size.to_be_bytes());
        let fault = decode(&forged(bytes)).expect_err("a bomb");
        assert!(
            matches!(&fault, RecordFault::Body(text) if text.contains(&size.to_string())),
            "{fault}"
        );
    }
}

#[test]
fn a_size_that_is_not_the_bodys_is_refused() {
    let (body, bytes) = sample();
    for size in [0, 1, body.len() - 1, body.len() + 1, BODY_BYTES_MAX] {
        let mut bytes = bytes.clone();
        let field = u32::try_from(size).expect("it fits").to_be_bytes();
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&field);
        let fault = decode(&forged(bytes)).expect_err("a wrong size");
        assert!(matches!(fault, RecordFault::Body(_)), "{size}: {fault}");
    }
}

#[test]
fn a_record_of_another_version_is_foreign() {
    let (_, mut bytes) = sample();
    bytes[3] = 2;
    assert_eq!(decode(&bytes), Err(RecordFault::Foreign));
}

#[test]
fn an_entry_that_this_version_does_not_know_is_named() {
    let mut body = Body::default();
    body.push(&Entry::EpochStarted {
        level: 1,
        writer: "w".to_owned(),
    });
    let record = decode(&body.seal(&header(0))).expect("a whole record");
    let unknown = serde_json::to_string(&record.entries[0])
        .expect("it serialises")
        .replace("epoch", "dynasty");
    let fault = serde_json::from_str::<Entry>(&unknown).expect_err("an unknown entry");
    assert!(fault.to_string().contains("dynasty"), "{fault}");
}

#[test]
fn events_that_cannot_be_read_are_named_with_their_place() {
    let (tenant, execution) = identity();
    let entry = |first, event: &str| ExecutionEvents {
        tenant: tenant.clone(),
        execution: execution.clone(),
        first: Sequence(first),
        events: vec![Json::parse(event).expect("it is JSON")],
    };
    let fault = entry(7, r#"{"task_cloned": {}}"#)
        .parse()
        .expect_err("an unknown event")
        .to_string();
    assert!(
        fault.contains("event 7 of execution-1") && fault.contains("task_cloned"),
        "{fault}"
    );
    let known = r#"{"task_cancelled":{"task":"/do/0/a"}}"#;
    assert!(entry(u64::MAX, known).parse().is_ok());
    for impossible in [0, u64::MAX] {
        let mut entry = entry(impossible, known);
        entry.events.push(entry.events[0].clone());
        let fault = entry
            .parse()
            .expect_err("no event has such a sequence")
            .to_string();
        assert!(fault.contains("out of range"), "{fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_batch_of_events_is_read_as_it_was_written(
        picks in vec((any::<Index>(), 1_u64..1_000_000, "[A-Za-z0-9_-]{1,64}"), 0..8),
        partition in any::<u16>(), epoch in any::<u64>(), batch in any::<u64>(), time in any::<i64>(),
    ) {
        let all = events();
        let tenant = Tenant::default_tenant();
        let mut body = Body::default();
        let mut expected = Vec::new();
        for (pick, first, id) in &picks {
            let execution = ExecutionId::parse(id).expect("a name");
            let some = &all[pick.index(all.len())..];
            body.push_events(&tenant, &execution, Sequence(*first), some);
            expected.push((execution, *first, some.to_vec()));
        }
        let header = Header {
            partition: PartitionId(partition), epoch: Epoch(epoch), batch,
            time: Timestamp(time), previous: Digest::of(&time.to_be_bytes()),
        };
        let record = decode(&body.seal(&header)).expect("a whole record");
        prop_assert_eq!(record.header, header);
        let mut read = Vec::new();
        for entry in &record.entries {
            let Entry::Execution(entry) = entry else { return Err(TestCaseError::fail("no reign was announced")) };
            let events = entry.parse().expect("events").into_iter().map(|(_, event)| event);
            read.push((entry.execution.clone(), entry.first.0, events.collect::<Vec<_>>()));
        }
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn damage_of_several_bytes_is_noticed(damage in vec((any::<Index>(), 1_u8..), 1..4)) {
        let (_, bytes) = sample();
        let mut damaged = bytes.clone();
        for (place, mask) in damage {
            damaged[place.index(bytes.len())] ^= mask;
        }
        if damaged != bytes {
            prop_assert!(decode(&damaged).is_err());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let mut like_a_record = b"EVF\x01".to_vec();
        like_a_record.extend(bytes);
        let _ = decode(&like_a_record);
        if like_a_record.len() >= HEADER_BYTES {
            let _ = Chain::start(PartitionId(0)).follow(&forged(like_a_record));
        }
    }

    #[test]
    fn no_body_with_a_right_checksum_makes_it_panic(damage in vec((any::<Index>(), any::<u8>()), 1..6)) {
        let (_, mut bytes) = sample();
        for (place, byte) in damage {
            let place = 8 + place.index(bytes.len() - 8);
            bytes[place] = byte;
        }
        if let Ok(record) = decode(&forged(bytes)) {
            for entry in &record.entries {
                if let Entry::Execution(entry) = entry {
                    let _ = entry.parse();
                }
            }
        }
    }
}
