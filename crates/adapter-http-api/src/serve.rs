//! The router and the server: how requests come in, and how they stop coming in.

use std::{io, time::Duration};

use axum::{Router, middleware};
use bytes::Bytes;
use tokio::net::TcpListener;

use crate::{
    listener::Bounded,
    openapi,
    state::{Api, Shared},
    trouble,
};

/// Connections at once: every place to wait and every stream, and as many again for everything else.
pub const CONNECTIONS_MAX: usize = 10_000;
/// How long requests may go on after the shutdown, so that the process ends within 10 seconds of SIGTERM.
pub const DRAIN_MAX: Duration = Duration::from_secs(7);

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

/// Serves the API until `shutdown` completes, then ends streams, answers whoever waits, lets other requests finish and
/// returns, after [`DRAIN_MAX`] in any case.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (router, shared) = build(api);
    let stop = {
        let shared = shared.clone();
        async move {
            shutdown.await;
            shared.drain();
        }
    };
    let serving = axum::serve(Bounded::new(listener, CONNECTIONS_MAX), router)
        .with_graceful_shutdown(stop)
        .into_future();
    let too_long = async {
        shared.drained().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        served = serving => served,
        () = too_long => {
            tracing::warn!("requests were still under way {DRAIN_MAX:?} after the shutdown: they are dropped");
            Ok(())
        }
    }
}
