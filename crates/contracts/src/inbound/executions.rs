//! The clauses of `Executions`.

use std::collections::HashSet;

use eventflow_domain::{
    ExecutionId, Json, Sequence,
    execution::{Status, TaskStatus},
};
use eventflow_ports::{
    LifecycleEvent, ListQuery,
    inbound::{
        EventStream, Fault, Format, HistoryEvent, Refusal, StartExecution, StreamFrom, WorkflowRef,
    },
};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;

use super::{
    EngineFixture, PATIENCE, SHORT, accepted, complete, ended, everything_of, invalid, lease_one,
    listed, one_task, request, request_as, start, two_tasks, view,
};
use crate::samples::{execution, tenant};

/// One test per clause of `Executions`, for the fixture that the closure makes.
#[macro_export]
macro_rules! executions_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            inbound::executions,
            [
                clause_01_an_acknowledged_start_survives_a_crash,
                clause_02_a_repeated_start_is_the_same_execution,
                clause_03_an_unknown_or_invalid_workflow_is_refused,
                clause_04_reads_see_what_was_acknowledged_to_this_tenant,
                clause_05_wait_answers_at_the_end_or_in_time,
                clause_06_history_is_ordered_whole_and_chained,
                clause_07_events_are_replayed_then_live_then_end,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_an_acknowledged_start_survives_a_crash(fixture: &impl EngineFixture) {
    const STARTS: usize = 20;
    let mut starting = tokio::task::JoinSet::new();
    for number in 0..STARTS {
        let executions = fixture.executions();
        let request = StartExecution {
            input: Json::of(&number),
            labels: [("number".to_owned(), number.to_string())].into(),
            correlation: Some(format!("cause-{number}").into()),
            ..request_as(&format!("e{number}"), one_task())
        };
        starting.spawn(async move { executions.start(request).await });
    }
    while let Some(started) = starting.join_next().await {
        let started = started.expect("no panic").expect("accepted");
        assert!(!started.repeated);
        assert_eq!(started.execution, started.view.execution);
    }
    fixture.restart().await;
    for number in 0..STARTS {
        let view = view(fixture, &execution(&format!("e{number}"))).await;
        assert_eq!(view.input, Json::of(&number));
        assert_eq!(view.labels["number"], number.to_string());
        assert_eq!(
            view.correlation.as_deref(),
            Some(&*format!("cause-{number}"))
        );
        assert_eq!(view.workflow.to_string(), "default/order:1.0.0");
        assert!(!view.status.is_ended());
    }
}

/// Clause 2.
pub async fn clause_02_a_repeated_start_is_the_same_execution(fixture: &impl EngineFixture) {
    let by_key = |key: &str| StartExecution {
        idempotency_key: Some(key.into()),
        ..request(one_task())
    };
    let by_id = request_as("mine", one_task());
    let first = start(fixture, by_id.clone()).await;
    assert_eq!(first.execution, execution("mine"));
    let (one, two) = tokio::join!(start(fixture, by_key("k1")), start(fixture, by_key("k1")));
    assert_eq!(one.execution, two.execution);
    assert!(
        one.repeated != two.repeated,
        "exactly one of two at once started it"
    );
    let other_key = start(fixture, by_key("k2")).await;
    assert_ne!(other_key.execution, one.execution);
    let task = lease_one(fixture, "charge").await;
    accepted(fixture, &task, complete(&json!("done"))).await;

    for _ in 0..2 {
        for (request, known) in [
            (by_id.clone(), &first.execution),
            (by_key("k1"), &one.execution),
            (by_key("k2"), &other_key.execution),
        ] {
            let repeated = start(fixture, request.clone()).await;
            assert!(repeated.repeated);
            assert_eq!(repeated.execution, *known);
            let with_other_input = StartExecution {
                input: Json::of("other"),
                ..request.clone()
            };
            refused_as_contradiction(fixture, with_other_input).await;
            let of_other_workflow = StartExecution {
                workflow: WorkflowRef::Inline(two_tasks()),
                ..request
            };
            refused_as_contradiction(fixture, of_other_workflow).await;
        }
        assert_eq!(listed(fixture, everything_of("acme")).await.len(), 3);
        // The second round asks an engine that remembers nothing but its stores.
        fixture.restart().await;
    }

    // Ids and keys are a tenant's own.
    for request in [by_id, by_key("k1")] {
        let theirs = StartExecution {
            tenant: tenant("rival"),
            input: Json::of("other"),
            ..request
        };
        assert!(!start(fixture, theirs).await.repeated);
    }
}

async fn refused_as_contradiction(fixture: &impl EngineFixture, request: StartExecution) {
    let refused = fixture.executions().start(request).await;
    assert!(
        matches!(refused, Err(Refusal::Contradiction(_))),
        "{refused:?}"
    );
}

/// Clause 3.
pub async fn clause_03_an_unknown_or_invalid_workflow_is_refused(fixture: &impl EngineFixture) {
    let registered = super::workflows::register(fixture, "acme", &one_task()).await;
    registered.expect("registered");
    let named = |namespace: &str, name: &str, version: Option<&str>| StartExecution {
        workflow: WorkflowRef::Named {
            namespace: namespace.into(),
            name: name.into(),
            version: version.map(Into::into),
        },
        ..request_as("unborn", one_task())
    };
    let of_another_tenant = StartExecution {
        tenant: tenant("rival"),
        ..named("default", "order", None)
    };
    for unknown in [
        named("default", "nothing", None),
        named("default", "order", Some("9.9.9")),
        named("elsewhere", "order", None),
        of_another_tenant,
    ] {
        let refused = fixture.executions().start(unknown.clone()).await;
        assert!(
            matches!(refused, Err(Refusal::NotFound(_))),
            "{:?}: {refused:?}",
            unknown.workflow
        );
    }

    let refused = fixture
        .executions()
        .start(request_as("unborn", invalid()))
        .await;
    let Err(Refusal::Invalid { faults, .. }) = refused else {
        panic!("an invalid document must be refused as such: {refused:?}");
    };
    // Inline in a request, a document has no text of its own, and its faults no places.
    let validated = fixture
        .workflows()
        .validate(invalid().as_str().as_bytes(), Format::Json);
    let validated = validated
        .into_iter()
        .map(|fault| Fault::at(fault.pointer, fault.detail));
    assert_eq!(faults, validated.collect::<Vec<_>>());
    for at in ["/do/0", "/do/1"] {
        assert!(
            faults.iter().any(|fault| fault.pointer.starts_with(at)),
            "a fault at {at} among {faults:?}"
        );
    }
    assert_eq!(listed(fixture, everything_of("acme")).await, [""; 0]);
    for known in [
        named("default", "order", None),
        named("default", "order", Some("1.0.0")),
    ] {
        start(fixture, known).await;
    }
}

/// Clause 4.
pub async fn clause_04_reads_see_what_was_acknowledged_to_this_tenant(
    fixture: &impl EngineFixture,
) {
    let mut newest_first = Vec::new();
    for number in 0..5 {
        let id = format!("e{number}");
        let request = StartExecution {
            labels: [("parity".to_owned(), (number % 2).to_string())].into(),
            ..request_as(&id, two_tasks())
        };
        start(fixture, request).await;
        newest_first.insert(0, id.clone());
        let view = view(fixture, &execution(&id)).await;
        assert!(!view.status.is_ended());
        assert!(!history(fixture, &execution(&id)).await.is_empty());
        assert!(listed(fixture, everything_of("acme")).await.contains(&id));
        fixture.pass(super::STEP).await;
    }
    assert_eq!(listed(fixture, everything_of("acme")).await, newest_first);

    let task = lease_one(fixture, "charge").await;
    accepted(fixture, &task, complete(&json!({"paid": true}))).await;
    for _ in 0..2 {
        let seen = view(fixture, &task.execution).await;
        let charge = seen.tasks.iter().find(|other| other.reference == task.task);
        let charge = charge.expect("the task is in the view");
        assert_eq!(charge.status, TaskStatus::Completed);
        assert_eq!(charge.output, Some(Json::of(&json!({"paid": true}))));
        assert_eq!(seen.progress.completed, 1);
        assert_eq!(listed(fixture, everything_of("acme")).await, newest_first);
        fixture.restart().await;
    }

    let odd = ListQuery {
        labels: vec![("parity".into(), "1".into())],
        ..everything_of("acme")
    };
    assert_eq!(listed(fixture, odd).await, ["e3", "e1"]);
    let mut pages = Vec::new();
    let mut query = ListQuery {
        limit: 2,
        ..everything_of("acme")
    };
    loop {
        let page = fixture
            .executions()
            .list(query.clone())
            .await
            .expect("a list");
        assert!(page.executions.len() <= 2);
        pages.extend(
            page.executions
                .iter()
                .map(|view| view.execution.to_string()),
        );
        let Some(next) = page.next else { break };
        query.before = Some(next);
    }
    assert_eq!(pages, newest_first);
    nothing_for_another_tenant(fixture, &task.execution).await;
}

async fn nothing_for_another_tenant(fixture: &impl EngineFixture, id: &ExecutionId) {
    let executions = fixture.executions();
    let rival = tenant("rival");
    assert_eq!(listed(fixture, everything_of("rival")).await, [""; 0]);
    let view = executions.view(&rival, id).await;
    assert!(matches!(view, Err(Refusal::NotFound(_))), "{view:?}");
    let waited = executions.wait(&rival, id, SHORT).await;
    assert!(matches!(waited, Err(Refusal::NotFound(_))), "{waited:?}");
    let history = executions.history(&rival, id, Sequence(0), 10).await;
    assert!(matches!(history, Err(Refusal::NotFound(_))), "{history:?}");
    let from = StreamFrom::Execution(id.clone(), Sequence(0));
    let events = executions.events(&rival, from).await;
    let refused = events.err().expect("no events for another tenant");
    assert!(matches!(refused, Refusal::NotFound(_)), "{refused:?}");
}

/// Clause 5.
pub async fn clause_05_wait_answers_at_the_end_or_in_time(fixture: &impl EngineFixture) {
    let id = start(fixture, request(one_task())).await.execution;
    let executions = fixture.executions();
    let started = Instant::now();
    let owner = tenant("acme");
    let (waited, ()) = tokio::join!(
        timeout(PATIENCE, executions.wait(&owner, &id, SHORT)),
        fixture.pass(super::STEP),
    );
    let waited = waited.expect("in time").expect("a view");
    assert!(!waited.status.is_ended(), "nobody did anything");
    assert!(started.elapsed() >= SHORT / 2, "it waits");

    let waiting = tokio::spawn({
        let (executions, id) = (fixture.executions(), id.clone());
        async move { executions.wait(&tenant("acme"), &id, PATIENCE * 10).await }
    });
    let task = lease_one(fixture, "charge").await;
    tokio::time::sleep(SHORT).await;
    assert!(!waiting.is_finished());
    accepted(fixture, &task, complete(&json!({"receipt": 7}))).await;
    let waited = timeout(PATIENCE, waiting)
        .await
        .expect("as soon as it ended");
    let waited = waited.expect("no panic").expect("a view");
    assert_eq!(waited.status, Status::Completed);
    assert_eq!(waited.output, Some(Json::of(&json!({"receipt": 7}))));
    // Of what has ended, at once. A life that is still held may hold its store.
    drop(executions);
    for _ in 0..2 {
        assert_eq!(ended(fixture, &id).await.status, Status::Completed);
        fixture.restart().await;
    }
}

/// Clause 6.
pub async fn clause_06_history_is_ordered_whole_and_chained(fixture: &impl EngineFixture) {
    // The same story twice, up to the input in the first event.
    let mut stories = Vec::new();
    for id in ["e1", "e2"] {
        let request = StartExecution {
            input: Json::of(id),
            ..request_as(id, two_tasks())
        };
        start(fixture, request).await;
        for capability in ["charge", "ship"] {
            let task = lease_one(fixture, capability).await;
            accepted(fixture, &task, complete(&json!("done"))).await;
        }
        ended(fixture, &execution(id)).await;
        stories.push(history(fixture, &execution(id)).await);
    }
    for story in &stories {
        let sequences: Vec<u64> = story.iter().map(|event| event.sequence.0).collect();
        assert_eq!(sequences, (1..=story.len() as u64).collect::<Vec<_>>());
        assert!(story.is_sorted_by_key(|event| event.time));
        assert!(
            story.len() >= 4,
            "two tasks leave more than that: {story:?}"
        );
    }
    let last = view(fixture, &execution("e1")).await.sequence;
    assert_eq!(stories[0].last().map(|event| event.sequence), Some(last));

    // What differs in the first event is in every hash after it, and no hash depends on the page or on the engine.
    let hashes = stories.iter().flatten().map(|event| event.hash);
    let different: HashSet<_> = hashes.clone().collect();
    assert_eq!(different.len(), hashes.count(), "every hash is its own");
    fixture.restart().await;
    let again = history(fixture, &execution("e1")).await;
    let look = |story: &[HistoryEvent]| -> Vec<_> {
        story
            .iter()
            .map(|event| (event.sequence, event.kind, event.time, event.hash))
            .collect()
    };
    assert_eq!(look(&again), look(&stories[0]));
    for (one, two) in again.iter().zip(&stories[0]) {
        assert_eq!(one.data, two.data);
    }
}

/// The whole history, in pages of three.
async fn history(fixture: &impl EngineFixture, id: &ExecutionId) -> Vec<HistoryEvent> {
    let mut events = Vec::new();
    let mut after = Sequence(0);
    loop {
        let page = fixture
            .executions()
            .history(&tenant("acme"), id, after, 3)
            .await
            .expect("a history");
        assert!(page.events.len() <= 3);
        events.extend(page.events);
        match page.next {
            Some(next) => {
                assert!(next > after, "a page goes on");
                after = next;
            }
            None => return events,
        }
    }
}

/// Clause 7.
pub async fn clause_07_events_are_replayed_then_live_then_end(fixture: &impl EngineFixture) {
    let mut of_the_tenant = events(fixture, StreamFrom::Now).await;
    let theirs = StartExecution {
        tenant: tenant("rival"),
        ..request_as("theirs", two_tasks())
    };
    start(fixture, theirs).await;
    let id = start(fixture, request_as("ours", two_tasks()))
        .await
        .execution;
    let task = lease_one(fixture, "charge").await;
    accepted(fixture, &task, complete(&json!("done"))).await;

    // From the middle of its life to its end.
    let from_start = || StreamFrom::Execution(id.clone(), Sequence(0));
    let live = events(fixture, from_start()).await;
    let live = tokio::spawn(all(live));
    let task = lease_one(fixture, "ship").await;
    accepted(fixture, &task, complete(&json!("done"))).await;
    let live = timeout(PATIENCE, live)
        .await
        .expect("it ends")
        .expect("no panic");

    assert!(
        live.iter()
            .all(|event| event.execution == id && event.tenant == tenant("acme"))
    );
    assert!(
        live.is_sorted_by(|one, two| one.sequence < two.sequence),
        "in order: {live:?}"
    );
    let kinds: Vec<_> = live.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds.last(),
        Some(&"workflow_execution_completed"),
        "{kinds:?}"
    );
    for (kind, times) in [("workflow_execution_started", 1), ("task_completed", 2)] {
        let seen = kinds.iter().filter(|other| **other == kind).count();
        assert_eq!(seen, times, "{kind} among {kinds:?}");
    }

    // After its end: all of it again, or what came after any point.
    fixture.restart().await;
    for (index, event) in live.iter().enumerate() {
        let from = StreamFrom::Execution(id.clone(), event.sequence);
        assert_eq!(until_its_end(fixture, from).await, live[index + 1..]);
    }
    assert_eq!(until_its_end(fixture, from_start()).await, live);

    // The tenant's stream, opened before the crash, had all of it in the same order and nothing of anybody else.
    let mut seen = Vec::new();
    while let Ok(Some(Ok(event))) = timeout(SHORT * 4, of_the_tenant.next()).await {
        seen.push(event);
    }
    assert_eq!(seen, live);
}

async fn events(fixture: &impl EngineFixture, from: StreamFrom) -> EventStream {
    fixture
        .executions()
        .events(&tenant("acme"), from)
        .await
        .expect("a stream")
}

/// Every event of an execution that has ended already.
async fn until_its_end(fixture: &impl EngineFixture, from: StreamFrom) -> Vec<LifecycleEvent> {
    let what = format!("{from:?}");
    timeout(PATIENCE, all(events(fixture, from).await))
        .await
        .unwrap_or_else(|_| panic!("the execution has ended and its stream has not: {what}"))
}

/// Every event until the stream ends.
async fn all(mut stream: EventStream) -> Vec<LifecycleEvent> {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event.expect("an event"));
    }
    events
}
