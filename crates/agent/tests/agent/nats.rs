//! What an agent does with a queue of NATS and with a server that fails.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use eventflow_agent::{AgentError, Cancellation, Failure, Task};
use eventflow_nats_server::NatsServer;
use eventflow_wire::v1::Time;
use serde_json::{Value, json};

use crate::{
    Working, agent, double,
    fake::{ACK_WAIT, Fake, Over, Said, task},
};

/// The executions whose tasks were performed, in order.
#[derive(Clone, Default)]
struct Performed(Arc<Mutex<Vec<String>>>);

impl Performed {
    fn doubling(&self, within: Duration) -> impl eventflow_agent::Handler {
        let performed = self.clone();
        move |task: Task| {
            performed
                .0
                .lock()
                .unwrap()
                .push(task.execution().to_string());
            async move {
                tokio::time::sleep(within).await;
                double(task).await
            }
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_what_its_message_says_and_lasts_until_what_its_begin_says() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let handler = |task: Task| async move {
        Ok::<Value, Failure>(json!([
            task.execution().as_str(),
            task.reference(),
            task.capability().as_str(),
            task.tenant().as_str(),
            task.attempt().0,
            task.idempotency_key(),
            task.deadline() == Time(eventflow_domain::Timestamp(7)),
        ]))
    };
    let working = Working::new(agent(&url).capability("work", handler));
    fake.offer(1).await;
    fake.finished(1).await;
    working.stop().await.unwrap();
    let expected = json!([
        "e0",
        "/do/0/work",
        "work",
        "default",
        1,
        "e0:/do/0/work:1",
        true
    ]);
    assert_eq!(fake.book().said["t0"], Said::Complete(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_begin_is_forgotten_and_not_performed() {
    let (fake, url) = Fake::start(Over::Nats).await;
    fake.book().unwanted = vec!["t1".into(), "t3".into()];
    let performed = Performed::default();
    let handler = performed.doubling(Duration::ZERO);
    let working = Working::new(agent(&url).capability("work", handler));
    fake.offer(5).await;
    fake.finished(3).await;
    // Longer than the queue would wait for an acknowledgement.
    tokio::time::sleep(ACK_WAIT + Duration::from_secs(1)).await;
    working.stop().await.unwrap();
    let mut all = performed.all();
    all.sort();
    assert_eq!(all, ["e0", "e2", "e4"]);
    assert_eq!(fake.book().refused_begins, 2, "each was asked for once");
    assert_eq!(fake.nats().queued().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_that_cannot_be_decided_comes_again() {
    let (fake, url) = Fake::start(Over::Nats).await;
    fake.book().undecided_begins = 7;
    let performed = Performed::default();
    let handler = performed.doubling(Duration::ZERO);
    let working = Working::new(agent(&url).capability("work", handler));
    let offered = Instant::now();
    fake.offer(5).await;
    fake.finished(5).await;
    assert!(offered.elapsed() >= Duration::from_secs(1), "not at once");
    working.stop().await.unwrap();
    assert_eq!(performed.all().len(), 5);
    assert_eq!(fake.nats().queued().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_takes_longer_than_the_queue_waits_is_performed_once() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let performed = Performed::default();
    let handler = performed.doubling(ACK_WAIT + Duration::from_secs(2));
    let working = Working::new(agent(&url).capability("work", handler));
    fake.offer(3).await;
    fake.finished(3).await;
    working.stop().await.unwrap();
    assert_eq!(performed.all().len(), 3);
    assert_eq!(fake.book().begins.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_held_than_there_are_free_slots() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let performed = Performed::default();
    let handler = performed.doubling(Duration::from_millis(50));
    let builder = agent(&url).concurrency(7).capability("work", handler);
    let working = Working::new(builder);
    fake.offer(140).await;
    let mut most = 0;
    while fake.book().said.len() < 140 {
        let unacknowledged = fake.nats().unacknowledged("default-work").await;
        most = most.max(fake.book().under_way() + unacknowledged);
    }
    working.stop().await.unwrap();
    assert!(
        (4..=7 + 7).contains(&most),
        "at most every slot's task, and an acknowledgement on its way: {most}"
    );
    assert_eq!(performed.all().len(), 140);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_its_end_an_agent_leaves_the_queue_to_others() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let first = Performed::default();
    let slow = first.doubling(Duration::from_millis(300));
    let ending = Working::new(agent(&url).concurrency(4).capability("work", slow));
    fake.offer(40).await;
    fake.until(|_| first.all().len() == 4).await;
    ending.stop().await.unwrap();
    let done = first.all().len();
    assert_eq!(fake.book().said.len(), done, "what was begun is finished");
    assert!(done <= 8, "{done}");
    assert_eq!(
        fake.nats().unacknowledged("default-work").await,
        0,
        "nothing is held"
    );

    let other = Performed::default();
    let quick = other.doubling(Duration::ZERO);
    let working = Working::new(agent(&url).capability("work", quick));
    let begun = Instant::now();
    fake.finished(40).await;
    assert!(begun.elapsed() < ACK_WAIT, "nothing had to come again");
    working.stop().await.unwrap();
    assert_eq!(other.all().len(), 40 - done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_at_the_end_of_an_agent_is_left_to_others() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let publisher = fake.clone();
    let offering = tokio::spawn(async move { publisher.offer(3_000).await });
    // While tasks come, one agent after the other ends.
    let mut agents = 0;
    while !offering.is_finished() {
        let before = fake.book().said.len();
        let working = Working::new(agent(&url).capability("work", double));
        fake.until(|book| book.said.len() > before + 20 || offering.is_finished())
            .await;
        working.stop().await.unwrap();
        agents += 1;
    }
    offering.await.unwrap();
    assert!(agents > 5, "{agents}");
    let working = Working::new(agent(&url).capability("work", double));
    fake.finished(3_000).await;
    working.stop().await.unwrap();
    assert_eq!(fake.book().begins.len(), 3_000, "each began once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_that_nobody_answers_is_left_to_others_at_the_end() {
    let (fake, url) = Fake::start(Over::Nats).await;
    fake.nats().queue_of("acme", "work").await;
    let builder = agent(&url).tenant("acme").concurrency(4);
    let working = Working::new(builder.capability("work", double));
    let tasks = (0..8).map(|number| task("work", number));
    fake.nats().publish("acme", tasks).await;
    let begun = Instant::now();
    while fake.nats().unacknowledged("acme-work").await < 4 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "nothing is taken"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It tries again and again by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = Instant::now();
    working.stop().await.unwrap();
    assert!(
        told.elapsed() < Duration::from_secs(2),
        "{:?}",
        told.elapsed()
    );
    assert_eq!(fake.nats().at_hand("acme-work", 8).await, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_finds_a_queue_that_is_made_after_it() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let working = Working::new(agent(&url).capability("later", double));
    tokio::time::sleep(Duration::from_millis(200)).await;
    fake.nats().queue("later").await;
    fake.offer_of("later", 0..3).await;
    fake.finished(3).await;
    working.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slot_serves_several_queues_in_turns() {
    let (fake, url) = Fake::start(Over::Nats).await;
    for capability in ["more", "never"] {
        fake.nats().queue(capability).await;
    }
    let running = Arc::new(AtomicUsize::new(0));
    let handler = |running: &Arc<AtomicUsize>| {
        let running = Arc::clone(running);
        move |task: Task| {
            let running = Arc::clone(&running);
            async move {
                assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                tokio::time::sleep(Duration::from_millis(10)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                double(task).await
            }
        }
    };
    let builder = agent(&url).concurrency(1);
    let builder = builder.capability("work", handler(&running));
    let builder = builder.capability("more", handler(&running));
    let builder = builder.capability("never", handler(&running));
    let working = Working::new(builder);
    fake.offer_of("work", 0..20).await;
    fake.offer_of("more", 20..40).await;
    let offered = Instant::now();
    fake.finished(40).await;
    assert!(
        offered.elapsed() < Duration::from_secs(10),
        "an idle queue has the slot for moments only"
    );
    working.stop().await.unwrap();
    let book = fake.book();
    assert!(
        book.said
            .values()
            .all(|said| matches!(said, Said::Complete(_))),
        "{:?}",
        book.said
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_share_a_queue() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let both = [Performed::default(), Performed::default()];
    let working = both.each_ref().map(|performed| {
        let handler = performed.doubling(Duration::from_millis(5));
        Working::new(agent(&url).concurrency(10).capability("work", handler))
    });
    fake.offer(200).await;
    fake.finished(200).await;
    for working in working {
        working.stop().await.unwrap();
    }
    let [one, other] = both.map(|performed| performed.all().len());
    assert_eq!(one + other, 200, "each once");
    assert!(one > 20 && other > 20, "{one} and {other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_no_task_is_put_aside_and_holds_up_nothing() {
    let (fake, url) = Fake::start(Over::Nats).await;
    fake.nats().publish_nonsense().await;
    let working = Working::new(agent(&url).concurrency(1).capability("work", double));
    fake.offer(2).await;
    fake.finished(2).await;
    working.stop().await.unwrap();
    tokio::time::sleep(ACK_WAIT).await;
    assert_eq!(fake.nats().queued().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_lost_tells_the_handler_to_stop() {
    let (fake, url) = Fake::start(Over::Nats).await;
    fake.book().lost = vec!["t0".into()];
    let stopped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stopped);
    let handler = move |task: Task| {
        let count = Arc::clone(&count);
        async move {
            assert_eq!(task.cancelled().await, Cancellation::Stopped);
            count.fetch_add(1, Ordering::SeqCst);
            Ok("too late")
        }
    };
    let lease = Duration::from_millis(600);
    let working = Working::new(agent(&url).lease(lease).capability("work", handler));
    fake.offer(1).await;
    fake.until(|_| stopped.load(Ordering::SeqCst) == 1).await;
    working.stop().await.unwrap();
    assert_eq!(fake.book().deliveries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_is_gone_on_with() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let performed = Performed::default();
    let handler = performed.doubling(Duration::from_millis(300));
    let working = Working::new(agent(&url).concurrency(8).capability("work", handler));
    fake.offer(40).await;
    for results in [8, 16] {
        fake.finished(results).await;
        // In the middle of work: results, begins and pulls are under way.
        fake.nats().server().kill();
        tokio::time::sleep(Duration::from_millis(700)).await;
        fake.nats().server().restart();
    }
    fake.finished(40).await;
    working.stop().await.unwrap();
    assert_eq!(fake.nats().queued().await, 0);
    let book = fake.book();
    for number in 0..40 {
        let expected = Said::Complete(json!({ "doubled": number * 2 }));
        assert_eq!(book.said[&format!("t{number}")], expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_agent_notices_soon_that_its_server_is_back() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let working = Working::new(agent(&url).capability("work", double));
    fake.offer(1).await;
    fake.finished(1).await;
    fake.nats().server().kill();
    tokio::time::sleep(Duration::from_millis(500)).await;
    fake.nats().server().restart();
    let back = Instant::now();
    fake.offer_of("work", 1..2).await;
    fake.finished(2).await;
    assert!(
        back.elapsed() < Duration::from_secs(15),
        "a pull waits for 30 s"
    );
    working.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_end_an_agent_and_an_absent_server_does_not() {
    let (fake, url) = Fake::start(Over::Nats).await;
    let stranger = url.replace("nats://", "nats://system:wrong@");
    let stranger = agent(&stranger).capability("work", double).build().unwrap();
    let ended = stranger.run_until(std::future::pending()).await;
    assert!(
        matches!(&ended, Err(AgentError::Refused(why)) if why.contains("401") && !why.contains("wrong")),
        "{ended:?}"
    );

    fake.nats().server().kill();
    let working = Working::new(agent(&url).capability("work", double));
    tokio::time::sleep(Duration::from_millis(500)).await;
    fake.nats().server().restart();
    fake.offer(1).await;
    fake.finished(1).await;
    working.stop().await.unwrap();
}

/// So many tasks of `work`, given out by this node.
async fn offer_by(fake: &Fake, node: &str, numbers: std::ops::Range<usize>) {
    let tasks = numbers.map(|number| task("work", number));
    let nats = fake.nats();
    nats.publish_by(Some(node), "default", tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_task_goes_to_the_node_that_has_given_it_out() {
    for batched in [true, false] {
        let (fake, url) = Fake::start(Over::Nats).await;
        fake.answer_on("eventflow.results.default.node-a").await;
        fake.answer_on("eventflow.results.default.node-b").await;
        let working = Working::new(agent(&url).batched(batched).capability("work", double));
        offer_by(&fake, "node-a", 0..5).await;
        offer_by(&fake, "node-b", 5..10).await;
        fake.finished(10).await;
        working.stop().await.unwrap();
        let told_on = fake.nats().told_on();
        for node in ["node-a", "node-b"] {
            let subject = format!("eventflow.results.default.{node}");
            assert!(told_on.contains(&subject), "{told_on:?}");
        }
        let general = "eventflow.results.default".to_owned();
        assert!(!told_on.contains(&general), "{told_on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_is_not_waited_for() {
    for batched in [true, false] {
        let (fake, url) = Fake::start(Over::Nats).await;
        let working = Working::new(agent(&url).batched(batched).capability("work", double));
        let offered = Instant::now();
        offer_by(&fake, "node-gone", 0..5).await;
        // No subject can end so: it is as if nothing was said of the node.
        offer_by(&fake, "no.node", 5..10).await;
        fake.finished(10).await;
        assert!(offered.elapsed() < Duration::from_secs(4), "it was");
        working.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_holds_up_its_own_tasks_only_and_not_for_ever() {
    let (fake, url) = Fake::start(Over::Nats).await;
    fake.answer_on("eventflow.results.default.node-a").await;
    let nats = fake.nats();
    nats.hang_on("eventflow.results.default.node-hung").await;
    let working = Working::new(agent(&url).capability("work", double));
    let offered = Instant::now();
    offer_by(&fake, "node-hung", 0..5).await;
    offer_by(&fake, "node-a", 5..10).await;
    fake.finished(5).await;
    assert!(offered.elapsed() < Duration::from_secs(4), "held up");
    fake.finished(10).await;
    // From now on others are told at once.
    let offered = Instant::now();
    offer_by(&fake, "node-hung", 10..15).await;
    fake.finished(15).await;
    assert!(offered.elapsed() < Duration::from_secs(4), "tried again");
    working.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_may_not_tell_a_node_tells_any() {
    let server = NatsServer::configured(
        r#"jetstream: enabled
        no_auth_user: anybody
        authorization { users: [
          { user: anybody, password: open }
          { user: strict, password: secret, permissions: { publish: { deny: "eventflow.results.default.*" } } }
        ] }"#,
    );
    let (fake, url) = Fake::start_on(server).await;
    fake.answer_on("eventflow.results.default.node-a").await;
    let url = url.replace("nats://", "nats://strict:secret@");
    let working = Working::new(agent(&url).capability("work", double));
    let offered = Instant::now();
    offer_by(&fake, "node-a", 0..5).await;
    fake.finished(5).await;
    assert!(offered.elapsed() < Duration::from_secs(4), "it waited");
    working.stop().await.unwrap();
    let told_on = fake.nats().told_on();
    let general = |subject: &String| subject == "eventflow.results.default";
    assert!(told_on.iter().all(general), "{told_on:?}");
}
