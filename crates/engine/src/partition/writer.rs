//! The writer: drains its mailbox, decides, appends one record for all of it, and only then lets anything out.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use eventflow_domain::{
    Epoch, PartitionId, Position, Timestamp,
    execution::{Command, Event, Rejection, step},
    record::{Chain, Entry, FORMAT_LEVEL},
};
use eventflow_ports::{AppendError, Appending, QueueError, TaskOffer};
use tokio::sync::{broadcast, mpsc, watch};

use super::{
    State, Status, Tail,
    batch::{Batch, Effect},
    feed::{Applied, FeedItem},
    leases::Leases,
    message::{Key, Message},
    recovery::Recovered,
    resident::Residents,
};
use crate::{
    backend::Backend,
    config::{
        APPENDS_IN_FLIGHT_MAX, Config, LINGER, PIPELINED_BYTES_MIN, SNAPSHOT_EVERY,
        TURN_COMMANDS_MAX,
    },
    error::StartError,
    meters::{self, PartitionMeters, level},
    performer::HttpPerformer,
    token::Tokens,
};

/// How a writer is connected.
pub(crate) struct Links {
    pub(crate) orders: mpsc::Receiver<Message>,
    /// Where the performers send their results; weak, so that the mailbox closes when the handles are gone.
    pub(crate) performed: mpsc::WeakSender<Message>,
    pub(crate) applied: mpsc::UnboundedReceiver<Applied>,
    pub(crate) feed: mpsc::UnboundedSender<FeedItem>,
    pub(crate) tail: broadcast::Sender<Arc<Tail>>,
    /// Names attempts to whoever performs them.
    pub(crate) tokens: Tokens,
}

/// A record handed to the journal, and what waits for it.
pub(crate) struct InFlight {
    pub(crate) position: Position,
    pub(crate) bytes: Bytes,
    pub(crate) batch: Batch,
    pub(crate) appending: Appending,
    pub(crate) since: Instant,
}

/// A batch whose large values are being stored before it is appended.
pub(crate) struct Storing {
    pub(crate) batch: Batch,
    pub(crate) stored: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Ready attempts on their way to the queue: one batch after the other, so that they come in order.
pub(crate) struct Offering {
    pub(crate) tasks: Vec<TaskOffer>,
    pub(crate) offered: Pin<Box<dyn Future<Output = Result<(), QueueError>> + Send>>,
}

/// Why a writer ends.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It was asked to, or all handles are gone.
    Closed,
    /// Somebody else writes to this partition.
    Fenced,
    /// The journal is broken.
    Fatal(String),
}

/// The only one that writes to its partition.
pub(crate) struct Writer {
    pub(crate) partition: PartitionId,
    pub(crate) backend: Backend,
    pub(crate) config: Config,
    pub(crate) epoch: Epoch,
    pub(crate) chain: Chain,
    /// Of the last record handed to the journal.
    pub(crate) position: Position,
    pub(crate) residents: Residents,
    pub(crate) leases: Leases,
    pub(crate) batch: Batch,
    pub(crate) storing: Option<Storing>,
    pub(crate) in_flight: VecDeque<InFlight>,
    /// Executions with consequences left to draw; they take turns.
    pub(crate) advances: VecDeque<Key>,
    /// What the queue was not offered yet, or did not take.
    pub(crate) unoffered: Vec<TaskOffer>,
    /// What it is being offered.
    pub(crate) offering: Option<Offering>,
    /// Not before, since it did not take them the last time.
    pub(crate) next_offer: Timestamp,
    pub(crate) next_look: Timestamp,
    pub(crate) performer: Arc<HttpPerformer>,
    pub(crate) meters: PartitionMeters,
    pub(crate) links: Links,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) is_closing: bool,
}

