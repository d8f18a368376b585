//! Every contract suite over every adapter in memory.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_adapter_memory::{MemoryJournal, RECORD_BYTES_MAX};
use eventflow_contracts::{journal::JournalFixture, journal_contract};
use eventflow_ports::Journal;

#[derive(Default)]
struct Memory {
    journal: MemoryJournal,
}

#[async_trait]
impl JournalFixture for Memory {
    async fn open(&self) -> Arc<dyn Journal> {
        Arc::new(self.journal.clone())
    }
    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }
}

journal_contract!(journal, || async { Memory::default() });
