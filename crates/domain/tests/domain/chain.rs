//! The chain of a partition's records: a hole, a fork, a foreign record or one that goes back in time is refused.

use eventflow_domain::{
    Digest, Epoch, Json, PartitionId, Sequence, Timestamp,
    record::{Body, Chain, Entry, FORMAT_LEVEL, Header, RecordFault, history_hash},
};

use crate::record::{batch_of_events, events};

fn reign(level: u32) -> Body {
    let mut body = Body::default();
    body.push(&Entry::EpochStarted {
        level,
        writer: "node-1".to_owned(),
    });
    body
}

/// Seals a body as the next record of a chain that has just begun to reign, at a time.
struct Log {
    chain: Chain,
    records: Vec<Vec<u8>>,
}

impl Log {
    fn begun() -> Self {
        let mut log = Self {
            chain: Chain::start(PartitionId(3)),
            records: Vec::new(),
        };
        log.append(Epoch(1), &reign(FORMAT_LEVEL), Timestamp(1_000));
        log
    }

    fn append(&mut self, epoch: Epoch, body: &Body, at: Timestamp) {
        let header = self.chain.next_header(epoch, at);
        let bytes = body.seal(&header);
        self.chain.append(&header, &bytes);
        self.records.push(bytes);
    }

    /// A reader that has followed all records so far.
    fn reader(&self) -> Chain {
        let mut chain = Chain::start(PartitionId(3));
        for record in &self.records {
            chain.follow(record).expect("the log is whole");
        }
        chain
    }

    /// What a reader says of this record as the next one.
    #[track_caller]
    fn refuses(&self, header: Header, body: &Body) -> RecordFault {
        let mut reader = self.reader();
        let fault = reader
            .follow(&body.seal(&header))
            .expect_err("the record is refused");
        assert_eq!(
            reader,
            self.reader(),
            "a refused record leaves the chain where it was"
        );
        fault
    }

    fn next(&self) -> Header {
        self.chain.next_header(self.chain.epoch, Timestamp(2_000))
    }
}

#[test]
fn a_chain_is_followed_from_reign_to_reign() {
    let mut log = Log::begun();
    log.append(Epoch(1), &batch_of_events(), Timestamp(2_000));
    log.append(Epoch(1), &batch_of_events(), Timestamp(2_000));
    log.append(Epoch(5), &reign(FORMAT_LEVEL), Timestamp(3_000));
    log.append(Epoch(5), &batch_of_events(), Timestamp(3_000));
    assert_eq!(log.reader(), log.chain);
    assert_eq!((log.chain.epoch, log.chain.next_batch), (Epoch(5), 2));
}

#[test]
fn a_partitions_time_never_goes_back() {
    let log = Log::begun();
    let header = log.chain.next_header(Epoch(1), Timestamp(10));
    assert_eq!(
        header.time,
        Timestamp(1_000),
        "a clock that went back is not followed"
    );
    let earlier = Header {
        time: Timestamp(999),
        ..log.next()
    };
    assert!(
        matches!(log.refuses(earlier, &batch_of_events()), RecordFault::Chain(text) if text.contains("time"))
    );
}

#[test]
fn a_foreign_partition_is_refused() {
    let log = Log::begun();
    let foreign = Header {
        partition: PartitionId(4),
        ..log.next()
    };
    assert!(
        matches!(log.refuses(foreign, &batch_of_events()), RecordFault::Chain(text) if text.contains("partition 4"))
    );
}

#[test]
fn a_fork_is_refused() {
    let mut log = Log::begun();
    let fork = Header {
        previous: log.chain.hash,
        ..log.next()
    };
    log.append(Epoch(1), &batch_of_events(), Timestamp(2_000));
    let fork = Header { batch: 2, ..fork };
    assert!(
        matches!(log.refuses(fork, &batch_of_events()), RecordFault::Chain(text) if text.contains("predecessor"))
    );
}

#[test]
fn a_hole_and_a_repetition_are_refused() {
    let mut log = Log::begun();
    log.append(Epoch(1), &batch_of_events(), Timestamp(2_000));
    let mut skipping = Chain::start(PartitionId(3));
    skipping
        .follow(&log.records[1])
        .expect_err("its predecessor is missing");
    for batch in [0, 1, 3] {
        let fault = log.refuses(
            Header {
                batch,
                ..log.next()
            },
            &batch_of_events(),
        );
        assert!(
            matches!(fault, RecordFault::Chain(_)),
            "batch {batch}: {fault}"
        );
    }
    let mut again = log.reader();
    again
        .follow(&log.records[1])
        .expect_err("it was followed already");
}

#[test]
fn a_reign_begins_with_its_announcement_and_only_there() {
    let mut log = Log::begun();
    log.append(Epoch(1), &batch_of_events(), Timestamp(2_000));
    let unannounced = [
        (2, 0, false),
        (2, 2, false),
        (1, 2, true),
        (0, 0, true),
        (2, 1, true),
    ];
    for (epoch, batch, announced) in unannounced {
        let header = Header {
            epoch: Epoch(epoch),
            batch,
            ..log.next()
        };
        let body = if announced {
            reign(FORMAT_LEVEL)
        } else {
            batch_of_events()
        };
        let fault = log.refuses(header, &body);
        assert!(
            matches!(fault, RecordFault::Chain(_)),
            "{epoch} {batch} {announced}: {fault}"
        );
    }
    let mut midst = batch_of_events();
    midst.push(&Entry::EpochStarted {
        level: FORMAT_LEVEL,
        writer: "node-2".to_owned(),
    });
    assert!(matches!(
        log.refuses(log.next(), &midst),
        RecordFault::Chain(_)
    ));
}

#[test]
fn the_first_record_of_a_log_announces_a_reign() {
    let start = Chain::start(PartitionId(3));
    let header = Header {
        epoch: Epoch(0),
        ..start.next_header(Epoch(1), Timestamp(1))
    };
    for (header, body) in [
        (header, batch_of_events()),
        (header, reign(FORMAT_LEVEL)),
        (
            Header {
                epoch: Epoch(1),
                ..header
            },
            batch_of_events(),
        ),
    ] {
        start
            .clone()
            .follow(&body.seal(&header))
            .expect_err("nobody reigns yet");
    }
}

#[test]
fn a_higher_format_level_is_refused_by_name() {
    let log = Log::begun();
    let header = Header {
        epoch: Epoch(2),
        batch: 0,
        ..log.next()
    };
    let fault = log.refuses(header, &reign(FORMAT_LEVEL + 1));
    assert!(
        matches!(&fault, RecordFault::Entry(text) if text.contains("format level 2")),
        "{fault}"
    );
}

#[test]
fn the_hash_of_a_history_depends_on_every_event_its_place_and_its_order() {
    let written: Vec<Json> = events().iter().map(Json::of).collect();
    let hash = |events: &[&Json], first: u64| {
        let start = Digest([0; 32]);
        (first..)
            .map(Sequence)
            .zip(events)
            .fold(start, |hash, (sequence, event)| {
                history_hash(&hash, sequence, event)
            })
    };
    let (one, two) = (&written[0], &written[1]);
    let all = [
        hash(&[one, two], 1),
        hash(&[two, one], 1),
        hash(&[one, two], 2),
        hash(&[one], 1),
        hash(&[one, one], 1),
    ];
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}
