//! The clauses of `Calls`.

use std::time::Duration;

use bytes::Bytes;
use eventflow_domain::{
    Sequence,
    execution::Status,
    limits::SNIPPET_BYTES_MAX,
    service_call::{CALL_ID, CallErrorKind, CallResponse},
};
use eventflow_ports::{
    ListQuery,
    inbound::{ExecutionView, Refusal, ServiceCall, StreamFrom},
};
use tokio::{net::TcpListener, time::timeout};
use tokio_stream::StreamExt;

use super::{EngineFixture, PATIENCE, ended, everything_of, until};
use crate::{
    http_site::{Answer, Served, Site},
    samples::tenant,
};

/// A time-out that is used up.
const SOON: Duration = Duration::from_millis(200);

/// One test per clause of `Calls`, for the fixture that the closure makes.
#[macro_export]
macro_rules! calls_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            inbound::calls,
            [
                clause_01_an_acknowledged_call_survives_a_crash,
                clause_02_the_same_call_again_performs_nothing,
                clause_03_what_cannot_be_sent_is_accepted_and_fails_as_invalid,
                clause_04_an_interrupted_call_fails_and_is_not_sent_again,
                clause_05_a_good_response_completes_it,
                clause_06_everything_else_fails_it_in_its_way,
                clause_07_an_id_that_is_none_is_malformed,
                clause_08_public_events_name_the_call_and_nothing_of_the_request,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_an_acknowledged_call_survives_a_crash(fixture: &impl EngineFixture) {
    let site = serve(fixture, [("/silent", Answer::Silence)]).await;
    for number in 0..20 {
        let call = call(&format!("call {number}"), &site, "/silent");
        // An outcome never comes: whoever waited for it would not answer.
        let answer = timeout(PATIENCE, accepted(fixture, call)).await;
        answer.expect("answered before the outcome");
    }
    fixture.restart().await;
    for number in 0..20 {
        let view = found(fixture, &format!("call {number}")).await;
        assert_eq!(view.workflow.to_string(), "eventflow/service-call:1.0.0");
    }
}

/// Clause 2.
pub async fn clause_02_the_same_call_again_performs_nothing(fixture: &impl EngineFixture) {
    let site = serve(fixture, [("/ok", Answer::respond(200, "done"))]).await;
    let first = call("c1", &site, "/ok");
    accepted(fixture, first.clone()).await;
    let outcome = outcome(fixture, "c1").await;
    for _ in 0..2 {
        accepted(fixture, first.clone()).await;
        let with_other_words = ServiceCall {
            correlation: Some("another".into()),
            ..first.clone()
        };
        accepted(fixture, with_other_words).await;
        let others = [
            ServiceCall {
                body: Some("another".into()),
                ..first.clone()
            },
            ServiceCall {
                method: "PUT".into(),
                ..first.clone()
            },
        ];
        for other in others {
            let refused = fixture.calls().call(&tenant("acme"), other).await;
            assert!(
                matches!(refused, Err(Refusal::Contradiction(_))),
                "{refused:?}"
            );
        }
        assert_eq!(found(fixture, "c1").await.output, outcome.output);
        fixture.restart().await;
    }
    assert_eq!(site.asked().len(), 1);
    // Another tenant's is another call.
    let theirs = fixture.calls().call(&tenant("rival"), first).await;
    theirs.expect("accepted");
    asked(fixture, &site, 2).await;
}

/// Clause 3.
pub async fn clause_03_what_cannot_be_sent_is_accepted_and_fails_as_invalid(
    fixture: &impl EngineFixture,
) {
    let site = serve(fixture, [("/ok", Answer::respond(200, ""))]).await;
    let good = call("good", &site, "/ok");
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let wrong = [
        ServiceCall {
            method: "NO METHOD".into(),
            ..good.clone()
        },
        ServiceCall {
            url: "nonsense".into(),
            ..good.clone()
        },
        ServiceCall {
            url: "ftp://example.com/".into(),
            ..good.clone()
        },
        ServiceCall {
            headers: header("a", "b\r\nc: d"),
            ..good.clone()
        },
        ServiceCall {
            headers: header("no name", "b"),
            ..good.clone()
        },
    ];
    for (number, wrong) in wrong.into_iter().enumerate() {
        let id = format!("wrong {number}");
        let wrong = ServiceCall {
            id: id.as_str().into(),
            ..wrong
        };
        accepted(fixture, wrong).await;
        let view = outcome(fixture, &id).await;
        assert_eq!(failed(&view).0, CallErrorKind::Invalid, "{view:?}");
    }
    assert_eq!(site.asked(), []);
}

/// Clause 4.
pub async fn clause_04_an_interrupted_call_fails_and_is_not_sent_again(
    fixture: &impl EngineFixture,
) {
    let site = serve(fixture, [("/silent", Answer::Silence)]).await;
    accepted(fixture, call("c1", &site, "/silent")).await;
    asked(fixture, &site, 1).await;
    for _ in 0..3 {
        fixture.restart().await;
        accepted(fixture, call("c1", &site, "/silent")).await;
        let view = outcome(fixture, "c1").await;
        let error = view.error.clone().expect("an error");
        assert_eq!(error.detail.as_deref(), Some("interrupted"));
        assert_eq!(failed(&view), (CallErrorKind::Network, None));
    }
    assert_eq!(site.asked().len(), 1);
}

/// Clause 5.
pub async fn clause_05_a_good_response_completes_it(fixture: &impl EngineFixture) {
    let full = Answer::Respond {
        status: 201,
        headers: vec![
            ("X-Kind".into(), "Upper Value".into()),
            ("Set-Cookie".into(), "session=hidden".into()),
        ],
        body: Bytes::from("ö".repeat(100_000)),
    };
    let site = serve(
        fixture,
        [("/full?a=b", full), ("/empty", Answer::respond(204, ""))],
    )
    .await;
    let sent = ServiceCall {
        body: Some("{\"a\": 1}".into()),
        ..call("c1", &site, "/full?a=b")
    };
    accepted(fixture, sent).await;
    let view = outcome(fixture, "c1").await;
    assert_eq!(view.status, Status::Completed);
    let response = response(&view);
    assert_eq!(response.status, 201);
    assert_eq!(response.headers["x-kind"], "Upper Value");
    assert!(!response.headers.contains_key("set-cookie"));
    assert_eq!(response.body_snippet, "ö".repeat(SNIPPET_BYTES_MAX / 2));
    assert!(response.latency_ms < u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX));
    let [asked] = &site.asked()[..] else {
        panic!("one request: {:?}", site.asked())
    };
    assert_eq!((&*asked.method, &*asked.path), ("POST", "/full?a=b"));
    assert_eq!(&asked.body[..], b"{\"a\": 1}");
    let key = ("authorization".to_owned(), "Bearer hidden".to_owned());
    assert!(asked.headers.contains(&key), "{asked:?}");

    let empty = ServiceCall {
        body: None,
        ..call("c2", &site, "/empty")
    };
    accepted(fixture, empty).await;
    let view = outcome(fixture, "c2").await;
    assert_eq!(self::response(&view).body_snippet, "");
    assert!(site.asked()[1].body.is_empty());
}

