//! What nodes say to each other and to agents, on real servers: every clause of `Peers` and `TaskQueue`, and what only
//! NATS has.

mod agents;
mod fixture;
mod listened;
mod losses;
#[path = "../support/mod.rs"]
mod support;

use eventflow_contracts::{peers_contract, task_queue_contract};

use fixture::Nodes;

mod one_server {
    use super::*;
    peers_contract!(peers, || async { Nodes::single() });
    task_queue_contract!(task_queue, || async { Nodes::single() });
}

mod one_server_that_syncs {
    use super::*;
    peers_contract!(peers, || async { Nodes::synced() });
    task_queue_contract!(task_queue, || async { Nodes::synced() });
}

mod three_servers {
    use super::*;
    peers_contract!(peers, || async { Nodes::replicated() });
    task_queue_contract!(task_queue, || async { Nodes::replicated() });
}