impl Writer {
    /// Begins an epoch: from here on every append of an older writer is refused.
    pub(crate) async fn lead(
        partition: PartitionId,
        backend: Backend,
        config: Config,
        recovered: Recovered,
        links: Links,
    ) -> Result<(Self, watch::Receiver<Status>), StartError> {
        let Recovered {
            residents,
            chain,
            position,
        } = recovered;
        let epoch = chain.epoch.next();
        let (status, watching) = watch::channel(Status {
            state: State::Leading,
            epoch,
            position,
            evictions: 0,
        });
        let mut writer = Self {
            partition,
            epoch,
            chain,
            position,
            residents,
            leases: Leases::default(),
            batch: Batch::new(chain.time.max(backend.clock.now())),
            storing: None,
            in_flight: VecDeque::new(),
            advances: VecDeque::new(),
            unoffered: Vec::new(),
            offering: None,
            next_offer: backend.clock.now(),
            next_look: backend.clock.now(),
            meters: PartitionMeters::new(partition),
            performer: HttpPerformer::new(&backend, links.performed.clone()),
            links,
            status,
            is_closing: false,
            backend,
            config,
        };
        let writer_name = writer.config.node.to_string();
        writer.batch.body.push(&Entry::EpochStarted {
            level: FORMAT_LEVEL,
            writer: writer_name,
        });
        writer.submit_batch();
        let front = writer
            .in_flight
            .front_mut()
            .expect("the epoch's record was just submitted");
        let outcome = (&mut front.appending).await;
        if let Err(stop) = writer.appended(outcome).await {
            return Err(StartError::not_led(partition, &stop));
        }
        writer.resume();
        Ok((writer, watching))
    }

    /// Writes until the handles are gone or the journal is lost.
    pub(crate) async fn run(mut self) {
        let stop = loop {
            if let Err(stop) = self.turn().await {
                break stop;
            }
        };
        let is_closed = matches!(stop, Stop::Closed);
        let state = match stop {
            Stop::Closed => State::Stopped("it is shutting down".to_owned()),
            Stop::Fenced => State::Fenced,
            Stop::Fatal(reason) => State::Stopped(reason),
        };
        tracing::info!(partition = %self.partition, reason = state.reason(), "the writer ends");
        self.status.send_modify(|status| status.state = state);
        // Whoever still asks it anything asks its successor.
        self.links.orders.close();
        while self.links.orders.try_recv().is_ok() {}
        self.links.tail = broadcast::channel(1).0;
        self.residents.hang_up();
        if is_closed {
            self.await_view().await;
        }
    }

    /// One turn: whatever is ready, then wait for something to be.
    async fn turn(&mut self) -> Result<(), Stop> {
        if self.is_closing {
            return self.close().await;
        }
        self.draw_advances();
        let now = self.backend.clock.now();
        self.fire_timers(now);
        self.snapshot(now);
        self.offer();
        self.flush_where_due(now);
        let wake = self.next_wake();
        let clock = self.backend.clock.clone();
        let has_room = self.batch.has_room();
        let mut order = None;
        tokio::select! {
            biased;
            outcome = appended(&mut self.in_flight) => return self.appended(outcome).await,
            () = stored(&mut self.storing) => {
                if let Some(storing) = self.storing.take() {
                    self.submit(storing.batch);
                }
            }
            outcome = offered(&mut self.offering) => self.offered(outcome),
            Some(applied) = self.links.applied.recv() => self.view_applied(&applied),
            received = self.links.orders.recv(), if has_room => {
                self.is_closing |= received.is_none();
                order = received;
            }
            () = std::future::ready(()), if has_room && !self.advances.is_empty() => {}
            () = sleep_until(&*clock, wake) => {}
        }
        self.begin_batch();
        let turn_ends = self.batch.commands + TURN_COMMANDS_MAX;
        while let Some(next) = order {
            self.handle(next);
            let may_go_on = self.batch.has_room() && self.batch.commands < turn_ends;
            order = may_go_on
                .then(|| self.links.orders.try_recv().ok())
                .flatten();
        }
        Ok(())
    }

    /// No more orders: whatever was decided becomes durable, then the writer ends.
    async fn close(&mut self) -> Result<(), Stop> {
        loop {
            self.draw_advances();
            if let Some(storing) = self.storing.take() {
                storing.stored.await;
                self.submit(storing.batch);
            } else if !self.batch.is_empty() && self.in_flight.len() < APPENDS_IN_FLIGHT_MAX {
                self.submit_batch();
            } else if self.in_flight.is_empty() {
                return Err(Stop::Closed);
            } else {
                let outcome = appended(&mut self.in_flight).await;
                self.appended(outcome).await?;
            }
        }
    }

    /// Waits until the view holds everything that has ended, and says so: the next start replays none of it.
    async fn await_view(&mut self) {
        while self
            .residents
            .iter()
            .any(|(_, resident)| resident.has_ended())
        {
            let Some(applied) = self.links.applied.recv().await else {
                return;
            };
            self.view_applied(&applied);
        }
        self.tell_progress(self.durable_position());
    }

    /// Gives an empty batch the time that its first event will have. Commands that brought no event take up room only
    /// while their answers wait for a record under way.
    pub(crate) fn begin_batch(&mut self) {
        if !self.batch.is_empty() {
            return;
        }
        self.batch.time = self.backend.clock.now().max(self.batch.time);
        if self.in_flight.is_empty() && self.storing.is_none() {
            self.batch.commands = 0;
        }
    }

