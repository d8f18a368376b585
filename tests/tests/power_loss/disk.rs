//! A disk that loses its power: what is on it for certain, and what may be.
//!
//! - What was written to a file before a sync of it began is there once that sync has ended.
//! - Of what was written later, each sector holds what it held at any moment since then: old, new, or in between where it
//!   was written more than once. A file's size as well.
//! - A name that was made, moved or removed is so for certain once its directory was synced; until then it is so or not,
//!   each for itself. A move is made whole or not at all.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use anyhow::Context;
use fastrand::Rng;

use super::{
    fate::{Fate, Moment, Part},
    image::Image,
    trace::{Entry, Trace},
};

type Node = usize;
/// A name in a directory.
type Name = (Node, String);
type Names = BTreeMap<Name, Node>;

const ROOT: Node = 0;

/// The disk below the recorded directory.
pub(crate) struct Disk<'a> {
    trace: &'a Trace,
    /// Entries that have happened.
    now: usize,
    nodes: Vec<File>,
    /// As the service sees them.
    live: Names,
    synced: Names,
    unsynced: Vec<(usize, NameChange)>,
    /// By the recorder's number.
    opened: HashMap<u32, Node>,
    /// When each sync that runs has begun.
    syncs: HashMap<u64, usize>,
    /// A file, or all that a folder holds, whose syncs do nothing.
    lie: Option<&'static str>,
    lied_about: HashSet<Node>,
}

/// Directories are empty files.
#[derive(Default)]
struct File {
    is_directory: bool,
    synced: Vec<u8>,
    unsynced: Vec<(usize, Change)>,
}

enum Change {
    /// These bytes of the trace.
    Written {
        at: usize,
        bytes: Range<usize>,
    },
    Resized {
        to: usize,
    },
}

#[derive(Clone)]
enum NameChange {
    Made(Name, Node),
    Removed(Name),
    Moved { from: Name, to: Name, node: Node },
}

