//! The clauses of `Tasks`.

use std::collections::HashSet;

use eventflow_domain::{
    AgentName, Attempt, DurationMs, Json,
    execution::{Status, TaskStatus},
};
use eventflow_ports::inbound::{
    Begin, Heartbeat, LeaseRequest, LeasedTask, Refusal, ResultOutcome, TaskResult, TaskToken,
    TaskVerdict,
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    EngineFixture, PATIENCE, SHORT, accepted, comes_to, complete, contradicts, ended, fail, lease,
    lease_one, lease_request, one_task, pair, request, request_as, result, start, two_tasks, until,
    view,
};
use crate::samples::{execution, tenant};

/// One test per clause of `Tasks`, for the fixture that the closure makes.
#[macro_export]
macro_rules! tasks_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            inbound::tasks,
            [
                clause_01_a_durable_attempt_is_leased_to_one_agent,
                clause_02_an_attempt_that_is_not_wanted_is_left_out,
                clause_03_results_are_durable_and_answered_in_order,
                clause_04_the_same_result_is_accepted_and_another_contradicts,
                clause_05_a_token_of_nobody_or_of_another_tenant_is_not_found,
                clause_06_a_heartbeat_extends_the_lease_and_tells_of_a_cancellation,
                clause_07_a_lease_that_passes_ends_the_attempt,
                clause_08_an_attempt_leased_before_a_restart_is_accepted_after_it,
                clause_09_an_attempt_is_begun_by_one_agent_while_it_is_wanted,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_a_durable_attempt_is_leased_to_one_agent(fixture: &impl EngineFixture) {
    const EXECUTIONS: usize = 12;
    let acme = tenant("acme");
    for number in 0..EXECUTIONS {
        start(fixture, request_as(&format!("e{number}"), one_task())).await;
    }
    // Neither another tenant nor another capability, and not before the wait is over.
    for (owner, capability) in [(tenant("rival"), "charge"), (acme.clone(), "ship")] {
        let started = Instant::now();
        assert!(
            lease(fixture, &owner, &[capability], 9, SHORT)
                .await
                .is_empty()
        );
        let took = started.elapsed();
        assert!(
            took >= SHORT && took < PATIENCE / 2,
            "answered after {took:?}"
        );
    }

    let mut agents = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (tasks, acme) = (fixture.tasks(), acme.clone());
        agents.spawn(async move {
            let mut leased = Vec::new();
            loop {
                let request = lease_request(&["ship", "charge"], 2, SHORT * 4);
                let more = tasks.lease(&acme, request).await.expect("leased");
                assert!(more.len() <= 2);
                if more.is_empty() {
                    return leased;
                }
                leased.extend(more);
            }
        });
    }
    let leased: Vec<LeasedTask> = agents.join_all().await.into_iter().flatten().collect();
    let different: HashSet<_> = leased.iter().map(|task| task.execution.clone()).collect();
    assert_eq!((leased.len(), different.len()), (EXECUTIONS, EXECUTIONS));
    for task in &leased {
        assert_eq!(task.capability.as_str(), "charge");
        assert_eq!(task.attempt, Attempt(1));
        assert_eq!(task.input, Json::of(&json!({"amount": 5})));
        assert_eq!(task.workflow.to_string(), "default/order:1.0.0");
    }

    // What was leased is known to whoever comes after a crash.
    fixture.restart().await;
    for task in &leased {
        let view = view(fixture, &task.execution).await;
        let found = view.tasks.iter().find(|other| other.reference == task.task);
        assert_eq!(found.expect("the task is known").attempt, task.attempt);
    }
}