    /// Decides a command for a resident execution; its events join the batch.
    pub(crate) fn apply(&mut self, key: &Key, command: &Command) -> Result<(), Rejection> {
        let time = self.batch.time;
        let Some(resident) = self.residents.get_mut(key) else {
            return Ok(());
        };
        let execution = Arc::make_mut(&mut resident.execution);
        let first = execution.sequence.next();
        let stepped = step(execution, &resident.plan, command, time)?;
        let owes_advance = execution.owes_advance();
        if owes_advance && !std::mem::replace(&mut resident.is_advancing, true) {
            self.advances.push_back(key.clone());
        }
        self.meters
            .events_folded
            .increment(stepped.events.len() as u64);
        self.count(&stepped.events);
        self.settle_ended(key, &stepped.events);
        self.batch.push(key, first, stepped.events);
        self.residents.arm(key);
        Ok(())
    }

    /// Counts what operators want to know of events.
    fn count(&self, events: &[Event]) {
        for event in events {
            match event {
                Event::ExecutionCompleted { .. } => meters::execution_ended("completed"),
                Event::ExecutionFaulted { .. } => meters::execution_ended("faulted"),
                Event::ExecutionTimedOut { .. } => meters::execution_ended("timed_out"),
                Event::ExecutionCancelled {} => meters::execution_ended("cancelled"),
                Event::RetryScheduled { .. } | Event::TaskFaulted { .. } => {
                    self.meters.attempts_failed.increment(1);
                }
                Event::ExecutionRequested(_)
                | Event::ExecutionStarted { .. }
                | Event::ExecutionPauseRequested(_)
                | Event::ExecutionSuspended {}
                | Event::ExecutionResumed(_)
                | Event::ExecutionStopRequested(_)
                | Event::SequenceEntered { .. }
                | Event::ForkEntered { .. }
                | Event::ErrorCaught { .. }
                | Event::WaitStarted { .. }
                | Event::TaskScheduled { .. }
                | Event::TaskStarted { .. }
                | Event::TimerFired { .. }
                | Event::BranchSelected { .. }
                | Event::TaskCompleted { .. }
                | Event::TaskTimedOut { .. }
                | Event::TaskSkipped { .. }
                | Event::TaskCancelled { .. } => {}
            }
        }
    }

    /// Tells the levels of everything that has one.
    pub(crate) fn tell_levels(&self) {
        let meters = &self.meters;
        let leading = self.status.borrow().state == State::Leading;
        meters.mailbox.set(level(self.links.orders.len()));
        meters.executions.set(level(self.residents.len()));
        meters.leases.set(level(self.leases.len()));
        meters.timers.set(level(self.residents.armed()));
        meters.unoffered.set(level(self.unoffered.len()));
        let position = usize::try_from(self.durable_position().0);
        meters.position.set(level(position.unwrap_or(usize::MAX)));
        meters.leading.set(f64::from(u8::from(leading)));
    }

    /// One more portion for each execution that owes one.
    fn draw_advances(&mut self) {
        for _ in 0..self.advances.len() {
            if !self.batch.has_room() {
                return;
            }
            let Some(key) = self.advances.pop_front() else {
                return;
            };
            if let Some(resident) = self.residents.get_mut(&key) {
                resident.is_advancing = false;
            }
            self.begin_batch();
            self.batch.commands += 1;
            // An advance is never rejected; a timer that is due is seen by `fire_timers`.
            let _ = self.apply(&key, &Command::Advance);
        }
    }

    /// Lets everything happen whose time has come, as far as the batch has room.
    fn fire_timers(&mut self, now: Timestamp) {
        self.begin_batch();
        let time = self.batch.time.min(now);
        while self.batch.has_room()
            && let Some(key) = self.residents.due(time)
        {
            self.batch.commands += 1;
            if let Some(deadline) = self.residents.next_deadline() {
                self.meters.timer_fired(time.since(deadline));
            }
            let before = self
                .residents
                .get(&key)
                .map(|resident| resident.execution.sequence);
            let _ = self.apply(&key, &Command::FireTimers);
            if self
                .residents
                .get(&key)
                .map(|resident| resident.execution.sequence)
                == before
            {
                break;
            }
        }
        while self.batch.has_room()
            && let Some((key, task, lease)) = self.leases.take_expired(time)
        {
            self.batch.commands += 1;
            self.meters.leases_expired.increment(1);
            let _ = self.apply(
                &key,
                &Command::ExpireLease {
                    task,
                    attempt: lease.attempt,
                },
            );
        }
    }

