//! What an agent does over either transport.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use eventflow_agent::{AgentError, Cancellation, Failure, Task};
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    Working, agent, double,
    fake::{Fake, MINUTE, Over, Said},
};

/// Every way of getting tasks and of bringing results.
const WAYS: [(Over, bool); 4] = [
    (Over::Http, true),
    (Over::Http, false),
    (Over::Nats, true),
    (Over::Nats, false),
];
const TRANSPORTS: [Over; 2] = [Over::Http, Over::Nats];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_is_performed_once_and_its_output_delivered() {
    for (over, batched) in WAYS {
        let (fake, url) = Fake::start(over).await;
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let handler = move |task: Task| {
            counted.fetch_add(1, Ordering::Relaxed);
            double(task)
        };
        let working = Working::new(agent(&url).batched(batched).capability("work", handler));
        if over == Over::Http {
            // It asks for all of its slots, in several leases at a time.
            fake.until(|book| book.leases.len() == 3).await;
        }
        fake.offer(1_000).await;
        fake.finished(1_000).await;
        working.stop().await.unwrap();
        let book = fake.book();
        assert_eq!(calls.load(Ordering::Relaxed), 1_000);
        assert_eq!(book.deliveries, 1_000);
        for number in 0..1_000 {
            let expected = Said::Complete(json!({ "doubled": number * 2 }));
            assert_eq!(book.said[&format!("t{number}")], expected);
        }
        if batched {
            assert!(
                book.batch_max > 1,
                "results gather while a request is under way"
            );
            assert_eq!(book.single_requests, 0);
        } else {
            assert_eq!(book.single_requests, 1_000);
        }
        if over == Over::Nats {
            assert_eq!(book.begins.len(), 1_000);
            let (_, begin) = &book.begins[0];
            assert_eq!(begin.agent.as_str(), "worker-1");
            assert_eq!(begin.lease_for.unwrap().0, MINUTE);
            continue;
        }
        let first = &book.leases[..3];
        assert_eq!(first.iter().map(|lease| lease.max).sum::<usize>(), 100);
        for lease in first {
            assert_eq!(lease.agent.as_str(), "worker-1");
            assert_eq!(lease.lease_for.unwrap().0, MINUTE);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_performed_at_a_time_than_allowed() {
    for (over, batched) in WAYS {
        let (fake, url) = Fake::start(over).await;
        let now = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (entered, peak) = (Arc::clone(&now), Arc::clone(&most));
        let handler = move |task: Task| {
            let (now, most) = (Arc::clone(&entered), Arc::clone(&peak));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                double(task).await
            }
        };
        let working = Working::new(
            agent(&url)
                .concurrency(7)
                .batched(batched)
                .capability("work", handler),
        );
        fake.offer(300).await;
        fake.finished(300).await;
        working.stop().await.unwrap();
        assert_eq!(most.load(Ordering::SeqCst), 7);
        assert!(fake.book().leases.iter().all(|lease| lease.max <= 7));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_told_with_all_it_says() {
    for (over, batched) in WAYS {
        let (fake, url) = Fake::start(over).await;
        let handler = |_: Task| async {
            Err::<(), _>(Failure::permanent("no such card").titled("Card refused"))
        };
        let working = Working::new(agent(&url).batched(batched).capability("work", handler));
        fake.offer(1).await;
        fake.finished(1).await;
        working.stop().await.unwrap();
        let Said::Fail(fail) = fake.book().said["t0"].clone() else {
            panic!("a failure");
        };
        assert!(!fail.retryable);
        assert_eq!(fail.error.title.as_deref(), Some("Card refused"));
        assert_eq!(fail.error.detail.as_deref(), Some("no such card"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_fails_its_attempt_and_no_other() {
    for over in TRANSPORTS {
        let (fake, url) = Fake::start(over).await;
        let handler = |task: Task| async move {
            assert_ne!(task.execution().as_str(), "e3", "number three");
            double(task).await
        };
        let working = Working::new(agent(&url).capability("work", handler));
        fake.offer(10).await;
        fake.finished(10).await;
        working.stop().await.unwrap();
        let book = fake.book();
        let completed = book
            .said
            .values()
            .filter(|said| matches!(said, Said::Complete(_)));
        assert_eq!(completed.count(), 9);
        let Said::Fail(fail) = &book.said["t3"] else {
            panic!("the third failed");
        };
        assert!(fail.retryable);
        assert!(
            fail.error
                .detail
                .as_deref()
                .unwrap()
                .contains("number three")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_does_not_fit_is_a_permanent_failure() {
    for over in TRANSPORTS {
        let (fake, url) = Fake::start(over).await;
        let handler = |task: Task| async move { task.input::<Vec<u8>>() };
        let working = Working::new(agent(&url).capability("work", handler));
        fake.offer(1).await;
        fake.finished(1).await;
        working.stop().await.unwrap();
        let Said::Fail(fail) = fake.book().said["t0"].clone() else {
            panic!("a failure");
        };
        assert!(!fail.retryable);
        assert!(fail.error.kind.unwrap().ends_with("/errors/validation"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_brought_again_until_the_service_has_them() {
    for (over, batched) in WAYS {
        for (status, after_writing) in [(503, false), (503, true), (429, false), (500, true)] {
            let (fake, url) = Fake::start(over).await;
            fake.book().refuse_results = (3, status);
            fake.book().refuse_after_writing = after_writing;
            let working = Working::new(agent(&url).batched(batched).capability("work", double));
            fake.offer(20).await;
            fake.until(|book| book.said.len() == 20 && book.refuse_results.0 == 0)
                .await;
            working.stop().await.unwrap();
            let book = fake.book();
            assert_eq!(book.said["t7"], Said::Complete(json!({ "doubled": 14 })));
            assert!(!after_writing || book.deliveries > 20, "some went twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_nobody_wants_is_not_brought_again() {
    for (over, batched) in WAYS {
        let (fake, url) = Fake::start(over).await;
        fake.book().contradicted = vec!["t1".into()];
        let working = Working::new(agent(&url).batched(batched).capability("work", double));
        fake.offer(3).await;
        fake.until(|book| book.deliveries == 3).await;
        working.stop().await.unwrap();
        assert_eq!(fake.book().deliveries, 3);
        assert!(!fake.book().said.contains_key("t1"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_can_never_be_taken_fails_the_task() {
    for (over, batched) in WAYS {
        let (fake, url) = Fake::start(over).await;
        fake.book().unusable = Some(json!({ "doubled": 2 }));
        let working = Working::new(agent(&url).batched(batched).capability("work", double));
        fake.offer(3).await;
        fake.finished(3).await;
        working.stop().await.unwrap();
        let Said::Fail(fail) = fake.book().said["t1"].clone() else {
            panic!("a failure");
        };
        assert!(!fail.retryable);
        assert!(fail.error.detail.unwrap().contains("as the test wants it"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_of_life_keep_a_lease_alive_and_carry_progress() {
    for over in TRANSPORTS {
        let (fake, url) = Fake::start(over).await;
        let lease = Duration::from_millis(900);
        let handler = |task: Task| async move {
            task.report_progress(&"half");
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            double(task).await
        };
        let working = Working::new(agent(&url).lease(lease).capability("work", handler));
        let begun = Instant::now();
        fake.offer(1).await;
        fake.finished(1).await;
        working.stop().await.unwrap();
        let book = fake.book();
        let mut before = begun;
        for (token, at, _) in &book.heartbeats {
            assert_eq!(token, "t0");
            assert!(
                *at - before < lease,
                "the lease never expires, however busy the machine"
            );
            before = *at;
        }
        assert!(book.heartbeats.len() >= 4, "{}", book.heartbeats.len());
        assert_eq!(book.heartbeats[0].2, Some(json!("half")));
        assert_eq!(book.heartbeats[1].2, None, "progress is told once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_task_tells_its_handler_and_brings_no_result() {
    for over in TRANSPORTS {
        let (fake, url) = Fake::start(over).await;
        fake.book().cancelled = vec!["t0".into()];
        let (told, hears) = oneshot::channel();
        let told = Arc::new(std::sync::Mutex::new(Some(told)));
        let handler = move |task: Task| {
            let told = Arc::clone(&told);
            async move {
                assert!(!task.is_cancelled());
                let why = task.cancelled().await;
                assert!(task.is_cancelled());
                let _ = told.lock().unwrap().take().unwrap().send(why);
                Ok("too late")
            }
        };
        let working = Working::new(
            agent(&url)
                .lease(Duration::from_millis(300))
                .capability("work", handler),
        );
        fake.offer(1).await;
        assert_eq!(hears.await, Ok(Cancellation::Stopped));
        working.stop().await.unwrap();
        assert_eq!(fake.book().deliveries, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_at_the_end_is_finished_and_nothing_new_begun() {
    for (over, batched) in WAYS {
        let (fake, url) = Fake::start(over).await;
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let handler = move |task: Task| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                double(task).await
            }
        };
        let builder = agent(&url).concurrency(4).batched(batched);
        let working = Working::new(builder.capability("work", handler));
        fake.offer(40).await;
        fake.until(|_| begun.load(Ordering::SeqCst) == 4).await;
        working.stop().await.unwrap();
        assert_eq!(fake.book().said.len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_ignores_the_end_is_abandoned_and_its_attempt_fails() {
    for over in TRANSPORTS {
        let (fake, url) = Fake::start(over).await;
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let handler = move |task: Task| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                if task.execution().as_str() == "e0" {
                    assert_eq!(task.cancelled().await, Cancellation::ShuttingDown);
                    return Ok("in a hurry");
                }
                std::future::pending().await
            }
        };
        let builder = agent(&url).drain_within(Duration::from_millis(100));
        let working = Working::new(builder.capability("work", handler));
        fake.offer(2).await;
        fake.until(|_| begun.load(Ordering::SeqCst) == 2).await;
        working.stop().await.unwrap();
        let book = fake.book();
        assert_eq!(book.said["t0"], Said::Complete(json!("in a hurry")));
        let Said::Fail(fail) = &book.said["t1"] else {
            panic!("the abandoned attempt failed");
        };
        assert!(fail.retryable);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_cannot_be_delivered_do_not_hold_up_the_end() {
    for over in TRANSPORTS {
        let (fake, url) = Fake::start(over).await;
        fake.book().refuse_results = (usize::MAX, 503);
        let builder = agent(&url).drain_within(Duration::from_millis(50));
        let working = Working::new(builder.capability("work", double));
        fake.offer(1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(
            working.stop().await,
            Err(AgentError::Abandoned { tasks: 1 })
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_refuses_the_agent_ends_it_and_an_absent_one_does_not() {
    let (fake, url) = Fake::start(Over::Http).await;
    fake.book().refuse_leases = Some(403);
    let refused = agent(&url).capability("work", double).build().unwrap();
    let ended = refused.run_until(std::future::pending()).await;
    assert!(matches!(ended, Err(AgentError::Refused(why)) if why.contains("403")));

    fake.book().refuse_leases = Some(503);
    let working = Working::new(agent(&url).capability("work", double));
    fake.until(|book| book.leases.len() >= 3).await;
    fake.book().refuse_leases = None;
    fake.offer(1).await;
    fake.finished(1).await;
    working.stop().await.unwrap();
}
