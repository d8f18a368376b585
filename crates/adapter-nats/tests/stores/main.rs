//! The stores on real servers: every clause of their ports, in the three ways in which they are kept on NATS, and what
//! only NATS has.

mod buckets;
mod connecting;
mod fixture;
#[path = "../support/mod.rs"]
mod support;

use eventflow_contracts::{
    blob_store_contract, definition_store_contract, key_store_contract, leadership_contract,
    view_copies_contract,
};

use fixture::Stores;

mod one_server {
    use super::*;
    key_store_contract!(keys, || async { Stores::single() });
    definition_store_contract!(definitions, || async { Stores::single() });
    blob_store_contract!(blobs, || async { Stores::single() });
    view_copies_contract!(view_copies, || async { Stores::single() });
    leadership_contract!(leadership, || async { Stores::single() });
}

mod one_server_that_syncs {
    use super::*;
    key_store_contract!(keys, || async { Stores::synced() });
    definition_store_contract!(definitions, || async { Stores::synced() });
    blob_store_contract!(blobs, || async { Stores::synced() });
    view_copies_contract!(view_copies, || async { Stores::synced() });
    leadership_contract!(leadership, || async { Stores::synced() });
}

mod three_servers {
    use super::*;
    key_store_contract!(keys, || async { Stores::replicated() });
    definition_store_contract!(definitions, || async { Stores::replicated() });
    blob_store_contract!(blobs, || async { Stores::replicated() });
    view_copies_contract!(view_copies, || async { Stores::replicated() });
    leadership_contract!(leadership, || async { Stores::replicated() });
}
