//! For each invariant, histories that violate it: they are found, and named.

use std::sync::Arc;

use eventflow_checker::{Invariant, Settings};
use eventflow_domain::{
    Attempt, Digest, DurationMs, ExecutionId, Json, Sequence, TaskReference, Tenant, Timestamp,
    Value,
    execution::{Content, Event, Requested},
    limits::TASKS_PER_EXECUTION_MAX,
    plan::{Plan, SEMANTICS_VERSION},
};
use serde_json::json;

use crate::support::{Check, History, Journal, check, clean, finds, golden};

const START: Timestamp = Timestamp(1_700_000_000_000);

fn requested(plan: &Plan) -> Event {
    Event::ExecutionRequested(Requested {
        workflow: plan.workflow.clone(),
        digest: plan.digest,
        semantics: SEMANTICS_VERSION,
        input: Value::null(),
        timeout: plan.timeout,
        fingerprint: Digest::of(b"a start"),
        correlation: None,
        labels: std::collections::BTreeMap::new(),
        traceparent: None,
        causation: None,
    })
}

fn started(max_parallel: Option<u32>) -> Event {
    Event::ExecutionStarted {
        input: None,
        max_parallel,
    }
}

fn completed(task: &str, attempt: u32) -> Event {
    Event::TaskCompleted {
        task: TaskReference::at(task),
        within: None,
        attempt: Attempt(attempt),
        output: Content::WorkflowInput,
        result: None,
        context: None,
    }
}

fn plan(document: &serde_json::Value) -> Arc<Plan> {
    Arc::new(eventflow_dsl::compile(&Json::of(document)).unwrap())
}

fn history(plan: &Arc<Plan>, events: Vec<Event>) -> History {
    let timed: Vec<_> = events.into_iter().map(|event| (event, START)).collect();
    History::of(plan, "e-1", &timed)
}

#[test]
fn i1_a_definition_that_is_gone() {
    let history = golden("sequence-completed");
    let report = Check::with(&[]).histories(&[&history]);
    finds(&report, Invariant::I1, "its definition golden/order:1.0.0");
}

#[test]
fn i2_a_task_before_the_one_before_it() {
    let history = golden("sequence-completed");
    finds(
        &check(&history.clone().moved(7, 4)),
        Invariant::I2,
        "/do/2/ship begins while another task of its list is under way",
    );
    finds(
        &check(&history.clone().without(3)),
        Invariant::I2,
        "/do/1/charge begins, where /do/0/price was to come next",
    );
    finds(
        &check(&history.moved(2, 3)),
        Invariant::I2,
        "begins before its execution",
    );
}

#[test]
fn i2_a_step_before_what_it_needs() {
    let history = golden("graph-completed");
    let early = history.clone().moved(7, 4);
    finds(
        &check(&early),
        Invariant::I2,
        "/steps/2 begins before /steps/0 has ended",
    );
    let skipped = history.clone().with(10, |event| {
        event["task_skipped"]["task"] = json!("/steps/2");
    });
    finds(
        &check(&skipped),
        Invariant::I2,
        "/steps/2 begins a second time",
    );
    let unskipped = history.without(12);
    finds(
        &check(&unskipped),
        Invariant::I2,
        "completes before its step",
    );
}

#[test]
fn i2_a_result_of_what_was_never_scheduled() {
    let history = golden("sequence-completed").without(4).without(4);
    finds(
        &check(&history),
        Invariant::I2,
        "/do/1/charge gets a result without having been scheduled",
    );
}

#[test]
fn i2_a_branch_that_the_switch_did_not_choose() {
    let history = golden("conditional-with-skip")
        .with(3, |event| event["branch_selected"]["case"] = json!("small"));
    finds(
        &check(&history),
        Invariant::I2,
        "/do/3/approve begins, where /do/5/done was to come next",
    );
}

#[test]
fn i2_an_output_that_is_not_there() {
    let history = golden("sequence-completed").with(6, |event| {
        event["task_scheduled"]["input"] = json!({"output_of": "/do/2/ship"});
    });
    finds(
        &check(&history),
        Invariant::I2,
        "reads the output of /do/2/ship, which has none",
    );
}

#[test]
fn i2_a_gap_and_a_foreign_beginning() {
    let mut gap = golden("sequence-completed");
    gap.events.remove(4);
    let report = check(&gap);
    finds(&report, Invariant::I2, "event 5 is missing");
    assert_eq!(report.found, 1, "what follows a gap is not judged");
    let mut headless = golden("sequence-completed");
    headless.events.remove(0);
    let report = check(&headless);
    finds(&report, Invariant::I2, "its first event is not its start");
    assert_eq!(report.found, 1);
}

