//! Golden histories are clean; a golden history in which anything was changed is not.

use eventflow_checker::Invariant;
use eventflow_domain::Json;
use proptest::{prelude::*, sample::Index};
use serde_json::Value;

use crate::support::{Check, History, Journal, check, clean, goldens};

#[test]
fn every_golden_history_is_clean() {
    let histories = goldens();
    assert!(histories.len() >= 9, "only {} histories", histories.len());
    for history in histories {
        let report = check(history);
        assert!(report.partitions[0].events > 0, "{}", history.name);
        println!("{}", history.name);
        clean(&report);
    }
}

#[test]
fn every_beginning_of_a_golden_history_is_clean() {
    for history in goldens() {
        for length in 1..history.events.len() {
            let mut cut = history.clone();
            cut.events.truncate(length);
            println!("{} up to event {length}", history.name);
            clean(&check(&cut));
        }
    }
}

#[test]
fn an_event_that_is_missing_or_comes_twice_is_found() {
    for history in goldens() {
        for place in 0..history.events.len() {
            let mut dropped = history.clone();
            dropped.events.remove(place);
            // Without its last event it is a history that goes on.
            if place + 1 < history.events.len() {
                assert!(
                    !check(&dropped).is_clean(),
                    "{} without event {place}",
                    history.name
                );
            }
            let mut doubled = history.clone();
            doubled.events.insert(place, history.events[place].clone());
            assert!(
                !check(&doubled).is_clean(),
                "{} with event {place} twice",
                history.name
            );
        }
    }
}

/// The same without the numbers giving it away. Only what no invariant speaks of may pass: that an agent began (its
/// result is as good without), and a pause that a stop overtook (only whoever asked for it knows).
#[test]
fn an_event_that_never_happened_is_found() {
    for history in goldens() {
        for place in 0..history.events.len() - 1 {
            let mut dropped = history.clone();
            let (_, event, _) = dropped.events.remove(place);
            let is =
                |event: &Json, kind: &str| event.as_str().starts_with(&format!("{{\"{kind}\""));
            let is_overtaken = is(&event, "execution_pause_requested")
                && is(&dropped.events[place].1, "execution_stop_requested");
            let is_optional = is(&event, "task_started") || is_overtaken;
            let report = check(&dropped.renumbered());
            assert_eq!(
                report.is_clean(),
                is_optional,
                "{} without {}: {:?}",
                history.name,
                event.as_str(),
                report.violations
            );
        }
    }
}

/// What a change must touch, by the field that is changed; `None` where no invariant speaks of it.
fn touched(kind: &str, field: &str) -> Option<&'static [Invariant]> {
    match (kind, field) {
        (_, "task") => Some(&[Invariant::I2, Invariant::I4]),
        (_, "attempt") => Some(&[Invariant::I4]),
        (_, "within") => Some(&[Invariant::I2]),
        ("retry_scheduled", "at") => Some(&[Invariant::I7]),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_event_is_found(which in any::<Index>(), place in any::<Index>(), field in any::<Index>()) {
        let histories = goldens();
        let history = which.get(histories);
        let place = place.index(history.events.len());
        let event = history.events[place].1.to_value();
        let (kind, fields) = event.as_object().unwrap().iter().next().unwrap();
        let names: Vec<&String> = fields.as_object().unwrap().keys().collect();
        prop_assume!(!names.is_empty());
        let name = field.get(&names).as_str();
        // Its fall due is only told where it fires.
        let fires = history.events.iter().any(|(_, event, _)| event.as_str().contains("timer_fired"));
        if let Some(expected) = touched(kind, name).filter(|_| kind != "retry_scheduled" || name != "at" || fires) {
            let changed = history.clone().with(place, |event| change(&mut event[kind.as_str()][name]));
            let report = check(&changed);
            prop_assert!(
                report.violations.iter().any(|violation| expected.contains(&violation.invariant)),
                "{}: {name} of event {place}, {kind}: {:?}", history.name, report.violations
            );
        }
    }

    #[test]
    fn swapped_events_are_found(which in any::<Index>(), one in any::<Index>(), other in any::<Index>()) {
        let histories = goldens();
        let history = which.get(histories);
        let (one, other) = (one.index(history.events.len()), other.index(history.events.len()));
        let mut swapped = history.clone();
        swapped.events.swap(one, other);
        prop_assume!(one != other);
        prop_assert!(!check(&swapped).is_clean(), "{}: {one} and {other}", history.name);
        // Beginnings of independent steps may come in either order, all else may not.
        let renumbered = swapped.renumbered();
        let is_free = is_independent(history, one, other);
        prop_assert!(is_free || !check(&renumbered).is_clean(), "{}: {one} and {other}, renumbered", history.name);
    }

    #[test]
    fn a_flipped_bit_is_found(which in any::<Index>(), record in any::<Index>(), byte in any::<Index>(), bit in 0_u8..8) {
        let histories = goldens();
        let history = which.get(histories);
        let mut journal = Journal::begun();
        journal.write(history);
        let record = record.index(journal.records.len());
        let byte = byte.index(journal.records[record].len());
        journal.records[record][byte] ^= 1 << bit;
        let report = Check::with(&[history]).records(&journal.records);
        prop_assert_eq!(report.violations[0].invariant, Invariant::Chain);
    }
}

fn change(value: &mut Value) {
    *value = match &*value {
        Value::String(text) => Value::from(format!("{text}x")),
        Value::Number(number) => Value::from(number.as_u64().unwrap() + 1_000_000_000_000),
        other => panic!("{other} is no reference and no number"),
    };
    if let Some(number) = value.as_u64().filter(|number| *number < 1_000_100_000_000) {
        // An attempt.
        *value = Value::from(number - 1_000_000_000_000 + 1);
    }
}

/// Whether an event may come as late as another, and that one as early, since nothing on the way depends on either.
fn is_independent(history: &History, one: usize, other: usize) -> bool {
    let (first, last) = (one.min(other), one.max(other));
    (first + 1..=last).all(|place| commute(history, first, place))
        && (first + 1..last).all(|place| commute(history, place, last))
}

/// Whether two events may come in either order: what the branches of a fork and the steps of a graph do, that somebody
/// began, what is given up together, and a result that comes while somebody pauses.
fn commute(history: &History, one: usize, other: usize) -> bool {
    let [one, other] = [one, other].map(|place| {
        let event = history.events[place].1.to_value();
        let (kind, fields) = event.as_object().unwrap().iter().next().unwrap();
        let task = fields["task"].as_str().map(str::to_owned);
        (kind.clone(), task)
    });
    if let (Some(one), Some(other)) = (&one.1, &other.1)
        && (history.name.starts_with("graph") || are_in_different_branches(one, other))
    {
        return true;
    }
    match [one.0.as_str(), other.0.as_str()] {
        ["task_started", "task_started"] | ["task_cancelled", "task_cancelled"] => true,
        kinds => kinds.contains(&"task_completed") && kinds.contains(&"execution_pause_requested"),
    }
}

fn are_in_different_branches(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|task| task.split('/').collect::<Vec<_>>());
    let common = one
        .iter()
        .zip(&other)
        .take_while(|(one, other)| one == other);
    one[..common.count()].ends_with(&["fork", "branches"])
}
