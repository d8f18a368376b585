//! Ports that stay ours: leased across processes, so that a killed server gets its own ports back.
//!
//! The kernel's ephemeral ports (`listen: -1`) would not do: between a kill and a restart, anybody's outgoing
//! connection may take the port that the clients are reconnecting to.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context as _, Result, bail};

use crate::binary;

/// Below the ephemeral ranges of Linux (32768) and macOS (49152).
const FIRST: u16 = 20_000;
/// Some 200 clusters at a time; each port that was ever used leaves an empty lock file in the target directory.
const COUNT: u16 = 2_000;

/// A port of 127.0.0.1 that no other holder of a lease has, until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    /// Held, not read: the kernel frees the lock with the file.
    _lock: File,
}

/// Leases a port that is free now.
pub(crate) fn lease() -> Result<Port> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let dir = binary::dir("ports")?;
    // Processes start at different places, so that they rarely try the same port.
    let first_of_process = u16::try_from(process::id().wrapping_mul(17) % u32::from(COUNT))
        .context("a remainder of COUNT fits")?;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let number = FIRST + (first_of_process + step) % COUNT;
        let path = dir.join(number.to_string());
        let lock =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        // The lock keeps other tests out, the bind finds everybody else.
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
            return Ok(Port {
                number,
                _lock: lock,
            });
        }
    }
    bail!(
        "none of the ports {FIRST} to {} of 127.0.0.1 is free: look for left-over nats-server processes",
        FIRST + COUNT - 1
    )
}
