//! The append comes first: nothing leaves a partition before its cause is durable, and nothing at all once the writer
//! is fenced or its journal broken.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use eventflow_domain::{Json, Sequence, execution::Status};
use eventflow_ports::{
    AppendError, BlobError, ListQuery, MockBlobStore,
    inbound::{Executions, Refusal, ResultOutcome},
};
use serde_json::json;
use support::{
    held::unavailable,
    requests::{
        PATIENCE, bring, complete, completed, id, next_task, one_task, set_only, start, tenant,
    },
    scene::{PAUSE, QUIET, Scene, assert_unavailable, at_once},
    until,
};
use tokio::task::JoinSet;

/// Calls a URL and, beside it, asks an agent.
fn call_and_work() -> Json {
    Json::of(&json!({
        "dag": "1.0", "namespace": "tests", "name": "both", "version": "1.0.0",
        "steps": [
            {"id": "call", "uses": "http", "with": {"method": "get", "endpoint": "http://stub/"}},
            {"id": "work", "uses": "agent", "with": {"capability": "work"}},
        ],
    }))
}

#[tokio::test]
async fn the_append_happens_before_everything_else() {
    let scene = Scene::set().await;
    let engine = || scene.engine.clone();
    let started = scene.start(start("one", call_and_work()));
    scene.journal.holding(1).await;
    // Whoever reads what is not durable yet waits as well.
    let asked = engine();
    let viewed = scene.meanwhile("view answered", async move {
        asked.view(&tenant(), &id("one")).await
    });
    let asked = engine();
    let read = scene.meanwhile("history answered", async move {
        asked.history(&tenant(), &id("one"), Sequence(0), 100).await
    });
    let asked = engine();
    let listed = scene.meanwhile(
        "list answered",
        async move { asked.list(everything()).await },
    );
    assert_eq!(scene.quiet().await, [""; 0]);

    scene.journal.carry_out().await;
    scene
        .log
        .shows(&[
            "start answered",
            "view answered",
            "history answered",
            "list answered",
            "published",
            "offered",
            "called",
        ])
        .await;
    assert_eq!(scene.log.take()[0], "appended");
    assert!(!started.await.unwrap().expect("started").repeated);
    assert_eq!(viewed.await.unwrap().expect("seen").sequence, Sequence(4));
    assert_eq!(read.await.unwrap().expect("read").events.len(), 4);
    assert_eq!(listed.await.unwrap().expect("listed").executions.len(), 1);

    // What the call brought is in the next record, and so is what the agent brings.
    scene.journal.holding(1).await;
    assert_eq!(scene.quiet().await, [""; 0]);
    scene.journal.carry_out().await;
    scene.log.shows(&["published"]).await;
    scene.log.take();
    let task = next_task(&scene.engine).await;
    let asked = engine();
    let result = completed(&task);
    let brought = scene.meanwhile(
        "result answered",
        async move { bring(&asked, result).await },
    );
    let asked = engine();
    let waited = scene.meanwhile("wait answered", async move {
        asked
            .wait(&tenant(), &id("one"), Duration::from_secs(30))
            .await
    });
    scene.journal.holding(1).await;
    assert_eq!(scene.quiet().await, [""; 0]);
    scene.journal.carry_out().await;
    scene
        .log
        .shows(&["result answered", "wait answered", "published"])
        .await;
    assert_eq!(scene.log.take()[0], "appended");
    assert!(matches!(brought.await.unwrap(), ResultOutcome::Accepted));
    assert_eq!(
        waited.await.unwrap().expect("seen").status,
        Status::Completed
    );
}

fn everything() -> ListQuery {
    ListQuery {
        tenant: tenant(),
        statuses: Vec::new(),
        workflow: None,
        labels: Vec::new(),
        started_after: None,
        started_before: None,
        limit: 10,
        before: None,
    }
}

#[tokio::test]
async fn a_repeat_is_answered_only_after_the_first_is_durable() {
    let scene = Scene::set().await;
    let first = scene.start(start("one", one_task()));
    scene.journal.holding(1).await;
    let repeat = scene.start(start("one", one_task()));
    let other = scene.start(start("one", set_only()));
    assert_eq!(scene.quiet().await, [""; 0]);
    assert_eq!(scene.journal.handed().len(), 1);

    scene.journal.carry_out().await;
    assert!(!first.await.unwrap().expect("started").repeated);
    assert!(repeat.await.unwrap().expect("repeated").repeated);
    let refusal = other.await.unwrap().expect_err("another one");
    assert!(matches!(refusal, Refusal::Contradiction(_)), "{refusal}");
    assert_eq!(scene.log.all()[0], "appended");
    assert_eq!(scene.journal.handed().len(), 1, "a repeat is no record");

    // The same of results: a repeat and a contradiction wait for the result that they repeat or contradict.
    let task = next_task(&scene.engine).await;
    scene.log.shows(&["published"]).await;
    scene.log.take();
    let mut brought = Vec::new();
    for result in [completed(&task), completed(&task)] {
        let engine = scene.engine.clone();
        brought.push(scene.meanwhile(
            "result answered",
            async move { bring(&engine, result).await },
        ));
        scene.journal.holding(1).await;
    }
    assert_eq!(scene.quiet().await, [""; 0]);
    scene.journal.carry_out().await;
    for outcome in brought {
        let outcome = outcome.await.unwrap();
        assert!(matches!(outcome, ResultOutcome::Accepted), "{outcome:?}");
    }
    assert_eq!(scene.log.take()[0], "appended");
}