/// Clause 2.
pub async fn clause_02_an_attempt_that_is_not_wanted_is_left_out(fixture: &impl EngineFixture) {
    start(fixture, request_as("faulted", pair())).await;
    let charge = lease_one(fixture, "charge").await;
    accepted(fixture, &charge, fail(false)).await;
    assert_eq!(
        ended(fixture, &execution("faulted")).await.status,
        Status::Faulted
    );

    // The other one was queued long ago, and nobody wants it any more; what comes behind it is given.
    start(fixture, request_as("alive", pair())).await;
    let ship = lease_one(fixture, "ship").await;
    assert_eq!(ship.execution, execution("alive"));
    assert!(
        lease(fixture, &tenant("acme"), &["ship"], 9, SHORT)
            .await
            .is_empty()
    );
    let faulted = view(fixture, &execution("faulted")).await;
    let statuses: HashSet<_> = faulted.tasks.iter().map(|task| task.status).collect();
    let expected = HashSet::from([TaskStatus::Faulted, TaskStatus::Cancelled]);
    assert_eq!(statuses, expected);
}

/// Clause 3.
pub async fn clause_03_results_are_durable_and_answered_in_order(fixture: &impl EngineFixture) {
    for id in ["e1", "e2", "e3"] {
        start(fixture, request_as(id, one_task())).await;
    }
    let mut leased = Vec::new();
    for _ in 0..3 {
        leased.push(lease_one(fixture, "charge").await);
    }
    let of = |task: &LeasedTask, verdict| TaskResult {
        token: task.token.clone(),
        verdict,
    };
    let nobodys = TaskResult {
        token: TaskToken("nonsense".into()),
        verdict: complete(&json!(0)),
    };
    let results = vec![
        of(&leased[0], complete(&json!(1))),
        nobodys,
        of(&leased[1], TaskVerdict::Heartbeat),
        of(&leased[1], complete(&json!(2))),
        of(&leased[0], complete(&json!("other"))),
        of(&leased[2], fail(false)),
    ];
    let outcomes = fixture.tasks().results(&tenant("acme"), results).await;
    assert!(
        matches!(
            &outcomes[..],
            [
                ResultOutcome::Accepted,
                ResultOutcome::Refused(Refusal::NotFound(_)),
                ResultOutcome::Alive(Heartbeat {
                    cancelled: false,
                    ..
                }),
                ResultOutcome::Accepted,
                ResultOutcome::Refused(Refusal::Contradiction(_)),
                ResultOutcome::Accepted,
            ]
        ),
        "{outcomes:?}"
    );
    fixture.restart().await;
    for (task, status, output) in [
        (&leased[0], Status::Completed, Some(json!(1))),
        (&leased[1], Status::Completed, Some(json!(2))),
        (&leased[2], Status::Faulted, None),
    ] {
        let view = ended(fixture, &task.execution).await;
        assert_eq!(view.status, status);
        assert_eq!(view.output, output.map(|output| Json::of(&output)));
    }
}

/// Clause 4.
pub async fn clause_04_the_same_result_is_accepted_and_another_contradicts(
    fixture: &impl EngineFixture,
) {
    // Completed, of an execution that has ended and of one that goes on.
    start(fixture, request_as("done", one_task())).await;
    let done = lease_one(fixture, "charge").await;
    start(fixture, request_as("goes-on", two_tasks())).await;
    let goes_on = lease_one(fixture, "charge").await;
    for task in [&done, &goes_on] {
        accepted(fixture, task, complete(&json!({"paid": 5}))).await;
    }
    for _ in 0..2 {
        for task in [&done, &goes_on] {
            accepted(fixture, task, complete(&json!({"paid": 5}))).await;
            contradicts(fixture, task, complete(&json!({"paid": 6}))).await;
            contradicts(fixture, task, fail(true)).await;
        }
        fixture.restart().await;
    }
    assert_eq!(
        ended(fixture, &done.execution).await.status,
        Status::Completed
    );

    // Failed, and superseded by the next attempt.
    start(fixture, request_as("again", one_task())).await;
    let first = lease_one(fixture, "charge").await;
    accepted(fixture, &first, fail(true)).await;
    accepted(fixture, &first, fail(true)).await;
    contradicts(fixture, &first, complete(&json!("late"))).await;
    let second = lease_one(fixture, "charge").await;
    assert_eq!(
        (&second.execution, second.attempt),
        (&first.execution, Attempt(2))
    );
    assert_ne!(second.token, first.token);
    contradicts(fixture, &first, complete(&json!("late"))).await;
    accepted(fixture, &second, complete(&json!("in time"))).await;
    let output = ended(fixture, &first.execution).await.output;
    assert_eq!(output, Some(Json::of("in time")));

    // Cancelled while somebody is at it.
    start(fixture, request_as("cancelled", pair())).await;
    let charge = lease_one(fixture, "charge").await;
    let look = async || {
        let leased = lease(fixture, &tenant("acme"), &["ship"], 9, SHORT).await;
        leased
            .into_iter()
            .find(|task| task.execution == charge.execution)
    };
    let ship = until(fixture, "the task beside it", look).await;
    accepted(fixture, &charge, fail(false)).await;
    contradicts(fixture, &ship, complete(&json!("late"))).await;
}

