//! The EventFlow service: reads its configuration, puts the parts together, runs until it is told to stop.

mod config;
mod definitions;
mod files;
mod node;
mod store;
mod telemetry;

use std::{
    net::SocketAddr,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use config::Config;
use eventflow_adapter_http_api::Api;
use eventflow_adapter_nats::InboundPorts;
use eventflow_adapter_system::SystemClock;
use eventflow_engine::{Engine, Node};
use store::{Nats, Opened};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};

/// A step allocates some hundred times on its way from socket to record and back (ADR 9).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections that wait to be accepted: all agents come at once after a restart, and whoever finds no room here tries
/// again a second later. The system may allow fewer.
const BACKLOG: u32 = 4_096;
/// What it could not start with: a flag, a file, a port or a store. Nothing was changed.
const EXIT_REFUSED: u8 = 2;

/// Where nodes share the partitions, each has a leader by then, also those of a node that has just died; if not, this one
/// says so and answers for the rest.
const LED_WITHIN: Duration = Duration::from_secs(10);
/// What was let in becomes durable within this when the service stops, or the disk is full; ten seconds are promised,
/// of which requests may take half.
const DRAIN_MAX: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let started = Instant::now();
    match Config::load().and_then(|config| run(&config, started)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("event-flow-workflow-execution: {error:#}");
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

/// Memory by pages of 4 KiB. A huge page has to be cleared before its first byte is written, which held up a burst of
/// starts by up to 50 ms, and was half of the resident memory.
#[cfg(target_os = "linux")]
fn small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages cannot be turned off");
    }
}

#[tokio::main]
async fn run(config: &Config, started: Instant) -> anyhow::Result<()> {
    telemetry::log(config.log);
    #[cfg(target_os = "linux")]
    small_pages();
    let connections_max = files::connections_max();
    let metrics = telemetry::metrics()?;
    let listener = listen(config.listen)?;
    let address = listener
        .local_addr()
        .context("the listening address cannot be read")?;
    let node = node::name();
    let Opened {
        backend,
        failures,
        nats,
    } = store::open(config, &node, address.ip().is_loopback()).await?;
    let settings = eventflow_engine::Config {
        node,
        partitions: config.partitions(),
        ..Default::default()
    };
    let engine = Arc::new(Engine::start(backend, settings).await?);
    engine.heed(failures);
    engine.verify_journals();
    let workflows =
        definitions::register(&*engine.definitions(), config.workflows.as_deref()).await?;

    let mut stop = pin!(told_to_stop()?);
    let api = Api {
        executions: engine.clone(),
        controls: engine.clone(),
        workflows: engine.definitions(),
        tasks: engine.clone(),
        events: engine.clone(),
        system: Arc::new(Node::new(engine.clone(), metrics)),
    };
    let (stopping, stopped) = watch::channel(false);
    // Tasks of their own run on workers, where connections are; this thread would be woken for each of them.
    let http = eventflow_adapter_http_api::serve(listener, api, connections_max, told(&stopped));
    let mut faces = vec![tokio::spawn(http)];
    let mut is_told = false;
    if let Some(Nats { inbound, findings }) = nats {
        tracing::info!("{findings}");
        let messages = inbound.serve(inbound_ports(&engine), told(&stopped));
        faces.push(tokio::spawn(messages));
        tokio::select! {
            led = timeout(LED_WITHIN, engine.ready()) => if led.is_err() {
                tracing::warn!("some partitions have no leader: /readyz says why");
            },
            () = &mut stop => is_told = true,
        }
    }
    if !is_told {
        println!(
            "EventFlow ready on http://{address} (store {}, {workflows} workflows, after {} ms)",
            config.store,
            started.elapsed().as_millis()
        );
        stop.await;
    }
    stopping.send_replace(true);
    for face in faces {
        face.await
            .context("what takes requests or messages panicked")?;
    }
    if timeout(DRAIN_MAX, engine.shutdown()).await.is_err() {
        tracing::warn!("the store takes nothing: what was let in and not acknowledged is given up");
    }
    tracing::info!("stopped");
    Ok(())
}

fn inbound_ports(engine: &Arc<Engine>) -> InboundPorts {
    InboundPorts {
        executions: engine.clone(),
        controls: engine.clone(),
        tasks: engine.clone(),
        events: engine.clone(),
        calls: engine.clone(),
        clock: Arc::new(SystemClock),
    }
}

/// Completes once it is told to stop.
fn told(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stopped = stopped.clone();
    async move {
        // The sender is held until all have stopped.
        let _ = stopped.wait_for(|stop| *stop).await;
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Connections of an earlier service that the system still remembers are no reason to wait.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| {
        format!(
            "cannot listen on {address} (is another service there? choose another with --listen)"
        )
    })
}

/// A future that ends on SIGTERM or Ctrl-C, also on one that came between this call and the first poll.
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminated = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("Ctrl-C cannot be caught")?;
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        tracing::info!("stopping: no new work, what was accepted becomes durable");
    })
}
