//! What agents say of their attempts, from bodies to the port and back: one by one or many at once, answered in order.

use std::sync::Arc;

use eventflow_domain::{DurationMs, Timestamp, error::Fault};
use eventflow_ports::inbound::{
    self, Begin, Refusal, ResultOutcome, TaskFailure, TaskResult, TaskToken, TaskVerdict,
};

use super::{
    Problem, Span, accept,
    read::invalid,
    tasks::{BeginAnswer, BeginBody, FailError, HeartbeatAnswer, ResultAnswer, ResultItem},
};

/// An agent's words about an error. They stand in an event, which has no room for a log: what is longer is cut, since
/// refusing it would lose the failure itself.
const ERROR_TEXT_BYTES_MAX: usize = 4 * 1024;
/// The longest lease without a heartbeat, milliseconds: a day, as the longest execution.
const LEASE_FOR_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Where a result stands, for its faults.
#[derive(Debug, Clone, Copy)]
pub enum Stand {
    /// Its verdict is the whole body: `POST /v1/tasks/{token}/complete`.
    Verdict,
    /// It is the whole body, with its token.
    Alone,
    /// It is this one of a body's `results`.
    Among(usize),
}

impl Stand {
    fn pointer(self, verdict: &str, rest: &str) -> String {
        match self {
            Self::Verdict => rest.to_owned(),
            Self::Alone => format!("{verdict}{rest}"),
            Self::Among(place) => format!("/results/{place}{verdict}{rest}"),
        }
    }
}

/// What an agent said, checked.
#[derive(Debug)]
pub enum Told {
    /// It is about to perform the attempt.
    Begin(Begin),
    /// How far it has come.
    Result(TaskResult),
}

/// One result, checked.
pub fn told(item: ResultItem, stand: Stand) -> Result<Told, Refusal> {
    let token = TaskToken(item.token);
    let verdict = match (item.complete, item.fail, item.heartbeat, item.begin) {
        (Some(complete), None, None, None) => {
            TaskVerdict::Complete(accept(complete.output).map_err(|error| {
                let pointer = stand.pointer("/complete", "/output");
                invalid(vec![Fault::at(pointer, error.to_string())])
            })?)
        }
        (None, Some(fail), None, None) => TaskVerdict::Fail(TaskFailure {
            error: brief(fail.error).into(),
            retryable: fail.retryable,
            retry_after: fail.retry_after.map(|span| span.0),
        }),
        (None, None, Some(_), None) => TaskVerdict::Heartbeat,
        (None, None, None, Some(begin)) => return begun(token, begin, stand).map(Told::Begin),
        _ => {
            let detail = "give exactly one of `complete`, `fail`, `heartbeat` and `begin`";
            return Err(invalid(vec![Fault::at(stand.pointer("", ""), detail)]));
        }
    };
    Ok(Told::Result(TaskResult { token, verdict }))
}

fn begun(token: TaskToken, body: BeginBody, stand: Stand) -> Result<Begin, Refusal> {
    Ok(Begin {
        token,
        agent: body.agent,
        lease_for: lease_for(body.lease_for).map_err(|detail| {
            invalid(vec![Fault::at(
                stand.pointer("/begin", "/leaseFor"),
                detail,
            )])
        })?,
    })
}

/// How long an agent would hold an attempt, or why not so long.
pub fn lease_for(span: Option<Span>) -> Result<Option<DurationMs>, &'static str> {
    match span {
        Some(Span(span)) if !(1..=LEASE_FOR_MS_MAX).contains(&span.0) => {
            Err("a lease is longer than nothing and no longer than 24 hours")
        }
        span => Ok(span.map(|span| span.0)),
    }
}

fn brief(error: FailError) -> FailError {
    let cut = |text: Option<String>| {
        text.map(|mut text| {
            text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
            text
        })
    };
    FailError {
        kind: cut(error.kind),
        title: cut(error.title),
        status: error.status,
        detail: cut(error.detail),
    }
}

/// Many results on their way to the port: those that are sound, and an answer for each in the order they came.
#[derive(Debug, Default)]
pub struct Batch {
    /// For `Tasks::begin`.
    pub begins: Vec<Begin>,
    /// For `Tasks::results`.
    pub results: Vec<TaskResult>,
    /// What is to be answered.
    pub places: Places,
}

/// The order of a batch.
#[derive(Debug, Default)]
pub struct Places(Vec<(Arc<str>, Place)>);

#[derive(Debug)]
enum Place {
    Begin,
    Result,
    Refused(Refusal),
}

impl Batch {
    /// Checks every item; one that is wrong spoils no other.
    pub fn of(items: Vec<ResultItem>) -> Self {
        let mut batch = Self {
            begins: Vec::new(),
            results: Vec::with_capacity(items.len()),
            places: Places(Vec::with_capacity(items.len())),
        };
        for (index, item) in items.into_iter().enumerate() {
            let token = Arc::clone(&item.token);
            let place = match told(item, Stand::Among(index)) {
                Ok(Told::Begin(begin)) => {
                    batch.begins.push(begin);
                    Place::Begin
                }
                Ok(Told::Result(result)) => {
                    batch.results.push(result);
                    Place::Result
                }
                Err(refusal) => Place::Refused(refusal),
            };
            batch.places.0.push((token, place));
        }
        batch
    }
}

