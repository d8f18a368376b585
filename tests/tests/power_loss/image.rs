//! What is found on a disk once its power is back.

use std::{collections::BTreeMap, fs, os::unix::fs::FileExt as _, path::Path};

use anyhow::Context;

/// Written at a time.
const BLOCK_BYTES: usize = 64 * 1024;
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Files with their contents, and directories, by their paths.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Sorted.
    pub(crate) directories: Vec<String>,
}

impl Image {
    /// What lies below a directory, without the files that are mapped into memory.
    pub(crate) fn read(directory: &Path) -> anyhow::Result<Self> {
        let mut image = Self::default();
        let mut left = vec![directory.to_owned()];
        while let Some(next) = left.pop() {
            for entry in fs::read_dir(next)? {
                let path = entry?.path();
                let name = path
                    .strip_prefix(directory)?
                    .to_str()
                    .context("a path is text")?;
                if path.is_dir() {
                    image.directories.push(name.to_owned());
                    left.push(path);
                } else if !name.ends_with("-shm") {
                    image.files.insert(name.to_owned(), fs::read(&path)?);
                }
            }
        }
        image.directories.sort();
        Ok(image)
    }

    /// Lays it out below a directory. Zeros are left out: a WAL is mostly zeros, which were written once and cost nothing
    /// here.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        for path in &self.directories {
            fs::create_dir_all(directory.join(path))?;
        }
        for (path, content) in &self.files {
            let file = fs::File::create(directory.join(path))?;
            file.set_len(content.len() as u64)?;
            for (number, block) in content.chunks(BLOCK_BYTES).enumerate() {
                if *block != ZEROS[..block.len()] {
                    file.write_all_at(block, (number * BLOCK_BYTES) as u64)?;
                }
            }
        }
        Ok(())
    }
}
