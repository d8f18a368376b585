//! A service of the agent protocol in memory: gives out tasks, writes down what agents say, fails on demand.

mod http;
mod nats;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use eventflow_domain::{Attempt, DurationMs, Timestamp};
use eventflow_nats_server::{NatsServer, Options};
use eventflow_wire::v1::{
    Problem, Time,
    tasks::{
        BeginAnswer, BeginBody, FailBody, HeartbeatAnswer, HeartbeatBody, LeaseBody, LeasedTask,
        ResultAnswer, ResultItem,
    },
};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub(crate) use nats::{ACK_WAIT, Side};

/// How the agent speaks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Http,
    Nats,
}

/// What an agent said last of a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Complete(Value),
    Fail(Box<FailBody>),
}

#[derive(Default)]
pub(crate) struct Book {
    queue: VecDeque<LeasedTask>,
    /// Results by token, those that were taken.
    pub(crate) said: HashMap<String, Said>,
    /// Results in all, those that were refused included.
    pub(crate) deliveries: usize,
    /// The largest batch.
    pub(crate) batch_max: usize,
    pub(crate) single_requests: usize,
    pub(crate) leases: Vec<LeaseBody>,
    /// Begins that were granted, in order.
    pub(crate) begins: Vec<(String, BeginBody)>,
    /// Tasks that must not begin, and how often that was said.
    pub(crate) unwanted: Vec<String>,
    pub(crate) refused_begins: usize,
    /// So many of the next begins cannot be decided.
    pub(crate) undecided_begins: usize,
    pub(crate) heartbeats: Vec<(String, Instant, Option<Value>)>,
    /// Tasks that the agent is to stop.
    pub(crate) cancelled: Vec<String>,
    /// Tasks whose lease is somebody else's: their heartbeats are answered 409.
    pub(crate) lost: Vec<String>,
    /// So many of the next requests with results are answered so.
    pub(crate) refuse_results: (usize, u16),
    /// Whether those were written down all the same, as when an answer is lost.
    pub(crate) refuse_after_writing: bool,
    /// Leases are answered so.
    pub(crate) refuse_leases: Option<u16>,
    /// Outputs that can never be taken.
    pub(crate) unusable: Option<Value>,
    /// Results of these tokens are answered 409.
    pub(crate) contradicted: Vec<String>,
}

impl Book {
    /// How many are begun and have no result so far.
    pub(crate) fn under_way(&self) -> usize {
        let begun: HashSet<&String> = self.begins.iter().map(|(token, _)| token).collect();
        begun.len()
            - begun
                .iter()
                .filter(|token| self.said.contains_key(**token))
                .count()
    }
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    book: Arc<Mutex<Book>>,
    changed: Arc<Notify>,
    nats: Option<Arc<Side>>,
}

impl Fake {
    /// Starts to listen; gives the URL as well.
    pub(crate) async fn start(over: Over) -> (Self, String) {
        match over {
            Over::Http => {
                let fake = Self::default();
                let url = http::serve(fake.clone()).await;
                (fake, url)
            }
            Over::Nats => Self::start_on(NatsServer::start(Options::default())).await,
        }
    }

    /// The same on a NATS server that is there.
    pub(crate) async fn start_on(server: NatsServer) -> (Self, String) {
        let side = Side::on(server).await;
        let url = side.url();
        let fake = Self {
            nats: Some(Arc::new(side)),
            ..Self::default()
        };
        fake.answer_on("eventflow.results.default").await;
        (fake, url)
    }

    /// Answers what agents say over NATS on one more subject.
    pub(crate) async fn answer_on(&self, subject: &str) {
        nats::serve(self.clone(), subject).await;
    }