#[tokio::test]
async fn a_fenced_writer_answers_nobody() {
    let scene = Scene::set().await;
    let started = scene.start(start("one", call_and_work()));
    scene.journal.holding(1).await;
    scene.journal.usurp().await;
    scene.journal.refuse(AppendError::Conflict);
    scene
        .assert_stopped(started, "another writer has taken over")
        .await;
    assert_eq!(scene.journal.handed().len(), 1);
}

#[tokio::test]
async fn a_record_that_was_written_unheard_is_found_and_counts() {
    let scene = Scene::set().await;
    let started = scene.start(start("one", one_task()));
    scene.journal.holding(1).await;
    scene.journal.carry_out_unheard().await;
    assert!(!started.await.unwrap().expect("started").repeated);
    scene.log.shows(&["offered"]).await;
    assert_eq!(scene.journal.handed().len(), 1, "not sent again");
    assert_eq!(scene.readiness(), Ok(()));
}

#[tokio::test]
async fn a_record_that_was_not_written_is_sent_again_byte_for_byte() {
    let scene = Scene::set().await;
    let started = scene.start(start("one", one_task()));
    scene.journal.holding(1).await;
    scene.journal.refuse(unavailable());
    scene.journal.holding(1).await;
    assert_eq!(scene.quiet().await, [""; 0], "it is not durable yet");
    let handed = scene.journal.handed();
    assert_eq!(handed[0], handed[1]);

    scene.journal.let_go().await;
    started.await.unwrap().expect("started");
    scene.log.shows(&["offered"]).await;
    assert_eq!(scene.log.all()[0], "appended");
    complete(&scene.engine, &next_task(&scene.engine).await).await;
}

#[tokio::test]
async fn where_another_writers_record_is_found_the_writer_is_fenced() {
    let scene = Scene::set().await;
    let started = scene.start(start("one", call_and_work()));
    scene.journal.holding(1).await;
    scene.journal.usurp().await;
    scene.journal.refuse(unavailable());
    scene
        .assert_stopped(started, "another writer has taken over")
        .await;
    assert_eq!(scene.journal.handed().len(), 1);
}

#[tokio::test]
async fn appends_under_way_are_mended_in_their_order() {
    let scene = Scene::set().await;
    let first = scene.start(start("one", one_task()));
    scene.journal.holding(1).await;
    // Large enough to go out behind the first.
    let mut large = start("two", one_task());
    large.input = Json::of(&json!({"text": "x".repeat(40 * 1024)}));
    let second = scene.start(large);
    scene.journal.holding(2).await;
    scene.journal.refuse(unavailable());
    scene.journal.refuse(unavailable());

    scene.journal.holding(1).await;
    scene.journal.carry_out().await;
    scene.journal.holding(1).await;
    assert!(first.await.unwrap().is_ok());
    assert!(!second.is_finished());
    scene.journal.carry_out().await;
    assert!(second.await.unwrap().is_ok());
    let handed = scene.journal.handed();
    assert_eq!(handed[..2], handed[2..]);
}

#[tokio::test]
async fn a_writer_that_waits_for_its_journal_does_not_spin() {
    let scene = Scene::set().await;
    let first = scene.start(start("one", one_task()));
    scene.journal.holding(1).await;
    // Too small to go out behind the first, and older than anything lingers.
    let second = scene.start(start("two", one_task()));
    assert_eq!(scene.quiet().await, [""; 0]);
    scene.clock.advance(PAUSE);
    let looks = || scene.calls.counts()[&("Clock", "now")];
    let before = looks();
    assert_eq!(scene.quiet().await, [""; 0]);
    assert!(
        looks() - before < 20,
        "it looked {} times",
        looks() - before
    );

    scene.journal.let_go().await;
    first.await.unwrap().expect("started");
    second.await.unwrap().expect("started");
}

