//! A new leader begins with a copy of the old one's view, not with the whole journal.

mod support;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_adapter_sqlite::SqliteStore;
use eventflow_domain::{PartitionId, Position, execution::Status};
use eventflow_engine::Backend;
use eventflow_ports::{
    Appending, Journal, JournalEntry, ReadError, ReadLimit, ViewCopies, ViewCopyError,
    inbound::Executions,
};
use support::{
    nodes::Nodes,
    requests::{id, one_task, set_only, start, tenant},
};

/// More records than a copy is made for.
const RECORDS: usize = 1_100;

/// Keeps the newest copy of each partition in memory.
#[derive(Default)]
struct Copies {
    kept: Mutex<HashMap<PartitionId, (Position, Vec<u8>)>>,
    /// So many of the next questions get no answer.
    unheard: AtomicUsize,
}

impl Copies {
    fn position(&self) -> Position {
        let copies = self.kept.lock().unwrap();
        copies
            .values()
            .map(|(through, _)| *through)
            .max()
            .unwrap_or_default()
    }
}

#[async_trait]
impl ViewCopies for Copies {
    async fn put(
        &self,
        partition: PartitionId,
        through: Position,
        file: &Path,
    ) -> Result<(), ViewCopyError> {
        let bytes = std::fs::read(file).map_err(ViewCopyError::File)?;
        self.kept
            .lock()
            .unwrap()
            .insert(partition, (through, bytes));
        Ok(())
    }

    async fn newest(&self, _: PartitionId) -> Result<Position, ViewCopyError> {
        let less = |left: usize| left.checked_sub(1);
        let unheard = &self.unheard;
        match unheard.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Err(ViewCopyError::Unavailable("no answer".into())),
            Err(_) => Ok(self.position()),
        }
    }

    async fn get(
        &self,
        partition: PartitionId,
        file: &Path,
    ) -> Result<Option<Position>, ViewCopyError> {
        let copies = self.kept.lock().unwrap();
        let Some((through, bytes)) = copies.get(&partition) else {
            return Ok(None);
        };
        std::fs::write(file, bytes).map_err(ViewCopyError::File)?;
        Ok(Some(*through))
    }
}

/// A journal that counts the records that are read from it.
struct Counting {
    journal: Arc<dyn Journal>,
    read: Arc<AtomicUsize>,
}

#[async_trait]
impl Journal for Counting {
    fn append(&self, partition: PartitionId, expected: Position, record: Bytes) -> Appending {
        self.journal.append(partition, expected, record)
    }

    async fn read(
        &self,
        partition: PartitionId,
        after: Position,
        limit: ReadLimit,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let entries = self.journal.read(partition, after, limit).await?;
        self.read.fetch_add(entries.len(), Ordering::SeqCst);
        Ok(entries)
    }

    async fn head(&self, partition: PartitionId) -> Result<Position, ReadError> {
        self.journal.head(partition).await
    }
}

/// Views of its own in a directory, copies beside the others', and its reads of the journal counted.
fn changed(backend: &mut Backend, directory: &Path, copies: &Arc<Copies>, read: &Arc<AtomicUsize>) {
    let store = SqliteStore::open(directory.join("store"), 1).expect("opened");
    backend.view = store.view();
    backend.publisher = None;
    backend.journal = Arc::new(Counting {
        journal: backend.journal.clone(),
        read: read.clone(),
    });
    let cluster = backend.cluster.as_mut().expect("one of many");
    cluster.view_copies = Some(copies.clone());
}

#[tokio::test]
async fn a_successor_takes_up_a_copy_of_the_view() {
    let nodes = Nodes::by_hand(1);
    let copies = Arc::new(Copies::default());
    let directories = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let read = Arc::new(AtomicUsize::new(0));
    let change = |backend: &mut Backend| changed(backend, directories[0].path(), &copies, &read);
    let one = nodes.start_with(change).await;
    nodes.balanced(std::slice::from_ref(&one)).await;
    one.engine
        .start(start("open", one_task()))
        .await
        .expect("started");
    for number in 0..RECORDS {
        let request = start(&format!("done-{number}"), set_only());
        one.engine.start(request).await.expect("started");
    }
    for _ in 0..20 {
        nodes.second(&[&one]).await;
    }
    support::until("a copy", || copies.position() >= Position(RECORDS as u64)).await;

    let recovering = Arc::new(AtomicUsize::new(0));
    let change =
        |backend: &mut Backend| changed(backend, directories[1].path(), &copies, &recovering);
    let two = nodes.start_with(change).await;
    // A leader of the copies was lost with the partition's.
    copies.unheard.store(3, Ordering::SeqCst);
    one.die().await;
    let is_led = || two.leads().len() == 1;
    nodes.within_5_seconds(&[&two], "a successor", is_led).await;
    let replayed = recovering.load(Ordering::SeqCst);
    assert!(replayed < RECORDS / 2, "{replayed} records were read");
    let owner = tenant();
    for (name, status) in [("open", Status::Running), ("done-0", Status::Completed)] {
        let view = two.engine.view(&owner, &id(name)).await.expect("seen");
        assert_eq!(view.status, status, "{name}");
    }
}
