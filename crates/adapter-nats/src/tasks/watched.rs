//! What was offered and is not settled: how far each attempt has come, and which ones got lost. Plain data, no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use eventflow_domain::PartitionId;
use eventflow_ports::OfferedAttempt;

use super::{consumers::Queue, message};

/// Every attempt that was offered through this instance until it is settled, told to be lost, or forgotten.
#[derive(Debug, Default)]
pub(super) struct Watched {
    partitions: HashMap<PartitionId, Partition>,
    attempts: usize,
    /// The highest sequence of a message that was new to the stream.
    newest: u64,
    /// The number of the look that was begun last.
    look: u64,
}

#[derive(Debug, Default)]
struct Partition {
    attempts: HashMap<OfferedAttempt, Offered>,
    /// Those that are stored, by queue and sequence.
    stored: HashMap<Queue, BTreeMap<u64, OfferedAttempt>>,
    /// Those that are not in the stream, as the next look will have confirmed.
    amiss: Vec<OfferedAttempt>,
    /// Those that are lost and were not told yet.
    lost: Vec<OfferedAttempt>,
}

/// An attempt on its way.
#[derive(Debug)]
struct Offered {
    queue: Queue,
    /// Which message of this attempt it is: another one has another id, so that the server does not drop it.
    dispatch: u32,
    place: Place,
    /// The look in which it was missing last.
    missing_in: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Not acknowledged yet.
    Sending,
    /// In the stream at this sequence, as was known before the look of this number ended.
    Stored { sequence: u64, look: u64 },
    /// Not known to be in the stream: the same message may be sent again.
    Unsent,
    /// Known not to be in the stream any more.
    Gone,
    /// Told to be lost: to be offered again, or settled.
    Told,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// To be sent, as this dispatch.
    Send(u32),
    /// On its way already.
    Repeated,
    /// There is no room.
    Full,
}

/// What the server says of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueState {
    /// Everything up to this sequence is acknowledged.
    pub(super) floor: u64,
    /// Whether nothing of it is in the stream.
    pub(super) is_empty: bool,
}

/// What the server says of the stream and its queues, in the look of a number.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) look: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) queues: HashMap<Queue, QueueState>,
    /// Sequences that hold no message, or another one, though they are none of the above.
    pub(super) gone: HashSet<u64>,
}

impl Watched {
    /// Takes an offer.
    pub(super) fn offer(&mut self, attempt: &OfferedAttempt, queue: Queue, max: usize) -> Accepted {
        let partition = self.partitions.entry(attempt.partition).or_default();
        if let Some(offered) = partition.attempts.get_mut(attempt) {
            match offered.place {
                Place::Sending | Place::Stored { .. } => return Accepted::Repeated,
                Place::Unsent | Place::Gone | Place::Told => {}
            }
            if offered.place == Place::Gone {
                offered.dispatch += 1;
            }
            offered.place = Place::Sending;
            offered.missing_in = None;
            return Accepted::Send(offered.dispatch);
        }
        if self.attempts >= max {
            return Accepted::Full;
        }
        self.attempts += 1;
        let offered = Offered {
            queue,
            dispatch: 1,
            place: Place::Sending,
            missing_in: None,
        };
        partition.attempts.insert(attempt.clone(), offered);
        Accepted::Send(1)
    }

    /// Whether this dispatch is still to be sent.
    pub(super) fn is_wanted(&self, attempt: &OfferedAttempt, dispatch: u32) -> bool {
        let partition = self.partitions.get(&attempt.partition);
        let offered = partition.and_then(|partition| partition.attempts.get(attempt));
        offered.is_some_and(|it| it.place == Place::Sending && it.dispatch == dispatch)
    }

    /// A dispatch is in the stream; `is_new` where it was not before.
    pub(super) fn stored(
        &mut self,
        attempt: &OfferedAttempt,
        dispatch: u32,
        sequence: u64,
        is_new: bool,
    ) {
        if is_new {
            if sequence <= self.newest {
                self.began_again(sequence);
            }
            self.newest = sequence;
        }
        let look = self.look;
        let Some(partition) = self.partitions.get_mut(&attempt.partition) else {
            return;
        };
        if let Some(offered) = partition.attempts.get_mut(attempt)
            && offered.place == Place::Sending
            && offered.dispatch == dispatch
        {
            offered.place = Place::Stored { sequence, look };
            let stored = partition.stored.entry(offered.queue.clone()).or_default();
            stored.insert(sequence, attempt.clone());
        }
    }

    /// A dispatch could not be sent; maybe it is in the stream all the same.
    pub(super) fn unsent(&mut self, attempt: &OfferedAttempt, dispatch: u32) {
        if let Some(partition) = self.partitions.get_mut(&attempt.partition)
            && let Some(offered) = partition.attempts.get_mut(attempt)
            && offered.place == Place::Sending
            && offered.dispatch == dispatch
        {
            offered.place = Place::Unsent;
            partition.amiss.push(attempt.clone());
        }
    }

    pub(super) fn settle(&mut self, attempt: &OfferedAttempt) {
        let Some(partition) = self.partitions.get_mut(&attempt.partition) else {
            return;
        };
        if let Some(offered) = partition.attempts.remove(attempt) {
            self.attempts -= 1;
            partition.unstore(&offered);
        }
    }

