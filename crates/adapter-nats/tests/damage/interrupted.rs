//! A quarantine that dies at any moment: it goes on when it is done again, and meanwhile nobody makes an empty journal.

use std::{future::poll_fn, task::Poll};

use eventflow_adapter_nats::{NatsJournal, NatsQuarantineError, NatsQuarantined};
use eventflow_domain::Position;
use eventflow_ports::Journal;

use super::{
    fixture::{P, RECORDS, Site, order},
    support::Servers,
};

/// It is done long before: each try hears the server once more than the one before.
const TRIES_MAX: u32 = 5_000;

/// Sets the stranger's message aside, and dies when it has been woken so often.
async fn dies_after(
    site: &Site,
    wakes: u32,
) -> Option<Result<NatsQuarantined, NatsQuarantineError>> {
    let order = order(RECORDS + 1);
    let set_aside = NatsQuarantined::set_aside(&site.client, "eventflow", &order);
    let mut set_aside = Box::pin(set_aside);
    let mut left = wakes;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        set_aside.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_where_it_was_and_nobody_writes_meanwhile() {
    let site = Site::start(Servers::single()).await;
    site.stranger("hello").await;
    let mut refused = 0;
    let mut done = None;
    for tries in 1..TRIES_MAX {
        if let Some(ended) = dies_after(&site, tries).await {
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
}