/// Clause 5.
pub async fn clause_05_a_token_of_nobody_or_of_another_tenant_is_not_found(
    fixture: &impl EngineFixture,
) {
    start(fixture, request(one_task())).await;
    let task = lease_one(fixture, "charge").await;
    let token = task.token.0.to_string();
    let cut = &token[..token.len() - 1];
    let doubled = format!("{token}{token}");
    // Each with one character changed.
    let forged = [0, token.len() / 2, token.len() - 2].map(|at| {
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &token[..at], &token[at + 1..])
    });
    let forged = forged.iter().map(String::as_str);
    for token in ["", "nonsense", "\u{1F980}", cut, &doubled]
        .into_iter()
        .chain(forged)
    {
        for verdict in [
            complete(&json!("forged")),
            fail(false),
            TaskVerdict::Heartbeat,
        ] {
            let forged = LeasedTask {
                token: TaskToken(token.into()),
                ..task.clone()
            };
            let outcome = result(fixture, &forged, verdict).await;
            assert_not_found(&outcome, token);
        }
    }
    for verdict in [
        complete(&json!("theirs")),
        fail(false),
        TaskVerdict::Heartbeat,
    ] {
        let result = TaskResult {
            token: task.token.clone(),
            verdict,
        };
        let outcomes = fixture
            .tasks()
            .results(&tenant("rival"), vec![result])
            .await;
        assert_not_found(&outcomes[0], "another tenant's");
    }
    accepted(fixture, &task, complete(&json!("ours"))).await;
}

fn assert_not_found(outcome: &ResultOutcome, token: &str) {
    assert!(
        matches!(outcome, ResultOutcome::Refused(Refusal::NotFound(_))),
        "{token:?}: {outcome:?}"
    );
}

/// Clause 6.
pub async fn clause_06_a_heartbeat_extends_the_lease_and_tells_of_a_cancellation(
    fixture: &impl EngineFixture,
) {
    const LEASE: DurationMs = DurationMs(3_000);
    start(fixture, request_as("long", one_task())).await;
    let look = async || lease_for(fixture, "charge", LEASE).await;
    let task = until(fixture, "a task to lease", look).await;
    let mut until = task.deadline;
    // For longer than the lease lasts.
    for _ in 0..4 {
        fixture.pass(DurationMs(LEASE.0 / 3)).await;
        let alive = heartbeat(fixture, &task).await;
        assert!(!alive.cancelled);
        assert!(
            alive.lease_until > until,
            "{alive:?} is not later than {until:?}"
        );
        until = alive.lease_until;
    }
    accepted(fixture, &task, complete(&json!("at last"))).await;

    start(fixture, request_as("cancelled", pair())).await;
    let charge = lease_one(fixture, "charge").await;
    let ship = lease_one(fixture, "ship").await;
    assert!(!heartbeat(fixture, &ship).await.cancelled);
    accepted(fixture, &charge, fail(false)).await;
    assert!(heartbeat(fixture, &ship).await.cancelled);
}

async fn heartbeat(fixture: &impl EngineFixture, task: &LeasedTask) -> Heartbeat {
    match result(fixture, task, TaskVerdict::Heartbeat).await {
        ResultOutcome::Alive(heartbeat) => heartbeat,
        other => panic!("a heartbeat is answered with a lease: {other:?}"),
    }
}

