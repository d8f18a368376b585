//! What a message says of itself, as its headers.

use async_nats::{HeaderMap, HeaderName};
use eventflow_wire::envelope::Envelope;

/// The headers of binary mode.
pub(crate) fn of(envelope: &Envelope) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in envelope.headers() {
        // Not `name` itself: that would be copied for each message.
        headers.insert(HeaderName::from_static(name), value.into_owned());
    }
    headers
}
