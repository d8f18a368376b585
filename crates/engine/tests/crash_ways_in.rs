//! Every port call of a service call and of an event fails once before and once after it took effect, and the process
//! dies there: at most one request reaches the site and one outcome is told, and every bound workflow is started once.

mod support;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use eventflow_adapter_memory::{Faults, Script, When};
use eventflow_adapter_system::SystemClock;
use eventflow_domain::{
    ExecutionId, Json,
    execution::Status,
    service_call::{CallErrorKind, CallResponse},
};
use eventflow_ports::inbound::{
    Calls, Events, ExecutionView, Executions, ExternalEvent, Format, Refusal, ServiceCall,
    Workflows,
};
use serde_json::json;
use support::{
    World,
    lives::Lives,
    requests::{PATIENCE, tenant},
};

const SITE: &str = "http://site/pay";
/// A look at what may not have ended.
const LOOK: Duration = Duration::from_millis(10);

fn world(on_sqlite: bool) -> World {
    let clock = Arc::new(SystemClock);
    if on_sqlite {
        World::sqlite(clock)
    } else {
        World::memory(clock)
    }
}

/// Runs `once` with nothing failing, then with each of its port calls failing in both ways.
async fn everywhere<T>(
    what: &str,
    on_sqlite: bool,
    once: impl AsyncFn(World, Faults) -> T,
    mut check: impl FnMut(T, &Faults),
) {
    let counting = Faults::new();
    check(once(world(on_sqlite), counting.clone()).await, &counting);
    let calls = counting.calls();
    println!("{what} (SQLite: {on_sqlite}): N = {calls}");
    let mut crashes = 0;
    for call in 1..=calls {
        for when in [When::Before, When::After] {
            let faults = Faults::new();
            faults.fail_at(call, when);
            check(once(world(on_sqlite), faults.clone()).await, &faults);
            crashes += usize::from(faults.hit().is_some());
        }
    }
    println!("  {crashes} crashes survived");
    assert!(crashes > 0, "nothing crashed");
}

/// What is tried again in the next life, once this one has crashed.
fn answered<T>(answer: Option<Result<T, Refusal>>) -> Option<T> {
    match answer {
        Some(Ok(answer)) => Some(answer),
        Some(Err(Refusal::Unavailable { .. })) | None => None,
        Some(Err(refusal)) => panic!("refused: {refusal}"),
    }
}

/// The ids of the public events of these types; a repeat has the id of the first.
fn told(world: &World, kinds: &[&str]) -> BTreeSet<Arc<str>> {
    let published = world.publisher.published().into_iter();
    let told = published.filter(|event| kinds.contains(&event.kind));
    told.map(|event| event.id).collect()
}

const ENDS: [&str; 4] = [
    "workflow_execution_completed",
    "workflow_execution_failed",
    "workflow_execution_cancelled",
    "workflow_execution_timed_out",
];

/// A call, asked for again and again until its outcome is told; and whatever it left behind.
async fn call(world: World, faults: Faults) -> (World, ExecutionView) {
    world.http.on(SITE, Script::respond(201, "paid"));
    let id = ExecutionId::derived(&tenant(), "service-call", &["c1"]);
    let asked = ServiceCall {
        id: "c1".into(),
        method: "POST".into(),
        url: SITE.into(),
        headers: Vec::new(),
        body: Some("{}".into()),
        timeout: None,
        correlation: None,
        causation: None,
        traceparent: None,
    };
    let mut lives = Lives::of(world, faults.clone());
    let began = Instant::now();
    loop {
        assert!(
            began.elapsed() < PATIENCE,
            "no end after {} lives: {:?}",
            lives.count,
            faults.hit()
        );
        lives.revive().await;
        let turn = async |engine: &eventflow_engine::Engine| {
            engine.call(&tenant(), asked.clone()).await?;
            engine.wait(&tenant(), &id, LOOK).await
        };
        let view = answered(lives.live(turn).await);
        if let Some(view) = view.filter(|view| view.status.is_ended())
            && !told(&lives.world, &ENDS).is_empty()
        {
            return (lives.world.clone(), view);
        }
        // Also where it is refused at once: what else there is to do is done meanwhile.
        tokio::time::sleep(LOOK).await;
    }
}

