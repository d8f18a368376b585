//! Setting bad records of a journal's stream aside, and making the stream again from what is left (ADR 17).
//!
//! Nothing can be taken out of a journal's stream, and its positions have no gap: so it is closed, what is bad is copied
//! to the bucket `<PREFIX>_QUARANTINE`, the rest to a stream `<PREFIX>_REMADE_<p>`, and only when both are verified is the
//! journal's stream deleted and made again. Each step can be repeated; a quarantine that was interrupted is ended by doing
//! it again.
//!
//! A journal that is made again **ends behind where it ended before**: records that say nothing follow the good ones.
//! So no position that an old writer, a feed or a view may still know can be taken for one of the new journal.

mod aside;
mod examine;
mod remake;

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use async_nats::Client;
use eventflow_domain::{NodeName, PartitionId, Position, Timestamp};
use eventflow_ports::{Leadership as _, LeadershipError, Mark, ReadError};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use self::{
    aside::Shelf,
    examine::Examined,
    remake::{Remaking, State},
};
use crate::{NatsLeadership, NatsReader, OpenError, StoreReadError, reader::unavailable};

/// Two looks at the roll of nodes are so far apart: longer than a node that lives is silent.
const LOOK_APART: Duration = Duration::from_secs(4);
/// Nodes may take a partition as fast as it is taken from them.
const TAKES_MAX: usize = 20;

/// Records that were set aside, and why: kept beside them for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatsQuarantined {
    /// The object with the messages, a JSON object a line: `<bucket>/<name>`.
    pub object: String,
    /// Whose they were.
    pub partition: PartitionId,
    /// The first message that was bad, or the first position that was empty.
    pub first: Position,
    /// Where the stream ended.
    pub last: Position,
    /// How many were set aside.
    pub records: u64,
    /// Whether something that was acknowledged may be among them.
    pub loses: bool,
    /// When it was done.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: String,
}

/// What to set aside, and who says so.
#[derive(Debug, Clone)]
pub struct SetAside {
    /// Whose records.
    pub partition: PartitionId,
    /// The first bad position; an earlier one sets aside everything from there on.
    pub first: Position,
    /// When it is done.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Why nothing was set aside; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NatsQuarantineError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreReadError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// A bucket cannot be opened.
    #[error(transparent)]
    Bucket(#[from] OpenError),
    /// There is nothing to set aside.
    #[error("partition {partition} has no record {first} and none after it: nothing was set aside")]
    Nothing {
        /// The partition that was named.
        partition: PartitionId,
        /// The position that was named.
        first: Position,
    },
    /// An earlier record is bad as well.
    #[error(
        "partition {partition} is bad from record {bad} on: set that one aside; nothing was changed"
    )]
    Earlier {
        /// The partition that was named.
        partition: PartitionId,
        /// Its first bad position.
        bad: Position,
    },
    /// One that was begun is of another record.
    #[error(
        "a quarantine of partition {partition} was begun with record {first} and not ended: run it again with that one"
    )]
    Begun {
        /// The partition that was named.
        partition: PartitionId,
        /// The position that was named then.
        first: Position,
    },
    /// Nodes live that know what is to be taken away.
    #[error(
        "records are lost or get other positions, and nodes that know them are running ({nodes}): stop all of them \
         first; nothing was changed"
    )]
    NodesLive {
        /// Their names.
        nodes: String,
    },
    /// Somebody wrote meanwhile.
    #[error("partition {partition} was written to meanwhile: nothing was changed, look again")]
    Written {
        /// The partition that was named.
        partition: PartitionId,
    },
    /// A copy is not what was read.
    #[error(
        "stream {stream} does not hold what was copied to it: nothing was deleted, run the quarantine again"
    )]
    Unlike {
        /// Which copy.
        stream: String,
    },
}

impl NatsQuarantined {
    /// Sets a bad record aside with all that cannot follow it, and makes the stream again.
    pub async fn set_aside(
        client: &Client,
        prefix: &str,
        order: &SetAside,
    ) -> Result<Self, NatsQuarantineError> {
        let reader = NatsReader::open(client, prefix).await?;
        let shelf = Shelf::open(client, reader.config()).await?;
        let remaking = Remaking::new(client, reader.config(), order.partition);
        let leadership = NatsLeadership::open(client, reader.config()).await?;
        let state = remaking.state().await?;
        let incident = state.incident().map_or_else(
            || format!("{}-{}-{}", order.partition, order.first, order.at.0),
            str::to_owned,
        );
        check_begun(&incident, order)?;
        if matches!(state, State::Open)
            && let Some(ended) = ended(&remaking, order).await?
        {
            return shelf.find(&ended).await;
        }
        if !matches!(state, State::Copied { .. }) {
            let examined = remaking.examine(order.first).await?;
            examined.check(order)?;
            remaking.close(&incident).await?;
            if let Err(refused) = is_free(&remaking, &leadership, &examined, order).await {
                remaking.reopen().await?;
                return Err(refused);
            }
            depose(&leadership, order.partition, &incident).await?;
            let stream = remaking.journal().await?;
            shelf.put(&stream, &examined, order, &incident).await?;
            remaking.copy(&examined, order, &incident).await?;
        }
        remaking.finish(client).await?;
        // Whoever leads it still knows the journal as it was.
        depose(&leadership, order.partition, &incident).await?;
        shelf.find(&incident).await
    }

