//! One event: is it the next of its execution, may it happen, and does the view agree?

use eventflow_domain::{
    DurationMs, PartitionId, Position, Sequence, Value,
    execution::{Event, Status},
};

use super::{Checker, Ended, Key, Open, Reading, Store, identity};
use crate::{
    Invariant, Lateness,
    account::{Account, Moment},
    compare,
    fact::Fact,
};

impl<S: Store> Checker<S> {
    pub(super) fn event(
        &mut self,
        reading: &mut Reading,
        key: &Key,
        position: Position,
        sequence: Sequence,
        event: &Event,
    ) {
        let fact = Fact::of(event);
        if self.comes_after_the_end(key, &fact) {
            return;
        }
        let mut open = match reading.open.remove(key) {
            None => self.begin(reading, key, sequence, event, &fact),
            Some(open) if matches!(fact, Fact::Requested(_)) => {
                self.find(Invariant::I8, "it is started a second time".into());
                reading.open.insert(key.clone(), open);
                return;
            }
            Some(mut open) => {
                if !self.follows(&mut open, sequence) {
                    reading.open.insert(key.clone(), open);
                    return;
                }
                self.take(reading, key, &mut open, event, &fact);
                open
            }
        };
        self.check_blobs(key, event);
        self.compare_view(reading, key, position, &mut open);
        if let Fact::Ended { status, .. } = fact {
            self.end(reading, key, position, &open, status);
        } else {
            reading.open.insert(key.clone(), open);
        }
    }

    fn comes_after_the_end(&mut self, key: &Key, fact: &Fact<'_>) -> bool {
        let Some(ended) = self.ended.get(&identity(key)).copied() else {
            return false;
        };
        if matches!(fact, Fact::Requested(_)) {
            let detail = format!(
                "it is started again; it had ended in partition {}",
                ended.partition
            );
            self.find(Invariant::I8, detail);
        } else {
            let detail = format!("an event after its end, which was event {}", ended.last);
            self.find(Invariant::I3, detail);
        }
        true
    }

    /// The first event of an execution, which must be its start.
    fn begin(
        &mut self,
        reading: &Reading,
        key: &Key,
        sequence: Sequence,
        event: &Event,
        fact: &Fact<'_>,
    ) -> Open {
        self.check_home(reading.report.partition, key);
        let at = reading.links.time;
        let requested = match fact {
            Fact::Requested(requested) if sequence == Sequence(1) => *requested,
            _ => {
                self.find(Invariant::I2, "its first event is not its start".into());
                return Open {
                    account: Account::blurred(sequence, at),
                    fold: None,
                    has_row: false,
                    is_known_lost: false,
                };
            }
        };
        let plan = self.store.plan(&key.0, &requested.digest);
        if plan.is_none() {
            let detail = format!(
                "its definition {} ({}) is not there or does not compile: it cannot go on",
                requested.workflow, requested.digest
            );
            self.find(Invariant::I1, detail);
        }
        self.expected.started(key);
        let mut open = Open {
            account: Account::requested(requested, plan, at),
            fold: None,
            has_row: false,
            is_known_lost: false,
        };
        compare::fold(&mut open.fold, key, event, at);
        open
    }

    /// Whether the event is the next one. After a gap nothing but the end can be judged.
    fn follows(&mut self, open: &mut Open, sequence: Sequence) -> bool {
        let expected = open.account.sequence.next();
        if sequence < expected {
            self.find(
                Invariant::I2,
                format!("event {sequence} comes a second time"),
            );
            return false;
        }
        if sequence > expected {
            self.find(Invariant::I2, format!("event {expected} is missing"));
            open.account.is_blurred = true;
            open.account.sequence = Sequence(sequence.0 - 1);
            open.fold = None;
        }
        true
    }

