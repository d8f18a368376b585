//! The records themselves: a hole, a fork, a flipped bit, a place that is not theirs.

use eventflow_checker::Invariant;
use eventflow_domain::{
    Epoch, PartitionId, Timestamp,
    record::{Body, Chain, Entry, FORMAT_LEVEL},
};

use crate::support::{Check, History, Journal, clean, finds, golden};

/// Two reigns and a few records in each.
fn journal(history: &History) -> Journal {
    let mut journal = Journal::begun();
    for (place, event) in history.events.iter().enumerate() {
        if place == 5 {
            journal.reign(event.2);
        }
        journal.push(history, std::slice::from_ref(event));
    }
    journal
}

fn epoch_started() -> Body {
    let mut body = Body::default();
    body.push(&Entry::EpochStarted {
        level: FORMAT_LEVEL,
        writer: "test".into(),
    });
    body
}

#[test]
fn whole_records_are_clean() {
    let history = golden("sequence-completed");
    let report = Check::with(&[&history]).records(&journal(&history).records);
    clean(&report);
    let partition = &report.partitions[0];
    assert_eq!(
        (partition.records, partition.epochs, partition.events),
        (12, 2, 10)
    );
}

#[test]
fn a_missing_record_breaks_the_chain() {
    let history = golden("sequence-completed");
    let records = journal(&history).records;
    for place in 0..records.len() - 1 {
        let mut holed = records.clone();
        holed.remove(place);
        let report = Check::with(&[&history]).records(&holed);
        finds(
            &report,
            Invariant::Chain,
            "it does not name the record before it",
        );
    }
}

#[test]
fn a_missing_position_is_named() {
    let history = golden("sequence-completed");
    let records = journal(&history).records;
    let mut checker = eventflow_checker::Checker::new(
        crate::support::Beside::of(&[&history]),
        eventflow_checker::Settings::default(),
    );
    checker.partition(PartitionId(0), None);
    checker.record(eventflow_domain::Position(1), &records[0]);
    checker.record(eventflow_domain::Position(3), &records[1]);
    finds(&checker.finish(), Invariant::Chain, "record 2 is not there");
}

#[test]
fn a_fork_is_found() {
    let history = golden("sequence-completed");
    let whole = journal(&history);
    let forked = |epoch: Epoch, body: &Body, chain: Chain| {
        let mut journal = Journal {
            chain,
            records: whole.records.clone(),
        };
        journal.append(body, epoch, whole.chain.time);
        Check::with(&[&history]).records(&journal.records)
    };
    let after = whole.chain;
    let old = forked(
        Epoch(1),
        &Body::default(),
        Chain {
            epoch: Epoch(1),
            ..after
        },
    );
    finds(
        &old,
        Invariant::Chain,
        "it is of epoch 1, whose writer was followed by that of epoch 2",
    );
    let again = forked(Epoch(2), &epoch_started(), after);
    finds(&again, Invariant::Chain, "epoch 2 begins twice: a fork");
    let unannounced = forked(Epoch(3), &Body::default(), after);
    finds(&unannounced, Invariant::Chain, "epoch 3 did not begin");
    let jump = forked(
        Epoch(2),
        &Body::default(),
        Chain {
            next_batch: 99,
            ..after
        },
    );
    finds(&jump, Invariant::Chain, "it is batch 99 of its epoch");
    let back = forked(
        Epoch(2),
        &Body::default(),
        Chain {
            time: Timestamp(0),
            ..after
        },
    );
    clean(&back);
}

#[test]
fn a_record_of_elsewhere_is_found() {
    let history = golden("sequence-completed");
    let whole = journal(&history);
    let chain = Chain {
        partition: PartitionId(7),
        ..whole.chain
    };
    let mut elsewhere = Journal {
        chain,
        records: whole.records,
    };
    elsewhere.append(&Body::default(), chain.epoch, chain.time);
    let report = Check::with(&[&history]).records(&elsewhere.records);
    finds(
        &report,
        Invariant::Chain,
        "it says that it is of partition 7",
    );
}

#[test]
fn a_time_that_goes_back_is_found() {
    let history = golden("sequence-completed");
    let whole = journal(&history);
    let mut back = Journal {
        chain: Chain {
            time: Timestamp(0),
            ..whole.chain
        },
        records: whole.records,
    };
    back.append(&Body::default(), whole.chain.epoch, Timestamp(5));
    let report = Check::with(&[&history]).records(&back.records);
    finds(
        &report,
        Invariant::Chain,
        "its time, 5, is before that of the record before",
    );
}

#[test]
fn what_does_not_unpack_is_found_and_the_rest_is_read() {
    let history = golden("sequence-completed");
    let mut records = journal(&history).records;
    let last = records[3].len() - 1;
    records[3][last] ^= 1;
    let report = Check::with(&[&history]).records(&records);
    finds(&report, Invariant::Chain, "its checksum does not fit");
    assert_eq!(report.partitions[0].records, 12);
}
