//! The power fails at any moment: from whatever the disk may then hold, the store starts with everything that was
//! acknowledged.
//!
//! A real run of the service is recorded, every write and every sync (`record.c`); a disk is led through the record and
//! loses its power at moments drawn from a seed (`disk`, `fate`); the image is opened and held against what the clients
//! had been told until then (`survivor`).

mod chains;
mod disk;
mod fate;
mod image;
mod load;
mod survivor;
mod trace;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use fastrand::Rng;
use tokio::runtime::Runtime;

use self::{
    disk::Disk,
    image::Image,
    survivor::{Expected, Found},
    trace::{Entry, Trace},
};

/// Where `EVENTFLOW_POWER_LOSSES` says nothing.
const LOSSES: u64 = 60;
/// In a run with fewer, checkpoints would not be seen.
const WAL_BEGUN_MIN: usize = 2;
/// <https://sqlite.org/fileformat2.html#the_write_ahead_log>
const WAL_HEADER_BYTES: usize = 32;
/// Power losses are survived side by side: each waits for its disk, mostly.
const THREADS: usize = 2;
/// Files whose syncs may do nothing for once, to see that the check would notice; a folder stands for all that it holds.
const LIES: [&str; 4] = [
    "store/journal.db-wal",
    "store/journal.db",
    "store/blobs/.unfinished/",
    // Only its folders are synced: the names of blobs.
    "store/blobs/default/",
];
/// Power losses in which a lie must come out.
const LIES_MAX: usize = 12;

#[test]
fn every_legal_crash_image_holds_what_was_acknowledged() -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    if let Ok(again) = std::env::var("EVENTFLOW_POWER_LOSS") {
        let (seed, path) = again
            .split_once(':')
            .context("EVENTFLOW_POWER_LOSS=<seed>:<trace>")?;
        let trace = Trace::read(Path::new(path))?;
        let found = Losses::of(&trace, &runtime).survive(&[seed.parse()?], None)?;
        println!("{}", figures(&found));
        return Ok(());
    }
    let losses =
        std::env::var("EVENTFLOW_POWER_LOSSES").map_or(Ok(LOSSES), |losses| losses.parse())?;
    let beside = tempfile::tempdir()?;
    let began = Instant::now();
    let trace = record(&runtime, beside.path())?;
    println!("recorded in {:.1?}", began.elapsed());

    let began = Instant::now();
    let power = Losses::of(&trace, &runtime);
    let seeds: Vec<u64> = (0..losses).collect();
    match power.survive_side_by_side(&seeds) {
        Ok(found) => println!("{} in {:.1?}", figures(&found), began.elapsed()),
        Err(error) => return Err(error.context(kept(beside.path())?)),
    }
    for lie in LIES {
        let Err(error) = power.survive(&power.late(LIES_MAX), Some(lie)) else {
            bail!("{lie} is never synced, and nothing is lost: this test sees nothing")
        };
        println!("had {lie} not been synced: {error:#}");
    }
    Ok(())
}

/// Records a run, and makes sure that nothing of it was missed.
fn record(runtime: &Runtime, beside: &Path) -> anyhow::Result<Trace> {
    let recorded = tempfile::tempdir()?;
    let directory = recorded.path().canonicalize()?;
    runtime.block_on(load::record(&directory, beside))?;
    let trace = Trace::read(&beside.join("trace"))?;
    let mut disk = Disk::new(&trace);
    disk.go_to(trace.entries.len())?;
    let (seen, real) = (disk.seen(), Image::read(&directory)?);
    for (path, content) in &real.files {
        let recorded = seen.files.get(path);
        ensure!(
            recorded == Some(content),
            "{path} is not as the trace gives it: record.c misses a call"
        );
    }
    ensure!(
        seen == real,
        "the trace gives other files or directories than there are"
    );
    let checkpoints = times_begun_anew(&trace, "store/journal.db-wal");
    ensure!(
        checkpoints >= WAL_BEGUN_MIN,
        "the WAL was begun only {checkpoints} times: the load is too small"
    );
    let writes = trace
        .entries
        .iter()
        .filter(|entry| matches!(entry, Entry::Written { .. }))
        .count();
    let syncs = trace
        .entries
        .iter()
        .filter(|entry| matches!(entry, Entry::Synced { .. }))
        .count();
    println!("{writes} writes, {syncs} syncs, the WAL begun {checkpoints} times");
    Ok(trace)
}

