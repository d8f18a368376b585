//! Several nodes on one store: any of them answers for any execution, whoever leads its partition.

mod support;

use eventflow_domain::{ExecutionId, Json, PartitionId, Sequence, execution::Status};
use eventflow_ports::{
    ListQuery,
    inbound::{Action, Controls, Executions, Refusal, ResultOutcome, TaskVerdict, Tasks},
};
use serde_json::json;
use support::{
    nodes::{Nodes, TestNode},
    requests::{
        PATIENCE, complete, completed, id, lease_now, next_task, one_task, set_only, start, tenant,
        three_tasks,
    },
};

fn everything() -> ListQuery {
    ListQuery {
        tenant: tenant(),
        statuses: Vec::new(),
        workflow: None,
        labels: Vec::new(),
        started_after: None,
        started_before: None,
        limit: 1_000,
        before: None,
    }
}

async fn listed(node: &TestNode) -> Vec<ExecutionId> {
    let page = node.engine.list(everything()).await.expect("listed");
    let ids = page.executions.into_iter().map(|view| view.execution);
    ids.collect()
}

#[tokio::test]
async fn any_node_answers_for_any_execution() {
    let nodes = Nodes::by_hand(4);
    let [one, two, three] = nodes.start_many().await;
    for number in 0..12 {
        let execution = format!("any-{number}");
        let started = one.engine.start(start(&execution, three_tasks())).await;
        assert!(!started.expect("started").repeated);
        let again = two.engine.start(start(&execution, three_tasks())).await;
        assert!(again.expect("the same").repeated, "{execution}");
        let other = three.engine.start(start(&execution, one_task())).await;
        assert!(matches!(other, Err(Refusal::Contradiction(_))), "{other:?}");
    }
    for round in 0..36 {
        let node = [&one, &two, &three][round % 3];
        let task = next_task(&node.engine).await;
        let explained = two
            .engine
            .explain(&tenant(), &task.execution)
            .await
            .expect("explained");
        assert_eq!(
            explained.waits[0].held_by.as_ref().expect("held").as_str(),
            "agent"
        );
        let beat = completed(&task);
        let beat = eventflow_ports::inbound::TaskResult {
            verdict: TaskVerdict::Heartbeat,
            ..beat
        };
        let alive = three.engine.results(&tenant(), vec![beat]).await;
        assert!(matches!(alive[..], [ResultOutcome::Alive(_)]), "{alive:?}");
        complete(&[&two, &three, &one][round % 3].engine, &task).await;
    }
    for number in 0..12 {
        let execution = id(&format!("any-{number}"));
        assert_eq!(three.ended(&execution).await, Status::Completed);
        let history = async |node: &TestNode| {
            let page = node
                .engine
                .history(&tenant(), &execution, Sequence(0), 100)
                .await;
            page.expect("read").events.last().expect("events").hash
        };
        assert_eq!(history(&one).await, history(&two).await);
    }
    assert_eq!(listed(&one).await.len(), 12);
    assert_eq!(listed(&one).await, listed(&three).await);
    for node in [&one, &two, &three] {
        let unknown = node.engine.view(&tenant(), &id("unknown")).await;
        assert!(matches!(unknown, Err(Refusal::NotFound(_))), "{unknown:?}");
    }
}

#[tokio::test]
async fn results_of_many_partitions_come_back_in_order() {
    let nodes = Nodes::by_hand(4);
    let [one, two] = nodes.start_many().await;
    for number in 0..200 {
        one.engine
            .start(start(&format!("many-{number}"), one_task()))
            .await
            .expect("started");
    }
    let mut tasks = Vec::new();
    while tasks.len() < 200 {
        tasks.extend(
            two.engine
                .lease(&tenant(), lease_now(64))
                .await
                .expect("leased"),
        );
    }
    let mut results: Vec<_> = tasks.iter().map(completed).collect();
    results[7].token = eventflow_ports::inbound::TaskToken("forged".into());
    let outcomes = one.engine.results(&tenant(), results).await;
    for (place, outcome) in outcomes.iter().enumerate() {
        let is_forged = matches!(outcome, ResultOutcome::Refused(Refusal::NotFound(_)));
        assert_eq!(is_forged, place == 7, "{place}: {outcome:?}");
        assert!(
            is_forged || matches!(outcome, ResultOutcome::Accepted),
            "{outcome:?}"
        );
    }
    for (place, task) in tasks.iter().enumerate() {
        let expected = if place == 7 {
            Status::Running
        } else {
            Status::Completed
        };
        assert_eq!(two.status(&task.execution).await, expected);
    }
}

