//! Nodes among which somebody listens to everything, as an operator may who wants to see what goes on.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_adapter_nats::NatsPeers;
use eventflow_ports::{Peers, Responder};
use futures::StreamExt as _;

use super::fixture::{Nodes, P};

/// Far below the time-out of whatever waits in vain.
const SOON: Duration = Duration::from_secs(2);

struct Echo;

#[async_trait]
impl Responder for Echo {
    async fn respond(&self, request: Bytes) -> Bytes {
        request
    }
}

#[tokio::test]
async fn who_listens_to_everything_holds_nobody_up() {
    let nodes = Nodes::single();
    let operator = nodes.servers.connect().await;
    let mut everything = operator.subscribe(">").await.expect("subscribed");
    operator.flush().await.expect("sent");
    let [asking, answering] = [nodes.servers.connect().await, nodes.servers.connect().await]
        .map(|client| NatsPeers::new(&client, &nodes.config));
    let begun = tokio::time::timeout(SOON, answering.answer(P, Arc::new(Echo))).await;
    let _answering = begun.expect("in time").expect("answering");
    let request = Bytes::from_static(b"well?");
    let answer = asking.ask(P, request.clone(), SOON).await;
    assert_eq!(answer.expect("answered"), request);
    assert!(everything.next().await.is_some(), "it has heard nothing");
}
