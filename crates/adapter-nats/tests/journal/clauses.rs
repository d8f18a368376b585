//! The contract of `Journal`, in the three ways in which a journal is kept on NATS.

use eventflow_contracts::journal_contract;

use super::store::Store;

journal_contract!(one_server, || async { Store::single() });
journal_contract!(one_server_that_syncs, || async { Store::synced() });
journal_contract!(three_servers, || async { Store::replicated() });
