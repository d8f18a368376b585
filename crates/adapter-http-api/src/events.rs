//! Events from outside: `CloudEvents` 1.0 over HTTP, structured, binary or many in a batch.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use eventflow_wire::{
    envelope::{CLOUDEVENT, CLOUDEVENTS, Message},
    v1::triggers::{self, EventsAccepted},
};

use crate::{
    body::{Raw, answer, is_json, unsupported},
    state::Shared,
    trouble::Trouble,
};

/// Send events.
///
/// Starts what is bound to them: workflows with `schedule.on`, and those that `document.metadata.automationIds` binds to an
/// `automation_trigger_requested`. Send one event as `application/cloudevents+json`, or its data as `application/json`
/// with `ce-*` headers, or several as `application/cloudevents-batch+json`. The same `source` and `id` again start
/// nothing twice, so whatever was not answered can be sent again.
#[utoipa::path(
    post, path = "/v1/events", tag = "Executions", operation_id = "sendEvents",
    request_body(description = "An event, its data, or a batch.", content(
        (serde_json::Value = "application/cloudevents+json"), (serde_json::Value = "application/json"),
        (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
    )),
    responses((status = 202, description = "Accepted: what they start is durable.", body = EventsAccepted)),
)]
pub(crate) async fn accept(
    State(shared): State<Shared>,
    headers: HeaderMap,
    raw: Raw,
) -> Result<Response, Trouble> {
    let events = match raw.media.as_deref() {
        Some(CLOUDEVENTS) => triggers::batch(&raw.bytes)?,
        Some(media) if is_json(media) => {
            let headers = headers.iter();
            let texts =
                headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
            vec![triggers::event(Message::read(texts, &raw.bytes)?, None)?]
        }
        Some(_) | None => return Err(unsupported(CLOUDEVENT)),
    };
    let accepted = events.len();
    for event in events {
        shared.events().accept(shared.tenant(), event).await?;
    }
    Ok(answer(StatusCode::ACCEPTED, &EventsAccepted { accepted }))
}
