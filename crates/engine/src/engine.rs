//! The engine of one node: its partitions, and the way from an id to the right one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eventflow_domain::{Json, PartitionId};
use eventflow_ports::inbound::Refusal;
use tokio::sync::watch;

use crate::{
    backend::Backend,
    config::Config,
    damage,
    definitions::Definitions,
    error::StartError,
    follow, frozen, history,
    leading::{Departure, Membership},
    meters,
    partition::{self, Key, Message, Part, Partition, Running, Snapshot},
    questions,
    seat::Seat,
    system,
    token::Tokens,
};

/// The name of the key that signs task tokens.
const TOKEN_KEY: &str = "task-tokens";
/// Between two looks whether everything is led.
const READY_PAUSE: Duration = Duration::from_millis(5);

/// A running engine: the inbound ports are implemented on it. Cheap to share behind an `Arc`.
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
    running: Mutex<Vec<Running>>,
    /// What goes on beside the partitions, and ends with the engine.
    following: Mutex<Vec<Part>>,
    /// Of a node among others: how it is told to go.
    departure: Option<Departure>,
}

/// What every request needs.
pub(crate) struct Inner {
    pub(crate) backend: Backend,
    pub(crate) config: Config,
    pub(crate) definitions: Arc<Definitions>,
    /// One for each partition of the store, by its id.
    pub(crate) seats: Vec<Seat>,
    pub(crate) tokens: Tokens,
    /// Among several nodes.
    pub(crate) membership: Option<Membership>,
}

impl Engine {
    /// Begins to work. Alone on its store, the node recovers every partition first: one that cannot be recovered is
    /// stopped and says why, and the others go on; fails, and changes nothing, where none can be. Among several nodes
    /// it announces itself, fails where that is not heard, and leads what falls to it from then on.
    pub async fn start(backend: Backend, config: Config) -> Result<Self, StartError> {
        meters::describe();
        let key = backend.keys.get_or_create(TOKEN_KEY).await;
        let key = key.map_err(|error| StartError::NoKey(error.to_string()))?;
        let definitions = Arc::new(Definitions::new(backend.definitions.clone()));
        let mut inner = Inner {
            membership: Membership::of(&backend, &config),
            backend,
            config,
            definitions,
            seats: Vec::new(),
            tokens: Tokens::new(key),
        };
        if inner.membership.is_some() {
            Self::join(inner).await
        } else {
            let running = inner.lead_all().await?;
            Ok(Self::alone(inner, running))
        }
    }

    fn alone(inner: Inner, running: Vec<Running>) -> Self {
        let inner = Arc::new(inner);
        let publish = |partition| Part::start(follow::publish(inner.clone(), partition));
        let following = inner.led_here().map(publish).collect();
        Self {
            inner,
            running: Mutex::new(running),
            following: Mutex::new(following),
            departure: None,
        }
    }

    async fn join(mut inner: Inner) -> Result<Self, StartError> {
        inner.seats = inner.homes().map(Seat::vacant).collect();
        let inner = Arc::new(inner);
        let (departure, parts) = crate::leading::join(&inner).await?;
        Ok(Self {
            inner,
            running: Mutex::default(),
            following: Mutex::new(parts),
            departure: Some(departure),
        })
    }

    /// Resolves once this node can accept work: every partition has a leader, here or elsewhere.
    pub async fn ready(&self) {
        while system::readiness(&self.inner).is_err() {
            tokio::time::sleep(READY_PAUSE).await;
        }
    }

    /// Stops partitions once what they stand on has failed: `failures` says why, by partition.
    pub fn heed(&self, failures: watch::Receiver<BTreeMap<PartitionId, String>>) {
        self.follow(damage::heed(self.inner.clone(), failures));
    }

    /// Reads every journal from its first record, slowly and in the background, and stops a partition where a record is
    /// not what was written: recovery reads no further back than the view makes it.
    pub fn verify_journals(&self) {
        self.follow(damage::verify_journals(self.inner.clone()));
    }

