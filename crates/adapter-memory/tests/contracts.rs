//! Every contract suite over every adapter in memory.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_adapter_memory::{
    Faults, ManualClock, MemoryBlobStore, MemoryDefinitionStore, MemoryEventPublisher,
    MemoryJournal, MemoryKeyStore, MemoryLeadership, MemoryPeers, MemoryTaskQueue, MemoryView,
    RECORD_BYTES_MAX, Script, ScriptedHttpClient, SequentialIds,
};
use eventflow_contracts::{
    blob_store::BlobStoreFixture,
    blob_store_contract,
    clock::ClockFixture,
    clock_contract,
    definition_store::DefinitionStoreFixture,
    definition_store_contract,
    event_publisher::EventPublisherFixture,
    event_publisher_contract,
    http_client::HttpClientFixture,
    http_client_contract,
    http_site::{Answer, Asked, Served, Site},
    ids::IdsFixture,
    ids_contract,
    journal::JournalFixture,
    journal_contract,
    key_store::KeyStoreFixture,
    key_store_contract,
    leadership::LeadershipFixture,
    leadership_contract,
    peers::PeersFixture,
    peers_contract,
    task_queue::TaskQueueFixture,
    task_queue_contract,
    view::ViewFixture,
    view_contract,
};
use eventflow_domain::{Digest, DurationMs, Tenant};
use eventflow_ports::{
    BlobStore, Clock, DefinitionStore, EventPublisher, HttpClient, HttpRequest, Ids, Journal,
    KeyStore, Leadership, Peers, TaskQueue, View,
};

#[derive(Default)]
struct Memory<T>(T);

#[async_trait]
impl JournalFixture for Memory<MemoryJournal> {
    async fn open(&self) -> Arc<dyn Journal> {
        Arc::new(self.0.clone())
    }
    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }
}

#[async_trait]
impl ViewFixture for Memory<MemoryView> {
    async fn open(&self) -> Arc<dyn View> {
        Arc::new(self.0.clone())
    }
    fn has_files(&self) -> bool {
        false
    }
}

#[async_trait]
impl LeadershipFixture for Memory<MemoryLeadership> {
    async fn open(&self) -> Arc<dyn Leadership> {
        Arc::new(self.0.clone())
    }
}

#[async_trait]
impl PeersFixture for Memory<MemoryPeers> {
    async fn open(&self) -> Arc<dyn Peers> {
        Arc::new(self.0.clone())
    }
}

#[async_trait]
impl TaskQueueFixture for Memory<MemoryTaskQueue> {
    async fn open(&self) -> Arc<dyn TaskQueue> {
        Arc::new(self.0.watching())
    }
}

#[async_trait]
impl EventPublisherFixture for Memory<MemoryEventPublisher> {
    async fn open(&self) -> Arc<dyn EventPublisher> {
        Arc::new(self.0.clone())
    }
    async fn published(&self) -> Vec<Arc<str>> {
        self.0
            .published()
            .into_iter()
            .map(|event| event.id)
            .collect()
    }
}

#[async_trait]
impl DefinitionStoreFixture for Memory<MemoryDefinitionStore> {
    async fn open(&self) -> Arc<dyn DefinitionStore> {
        Arc::new(self.0.clone())
    }
}

#[async_trait]
impl BlobStoreFixture for Memory<MemoryBlobStore> {
    async fn open(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.0.clone())
    }
    async fn damage(&self, tenant: &Tenant, digest: &Digest) {
        self.0.damage(tenant, digest);
    }
}

#[async_trait]
impl KeyStoreFixture for Memory<MemoryKeyStore> {
    async fn open(&self) -> Arc<dyn KeyStore> {
        Arc::new(self.0.clone())
    }
}

#[async_trait]
impl ClockFixture for Memory<ManualClock> {
    async fn open(&self) -> Arc<dyn Clock> {
        Arc::new(self.0.clone())
    }
    async fn pass(&self, span: DurationMs) {
        self.0.advance(span);
    }
}

#[async_trait]
impl IdsFixture for Memory<SequentialIds> {
    async fn open(&self) -> Arc<dyn Ids> {
        Arc::new(self.0.clone())
    }
}