impl<'a> Disk<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        Self::lying_about(trace, None)
    }

    /// A disk that a test must find out.
    pub(crate) fn lying_about(trace: &'a Trace, lie: Option<&'static str>) -> Self {
        let root = File {
            is_directory: true,
            ..File::default()
        };
        Self {
            trace,
            now: 0,
            nodes: vec![root],
            live: Names::new(),
            synced: Names::new(),
            unsynced: Vec::new(),
            opened: HashMap::new(),
            syncs: HashMap::new(),
            lie,
            lied_about: HashSet::new(),
        }
    }

    /// Lets everything happen that comes before this entry.
    pub(crate) fn go_to(&mut self, entry: usize) -> anyhow::Result<()> {
        while self.now < entry {
            let happened = &self.trace.entries[self.now];
            self.happen(happened)
                .with_context(|| format!("entry {} of the trace", self.now))?;
            self.now += 1;
        }
        Ok(())
    }

    fn happen(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let now = self.now;
        match entry {
            Entry::Opened {
                file,
                emptied,
                path,
            } => self.open(*file, *emptied, path)?,
            Entry::Written { file, at, bytes } => {
                let (at, bytes) = (*at, bytes.clone());
                let change = Change::Written { at, bytes };
                self.file(*file)?.unsynced.push((now, change));
            }
            Entry::Resized { file, to } => {
                self.file(*file)?
                    .unsynced
                    .push((now, Change::Resized { to: *to }));
            }
            Entry::SyncBegun { sync } => {
                self.syncs.insert(*sync, now);
            }
            Entry::Synced { file, sync } => {
                let begun = self.syncs.remove(sync).context("a sync has a beginning")?;
                let node = *self.opened.get(file).context("a file is opened first")?;
                if self.lied_about.contains(&node) {
                    return Ok(());
                }
                if self.nodes[node].is_directory {
                    self.sync_names(node, begun);
                } else {
                    self.sync_content(node, begun);
                }
            }
            Entry::Renamed { from, to } => {
                let (from, to) = (self.name(from)?, self.name(to)?);
                let node = self.live.remove(&from).context("what is moved is there")?;
                self.live.insert(to.clone(), node);
                self.unsynced
                    .push((now, NameChange::Moved { from, to, node }));
            }
            Entry::Removed { path } => {
                let name = self.name(path)?;
                self.live
                    .remove(&name)
                    .context("what is removed is there")?;
                self.unsynced.push((now, NameChange::Removed(name)));
            }
            Entry::DirectoryMade { path } => {
                let name = self.name(path)?;
                self.make(name, true);
            }
            Entry::Acknowledged(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, file: u32, emptied: bool, path: &str) -> anyhow::Result<()> {
        let node = if let Some(node) = self.find(path) {
            if emptied {
                let change = Change::Resized { to: 0 };
                self.nodes[node].unsynced.push((self.now, change));
            }
            node
        } else {
            let name = self.name(path)?;
            self.make(name, false)
        };
        let is_lied_about =
            |lie: &str| path == lie || (lie.ends_with('/') && path.starts_with(lie));
        if self.lie.is_some_and(is_lied_about) {
            self.lied_about.insert(node);
        }
        self.opened.insert(file, node);
        Ok(())
    }

    fn make(&mut self, name: Name, is_directory: bool) -> Node {
        let node = self.nodes.len();
        self.nodes.push(File {
            is_directory,
            ..File::default()
        });
        self.live.insert(name.clone(), node);
        self.unsynced.push((self.now, NameChange::Made(name, node)));
        node
    }

    fn file(&mut self, file: u32) -> anyhow::Result<&mut File> {
        let node = *self.opened.get(&file).context("a file is opened first")?;
        Ok(&mut self.nodes[node])
    }

    fn find(&self, path: &str) -> Option<Node> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.into_iter().try_fold(ROOT, |directory, part| {
            self.live.get(&(directory, part.to_owned())).copied()
        })
    }

    fn name(&self, path: &str) -> anyhow::Result<Name> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self
            .find(directory)
            .with_context(|| format!("{path} lies nowhere"))?;
        Ok((directory, name.to_owned()))
    }

    fn sync_content(&mut self, node: Node, begun: usize) {
        let file = &mut self.nodes[node];
        let later = file.unsynced.partition_point(|(index, _)| *index < begun);
        let covered: Vec<_> = file.unsynced.drain(..later).collect();
        let synced = std::mem::take(&mut file.synced);
        self.nodes[node].synced = self.written(synced, &covered, &mut Fate::everything());
    }

    fn sync_names(&mut self, directory: Node, begun: usize) {
        let touches = |(of, _): &Name| *of == directory;
        let unsynced = std::mem::take(&mut self.unsynced);
        for (index, change) in unsynced {
            let is_covered = index < begun
                && match &change {
                    NameChange::Made(name, _) | NameChange::Removed(name) => touches(name),
                    NameChange::Moved { from, to, .. } => touches(from) || touches(to),
                };
            if !is_covered {
                self.unsynced.push((index, change));
                continue;
            }
            if let NameChange::Moved { from, .. } = &change {
                // What the old name was before cannot come back: it has been moved.
                self.unsynced.retain(
                    |(_, older)| !matches!(older, NameChange::Made(name, _) if name == from),
                );
            }
            change.apply(&mut self.synced);
        }
    }

    /// What a file holds when `changes` meet their fate on top of what was synced.
    fn written(
        &self,
        mut content: Vec<u8>,
        changes: &[(usize, Change)],
        fate: &mut Fate,
    ) -> Vec<u8> {
        let mut size = content.len();
        for (index, change) in changes {
            match change {
                Change::Written { at, bytes } => {
                    let bytes = self.trace.content(bytes);
                    let end = at + bytes.len();
                    let mut begin = *at;
                    while begin < end {
                        let piece_end = fate.piece_end(begin, end);
                        if fate.reaches(Part::At(begin), *index) {
                            overwrite(&mut content, begin, &bytes[begin - at..piece_end - at]);
                        }
                        begin = piece_end;
                    }
                    if end > size && fate.reaches(Part::Size, *index) {
                        size = end;
                    }
                }
                Change::Resized { to } if fate.reaches(Part::Size, *index) => {
                    content.truncate(*to);
                    size = *to;
                }
                // Where a file was not cut, nothing is there that was written behind the cut.
                Change::Resized { .. } => break,
            }
        }
        content.resize(size, 0);
        content
    }

    /// What may be found when the power fails now.
    pub(crate) fn image(&self, rng: &mut Rng) -> Image {
        let moment = Moment::draw(rng, self.now);
        let mut names = self.synced.clone();
        let mut fate = moment.fate(rng, self.unsynced.first().map(|(index, _)| *index));
        for (index, change) in &self.unsynced {
            if fate.reaches(Part::Name(*index), *index) {
                change.apply(&mut names);
            }
        }
        self.found(&names, |file| {
            moment.fate(rng, file.unsynced.first().map(|(index, _)| *index))
        })
    }

    /// What the service sees now.
    pub(crate) fn seen(&self) -> Image {
        self.found(&self.live, |_| Fate::everything())
    }

    fn found(&self, names: &Names, mut fate: impl FnMut(&File) -> Fate) -> Image {
        let mut image = Image::default();
        let mut left = vec![(ROOT, String::new())];
        while let Some((directory, path)) = left.pop() {
            let of = (directory, String::new())..(directory + 1, String::new());
            for ((_, name), node) in names.range(of) {
                let file = &self.nodes[*node];
                let path = format!("{path}{name}");
                if file.is_directory {
                    image.directories.push(path.clone());
                    left.push((*node, path + "/"));
                } else {
                    let content =
                        self.written(file.synced.clone(), &file.unsynced, &mut fate(file));
                    image.files.insert(path, content);
                }
            }
        }
        image.directories.sort();
        image
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Made(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Removed(name) => {
                names.remove(name);
            }
            Self::Moved { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

fn overwrite(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}
