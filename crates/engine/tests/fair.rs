//! Nobody waits for somebody else's crowd.

mod support;

use std::{collections::BTreeMap, sync::Arc};

use eventflow_adapter_memory::Faults;
use eventflow_domain::{Json, PartitionId, execution::Status};
use eventflow_engine::config::{BATCH_COMMANDS_MAX, TURN_COMMANDS_MAX};
use eventflow_ports::inbound::{Executions, Refusal, TaskView, Tasks};
use serde_json::json;
use support::{
    World, manual_clock,
    requests::{PATIENCE, WORK, complete, id, lease, one_task, set_only, start, tenant},
};
use tokio::task::JoinSet;

/// Tasks of the crowd, all ready at once.
const CROWD: usize = 1_000;
/// Executions of one task each.
const OTHERS: usize = 20;
/// Tasks of one lease.
const LEASED_AT_ONCE: usize = 10;

/// A graph of so many agent tasks that need nothing.
fn crowd() -> Json {
    let step =
        |number| json!({"id": format!("t{number}"), "uses": "agent", "with": {"capability": WORK}});
    let steps: Vec<_> = (0..CROWD).map(step).collect();
    Json::of(&json!({
        "dag": "1.0", "namespace": "tests", "name": "crowd", "version": "1.0.0", "steps": steps,
    }))
}

/// How many rounds it takes until every other execution's task was given out, and how much of the crowd was by then.
async fn leases_until_all_others_have_theirs(world: World) -> (usize, usize) {
    let engine = world.live(&Faults::new()).await.expect("it starts");
    engine
        .start(start("crowd", crowd()))
        .await
        .expect("started");
    // All of the crowd is ready before anybody else comes.
    loop {
        let view = engine.view(&tenant(), &id("crowd")).await.expect("seen");
        let scheduled = |task: &&TaskView| task.scheduled_at.is_some();
        if view.tasks.iter().filter(scheduled).count() == CROWD {
            break;
        }
    }
    for other in 0..OTHERS {
        let name = format!("other-{other}");
        engine
            .start(start(&name, one_task()))
            .await
            .expect("started");
    }

    let mut leased: BTreeMap<String, usize> = BTreeMap::new();
    let mut held = Vec::new();
    let mut rounds = 0;
    while leased.len() < 1 + OTHERS {
        assert!(rounds < CROWD, "only these got something: {leased:?}");
        rounds += 1;
        for task in engine
            .lease(&tenant(), lease(LEASED_AT_ONCE))
            .await
            .expect("leased")
        {
            *leased.entry(task.execution.to_string()).or_default() += 1;
            held.push(task);
        }
    }
    // Nobody is starved the other way round either: the rest of the crowd comes as well.
    let crowd = leased["crowd"];
    while held.len() < CROWD + OTHERS {
        let more = engine.lease(&tenant(), lease(CROWD)).await.expect("leased");
        assert!(!more.is_empty(), "the crowd's tasks are lost");
        held.extend(more);
    }
    for task in &held {
        complete(&engine, task).await;
    }
    for name in ["crowd", "other-0"] {
        let ended = engine.wait(&tenant(), &id(name), PATIENCE).await;
        assert_eq!(ended.expect("seen").status, Status::Completed);
    }
    (rounds, crowd)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_ready_tasks_of_one_execution_do_not_starve_the_others() {
    let (rounds, crowd) = leases_until_all_others_have_theirs(World::memory(manual_clock())).await;
    println!(
        "{OTHERS} others had theirs after {rounds} rounds, {crowd} tasks of the crowd among them"
    );
    // In turns: as many of the crowd's as there are others, or one lease more.
    assert!(rounds <= 2 * OTHERS / LEASED_AT_ONCE + 1, "{rounds} rounds");
}

#[tokio::test]
async fn questions_alone_never_fill_a_batch() {
    let engine = World::memory(manual_clock())
        .live(&Faults::new())
        .await
        .expect("it starts");
    for _ in 0..2 * BATCH_COMMANDS_MAX {
        let asking = async { engine.view(&tenant(), &id("nobody")).await };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        let refusal = answer.expect("answered").expect_err("there is none");
        assert!(matches!(refusal, Refusal::NotFound(_)), "{refusal}");
    }
    let started = engine.start(start("somebody", set_only()));
    let started = tokio::time::timeout(PATIENCE, started).await;
    started.expect("answered").expect("started");
}

/// All of a burst comes before the writer looks once: nobody in it waits until all of it is decided.
#[tokio::test]
async fn a_burst_is_not_held_back_until_all_of_it_is_decided() {
    const BURST: usize = 8 * TURN_COMMANDS_MAX;
    let world = World::memory(manual_clock());
    let engine = Arc::new(world.live(&Faults::new()).await.expect("it starts"));
    let journal = world.backend(&Faults::new()).await.journal;
    let head = async || journal.head(PartitionId(0)).await.expect("it answers").0;
    let before = head().await;
    let mut starting = JoinSet::new();
    for number in 0..BURST {
        let engine = engine.clone();
        starting.spawn(async move {
            let request = start(&format!("e{number}"), one_task());
            engine.start(request).await.expect("started");
        });
    }
    starting.join_all().await;
    let records = head().await - before;
    assert!(
        records >= (BURST / TURN_COMMANDS_MAX) as u64,
        "{BURST} starts went into {records} records"
    );
}