    /// Everything that was set aside in a store, oldest first.
    pub async fn list(reader: &NatsReader) -> Result<Vec<Self>, NatsQuarantineError> {
        match reader.objects(aside::BUCKET).await? {
            Some(objects) => Shelf::on(objects, reader.config()).list().await,
            None => Ok(Vec::new()),
        }
    }

    /// The positions that would be set aside.
    pub async fn planned(
        client: &Client,
        reader: &NatsReader,
        partition: PartitionId,
        first: Position,
    ) -> Result<Vec<RangeInclusive<u64>>, NatsQuarantineError> {
        let remaking = Remaking::new(client, reader.config(), partition);
        match remaking.state().await? {
            State::Copied { .. } => Ok(Vec::new()),
            State::Closed { .. } | State::Open => Ok(remaking.examine(first).await?.aside),
        }
    }
}

/// The quarantine of the same record that has ended, perhaps without a word: the journal is whole since.
async fn ended(
    remaking: &Remaking,
    order: &SetAside,
) -> Result<Option<String>, NatsQuarantineError> {
    let made_by = remaking.made_by().await?;
    let Some(incident) = made_by.filter(|incident| first_of(incident) == Some(order.first)) else {
        return Ok(None);
    };
    let examined = remaking.examine(Position(u64::MAX)).await?;
    Ok(examined.bad.is_none().then_some(incident))
}

/// The record that a quarantine was ordered for.
fn first_of(incident: &str) -> Option<Position> {
    let first = incident.split('-').nth(1)?;
    first.parse().ok().map(Position)
}

/// One that was begun goes on with the same record.
fn check_begun(incident: &str, order: &SetAside) -> Result<(), NatsQuarantineError> {
    match first_of(incident) {
        Some(first) if first != order.first => Err(NatsQuarantineError::Begun {
            partition: order.partition,
            first,
        }),
        _ => Ok(()),
    }
}

/// Whether nothing was written since the journal was examined, and nobody runs who would go on with what is lost.
async fn is_free(
    remaking: &Remaking,
    leadership: &NatsLeadership,
    examined: &Examined,
    order: &SetAside,
) -> Result<(), NatsQuarantineError> {
    let partition = order.partition;
    if remaking.last().await? != examined.last {
        return Err(NatsQuarantineError::Written { partition });
    }
    if !examined.loses && !examined.moves {
        return Ok(());
    }
    let nodes = live(leadership).await?;
    if nodes.is_empty() {
        return Ok(());
    }
    let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
    Err(NatsQuarantineError::NodesLive {
        nodes: nodes.join(", "),
    })
}

/// Nodes whose marks move.
async fn live(leadership: &NatsLeadership) -> Result<Vec<NodeName>, NatsQuarantineError> {
    let roll = || async {
        let roll = leadership.roll().await;
        roll.map_err(unavailable("the roll of nodes"))
    };
    let before: BTreeMap<NodeName, Mark> = roll().await?.nodes.into_iter().collect();
    sleep(LOOK_APART).await;
    let after = roll().await?.nodes.into_iter();
    let moved = after.filter(|(node, mark)| before.get(node) != Some(mark));
    Ok(moved.map(|(node, _)| node).collect())
}

/// Takes the partition from whoever leads it, and gives it up. That is for a quick end only: what keeps an old writer
/// from writing is the stream.
async fn depose(
    leadership: &NatsLeadership,
    partition: PartitionId,
    incident: &str,
) -> Result<(), NatsQuarantineError> {
    let failed = unavailable::<LeadershipError>;
    let Ok(me) = NodeName::parse(&format!("quarantine-{incident}")) else {
        return Ok(());
    };
    for _ in 0..TAKES_MAX {
        let roll = leadership
            .roll()
            .await
            .map_err(failed("the roll of nodes"))?;
        let held = roll
            .partitions
            .iter()
            .find(|held| held.partition == partition);
        let Some(held) = held else { return Ok(()) };
        match leadership.take(partition, &me, held.mark).await {
            Ok(mark) => match leadership.release(partition, mark).await {
                // Taken by a node meanwhile, which reads the journal as it is now.
                Ok(()) | Err(LeadershipError::Conflict) => return Ok(()),
                Err(error) => return Err(failed("a release of the partition")(error).into()),
            },
            Err(LeadershipError::Conflict) => {}
            Err(error) => return Err(failed("the partition's lease")(error).into()),
        }
    }
    Ok(())
}