async fn calls_crash_everywhere(on_sqlite: bool) {
    let (mut completed, mut interrupted) = (0, 0);
    everywhere("service call", on_sqlite, call, |(world, view), faults| {
        let requests = world.http.requests().len();
        assert_eq!(told(&world, &ENDS).len(), 1, "{:?}", faults.hit());
        if view.status == Status::Completed {
            let output = view.output.expect("an output");
            let response: CallResponse = output.read().expect("a response");
            assert_eq!((response.status, &*response.body_snippet), (201, "paid"));
            assert_eq!(requests, 1, "{:?}", faults.hit());
            completed += 1;
        } else {
            let error = view.error.expect("an error");
            assert_eq!(error.detail.as_deref(), Some("interrupted"));
            let kind = error.call.map(|call| call.kind);
            assert_eq!(kind, Some(CallErrorKind::Network));
            assert!(requests <= 1, "{requests} requests: {:?}", faults.hit());
            interrupted += 1;
        }
    })
    .await;
    println!("  {completed} completed, {interrupted} interrupted");
    assert!(completed > 0 && interrupted > 0);
}

#[tokio::test]
async fn a_service_call_is_sent_at_most_once_on_memory() {
    calls_crash_everywhere(false).await;
}

#[tokio::test]
async fn a_service_call_is_sent_at_most_once_on_sqlite() {
    calls_crash_everywhere(true).await;
}

/// An event that two workflows are bound to, sent again and again until it is accepted.
async fn event(world: World, faults: Faults) -> (World, Vec<ExecutionId>) {
    let document = |name: &str| {
        json!({
            "document": {
                "dsl": "1.0.3", "namespace": "default", "name": name, "version": "1.0.0",
                "metadata": {"automationIds": ["auto_1"]},
            },
            "do": [{"say": {"set": {"said": "so"}}}],
        })
        .to_string()
    };
    let event = ExternalEvent {
        source: "/platform".into(),
        id: "e1".into(),
        kind: "automation_trigger_requested".into(),
        data: Json::of(&json!({"automation_id": "auto_1"})),
        correlation: None,
        traceparent: None,
    };
    let mut lives = Lives::of(world, faults);
    let began = Instant::now();
    loop {
        assert!(
            began.elapsed() < PATIENCE,
            "no end after {} lives",
            lives.count
        );
        lives.revive().await;
        let turn = async |engine: &eventflow_engine::Engine| {
            let definitions = engine.definitions();
            for name in ["one", "two"] {
                let text = document(name);
                let text = text.as_bytes();
                definitions.register(&tenant(), text, Format::Json).await?;
            }
            let started = engine.accept(&tenant(), event.clone()).await?;
            let mut ended = true;
            for id in &started {
                let view = engine.wait(&tenant(), id, LOOK).await?;
                ended &= view.status.is_ended();
            }
            Ok((started, ended))
        };
        if let Some((started, true)) = answered(lives.live(turn).await)
            && told(&lives.world, &ENDS).len() == started.len()
        {
            return (lives.world.clone(), started);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn events_crash_everywhere(on_sqlite: bool) {
    everywhere("event", on_sqlite, event, |(world, started), faults| {
        let names = started.iter().collect::<BTreeSet<_>>();
        assert_eq!(names.len(), 2, "{:?}", faults.hit());
        let requested = told(&world, &["workflow_execution_requested"]);
        assert_eq!(requested.len(), 2, "{:?}", faults.hit());
    })
    .await;
}

#[tokio::test]
async fn an_event_starts_each_bound_workflow_once_on_memory() {
    events_crash_everywhere(false).await;
}

#[tokio::test]
async fn an_event_starts_each_bound_workflow_once_on_sqlite() {
    events_crash_everywhere(true).await;
}
