//! Every workflow that ships with the service, run by the real service as its comments say.

mod beside;
mod catching;
mod steered;

use anyhow::{Context, ensure};
use eventflow_tests::{Background, Client, Service, events::Event, verified};
use reqwest::Method;
use serde_json::{Value, json};

const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

/// A service with the shipped workflows, gone with the test, which leaves a store in which every invariant holds.
struct House {
    service: Service,
    client: Client,
    directory: tempfile::TempDir,
}

impl House {
    fn open() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let service = Service::with_fixtures(directory.path());
        let client = Client::new(&service.url, PATIENCE)?;
        Ok(Self {
            service,
            client,
            directory,
        })
    }

    /// An order whose inventory is the service itself.
    fn order(&self) -> Value {
        json!({"orderId": "o-1", "amount": 42, "inventoryUrl": format!("{}/healthz", self.service.url)})
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.service.kill();
        // A test that fails says why itself.
        if !std::thread::panicking() {
            verified(self.directory.path(), &[]);
        }
    }
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

fn task<'a>(view: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let tasks = view["tasks"].as_array().context("a view has tasks")?;
    let named = tasks.iter().find(|task| task["name"] == name);
    named.with_context(|| format!("there is no task {name} in {view}"))
}

fn statuses<'a>(view: &'a Value, names: &[&str]) -> anyhow::Result<Vec<&'a str>> {
    let status = |name: &&str| Ok(task(view, name)?["status"].as_str().unwrap_or_default());
    names.iter().map(status).collect()
}

/// The place of an event in a history.
fn place(history: &[Value], kind: &str, task: &str) -> anyhow::Result<usize> {
    let found = history
        .iter()
        .position(|event| event["type"] == kind && event["data"]["task"] == task);
    found.with_context(|| format!("there is no {kind} of {task} in {history:?}"))
}

