//! `eventflow watch ID`: an execution as it goes, until it ends.

use std::{
    io,
    time::{Duration, Instant},
};

use eventflow_wire::v1::executions::ExecutionView;

use crate::{
    Common, Outcome,
    commands::start::print_end,
    live::Live,
    output::{self, Format},
    service::{Service, execution_path},
    sse::Events,
    words,
};

/// How often a picture moves: a spinner that people like, for a request at most that often.
const FRAME: Duration = Duration::from_millis(100);
/// How often the execution is read although no event came: an event may be lost with its connection.
const REFRESH: Duration = Duration::from_secs(1);

/// `eventflow watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// The execution's id
    id: String,
}

impl Watch {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let service = Service::new(common)?;
        match common.output {
            Format::Text => {
                let ended = until_ended(&service, &self.id, Live::new()).await?;
                print_end(&ended, Format::Text)
            }
            Format::Json => print_events(&service, &self.id).await,
        }
    }
}

/// Prints every public event on a line of its own, until the last one.
async fn print_events(service: &Service, id: &str) -> anyhow::Result<Outcome> {
    let mut events = Events::open(service, format!("{}/events", execution_path(id))).await?;
    while let Some(event) = events.next().await? {
        output::line(String::from_utf8_lossy(&event))?;
    }
    let view = service.execution(id).await?;
    if words::has_ended(view.status) {
        return Ok(words::outcome(view.status));
    }
    Err(io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the events ended before the execution",
    )
    .into())
}

/// Shows an execution until it has ended, and gives how it ended.
pub(crate) async fn until_ended(
    service: &Service,
    id: &str,
    mut live: Live,
) -> anyhow::Result<ExecutionView> {
    let mut view = service.execution(id).await?;
    // Events only tell that there is something new: without them, it is noticed a little later.
    let mut events = Events::open(service, format!("{}/events", execution_path(id)))
        .await
        .ok();
    let mut read_at = Instant::now();
    let mut news = false;
    let mut frames = tokio::time::interval(FRAME);
    while !words::has_ended(view.status) {
        tokio::select! {
            event = next(&mut events) => {
                news = true;
                if !matches!(event, Ok(Some(_))) {
                    events = None;
                }
            }
            _ = frames.tick() => {
                if std::mem::take(&mut news) || read_at.elapsed() >= REFRESH {
                    view = service.execution(id).await?;
                    read_at = Instant::now();
                }
                live.show(&view);
            }
        }
    }
    live.end(&view);
    Ok(view)
}

async fn next(events: &mut Option<Events>) -> anyhow::Result<Option<bytes::Bytes>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}