/// Clause 6.
pub async fn clause_06_everything_else_fails_it_in_its_way(fixture: &impl EngineFixture) {
    let site = serve(
        fixture,
        [
            ("/missing", Answer::respond(404, "no such page")),
            ("/broken", Answer::respond(503, "x".repeat(10_000))),
            ("/moved", Answer::redirect("/missing")),
            ("/silent", Answer::Silence),
            ("/gone", Answer::HangUp),
        ],
    )
    .await;
    let refusing = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let long = "x".repeat(SNIPPET_BYTES_MAX);
    for (path, kind, status, snippet) in [
        ("/missing", CallErrorKind::Http, 404, Some("no such page")),
        ("/broken", CallErrorKind::Http, 503, Some(&*long)),
        ("/moved", CallErrorKind::Http, 307, Some("")),
        ("/silent", CallErrorKind::Timeout, 408, None),
        ("/gone", CallErrorKind::Network, 500, None),
        ("refusing", CallErrorKind::Network, 500, None),
    ] {
        let mut sent = call(path, &site, path);
        if path == "refusing" {
            sent.url.clone_from(&refusing);
        }
        if path == "/silent" {
            sent.timeout = Some(SOON);
        }
        accepted(fixture, sent).await;
        let view = outcome(fixture, path).await;
        let error = view.error.clone().expect("an error");
        assert_eq!(error.status, status, "{path}: {error:?}");
        let (told, said) = failed(&view);
        assert_eq!((told, said.as_deref()), (kind, snippet), "{path}");
        if path == "/silent" {
            let latency = error
                .call
                .map(|call| Duration::from_millis(call.latency_ms));
            assert!(latency >= Some(SOON), "{latency:?}");
        }
    }
}

