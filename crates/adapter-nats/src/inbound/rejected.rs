//! Setting aside what cannot be understood or is refused for good: nobody waits for an answer, somebody may look later.

use async_nats::jetstream::Message;
use bytes::Bytes;
use eventflow_ports::inbound::Refusal;
use eventflow_wire::v1::{
    Problem,
    rejected::{Original, Rejected},
};

use super::{Shared, pairs};

/// Room for what the server counts beside the body: the subject and headers.
const HEADER_BYTES_MAX: usize = 4 * 1024;

/// Publishes the message with the reason; it is stored when this returns.
pub(super) async fn set_aside(
    shared: &Shared,
    message: &Message,
    refusal: Refusal,
) -> Result<(), async_nats::Error> {
    let tenant = shared.subjects.tenant_of(&message.subject);
    tracing::warn!(subject = %message.subject, %refusal, "a message was set aside");
    let headers = pairs(message.headers.as_ref())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut rejected = Rejected {
        reason: refusal.to_string(),
        problem: Problem::from(refusal),
        original: Original::new(&message.subject, headers, &message.payload),
    };
    let room = shared.client.server_info().max_payload;
    let mut body = serde_json::to_vec(&rejected)?;
    if body.len() + HEADER_BYTES_MAX > room {
        rejected.original.body = None;
        body = serde_json::to_vec(&rejected)?;
    }
    let mut told = async_nats::HeaderMap::new();
    told.insert("content-type", "application/json");
    // The same delivery set aside twice is stored once.
    if let Ok(info) = message.info() {
        let id = format!("{} {}", info.stream, info.stream_sequence);
        told.insert("Nats-Msg-Id", id);
    }
    let subject = shared.subjects.rejected(tenant);
    let sent = shared
        .context
        .publish_with_headers(subject, told, Bytes::from(body));
    sent.await?.await?;
    Ok(())
}
