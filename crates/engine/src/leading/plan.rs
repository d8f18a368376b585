//! Who should lead what: pure, and the same on every node that sees the same roll.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use eventflow_domain::{NodeName, PartitionId};
use eventflow_ports::{Mark, Roll};

/// A node whose mark has stood still for so long is dead. A leader's own lease ends a margin earlier.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// What this node is to do about its partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To be taken, each with the mark it is seen with.
    pub(crate) take: Vec<(PartitionId, Mark)>,
    /// To be handed over.
    pub(crate) release: Vec<PartitionId>,
}

/// Since when each mark of the roll has stood still, by this node's own clock.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    nodes: BTreeMap<NodeName, (Mark, Duration)>,
    partitions: BTreeMap<PartitionId, (Mark, Duration)>,
}

impl Sightings {
    /// Looks at the roll at `now`, a span of this node's monotonic clock.
    pub(crate) fn look(&mut self, roll: &Roll, now: Duration) {
        let nodes = roll.nodes.iter().cloned();
        self.nodes = seen(nodes, &self.nodes, now);
        let partitions = roll.partitions.iter();
        let partitions = partitions.map(|held| (held.partition, held.mark));
        self.partitions = seen(partitions, &self.partitions, now);
    }

    /// Whoever's mark has not stood still for too long.
    pub(crate) fn alive(&self, now: Duration) -> BTreeSet<NodeName> {
        let alive = self
            .nodes
            .iter()
            .filter(|(_, (_, since))| now.saturating_sub(*since) < LEASE);
        alive.map(|(node, _)| node.clone()).collect()
    }

    /// Partitions whose leader has not changed for a while: whoever should have taken one of them does not.
    pub(crate) fn still(&self, now: Duration) -> BTreeSet<PartitionId> {
        let still = self.partitions.iter();
        let still = still.filter(|(_, (_, since))| now.saturating_sub(*since) >= LEASE);
        still.map(|(partition, _)| *partition).collect()
    }
}

fn seen<K: Ord + Clone>(
    marks: impl Iterator<Item = (K, Mark)>,
    before: &BTreeMap<K, (Mark, Duration)>,
    now: Duration,
) -> BTreeMap<K, (Mark, Duration)> {
    marks
        .map(|(key, mark)| {
            let since = match before.get(&key) {
                Some((known, since)) if *known == mark => *since,
                _ => now,
            };
            (key, (mark, since))
        })
        .collect()
}

/// What `me` is to do, given who is alive. Each live node leads its share of the partitions, all shares differ by at
/// most one, and no partition moves that need not: whoever has more than its share gives up what it has had longest.
pub(crate) fn plan(
    roll: &Roll,
    alive: &BTreeSet<NodeName>,
    me: &NodeName,
    partitions: u16,
) -> Plan {
    let holders = holders(roll, alive, partitions);
    let targets = targets(&holders, alive);
    let mut plan = Plan::default();
    for ((partition, (holder, mark)), target) in holders.iter().zip(targets) {
        match holder {
            Some(holder) if *holder == me && target != Some(me) => plan.release.push(*partition),
            None if target == Some(me) => plan.take.push((*partition, *mark)),
            _ => {}
        }
    }
    plan
}

type Holders<'a> = BTreeMap<PartitionId, (Option<&'a NodeName>, Mark)>;

/// The live leader of each partition, and the partition's mark.
fn holders<'a>(roll: &'a Roll, alive: &BTreeSet<NodeName>, partitions: u16) -> Holders<'a> {
    let mut holders: Holders<'a> = (0..partitions)
        .map(|id| (PartitionId(id), (None, Mark::NONE)))
        .collect();
    for held in &roll.partitions {
        if let Some(holder) = holders.get_mut(&held.partition) {
            let leader = held
                .leader
                .as_ref()
                .filter(|leader| alive.contains(*leader));
            *holder = (leader, held.mark);
        }
    }
    holders
}

/// Who should lead each partition, in their order.
fn targets<'a>(holders: &Holders<'a>, alive: &'a BTreeSet<NodeName>) -> Vec<Option<&'a NodeName>> {
    let mut held: BTreeMap<&NodeName, Vec<(Mark, PartitionId)>> =
        alive.iter().map(|node| (node, Vec::new())).collect();
    for (partition, (holder, mark)) in holders {
        if let Some(held) = holder.and_then(|holder| held.get_mut(holder)) {
            held.push((*mark, *partition));
        }
    }
    // Those who have most keep one more than the others, where it does not come out even.
    let mut nodes: Vec<_> = held
        .iter()
        .map(|(node, held)| (Reverse(held.len()), *node))
        .collect();
    nodes.sort_unstable();
    let (least, uneven) = match nodes.len() {
        0 => return vec![None; holders.len()],
        count => (holders.len() / count, holders.len() % count),
    };
    let mut targets: BTreeMap<PartitionId, &NodeName> = BTreeMap::new();
    let mut wanting = Vec::new();
    for (rank, (_, node)) in nodes.iter().enumerate() {
        let share = least + usize::from(rank < uneven);
        let mut kept = held.remove(node).unwrap_or_default();
        kept.sort_unstable_by_key(|kept| Reverse(*kept));
        kept.truncate(share);
        wanting.extend(std::iter::repeat_n(*node, share - kept.len()));
        targets.extend(kept.into_iter().map(|(_, partition)| (partition, *node)));
    }
    let mut wanting = wanting.into_iter();
    holders
        .keys()
        .map(|partition| targets.get(partition).copied().or_else(|| wanting.next()))
        .collect()
}

#[cfg(test)]
mod tests;