#[test]
fn i3_an_end_that_is_none() {
    let history = golden("sequence-completed");
    finds(
        &check(&history.clone().repeated(10, 10)),
        Invariant::I3,
        "after its end, which was event 10",
    );
    finds(
        &check(&history.clone().repeated(5, 10)),
        Invariant::I3,
        "after its end",
    );
    finds(
        &check(&history.moved(10, 5)),
        Invariant::I3,
        "it ends while /do/1/charge is under way",
    );
}

#[test]
fn i4_two_results_of_one_attempt() {
    let history = golden("sequence-completed");
    finds(
        &check(&history.clone().repeated(6, 6)),
        Invariant::I4,
        "/do/1/charge gets a second result",
    );
    finds(
        &check(&history.repeated(5, 5)),
        Invariant::I4,
        "begins a second time",
    );
    let retried = golden("task-retried").repeated(5, 5);
    finds(
        &check(&retried),
        Invariant::I4,
        "attempt 1 of /do/0/charge has a second outcome",
    );
}

#[test]
fn i4_attempts_count_on() {
    let retried = golden("task-retried");
    let same = retried
        .clone()
        .with(5, |event| event["timer_fired"]["attempt"] = json!(1));
    finds(
        &check(&same),
        Invariant::I4,
        "attempt 1 of /do/0/charge follows attempt 1",
    );
    let stale = retried.with(12, |event| event["task_completed"]["attempt"] = json!(1));
    finds(
        &check(&stale),
        Invariant::I4,
        "an event of attempt 1 of /do/0/charge, whose current one is 4",
    );
    let again = golden("conditional-with-skip")
        .with(10, |event| event["task_scheduled"]["attempt"] = json!(1));
    finds(
        &check(&again),
        Invariant::I4,
        "begins with attempt 1, where 2 was to come",
    );
}

#[test]
fn i6_more_steps_at_once_than_may_be() {
    let held = golden("graph-faulted").repeated(6, 6).with(6, |event| {
        event["task_started"]["task"] = json!("/steps/2");
    });
    finds(
        &check(&held),
        Invariant::I6,
        "/steps/2 begins although as many run as may run at once",
    );
    let finished = golden("graph-faulted").repeated(12, 6).with(6, |event| {
        *event = json!({"task_completed": {"task": "/steps/2", "attempt": 1, "output": "workflow_input"}});
    });
    finds(
        &check(&finished),
        Invariant::I6,
        "/steps/2 has an outcome although as many run",
    );
}

/// A loop of `then` that goes round too often.
#[test]
fn i6_more_tasks_than_an_execution_may_have() {
    let document = json!({
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "loop", "version": "1.0.0"},
        "do": [{"again": {"set": {"n": 1}, "then": "again"}}],
    });
    let plan = plan(&document);
    let round = |attempt| completed("/do/0/again", attempt);
    let events = |rounds: u32| {
        let mut events = vec![requested(&plan), started(None)];
        events.extend((1..=rounds).map(round));
        history(&plan, events)
    };
    clean(&check(&events(TASKS_PER_EXECUTION_MAX)));
    let report = check(&events(TASKS_PER_EXECUTION_MAX + 1));
    finds(
        &report,
        Invariant::I6,
        "/do/0/again is more than 1000 tasks",
    );
}

#[test]
fn i6_more_retries_than_the_policy_allows() {
    let mut history = golden("task-retried");
    history.events.truncate(12);
    // Attempt 4 was the third retry, and the last.
    let failed = history.events[9].1.to_value();
    let at = history.events[11].2;
    history.events.push((Sequence(13), Json::of(&failed), at));
    let history = history.with(12, |event| {
        event["retry_scheduled"]["attempt"] = json!(4);
    });
    finds(
        &check(&history),
        Invariant::I6,
        "tried again more often than its policy says",
    );
}

#[test]
fn i6_more_events_in_one_step_than_may_be() {
    let history = golden("conditional-with-skip");
    let mut many = history.clone();
    many.events.truncate(2);
    let skipped = many.events[1].clone();
    for number in 3..=66 {
        many.events
            .push((Sequence(number), skipped.1.clone(), skipped.2));
    }
    let mut journal = Journal::begun();
    journal.push(&many, &many.events);
    let report = Check::with(&[&many]).records(&journal.records);
    finds(
        &report,
        Invariant::I6,
        "66 events in one step, more than 64",
    );
}

