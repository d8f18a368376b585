//! Branches side by side: all of them, and the fastest.

use serde_json::json;

use crate::{House, statuses, task};

#[tokio::test]
async fn both_checks_run_at_once_and_both_must_agree() -> anyhow::Result<()> {
    let house = House::open()?;
    let client = &house.client;
    let input = json!({"orderId": "o-1", "amount": 42});
    client.start("parallel-checks", "p-1", &input).await?;
    // Each is there before the other has ended.
    let fraud = client.lease("check-fraud").await?;
    let stock = client.lease("check-stock").await?;
    client.complete(&stock, &json!({"inStock": true})).await?;
    client.complete(&fraud, &json!({"risk": 0.1})).await?;
    let view = client.ended("p-1").await?;
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(view["output"], json!({"orderId": "o-1", "approved": true}));
    Ok(())
}

#[tokio::test]
async fn the_first_quote_wins_and_the_others_are_cancelled() -> anyhow::Result<()> {
    let house = House::open()?;
    let client = &house.client;
    client
        .start("fastest-quote", "q-1", &json!({"parcelKg": 3}))
        .await?;
    let north = client.lease("quote-north").await?;
    let south = client.lease("quote-south").await?;
    client.complete(&south, &json!({"price": 11})).await?;
    let view = client.ended("q-1").await?;
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(view["output"], json!({"carrier": "south", "price": 11}));
    let names = ["north", "south", "beforeWeGiveUp", "listPrice", "book"];
    assert_eq!(
        statuses(&view, &names)?,
        [
            "cancelled",
            "completed",
            "cancelled",
            "skipped",
            "completed"
        ]
    );
    // The loser learns of it, and its answer is not taken.
    let token = north["token"].as_str().unwrap_or_default();
    let (status, beat) = client
        .post(&format!("/v1/tasks/{token}/heartbeat"), &json!({}))
        .await?;
    assert_eq!((status, &beat["cancelled"]), (200, &json!(true)), "{beat}");
    let late = json!({"output": {"price": 9}});
    let (status, _) = client
        .post(&format!("/v1/tasks/{token}/complete"), &late)
        .await?;
    assert_eq!(status, 409);
    assert!(task(&view, "quote")?["endedAt"].is_string());
    Ok(())
}
