//! Answers without a known end: server-sent events, and the ndjson export of a history.

use std::{convert::Infallible, io, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use bytes::Bytes;
use eventflow_domain::{ExecutionId, Sequence};
use eventflow_ports::{
    LifecycleEvent,
    inbound::{HistoryPage, Refusal, StreamFrom},
};
use eventflow_wire::v1::{events::CloudEvent, one_line};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use crate::{query::HISTORY_LIMIT, shape, state::Shared, trouble::Trouble};

/// The media type of one JSON value a line.
pub(crate) const NDJSON: &str = "application/x-ndjson";
/// Silence after which a comment tells the reader, and every proxy between, that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The events of one execution after `after`; each is known by its sequence, so a reader can go on where it stopped.
pub(crate) async fn execution(
    shared: Shared,
    execution: ExecutionId,
    after: Sequence,
) -> Result<Response, Trouble> {
    let from = StreamFrom::Execution(execution, after);
    events(shared, from, |event| event.sequence.to_string()).await
}

/// The events of a tenant from now on; each is known by its own id, as sequences of many executions mix.
pub(crate) async fn tenant(shared: Shared) -> Result<Response, Trouble> {
    events(shared, StreamFrom::Now, |event| event.id.as_ref().into()).await
}

async fn events(
    shared: Shared,
    from: StreamFrom,
    id: fn(&LifecycleEvent) -> String,
) -> Result<Response, Trouble> {
    let place = shared.place_to_stream()?;
    let events = shared.executions().events(shared.tenant(), from).await?;
    let drained = {
        let shared = shared.clone();
        async move { shared.drained().await }
    };
    let shown = events
        .map(move |event| {
            // The place is taken for as long as the stream is read.
            let _place = &place;
            Ok::<_, Infallible>(match event {
                Ok(event) => lifecycle(&id(&event), event),
                Err(refusal) => broken(refusal),
            })
        })
        .take_until(drained);
    let mut response = Sse::new(shown)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    // A proxy that gathers what it passes on would hold events back.
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

fn lifecycle(id: &str, event: LifecycleEvent) -> Event {
    let kind = event.kind;
    shown(kind, &CloudEvent::from(event)).id(id)
}

/// Why a stream ends before its time; a reader comes back with its last `id`.
fn broken(refusal: Refusal) -> Event {
    shown("error", &Trouble::from(refusal).into_problem())
}

fn shown<T: Serialize>(kind: &str, data: &T) -> Event {
    let text = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(kind).data(one_line(&text))
}

/// All events of a history after `after`, one a line. An error in the middle breaks the answer off, so that half a
/// history is not taken for a whole one.
pub(crate) async fn history(
    shared: Shared,
    execution: ExecutionId,
    after: Sequence,
) -> Result<Response, Trouble> {
    let first = page(&shared, &execution, after).await?;
    let lines = pages(shared, execution, first).map_ok(|page| {
        let mut lines = Vec::new();
        for event in page.events {
            let line = serde_json::to_string(&shape::history_event(event)).unwrap_or_default();
            lines.extend_from_slice(one_line(&line).as_bytes());
            lines.push(b'\n');
        }
        Bytes::from(lines)
    });
    let media = HeaderValue::from_static(NDJSON);
    Ok(([(header::CONTENT_TYPE, media)], Body::from_stream(lines)).into_response())
}

/// Where a history is read on.
enum Next {
    Page(HistoryPage),
    After(Sequence),
}

fn pages(
    shared: Shared,
    execution: ExecutionId,
    first: HistoryPage,
) -> impl Stream<Item = Result<HistoryPage, io::Error>> {
    stream::try_unfold(Some(Next::Page(first)), move |next| {
        let (shared, execution) = (shared.clone(), execution.clone());
        async move {
            let page = match next {
                None => return Ok(None),
                Some(Next::Page(page)) => page,
                Some(Next::After(after)) => page(&shared, &execution, after)
                    .await
                    .map_err(io::Error::other)?,
            };
            let next = page.next.map(Next::After);
            Ok(Some((page, next)))
        }
    })
}

async fn page(
    shared: &Shared,
    execution: &ExecutionId,
    after: Sequence,
) -> Result<HistoryPage, Refusal> {
    shared
        .executions()
        .history(shared.tenant(), execution, after, HISTORY_LIMIT.max)
        .await
}
