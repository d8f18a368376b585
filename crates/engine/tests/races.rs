//! What happens between two questions: found by the simulation (ADR 15), and told here without it.

mod support;

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use eventflow_adapter_memory::{Faults, When};
use eventflow_domain::{Position, execution::Status};
use eventflow_engine::{Config, Engine};
use eventflow_ports::{
    MockEventPublisher, MockView, ViewPosition,
    inbound::{Action, Controls, Executions},
};
use support::{
    World, manual_clock,
    requests::{complete, id, next_task, one_task, start, tenant},
    scene::at_once,
    until,
};

/// Starts an execution when it is asked for one, which it does not have.
fn view_that_starts(engine: &Arc<OnceLock<Arc<Engine>>>) -> MockView {
    let (mut view, engine) = (MockView::new(), engine.clone());
    view.expect_position()
        .returning(|_| at_once(Ok(ViewPosition::default())));
    view.expect_open().returning(|_| at_once(Ok(Vec::new())));
    view.expect_apply().returning(|_, _| at_once(Ok(())));
    let was_asked = AtomicBool::new(false);
    view.expect_get().returning(move |_, _, _| {
        // The start looks into the view as well.
        let starts = !was_asked.swap(true, Ordering::SeqCst);
        let engine = engine.get().cloned().filter(|_| starts);
        Box::pin(async move {
            if let Some(engine) = engine {
                let started = engine.start(start("one", one_task())).await;
                started.expect("started");
            }
            Ok(None)
        })
    });
    view
}

#[tokio::test]
async fn a_stop_that_meets_its_start_on_the_way_is_carried_out_or_refused() {
    let known = Arc::new(OnceLock::new());
    let world = World::memory(manual_clock());
    let mut backend = world.backend(&Faults::new()).await;
    backend.view = Arc::new(view_that_starts(&known));
    let engine = Engine::start(backend, Config::default()).await;
    let engine = Arc::new(engine.expect("it starts"));
    let _ = known.set(engine.clone());

    let stopped = engine
        .control(&tenant(), &id("one"), Action::Stop, None)
        .await
        .expect("the start came in time");
    assert_eq!(stopped.status, Status::Cancelled);
}

/// Keeps the sequences of what is published, from this position on.
fn publisher(from: Position, told: &Arc<Mutex<Vec<u64>>>) -> MockEventPublisher {
    let (mut publisher, told) = (MockEventPublisher::new(), told.clone());
    publisher
        .expect_position()
        .returning(move |_| at_once(Ok(from)));
    publisher.expect_publish().returning(move |_, _, events| {
        let sequences = events.iter().map(|event| event.sequence.0);
        told.lock().unwrap().extend(sequences);
        at_once(Ok(()))
    });
    publisher
}

#[tokio::test]
async fn a_publisher_whose_feed_could_not_look_back_loses_nothing() {
    let world = World::memory(manual_clock());
    let mut backend = world.backend(&Faults::new()).await;
    backend.publisher = None;
    let engine = Engine::start(backend, Config::default()).await;
    let engine = engine.expect("it starts");
    let started = engine.start(start("one", one_task())).await;
    started.expect("started");
    let task = next_task(&engine).await;
    complete(&engine, &task).await;
    engine.shutdown().await;

    // Published up to its start; of what follows, the state before is asked of the view.
    let (faults, published) = (Faults::new(), Arc::default());
    let mut backend = world.backend(&faults).await;
    backend.publisher = Some(Arc::new(publisher(Position(2), &published)));
    let engine = Engine::start(backend, Config::default()).await;
    let _engine = engine.expect("it starts again");
    faults.take_down("View", When::Before);
    let asked = || {
        faults
            .counts()
            .get(&("View", "get"))
            .is_some_and(|count| *count > 0)
    };
    until("the feed to look back", asked).await;
    faults.disarm();

    let told = || published.lock().unwrap().last().copied();
    until("the end to be published", || told().is_some()).await;
    let all = published.lock().unwrap().clone();
    assert_eq!(all, [4, 5, 6], "from the attempt that began to the end");
}
