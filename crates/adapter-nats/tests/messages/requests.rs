//! Requests and their answers.

use async_nats::RequestErrorKind;
use eventflow_domain::Timestamp;
use eventflow_ports::inbound::{
    Action, Heartbeat, MockControls, MockExecutions, MockTasks, Refusal, ResultOutcome,
    TaskVerdict, WorkflowRef,
};
use serde_json::{Value, json};

use crate::{
    node::{Heard, Mocks, Node, Somebody, at_once, header, refusals, starting, tenant, view},
    support::Servers,
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_start_is_answered_with_its_execution() {
    let servers = Servers::single();
    let (executions, heard) = starting();
    let mocks = Mocks {
        executions,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;

    let body = r#"{"workflow":{"name":"order"},"input":{"n":1},"executionId":"e1"}"#;
    let headers = [
        ("ce-id", "m1"),
        ("ce-source", "/shop"),
        ("ce-correlationid", "c1"),
        ("traceparent", TRACE),
    ];
    let answer = somebody.ask("eventflow.start.acme", &headers, body).await;
    let told: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(told["executionId"], "e1");
    assert_eq!(told["status"], "running");

    // Without an id its cause makes it unique; without one either it is another one each time.
    let body = r#"{"workflow":{"name":"order"}}"#;
    somebody.ask("eventflow.start.acme", &headers, body).await;
    somebody
        .ask("eventflow.start.acme", &[("Idempotency-Key", "k1")], body)
        .await;
    somebody.ask("eventflow.start.acme", &[], body).await;
    let structured = json!({"specversion": "1.0", "id": "m2", "source": "/shop", "type": "start",
        "data": {"workflow": {"name": "order"}}});
    let media = [("content-type", "application/cloudevents+json")];
    let structured = structured.to_string();
    somebody
        .ask("eventflow.start.acme", &media, &structured)
        .await;

    let starts = heard.all();
    assert!(starts.iter().all(|start| start.tenant == tenant("acme")));
    let WorkflowRef::Named { name, .. } = &starts[0].workflow else {
        panic!("it was named");
    };
    assert_eq!(name, "order");
    assert_eq!(starts[0].input.as_str(), r#"{"n":1}"#);
    assert_eq!(starts[0].correlation.as_deref(), Some("c1"));
    assert_eq!(starts[0].causation.as_deref(), Some("m1"));
    assert_eq!(starts[0].traceparent.as_deref(), Some(TRACE));
    let keys: Vec<_> = starts
        .iter()
        .map(|start| start.idempotency_key.as_deref())
        .collect();
    let expected = [None, Some("/shop m1"), Some("k1"), None, Some("/shop m2")];
    assert_eq!(keys, expected);
    node.stop().await;
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let servers = Servers::single();
    let mut executions = MockExecutions::new();
    let mut answers = refusals().into_iter();
    executions
        .expect_start()
        .returning(move |_| at_once(Err(answers.next().expect("one each").0)));
    let mocks = Mocks {
        executions,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    for (refusal, status) in refusals() {
        let body = r#"{"workflow":{"name":"order"}}"#;
        let answer = somebody.ask("eventflow.start.acme", &[], body).await;
        let problem: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(problem["status"], status, "{refusal:?}");
        assert_eq!(problem["detail"], refusal.to_string());
        assert_eq!(problem["instance"], "eventflow.start.acme");
        let headers = answer.headers.unwrap();
        assert_eq!(header(&headers, "content-type"), "application/problem+json");
        let after = headers
            .get("retry-after")
            .map(async_nats::HeaderValue::as_str);
        let expected = match status {
            429 => Some("2"),
            503 => Some("1"),
            _ => None,
        };
        assert_eq!(after, expected, "{refusal:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_understood_reaches_no_port() {
    let servers = Servers::single();
    let node = Node::start(&servers, Mocks::default()).await;
    let somebody = Somebody::connect(&servers).await;
    let many = json!({"results": vec![json!({"token": "t", "heartbeat": {}}); 1_025]}).to_string();
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_001));
    for (subject, body, status, expected) in [
        ("eventflow.start.acme", "{", 400, "not JSON"),
        ("eventflow.start.acme", "", 422, "invalid type: null"),
        (
            "eventflow.start.acme",
            r#"{"workflow":{}}"#,
            422,
            "missing field `name`",
        ),
        (
            "eventflow.start.acme",
            r#"{"wokflow":1}"#,
            422,
            "unknown field",
        ),
        (
            "eventflow.start.a=b",
            r#"{"workflow":{"name":"a"}}"#,
            400,
            "tenant `a=b`",
        ),
        (
            "eventflow.control.acme.e1.retry",
            "",
            400,
            "`pause`, `resume` or `stop`",
        ),
        (
            "eventflow.control.acme.e=1.pause",
            "",
            400,
            "execution id `e=1`",
        ),
        ("eventflow.control.acme.e1.pause", "[", 400, "not JSON"),
        ("eventflow.control.acme.e1.pause", &long, 422, "too long"),
        ("eventflow.results.acme", "[]", 422, "invalid length 0"),
        ("eventflow.results.acme", "{}", 422, "missing field `token`"),
        (
            "eventflow.results.acme",
            r#"{"token":"t"}"#,
            422,
            "exactly one of",
        ),
        ("eventflow.results.acme", &many, 422, "at most 1024"),
    ] {
        let problem = somebody.told(subject, body).await;
        assert_eq!(problem["status"], status, "{subject} {body}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(expected), "{subject}: {detail}");
    }
    let others = [("ce-tenantid", "other")];
    for subject in ["eventflow.start.acme", "eventflow.control.acme.e1.stop"] {
        let answer = somebody
            .ask(subject, &others, r#"{"workflow":{"name":"a"}}"#)
            .await;
        let problem: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(problem["status"], 400, "{problem}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_control_reaches_its_execution() {
    let servers = Servers::single();
    let heard = Heard::default();
    let noted = heard.clone();
    let mut controls = MockControls::new();
    controls
        .expect_control()
        .returning(move |tenant, execution, action, reason| {
            noted.note((tenant.to_string(), execution.to_string(), action, reason));
            at_once(Ok(view(execution)))
        });
    let mocks = Mocks {
        controls,
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    for (word, body) in [
        ("pause", r#"{"reason":"lunch"}"#),
        ("resume", ""),
        ("stop", "null"),
    ] {
        let subject = format!("eventflow.control.acme.e1.{word}");
        let told = somebody.told(&subject, body).await;
        assert_eq!(told["executionId"], "e1");
    }
    let of = |action, reason: Option<&str>| {
        let reason = reason.map(Into::into);
        ("acme".to_owned(), "e1".to_owned(), action, reason)
    };
    let expected = [
        of(Action::Pause, Some("lunch")),
        of(Action::Resume, None),
        of(Action::Stop, None),
    ];
    assert_eq!(heard.all(), expected);
    node.stop().await;
}

/// Tasks that know what tokens are like by their names.
fn tasks() -> MockTasks {
    let mut tasks = MockTasks::new();
    tasks.expect_begin().returning(|tenant, begins| {
        assert_eq!(tenant.as_str(), "acme");
        let answer = |begin: eventflow_ports::inbound::Begin| match &*begin.token.0 {
            "held" => Err(Refusal::Contradiction("held by another".into())),
            "forged" => Err(Refusal::NotFound("no such task".into())),
            "away" => Err(Refusal::unavailable("no leader")),
            _ => Ok(Timestamp(60_000)),
        };
        at_once(begins.into_iter().map(answer).collect())
    });
    tasks.expect_results().returning(|tenant, results| {
        assert_eq!(tenant.as_str(), "acme");
        let answer = |result: eventflow_ports::inbound::TaskResult| match result.verdict {
            _ if &*result.token.0 == "late" => {
                ResultOutcome::Refused(Refusal::Contradiction("stopped".into()))
            }
            TaskVerdict::Heartbeat => ResultOutcome::Alive(Heartbeat {
                cancelled: true,
                lease_until: Timestamp(60_000),
            }),
            TaskVerdict::Complete(_) | TaskVerdict::Fail(_) => ResultOutcome::Accepted,
        };
        at_once(results.into_iter().map(answer).collect())
    });
    tasks
}

#[tokio::test]
async fn an_agent_begins_and_brings_its_results() {
    let servers = Servers::single();
    let mocks = Mocks {
        tasks: tasks(),
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    let until = "1970-01-01T00:01:00.000Z";
    for (body, expected) in [
        (
            json!({"token": "t", "begin": {"agent": "w"}}),
            json!({"granted": true, "leaseUntil": until}),
        ),
        (
            json!({"token": "held", "begin": {"agent": "w"}}),
            json!({"granted": false, "reason": "held by another"}),
        ),
        (
            json!({"token": "forged", "begin": {"agent": "w"}}),
            json!({"granted": false, "reason": "no such task"}),
        ),
        (
            json!({"token": "t", "complete": {"output": 1}}),
            json!({"status": 200}),
        ),
        (
            json!({"token": "t", "fail": {"error": {"title": "x"}}}),
            json!({"status": 200}),
        ),
        (
            json!({"token": "t", "heartbeat": {}}),
            json!({"cancelled": true, "leaseUntil": until}),
        ),
    ] {
        let told = somebody
            .told("eventflow.results.acme", &body.to_string())
            .await;
        assert_eq!(told, expected, "{body}");
    }
    for (body, status) in [
        (json!({"token": "away", "begin": {"agent": "w"}}), 503),
        (json!({"token": "late", "complete": {}}), 409),
        (json!({"token": "t", "begin": {"agent": "not a name"}}), 422),
    ] {
        let problem = somebody
            .told("eventflow.results.acme", &body.to_string())
            .await;
        assert_eq!(problem["status"], status, "{problem}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_node_is_told_itself_of_the_tasks_that_it_has_given_out() {
    let servers = Servers::single();
    let mocks = Mocks {
        tasks: tasks(),
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    let complete = json!({"token": "t", "complete": {"output": 1}}).to_string();
    let told = somebody
        .told("eventflow.results.acme.node-1", &complete)
        .await;
    assert_eq!(told, json!({"status": 200}));
    let another = somebody
        .nats
        .request("eventflow.results.acme.node-2", complete.clone().into())
        .await;
    let kind = another.map_err(|error| error.kind()).unwrap_err();
    assert_eq!(kind, RequestErrorKind::NoResponders);
    node.stop().await;
    let gone = somebody
        .nats
        .request("eventflow.results.acme.node-1", complete.into())
        .await;
    let kind = gone.map_err(|error| error.kind()).unwrap_err();
    assert_eq!(kind, RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn a_batch_is_answered_one_by_one_in_order() {
    let servers = Servers::single();
    let mocks = Mocks {
        tasks: tasks(),
        ..Mocks::default()
    };
    let node = Node::start(&servers, mocks).await;
    let somebody = Somebody::connect(&servers).await;
    let batch = json!({"results": [
        {"token": "held", "begin": {"agent": "w"}},
        {"token": "late", "complete": {"output": 1}},
        {"token": "wrong"},
        {"token": "t", "begin": {"agent": "w", "leaseFor": "90s"}},
        {"token": "t", "complete": {"output": 1}},
        {"token": "t", "heartbeat": {}},
    ]});
    let told = somebody
        .told("eventflow.results.acme", &batch.to_string())
        .await;
    let statuses: Vec<_> = told["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| (result["token"].as_str().unwrap(), &result["status"]))
        .collect();
    let expected = [
        ("held", &json!(409)),
        ("late", &json!(409)),
        ("wrong", &json!(422)),
        ("t", &json!(200)),
        ("t", &json!(200)),
        ("t", &json!(200)),
    ];
    assert_eq!(statuses, expected);
    assert_eq!(told["results"][0]["begin"]["granted"], false);
    assert_eq!(told["results"][3]["begin"]["granted"], true);
    assert_eq!(told["results"][5]["heartbeat"]["cancelled"], true);
    node.stop().await;
}

#[tokio::test]
async fn requests_are_shared_by_the_nodes_and_none_is_lost_when_one_leaves() {
    let servers = Servers::single();
    let (one, heard_by_one) = starting();
    let (two, heard_by_two) = starting();
    let mocks = |executions| Mocks {
        executions,
        ..Mocks::default()
    };
    let one = Node::start(&servers, mocks(one)).await;
    let two = Node::start(&servers, mocks(two)).await;
    let somebody = Somebody::connect(&servers).await;
    let body = r#"{"workflow":{"name":"order"}}"#;
    let mut asked = 0;
    while heard_by_one.all().is_empty() || heard_by_two.all().is_empty() {
        somebody.ask("eventflow.start.acme", &[], body).await;
        asked += 1;
        assert!(asked < 1_000, "one node gets nothing");
    }
    let asking = async {
        for _ in 0..200 {
            let answer = somebody.ask("eventflow.start.acme", &[], body).await;
            assert!(answer.payload.starts_with(b"{\"executionId\""));
        }
    };
    tokio::join!(asking, one.stop());
    let heard = heard_by_one.all().len() + heard_by_two.all().len();
    assert_eq!(heard, asked + 200);
    two.stop().await;
}
