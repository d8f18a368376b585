//! Errors that are caught, tried again and compensated, and time that passes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{House, place, task};

const INPUT: fn() -> Value = || json!({"orderId": "o-1", "amount": 42});

#[tokio::test]
async fn a_payment_is_tried_again_while_the_bank_is_out_of_order() -> anyhow::Result<()> {
    let house = House::open()?;
    let client = &house.client;
    client
        .start("payment-with-compensation", "p-1", &INPUT())
        .await?;
    let reserve = client.lease("reserve").await?;
    client
        .complete(&reserve, &json!({"reservationId": "r-1"}))
        .await?;
    let first = client.lease("bank").await?;
    client
        .fail(&first, &json!({"title": "Out of order"}))
        .await?;
    let second = client.lease("bank").await?;
    assert_ne!(first["idempotencyKey"], second["idempotencyKey"]);
    client
        .complete(&second, &json!({"paymentId": "p-1"}))
        .await?;
    let view = client.ended("p-1").await?;
    assert_eq!(
        view["output"],
        json!({"status": "paid", "orderId": "o-1", "payment": {"paymentId": "p-1"}})
    );
    assert_eq!(task(&view, "pay")?["attempt"], 2);
    let history = client.history("p-1").await?;
    assert!(
        place(&history, "retry_scheduled", "/do/1/pay")?
            < place(&history, "timer_fired", "/do/1/pay")?
    );
    Ok(())
}

#[tokio::test]
async fn a_refused_payment_is_compensated_at_once() -> anyhow::Result<()> {
    let house = House::open()?;
    let client = &house.client;
    client
        .start("payment-with-compensation", "p-1", &INPUT())
        .await?;
    let reserve = client.lease("reserve").await?;
    client
        .complete(&reserve, &json!({"reservationId": "r-1"}))
        .await?;
    let bank = client.lease("bank").await?;
    client
        .fail(&bank, &json!({"title": "Card expired", "status": 402}))
        .await?;
    let release = client.lease("release").await?;
    assert_eq!(release["input"], json!({"reservationId": "r-1"}));
    client
        .complete(&release, &json!({"released": true}))
        .await?;
    let view = client.ended("p-1").await?;
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(
        view["output"],
        json!({"status": "refused", "orderId": "o-1", "reason": "Card expired"})
    );
    let history = client.history("p-1").await?;
    assert!(
        place(&history, "retry_scheduled", "/do/1/pay").is_err(),
        "402 is not tried again"
    );
    place(&history, "error_caught", "/do/1/pay")?;
    Ok(())
}

#[tokio::test]
async fn a_reminder_lets_time_pass() -> anyhow::Result<()> {
    let house = House::open()?;
    let began = Instant::now();
    let input = json!({"cart": "c-1", "patience": "PT0.3S"});
    let view = house.client.run("reminder", &input).await?;
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(view["output"]["cart"], "c-1");
    assert_eq!(view["output"]["closed"], true, "{view}");
    assert!(began.elapsed() >= Duration::from_millis(300), "it waited");
    Ok(())
}