    fn next_wake(&self) -> Option<Timestamp> {
        let timers = [self.residents.next_deadline(), self.leases.next_expiry()]
            .into_iter()
            .flatten()
            .min();
        // A timer is due by the time of the batch it goes into. A batch that has to wait for the record before it is
        // woken by that one's end, and would find nothing to do earlier.
        let may_flush = self.may_flush();
        let timers =
            timers.filter(|at| self.batch.is_empty() || (*at > self.batch.time && may_flush));
        let lingering = (!self.batch.is_empty()).then(|| self.batch.time.after(LINGER));
        let lingering = lingering.filter(|_| may_flush);
        let look = self.residents.has_uncovered().then_some(self.next_look);
        let offering =
            (!self.unoffered.is_empty() && self.offering.is_none()).then_some(self.next_offer);
        [timers, lingering, look, offering]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the batch could go to the journal now: it does not go alone behind another one.
    fn may_flush(&self) -> bool {
        let is_worth_it = self.in_flight.is_empty()
            || self.batch.body.len() >= PIPELINED_BYTES_MIN
            || !self.batch.has_room();
        self.storing.is_none() && self.in_flight.len() < APPENDS_IN_FLIGHT_MAX && is_worth_it
    }

    fn flush_where_due(&mut self, now: Timestamp) {
        if self.batch.is_empty() || !self.may_flush() {
            return;
        }
        let timers = [self.residents.next_deadline(), self.leases.next_expiry()]
            .into_iter()
            .flatten()
            .min();
        let is_waited_for = self.batch.is_urgent
            || self.batch.time.after(LINGER) <= now
            || timers.is_some_and(|at| at <= now);
        if is_waited_for {
            self.submit_batch();
        }
    }

    /// Takes the batch to the journal, its large values first.
    pub(crate) fn submit_batch(&mut self) {
        let time = self.backend.clock.now().max(self.batch.time);
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(time));
        if batch.blobs.is_empty() {
            return self.submit(batch);
        }
        let blobs = std::mem::take(&mut batch.blobs);
        let stored = Box::pin(super::mend::store(
            self.backend.clone(),
            blobs,
            self.status.clone(),
        ));
        self.storing = Some(Storing { batch, stored });
    }

    fn submit(&mut self, batch: Batch) {
        self.meters.batch_bytes.record(level(batch.body.len()));
        let header = self.chain.next_header(self.epoch, batch.time);
        debug_assert_eq!(
            header.time, batch.time,
            "batches are submitted in order of their times"
        );
        let bytes = Bytes::from(batch.body.seal(&header));
        self.chain.append(&header, &bytes);
        self.meters.records.increment(1);
        self.meters.record_bytes.increment(bytes.len() as u64);
        self.meters.batch_commands.record(level(batch.commands));
        let appending = self
            .backend
            .journal
            .append(self.partition, self.position, bytes.clone());
        self.position = self.position.next();
        self.in_flight.push_back(InFlight {
            position: self.position,
            bytes,
            batch,
            appending,
            since: Instant::now(),
        });
    }

    /// Runs an effect once everything that memory shows now is durable.
    pub(crate) fn when_durable(&mut self, effect: Effect) {
        if !self.batch.is_empty() {
            self.batch.is_urgent = true;
            self.batch.effects.push(effect);
        } else if let Some(storing) = &mut self.storing {
            storing.batch.effects.push(effect);
        } else if let Some(last) = self.in_flight.back_mut() {
            last.batch.effects.push(effect);
        } else {
            effect();
        }
    }

    pub(crate) fn set_state(&self, state: State) {
        self.status.send_if_modified(|status| {
            let changed = status.state != state;
            status.state = state;
            changed
        });
    }

    pub(crate) fn look_again(&mut self, now: Timestamp) {
        self.next_look = now.after(SNAPSHOT_EVERY);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.meters.leads_no_more();
    }
}

async fn appended(in_flight: &mut VecDeque<InFlight>) -> Result<Position, AppendError> {
    match in_flight.front_mut() {
        Some(front) => (&mut front.appending).await,
        None => std::future::pending().await,
    }
}

async fn stored(storing: &mut Option<Storing>) {
    match storing {
        Some(storing) => (&mut storing.stored).await,
        None => std::future::pending().await,
    }
}

async fn offered(offering: &mut Option<Offering>) -> Result<(), QueueError> {
    match offering {
        Some(offering) => (&mut offering.offered).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(clock: &dyn eventflow_ports::Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