    /// What is behind it, over NATS.
    pub(crate) fn nats(&self) -> &Side {
        self.nats.as_deref().expect("it speaks NATS")
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Queues tasks of the capability `work`, with tokens from `t0` on and their number as input.
    pub(crate) async fn offer(&self, count: usize) {
        self.offer_of("work", 0..count).await;
    }

    /// Queues tasks of another capability, or with other numbers.
    pub(crate) async fn offer_of(&self, capability: &str, numbers: std::ops::Range<usize>) {
        let tasks = numbers.map(|number| task(capability, number));
        if let Some(nats) = &self.nats {
            nats.publish("default", tasks).await;
        } else {
            self.book().queue.extend(tasks);
            self.changed.notify_waiters();
        }
    }

    /// Waits until so many tasks have a result.
    pub(crate) async fn finished(&self, count: usize) {
        self.until(|book| book.said.len() >= count).await;
    }

    /// Waits for something to be so, for half a minute: the machine may be busy.
    pub(crate) async fn until(&self, so: impl Fn(&Book) -> bool) {
        let begun = Instant::now();
        while !so(&self.book()) {
            assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A request with these, answered one by one, or refused as a whole with a status.
    fn batch(&self, items: &[ResultItem]) -> Result<Vec<ResultAnswer>, u16> {
        let brings = |item: &ResultItem| item.complete.is_some() || item.fail.is_some();
        let results = items.iter().filter(|item| brings(item)).count();
        let refusal = if results > 0 { self.refusal() } else { None };
        {
            let mut book = self.book();
            book.batch_max = book.batch_max.max(results);
        }
        self.unless(refusal, || {
            items.iter().map(|item| self.note(item)).collect()
        })
    }

    /// A request with one.
    fn single(&self, item: &ResultItem) -> Result<ResultAnswer, u16> {
        self.book().single_requests += 1;
        self.unless(self.refusal(), || self.note(item))
    }

    /// What is done unless it is refused, and maybe then, too.
    fn unless<T>(&self, refusal: Option<u16>, work: impl FnOnce() -> T) -> Result<T, u16> {
        let after_writing = self.book().refuse_after_writing;
        match refusal {
            None => Ok(work()),
            Some(status) => {
                if after_writing {
                    work();
                }
                Err(status)
            }
        }
    }

    /// Whether this request is to be refused, and with what status.
    fn refusal(&self) -> Option<u16> {
        let mut book = self.book();
        let (left, status) = book.refuse_results;
        book.refuse_results.0 = left.saturating_sub(1);
        (left > 0).then_some(status)
    }

    fn note(&self, item: &ResultItem) -> ResultAnswer {
        let mut book = self.book();
        let mut answer = ResultAnswer {
            token: item.token.clone(),
            status: 200,
            heartbeat: None,
            begin: None,
            problem: None,
        };
        match (&item.complete, &item.fail, &item.heartbeat, &item.begin) {
            (Some(complete), None, None, None) => {
                book.result(&mut answer, Said::Complete(complete.output.to_value()));
            }
            (None, Some(fail), None, None) => {
                book.result(&mut answer, Said::Fail(Box::new(fail.clone())));
            }
            (None, None, Some(heartbeat), None) => book.heartbeat(&mut answer, heartbeat),
            (None, None, None, Some(begin)) => book.begin(&mut answer, begin),
            other => panic!("exactly one, not {other:?}"),
        }
        if answer.status != 200 {
            answer.problem = Some(problem(answer.status));
        }
        answer
    }
}

impl Book {
    fn result(&mut self, answer: &mut ResultAnswer, said: Said) {
        let token = answer.token.to_string();
        self.deliveries += 1;
        answer.status = if self.contradicted.contains(&token) {
            409
        } else if matches!(&said, Said::Complete(output) if Some(output) == self.unusable.as_ref())
        {
            422
        } else if self.said.get(&token).is_some_and(|before| *before != said) {
            409
        } else {
            self.said.insert(token, said);
            200
        };
    }

    fn heartbeat(&mut self, answer: &mut ResultAnswer, heartbeat: &HeartbeatBody) {
        let token = answer.token.to_string();
        if self.lost.contains(&token) {
            answer.status = 409;
            return;
        }
        answer.heartbeat = Some(HeartbeatAnswer {
            cancelled: self.cancelled.contains(&token),
            lease_until: Time(Timestamp(0)),
        });
        let progress = heartbeat.progress.as_ref();
        let progress = progress.map(eventflow_domain::Json::to_value);
        self.heartbeats.push((token, Instant::now(), progress));
    }

    fn begin(&mut self, answer: &mut ResultAnswer, begin: &BeginBody) {
        let token = answer.token.to_string();
        if self.undecided_begins > 0 {
            self.undecided_begins -= 1;
            answer.status = 503;
            return;
        }
        let granted = !self.unwanted.contains(&token);
        answer.begin = Some(BeginAnswer {
            granted,
            lease_until: granted.then_some(Time(Timestamp(7))),
            reason: (!granted).then(|| "as the test wants it".to_owned()),
        });
        if granted {
            self.begins.push((token, begin.clone()));
        } else {
            answer.status = 409;
            self.refused_begins += 1;
        }
    }
}

fn problem(status: u16) -> Problem {
    Problem::new(status, "Refused", "as the test wants it")
}

pub(crate) fn task(capability: &str, number: usize) -> LeasedTask {
    serde_json::from_value(json!({
        "token": format!("t{number}"),
        "executionId": format!("e{number}"),
        "tenant": "default",
        "workflow": {"namespace": "default", "name": "test", "version": "1.0.0"},
        "task": "/do/0/work",
        "capability": capability,
        "attempt": Attempt(1),
        "input": {"n": number},
        "idempotencyKey": format!("e{number}:/do/0/work:1"),
        "deadline": Time(Timestamp(7)),
    }))
    .unwrap()
}

/// The default lease, as a span of the protocol.
pub(crate) const MINUTE: DurationMs = DurationMs::from_secs(60);
