//! What lies in a directory, to see whether something has changed it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Every file below a directory with its bytes. Left out is what holds nothing: SQLite's shared memory, and files that
/// are empty or all zeros, as a WAL that was not begun.
pub fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a directory can be listed") {
            let path = entry.expect("a directory can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.to_string_lossy().ends_with("-shm") {
                let bytes = fs::read(&path).expect("a file can be read");
                if bytes.iter().any(|byte| *byte != 0) {
                    files.insert(path, bytes);
                }
            }
        }
    }
    files
}
