//! The router and the server: how requests come in, and how they stop coming in.

use std::{io, time::Duration};

use axum::{Router, middleware};
use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    connection, openapi,
    places::Places,
    state::{Api, Shared},
    trouble,
};

/// Connections at once: every place to wait and every stream, and as many again for everything else.
pub const CONNECTIONS_MAX: usize = 10_000;
/// How long requests may go on after the shutdown: half of the 10 seconds that the process has after SIGTERM.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Between two tries to accept a connection where the system has no more of something, as file descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// To a newcomer when every place is taken by clients that wait for us.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
    \"detail\":\"too many connections are open: close those you do not need, and try again\"}";

/// Every route of the API, for a server of one's own or for tests.
pub fn router(api: Api) -> Router {
    build(api).0
}

fn build(api: Api) -> (Router, Shared) {
    let (paths, document) = openapi::routes();
    let document = serde_json::to_vec(&document).expect("an OpenAPI document serialises");
    let shared = Shared::new(api, Bytes::from(document));
    let router = paths
        .fallback(trouble::no_such_path)
        .layer(middleware::from_fn(trouble::explain))
        .with_state(shared.clone());
    (router, shared)
}

/// Serves the API on at most so many connections until `shutdown` completes, then accepts no more, ends streams, answers
/// whoever waits, lets other requests finish and returns, after [`DRAIN_MAX`] in any case.
///
/// Connections that nobody sends a whole request on, or reads the answers of, are closed after a while, and at once
/// where all `connections_max` are open and another one comes.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    connections_max: usize,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (router, shared) = build(api);
    let places = Places::new(connections_max);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => break,
            stream = accept(&listener, &places) => stream,
            Some(_) = connections.join_next() => continue,
        };
        match places.take() {
            Some(place) => {
                connections.spawn(connection::serve(
                    stream,
                    place,
                    router.clone(),
                    shared.clone(),
                ));
            }
            // It fits into the new socket's buffer, or its owner has closed it already.
            None => drop(stream.try_write(FULL)),
        }
    }
    drop(listener);
    shared.drain();
    let all_end = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, all_end).await.is_err() {
        tracing::warn!(
            "requests were still under way {DRAIN_MAX:?} after the shutdown: they are dropped"
        );
    }
}

/// The next connection, without delay for small packets.
async fn accept(listener: &TcpListener, places: &Places) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps its delay for small packets");
                }
                return stream;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted: those that are idle are closed");
                places.make_room();
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

/// Whether only the connection that was to be accepted has failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