    fn follow(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Part::start(task));
    }

    /// Definitions, which are the `Workflows` port.
    pub fn definitions(&self) -> Arc<Definitions> {
        self.inner.definitions.clone()
    }

    /// Lets nothing new in, makes durable what was let in, brings the view up to date, hands over what other nodes can
    /// go on with, and ends.
    pub async fn shutdown(&self) {
        if let Some(departure) = &self.departure {
            departure.go().await;
            return self.stop_following();
        }
        for partition in self.inner.led_here() {
            partition.close();
        }
        let running =
            std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for parts in running {
            parts.join().await;
        }
        self.stop_following();
    }

    /// Ends at once, as a crash would; for tests of recovery. Dropping the engine does the same.
    pub fn abort(&self) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.stop_following();
    }

    fn stop_following(&self) {
        self.following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Inner {
    /// Takes every partition, as the only node on its store.
    async fn lead_all(&mut self) -> Result<Vec<Running>, StartError> {
        let mut running = Vec::new();
        let mut failed = Vec::new();
        for id in self.homes() {
            let Self {
                backend,
                config,
                definitions,
                tokens,
                ..
            } = &*self;
            match Partition::start(id, backend, config, definitions, tokens).await {
                Ok((handle, parts)) => {
                    self.seats.push(Seat::taken(handle));
                    running.push(parts);
                }
                Err(error) => {
                    // As far as can be seen: it is for people.
                    let head = backend.journal.head(id).await.unwrap_or_default();
                    let stopped = Partition::stopped(id, head, &error);
                    self.seats.push(Seat::taken(stopped));
                    failed.push(error);
                }
            }
        }
        if running.is_empty() && !failed.is_empty() {
            return Err(failed.swap_remove(0));
        }
        for error in failed {
            tracing::error!(%error, "a partition is stopped, the others go on");
        }
        Ok(running)
    }

    /// Every partition of the store.
    pub(crate) fn homes(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.config.partitions).map(PartitionId)
    }

    /// The home of an execution.
    pub(crate) fn home(&self, key: &Key) -> PartitionId {
        PartitionId::of(&key.tenant, &key.id, self.config.partitions)
    }

    pub(crate) fn seat(&self, home: PartitionId) -> &Seat {
        &self.seats[usize::from(home.0)]
    }

    /// A partition, where it is led here.
    pub(crate) fn led(&self, home: PartitionId) -> Option<Arc<Partition>> {
        self.seats.get(usize::from(home.0)).and_then(Seat::led)
    }

    /// Every partition that is led here.
    pub(crate) fn led_here(&self) -> impl Iterator<Item = Arc<Partition>> {
        self.seats.iter().filter_map(Seat::led)
    }

    /// An execution of this partition as of now: from memory, or from the view once it has ended. Its large values are
    /// loaded.
    pub(crate) async fn find(
        &self,
        partition: &Partition,
        key: &Key,
        with_positions: bool,
    ) -> Result<Snapshot, Refusal> {
        // Twice, since it may move from memory to the view between the two questions.
        for _ in 0..2 {
            let asked = |reply| Message::Read {
                key: key.clone(),
                with_positions,
                reply,
            };
            if let Some(snapshot) = partition.ask(asked).await? {
                return Ok(snapshot);
            }
            if let Some(snapshot) = self.find_in_view(partition.id, key).await? {
                return Ok(snapshot);
            }
        }
        Err(Refusal::NotFound(format!(
            "there is no execution {}",
            key.id
        )))
    }

    /// An execution that has left memory.
    pub(crate) async fn find_in_view(
        &self,
        partition: PartitionId,
        key: &Key,
    ) -> Result<Option<Snapshot>, Refusal> {
        let unavailable = |error: String| Refusal::unavailable(error);
        let row = self.backend.view.get(partition, &key.tenant, &key.id).await;
        meters::rows_read(1);
        let row = row.map_err(|error| unavailable(error.to_string()))?;
        let Some(state) = row
            .filter(|row| row.status.is_ended())
            .and_then(|row| row.state)
        else {
            return Ok(None);
        };
        let thawed = frozen::thaw(&state).map_err(unavailable)?;
        let mut execution = thawed.execution;
        for digest in execution.missing() {
            let text = partition::load(&self.backend, &key.tenant, &digest)
                .await
                .map_err(unavailable)?;
            execution.load(&digest, &text);
        }
        let plan = self
            .definitions
            .plan_of(&key.tenant, &execution.requested.digest)
            .await?;
        Ok(Some(Snapshot {
            execution: Arc::new(execution),
            plan,
            positions: thawed.positions,
        }))
    }

    /// Every durable event of an execution, wherever it is led: the journal is everybody's.
    pub(crate) async fn events_of(
        self: &Arc<Self>,
        key: &Key,
    ) -> Result<Vec<history::Written>, Refusal> {
        let home = self.home(key);
        let positions = self.ask(home, questions::Locate(key.clone())).await?;
        history::events(&self.backend, home, key, &positions).await
    }

    /// The full view of a snapshot.
    pub(crate) fn render(&self, snapshot: &Snapshot) -> eventflow_ports::inbound::ExecutionView {
        crate::render::view(
            &snapshot.execution,
            &snapshot.plan,
            self.backend.clock.now(),
        )
    }
}

/// What tells two starts of one id apart: everything the caller chose.
pub(crate) fn fingerprint(
    digest: &eventflow_domain::Digest,
    request: &eventflow_ports::inbound::StartExecution,
) -> eventflow_domain::Digest {
    let whole = serde_json::json!({
        "workflow": digest.to_string(),
        "input": request.input.to_value(),
        "correlation": request.correlation,
        "labels": request.labels,
    });
    eventflow_domain::Digest::of(Json::of(&whole).as_str().as_bytes())
}
