//! Executions in a writer's memory: every open one, and ended ones until the view holds them.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use eventflow_domain::{Position, Sequence, Timestamp, execution::Execution, plan::Plan};
use tokio::sync::oneshot;

use super::message::{Key, Snapshot};
use crate::config::EVICTIONS_REMEMBERED_MAX;

/// One execution in memory. Shared with whoever reads it; a step copies it only while somebody still does.
pub(crate) struct Resident {
    pub(crate) execution: Arc<Execution>,
    pub(crate) plan: Arc<Plan>,
    /// The records that hold its history, ascending.
    pub(crate) positions: Vec<Position>,
    /// The last event that is durable.
    pub(crate) durable: Sequence,
    /// The last event whose dispatches were performed.
    pub(crate) performed: Sequence,
    /// The deadline it is entered under.
    pub(crate) armed: Option<Timestamp>,
    /// The first record that the view's snapshot does not cover, and since when.
    pub(crate) uncovered: Option<(Position, Timestamp)>,
    /// Whoever waits for its end.
    pub(crate) waiting: Vec<oneshot::Sender<Option<Snapshot>>>,
    /// Whoever waits for its history up to an event.
    pub(crate) reading: Vec<(Sequence, oneshot::Sender<Option<Snapshot>>)>,
    pub(crate) is_advancing: bool,
}

impl Resident {
    pub(crate) fn new(execution: Execution, plan: Arc<Plan>) -> Self {
        Self {
            execution: Arc::new(execution),
            plan,
            positions: Vec::new(),
            durable: Sequence(0),
            performed: Sequence(0),
            armed: None,
            uncovered: None,
            waiting: Vec::new(),
            reading: Vec::new(),
            is_advancing: false,
        }
    }

    pub(crate) fn snapshot(&self, with_positions: bool) -> Snapshot {
        Snapshot {
            execution: self.execution.clone(),
            plan: self.plan.clone(),
            positions: if with_positions {
                self.positions.clone()
            } else {
                Vec::new()
            },
        }
    }

    /// Whether everything that memory knows of it is durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.durable == self.execution.sequence
    }

    /// Whether it has ended durably.
    pub(crate) fn has_ended(&self) -> bool {
        self.execution.is_ended() && self.is_settled()
    }
}

/// All of them, and when each wants to be looked at.
#[derive(Default)]
pub(crate) struct Residents {
    by_key: HashMap<Key, Resident>,
    deadlines: BTreeSet<(Timestamp, Key)>,
    uncovered: BTreeSet<(Position, Key)>,
    evicted: VecDeque<Key>,
    evictions: u64,
}

impl Residents {
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Resident> {
        self.by_key.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut Resident> {
        self.by_key.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Resident)> {
        self.by_key.iter()
    }

    /// In order, so that a recovery of the same store always goes the same way.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.by_key.keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    pub(crate) fn insert(&mut self, key: Key, resident: Resident) {
        self.by_key.insert(key, resident);
    }

    /// Enters the execution's next deadline in place of the one before.
    pub(crate) fn arm(&mut self, key: &Key) {
        let Some(resident) = self.by_key.get_mut(key) else {
            return;
        };
        let next = resident.execution.next_deadline();
        if next == resident.armed {
            return;
        }
        if let Some(old) = std::mem::replace(&mut resident.armed, next) {
            self.deadlines.remove(&(old, key.clone()));
        }
        if let Some(next) = next {
            self.deadlines.insert((next, key.clone()));
        }
    }

    /// Nobody who waits for something will learn of it here.
    pub(crate) fn hang_up(&mut self) {
        for resident in self.by_key.values_mut() {
            resident.waiting.clear();
            resident.reading.clear();
        }
    }

    /// How many have a deadline ahead.
    pub(crate) fn armed(&self) -> usize {
        self.deadlines.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Some execution whose deadline has come.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Key> {
        self.deadlines
            .first()
            .filter(|(at, _)| *at <= now)
            .map(|(_, key)| key.clone())
    }

    /// Notes that a durable record holds events of it.
    pub(crate) fn committed(
        &mut self,
        key: &Key,
        through: Sequence,
        position: Position,
        at: Timestamp,
    ) {
        let Some(resident) = self.by_key.get_mut(key) else {
            return;
        };
        resident.durable = through;
        if resident.positions.last() != Some(&position) {
            resident.positions.push(position);
        }
        if resident.uncovered.is_none() {
            resident.uncovered = Some((position, at));
            self.uncovered.insert((position, key.clone()));
        }
    }

    /// Whether this is the last of its events that is durable.
    pub(crate) fn is_durable_at(&self, key: &Key, sequence: Sequence) -> bool {
        self.by_key
            .get(key)
            .is_some_and(|resident| resident.durable == sequence)
    }

    /// Notes that a row with all of its records is on its way to the view.
    pub(crate) fn cover(&mut self, key: &Key) {
        let uncovered = self
            .by_key
            .get_mut(key)
            .and_then(|resident| resident.uncovered.take());
        if let Some((position, _)) = uncovered {
            self.uncovered.remove(&(position, key.clone()));
        }
    }

    /// The record after which a recovery must replay, when all up to `through` is committed.
    pub(crate) fn replay_after(&self, through: Position) -> Position {
        self.uncovered
            .first()
            .map_or(through, |(position, _)| Position(position.0 - 1))
    }

    /// Open executions that changed before `before` and are settled, longest first.
    pub(crate) fn to_snapshot(&self, before: Timestamp, most: usize) -> Vec<Key> {
        let uncovered = self.uncovered.iter().map(|(_, key)| key);
        let old = uncovered.filter(|key| {
            self.by_key.get(key).is_some_and(|resident| {
                resident.uncovered.is_some_and(|(_, since)| since <= before)
                    && resident.is_settled()
                    && !resident.execution.is_ended()
            })
        });
        old.take(most).cloned().collect()
    }

    pub(crate) fn has_uncovered(&self) -> bool {
        !self.uncovered.is_empty()
    }

    /// Lets an execution go that has ended and that the view holds.
    pub(crate) fn evict(&mut self, key: &Key) {
        let Some(resident) = self.by_key.remove(key) else {
            return;
        };
        if let Some(armed) = resident.armed {
            self.deadlines.remove(&(armed, key.clone()));
        }
        if let Some((position, _)) = resident.uncovered {
            self.uncovered.remove(&(position, key.clone()));
        }
        if self.evicted.len() == EVICTIONS_REMEMBERED_MAX {
            self.evicted.pop_front();
        }
        self.evicted.push_back(key.clone());
        self.evictions += 1;
    }

    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Whether this one may have been let go after the count stood at `since`.
    pub(crate) fn may_have_left(&self, key: &Key, since: u64) -> bool {
        let missed = usize::try_from(self.evictions - since).unwrap_or(usize::MAX);
        missed > self.evicted.len()
            || self
                .evicted
                .iter()
                .rev()
                .take(missed)
                .any(|evicted| evicted == key)
    }
}
