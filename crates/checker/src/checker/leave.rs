//! The end of a partition: what is still open must be able to go on.

use super::{Checker, Open, Reading, Store};
use crate::{Invariant, account::Moment, compare, violation::Place};

impl<S: Store> Checker<S> {
    /// The end of a partition: what is still open must be able to go on.
    pub(super) fn leave(&mut self) {
        let Some(mut reading) = self.reading.take() else {
            return;
        };
        let mut open: Vec<_> = reading.open.drain().collect();
        open.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (key, open) in open {
            *reading
                .report
                .executions
                .entry(open.account.status())
                .or_default() += 1;
            self.place = Place {
                partition: Some(reading.report.partition),
                position: None,
                owner: Some(key),
                sequence: Some(open.account.sequence),
            };
            self.check_open(&reading, &open);
        }
        self.place = Place {
            partition: Some(reading.report.partition),
            ..Place::default()
        };
        if let Some(rows) = reading.rows.take() {
            reading.report.rows = Some(rows.matched);
            for detail in rows.left_over() {
                self.find(Invariant::I11, detail);
            }
        }
        reading.report.found = self.findings.count - reading.found_before;
        self.report.partitions.push(reading.report);
    }

    fn check_open(&mut self, reading: &Reading, open: &Open) {
        let Some(fold) = &open.fold else { return };
        if open.is_known_lost {
            let detail = "a recovery would miss events of it: neither replayed nor in its row";
            self.find(Invariant::I11, detail.into());
        }
        for (invariant, detail) in compare::cause_differs(&open.account, fold) {
            self.find(invariant, detail);
        }
        let links = &reading.links;
        let now = Moment {
            at: links.time,
            reign_since: links.reign_since,
        };
        self.check_overdue(open, now);
        let idle = now.at.since(open.account.changed_at.max(now.reign_since));
        if !open.account.is_alive() && idle > self.settings.stuck_after {
            let detail = format!(
                "nothing of it is under way, and nothing happened to it while its partition went on for {} ms",
                idle.0
            );
            self.find(Invariant::I12, detail);
        }
    }

    /// A timer that has not acted, although somebody was there who could have.
    fn check_overdue(&mut self, open: &Open, now: Moment) {
        let overdue = open.account.overdue(now);
        let (Some((overdue, task)), Some(max)) = (overdue, self.settings.late_max) else {
            return;
        };
        if overdue > max {
            let detail = format!("a timer of {task} is overdue for {} ms", overdue.0);
            self.find(Invariant::I7, detail);
        }
    }
}
