//! What the fault-injecting decorator promises to a crash test.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use eventflow_adapter_memory::{
    Faults, ManualClock, MemoryBlobStore, MemoryJournal, Script, ScriptedHttpClient, SequentialIds,
    When,
};
use eventflow_domain::{Digest, PartitionId, Position, Tenant, Timestamp};
use eventflow_ports::{
    AppendError, BlobError, BlobStore, Clock, HttpClient, HttpRequest, Ids, Journal, ReadLimit,
};

const PARTITION: PartitionId = PartitionId(0);

/// A process with two ports, on stores that outlive it.
struct Process {
    faults: Faults,
    journal: Arc<dyn Journal>,
    blobs: Arc<dyn BlobStore>,
}

impl Process {
    fn on(journal: &MemoryJournal, blobs: &MemoryBlobStore) -> Self {
        let faults = Faults::new();
        Self {
            journal: faults.wrap(Arc::new(journal.clone())),
            blobs: faults.wrap(Arc::new(blobs.clone())),
            faults,
        }
    }

    /// Four calls that may fail.
    async fn run(&self) -> Result<(), String> {
        let text = Bytes::from_static(b"blob");
        let digest = Digest::of(&text);
        let tenant = Tenant::default_tenant();
        let put = self.blobs.put(&tenant, &digest, text).await;
        put.map_err(|error| error.to_string())?;
        for last in 0..2 {
            let append = append(&*self.journal, last);
            append.await.map_err(|error| error.to_string())?;
        }
        let got = self.blobs.get(&tenant, &digest).await;
        got.map(|_| ()).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn the_process_dies_before_or_after_each_call() {
    let counting = Process::on(&MemoryJournal::default(), &MemoryBlobStore::default());
    counting.run().await.expect("nothing is armed");
    assert_eq!(counting.faults.calls(), 4);
    assert!(!counting.faults.tripped());

    for call in 1..=4 {
        for when in [When::Before, When::After] {
            let (journal, blobs) = (MemoryJournal::default(), MemoryBlobStore::default());
            let process = Process::on(&journal, &blobs);
            process.faults.fail_at(call, when);
            process.run().await.expect_err("it dies");
            assert!(process.faults.tripped(), "at {call} {when:?}");
            ready(process.faults.tripped_wait()).await;
            let carried_out = if when == When::After { call } else { call - 1 };
            let appended = carried_out.saturating_sub(1).min(2);
            assert_eq!(journal.head(PARTITION).await.expect("head").0, appended);

            // Nothing works any more, and nothing has an effect.
            process.run().await.expect_err("dead");
            let dead = append(&*process.journal, appended).await;
            assert!(matches!(dead, Err(AppendError::Unavailable(_))), "{dead:?}");
            assert_eq!(journal.head(PARTITION).await.expect("head").0, appended);

            // The next life finds what took effect.
            let reborn = Process::on(&journal, &blobs);
            let head = reborn.journal.head(PARTITION).await.expect("head");
            assert_eq!(head.0, appended);
        }
    }
}

#[tokio::test]
async fn counts_and_the_hit_name_port_and_method() {
    let process = Process::on(&MemoryJournal::default(), &MemoryBlobStore::default());
    let clock = process.faults.wrap(Arc::new(ManualClock::default()));
    let ids = process.faults.wrap(Arc::new(SequentialIds::default()));
    clock.sleep_until(Timestamp(0)).await;
    ids.execution_id();
    process.faults.fail_at(3, When::Before);
    process.run().await.expect_err("it dies");
    assert!(clock.now() > Timestamp(0), "time goes on");
    let counts: Vec<_> = process.faults.counts().into_iter().collect();
    assert_eq!(
        counts,
        [
            (("BlobStore", "put"), 1),
            (("Clock", "now"), 1),
            (("Clock", "sleep_until"), 1),
            (("Ids", "execution_id"), 1),
            (("Journal", "append"), 2),
        ]
    );
    assert_eq!(process.faults.hit(), Some(("Journal", "append")));
}

#[tokio::test]
async fn an_answer_that_is_lost_with_the_process_comes_after_its_effect() {
    let journal = MemoryJournal::default();
    let process = Process::on(&journal, &MemoryBlobStore::default());
    process.faults.fail_at(2, When::After);
    let first = append(&*process.journal, 0);
    let second = append(&*process.journal, 1);
    assert!(
        !process.faults.tripped(),
        "the last call is still under way"
    );
    drop(second);
    assert!(process.faults.tripped(), "and now it is not");
    let first = first.await;
    assert!(
        matches!(first, Err(AppendError::Unavailable(_))),
        "no answer leaves a dead process: {first:?}"
    );
    assert_eq!(journal.head(PARTITION).await.expect("head"), Position(2));
}

#[tokio::test]
async fn after_a_hiccup_what_builds_on_it_fails_until_the_writer_has_looked() {
    for (when, written) in [(When::Before, 1), (When::After, 2)] {
        let journal = MemoryJournal::default();
        let process = Process::on(&journal, &MemoryBlobStore::default());
        process.faults.hiccup_at(2, when);
        let appends = [0, 1, 2, 3].map(|last| append(&*process.journal, last));
        let mut outcomes = Vec::new();
        for append in appends {
            outcomes.push(append.await.is_ok());
        }
        assert_eq!(outcomes, [true, false, false, false], "{when:?}");
        assert!(!process.faults.tripped());

        // Nor does one that is handed over later.
        append(&*process.journal, 4)
            .await
            .expect_err("it builds on a failed one");
        let found = process
            .journal
            .read(PARTITION, Position(0), ReadLimit::REPLAY)
            .await
            .expect("it works again");
        assert_eq!(found.len() as u64, written, "{when:?}");
        let conflict = append(&*process.journal, 5).await;
        assert!(
            matches!(conflict, Err(AppendError::Conflict)),
            "the store itself answers again: {conflict:?}"
        );
        for last in written..6 {
            append(&*process.journal, last)
                .await
                .expect("it works again");
        }
    }
}

#[tokio::test]
async fn a_hiccup_leaves_http_alone_and_a_crash_does_not() {
    let request = HttpRequest {
        method: "GET".into(),
        url: "http://bank/".into(),
        headers: Vec::new(),
        body: Bytes::new(),
        timeout: Duration::from_secs(1),
        body_limit: 10,
        follow_redirects: false,
    };
    let scripted = ScriptedHttpClient::default();
    scripted.on("http://bank/", Script::respond(200, "ok"));
    let faults = Faults::new();
    let client = faults.wrap(Arc::new(scripted.clone()));
    faults.hiccup_at(1, When::After);
    client.execute(request.clone()).await.expect("left alone");
    assert_eq!(faults.hit(), None);
    faults.fail_at(2, When::After);
    client.execute(request).await.expect_err("dead");
    assert_eq!(scripted.requests().len(), 2, "it was sent all the same");
    assert!(faults.tripped());
}

#[tokio::test]
async fn a_hiccup_is_the_ports_own_unavailable() {
    let process = Process::on(&MemoryJournal::default(), &MemoryBlobStore::default());
    process.faults.hiccup_at(1, When::Before);
    let (tenant, digest) = (Tenant::default_tenant(), Digest::of(b"x"));
    let lost = process.blobs.get(&tenant, &digest).await;
    let Err(BlobError::Unavailable(source)) = lost else {
        panic!("{lost:?}");
    };
    assert_eq!(
        source.to_string(),
        "a fault was injected into BlobStore::get"
    );
    assert_eq!(
        process.blobs.get(&tenant, &digest).await.expect("works"),
        None
    );
}

fn append(journal: &dyn Journal, last: u64) -> eventflow_ports::Appending {
    journal.append(PARTITION, Position(last), Bytes::from(format!("{last}")))
}

/// It must be done by now.
async fn ready(future: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(5), future)
        .await
        .expect("no waiting");
}
