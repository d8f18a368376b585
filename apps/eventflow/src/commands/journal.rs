//! `eventflow journal show | verify | quarantine`: the records themselves, for the day on which one is bad.

use std::{collections::BTreeSet, env, ops::RangeInclusive};

use anyhow::ensure;
use console::style;
use eventflow_domain::{
    Digest, PartitionId, Position,
    record::{self, Chain, Entry, ExecutionEvents, RecordFault},
};
use eventflow_ports::{JournalEntry, ReadLimit};
use eventflow_wire::v1::Time;
use serde_json::{Value, json};

use crate::{
    Common, Outcome,
    output::{self, Format},
    store::{Order, Quarantined, Reading, RecordsError, StoreArgument},
    words,
};

/// Characters of a hash that people are shown; the JSON has all.
const HASH_WIDTH: usize = 12;

/// `eventflow journal`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Journal {
    /// Show records one by one, and what was set aside
    Show(Show),
    /// Check that no record is missing, damaged or from elsewhere, and name the first that is
    Verify(Verify),
    /// Set a bad record and all that follow it aside, so that its partition can start again
    Quarantine(Quarantine),
}

impl Journal {
    pub(crate) fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        match self {
            Self::Show(show) => show.run(common),
            Self::Verify(verify) => verify.run(common),
            Self::Quarantine(quarantine) => quarantine.run(common),
        }
    }
}

/// `eventflow journal show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    store: StoreArgument,
    /// Whose records
    #[arg(long, value_name = "N", default_value_t = 0)]
    partition: u16,
    /// From this position on
    #[arg(long, value_name = "POSITION", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

impl Show {
    fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let store = self.store.read()?;
        let reader = store.reading();
        let partition = partition(reader, self.partition)?;
        for quarantined in reader.quarantined()? {
            if quarantined.partition == partition {
                show_quarantined(&quarantined, common.output)?;
            }
        }
        let mut after = Position(self.from - 1);
        let mut left = self.limit;
        while left > 0 {
            let limit = ReadLimit {
                records: left.min(ReadLimit::REPLAY.records),
                ..ReadLimit::REPLAY
            };
            let entries = reader.records(partition, after, limit)?;
            let Some(last) = entries.last() else { break };
            after = last.position;
            left -= entries.len().min(left);
            for entry in &entries {
                show_record(reader, partition, entry, common.output)?;
            }
        }
        Ok(Outcome::Yes)
    }
}

fn show_record(
    reader: &dyn Reading,
    partition: PartitionId,
    entry: &JournalEntry,
    format: Format,
) -> anyhow::Result<()> {
    // Who wrote it matters only where it is not what a writer writes.
    let remark = match record::decode(&entry.record) {
        Ok(_) => None,
        Err(_) => reader.remark(partition, entry.position)?,
    };
    match format {
        Format::Json => {
            let mut record = record_json(partition, entry);
            if let Some(remark) = remark {
                record["remark"] = remark.into();
            }
            output::json(&record)
        }
        Format::Text => {
            let remark = remark.map(|remark| format!("\n  {remark}"));
            output::line(record_text(entry) + &remark.unwrap_or_default())
        }
    }
}

fn partition(reader: &dyn Reading, number: u16) -> anyhow::Result<PartitionId> {
    let partitions = reader.partitions();
    ensure!(
        number < partitions,
        "there is no partition {number}: the store has {partitions}, counted from 0"
    );
    Ok(PartitionId(number))
}

fn record_json(partition: PartitionId, entry: &JournalEntry) -> Value {
    let about = json!({
        "partition": partition, "position": entry.position, "bytes": entry.record.len(),
        "hash": Digest::of(&entry.record),
    });
    let rest = match record::decode(&entry.record) {
        Ok(record) => json!({
            "epoch": record.header.epoch, "batch": record.header.batch,
            "time": Time(record.header.time), "previous": record.header.previous, "entries": record.entries,
        }),
        Err(fault) => json!({"fault": fault.to_string()}),
    };
    let fields = [about, rest].into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(fields.flatten().collect())
}

fn record_text(entry: &JournalEntry) -> String {
    let hash = Digest::of(&entry.record).to_string();
    let (hash, bytes) = (style(&hash[..HASH_WIDTH]).dim(), entry.record.len());
    let position = style(format!("record {}", entry.position)).bold();
    let record = match record::decode(&entry.record) {
        Ok(record) => record,
        Err(fault) => {
            let fault = style(fault).red().bold();
            return format!("{position}  {hash}  {bytes} bytes  {fault}");
        }
    };
    let header = record.header;
    let head = format!(
        "{position}  {hash}  {bytes} bytes  epoch {} batch {}  {}",
        header.epoch,
        header.batch,
        Time(header.time)
    );
    let lines = record.entries.iter().map(|entry| match entry {
        Entry::EpochStarted { level, writer } => {
            format!("\n  epoch_started by {writer}, format level {level}")
        }
        Entry::Execution(events) => events_text(events),
    });
    head + &lines.collect::<String>()
}

