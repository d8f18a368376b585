//! Pause, resume, stop and explain, with crashes in between.

use serde_json::json;

use crate::{House, kinds};

const OPERATOR: &str = "the shop is closed";

#[tokio::test]
async fn a_paused_order_stays_paused_over_a_crash_and_goes_on_when_resumed() -> anyhow::Result<()> {
    let mut house = House::open()?;
    let client = house.client.clone();
    client.start("order", "order-1", &house.order()).await?;
    let charge = client.lease("charge").await?;
    let control = async |action: &str| {
        let path = format!("/v1/executions/order-1/{action}");
        client.post(&path, &json!({"reason": OPERATOR})).await
    };
    let (status, view) = control("pause").await?;
    assert_eq!(
        (status, &view["status"]),
        (202, &json!("suspending")),
        "{view}"
    );
    // What has begun may end, over a crash too.
    house.service.kill();
    house.service.restart();
    client
        .complete(&charge, &json!({"paymentId": "p-1"}))
        .await?;
    let view = client.get("/v1/executions/order-1").await?;
    assert_eq!(view["status"], "suspended");
    house.service.kill();
    house.service.restart();
    let explained = client.get("/v1/executions/order-1/explain").await?;
    assert_eq!(explained["waitsFor"][0]["cause"], "resume", "{explained}");
    let nothing = json!({"agent": "tester", "capabilities": ["ship"], "max": 1, "wait": "200ms"});
    let (_, leased) = client.post("/v1/tasks/lease", &nothing).await?;
    assert_eq!(leased["tasks"], json!([]), "nothing new begins");

    assert_eq!(control("resume").await?.0, 202);
    let ship = client.lease("ship").await?;
    client
        .complete(&ship, &json!({"trackingId": "t-1"}))
        .await?;
    let view = client.ended("order-1").await?;
    assert_eq!(view["status"], "completed", "{view}");
    let events = client.events("order-1", None).await?.rest().await?;
    let told: Vec<&str> = kinds(&events)
        .into_iter()
        .filter(|kind| kind.contains("suspended") || kind.contains("resumed"))
        .collect();
    assert_eq!(
        told,
        ["workflow_execution_suspended", "workflow_execution_resumed"]
    );
    let history = client.history("order-1").await?;
    let asked = history
        .iter()
        .find(|event| event["type"] == "execution_pause_requested");
    assert_eq!(
        asked.map(|event| &event["data"]["reason"]),
        Some(&json!(OPERATOR))
    );
    Ok(())
}

#[tokio::test]
async fn a_stopped_order_is_cancelled_for_good() -> anyhow::Result<()> {
    let mut house = House::open()?;
    let client = house.client.clone();
    client.start("order", "order-1", &house.order()).await?;
    let charge = client.lease("charge").await?;
    let mut live = client.events("order-1", None).await?;
    assert!(live.next().await?.is_some(), "somebody watches");
    let stop = "/v1/executions/order-1/stop";
    let (status, view) = client.post(stop, &json!({})).await?;
    assert_eq!(
        (status, &view["status"]),
        (202, &json!("cancelled")),
        "{view}"
    );
    let events = live.rest().await?;
    assert_eq!(kinds(&events).last(), Some(&"workflow_execution_cancelled"));
    house.service.kill();
    house.service.restart();
    let token = charge["token"].as_str().unwrap_or_default();
    let late = json!({"output": {"paymentId": "p-1"}});
    let (status, problem) = client
        .post(&format!("/v1/tasks/{token}/complete"), &late)
        .await?;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(
        client.post(stop, &json!({})).await?.0,
        202,
        "again is harmless"
    );
    let (status, problem) = client
        .post("/v1/executions/order-1/resume", &json!({}))
        .await?;
    assert_eq!(status, 409, "{problem}");
    Ok(())
}