impl Places {
    /// One answer for each item of the batch, in its order.
    pub fn answers(
        self,
        begun: Vec<Result<Timestamp, Refusal>>,
        outcomes: Vec<ResultOutcome>,
    ) -> Vec<ResultAnswer> {
        let (mut begun, mut outcomes) = (begun.into_iter(), outcomes.into_iter());
        let answer = |(token, place)| match place {
            Place::Begin => begin_item(token, begun.next().unwrap_or_else(|| Err(unanswered()))),
            Place::Result => result_item(token, outcomes.next()),
            Place::Refused(refusal) => refused(token, refusal),
        };
        self.0.into_iter().map(answer).collect()
    }
}

/// To what a port gave no answer to.
pub fn unanswered() -> Refusal {
    Refusal::unavailable("the result was not answered: send it again")
}

fn result_item(token: Arc<str>, outcome: Option<ResultOutcome>) -> ResultAnswer {
    match outcome {
        Some(ResultOutcome::Accepted) => said(token, 200),
        Some(ResultOutcome::Alive(heartbeat)) => ResultAnswer {
            heartbeat: Some(heartbeat.into()),
            ..said(token, 200)
        },
        Some(ResultOutcome::Refused(refusal)) => refused(token, refusal),
        None => refused(token, unanswered()),
    }
}

fn begin_item(token: Arc<str>, begun: Result<Timestamp, Refusal>) -> ResultAnswer {
    let status = match &begun {
        Ok(_) => 200,
        Err(Refusal::NotFound(_)) => 404,
        Err(_) => 409,
    };
    match begin(begun) {
        Ok(answer) => ResultAnswer {
            begin: Some(answer),
            ..said(token, status)
        },
        Err(refusal) => refused(token, refusal),
    }
}

/// The answer to a begin that was decided; the refusal where it was not.
pub fn begin(begun: Result<Timestamp, Refusal>) -> Result<BeginAnswer, Refusal> {
    match begun {
        Ok(until) => Ok(BeginAnswer {
            granted: true,
            lease_until: Some(until.into()),
            reason: None,
        }),
        Err(Refusal::Contradiction(reason) | Refusal::NotFound(reason)) => Ok(BeginAnswer {
            granted: false,
            lease_until: None,
            reason: Some(reason),
        }),
        Err(refusal) => Err(refusal),
    }
}

impl From<inbound::Heartbeat> for HeartbeatAnswer {
    fn from(heartbeat: inbound::Heartbeat) -> Self {
        Self {
            cancelled: heartbeat.cancelled,
            lease_until: heartbeat.lease_until.into(),
        }
    }
}

fn refused(token: Arc<str>, refusal: Refusal) -> ResultAnswer {
    let problem = Problem::from(refusal);
    ResultAnswer {
        problem: Some(problem.clone()),
        ..said(token, problem.status)
    }
}

fn said(token: Arc<str>, status: u16) -> ResultAnswer {
    ResultAnswer {
        token,
        status,
        heartbeat: None,
        begin: None,
        problem: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Vec<ResultItem> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_batch_is_answered_in_its_order() {
        let batch = Batch::of(items(
            r#"[{"token":"a","begin":{"agent":"w"}},{"token":"b","complete":{}},{"token":"c"},
                {"token":"d","begin":{"agent":"w","leaseFor":"PT0S"}},{"token":"e","heartbeat":{}},
                {"token":"f","begin":{"agent":"w"}},{"token":"g","begin":{"agent":"w"}}]"#,
        ));
        assert_eq!(batch.begins.len(), 3);
        assert_eq!(batch.results.len(), 2);
        let answers = batch.places.answers(
            vec![
                Ok(Timestamp(0)),
                Err(Refusal::Contradiction("paused".into())),
                Err(Refusal::unavailable("away")),
            ],
            vec![ResultOutcome::Accepted],
        );
        let told: Vec<_> = answers
            .iter()
            .map(|answer| (&*answer.token, answer.status, answer.problem.is_some()))
            .collect();
        let expected = [
            ("a", 200, false),
            ("b", 200, false),
            ("c", 422, true),
            ("d", 422, true),
            ("e", 503, true),
            ("f", 409, false),
            ("g", 503, true),
        ];
        assert_eq!(told, expected);
        assert!(answers[0].begin.as_ref().unwrap().granted);
        let refused = answers[5].begin.as_ref().unwrap();
        assert_eq!(
            (refused.granted, refused.reason.as_deref()),
            (false, Some("paused"))
        );
        let faults = &answers[3].problem.as_ref().unwrap().errors;
        assert_eq!(faults[0].pointer, "/results/3/begin/leaseFor");
    }

    #[test]
    fn a_fault_stands_where_its_sender_wrote_it() {
        let item = || items(r#"[{"token":"a","complete":{"output":[1e400]}}]"#).remove(0);
        for (stand, pointer) in [
            (Stand::Verdict, "/output"),
            (Stand::Alone, "/complete/output"),
            (Stand::Among(7), "/results/7/complete/output"),
        ] {
            let Err(Refusal::Invalid { faults, .. }) = told(item(), stand) else {
                panic!("1e400 is no number");
            };
            assert_eq!(faults[0].pointer, pointer);
        }
    }

    #[test]
    fn long_words_about_an_error_are_cut() {
        let text = format!(
            r#"[{{"token":"a","fail":{{"error":{{"detail":"{}"}}}}}}]"#,
            "é".repeat(5_000)
        );
        let Ok(Told::Result(result)) = told(items(&text).remove(0), Stand::Alone) else {
            panic!("a failure is never refused");
        };
        let TaskVerdict::Fail(failure) = result.verdict else {
            panic!("a failure");
        };
        assert_eq!(failure.error.detail.unwrap().len(), ERROR_TEXT_BYTES_MAX);
    }
}
