//! The view's feed: follows a writer asynchronously and in batches, never inside a commit.

use std::sync::Arc;

use eventflow_domain::{PartitionId, execution::Execution};
use eventflow_ports::{ViewBatch, ViewPosition, ViewRow};
use tokio::sync::mpsc;

use super::{Part, mend::pause, message::Key, resident::Resident};
use crate::{
    backend::Backend,
    config::{VIEW_LINGER, VIEW_ROWS_MAX},
    frozen, render,
};

/// Unbounded channels on both sides: every row is of a resident execution, at most once ended and once a second while
/// open, so the bound of residents is theirs too.
pub(crate) enum FeedItem {
    Row(FeedRow),
    Progress {
        through: eventflow_domain::Position,
        replay_after: eventflow_domain::Position,
    },
}

/// An execution as it is durable.
pub(crate) struct FeedRow {
    key: Key,
    execution: Arc<Execution>,
    plan: Arc<eventflow_domain::plan::Plan>,
    positions: Vec<eventflow_domain::Position>,
}

impl FeedRow {
    pub(crate) fn of(key: &Key, resident: &Resident) -> Self {
        debug_assert!(
            resident.is_settled(),
            "the view never holds what is not durable"
        );
        Self {
            key: key.clone(),
            execution: resident.execution.clone(),
            plan: resident.plan.clone(),
            positions: resident.positions.clone(),
        }
    }

    fn into_row(self) -> ViewRow {
        let requested = &self.execution.requested;
        let summary = render::summary(&self.execution, &self.plan);
        ViewRow {
            tenant: self.key.tenant,
            execution: self.key.id,
            workflow: requested.workflow.name.to_string(),
            status: render::status(&self.execution),
            created_at: self.execution.created_at,
            labels: requested.labels.clone(),
            summary,
            state: Some(frozen::freeze(&self.execution, &self.positions)),
        }
    }
}

/// Executions whose end the view holds now. An earlier snapshot of one does not count: whoever asked the view would not
/// find it.
pub(crate) struct Applied {
    pub(crate) ended: Vec<Key>,
}

/// Starts the feed of one partition; it ends after the writer, when everything is applied.
pub(crate) fn start(
    partition: PartitionId,
    backend: Backend,
) -> (
    mpsc::UnboundedSender<FeedItem>,
    mpsc::UnboundedReceiver<Applied>,
    Part,
) {
    let (items, receiver) = mpsc::unbounded_channel();
    let (applied, done) = mpsc::unbounded_channel();
    let feed = Feed {
        partition,
        backend,
        items: receiver,
        applied,
        position: None,
    };
    (items, done, Part::start(feed.run()))
}

struct Feed {
    partition: PartitionId,
    backend: Backend,
    items: mpsc::UnboundedReceiver<FeedItem>,
    applied: mpsc::UnboundedSender<Applied>,
    /// As the writer said last; nothing before its first record.
    position: Option<ViewPosition>,
}

impl Feed {
    async fn run(mut self) {
        let mut items = Vec::new();
        while self.items.recv_many(&mut items, VIEW_ROWS_MAX).await > 0 {
            let mut rows = self.collect(&mut items);
            if rows.is_empty() {
                continue;
            }
            self.await_company(&mut items, &mut rows).await;
            if let Some(position) = self.position {
                self.apply(position, rows).await;
            }
        }
        // The writer has ended: the view says how far it came, so that the next start replays nothing.
        if let Some(position) = self.position {
            self.apply(position, Vec::new()).await;
        }
    }

    /// Takes more rows until there are enough of them, the linger is over, or the writer has ended.
    async fn await_company(&mut self, items: &mut Vec<FeedItem>, rows: &mut Vec<FeedRow>) {
        let lingering = tokio::time::sleep(VIEW_LINGER);
        tokio::pin!(lingering);
        while rows.len() < VIEW_ROWS_MAX {
            let more = tokio::select! {
                biased;
                more = self.items.recv_many(items, VIEW_ROWS_MAX) => more,
                () = &mut lingering => 0,
            };
            if more == 0 {
                return;
            }
            rows.extend(self.collect(items));
        }
    }

    fn collect(&mut self, items: &mut Vec<FeedItem>) -> Vec<FeedRow> {
        let mut rows = Vec::new();
        for item in items.drain(..) {
            match item {
                FeedItem::Row(row) => rows.push(row),
                FeedItem::Progress {
                    through,
                    replay_after,
                } => {
                    self.position = Some(ViewPosition {
                        through,
                        replay_after,
                    });
                }
            }
        }
        rows
    }

    async fn apply(&self, position: ViewPosition, rows: Vec<FeedRow>) {
        let ended = rows.iter().filter(|row| row.execution.is_ended());
        let ended = ended.map(|row| row.key.clone()).collect();
        let rows = rows.into_iter().map(FeedRow::into_row).collect();
        let batch = ViewBatch { position, rows };
        crate::meters::view_rows(batch.rows.len());
        while let Err(error) = self.backend.view.apply(self.partition, batch.clone()).await {
            tracing::warn!(partition = %self.partition, %error, "the view could not be written, trying again");
            pause(&self.backend).await;
        }
        let _ = self.applied.send(Applied { ended });
    }
}
