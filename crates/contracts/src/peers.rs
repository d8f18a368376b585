//! The clauses of `Peers`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::PartitionId;
use eventflow_ports::{Answering, MESSAGE_BYTES_MAX, PeerError, Peers, Responder};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

const P: PartitionId = PartitionId(0);
const OTHER: PartitionId = PartitionId(1);
/// A wait that is never used up where somebody answers; 64 MiB go both ways in it.
const LONG: Duration = Duration::from_mins(2);
/// A wait that is used up where nobody answers.
const SHORT: Duration = Duration::from_millis(300);
/// What is said at once is said sooner.
const SOON: Duration = Duration::from_secs(5);

/// Nodes that can ask each other, none when the fixture is made.
#[async_trait]
pub trait PeersFixture: Send + Sync {
    /// Another node.
    async fn open(&self) -> Arc<dyn Peers>;
}

/// One test per clause of `Peers`, for the fixture that the closure makes.
#[macro_export]
macro_rules! peers_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            peers,
            [
                clause_01_a_request_reaches_whoever_answers_and_its_answer_comes_back,
                clause_01_the_largest_messages_go_both_ways,
                clause_02_where_nobody_answers_it_is_said_soon,
                clause_03_without_an_answer_in_time_it_is_maybe,
                clause_04_once_it_is_dropped_no_request_reaches_a_responder,
                clause_05_a_slow_request_holds_up_no_other,
                clause_06_what_is_too_large_is_refused,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_a_request_reaches_whoever_answers_and_its_answer_comes_back(
    fixture: &impl PeersFixture,
) {
    const KIB: usize = 1024;
    let (one, two) = (fixture.open().await, fixture.open().await);
    let _answering = answer(&*one, P, |request| tagged("one", &request)).await;
    let _other = answer(&*two, OTHER, |request| tagged("two", &request)).await;
    for asking in [&one, &two] {
        known(&**asking, P).await;
        known(&**asking, OTHER).await;
        let sizes = [
            0,
            1,
            3 * KIB,
            100 * KIB,
            1_023 * KIB,
            1_024 * KIB,
            1_025 * KIB,
            3_000 * KIB,
        ];
        for size in sizes {
            for request in [noise(size), Bytes::from(vec![b'x'; size])] {
                for (partition, tag) in [(P, "one"), (OTHER, "two")] {
                    let answer = ask(&**asking, partition, request.clone()).await;
                    assert!(answer == tagged(tag, &request), "of {size} bytes by {tag}");
                }
            }
        }
    }
    // Many at a time, each with its own answer.
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..200_usize {
        let two = two.clone();
        asked.spawn(async move {
            let request = Bytes::from(format!("{number} {}", "y".repeat(number * 100)));
            assert!(ask(&*two, P, request.clone()).await == tagged("one", &request));
        });
    }
    while let Some(asked) = asked.join_next().await {
        asked.expect("each has its own answer");
    }
}

/// Clause 1.
pub async fn clause_01_the_largest_messages_go_both_ways(fixture: &impl PeersFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let _answering = answer(&*one, P, |request| request).await;
    known(&*two, P).await;
    let request = noise(MESSAGE_BYTES_MAX);
    let answer = ask(&*two, P, request.clone()).await;
    assert!(answer == request, "it is not what was sent");
}

/// Clause 2.
pub async fn clause_02_where_nobody_answers_it_is_said_soon(fixture: &impl PeersFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let nobody = async |asking: &dyn Peers| {
        let since = Instant::now();
        for request in [noise(10), noise(3 * 1024 * 1024)] {
            let asked = asking.ask(P, request, LONG).await;
            assert!(matches!(asked, Err(PeerError::Nobody)), "{asked:?}");
        }
        assert!(since.elapsed() < SOON, "said after {:?}", since.elapsed());
    };
    nobody(&*one).await;
    // Somebody answers, though not for this partition.
    let _other = answer(&*two, OTHER, |request| request).await;
    known(&*one, OTHER).await;
    nobody(&*one).await;
    nobody(&*two).await;
    let answering = answer(&*two, P, |request| request).await;
    known(&*one, P).await;
    drop(answering);
    nobody(&*one).await;
}

/// Clause 3.
pub async fn clause_03_without_an_answer_in_time_it_is_maybe(fixture: &impl PeersFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let never = Held::default();
    let heard = never.heard.clone();
    let _answering = one.answer(P, Arc::new(never)).await.expect("answering");
    known(&*two, P).await;
    for request in [noise(10), noise(3 * 1024 * 1024)] {
        let (since, before) = (Instant::now(), heard.load(Ordering::SeqCst));
        let asked = two.ask(P, request, SOON).await;
        let took = since.elapsed();
        assert!(matches!(asked, Err(PeerError::Unavailable(_))), "{asked:?}");
        assert!(took >= SOON && took < SOON * 3, "given up after {took:?}");
        assert_eq!(heard.load(Ordering::SeqCst), before + 1);
    }
}

/// Clause 4.
pub async fn clause_04_once_it_is_dropped_no_request_reaches_a_responder(
    fixture: &impl PeersFixture,
) {
    const ROUNDS: usize = 20;
    let (one, two) = (fixture.open().await, fixture.open().await);
    for round in 0..ROUNDS {
        let held = Held::open();
        let heard = held.heard.clone();
        let answering = one.answer(P, Arc::new(held)).await.expect("answering");
        known(&*two, P).await;
        let before = heard.load(Ordering::SeqCst);
        drop(answering);
        for _ in 0..3 {
            let asked = two.ask(P, noise(10), SHORT).await;
            assert!(asked.is_err(), "answered in round {round}");
        }
        assert_eq!(heard.load(Ordering::SeqCst), before, "in round {round}");
    }
    // What was heard before is not answered any more, and that is said at once.
    let held = Held::default();
    let heard = held.heard.clone();
    let answering = one.answer(P, Arc::new(held)).await.expect("answering");
    known(&*two, P).await;
    let before = heard.load(Ordering::SeqCst);
    let asked = tokio::spawn({
        let two = two.clone();
        async move { two.ask(P, noise(10), LONG).await }
    });
    while heard.load(Ordering::SeqCst) == before {
        sleep(Duration::from_millis(5)).await;
    }
    let since = Instant::now();
    drop(answering);
    let asked = asked.await.expect("no panic");
    assert!(matches!(asked, Err(PeerError::Gone)), "{asked:?}");
    assert!(since.elapsed() < SOON, "said after {:?}", since.elapsed());
    // Who comes next is reached.
    let _next = answer(&*one, P, |request| tagged("next", &request)).await;
    known(&*two, P).await;
    assert!(ask(&*two, P, noise(10)).await == tagged("next", &noise(10)));
}

/// Clause 5.
pub async fn clause_05_a_slow_request_holds_up_no_other(fixture: &impl PeersFixture) {
    const SLOW: usize = 100;
    let (one, two) = (fixture.open().await, fixture.open().await);
    let held = Held::default();
    let (heard, go_on) = (held.heard.clone(), held.go_on.clone());
    let _answering = one.answer(P, Arc::new(held)).await.expect("answering");
    known(&*two, P).await;
    let before = heard.load(Ordering::SeqCst);
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..SLOW {
        let two = two.clone();
        slow.spawn(async move { ask(&*two, P, noise(10)).await });
    }
    let since = Instant::now();
    while heard.load(Ordering::SeqCst) < before + SLOW {
        assert!(since.elapsed() < LONG, "the slow ones hold each other up");
        sleep(Duration::from_millis(5)).await;
    }
    // The first ones wait; these pass by.
    let since = Instant::now();
    for _ in 0..20 {
        ask(&*two, P, Bytes::from_static(PASS)).await;
    }
    assert!(since.elapsed() < LONG / 2, "after {:?}", since.elapsed());
    assert!(slow.try_join_next().is_none(), "nobody let it go on");
    go_on.add_permits(SLOW);
    while let Some(answer) = slow.join_next().await {
        assert!(answer.expect("answered") == noise(10));
    }
}

/// Clause 6.
pub async fn clause_06_what_is_too_large_is_refused(fixture: &impl PeersFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let heard = Arc::new(AtomicUsize::new(0));
    let _answering = answer(&*one, P, {
        let heard = heard.clone();
        move |request| {
            heard.fetch_add(1, Ordering::SeqCst);
            match &request[..] {
                b"much" => Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]),
                _ => request,
            }
        }
    })
    .await;
    known(&*two, P).await;
    let before = heard.load(Ordering::SeqCst);
    let request = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    let refused = two.ask(P, request, LONG).await.map(|answer| answer.len());
    assert!(is_too_large(&refused), "{refused:?}");
    assert_eq!(heard.load(Ordering::SeqCst), before, "it was carried out");
    let asked = two.ask(P, Bytes::from_static(b"much"), LONG).await;
    let refused = asked.map(|answer| answer.len());
    assert!(is_too_large(&refused), "{refused:?}");
}

