//! A record under construction, and what happens once it is durable.

use std::collections::BTreeMap;

use bytes::Bytes;
use eventflow_domain::{
    Digest, Sequence, Tenant, Timestamp, Value, execution::Event, record::Body,
};

use super::message::Key;
use crate::config::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX};

/// Something to do once a record is durable: an answer, mostly.
pub(crate) type Effect = Box<dyn FnOnce() + Send>;

/// A record under construction. All of its events have one time.
pub(crate) struct Batch {
    pub(crate) time: Timestamp,
    pub(crate) body: Body,
    pub(crate) commands: usize,
    /// Executions with events in it, each with its last one.
    pub(crate) touched: Vec<(Key, Sequence)>,
    /// Large values that must be stored before it is appended.
    pub(crate) blobs: BTreeMap<(Tenant, Digest), Bytes>,
    pub(crate) effects: Vec<Effect>,
    /// Whether somebody waits for it.
    pub(crate) is_urgent: bool,
    /// The events themselves, for those who follow live.
    pub(crate) events: Vec<Committed>,
}

/// Consecutive events of one execution, as they went into a record.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) key: Key,
    pub(crate) first: Sequence,
    pub(crate) events: Vec<Event>,
}

impl Batch {
    pub(crate) fn new(time: Timestamp) -> Self {
        Self {
            time,
            body: Body::default(),
            commands: 0,
            touched: Vec::new(),
            blobs: BTreeMap::new(),
            effects: Vec::new(),
            is_urgent: false,
            events: Vec::new(),
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.commands < BATCH_COMMANDS_MAX && self.body.len() < BATCH_BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Adds events that follow each other in one execution.
    pub(crate) fn push(&mut self, key: &Key, first: Sequence, events: Vec<Event>) {
        let Some(last) = (events.len() as u64).checked_sub(1) else {
            return;
        };
        self.body.push_events(&key.tenant, &key.id, first, &events);
        self.touched.push((key.clone(), Sequence(first.0 + last)));
        for value in events.iter().flat_map(Event::values) {
            if let Value::Ref {
                digest,
                content: Some(text),
                ..
            } = value
            {
                let bytes = || Bytes::copy_from_slice(text.as_str().as_bytes());
                self.blobs
                    .entry((key.tenant.clone(), *digest))
                    .or_insert_with(bytes);
            }
        }
        // What only tells that an attempt began can wait for company.
        self.is_urgent |= !matches!(events[..], [Event::TaskStarted { .. }]);
        self.events.push(Committed {
            key: key.clone(),
            first,
            events,
        });
    }
}