    pub(super) fn forget(&mut self, partition: PartitionId) {
        if let Some(partition) = self.partitions.remove(&partition) {
            self.attempts -= partition.attempts.len();
        }
    }

    /// What is lost of a partition, once each.
    pub(super) fn take_lost(&mut self, partition: PartitionId) -> Vec<OfferedAttempt> {
        let Some(partition) = self.partitions.get_mut(&partition) else {
            return Vec::new();
        };
        let mut lost = std::mem::take(&mut partition.lost);
        // Some may have been settled or offered again since.
        lost.retain(|attempt| match partition.attempts.get_mut(attempt) {
            Some(offered) if matches!(offered.place, Place::Unsent | Place::Gone) => {
                offered.dispatch += u32::from(offered.place == Place::Gone);
                offered.place = Place::Told;
                true
            }
            _ => false,
        });
        lost
    }

    /// Begins a look: its number, and the queues to ask for.
    pub(super) fn begin_look(&mut self) -> (u64, HashSet<Queue>) {
        self.look += 1;
        let partitions = self.partitions.values();
        let queues = partitions.flat_map(|partition| partition.stored.keys().cloned());
        (self.look, queues.collect())
    }

    /// Up to `max` stored attempts of a queue above one sequence and up to another, each with its message's id.
    pub(super) fn stored_between(
        &self,
        queue: &Queue,
        above: u64,
        through: u64,
        max: usize,
    ) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        for partition in self.partitions.values() {
            let stored = partition.stored.get(queue).into_iter();
            let above = stored.flat_map(|stored| stored.range(above + 1..));
            let between = above.take_while(|(sequence, _)| **sequence <= through);
            found.extend(between.take(max).filter_map(|(sequence, attempt)| {
                let dispatch = partition.attempts.get(attempt)?.dispatch;
                Some((*sequence, message::id(attempt, dispatch)))
            }));
        }
        found.sort_unstable();
        found.truncate(max);
        found
    }

    /// Ends a look: what was missing in the one before as well is lost, and so is what could not be sent.
    pub(super) fn end_look(&mut self, findings: &Findings) {
        for partition in self.partitions.values_mut() {
            partition.end_look(findings);
        }
    }

    /// The stream has given a sequence twice: it has lost what was there, and whatever it held from here on.
    fn began_again(&mut self, sequence: u64) {
        for partition in self.partitions.values_mut() {
            let overwritten: Vec<_> = partition
                .stored
                .values_mut()
                .flat_map(|stored| stored.split_off(&sequence).into_values())
                .collect();
            for attempt in overwritten {
                if let Some(offered) = partition.attempts.get_mut(&attempt) {
                    offered.place = Place::Gone;
                    partition.amiss.push(attempt);
                }
            }
        }
    }
}

impl Partition {
    fn unstore(&mut self, offered: &Offered) {
        if let Place::Stored { sequence, .. } = offered.place
            && let Some(stored) = self.stored.get_mut(&offered.queue)
        {
            stored.remove(&sequence);
            if stored.is_empty() {
                self.stored.remove(&offered.queue);
            }
        }
    }

    fn end_look(&mut self, findings: &Findings) {
        for (sequence, attempt) in self.missing(findings) {
            let Some(offered) = self.attempts.get_mut(&attempt) else {
                continue;
            };
            let Place::Stored { look, .. } = offered.place else {
                continue;
            };
            // It came while this look was taken: the server may not have known of it.
            if look >= findings.look {
                continue;
            }
            if offered
                .missing_in
                .is_none_or(|look| look + 1 < findings.look)
            {
                offered.missing_in = Some(findings.look);
                continue;
            }
            offered.place = Place::Gone;
            if let Some(stored) = self.stored.get_mut(&offered.queue) {
                stored.remove(&sequence);
            }
            self.amiss.push(attempt);
        }
        self.stored.retain(|_, stored| !stored.is_empty());
        self.lost.append(&mut self.amiss);
    }

    /// What the stream does not hold for anybody any more.
    fn missing(&self, findings: &Findings) -> Vec<(u64, OfferedAttempt)> {
        let mut missing = Vec::new();
        for (queue, stored) in &self.stored {
            let state = findings.queues.get(queue);
            let floor = state.map_or(0, |state| state.floor);
            let is_empty = state.is_some_and(|state| state.is_empty);
            let through = floor.max(findings.first.saturating_sub(1));
            let mut add = |(sequence, attempt): (&u64, &OfferedAttempt)| {
                missing.push((*sequence, attempt.clone()));
            };
            if is_empty {
                stored.iter().for_each(add);
                continue;
            }
            stored.range(..=through).for_each(&mut add);
            let beyond = through.max(findings.last) + 1;
            stored.range(beyond..).for_each(&mut add);
            let between = findings
                .gone
                .iter()
                .filter(|it| (through + 1..beyond).contains(*it));
            between
                .filter_map(|sequence| stored.get_key_value(sequence))
                .for_each(add);
        }
        // As they were offered.
        missing.sort_unstable_by_key(|(sequence, _)| *sequence);
        missing
    }
}

#[cfg(test)]
mod tests;