fn is_too_large(asked: &Result<usize, PeerError>) -> bool {
    let limit_is_told = |limit: usize| limit == MESSAGE_BYTES_MAX;
    matches!(asked, Err(PeerError::TooLarge { limit }) if limit_is_told(*limit))
}

/// What every responder here answers at once.
const PASS: &[u8] = b"pass";

/// Answers with what a function makes of the request.
struct Answers<F>(F);

#[async_trait]
impl<F: Fn(Bytes) -> Bytes + Send + Sync> Responder for Answers<F> {
    async fn respond(&self, request: Bytes) -> Bytes {
        if request == PASS {
            return request;
        }
        (self.0)(request)
    }
}

/// Answers with the request, once it may go on.
struct Held {
    heard: Arc<AtomicUsize>,
    go_on: Arc<Semaphore>,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            heard: Arc::default(),
            go_on: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Held {
    /// Not held at all.
    fn open() -> Self {
        let held = Self::default();
        held.go_on.add_permits(Semaphore::MAX_PERMITS / 2);
        held
    }
}

#[async_trait]
impl Responder for Held {
    async fn respond(&self, request: Bytes) -> Bytes {
        if request == PASS {
            return request;
        }
        self.heard.fetch_add(1, Ordering::SeqCst);
        self.go_on.acquire().await.expect("open").forget();
        request
    }
}

async fn answer(
    peers: &dyn Peers,
    partition: PartitionId,
    with: impl Fn(Bytes) -> Bytes + Send + Sync + 'static,
) -> Answering {
    let responder = Arc::new(Answers(with));
    peers.answer(partition, responder).await.expect("answering")
}

async fn ask(peers: &dyn Peers, partition: PartitionId, request: Bytes) -> Bytes {
    peers.ask(partition, request, LONG).await.expect("answered")
}

/// Waits until the word has spread that somebody answers.
async fn known(peers: &dyn Peers, partition: PartitionId) {
    let since = Instant::now();
    loop {
        match peers.ask(partition, Bytes::from_static(PASS), LONG).await {
            Ok(_) => return,
            Err(PeerError::Nobody) if since.elapsed() < LONG => {
                sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn tagged(tag: &str, request: &Bytes) -> Bytes {
    [tag.as_bytes(), request].concat().into()
}

/// Bytes that cannot be made smaller, the same for the same length.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}