#[test]
fn i7_timers_that_are_early() {
    let retried = golden("task-retried").earlier(6, 1);
    finds(
        &check(&retried),
        Invariant::I7,
        "the retry of /do/0/charge comes 1 ms early",
    );
    let task = golden("task-timed-out").earlier(4, 1);
    finds(
        &check(&task),
        Invariant::I7,
        "the time-out of /do/0/call comes 1 ms early",
    );
    let execution = golden("execution-timed-out").earlier(5, 1);
    finds(
        &check(&execution),
        Invariant::I7,
        "the execution's time-out comes 1 ms early",
    );
}

#[test]
fn i7_lateness_is_measured_and_bounded() {
    let late = golden("task-retried").earlier(6, -40);
    let report = check(&late);
    clean(&report);
    assert_eq!(report.latest.map(|latest| latest.ms), Some(DurationMs(40)));
    let bounded = |max: u64| {
        let mut check = Check::with(&[&late]);
        check.settings.late_max = Some(DurationMs(max));
        check.histories(&[&late])
    };
    clean(&bounded(40));
    finds(&bounded(39), Invariant::I7, "comes 40 ms late");
}

/// While nobody reigned, nobody could act.
#[test]
fn i7_a_timer_is_not_late_before_somebody_reigns() {
    let mut late = golden("task-retried").earlier(6, -40);
    late.events.truncate(6);
    let mut journal = Journal::begun();
    for (place, event) in late.events.iter().enumerate() {
        if place == 5 {
            journal.reign(Timestamp(event.2.0 - 10));
        }
        journal.push(&late, std::slice::from_ref(event));
    }
    let report = Check::with(&[&late]).records(&journal.records);
    clean(&report);
    assert_eq!(report.latest.map(|latest| latest.ms), Some(DurationMs(10)));
}

#[test]
fn i7_a_timer_that_never_acts() {
    let mut waits = golden("task-retried");
    waits.events.truncate(5);
    let mut other = golden("raised").earlier(1, -60_000);
    other.execution = ExecutionId::parse("execution-2").unwrap();
    let overdue = |late_max: Option<DurationMs>| {
        let mut check = Check::with(&[&waits, &other]);
        check.settings.late_max = late_max;
        check.histories(&[&waits, &other])
    };
    clean(&overdue(None));
    let report = overdue(Some(DurationMs(1_000)));
    finds(
        &report,
        Invariant::I7,
        "a timer of /do/0/charge is overdue for 57975 ms",
    );
}

#[test]
fn i8_one_id_started_twice() {
    let history = golden("sequence-completed");
    finds(
        &check(&history.clone().repeated(1, 4)),
        Invariant::I8,
        "it is started a second time",
    );
    let mut journal = Journal::begun();
    journal.write(&history);
    let again = history.clone().earlier(1, -60_000);
    journal.write(&again);
    let report = Check::with(&[&history]).records(&journal.records);
    finds(&report, Invariant::I8, "it is started again");
    let mut check = Check::with(&[&history]);
    let partitions = (2..100).find(|&partitions| {
        eventflow_domain::PartitionId::of(&history.tenant, &history.execution, partitions).0 != 0
    });
    check.settings = Settings {
        partitions,
        ..Settings::default()
    };
    finds(
        &check.histories(&[&history]),
        Invariant::I8,
        "its home is partition",
    );
}

#[test]
fn i9_anothers_definition_and_anothers_values() {
    let history = golden("sequence-completed");
    let mut foreign = history.clone();
    foreign.tenant = Tenant::parse("somebody-else").unwrap();
    let report = Check::with(&[&history]).histories(&[&foreign]);
    finds(&report, Invariant::I1, "is not there or does not compile");
    let large = history.with(5, |event| {
        let digest = Digest::of(b"a large value");
        event["task_completed"]["output"] =
            json!({"value": {"r": {"digest": digest, "size": 70_000}}});
    });
    let mut check = Check::with(&[&large]);
    check.beside.has_no_blobs = true;
    finds(
        &check.histories(&[&large]),
        Invariant::I9,
        "which its tenant does not have",
    );
    clean(&crate::support::check(&large));
}

/// Nothing is under way in it, and its partition goes on without it.
#[test]
fn i12_an_execution_that_is_stuck() {
    let mut stuck = golden("sequence-completed");
    stuck.events.truncate(6);
    let mut other = golden("raised").earlier(1, -60_000);
    other.execution = ExecutionId::parse("execution-2").unwrap();
    let report = Check::with(&[&stuck, &other]).histories(&[&stuck, &other]);
    finds(&report, Invariant::I12, "nothing of it is under way");
    // Alone, it is only about to go on.
    clean(&check(&stuck));
}