/// Clause 7.
pub async fn clause_07_an_id_that_is_none_is_malformed(fixture: &impl EngineFixture) {
    let site = serve(fixture, [("/ok", Answer::respond(200, ""))]).await;
    for id in [String::new(), "i".repeat(257)] {
        let refused = fixture
            .calls()
            .call(&tenant("acme"), call(&id, &site, "/ok"))
            .await;
        assert!(
            matches!(refused, Err(Refusal::Malformed { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(site.asked(), []);
    let longest = "ö/ ".repeat(64);
    accepted(fixture, call(&longest, &site, "/ok")).await;
    assert_eq!(outcome(fixture, &longest).await.status, Status::Completed);
}

/// Clause 8.
pub async fn clause_08_public_events_name_the_call_and_nothing_of_the_request(
    fixture: &impl EngineFixture,
) {
    let paths = ["/ok?key=hidden", "/missing?key=hidden"];
    let site = serve(
        fixture,
        [
            (paths[0], Answer::respond(200, "good")),
            (paths[1], Answer::respond(404, "bad")),
        ],
    )
    .await;
    for path in paths {
        let sent = ServiceCall {
            body: Some("hidden".into()),
            correlation: Some("cause-1".into()),
            causation: Some("m1".into()),
            ..call(path, &site, path)
        };
        accepted(fixture, sent).await;
        let view = outcome(fixture, path).await;
        let from = StreamFrom::Execution(view.execution.clone(), Sequence(0));
        let stream = fixture.executions().events(&tenant("acme"), from).await;
        let told: Vec<_> = timeout(PATIENCE, stream.expect("a stream").collect())
            .await
            .expect("it ends");
        assert!(told.len() >= 4, "{told:?}");
        for event in told {
            let event = event.expect("an event");
            let data = event.data.to_value();
            assert_eq!(data[CALL_ID], path, "{event:?}");
            assert_eq!(event.correlation.as_deref(), Some("cause-1"));
            assert_eq!(event.causation.as_deref(), Some("m1"));
            // The id is the caller's own words, and may say anything.
            let rest = event.data.as_str().replace(path, "").replace("labels", "");
            assert!(!rest.contains("hidden"), "{event:?}");
        }
    }
}

/// A call with a secret in its headers.
fn call(id: &str, site: &Served, path: &str) -> ServiceCall {
    ServiceCall {
        id: id.into(),
        method: "POST".into(),
        url: format!("{}{path}", site.url),
        headers: vec![("Authorization".into(), "Bearer hidden".into())],
        body: Some("body".into()),
        timeout: None,
        correlation: None,
        causation: None,
        traceparent: None,
    }
}

async fn serve<const N: usize>(
    fixture: &impl EngineFixture,
    answers: [(&str, Answer); N],
) -> Served {
    let owned = |(path, answer): (&str, Answer)| (path.to_owned(), answer);
    fixture
        .serve(answers.into_iter().map(owned).collect::<Site>())
        .await
}

async fn accepted(fixture: &impl EngineFixture, call: ServiceCall) {
    let accepted = fixture.calls().call(&tenant("acme"), call).await;
    accepted.expect("accepted");
}

/// Waits until so many requests have come.
async fn asked(fixture: &impl EngineFixture, site: &Served, count: usize) {
    let look = async || (site.asked().len() == count).then_some(());
    until(fixture, "requests", look).await;
}

/// The execution behind a call of `acme`.
async fn found(fixture: &impl EngineFixture, id: &str) -> ExecutionView {
    let query = ListQuery {
        labels: vec![(CALL_ID.to_owned(), id.to_owned())],
        ..everything_of("acme")
    };
    let page = fixture.executions().list(query).await.expect("a list");
    let [view] = &page.executions[..] else {
        panic!("one execution per call: {page:?}")
    };
    super::view(fixture, &view.execution).await
}

/// The same, once it has ended.
async fn outcome(fixture: &impl EngineFixture, id: &str) -> ExecutionView {
    let execution = found(fixture, id).await.execution;
    ended(fixture, &execution).await
}

fn response(view: &ExecutionView) -> CallResponse {
    let output = view.output.as_ref().expect("an output");
    output.read().expect("a response")
}

/// The sort of a failure, and what is told of the response.
fn failed(view: &ExecutionView) -> (CallErrorKind, Option<String>) {
    assert_eq!(view.status, Status::Faulted, "{view:?}");
    let call = view.error.clone().and_then(|error| error.call);
    let call = call.expect("a service call's error");
    (call.kind, call.response_snippet)
}
