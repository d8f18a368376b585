//! The server that the `http` workload calls: a process of its own until its stdin ends.

use axum::{Json, Router, extract::Path, routing::post};
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::workload::Baton;
use crate::{Outcome, output};

/// Serves `POST /step/{number}` on a port of its own, and prints its URL.
pub(crate) async fn run() -> anyhow::Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    output::line(format!("http://{}", listener.local_addr()?))?;
    let app = Router::new().route("/step/{number}", post(step));
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        () = async { while let Ok(1..) = stdin.read(&mut buffer).await {} } => {}
    }
    Ok(Outcome::Yes)
}

async fn step(Path(number): Path<u64>, Json(baton): Json<Baton>) -> Json<Baton> {
    Json(baton.after(number))
}
