//! `eventflow doctor`: what a store or a service is set up like, and what is wrong with that.

mod nats;

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use console::style;
use eventflow_domain::{
    DurationMs, PartitionId, Position, Timestamp, limits,
    record::{self, FORMAT_LEVEL},
};
use eventflow_ports::ReadLimit;
use eventflow_wire::v1::{Time, system::System};
use serde::Serialize;

use crate::{
    Common, Outcome,
    commands::journal::audit,
    output::{self, Format},
    service::{self, Service},
    store::{Embedded, Location, Reading, Store, StoreArgument},
    words,
};

/// Below this a store is about to stop: a checkpoint and a blob of the largest size need it.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// A clock may be behind the last record by this much, as time services correct it.
const CLOCK_BEHIND_MAX: DurationMs = DurationMs(1_000);
/// 2020: a machine whose clock says less has none that runs on.
const CLOCK_MIN: Timestamp = Timestamp(1_577_836_800_000);
/// Syncs that are timed.
const SYNCS: usize = 9;
/// No disk syncs faster; what does is memory, or a cache that says so.
const SYNC_MIN: Duration = Duration::from_micros(20);

/// `eventflow doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Looks at the service where --server or EVENTFLOW_SERVER names one, and at the store where --store names \
                  one or no service is named. Exit codes: 0 nothing is wrong; 1 something is."
)]
pub(crate) struct Doctor {
    #[command(flatten)]
    store: StoreArgument,
    /// A NATS server as its system account, nats://user:password@host:port: it alone is told when records are synced
    #[arg(
        long,
        env = "EVENTFLOW_NATS_SYSTEM",
        value_name = "URL",
        hide_env_values = true
    )]
    nats_system: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    state: State,
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Sound,
    /// Worth knowing.
    Notice,
    Wrong,
}

impl Doctor {
    pub(crate) fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let mut findings = Findings::default();
        if common.server.is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(look_at_service(common, &mut findings))?;
        }
        if self.store.is_given() || common.server.is_none() {
            if let Location::Embedded(directory) = self.store.location() {
                findings.add("store", State::Sound, directory.display().to_string());
            }
            match self.store.read() {
                Ok(store) => {
                    let last = match &store {
                        Store::Embedded(store) => look_at_directory(store, &mut findings)?,
                        Store::Nats(store) => {
                            nats::look(store, self.nats_system.as_deref(), &mut findings)?
                        }
                    };
                    look_at_clock(last, &mut findings);
                    look_at_quarantined(store.reading(), &mut findings)?;
                }
                Err(error) => findings.add("store", State::Wrong, format!("{error:#}")),
            }
            look_at_limits(&mut findings);
        }
        findings.print(common.output)
    }
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: impl Into<String>, state: State, detail: impl Into<String>) {
        self.0.push(Finding {
            what: what.into(),
            state,
            detail: detail.into(),
        });
    }

    fn print(self, format: Format) -> anyhow::Result<Outcome> {
        for finding in &self.0 {
            match format {
                Format::Json => output::json(finding)?,
                Format::Text => {
                    let sign = match finding.state {
                        State::Sound => style("✓").green(),
                        State::Notice => style("·").yellow(),
                        State::Wrong => style("✗").red().bold(),
                    };
                    output::line(format!("{sign} {}: {}", finding.what, finding.detail))?;
                }
            }
        }
        let is_wrong = self.0.iter().any(|finding| finding.state == State::Wrong);
        Ok(if is_wrong { Outcome::No } else { Outcome::Yes })
    }
}

/// Wrong unless it is as it should be.
fn sound(is_sound: bool) -> State {
    if is_sound { State::Sound } else { State::Wrong }
}

async fn look_at_service(common: &Common, findings: &mut Findings) -> anyhow::Result<()> {
    let service = Service::new(common)?;
    findings.add("service", State::Sound, service::url(common));
    let system: System = match service.get("/v1/system".to_owned()).await {
        Ok(system) => system,
        Err(error) => {
            findings.add("service", State::Wrong, format!("{error:#}"));
            return Ok(());
        }
    };
    findings.add(
        "version",
        State::Sound,
        format!("{}, on {}", system.version, system.backend),
    );
    let ready = service
        .ask(eventflow_agent::Call::get("/readyz".to_owned()))
        .await;
    match ready {
        Ok(_) => findings.add("ready", State::Sound, "it accepts work"),
        Err(error) => findings.add("ready", State::Wrong, format!("{error:#}")),
    }
    for partition in &system.partitions {
        let (id, epoch, position) = (partition.id, partition.epoch, partition.position);
        let what = format!("partition {id}");
        match &partition.leader {
            Some(leader) => {
                let detail = format!("written by {leader}, epoch {epoch}, {position} records");
                findings.add(what, State::Sound, detail);
            }
            None => findings.add(
                what,
                State::Wrong,
                format!("nobody writes it, {position} records"),
            ),
        }
    }
    for (name, value) in &system.limits {
        findings.add(format!("limit {name}"), State::Sound, value.to_string());
    }
    Ok(())
}

