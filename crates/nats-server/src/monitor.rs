//! What a server says about itself on its monitoring port.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A healthy server answers within milliseconds; one that is starting refuses the connection at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The pages asked for here are below 10 KiB.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;

/// Whether the server is ready for `JetStream`: recovered, and in a cluster in contact with a meta leader.
pub(crate) fn is_healthy(port: u16) -> bool {
    get(port, "/healthz").is_ok_and(|page| page["status"] == "ok")
}

/// Whether this server leads the cluster's meta group and `size` servers, itself included, follow it up to date.
pub(crate) fn leads_complete_cluster(port: u16, name: &str, size: usize) -> bool {
    get(port, "/jsz").is_ok_and(|page| {
        let meta = &page["meta_cluster"];
        let current = meta["replicas"].as_array().map_or(0, |replicas| {
            replicas
                .iter()
                .filter(|replica| replica["current"] == true && replica["offline"] != true)
                .count()
        });
        meta["leader"] == name && current + 1 == size
    })
}

fn get(port: u16, path: &str) -> Result<Value> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut page = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut page)?;
    let (_, body) = page
        .split_once("\r\n\r\n")
        .context("an HTTP answer has a body")?;
    Ok(serde_json::from_str(body)?)
}