fn events_text(written: &ExecutionEvents) -> String {
    let (tenant, execution) = (&written.tenant, &written.execution);
    let lines: Vec<String> = match written.parse() {
        Ok(events) => events
            .iter()
            .map(|(sequence, event)| {
                let task = event_task(event).map(|task| format!(" {task}"));
                let (kind, task) = (event.kind(), task.unwrap_or_default());
                format!("\n  {tenant}/{execution} {sequence:>4} {kind}{task}")
            })
            .collect(),
        Err(fault) => vec![format!("\n  {tenant}/{execution}: {fault}")],
    };
    lines.concat()
}

/// The task that an event tells of, as it is written there.
fn event_task(event: &eventflow_domain::execution::Event) -> Option<String> {
    let value = serde_json::to_value(event).ok()?;
    let task = value.as_object()?.values().next()?.get("task")?;
    Some(
        task.as_str()
            .map_or_else(|| task.to_string(), str::to_owned),
    )
}

/// `eventflow journal verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    store: StoreArgument,
    /// Only of this partition
    #[arg(long, value_name = "N")]
    partition: Option<u16>,
}

impl Verify {
    fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let store = self.store.read()?;
        let reader = store.reading();
        let partitions = match self.partition {
            Some(number) => vec![partition(reader, number)?],
            None => (0..reader.partitions()).map(PartitionId).collect(),
        };
        let mut outcome = Outcome::Yes;
        for partition in partitions {
            let followed = follow(reader, partition)?;
            if followed.fault.is_some() {
                outcome = Outcome::No;
            }
            followed.print(partition, common.output)?;
        }
        Ok(outcome)
    }
}

/// A partition's log as far as it is what was written.
struct Followed {
    chain: Chain,
    position: Position,
    /// The first bad record, and what is wrong with it.
    fault: Option<(Position, String)>,
}

fn follow(reader: &dyn Reading, partition: PartitionId) -> anyhow::Result<Followed> {
    let (head, damage) = reader.head(partition)?;
    let mut followed = Followed {
        chain: Chain::start(partition),
        position: Position(0),
        fault: None,
    };
    while followed.position < head && followed.fault.is_none() {
        let next = followed.position.next();
        let entries = match reader.records(partition, followed.position, ReadLimit::REPLAY) {
            Ok(entries) => entries,
            Err(RecordsError::Damaged(fault)) => {
                followed.fault = Some((next, fault));
                break;
            }
            Err(RecordsError::Failed(error)) => return Err(error),
        };
        if entries.is_empty() {
            followed.fault = Some((next, "it is missing".to_owned()));
        }
        for entry in entries {
            if let Err(mut fault) = followed.pass(&entry) {
                let position = followed.position.next();
                if let Some(remark) = reader.remark(partition, position)? {
                    fault = format!("{fault} ({remark})");
                }
                followed.fault = Some((position, fault));
                break;
            }
        }
    }
    if followed.fault.is_none() {
        followed.fault = damage.map(|damage| (followed.position.next(), damage));
    }
    Ok(followed)
}

impl Followed {
    fn pass(&mut self, entry: &JournalEntry) -> Result<(), String> {
        if entry.position != self.position.next() {
            return Err("it is missing".to_owned());
        }
        match self.chain.follow(&entry.record) {
            Ok(_) => {
                self.position = entry.position;
                Ok(())
            }
            Err(fault) => Err(self.name(&fault, entry)),
        }
    }

    /// What a record is that does not continue the chain.
    fn name(&self, fault: &RecordFault, entry: &JournalEntry) -> String {
        let epoch = record::decode(&entry.record).map(|record| record.header.epoch);
        match (fault, epoch) {
            (RecordFault::Foreign | RecordFault::Truncated(_), _) => {
                format!("a stranger's message: {fault}")
            }
            (RecordFault::Chain(_), Ok(epoch)) if epoch < self.chain.epoch => format!(
                "a fork, a record of epoch {epoch} behind those of epoch {}: {fault}",
                self.chain.epoch
            ),
            _ => fault.to_string(),
        }
    }

    fn print(&self, partition: PartitionId, format: Format) -> anyhow::Result<()> {
        let (records, epoch, hash) = (self.position, self.chain.epoch, self.chain.hash);
        if format == Format::Json {
            let fault = self.fault.as_ref();
            return output::json(&json!({
                "partition": partition, "records": records, "epoch": epoch, "hash": hash,
                "firstBad": fault.map(|(position, detail)| json!({"position": position, "detail": detail})),
            }));
        }
        match &self.fault {
            None => output::line(format!(
                "partition {partition}: {records} records up to epoch {epoch}, {} ({hash})",
                style("whole").green()
            )),
            Some((position, detail)) => output::line(format!(
                "partition {partition}: {records} records are whole; {} {detail}",
                style(format!("record {position}:")).red().bold()
            )),
        }
    }
}

