//! The EventFlow service: reads its configuration, puts the parts together, runs until it is told to stop.

mod config;
mod definitions;
mod store;
mod telemetry;

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Instant};

use anyhow::Context;
use config::Config;
use eventflow_adapter_http_api::Api;
use eventflow_engine::{Engine, Node};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// A step allocates some hundred times on its way from socket to record and back (ADR 9).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What it could not start with: a flag, a file, a port or a store. Nothing was changed.
const EXIT_REFUSED: u8 = 2;

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

#[tokio::main]
async fn run(config: &Config, started: Instant) -> anyhow::Result<()> {
    telemetry::log(config.log);
    let metrics = telemetry::metrics()?;
    let listener = listen(config.listen).await?;
    let address = listener
        .local_addr()
        .context("the listening address cannot be read")?;
    let backend = store::open(config, address.ip().is_loopback()).await?;
    let settings = eventflow_engine::Config {
        partitions: config.partitions(),
        ..Default::default()
    };
    let engine = Arc::new(Engine::start(backend, settings).await?);
    let workflows =
        definitions::register(&*engine.definitions(), config.workflows.as_deref()).await?;

    let api = Api {
        executions: engine.clone(),
        controls: engine.clone(),
        workflows: engine.definitions(),
        tasks: engine.clone(),
        system: Arc::new(Node::new(engine.clone(), metrics)),
    };
    let stop = told_to_stop()?;
    println!(
        "EventFlow ready on http://{address} (store {}, {workflows} workflows, after {} ms)",
        config.store,
        started.elapsed().as_millis()
    );
    eventflow_adapter_http_api::serve(listener, api, stop)
        .await
        .context("the HTTP server failed")?;
    engine.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
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