#[tokio::test]
async fn an_order_is_checked_charged_and_shipped() -> anyhow::Result<()> {
    let house = House::open()?;
    let client = &house.client;
    client.start("order", "order-1", &house.order()).await?;
    // From before the agents to the end, live.
    let mut live = client.events("order-1", None).await?;
    let first = live.next().await?.context("the stream has begun")?;
    assert_eq!(first.kind, "workflow_execution_requested");

    let charge = client.lease("charge").await?;
    assert_eq!(charge["input"], json!({"orderId": "o-1", "amount": 42}));
    assert_eq!(charge["idempotencyKey"], "order-1:/do/1/charge:1");
    client
        .complete(&charge, &json!({"paymentId": "p-1"}))
        .await?;
    let ship = client.lease("ship").await?;
    client
        .complete(&ship, &json!({"trackingId": "t-1"}))
        .await?;

    let view = client.ended("order-1").await?;
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(
        view["output"],
        json!({"orderId": "o-1", "status": "confirmed", "amount": 42,
               "payment": {"paymentId": "p-1"}, "shipment": {"trackingId": "t-1"}})
    );
    let checked = task(&view, "checkInventory")?;
    assert_eq!(checked["output"]["inventory"], json!({"status": "ok"}));
    assert_eq!(task(&view, "charge")?["agent"], "tester");
    assert_eq!(
        view["progress"],
        json!({"completed": 4, "running": 0, "pending": 0, "total": 4})
    );

    let events = live.rest().await?;
    let per_task = ["task_scheduled", "task_started", "task_completed"];
    let expected: Vec<&str> = ["workflow_execution_started"]
        .into_iter()
        .chain([per_task, per_task, per_task].concat())
        // `set` is done at once.
        .chain(["task_completed", "workflow_execution_completed"])
        .collect();
    assert_eq!(kinds(&events), expected);
    for event in &events {
        assert_eq!(event.data()["executionId"], "order-1");
        assert_eq!(event.data()["workflow"]["name"], "order");
        assert_eq!(event.data()["sequence"].to_string(), event.id);
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_that_was_read() -> anyhow::Result<()> {
    let house = House::open()?;
    let client = &house.client;
    client.start("order", "order-1", &house.order()).await?;
    let mut broken_off = client.events("order-1", None).await?;
    let mut read = Vec::new();
    while read
        .last()
        .is_none_or(|event: &Event| event.kind != "task_completed")
    {
        read.push(broken_off.next().await?.context("the order waits for us")?);
    }
    drop(broken_off);
    let last = read.last().context("something was read")?.id.clone();

    // One reader comes back while it runs, another after the end: both get the same, and nothing twice.
    let mut resumed = client.events("order-1", Some(&last)).await?;
    for capability in ["charge", "ship"] {
        let leased = client.lease(capability).await?;
        client.complete(&leased, &json!(capability)).await?;
    }
    let first = resumed.next().await?.context("the stream goes on")?;
    let live = [vec![first], resumed.rest().await?].concat();
    client.ended("order-1").await?;
    let late = client.events("order-1", Some(&last)).await?.rest().await?;
    assert_eq!(live, late);
    let whole = client.events("order-1", None).await?.rest().await?;
    assert_eq!(whole, [read, late].concat());
    assert_eq!(kinds(&whole).last(), Some(&"workflow_execution_completed"));

    // Who has seen the end is told so, instead of an empty stream to read again and again.
    let end = whole.last().context("it has an end")?.id.clone();
    let response = client
        .request(Method::GET, "/v1/executions/order-1/events")
        .header("last-event-id", end)
        .send()
        .await?;
    assert_eq!(response.status(), 204);
    Ok(())
}

#[tokio::test]
async fn any_program_is_an_agent() -> anyhow::Result<()> {
    let house = House::open()?;
    let agent = |capability: &str, script: &str| {
        let arguments = [
            "agent",
            "exec",
            "--name",
            "shell",
            "--capability",
            capability,
        ];
        let command = ["--", "sh", "-c", script];
        Background::start(
            &mut house
                .service
                .eventflow_command(&[&arguments[..], &command].concat()),
        )
    };
    // One reads what it was given, the other ignores it, as in the workflow's comments.
    let _charge = agent("charge", r#"read -r task; echo "{\"paid\": $task}""#);
    let _ship = agent("ship", r#"echo "{\"trackingId\": \"t-1\"}""#);
    let view = house.client.run("order", &house.order()).await?;
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(
        view["output"]["payment"],
        json!({"paid": {"orderId": "o-1", "amount": 42}})
    );
    assert_eq!(view["output"]["shipment"], json!({"trackingId": "t-1"}));
    assert_eq!(task(&view, "ship")?["agent"], "shell");
    Ok(())
}

#[tokio::test]
async fn a_clear_failure_is_clear_everywhere() -> anyhow::Result<()> {
    let house = House::open()?;
    let input = json!({"sku": "anvil", "wanted": 3});
    let view = house.client.run("clear-failure", &input).await?;
    let error = json!({
        "type": "https://eventflow.example/errors/out-of-stock",
        "title": "Out of stock",
        "status": 409,
        "detail": "wanted 3 of anvil, 0 in stock: order less or later",
        "instance": "/do/1/refuse",
    });
    assert_eq!(view["status"], "faulted");
    assert_eq!(view["output"], Value::Null);
    assert_eq!(view["error"], error);
    assert_eq!(task(&view, "refuse")?["error"], error);
    assert_eq!(
        statuses(&view, &["lookUp", "refuse"])?,
        ["completed", "faulted"]
    );

    let id = view["executionId"].as_str().context("it has an id")?;
    let events = house.client.events(id, None).await?.rest().await?;
    let [.., task_failed, failed] = &events[..] else {
        anyhow::bail!("too few events: {events:?}")
    };
    assert_eq!(task_failed.kind, "task_failed");
    assert_eq!(task_failed.data()["task"], "/do/1/refuse");
    assert_eq!(failed.kind, "workflow_execution_failed");
    for event in [task_failed, failed] {
        assert_eq!(event.data()["error"], error);
    }
    let list = house.client.get("/v1/executions?status=faulted").await?;
    assert_eq!(list["executions"][0]["error"], error);
    Ok(())
}

/// The way an order of this input goes: the case that was recorded, the view, and the history.
async fn decided(house: &House, input: Value) -> anyhow::Result<(String, Value, Vec<Value>)> {
    let view = house.client.run("conditional", &input).await?;
    ensure!(view["status"] == "completed", "{view}");
    let id = view["executionId"].as_str().context("it has an id")?;
    let history = house.client.history(id).await?;
    let chosen = &history[place(&history, "branch_selected", "/do/1/byAmount")?];
    let case = chosen["data"]["case"]
        .as_str()
        .context("a case")?
        .to_owned();
    Ok((case, view, history))
}

#[tokio::test]
async fn each_case_is_taken_recorded_and_the_others_are_skipped() -> anyhow::Result<()> {
    const WAYS: [&str; 3] = ["approve", "review", "refuse"];
    let house = House::open()?;

    let (case, view, history) = decided(&house, json!({"amount": 420, "coupon": "TEN"})).await?;
    assert_eq!(case, "large");
    assert_eq!(
        view["output"],
        json!({"decision": "review", "amount": 410, "reason": "410 is more than 100"})
    );
    assert_eq!(statuses(&view, &WAYS)?, ["skipped", "completed", "skipped"]);
    assert_eq!(task(&view, "applyCoupon")?["status"], "completed");
    assert!(place(&history, "task_skipped", "/do/0/applyCoupon").is_err());

    let (case, view, history) = decided(&house, json!({"amount": 42})).await?;
    assert_eq!(case, "default");
    assert_eq!(
        view["output"],
        json!({"decision": "approved", "amount": 42})
    );
    assert_eq!(statuses(&view, &WAYS)?, ["completed", "skipped", "skipped"]);
    assert_eq!(task(&view, "applyCoupon")?["status"], "skipped");
    place(&history, "task_skipped", "/do/0/applyCoupon")?;

    // The coupon makes nothing of it: what the first task did decides the second.
    let (case, view, _) = decided(&house, json!({"amount": 10, "coupon": "TEN"})).await?;
    assert_eq!(case, "nothing");
    assert_eq!(view["output"], json!({"decision": "refused", "amount": 0}));
    assert_eq!(statuses(&view, &WAYS)?, ["skipped", "skipped", "completed"]);
    Ok(())
}

fn busy() -> Value {
    json!({"type": "https://example.com/errors/busy", "title": "Busy", "detail": "come back later"})
}

#[tokio::test]
async fn a_task_that_fails_twice_succeeds_at_its_third_attempt() -> anyhow::Result<()> {
    let house = House::open()?;
    let client = &house.client;
    client
        .start("retrying", "retry-1", &json!({"job": 7}))
        .await?;
    for attempt in 1..=2 {
        let leased = client.lease("flaky").await?;
        assert_eq!(leased["attempt"], attempt);
        client.fail(&leased, &busy()).await?;
        let view = client.get("/v1/executions/retry-1").await?;
        // Why it is not done yet is there to see meanwhile.
        assert_eq!(task(&view, "attempt")?["error"]["title"], "Busy", "{view}");
    }
    let leased = client.lease("flaky").await?;
    assert_eq!(leased["idempotencyKey"], "retry-1:/do/0/attempt:3");
    assert_eq!(leased["input"], json!({"job": 7}));
    client.complete(&leased, &json!("done")).await?;

    let view = client.ended("retry-1").await?;
    assert_eq!(view["status"], "completed");
    assert_eq!(view["output"], json!({"result": "done"}));
    let attempt = task(&view, "attempt")?;
    assert_eq!(
        (&attempt["attempt"], &attempt["error"]),
        (&json!(3), &Value::Null)
    );

    let events = client.events("retry-1", None).await?.rest().await?;
    let retried: Vec<_> = events
        .iter()
        .filter(|event| event.kind == "task_retried")
        .collect();
    // 0.2 s, then 0.4 s, each with up to 0.1 s more.
    for (event, (attempt, delays_ms)) in retried.iter().zip([(1, 200..=300), (2, 400..=500)]) {
        assert_eq!(event.data()["attempt"], attempt);
        assert_eq!(event.data()["error"]["detail"], "come back later");
        let delay_ms = event.data()["retryInMs"].as_u64().context("a delay")?;
        assert!(delays_ms.contains(&delay_ms), "{delay_ms} ms");
    }
    assert_eq!(retried.len(), 2);
    Ok(())
}

#[tokio::test]
async fn spent_retries_fault_the_execution() -> anyhow::Result<()> {
    let house = House::open()?;
    let client = &house.client;
    client.start("retrying", "retry-2", &Value::Null).await?;
    for attempt in 1..=5 {
        let leased = client.lease("flaky").await?;
        assert_eq!(leased["attempt"], attempt);
        client.fail(&leased, &busy()).await?;
    }
    let view = client.ended("retry-2").await?;
    assert_eq!(view["status"], "faulted");
    assert_eq!(view["error"]["type"], "https://example.com/errors/busy");
    assert_eq!(view["error"]["instance"], "/do/0/attempt");
    assert_eq!(task(&view, "attempt")?["attempt"], 5);
    assert_eq!(task(&view, "report")?["status"], "skipped");
    let history = client.history("retry-2").await?;
    let retries = history
        .iter()
        .filter(|event| event["type"] == "retry_scheduled");
    assert_eq!(retries.count(), 4);
    Ok(())
}

#[tokio::test]
async fn a_step_of_a_graph_begins_as_soon_as_what_it_needs_is_done() -> anyhow::Result<()> {
    let house = House::open()?;
    let client = &house.client;
    let input = json!({"left": "l", "right": "r", "reader": "Ada"});
    client.start("n-shape", "n-1", &input).await?;
    let (one, two) = (client.lease("fetch").await?, client.lease("fetch").await?);
    let (a, b) = if one["task"] == "/steps/0" {
        (one, two)
    } else {
        (two, one)
    };
    assert_eq!(
        (&a["input"]["from"], &b["input"]["from"]),
        (&json!("l"), &json!("r"))
    );

    client.complete(&a, &json!({"text": "left text"})).await?;
    let c = client.lease("summarise").await?;
    assert_eq!(c["input"], json!({"text": "left text"}));
    client.complete(&c, &json!({"summary": "short"})).await?;
    let view = client.get("/v1/executions/n-1").await?;
    assert_eq!(
        statuses(&view, &["a", "b", "c", "d"])?,
        ["completed", "running", "completed", "pending"]
    );

    client.complete(&b, &json!({"text": "right text"})).await?;
    let d = client.lease("merge").await?;
    assert_eq!(
        d["input"],
        json!({"texts": ["left text", "right text"], "title": "Merged for Ada"})
    );
    client.complete(&d, &json!({"pages": 2})).await?;
    let view = client.ended("n-1").await?;
    assert_eq!(view["status"], "completed");
    assert_eq!(
        view["output"],
        json!({"summary": "short", "merged": {"pages": 2}})
    );

    let history = client.history("n-1").await?;
    let started = |step| place(&history, "task_started", step);
    let completed = |step| place(&history, "task_completed", step);
    assert!(
        started("/steps/2")? < completed("/steps/1")?,
        "c waited for b"
    );
    for needed in ["/steps/0", "/steps/1"] {
        let scheduled = place(&history, "task_scheduled", "/steps/3")?;
        assert!(completed(needed)? < scheduled, "d came before {needed}");
    }
    Ok(())
}

#[tokio::test]
async fn a_greeting_completes_at_once() -> anyhow::Result<()> {
    let house = House::open()?;
    let view = house
        .client
        .run("greeting", &json!({"name": "Ada"}))
        .await?;
    assert_eq!(view["status"], "completed");
    assert_eq!(
        view["output"],
        json!({"greeting": "Hello, Ada!", "length": 11})
    );
    let view = house.client.run("greeting", &json!({})).await?;
    assert_eq!(view["output"]["greeting"], "Hello, world!");
    Ok(())
}

#[tokio::test]
async fn who_prefers_to_wait_waits_no_longer_than_that() -> anyhow::Result<()> {
    let house = House::open()?;
    let body = json!({"workflow": {"name": "order"}, "input": house.order()});
    let start = |key: &str, body: &Value| {
        let request = house.client.request(Method::POST, "/v1/executions");
        request
            .header("prefer", "wait=1")
            .header("idempotency-key", key)
            .json(body)
            .send()
    };
    // Nobody charges it, so it cannot end.
    let response = start("key-1", &body).await?;
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str()?.to_owned();
    let summary: Value = response.json().await?;
    assert_eq!(summary["status"], "running");
    let view = house.client.get(&location).await?;
    assert_eq!(view["executionId"], summary["executionId"]);

    // The same key is the same execution, unless it is to be another one.
    let again: Value = start("key-1", &body).await?.json().await?;
    assert_eq!(again["executionId"], summary["executionId"]);
    let other = json!({"workflow": {"name": "order"}, "input": {"orderId": "o-2"}});
    let contradiction = start("key-1", &other).await?;
    assert_eq!(contradiction.status(), 409);
    assert_eq!(
        contradiction.headers()["content-type"],
        "application/problem+json"
    );
    Ok(())
}

#[tokio::test]
async fn a_history_is_chained_by_hash() -> anyhow::Result<()> {
    let house = House::open()?;
    let view = house
        .client
        .run("conditional", &json!({"amount": 1}))
        .await?;
    let id = view["executionId"].as_str().context("it has an id")?;
    let history = house.client.history(id).await?;
    let mut hash = eventflow_domain::Digest([0; 32]);
    for (event, sequence) in history.iter().zip(1..) {
        assert_eq!(event["sequence"], sequence);
        let kind = event["type"].as_str().context("a type")?;
        let written = eventflow_domain::Json::of(&json!({ kind: event["data"] }));
        hash = eventflow_domain::record::history_hash(
            &hash,
            eventflow_domain::Sequence(sequence),
            &written,
        );
        assert_eq!(event["hash"], hash.to_string(), "{event}");
    }
    assert_eq!(
        history.last().context("not empty")?["type"],
        "execution_completed"
    );
    Ok(())
}
