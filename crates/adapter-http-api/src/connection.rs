//! One connection: what it may cost in time and memory, and whose turn it is on it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, extract::Request, response::Response};
use bytes::Bytes;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep, timeout},
};
use tower::Service as _;

use crate::{
    places::{Place, Turn},
    state::Shared,
};

/// How long the head of a request may take to arrive, and so how long an idle connection is kept: clients come back
/// without noticing.
const HEAD_ARRIVES_WITHIN: Duration = Duration::from_secs(15);
/// How long a client may keep us waiting for the rest of its request while the service drains.
const REST_ARRIVES_WITHIN: Duration = Duration::from_secs(2);
/// The head of a request, and what is read ahead of a body: a task's token may be as long as a path can be, and ten
/// thousand of them must fit into memory.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A client that reads nothing of its answer for so long is gone.
const STALLED_MAX: Duration = Duration::from_secs(30);

/// Serves one connection until it ends, gives way, or the service drains and its last answer is out.
pub(crate) async fn serve(stream: TcpStream, place: Place, router: Router, shared: Shared) {
    let place = Arc::new(place);
    let service = service_fn(|request| answer(request, router.clone(), Arc::clone(&place)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_ARRIVES_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Steady::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        () = place.gives_way() => return,
        () = shared.drained() => {}
        // Whatever ended it, there is nobody left to tell.
        _ = connection.as_mut() => return,
    }
    // Closes an idle connection at once, a busy one after its answer.
    connection.as_mut().graceful_shutdown();
    while timeout(REST_ARRIVES_WITHIN, connection.as_mut())
        .await
        .is_err()
    {
        if place.is_waiting() {
            return;
        }
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    mut router: Router,
    place: Arc<Place>,
) -> Result<Response<Leaving>, std::convert::Infallible> {
    let turn = Turn(Arc::clone(&place));
    if request.body().is_end_stream() {
        place.serve();
    }
    let request: Request<Arriving> = request.map(|body| Arriving { body, place });
    let response = router.call(request).await?;
    Ok(response.map(|body| Leaving { body, _turn: turn }))
}

/// A request's body. Until all of it has arrived we wait for the client.
struct Arriving {
    body: Incoming,
    place: Arc<Place>,
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.place.serve();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body. While it is on its way, a stream of events for hours, the request is under way.
struct Leaving {
    body: axum::body::Body,
    _turn: Turn,
}

impl Body for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket whose writes fail once the other side has taken nothing for [`STALLED_MAX`].
struct Steady {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Steady {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            stalled: None,
        }
    }

    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(STALLED_MAX)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Steady {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Steady {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.in_time(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
