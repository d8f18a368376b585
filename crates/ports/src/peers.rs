//! Requests from node to node: to whoever leads a partition.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::PartitionId;

use crate::Source;

/// Asks the leader of a partition, and answers for the partitions that this node leads.
///
/// 1. A request MUST reach the one node that answers for its partition, whole and unchanged, up to
///    [`MESSAGE_BYTES_MAX`]; so MUST its answer.
/// 2. Where nobody answers for the partition, `ask` MUST fail with `Nobody`, soon and without having been heard.
/// 3. Where no answer comes within `within`, `ask` MUST fail with `Unavailable`: maybe it was carried out.
/// 4. Once [`Answering`] is dropped, no further request MUST reach its responder, and those that it has heard MUST fail
///    with `Gone`, soon where the way back is open: whoever asked need not wait for what will not come.
/// 5. Requests MUST be answered independently of each other: a slow one holds up no other.
/// 6. A request or answer above [`MESSAGE_BYTES_MAX`] MUST fail with `TooLarge`, and nothing is carried out for a
///    request that is.
#[async_trait]
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Peers: Send + Sync {
    /// Asks whoever answers for the partition.
    async fn ask(
        &self,
        partition: PartitionId,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, PeerError>;
    /// Answers for a partition from now on, as long as what is returned is kept.
    async fn answer(
        &self,
        partition: PartitionId,
        responder: Arc<dyn Responder>,
    ) -> Result<Answering, PeerError>;
}

/// Whoever answers requests for a partition.
#[async_trait]
pub trait Responder: Send + Sync {
    /// The answer to a request.
    async fn respond(&self, request: Bytes) -> Bytes;
}

/// Ends the answering when it is dropped; what it holds is the adapter's.
pub struct Answering(pub Box<dyn Send + Sync>);

/// The largest request or answer: the largest view or page of a history, with room for both of the largest values.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No node answers for this partition now: it was heard by nobody.
    #[error("no node leads this partition now")]
    Nobody,
    /// Whoever heard it answers for this partition no more: maybe it was carried out, and its successor can be asked.
    #[error("the node that was asked leads this partition no more")]
    Gone,
    /// Maybe it was carried out: the same request may be repeated.
    #[error("the node that leads this partition did not answer: {0}")]
    Unavailable(#[source] Source),
    /// It was not carried out, or its answer cannot be brought.
    #[error("a message between nodes may have at most {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
}
