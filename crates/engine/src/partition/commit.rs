//! What happens when a record is durable: callers are answered, attempts handed out, followers told.

use std::sync::Arc;

use eventflow_domain::{
    AgentName, Position, Sequence, Timestamp,
    execution::{Command, Work},
};
use eventflow_ports::AppendError;

use super::{
    State, Tail,
    feed::{Applied, FeedItem, FeedRow},
    leases::Lease,
    message::Key,
    offers::task_offer,
    once::ServiceCall,
    writer::{InFlight, Stop, Writer},
};
use crate::config::{SNAPSHOT_AFTER, SNAPSHOTS_PER_LOOK_MAX};

/// Who performs `call: http`, as histories show it.
pub(super) const HTTP_AGENT: &str = "http";

impl Writer {
    /// The journal answered for the oldest record under way.
    pub(crate) async fn appended(
        &mut self,
        outcome: Result<Position, AppendError>,
    ) -> Result<(), Stop> {
        match outcome {
            Ok(_) => {
                if let Some(record) = self.in_flight.pop_front() {
                    self.commit(record);
                }
            }
            Err(AppendError::Fatal(source)) => {
                return Err(Stop::Fatal(format!("the journal failed: {source}")));
            }
            Err(error) => self.mend(&error).await?,
        }
        self.offer();
        Ok(())
    }

    /// Everything in this record is durable now.
    pub(crate) fn commit(&mut self, record: InFlight) {
        let InFlight {
            position,
            batch,
            since,
            ..
        } = record;
        self.meters.appended(since);
        self.tell_levels();
        for (key, through) in &batch.touched {
            self.residents
                .committed(key, *through, position, batch.time);
        }
        // Effects first: an answer must not wait for what it causes.
        for effect in batch.effects {
            effect();
        }
        for (key, through) in &batch.touched {
            // Of an execution that several commands of the batch have moved, once, as the last one left it.
            if self.residents.is_durable_at(key, *through) {
                self.dispatch(key, *through);
                self.tell(key);
            }
        }
        self.tell_progress(position);
        if self.links.tail.receiver_count() > 0 {
            let tail = Tail {
                position,
                time: batch.time,
                events: batch.events,
            };
            let _ = self.links.tail.send(Arc::new(tail));
        }
        self.status.send_modify(|status| {
            status.position = position;
            status.state = State::Leading;
            status.evictions = self.residents.evictions();
        });
    }

    /// Tells the view's feed how far the journal is durable, and from where a recovery must replay.
    pub(crate) fn tell_progress(&self, through: Position) {
        let replay_after = self.residents.replay_after(through);
        let _ = self.links.feed.send(FeedItem::Progress {
            through,
            replay_after,
        });
    }

    /// Hands out what became ready up to this event and was not handed out before.
    pub(crate) fn dispatch(&mut self, key: &Key, through: Sequence) {
        let Some(resident) = self.residents.get_mut(key) else {
            return;
        };
        let performed = std::mem::replace(&mut resident.performed, through);
        let execution = resident.execution.clone();
        let mut begun = Vec::new();
        let mut calls = Vec::new();
        for owed in execution
            .owed(performed)
            .take_while(|owed| owed.sequence <= through)
        {
            match &owed.task.work {
                Some(Work::Agent { capability, .. }) if owed.task.agent.is_none() => {
                    let offer = task_offer(
                        &self.links.tokens,
                        self.partition,
                        &execution,
                        &owed,
                        capability,
                    );
                    self.unoffered.push(offer);
                }
                // Somebody began it before we took over: one fresh lease to finish in.
                Some(Work::Agent { heartbeat, .. }) => {
                    let span = heartbeat.unwrap_or(self.config.lease);
                    let until = self.backend.clock.now().after(span);
                    let lease = Lease {
                        attempt: owed.task.attempt,
                        until,
                        span,
                    };
                    self.leases.grant(key, owed.reference, lease);
                }
                Some(Work::Http { call }) => {
                    let (task, attempt) = (owed.reference.clone(), owed.task.attempt);
                    self.performer
                        .perform(key, &task, attempt, call.clone(), owed.task.deadline());
                    let agent = AgentName::parse(HTTP_AGENT).expect("a constant name");
                    begun.push(Command::BeginAttempt {
                        task,
                        attempt,
                        agent,
                    });
                }
                Some(Work::ServiceCall {}) => calls.push(ServiceCall::of(&owed)),
                None => {}
            }
        }
        // While somebody else holds it, a step would copy the whole execution.
        drop(execution);
        for begin in begun {
            self.begin_batch();
            // Refused where somebody stopped it meanwhile: then its result will be, too.
            let _ = self.apply(key, &begin);
        }
        for call in calls {
            self.perform_once(key, call);
        }
    }

    /// Tells those who wait for this execution, and the view once it has ended.
    fn tell(&mut self, key: &Key) {
        let Some(resident) = self.residents.get_mut(key) else {
            return;
        };
        resident.tell_waiting();
        if resident.has_ended() {
            self.send_row(key);
        }
    }

    /// Sends an execution as it is durable to the view. From the next progress on, which is never applied before it, a
    /// recovery takes it from there.
    fn send_row(&mut self, key: &Key) {
        let Some(resident) = self.residents.get(key) else {
            return;
        };
        let row = FeedRow::of(key, resident);
        let _ = self.links.feed.send(FeedItem::Row(row));
        self.residents.cover(key);
    }

    /// Sends open executions to the view that have changed a while ago.
    pub(crate) fn snapshot(&mut self, now: Timestamp) {
        if !self.residents.has_uncovered() || now < self.next_look {
            return;
        }
        self.look_again(now);
        let before = Timestamp(now.0 - i64::try_from(SNAPSHOT_AFTER.0).unwrap_or(i64::MAX));
        for key in self.residents.to_snapshot(before, SNAPSHOTS_PER_LOOK_MAX) {
            self.send_row(&key);
        }
        self.tell_progress(self.durable_position());
    }

    pub(crate) fn durable_position(&self) -> Position {
        self.status.borrow().position
    }

    /// The view holds the end of these: they can go.
    pub(crate) fn view_applied(&mut self, applied: &Applied) {
        for key in &applied.ended {
            self.residents.evict(key);
        }
        self.status
            .send_modify(|status| status.evictions = self.residents.evictions());
    }

    /// After a recovery: everything that is owed is performed again, on the one path.
    pub(crate) fn resume(&mut self) {
        for key in self.residents.keys() {
            let Some(resident) = self.residents.get_mut(&key) else {
                continue;
            };
            let through = resident.execution.sequence;
            if resident.execution.is_ended() {
                self.tell(&key);
                continue;
            }
            self.residents.arm(&key);
            self.dispatch(&key, through);
            if let Some(resident) = self.residents.get_mut(&key)
                && !std::mem::replace(&mut resident.is_advancing, true)
            {
                self.advances.push_back(key);
            }
        }
        self.offer();
    }
}
