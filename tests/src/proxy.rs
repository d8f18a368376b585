//! A TCP proxy that misbehaves on command: cuts, delays, and connections that are open and carry nothing.
//!
//! It runs on a thread of its own, so that a test that blocks does not hold it up.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::watch,
    time::Instant,
};

/// What is passed on at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that are under way on a slow link; who sends more waits.
const CHUNKS_UNDER_WAY_MAX: usize = 256;

/// What becomes of what goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is passed on at once.
    Whole,
    /// It is passed on after this long, each way: a longer way, not a thinner one.
    Slow(Duration),
    /// Connections stay open, new ones are accepted, and nothing is passed on: as behind a cable that was pulled.
    HalfOpen,
    /// Connections are broken off, and new ones at once.
    Cut,
}

/// A way to one address through a port of its own; gone when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<watch::Sender<Link>>,
    /// `None` once dropped.
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Listens on `port` of 127.0.0.1 and leads to `target`.
    pub fn start(port: u16, target: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let link = Arc::new(watch::channel(Link::Whole).0);
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _within = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let address = listener.local_addr()?;
        runtime.spawn(accept(listener, target, link.clone()));
        Ok(Self {
            address,
            link,
            runtime: Some(runtime),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for the connections there are and for those to come.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, link: Arc<watch::Sender<Link>>) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            // Out of files, for a moment.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let link = link.subscribe();
        tokio::spawn(async move {
            let mut cut = link.clone();
            tokio::select! {
                // What is cut is dropped, both ends of it.
                _ = cut.wait_for(|link| *link == Link::Cut) => {}
                _ = pass(near, target, link) => {}
            }
        });
    }
}

async fn pass(
    near: TcpStream,
    target: SocketAddr,
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    open(&mut link).await;
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    let there = one_way(near_reads, far_writes, link.clone());
    let back = one_way(far_reads, near_writes, link);
    // An end that is closed closes the other one.
    tokio::select! {
        result = there => result,
        result = back => result,
    }
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut under_way = VecDeque::<(Instant, Vec<u8>)>::new();
    let mut has_ended = false;
    loop {
        let due = under_way.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = arrival(due) => {
                open(&mut link).await;
                if let Some((_, chunk)) = under_way.pop_front() {
                    to.write_all(&chunk).await?;
                }
            }
            read = from.read(&mut chunk), if !has_ended && under_way.len() < CHUNKS_UNDER_WAY_MAX => {
                let read = read?;
                has_ended = read == 0;
                open(&mut link).await;
                let delay = match *link.borrow() {
                    Link::Slow(delay) => delay,
                    _ => Duration::ZERO,
                };
                if under_way.is_empty() && delay.is_zero() {
                    to.write_all(&chunk[..read]).await?;
                } else {
                    under_way.push_back((Instant::now() + delay, chunk[..read].to_vec()));
                }
            }
        }
        if has_ended && under_way.is_empty() {
            return to.shutdown().await;
        }
    }
}

/// Waits until the first of what is under way is there.
async fn arrival(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Waits until something may be passed on.
async fn open(link: &mut watch::Receiver<Link>) {
    // The sender lives as long as the proxy does.
    let _ = link.wait_for(|link| *link != Link::HalfOpen).await;
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Answers each byte with the same.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
        address
    }

    fn through(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).expect("it accepts");
        let patience = Duration::from_millis(300);
        stream
            .set_read_timeout(Some(patience))
            .expect("a time-out can be set");
        stream
    }

    fn answers(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
    }

    #[test]
    fn what_is_cut_is_broken_off_and_what_is_healed_works_again() {
        let proxy = Proxy::start(0, echo()).expect("a proxy");
        let mut before = through(&proxy);
        assert!(answers(&mut before));
        proxy.set(Link::Cut);
        assert!(!answers(&mut before));
        assert!(!answers(&mut through(&proxy)));
        proxy.set(Link::Whole);
        assert!(!answers(&mut before), "what was broken off stays so");
        assert!(answers(&mut through(&proxy)));
    }

    #[test]
    fn a_half_open_connection_carries_nothing_until_it_is_healed() {
        let proxy = Proxy::start(0, echo()).expect("a proxy");
        let mut stream = through(&proxy);
        assert!(answers(&mut stream));
        proxy.set(Link::HalfOpen);
        assert!(!answers(&mut stream));
        proxy.set(Link::Whole);
        let mut late = [0];
        stream.read_exact(&mut late).expect("it comes late");
        assert_eq!(late, *b"x");
        assert!(answers(&mut stream));
    }

    #[test]
    fn a_slow_link_delays_each_way() {
        let proxy = Proxy::start(0, echo()).expect("a proxy");
        let mut stream = through(&proxy);
        proxy.set(Link::Slow(Duration::from_millis(40)));
        let began = Instant::now();
        assert!(answers(&mut stream));
        assert!(began.elapsed() >= Duration::from_millis(80));
    }

    #[test]
    fn a_slow_link_carries_much_at_a_time_in_its_order() {
        const DELAY: Duration = Duration::from_millis(40);
        const CHUNKS: usize = 64;
        /// Half of what they would take one after the other.
        const SOON: Duration = Duration::from_millis(32 * 40);
        // No two chunks begin alike.
        let sent: Vec<u8> = (0..251).cycle().take(CHUNK_BYTES * CHUNKS).collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let length = sent.len();
        let receiving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut came = vec![0; length];
            stream.read_exact(&mut came).expect("all of it comes");
            came
        });
        let proxy = Proxy::start(0, address).expect("a proxy");
        proxy.set(Link::Slow(DELAY));
        let began = Instant::now();
        through(&proxy).write_all(&sent).expect("it is open");
        let came = receiving.join().expect("no panic");
        assert!(came == sent, "it is not what was sent");
        let took = began.elapsed();
        assert!((DELAY..SOON).contains(&took), "{took:?}");
    }
}