    fn take(
        &mut self,
        reading: &Reading,
        key: &Key,
        open: &mut Open,
        event: &Event,
        fact: &Fact<'_>,
    ) {
        let at = reading.links.time;
        let when = Moment {
            at,
            reign_since: reading.links.reign_since,
        };
        for (invariant, detail) in open.account.take(fact, when) {
            self.find(invariant, detail);
        }
        if let Some((ms, timer)) = open.account.late.take() {
            self.late(key, ms, timer);
        }
        compare::fold(&mut open.fold, key, event, at);
        match *fact {
            Fact::Ordered(order) => self.expected.ordered(key, order, at),
            Fact::Completed {
                begun,
                output,
                result,
            } => {
                let findings = &mut self.findings;
                self.expected
                    .brought(key, begun, output, result, &self.place, findings);
            }
            Fact::Faulted {
                begun,
                result: Some(result),
            } => {
                let findings = &mut self.findings;
                self.expected
                    .brought(key, begun, None, Some(result), &self.place, findings);
            }
            _ => {}
        }
    }

    fn late(&mut self, key: &Key, ms: DurationMs, timer: String) {
        if self.settings.late_max.is_some_and(|max| ms > max) {
            self.find(Invariant::I7, format!("{timer} comes {} ms late", ms.0));
        }
        let is_latest = self
            .report
            .latest
            .as_ref()
            .is_none_or(|latest| latest.ms < ms);
        if is_latest {
            let (tenant, execution) = key.clone();
            self.report.latest = Some(Lateness {
                ms,
                timer,
                tenant,
                execution,
            });
        }
    }

    fn check_home(&mut self, partition: PartitionId, key: &Key) {
        let Some(partitions) = self.settings.partitions else {
            return;
        };
        let home = PartitionId::of(&key.0, &key.1, partitions);
        if home != partition {
            let detail = format!("its home is partition {home}: it may be in both");
            self.find(Invariant::I8, detail);
        }
    }

    /// A large value is in its own tenant's store, or the execution shows another's, or nothing.
    fn check_blobs(&mut self, key: &Key, event: &Event) {
        for value in event.values() {
            let Value::Ref { digest, .. } = value else {
                continue;
            };
            if !self.store.has_blob(&key.0, digest) {
                let detail = format!(
                    "it refers to the large value {digest}, which its tenant does not have"
                );
                self.find(Invariant::I9, detail);
            }
        }
    }

    fn compare_view(
        &mut self,
        reading: &mut Reading,
        key: &Key,
        position: Position,
        open: &mut Open,
    ) {
        let Some(rows) = &mut reading.rows else {
            return;
        };
        let Some(fold) = &open.fold else {
            open.has_row |= rows.pass_over(key);
            return;
        };
        open.is_known_lost |= rows.would_be_lost(key, open.account.sequence, position);
        if let Some(differences) = rows.compare_open(key, fold) {
            open.has_row = true;
            for detail in differences {
                self.find(Invariant::I11, detail);
            }
        }
    }

    fn end(
        &mut self,
        reading: &mut Reading,
        key: &Key,
        position: Position,
        open: &Open,
        status: Status,
    ) {
        *reading.report.executions.entry(status).or_default() += 1;
        self.expected
            .ended(key, status, &self.place, &mut self.findings);
        let ended = Ended {
            partition: reading.report.partition,
            last: open.account.sequence,
        };
        self.ended.insert(identity(key), ended);
        let Some(rows) = &mut reading.rows else {
            return;
        };
        let row = self.store.row(reading.report.partition, &key.0, &key.1);
        rows.matched += u64::from(row.is_some() && !open.has_row);
        let differences = match (&row, &open.fold) {
            (None, _) if position <= rows.through => vec![format!(
                "the view stands at record {}, but has no row of it",
                rows.through
            )],
            // A view that lags has an older row, or none.
            (Some(row), Some(fold)) if position <= rows.through || row.is_ended() => {
                compare::differences(row, fold)
            }
            _ => Vec::new(),
        };
        for detail in differences {
            self.find(Invariant::I11, detail);
        }
    }
}