/// How often the header of a WAL was written.
fn times_begun_anew(trace: &Trace, wal: &str) -> usize {
    let mut opened = HashSet::new();
    let mut times = 0;
    for entry in &trace.entries {
        match entry {
            Entry::Opened { file, path, .. } if path == wal => {
                opened.insert(*file);
            }
            // Numbers are given anew in the second life.
            Entry::Opened { file, .. } => {
                opened.remove(file);
            }
            Entry::Written { file, at: 0, bytes } if opened.contains(file) => {
                times += usize::from(bytes.len() == WAL_HEADER_BYTES);
            }
            _ => {}
        }
    }
    times
}

/// The power losses of one recorded run.
struct Losses<'a> {
    trace: &'a Trace,
    runtime: &'a Runtime,
    /// Entries that follow each other in one file: as likely as any other moment, however many they are.
    runs: Vec<std::ops::Range<usize>>,
}

impl<'a> Losses<'a> {
    fn of(trace: &'a Trace, runtime: &'a Runtime) -> Self {
        let file = |index: usize| match &trace.entries[index] {
            Entry::Written { file, .. } => Some(*file),
            _ => None,
        };
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for index in 0..trace.entries.len() {
            match runs.last_mut() {
                Some(run) if file(index).is_some() && file(index) == file(run.start) => {
                    run.end += 1;
                }
                _ => runs.push(index..index + 1),
            }
        }
        Self {
            trace,
            runtime,
            runs,
        }
    }

    /// Power losses late in the run, when there is most to lose.
    fn late(&self, most: usize) -> Vec<u64> {
        let is_late = |seed: &u64| self.moment(*seed) > self.trace.entries.len() / 3 * 2;
        (0..).filter(is_late).take(most).collect()
    }

    fn survive_side_by_side(&self, seeds: &[u64]) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        std::thread::scope(|scope| {
            let parts = seeds.chunks(seeds.len().div_ceil(THREADS).max(1));
            let threads: Vec<_> = parts
                .map(|part| scope.spawn(|| self.survive(part, None)))
                .collect();
            for thread in threads {
                found.extend(thread.join().expect("a check does not panic")?);
            }
            Ok(found)
        })
    }

    /// One power loss for each seed; the first that is not survived is the error.
    fn survive(&self, seeds: &[u64], lie: Option<&'static str>) -> anyhow::Result<Vec<Found>> {
        let mut losses: Vec<_> = seeds
            .iter()
            .map(|seed| (self.moment(*seed), *seed))
            .collect();
        // A disk only goes forward.
        losses.sort_unstable();
        let mut disk = Disk::lying_about(self.trace, lie);
        let mut found = Vec::new();
        for (moment, seed) in losses {
            disk.go_to(moment)?;
            let survived = self.check(&disk, moment, seed);
            found.push(survived.with_context(|| {
                let entries = self.trace.entries.len();
                format!("power loss {seed}, after {moment} of {entries} entries")
            })?);
        }
        Ok(found)
    }

    fn moment(&self, seed: u64) -> usize {
        let mut rng = Rng::with_seed(seed);
        let run = &self.runs[rng.usize(0..self.runs.len())];
        rng.usize(run.clone()) + 1
    }

    fn check(&self, disk: &Disk, moment: usize, seed: u64) -> anyhow::Result<Found> {
        let directory = tempfile::tempdir()?;
        // Not the draws that have found the moment.
        let mut rng = Rng::with_seed(seed).fork();
        disk.image(&mut rng).write(directory.path())?;
        let expected = Expected::after(self.trace, moment);
        survivor::check(self.runtime, &directory.path().join("store"), &expected)
    }
}

fn figures(all: &[Found]) -> String {
    let sum = |of: fn(&Found) -> usize| all.iter().map(of).sum::<usize>();
    format!(
        "{} power losses survived, {} of them with a view that could be kept: {} records, {} executions, {} of them ended",
        all.len(),
        sum(|found| usize::from(found.has_closed_view)),
        sum(|found| found.records),
        sum(|found| found.executions),
        sum(|found| found.ended_before),
    )
}

/// Keeps the trace, and says how to see the same again.
fn kept(beside: &Path) -> anyhow::Result<String> {
    let name = format!("power-loss-{}.trace", std::process::id());
    let kept: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::copy(beside.join("trace"), &kept)?;
    Ok(format!(
        "the same again: just power-loss-again <number of the power loss>:{}",
        kept.display()
    ))
}