/// A fake has no sockets: the sites of the suite become scripts.
#[async_trait]
impl HttpClientFixture for Memory<ScriptedHttpClient> {
    async fn open(&self) -> Arc<dyn HttpClient> {
        self.0.forbid(self.forbidden_url());
        Arc::new(self.0.clone())
    }
    async fn serve(&self, site: Site) -> Served {
        let url = "http://scripted.test";
        for (path, answer) in site {
            self.0.on(format!("{url}{path}"), script(answer));
        }
        let client = self.0.clone();
        Served::new(url, move || {
            client.requests().into_iter().map(asked).collect()
        })
    }
}

fn script(answer: Answer) -> Script {
    match answer {
        Answer::Respond {
            status,
            headers,
            body,
        } => Script::Respond {
            status,
            headers: headers
                .into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect(),
            body,
        },
        Answer::Silence | Answer::Stall => Script::Silence,
        Answer::HangUp => Script::HangUp,
        Answer::Endless => Script::respond(200, "0123456789abcdef".repeat(100_000)),
    }
}

fn asked(request: HttpRequest) -> Asked {
    let path = request.url.strip_prefix("http://scripted.test");
    Asked {
        method: request.method.to_ascii_uppercase(),
        path: path.unwrap_or(&request.url).into(),
        headers: request
            .headers
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect(),
        body: request.body,
    }
}

/// The same store behind the fault-injecting decorator, with nothing armed.
#[derive(Default)]
struct Decorated<T>(Memory<T>, Faults);

macro_rules! decorated {
    ($fixture:ident, $port:ident, $adapter:ty { $($rest:tt)* }) => {
        #[async_trait]
        impl $fixture for Decorated<$adapter> {
            async fn open(&self) -> Arc<dyn $port> {
                self.1.wrap(self.0.open().await)
            }
            $($rest)*
        }
    };
}

decorated!(JournalFixture, Journal, MemoryJournal {
    fn record_bytes_max(&self) -> usize {
        self.0.record_bytes_max()
    }
});
decorated!(ViewFixture, View, MemoryView {
    fn has_files(&self) -> bool {
        self.0.has_files()
    }
});
decorated!(LeadershipFixture, Leadership, MemoryLeadership {});
decorated!(PeersFixture, Peers, MemoryPeers {});
decorated!(TaskQueueFixture, TaskQueue, MemoryTaskQueue {});
decorated!(EventPublisherFixture, EventPublisher, MemoryEventPublisher {
    async fn published(&self) -> Vec<Arc<str>> {
        self.0.published().await
    }
});
decorated!(
    DefinitionStoreFixture,
    DefinitionStore,
    MemoryDefinitionStore {}
);
decorated!(BlobStoreFixture, BlobStore, MemoryBlobStore {
    async fn damage(&self, tenant: &Tenant, digest: &Digest) {
        self.0.damage(tenant, digest).await;
    }
});
decorated!(KeyStoreFixture, KeyStore, MemoryKeyStore {});
decorated!(ClockFixture, Clock, ManualClock {
    async fn pass(&self, span: DurationMs) {
        self.0.pass(span).await;
    }
});
decorated!(IdsFixture, Ids, SequentialIds {});
decorated!(HttpClientFixture, HttpClient, ScriptedHttpClient {
    async fn serve(&self, site: Site) -> Served {
        self.0.serve(site).await
    }
});

macro_rules! both {
    ($contract:ident, $memory:ident, $faulty:ident, $adapter:ty) => {
        $contract!($memory, || async { Memory::<$adapter>::default() });
        $contract!($faulty, || async { Decorated::<$adapter>::default() });
    };
}

both!(journal_contract, journal, faulty_journal, MemoryJournal);
both!(view_contract, view, faulty_view, MemoryView);
both!(
    leadership_contract,
    leadership,
    faulty_leadership,
    MemoryLeadership
);
both!(peers_contract, peers, faulty_peers, MemoryPeers);
both!(
    task_queue_contract,
    task_queue,
    faulty_task_queue,
    MemoryTaskQueue
);
both!(
    event_publisher_contract,
    event_publisher,
    faulty_event_publisher,
    MemoryEventPublisher
);
both!(
    definition_store_contract,
    definition_store,
    faulty_definition_store,
    MemoryDefinitionStore
);
both!(
    blob_store_contract,
    blob_store,
    faulty_blob_store,
    MemoryBlobStore
);
both!(
    key_store_contract,
    key_store,
    faulty_key_store,
    MemoryKeyStore
);
both!(clock_contract, clock, faulty_clock, ManualClock);
both!(ids_contract, ids, faulty_ids, SequentialIds);
both!(
    http_client_contract,
    http_client,
    faulty_http_client,
    ScriptedHttpClient
);