async fn lease_for(
    fixture: &impl EngineFixture,
    capability: &str,
    lease_for: DurationMs,
) -> Option<LeasedTask> {
    let request = LeaseRequest {
        lease_for: Some(lease_for),
        ..lease_request(&[capability], 1, SHORT)
    };
    let leased = fixture.tasks().lease(&tenant("acme"), request).await;
    leased.expect("leased").pop()
}

/// Clause 7.
pub async fn clause_07_a_lease_that_passes_ends_the_attempt(fixture: &impl EngineFixture) {
    const LEASE: DurationMs = DurationMs(1_000);
    let id = start(fixture, request(one_task())).await.execution;
    let look = async || lease_for(fixture, "charge", LEASE).await;
    let first = until(fixture, "the first attempt", look).await;
    // The policy gives one more attempt.
    let second = until(fixture, "the second attempt", look).await;
    assert_eq!((first.attempt, second.attempt), (Attempt(1), Attempt(2)));
    assert_eq!(second.task, first.task);
    contradicts(fixture, &first, complete(&json!("too late"))).await;

    // And not a third one.
    comes_to(fixture, &id, Status::Faulted).await;
    contradicts(fixture, &second, complete(&json!("too late"))).await;
    assert!(
        lease(fixture, &tenant("acme"), &["charge"], 9, SHORT)
            .await
            .is_empty()
    );
}

/// Clause 8.
pub async fn clause_08_an_attempt_leased_before_a_restart_is_accepted_after_it(
    fixture: &impl EngineFixture,
) {
    start(fixture, request_as("e1", two_tasks())).await;
    let charge = lease_one(fixture, "charge").await;
    fixture.restart().await;
    assert!(!heartbeat(fixture, &charge).await.cancelled);
    accepted(fixture, &charge, complete(&json!("charged"))).await;
    let ship = lease_one(fixture, "ship").await;
    assert_eq!(ship.input, Json::of("charged"));
    fixture.restart().await;
    accepted(fixture, &ship, complete(&json!("shipped"))).await;
    let view = ended(fixture, &ship.execution).await;
    assert_eq!(
        (view.status, view.output),
        (Status::Completed, Some(Json::of("shipped")))
    );
}

/// Clause 9.
pub async fn clause_09_an_attempt_is_begun_by_one_agent_while_it_is_wanted(
    fixture: &impl EngineFixture,
) {
    const LONGER: DurationMs = DurationMs(600_000);
    start(fixture, request_as("faulted", pair())).await;
    let charge = lease_one(fixture, "charge").await;
    let ship = lease_one(fixture, "ship").await;
    let holder = lease_request(&["ship"], 1, SHORT).agent;
    let begin = |token: &str, agent: &AgentName| Begin {
        token: TaskToken(token.into()),
        agent: agent.clone(),
        lease_for: Some(LONGER),
    };
    let other = AgentName::parse("other").expect("a name");
    for _ in 0..2 {
        let begins = vec![
            begin(&ship.token.0, &holder),
            begin("nonsense", &holder),
            begin(&ship.token.0, &other),
        ];
        let answers = fixture.tasks().begin(&tenant("acme"), begins).await;
        assert!(
            matches!(
                &answers[..],
                [Ok(until), Err(Refusal::NotFound(_)), Err(Refusal::Contradiction(_))] if *until > ship.deadline
            ),
            "{answers:?}"
        );
        fixture.restart().await;
    }
    let rivals = vec![begin(&ship.token.0, &holder)];
    let answers = fixture.tasks().begin(&tenant("rival"), rivals).await;
    assert!(
        matches!(&answers[..], [Err(Refusal::NotFound(_))]),
        "{answers:?}"
    );

    // What was completed, and what was cancelled beside it.
    accepted(fixture, &charge, fail(false)).await;
    let begins = [&charge, &ship].map(|task| begin(&task.token.0, &holder));
    let answers = fixture.tasks().begin(&tenant("acme"), begins.into()).await;
    assert!(
        matches!(
            &answers[..],
            [
                Err(Refusal::Contradiction(_)),
                Err(Refusal::Contradiction(_))
            ]
        ),
        "{answers:?}"
    );
}