/// Answers when its last record was written.
fn look_at_directory(store: &Embedded, findings: &mut Findings) -> anyhow::Result<Timestamp> {
    let files = store.reader.files()?;
    findings.add(
        "format",
        State::Sound,
        format!("store {}, records up to level {FORMAT_LEVEL}", files.format),
    );
    findings.add(
        "size",
        State::Sound,
        format!(
            "journal {} and {} of WAL, views {}",
            mebibytes(files.journal_bytes),
            mebibytes(files.wal_bytes),
            mebibytes(files.view_bytes)
        ),
    );
    let mut last = Timestamp(0);
    for partition in (0..store.partitions()).map(PartitionId) {
        last = last.max(look_at_partition(store, partition, findings)?);
        if store.view(partition)?.is_none() {
            let detail =
                "there is none to go on with: it is rebuilt from the journal at the next start";
            findings.add(format!("view {partition}"), State::Notice, detail);
        }
    }
    let is_wal = files.journal_mode.eq_ignore_ascii_case("wal");
    findings.add(
        "durability",
        sound(is_wal),
        format!(
            "journal_mode {}, pages of {} bytes; the service syncs every commit (synchronous=FULL)",
            files.journal_mode, files.page_bytes
        ),
    );
    look_at_disk(&store.directory, findings);
    Ok(last)
}

fn look_at_quarantined(reader: &dyn Reading, findings: &mut Findings) -> anyhow::Result<()> {
    for quarantined in reader.quarantined()? {
        let detail = format!(
            "{} records from {} on of partition {}, {}",
            quarantined.records,
            quarantined.first,
            quarantined.partition,
            audit(&quarantined)
        );
        findings.add("set aside", State::Notice, detail);
    }
    Ok(())
}

/// Answers when its last record was written.
fn look_at_partition(
    reader: &dyn Reading,
    partition: PartitionId,
    findings: &mut Findings,
) -> anyhow::Result<Timestamp> {
    let what = format!("partition {partition}");
    let (head, damage) = reader.head(partition)?;
    if let Some(damage) = damage {
        findings.add(what, State::Wrong, damage);
        return Ok(Timestamp(0));
    }
    let Some(before) = head.0.checked_sub(1) else {
        findings.add(what, State::Sound, "no records yet");
        return Ok(Timestamp(0));
    };
    let entries = reader.records(partition, Position(before), ReadLimit::ONE)?;
    let record = entries.first().map(|entry| record::decode(&entry.record));
    match record {
        Some(Ok(record)) => {
            let header = record.header;
            let detail = format!(
                "{head} records, epoch {}, the last one of {}",
                header.epoch,
                Time(header.time)
            );
            findings.add(what, State::Sound, detail);
            Ok(header.time)
        }
        Some(Err(fault)) => {
            findings.add(
                what,
                State::Wrong,
                format!("its last record, {head}: {fault}"),
            );
            Ok(Timestamp(0))
        }
        None => {
            findings.add(
                what,
                State::Wrong,
                format!("its last record, {head}, is missing"),
            );
            Ok(Timestamp(0))
        }
    }
}

fn look_at_disk(directory: &Path, findings: &mut Findings) {
    match rustix::fs::statvfs(directory) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let total = disk.f_blocks.saturating_mul(disk.f_frsize);
            findings.add(
                "disk",
                sound(free >= FREE_BYTES_MIN),
                format!(
                    "{} of {} are free, at least {} should be",
                    mebibytes(free),
                    mebibytes(total),
                    mebibytes(FREE_BYTES_MIN)
                ),
            );
        }
        Err(error) => findings.add("disk", State::Wrong, format!("cannot be asked: {error}")),
    }
    match sync_time(directory) {
        Ok(time) => {
            let micros = time.as_micros();
            let (state, more) = if time < SYNC_MIN {
                let why = ": no disk is that fast, so this is memory, or a cache that a power loss empties";
                (State::Notice, why)
            } else {
                (State::Sound, "")
            };
            findings.add("sync", state, format!("{micros} µs{more}"));
        }
        Err(error) => findings.add("sync", State::Wrong, format!("cannot write there: {error}")),
    }
}

/// The median time that it takes to make a few bytes durable in the store's directory.
fn sync_time(directory: &Path) -> std::io::Result<Duration> {
    let mut file = tempfile::tempfile_in(directory)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0; 512])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(times[SYNCS / 2])
}

fn look_at_clock(last: Timestamp, findings: &mut Findings) {
    let now = words::now();
    let behind = last.since(now);
    let (state, detail) = if now < CLOCK_MIN {
        (State::Wrong, "it was never set".to_owned())
    } else if behind > CLOCK_BEHIND_MAX {
        let detail = format!(
            "{} ms behind the last record: until it has caught up, no timer acts",
            behind.0
        );
        (State::Wrong, detail)
    } else {
        (State::Sound, Time(now).to_string())
    };
    findings.add("clock", state, detail);
}

fn look_at_limits(findings: &mut Findings) {
    for (name, value) in [
        ("executionTimeoutMs", limits::EXECUTION_TIMEOUT.0),
        ("taskTimeoutMs", limits::TASK_TIMEOUT.0),
        ("startWithinMs", limits::START_WITHIN.0),
        ("leaseMs", limits::LEASE.0),
        (
            "tasksPerExecution",
            u64::from(limits::TASKS_PER_EXECUTION_MAX),
        ),
        ("inlineValueBytes", limits::INLINE_VALUE_BYTES_MAX as u64),
        ("blobBytes", limits::BLOB_BYTES_MAX as u64),
    ] {
        findings.add(format!("limit {name}"), State::Sound, value.to_string());
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}