/// `eventflow journal quarantine`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is set aside is kept, in <store>/quarantine or in the bucket <PREFIX>_QUARANTINE, and is listed by \
                  `journal show` and `doctor`. Offline only: no service may have an embedded store open; on NATS the \
                  nodes may run where nothing is lost and nothing moves, as without a stranger's message at the end. A \
                  position that later records do not miss is taken out alone there. Otherwise, what those records say has \
                  not happened any more: restore a backup instead, if there is one. Interrupted, run it again."
)]
pub(crate) struct Quarantine {
    #[command(flatten)]
    store: StoreArgument,
    /// Whose record
    #[arg(long, value_name = "N")]
    partition: u16,
    /// The bad record; it and all that cannot follow without it are set aside
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(u64).range(1..))]
    position: u64,
    /// Why, for those who look at it later
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

impl Quarantine {
    fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        ensure!(!self.reason.trim().is_empty(), "--reason must say why");
        let store = self.store.read()?;
        let reader = store.reading();
        let partition = partition(reader, self.partition)?;
        let first = Position(self.position);
        let lost = Lost::of(reader, partition, reader.planned(partition, first)?)?;
        let quarantined = reader.set_aside(&Order {
            partition,
            first,
            at: words::now(),
            by: operator(),
            reason: self.reason,
        })?;
        if common.output == Format::Json {
            let mut said = quarantined_json(&quarantined);
            said["lost"] = json!({
                "unreadable": lost.unreadable, "events": lost.events,
                "executions": lost.touched.len(), "started": lost.started,
            });
            output::json(&said)?;
            return Ok(Outcome::Yes);
        }
        show_quarantined(&quarantined, Format::Text)?;
        if !quarantined.loses {
            output::line("nothing that was acknowledged is lost")?;
            return Ok(Outcome::Yes);
        }
        output::line(format!(
            "{} events of {} executions have not happened any more, {} of which were started there and are gone; {} of \
             the records could not be read. What was acknowledged with them was acknowledged in vain, and agents may get \
             again what they did.",
            lost.events,
            lost.touched.len(),
            lost.started,
            lost.unreadable
        ))?;
        Ok(Outcome::Yes)
    }
}

/// Who does this, as far as the machine knows.
fn operator() -> String {
    let user = env::var("USER").or_else(|_| env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    let system = rustix::system::uname();
    format!("{user}@{}", system.nodename().to_string_lossy())
}

/// What the records that are set aside said.
#[derive(Default)]
struct Lost {
    unreadable: u64,
    events: u64,
    started: u64,
    touched: BTreeSet<(String, String)>,
}

impl Lost {
    fn of(
        reader: &dyn Reading,
        partition: PartitionId,
        planned: Vec<RangeInclusive<u64>>,
    ) -> anyhow::Result<Self> {
        let mut lost = Self::default();
        for range in planned {
            let mut after = Position(range.start() - 1);
            while after.0 < *range.end() {
                let entries = reader.records(partition, after, ReadLimit::REPLAY)?;
                let within = |entry: &&JournalEntry| range.contains(&entry.position.0);
                for entry in entries.iter().filter(within) {
                    lost.count(entry);
                }
                let Some(end) = entries.last() else { break };
                after = end.position;
            }
        }
        Ok(lost)
    }

    fn count(&mut self, entry: &JournalEntry) {
        let Ok(record) = record::decode(&entry.record) else {
            self.unreadable += 1;
            return;
        };
        for entry in record.entries {
            let Entry::Execution(written) = entry else {
                continue;
            };
            self.events += written.events.len() as u64;
            self.started += u64::from(written.first.0 == 1);
            let key = (written.tenant.to_string(), written.execution.to_string());
            self.touched.insert(key);
        }
    }
}

/// Shows what was set aside.
fn show_quarantined(quarantined: &Quarantined, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(&json!({"quarantined": quarantined_json(quarantined)})),
        Format::Text => output::line(format!(
            "{} {} of the records {} to {} of partition {}, {}",
            style("set aside:").yellow().bold(),
            quarantined.records,
            quarantined.first,
            quarantined.last,
            quarantined.partition,
            audit(quarantined)
        )),
    }
}

/// When, by whom, why, and where it lies.
pub(crate) fn audit(quarantined: &Quarantined) -> String {
    let by = quarantined.by.as_ref().map(|by| format!(" by {by}"));
    format!(
        "on {}{}: {} ({})",
        Time(quarantined.at),
        by.unwrap_or_default(),
        quarantined.reason,
        quarantined.lies_in.1
    )
}

/// What was set aside, for programs.
fn quarantined_json(quarantined: &Quarantined) -> Value {
    let (kind, name) = &quarantined.lies_in;
    json!({
        *kind: name, "partition": quarantined.partition,
        "first": quarantined.first, "last": quarantined.last, "records": quarantined.records, "loses": quarantined.loses,
        "at": Time(quarantined.at), "by": quarantined.by, "reason": quarantined.reason,
    })
}