#[tokio::test]
async fn a_fatal_journal_stops_the_partition() {
    let scene = Scene::set().await;
    let started = scene.start(start("one", call_and_work()));
    scene.journal.holding(1).await;
    scene
        .journal
        .refuse(AppendError::Fatal("fsync failed on purpose".into()));
    scene
        .assert_stopped(started, "fsync failed on purpose")
        .await;
    assert_eq!(scene.journal.handed().len(), 1, "an fsync is not retried");
    assert_eq!(scene.journal.looks(), 0, "what is broken is not read back");
}

#[tokio::test]
async fn the_intake_is_closed_while_the_journal_does_not_answer() {
    let scene = Scene::set().await;
    scene.journal.let_go().await;
    scene
        .engine
        .start(start("before", one_task()))
        .await
        .expect("started");
    scene.log.shows(&["offered"]).await;
    let task = next_task(&scene.engine).await;

    scene.journal.hold();
    scene.journal.set_unreadable(true);
    let started = scene.start(start("one", one_task()));
    scene.journal.holding(1).await;
    scene.journal.refuse(unavailable());
    until("the intake to close", || scene.readiness().is_err()).await;
    let reasons = scene.readiness().expect_err("it is stalled");
    assert!(
        reasons[0].contains("the journal does not answer"),
        "{reasons:?}"
    );
    assert_unavailable(&scene.engine.start(start("two", one_task())).await);
    assert_unavailable(&scene.engine.view(&tenant(), &id("before")).await);
    let outcome = bring(&scene.engine, completed(&task)).await;
    let ResultOutcome::Refused(refusal) = outcome else {
        panic!("{outcome:?}")
    };
    assert_unavailable::<()>(&Err(refusal));
    assert!(!started.is_finished());

    // It goes on by itself.
    scene.journal.set_unreadable(false);
    scene.journal.let_go().await;
    until("the start to be answered", || {
        scene.clock.advance(PAUSE);
        started.is_finished()
    })
    .await;
    started.await.unwrap().expect("started");
    assert_eq!(scene.readiness(), Ok(()));
    complete(&scene.engine, &task).await;
}

#[tokio::test]
async fn blobs_are_stored_before_the_record_that_mentions_them() {
    let refuses = Arc::new(AtomicBool::new(true));
    let refusing = refuses.clone();
    let scene = Scene::set_with(|backend, log| {
        let (mut blobs, log) = (MockBlobStore::new(), log.clone());
        blobs.expect_put().returning(move |_, digest, bytes| {
            assert_eq!(*digest, eventflow_domain::Digest::of(&bytes));
            if refusing.load(Ordering::SeqCst) {
                return at_once(Err(BlobError::Unavailable("on purpose".into())));
            }
            log.push("stored");
            at_once(Ok(()))
        });
        backend.blobs = Arc::new(blobs);
    })
    .await;
    let mut large = start("one", one_task());
    large.input = Json::of(&json!({"text": "x".repeat(70_000)}));
    let started = scene.start(large);
    // Another one, which mentions nothing large, does not overtake it.
    let behind = scene.start(start("two", one_task()));
    for _ in 0..5 {
        assert_eq!(scene.quiet().await, [""; 0]);
        assert_eq!(scene.journal.handed(), [], "not before the blob");
        scene.clock.advance(PAUSE);
    }

    scene.journal.let_go().await;
    refuses.store(false, Ordering::SeqCst);
    scene.clock.advance(PAUSE);
    started.await.unwrap().expect("started");
    behind.await.unwrap().expect("started");
    assert_eq!(scene.log.all()[..2], ["stored", "appended"]);
}

#[tokio::test]
async fn a_full_mailbox_answers_busy() {
    /// More than fit into the mailbox and the records under way together.
    const FLOOD: usize =
        eventflow_engine::config::MAILBOX_MAX + 4 * eventflow_engine::config::BATCH_COMMANDS_MAX;
    let scene = Scene::set().await;
    let started = scene.start(start("one", one_task()));
    scene.journal.holding(1).await;
    let mut asking = JoinSet::new();
    for _ in 0..FLOOD {
        let engine = scene.engine.clone();
        asking.spawn(async move { engine.view(&tenant(), &id("one")).await });
    }
    // Whoever is told to come back is told at once; everybody else waits for the record.
    let mut patience = PATIENCE;
    while let Ok(Some(answer)) = tokio::time::timeout(patience, asking.join_next()).await {
        let refusal = answer.unwrap().expect_err("nothing is durable yet");
        assert!(matches!(refusal, Refusal::Busy { .. }), "{refusal}");
        patience = QUIET;
    }
    assert!(asking.len() < FLOOD, "all of {FLOOD} were taken");
    assert!(asking.len() >= eventflow_engine::config::MAILBOX_MAX);

    scene.journal.let_go().await;
    started.await.unwrap().expect("started");
    for answer in asking.join_all().await {
        assert_eq!(answer.expect("seen").status, Status::Running);
    }
}
