//! A server that answers HTTP steps as badly as one can; its port is its URL's, its path says how.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// 10 GiB, as a promise; nobody is to take all of it.
const ENDLESS_BYTES: u64 = 10 * 1024 * 1024 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
/// What endless answers are made of.
static CHUNK: [u8; CHUNK_BYTES] = [b'x'; CHUNK_BYTES];
/// A redirect target that nobody may reach.
pub(crate) const FORBIDDEN: &str = "http://169.254.169.254/latest/meta-data";

/// Listens until it is dropped.
pub(crate) struct Stub {
    pub(crate) url: String,
    state: Arc<State>,
    listening: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    sent: AtomicU64,
    requests: AtomicU64,
}

impl Stub {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(State::default());
        let of_tasks = Arc::clone(&state);
        let listening = tokio::spawn(async move {
            let mut answering = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&of_tasks);
                // How a client that is treated like this goes away is its own business.
                answering.spawn(async move { drop(answer(socket, &state).await) });
            }
        });
        Ok(Self {
            url,
            state,
            listening,
        })
    }

    /// Bytes that somebody took so far.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }

    /// Requests that came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn answer(mut socket: TcpStream, state: &State) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let count = socket.read(&mut head).await?;
    state.requests.fetch_add(1, Ordering::Relaxed);
    let head = String::from_utf8_lossy(&head[..count]);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    match path.trim_start_matches('/') {
        "silence" => tokio::time::sleep(Duration::from_mins(10)).await,
        "trickle" => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
            trickle(&mut socket, head).await?;
        }
        "trickled-head" => trickle(&mut socket, b"HTTP/1.1 200 OK\r\nx: ").await?,
        "garbage" => socket.write_all(&CHUNK).await?,
        "half" => {
            let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":";
            socket.write_all(half).await?;
        }
        "no-json" => {
            let broken = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{\"a\":";
            socket.write_all(broken.as_bytes()).await?;
        }
        "promised" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS_BYTES}\r\n\r\n");
            socket.write_all(head.as_bytes()).await?;
            pour(&mut socket, state, &CHUNK).await?;
        }
        "chunked" => {
            socket
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            let mut chunk = format!("{CHUNK_BYTES:x}\r\n").into_bytes();
            chunk.extend(CHUNK);
            chunk.extend(b"\r\n");
            pour(&mut socket, state, &chunk).await?;
        }
        "until-closed" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            pour(&mut socket, state, &CHUNK).await?;
        }
        "error-endless" => {
            let head = format!("HTTP/1.1 500 No\r\nContent-Length: {ENDLESS_BYTES}\r\n\r\n");
            socket.write_all(head.as_bytes()).await?;
            pour(&mut socket, state, &CHUNK).await?;
        }
        "bomb" => {
            let body = gzip_of_zeros();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(&body).await?;
        }
        "headers" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            pour(&mut socket, state, &b"x-bomb: yyyyyyyy\r\n".repeat(1_000)).await?;
        }
        "header" => {
            socket.write_all(b"HTTP/1.1 200 OK\r\nx-bomb: ").await?;
            pour(&mut socket, state, &CHUNK).await?;
        }
        "loop" => redirect(&mut socket, "/loop").await?,
        "forbidden" => redirect(&mut socket, FORBIDDEN).await?,
        "forbidden-v6" => redirect(&mut socket, "http://[::ffff:10.0.0.1]/").await?,
        "forbidden-number" => redirect(&mut socket, "http://2852039166/").await?,
        "scheme" => redirect(&mut socket, "file:///etc/passwd").await?,
        _ => {
            let fine = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42";
            socket.write_all(fine).await?;
        }
    }
    Ok(())
}

async fn redirect(socket: &mut TcpStream, to: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    socket.shutdown().await
}

/// A byte a second, for ever.
async fn trickle(socket: &mut TcpStream, head: &[u8]) -> std::io::Result<()> {
    socket.write_all(head).await?;
    loop {
        socket.write_all(b"x").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn pour(socket: &mut TcpStream, state: &State, bytes: &[u8]) -> std::io::Result<()> {
    let mut left = ENDLESS_BYTES;
    while left > 0 {
        socket.write_all(bytes).await?;
        state.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        left = left.saturating_sub(bytes.len() as u64);
    }
    Ok(())
}

/// Some 60 KB of gzip that would be 60 MB: one fixed-Huffman block of a literal zero and matches of 258 at distance 1.
fn gzip_of_zeros() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0b011, 3); // The last block, fixed codes.
    bits.push_code(0b0011_0000, 8); // A literal 0.
    for _ in 0..240_000 {
        bits.push_code(0b1100_0101, 8); // Length 258.
        bits.push_code(0b00000, 5); // Distance 1.
    }
    bits.push_code(0, 7); // The end.
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    gzip.extend(bits.bytes);
    gzip.truncate(60_000);
    gzip
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    /// The lowest bit first.
    fn push(&mut self, value: u16, count: u32) {
        for at in 0..count {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = u8::from(value >> at & 1 == 1) << (self.count % 8);
            *self.bytes.last_mut().expect("there is a byte") |= bit;
            self.count += 1;
        }
    }

    /// The highest bit first, as Huffman codes are.
    fn push_code(&mut self, code: u16, count: u32) {
        self.push(code.reverse_bits() >> (16 - count), count);
    }
}
