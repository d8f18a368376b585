//! Operations: what a running service says of itself.

use std::collections::BTreeMap;

use eventflow_domain::{Epoch, PartitionId, Position};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /healthz` and `GET /readyz` when all is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `ready`.
    #[schema(example = "ready")]
    pub status: String,
}

/// `GET /v1/system`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct System {
    /// Of the service.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// Where it keeps everything.
    #[schema(example = "sqlite")]
    pub backend: String,
    /// Every partition that this node knows.
    pub partitions: Vec<Partition>,
    /// Every limit by name, with its unit at the end of the name.
    pub limits: BTreeMap<String, u64>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Partition {
    /// From 0.
    #[schema(value_type = u16)]
    pub id: PartitionId,
    /// The node that writes it; `null` while nobody does.
    pub leader: Option<String>,
    /// The reign of that node.
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    /// The last record of its journal.
    #[schema(value_type = u64)]
    pub position: Position,
    /// Why nobody writes it, where nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
