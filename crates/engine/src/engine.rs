//! The engine of one node: its partitions, and the way from an id to the right one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
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
    follow, frozen, history, meters,
    partition::{self, Key, Message, Part, Partition, Running, Snapshot},
    token::Tokens,
};

/// The name of the key that signs task tokens.
const TOKEN_KEY: &str = "task-tokens";

/// A running engine: the inbound ports are implemented on it. Cheap to share behind an `Arc`.
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
    running: Mutex<Vec<Running>>,
    /// What goes on beside the partitions, and ends with the engine.
    following: Mutex<Vec<Part>>,
}

/// What every request needs.
pub(crate) struct Inner {
    pub(crate) backend: Backend,
    pub(crate) config: Config,
    pub(crate) definitions: Arc<Definitions>,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) tokens: Tokens,
}

impl Engine {
    /// Recovers every partition and begins to write. One that cannot be recovered is stopped and says why, and the
    /// others go on; fails, and changes nothing, where none can be.
    pub async fn start(backend: Backend, config: Config) -> Result<Self, StartError> {
        meters::describe();
        let key = backend.keys.get_or_create(TOKEN_KEY).await;
        let key = key.map_err(|error| StartError::NoKey(error.to_string()))?;
        let definitions = Arc::new(Definitions::new(backend.definitions.clone()));
        let mut partitions = Vec::new();
        let mut running = Vec::new();
        let mut failed = Vec::new();
        for id in (0..config.partitions).map(PartitionId) {
            match Partition::start(id, &backend, &config, &definitions).await {
                Ok((handle, parts)) => {
                    partitions.push(handle);
                    running.push(parts);
                }
                Err(error) => {
                    // As far as can be seen: it is for people.
                    let head = backend.journal.head(id).await.unwrap_or_default();
                    partitions.push(Partition::stopped(id, head, &error));
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
        let inner = Arc::new(Inner {
            backend,
            config,
            definitions,
            partitions,
            tokens: Tokens::new(key),
        });
        let publish =
            |partition: &Partition| Part::start(follow::publish(inner.clone(), partition.clone()));
        let following = inner.partitions.iter().map(publish).collect();
        Ok(Self {
            inner,
            running: Mutex::new(running),
            following: Mutex::new(following),
        })
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

    /// Lets nothing new in, makes durable what was let in, brings the view up to date, and ends.
    pub async fn shutdown(&self) {
        for partition in &self.inner.partitions {
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
    /// The home of an execution.
    pub(crate) fn partition(&self, key: &Key) -> &Partition {
        let home = PartitionId::of(&key.tenant, &key.id, self.config.partitions);
        &self.partitions[usize::from(home.0)]
    }

    /// An execution as of now: from memory, or from the view once it has ended. Its large values are loaded.
    pub(crate) async fn find(&self, key: &Key, with_positions: bool) -> Result<Snapshot, Refusal> {
        let partition = self.partition(key);
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
            if let Some(snapshot) = self.find_in_view(key).await? {
                return Ok(snapshot);
            }
        }
        Err(Refusal::NotFound(format!(
            "there is no execution {}",
            key.id
        )))
    }

    /// An execution that has left memory.
    pub(crate) async fn find_in_view(&self, key: &Key) -> Result<Option<Snapshot>, Refusal> {
        let unavailable = |error: String| Refusal::unavailable(error);
        let partition = self.partition(key).id;
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

    /// Every durable event of an execution.
    pub(crate) async fn events_of(&self, key: &Key) -> Result<Vec<history::Written>, Refusal> {
        let snapshot = self.find(key, true).await?;
        history::events(
            &self.backend,
            self.partition(key).id,
            key,
            &snapshot.positions,
        )
        .await
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
