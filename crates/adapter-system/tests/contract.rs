//! The contracts of `Clock` and `Ids`, on the machine's own.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_adapter_system::{SystemClock, UuidIds};
use eventflow_contracts::{clock::ClockFixture, clock_contract, ids::IdsFixture, ids_contract};
use eventflow_ports::{Clock, Ids};

struct Machine;

#[async_trait]
impl ClockFixture for Machine {
    async fn open(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}

#[async_trait]
impl IdsFixture for Machine {
    async fn open(&self) -> Arc<dyn Ids> {
        Arc::new(UuidIds)
    }
}

clock_contract!(system_clock, || async { Machine });
ids_contract!(uuid_ids, || async { Machine });
