//! A quarantine that dies at any moment: it goes on when it is done again, and meanwhile nobody makes an empty journal.

use std::time::{Duration, Instant};

use eventflow_adapter_nats::{NatsJournal, NatsQuarantined};
use eventflow_domain::Position;
use eventflow_ports::Journal;
use tokio::time::timeout;

use super::{
    fixture::{P, RECORDS, Site, order},
    support::Servers,
};

/// How much longer each try lives than the one before.
const LONGER: Duration = Duration::from_millis(2);
/// It is done long before.
const TRIES_MAX: u32 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_where_it_was_and_nobody_writes_meanwhile() {
    let site = Site::start(Servers::single()).await;
    site.stranger("hello").await;
    let mut refused = 0;
    let mut done = None;
    let began = Instant::now();
    for tries in 1..TRIES_MAX {
        // In a task of its own, which is dropped in the midst of whatever it does.
        let quarantine = async {
            NatsQuarantined::set_aside(&site.client, "eventflow", &order(RECORDS + 1)).await
        };
        if let Ok(ended) = timeout(LONGER * tries, Box::pin(quarantine)).await {
            done = Some(ended.expect("set aside"));
            break;
        }
        // A node that starts now either finds the whole journal or none that it could open.
        match NatsJournal::open(&site.client, site.config.clone()).await {
            Ok(journal) => {
                let head = journal.head(P).await.expect("a head");
                assert!(
                    head >= Position(RECORDS + 1),
                    "a journal that ends at {head}"
                );
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("EVENTFLOW_JOURNAL_1"), "{error}");
            }
        }
    }
    let done = done.expect("it ends");
    assert!(refused > 3, "it was interrupted {refused} times only");
    assert_eq!(done.records, 1);
    let records = site.whole().await;
    let kept = site.records.len();
    assert_eq!(records[..kept], site.records);
    assert_eq!(records.len(), kept + 2);
    println!("interrupted {refused} times in {:?}", began.elapsed());
}
