//! Timers are never early, and survive a restart.

mod support;

use eventflow_domain::{DurationMs, Json, Timestamp, execution::Status};
use eventflow_ports::{
    Clock,
    inbound::{LeaseRequest, Tasks},
};
use serde_json::json;
use support::{
    life::{Life, QUIET},
    requests::{agent_task, complete, lease, next_task, one_task, tenant, workflow},
};

/// So many retries, the first after two seconds.
fn retries(count: u32, backoff: &str) -> serde_json::Value {
    json!({
        "delay": {"seconds": 2},
        "backoff": {backoff: {}},
        "limit": {"attempt": {"count": count}},
    })
}

fn retried_task(count: u32, backoff: &str) -> Json {
    let task = agent_task(&json!({"startWithin": "PT10S", "retry": retries(count, backoff)}));
    workflow("retried", [("only".to_owned(), task)])
}

#[tokio::test]
async fn a_task_that_nobody_picks_up_is_retried_and_then_escalates() {
    let life = Life::of(retried_task(1, "constant")).await;
    life.happens_at_ms("retry_scheduled", 10_000).await;
    life.nothing_to_lease().await;
    life.happens_at_ms("timer_fired", 12_000).await;
    life.happens_at_ms("task_faulted", 22_000).await;
    let view = life.ended().await;
    assert_eq!(view.status, Status::Faulted);
    let error = view.error.expect("faulted");
    assert!(error.kind.ends_with("/timeout"), "{error:?}");
    assert_eq!(error.instance.as_deref(), Some("/do/0/only"));
    life.nothing_to_lease().await;
}

#[tokio::test]
async fn an_attempt_whose_lease_passes_is_retried_and_its_late_result_refused() {
    let life = Life::of(retried_task(1, "constant")).await;
    let request = LeaseRequest {
        lease_for: Some(DurationMs(30_000)),
        ..lease(1)
    };
    let first = life.engine.lease(&tenant(), request).await.expect("leased");
    let first = &first[0];
    assert_eq!(first.deadline, life.after_ms(30_000));
    life.go_to_ms(20_000);
    let alive = life.heartbeat(first).await;
    assert_eq!(
        (alive.cancelled, alive.lease_until),
        (false, life.after_ms(50_000))
    );

    life.happens_at_ms("retry_scheduled", 50_000).await;
    assert!(life.heartbeat(first).await.cancelled);
    life.nothing_to_lease().await;
    life.happens_at_ms("timer_fired", 52_000).await;
    let second = next_task(&life.engine).await;
    assert_eq!((first.attempt.0, second.attempt.0), (1, 2));
    life.assert_contradiction(first).await;
    complete(&life.engine, &second).await;
    assert_eq!(life.ended().await.status, Status::Completed);
}

#[tokio::test]
async fn retries_back_off() {
    let life = Life::of(retried_task(3, "exponential")).await;
    // The times at which the attempt before has failed, and the delays double.
    for (failed_at, due_at) in [(0, 2_000), (2_000, 6_000), (6_000, 14_000)] {
        let task = next_task(&life.engine).await;
        assert_eq!(life.clock.now(), life.after_ms(failed_at));
        life.fail(&task).await;
        life.nothing_to_lease().await;
        life.happens_at_ms("timer_fired", due_at).await;
    }
    let last = next_task(&life.engine).await;
    assert_eq!(last.attempt.0, 4);
    life.fail(&last).await;
    assert_eq!(life.ended().await.status, Status::Faulted);
    assert_eq!(life.times_of("task_faulted").await, [14_000]);
}

#[tokio::test]
async fn a_task_times_out_over_all_of_its_attempts() {
    let mut task = agent_task(&json!({"retry": retries(100, "constant")}));
    task["timeout"] = json!({"after": "PT1M"});
    let life = Life::of(workflow("slow", [("only".to_owned(), task)])).await;
    life.fail(&next_task(&life.engine).await).await;
    life.happens_at_ms("timer_fired", 2_000).await;
    // Alive until the end, which does not help.
    let task = next_task(&life.engine).await;
    life.go_to_ms(50_000);
    assert!(!life.heartbeat(&task).await.cancelled);
    life.happens_at_ms("task_timed_out", 60_000).await;
    let view = life.ended().await;
    assert_eq!(view.status, Status::Faulted);
    assert!(view.error.expect("faulted").kind.ends_with("/timeout"));
    assert!(life.heartbeat(&task).await.cancelled);
    life.assert_contradiction(&task).await;
}

#[tokio::test]
async fn an_execution_times_out_with_all_that_is_under_way() {
    let mut document = one_task().to_value();
    document["timeout"] = json!({"after": "PT1M"});
    let life = Life::of(Json::of(&document)).await;
    let task = next_task(&life.engine).await;
    life.go_to_ms(30_000);
    life.heartbeat(&task).await;
    life.happens_at_ms("execution_timed_out", 60_000).await;
    assert_eq!(life.times_of("task_cancelled").await, [60_000]);
    let view = life.ended().await;
    assert_eq!(view.status, Status::Faulted);
    assert_eq!(view.ended_at, Some(life.after_ms(60_000)));
    life.assert_contradiction(&task).await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_nothing_early() {
    let life = Life::of(retried_task(1, "constant")).await;
    life.go_to_ms(5_000);
    life.clock.set(Timestamp(life.began.0 - 60_000));
    tokio::time::sleep(QUIET).await;
    life.happens_at_ms("retry_scheduled", 10_000).await;
    life.happens_at_ms("timer_fired", 12_000).await;
}

#[tokio::test]
async fn timers_that_are_due_later_fire_after_a_restart() {
    let mut life = Life::of(retried_task(2, "constant")).await;
    // To be picked up, to be retried, and to be picked up again: a crash in the middle of each.
    life.crash_for(DurationMs(5_000)).await;
    life.happens_at_ms("retry_scheduled", 10_000).await;
    life.crash_for(DurationMs(1_000)).await;
    life.happens_at_ms("timer_fired", 12_000).await;
    life.crash_for(DurationMs(9_000)).await;
    life.happens_at_ms("retry_scheduled", 22_000).await;
    life.happens_at_ms("timer_fired", 24_000).await;
    let task = next_task(&life.engine).await;
    assert_eq!(task.attempt.0, 3);
    complete(&life.engine, &task).await;
}

#[tokio::test]
async fn timers_that_came_due_meanwhile_fire_at_a_restart() {
    let mut life = Life::of(retried_task(2, "constant")).await;
    life.crash_for(DurationMs(60_000)).await;
    life.shows("retry_scheduled", &[60_000]).await;
    life.crash_for(DurationMs(60_000)).await;
    life.shows("timer_fired", &[120_000]).await;
    let task = next_task(&life.engine).await;
    assert_eq!(task.attempt.0, 2);
    complete(&life.engine, &task).await;
    assert_eq!(life.ended().await.status, Status::Completed);
}

#[tokio::test]
async fn an_attempt_that_was_begun_gets_one_fresh_lease_after_a_restart() {
    let mut life = Life::of(retried_task(1, "constant")).await;
    let task = next_task(&life.engine).await;
    // That it began is durable once somebody has seen it.
    assert_eq!(life.times_of("task_started").await, [0]);
    life.crash_for(DurationMs(300_000)).await;
    life.nothing_to_lease().await;
    assert!(!life.heartbeat(&task).await.cancelled);
    life.happens_at_ms("retry_scheduled", 300_000 + 60_000)
        .await;
    life.happens_at_ms("timer_fired", 300_000 + 62_000).await;
    complete(&life.engine, &next_task(&life.engine).await).await;
}