#[tokio::test]
async fn controls_and_large_values_go_to_the_leader_and_back() {
    let nodes = Nodes::by_hand(2);
    let [one, two] = nodes.start_many().await;
    let large = Json::of(&json!({"text": "x".repeat(200_000)}));
    for home in [PartitionId(0), PartitionId(1)] {
        let execution = nodes.id_in(home, "large");
        let mut request = start(execution.as_str(), one_task());
        request.input = large.clone();
        one.engine.start(request).await.expect("started");
        let paused = two
            .engine
            .control(&tenant(), &execution, Action::Pause, Some("lunch".into()))
            .await;
        assert_eq!(paused.expect("paused").status, Status::Suspended);
        assert!(
            one.engine
                .lease(&tenant(), lease_now(1))
                .await
                .expect("answered")
                .is_empty()
        );
        let resumed = one
            .engine
            .control(&tenant(), &execution, Action::Resume, None)
            .await;
        assert_eq!(resumed.expect("resumed").status, Status::Running);
        let task = next_task(&two.engine).await;
        assert_eq!(task.input, large);
        let mut result = completed(&task);
        result.verdict = TaskVerdict::Complete(large.clone());
        let outcome = one.engine.results(&tenant(), vec![result]).await;
        assert!(
            matches!(outcome[..], [ResultOutcome::Accepted]),
            "{outcome:?}"
        );
        for node in [&one, &two] {
            let view = node
                .engine
                .wait(&tenant(), &execution, PATIENCE)
                .await
                .expect("seen");
            assert_eq!(
                (view.input, view.output),
                (large.clone(), Some(large.clone()))
            );
        }
        let stopped = two
            .engine
            .control(&tenant(), &execution, Action::Stop, None)
            .await;
        assert!(
            matches!(stopped, Err(Refusal::Contradiction(_))),
            "{stopped:?}"
        );
    }
}

#[tokio::test]
async fn a_list_names_the_partition_that_nobody_leads() {
    let nodes = Nodes::by_hand(3);
    let [one, two] = nodes.start_many().await;
    for number in 0..30 {
        one.engine
            .start(start(&format!("list-{number}"), set_only()))
            .await
            .expect("started");
    }
    let page = ListQuery {
        limit: 10,
        ..everything()
    };
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let query = ListQuery {
            before,
            ..page.clone()
        };
        let page = two.engine.list(query).await.expect("listed");
        pages.extend(page.executions.into_iter().map(|view| view.execution));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(pages, listed(&one).await);
    assert_eq!(pages.len(), 30);

    let lost = two.leads();
    two.die().await;
    let refused = one
        .engine
        .list(everything())
        .await
        .expect_err("one is missing");
    let named = lost
        .iter()
        .any(|id| refused.to_string().contains(&format!("partition {id}")));
    assert!(named, "{refused}");
    nodes
        .within_5_seconds(&[&one], "a successor", || one.leads().len() == 3)
        .await;
    assert_eq!(listed(&one).await, pages);
}

#[tokio::test]
async fn readiness_and_system_tell_who_leads_what() {
    let nodes = Nodes::by_hand(3);
    let [one, two] = nodes.start_many().await;
    for node in [&one, &two] {
        let partitions = node.partitions();
        let leaders: Vec<_> = partitions
            .iter()
            .map(|view| view.leader.clone().expect("led"))
            .collect();
        let own = leaders
            .iter()
            .filter(|leader| **leader == node.name.to_string())
            .count();
        assert_eq!(own, node.leads().len());
        assert!(
            partitions
                .iter()
                .all(|view| view.epoch.0 > 0 && view.position.0 > 0),
            "{partitions:?}"
        );
    }
    two.die().await;
    let all = || one.leads().len() == 3 && one.readiness().is_ok();
    nodes.within_5_seconds(&[&one], "a successor", all).await;
}
