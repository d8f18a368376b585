//! The one host that workflows call: mostly answers, and knows what it has answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use eventflow_adapter_memory::ManualClock;
use eventflow_domain::{Attempt, DurationMs, ExecutionId, Json, TaskReference};
use eventflow_ports::{Clock, HttpClient, HttpFailure, HttpFailureKind, HttpRequest, HttpResponse};
use serde_json::json;

use crate::{documents::SITE, draw::Draw, ledger::Ledger};

/// What the key of an attempt says.
const KEY: &str = "idempotency-key";

/// A handle to the host, as one node reaches it.
#[derive(Clone)]
pub(crate) struct Site {
    state: Arc<Mutex<State>>,
    ledger: Ledger,
    clock: ManualClock,
}

struct State {
    draw: Draw,
    is_well: bool,
    given: BTreeMap<String, Vec<Json>>,
    findings: Vec<String>,
    asked: u64,
}

impl Site {
    pub(crate) fn new(draw: Draw, ledger: Ledger, clock: ManualClock) -> Self {
        let state = State {
            draw,
            is_well: false,
            given: BTreeMap::new(),
            findings: Vec::new(),
            asked: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            ledger,
            clock,
        }
    }

    /// The same host, reached by somebody with another clock.
    pub(crate) fn reached_with(&self, clock: &ManualClock) -> Self {
        Self {
            clock: clock.clone(),
            ..self.clone()
        }
    }

    /// From now on it always answers well.
    pub(crate) fn be_well(&self) {
        self.state().is_well = true;
    }

    /// Everything that was ever answered to this attempt.
    pub(crate) fn given(
        &self,
        execution: &ExecutionId,
        task: &TaskReference,
        attempt: Attempt,
    ) -> Vec<Json> {
        let key = format!("{execution}{task}/{attempt}");
        self.state().given.get(&key).cloned().unwrap_or_default()
    }

    /// Requests so far.
    pub(crate) fn asked(&self) -> u64 {
        self.state().asked
    }

    /// What should not have been asked.
    pub(crate) fn findings(&self) -> Vec<String> {
        self.state().findings.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request may only come of what is durable.
    fn check(&self, key: &str) {
        let named = || {
            let (execution, rest) = key.split_once('/')?;
            let (task, attempt) = rest.rsplit_once('/')?;
            let execution = ExecutionId::parse(execution).ok()?;
            Some((
                execution,
                TaskReference::at(&format!("/{task}")),
                attempt.parse().ok()?,
            ))
        };
        let is_durable = named().is_some_and(|(execution, task, attempt)| {
            self.ledger.is_ready(&execution, &task, Attempt(attempt))
        });
        if !is_durable {
            let finding =
                format!("the site was called for {key}, which the journal has not scheduled");
            self.state().findings.push(finding);
        }
    }
}

enum Answer {
    Well,
    Status(u16),
    HangUp,
    Silence,
}

#[async_trait]
impl HttpClient for Site {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        let key = request.headers.iter().find(|(name, _)| name == KEY);
        let key = key.map_or_else(String::new, |(_, key)| key.clone());
        self.check(&key);
        let (answer, latency, n) = {
            let mut state = self.state();
            state.asked += 1;
            let answer = match state.draw.place(100) {
                _ if state.is_well => Answer::Well,
                0..=3 => Answer::HangUp,
                4..=6 => Answer::Silence,
                7..=12 => Answer::Status(503),
                13..=15 => Answer::Status(404),
                _ => Answer::Well,
            };
            let latency = Duration::from_millis(state.draw.number(0..=50));
            (answer, latency, state.draw.number(0..=9))
        };
        tokio::time::sleep(latency).await;
        let failed = |kind, message: &str| HttpFailure {
            kind,
            message: message.to_owned(),
            latency: Duration::ZERO,
        };
        let (status, body) = match answer {
            _ if !request.url.starts_with(SITE) => {
                return Err(failed(HttpFailureKind::Network, "there is no such host"));
            }
            Answer::HangUp => return Err(failed(HttpFailureKind::Network, "the connection broke")),
            Answer::Silence => {
                let timeout = u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX);
                let until = self.clock.now().after(DurationMs(timeout));
                self.clock.sleep_until(until).await;
                return Err(failed(HttpFailureKind::Timeout, "no answer in time"));
            }
            Answer::Status(status) => (status, json!({"sorry": true})),
            Answer::Well => (200, json!({"n": n})),
        };
        let body = Json::of(&body);
        if status == 200 {
            self.state()
                .given
                .entry(key)
                .or_default()
                .push(body.clone());
        }
        Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.as_str().to_owned().into(),
            truncated: false,
            latency,
        })
    }
}
