//! The clauses of `Controls`.

use eventflow_domain::{DurationMs, Json, execution::Status};
use eventflow_ports::inbound::{
    Action, Cause, ExecutionView, Explanation, Heartbeat, Refusal, ResultOutcome, TaskVerdict, Wait,
};
use serde_json::json;

use super::{
    EngineFixture, SHORT, accepted, agent, comes_to, complete, contradicts, ended, fail, lease,
    lease_one, one_task, pair, request_as, result, start, two_tasks, view,
};
use crate::samples::{execution, tenant};

/// One test per clause of `Controls`, for the fixture that the closure makes.
#[macro_export]
macro_rules! controls_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            inbound::controls,
            [
                clause_01_an_acknowledged_order_survives_a_crash,
                clause_02_a_repeated_order_is_harmless_and_an_ended_execution_contradicts,
                clause_03_a_pause_lets_running_work_end_and_begins_nothing,
                clause_04_a_stop_cancels_what_is_under_way,
                clause_05_a_resume_goes_on_with_everything_once,
                clause_06_another_tenants_execution_is_not_found,
                clause_07_everything_that_is_waited_for_is_explained,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_an_acknowledged_order_survives_a_crash(fixture: &impl EngineFixture) {
    for (id, action, status) in [
        ("paused", Action::Pause, Status::Suspended),
        ("stopped", Action::Stop, Status::Cancelled),
    ] {
        start(fixture, request_as(id, one_task())).await;
        order(fixture, id, action).await;
        fixture.restart().await;
        assert_eq!(view(fixture, &execution(id)).await.status, status);
    }
    order(fixture, "paused", Action::Resume).await;
    fixture.restart().await;
    assert_eq!(
        view(fixture, &execution("paused")).await.status,
        Status::Running
    );
}

/// Clause 2.
pub async fn clause_02_a_repeated_order_is_harmless_and_an_ended_execution_contradicts(
    fixture: &impl EngineFixture,
) {
    start(fixture, request_as("running", one_task())).await;
    for action in [Action::Resume, Action::Pause, Action::Resume, Action::Stop] {
        let once = order(fixture, "running", action).await;
        let twice = order(fixture, "running", action).await;
        assert_eq!(
            once.sequence, twice.sequence,
            "{action:?} again changes nothing"
        );
        assert_eq!(once.status, twice.status);
    }
    start(fixture, request_as("done", one_task())).await;
    let task = lease_one(fixture, "charge").await;
    accepted(fixture, &task, complete(&json!(1))).await;
    ended(fixture, &execution("done")).await;
    // The second round asks an engine that remembers nothing but its stores.
    for _ in 0..2 {
        order(fixture, "running", Action::Stop).await;
        for action in [Action::Pause, Action::Resume] {
            contradicted(fixture, "running", action).await;
        }
        for action in [Action::Pause, Action::Resume, Action::Stop] {
            contradicted(fixture, "done", action).await;
        }
        fixture.restart().await;
    }
}

/// Clause 3.
pub async fn clause_03_a_pause_lets_running_work_end_and_begins_nothing(
    fixture: &impl EngineFixture,
) {
    start(fixture, request_as("e", two_tasks())).await;
    let charge = lease_one(fixture, "charge").await;
    assert_eq!(
        order(fixture, "e", Action::Pause).await.status,
        Status::Suspending
    );
    let beat = result(fixture, &charge, TaskVerdict::Heartbeat).await;
    let wanted = matches!(
        beat,
        ResultOutcome::Alive(Heartbeat {
            cancelled: false,
            ..
        })
    );
    assert!(wanted, "what has begun may end: {beat:?}");
    accepted(fixture, &charge, complete(&json!("paid"))).await;
    let paused = view(fixture, &execution("e")).await;
    assert_eq!(paused.status, Status::Suspended);
    assert_eq!(
        paused.tasks[0].output,
        Some(Json::of("paid")),
        "its result is kept"
    );
    nothing_to_lease(fixture, "ship").await;

    // What waited in the queue before the pause is not given out either.
    start(fixture, request_as("queued", one_task())).await;
    assert_eq!(
        order(fixture, "queued", Action::Pause).await.status,
        Status::Suspended
    );
    nothing_to_lease(fixture, "charge").await;
    fixture.restart().await;
    nothing_to_lease(fixture, "charge").await;
    nothing_to_lease(fixture, "ship").await;
}

/// Clause 4.
pub async fn clause_04_a_stop_cancels_what_is_under_way(fixture: &impl EngineFixture) {
    start(fixture, request_as("e", pair())).await;
    let charge = lease_one(fixture, "charge").await;
    let stopped = order(fixture, "e", Action::Stop).await;
    assert_eq!(stopped.status, Status::Cancelled);
    assert!(stopped.ended_at.is_some());
    nothing_to_lease(fixture, "ship").await;
    let beat = result(fixture, &charge, TaskVerdict::Heartbeat).await;
    let told = matches!(
        beat,
        ResultOutcome::Alive(Heartbeat {
            cancelled: true,
            ..
        })
    );
    assert!(told, "the agent learns of it: {beat:?}");
    contradicts(fixture, &charge, complete(&json!("late"))).await;
    contradicts(fixture, &charge, fail(true)).await;
    assert_eq!(
        ended(fixture, &execution("e")).await.status,
        Status::Cancelled
    );

    // A paused one can be stopped as well.
    start(fixture, request_as("paused", one_task())).await;
    order(fixture, "paused", Action::Pause).await;
    assert_eq!(
        order(fixture, "paused", Action::Stop).await.status,
        Status::Cancelled
    );
}

/// Clause 5.
pub async fn clause_05_a_resume_goes_on_with_everything_once(fixture: &impl EngineFixture) {
    start(fixture, request_as("queued", one_task())).await;
    order(fixture, "queued", Action::Pause).await;
    nothing_to_lease(fixture, "charge").await;
    order(fixture, "queued", Action::Resume).await;
    let task = lease_one(fixture, "charge").await;
    assert_eq!(
        task.attempt.0, 1,
        "nobody had it, so it is the same attempt"
    );
    nothing_to_lease(fixture, "charge").await;
    accepted(fixture, &task, complete(&json!(1))).await;
    assert_eq!(
        ended(fixture, &execution("queued")).await.status,
        Status::Completed
    );

    // A failure while it is paused is tried again after the resume, and not before.
    start(fixture, request_as("failing", one_task())).await;
    let first = lease_one(fixture, "charge").await;
    order(fixture, "failing", Action::Pause).await;
    accepted(fixture, &first, fail(true)).await;
    fixture.pass(DurationMs(1_500)).await;
    nothing_to_lease(fixture, "charge").await;
    fixture.restart().await;
    nothing_to_lease(fixture, "charge").await;
    order(fixture, "failing", Action::Resume).await;
    let second = lease_one(fixture, "charge").await;
    assert_eq!(second.attempt.0, 2);
    accepted(fixture, &second, complete(&json!(2))).await;
    comes_to(fixture, &execution("failing"), Status::Completed).await;
}

/// Clause 6.
pub async fn clause_06_another_tenants_execution_is_not_found(fixture: &impl EngineFixture) {
    start(fixture, request_as("mine", one_task())).await;
    let (controls, mine) = (fixture.controls(), execution("mine"));
    for (owner, id) in [
        (tenant("rival"), &mine),
        (tenant("acme"), &execution("nobody")),
    ] {
        for action in [Action::Pause, Action::Resume, Action::Stop] {
            let refused = controls.control(&owner, id, action, None).await;
            assert!(matches!(refused, Err(Refusal::NotFound(_))), "{refused:?}");
        }
        let refused = controls.explain(&owner, id).await;
        assert!(matches!(refused, Err(Refusal::NotFound(_))), "{refused:?}");
    }
    assert_eq!(view(fixture, &mine).await.status, Status::Running);
}

/// Clause 7.
pub async fn clause_07_everything_that_is_waited_for_is_explained(fixture: &impl EngineFixture) {
    let document = json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "many", "version": "1.0.0"},
        "do": [{"beside": {"fork": {"branches": [
            {"charge": agent(&json!({"capability": "charge"}))},
            {"ship": agent(&json!({"capability": "ship"}))},
            {"rest": {"wait": "PT1H"}},
        ]}}}],
    });
    let started = start(fixture, request_as("e", Json::of(&document))).await;
    let taken = lease_one(fixture, "charge").await;
    let explained = explain(fixture, "e").await;
    assert_eq!(explained.status, Status::Running);
    assert_eq!(
        (explained.waits.len(), explained.more),
        (3, 0),
        "{explained:?}"
    );
    let wait = |cause: Cause| -> &Wait {
        let mut found = explained.waits.iter().filter(|wait| wait.cause == cause);
        found
            .next()
            .unwrap_or_else(|| panic!("{cause:?} in {explained:?}"))
    };
    let held = wait(Cause::Result);
    assert_eq!(held.task.as_ref(), Some(&taken.task));
    assert_eq!(
        held.held_by.as_ref().map(ToString::to_string).as_deref(),
        Some("worker-1")
    );
    assert!(held.held_until.is_some_and(|until| until > held.since));
    let unclaimed = wait(Cause::Agent);
    assert!(unclaimed.detail.contains("ship"), "{unclaimed:?}");
    assert!(unclaimed.due.is_some(), "when the attempt is given up");
    let timer = wait(Cause::Timer);
    assert_eq!(
        timer.due,
        Some(timer.since.after(DurationMs::from_secs(3_600)))
    );
    for wait in &explained.waits {
        assert!(wait.since >= started.view.created_at);
        assert!(!wait.next.is_empty() && !wait.detail.is_empty());
    }

    order(fixture, "e", Action::Pause).await;
    let paused = explain(fixture, "e").await;
    assert!(
        paused.waits.iter().any(|wait| wait.cause == Cause::Resume),
        "{paused:?}"
    );
    order(fixture, "e", Action::Stop).await;
    let stopped = explain(fixture, "e").await;
    assert!(stopped.waits.is_empty(), "{stopped:?}");
    assert_eq!(stopped.status, Status::Cancelled);
}

async fn order(fixture: &impl EngineFixture, id: &str, action: Action) -> ExecutionView {
    let reason = Some("the contract says so".into());
    fixture
        .controls()
        .control(&tenant("acme"), &execution(id), action, reason)
        .await
        .unwrap_or_else(|refusal| panic!("{action:?} of {id}: {refusal}"))
}

async fn contradicted(fixture: &impl EngineFixture, id: &str, action: Action) {
    let refused = fixture
        .controls()
        .control(&tenant("acme"), &execution(id), action, None)
        .await;
    assert!(
        matches!(refused, Err(Refusal::Contradiction(_))),
        "{action:?} of {id}: {refused:?}"
    );
}

async fn explain(fixture: &impl EngineFixture, id: &str) -> Explanation {
    let (owner, id) = (tenant("acme"), execution(id));
    fixture
        .controls()
        .explain(&owner, &id)
        .await
        .expect("explained")
}

async fn nothing_to_lease(fixture: &impl EngineFixture, capability: &str) {
    let tasks = lease(fixture, &tenant("acme"), &[capability], 9, SHORT).await;
    assert!(tasks.is_empty(), "{} tasks are given out", tasks.len());
}
