//! A queued task as a message: what agents read in the body, what the engine needs beside it in the headers.

use std::str::FromStr;

use async_nats::{HeaderMap, Message, header::NATS_MESSAGE_ID};
use bytes::Bytes;
use eventflow_domain::{NodeName, PartitionId, TaskReference, Value, WorkflowId};
use eventflow_ports::{OfferedAttempt, TaskOffer};
use eventflow_wire::{
    envelope::Envelope,
    v1::{
        Time,
        tasks::{NODE_HEADER, QueuedTask},
    },
};

use crate::{bucket::token, headers};

/// The partition of the task's execution: who begins it for an agent asks there.
const PARTITION: &str = "eventflow-partition";
/// The type of the message, beside the lifecycle events' types.
const KIND: &str = "task_queued";
/// What a message takes beside its input, its token and its task's pointer: names of at most 64 bytes, and fixed text.
const REST_BYTES_MAX: usize = 4 * 1024;
/// How often the pointer stands in a message, and how much longer it may get there.
const POINTER_BYTES_FACTOR: usize = 24;

/// The most that a task takes as a message, headers included.
pub(super) fn bytes_max(offer: &TaskOffer) -> usize {
    let input = offer.input.json().map_or(0, |input| input.as_str().len());
    let trace = offer.traceparent.as_ref().map_or(0, |trace| trace.len());
    let pointer = offer.task.pointer.len() + 12 * offer.task.iteration.len();
    let rest = offer.token.len() + 2 * trace + pointer * POINTER_BYTES_FACTOR;
    input + rest + REST_BYTES_MAX
}

/// What makes a message one and the same: the server drops another one with this id for two minutes.
pub(super) fn id(attempt: &OfferedAttempt, dispatch: u32) -> String {
    let OfferedAttempt {
        tenant,
        execution,
        task,
        attempt,
        ..
    } = attempt;
    let task = token(&task.to_string());
    format!("{tenant}/{execution}/{task}/{attempt}/{dispatch}")
}

/// The headers and the body; nothing where the task's input is not in memory.
pub(super) fn written(
    offer: TaskOffer,
    dispatch: u32,
    node: Option<&NodeName>,
) -> Option<(HeaderMap, Bytes)> {
    let id = id(&offer.offered(), dispatch);
    let WorkflowId {
        namespace, name, ..
    } = &offer.workflow;
    let envelope = Envelope {
        id: Some(id.as_str().into()),
        source: Some(format!("/eventflow/{}/{namespace}/{name}", offer.tenant).into()),
        kind: Some(KIND.into()),
        subject: Some(offer.execution.as_str().into()),
        time: Some(Time(offer.ready_at)),
        tenant: Some(offer.tenant.clone()),
        partition_key: Some(offer.execution.as_str().into()),
        traceparent: offer.traceparent.clone(),
        ..Envelope::default()
    };
    let mut headers = headers::of(&envelope);
    headers.insert(NATS_MESSAGE_ID, id);
    headers.insert(PARTITION, offer.partition.to_string());
    if let Some(node) = node {
        headers.insert(NODE_HEADER, node.as_str());
    }
    let body = serde_json::to_vec(&QueuedTask::of(offer)?).ok()?;
    Some((headers, body.into()))
}

/// The task of a message; what is wrong with it where it was written by somebody else.
pub(super) fn read(message: &Message) -> Result<TaskOffer, String> {
    let task: QueuedTask =
        serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
    let headers = message.headers.as_ref().ok_or("it has no headers")?;
    let Time(ready_at) = header(headers, "ce-time")?;
    Ok(TaskOffer {
        partition: PartitionId(header(headers, PARTITION)?),
        ready_at,
        tenant: task.tenant,
        capability: task.capability,
        execution: task.execution_id,
        task: TaskReference {
            pointer: task.task,
            iteration: task.iteration,
        },
        attempt: task.attempt,
        workflow: WorkflowId {
            namespace: task.workflow.namespace,
            name: task.workflow.name,
            version: task.workflow.version,
        },
        token: task.token,
        input: Value::new(task.input),
        traceparent: task.traceparent,
    })
}

fn header<T: FromStr>(headers: &HeaderMap, name: &str) -> Result<T, String> {
    let value = headers
        .get(name)
        .and_then(|value| value.as_str().parse().ok());
    value.ok_or_else(|| format!("its header `{name}` is missing or cannot be read"))
}
