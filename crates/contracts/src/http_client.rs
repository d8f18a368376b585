//! The clauses of `HttpClient`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_ports::{HttpClient, HttpFailureKind, HttpRequest, HttpResponse};
use tokio::{net::TcpListener, time::Instant};

use crate::http_site::{self, Answer, Served, Site};

/// A time-out that is never used up where the client does what it must.
const LONG: Duration = Duration::from_secs(20);
/// A time-out that is used up.
const SHORT: Duration = Duration::from_millis(150);

/// One HTTP client that may reach this machine.
#[async_trait]
pub trait HttpClientFixture: Send + Sync {
    /// The client.
    async fn open(&self) -> Arc<dyn HttpClient>;
    /// Serves a site that the client can reach: on a real socket, where the fixture says nothing else.
    async fn serve(&self, site: Site) -> Served {
        http_site::serve(site).await
    }
    /// Where nobody listens.
    async fn refusing_url(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        format!("http://{}", listener.local_addr().expect("an address"))
    }
    /// Where the client is not allowed to go.
    fn forbidden_url(&self) -> String {
        "http://169.254.169.254/latest".into()
    }
}

/// One test per clause of `HttpClient`, for the fixture that the closure makes.
#[macro_export]
macro_rules! http_client_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            http_client,
            [
                clause_01_any_status_is_a_response,
                clause_02_no_answer_in_time_is_a_timeout,
                clause_03_no_connection_is_a_network_failure,
                clause_04_what_cannot_or_may_not_be_sent_is_invalid_and_not_sent,
                clause_05_of_a_large_body_the_first_bytes_are_kept,
                clause_06_redirects_are_followed_where_wanted_and_allowed,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_any_status_is_a_response(fixture: &impl HttpClientFixture) {
    let statuses = [200, 201, 204, 304, 400, 404, 418, 429, 500, 503, 599];
    let mut site: Site = statuses
        .iter()
        .map(|status| (format!("/{status}"), Answer::respond(*status, "")))
        .collect();
    site.insert(
        "/full?a=b%20c".into(),
        Answer::Respond {
            status: 422,
            headers: vec![("X-Kind".into(), "Upper Value".into())],
            body: Bytes::from_static(b"{\"a\":\"\xc3\xb6\"}\0"),
        },
    );
    let served = fixture.serve(site).await;
    let client = fixture.open().await;
    for status in statuses {
        let url = format!("{}/{status}", served.url);
        let response = client.execute(get(url)).await.expect("a response");
        assert_eq!(response.status, status);
        assert!(!response.truncated);
    }

    let request = HttpRequest {
        method: "post".into(),
        headers: vec![("X-Request".into(), "one".into())],
        body: Bytes::from_static(b"sent"),
        ..get(format!("{}/full?a=b%20c", served.url))
    };
    let response = client.execute(request).await.expect("a response");
    assert_eq!(response.status, 422);
    assert_eq!(response.body, Bytes::from_static(b"{\"a\":\"\xc3\xb6\"}\0"));
    let header = ("x-kind".to_owned(), "Upper Value".to_owned());
    assert!(response.headers.contains(&header), "{:?}", response.headers);

    let asked = served.asked();
    assert_eq!(
        asked.len(),
        statuses.len() + 1,
        "one request each, never a second one"
    );
    let last = asked.last().expect("asked");
    assert_eq!(last.method, "POST");
    assert_eq!(last.path, "/full?a=b%20c");
    assert_eq!(last.body, Bytes::from_static(b"sent"));
    let header = ("x-request".to_owned(), "one".to_owned());
    assert!(last.headers.contains(&header), "{:?}", last.headers);
}

/// Clause 2.
pub async fn clause_02_no_answer_in_time_is_a_timeout(fixture: &impl HttpClientFixture) {
    let site = Site::from([
        ("/silence".into(), Answer::Silence),
        ("/stall".into(), Answer::Stall),
    ]);
    let served = fixture.serve(site).await;
    let client = fixture.open().await;
    for path in ["/silence", "/stall"] {
        let request = HttpRequest {
            timeout: SHORT,
            ..get(format!("{}{path}", served.url))
        };
        let started = Instant::now();
        fails(&*client, request, HttpFailureKind::Timeout).await;
        let took = started.elapsed();
        assert!(took >= SHORT && took < LONG / 2, "{path} took {took:?}");
    }
    assert_eq!(
        served.asked().len(),
        2,
        "one request each, never a second one"
    );
}

/// Clause 3.
pub async fn clause_03_no_connection_is_a_network_failure(fixture: &impl HttpClientFixture) {
    let served = fixture
        .serve(Site::from([("/".into(), Answer::HangUp)]))
        .await;
    let client = fixture.open().await;
    let refusing = fixture.refusing_url().await;
    for url in [
        format!("{refusing}/"),
        "http://no-such-host.invalid/".to_owned(),
        format!("{}/", served.url),
    ] {
        fails(&*client, get(url), HttpFailureKind::Network).await;
    }
    assert_eq!(
        served.asked().len(),
        1,
        "a broken connection is not tried again"
    );
}

/// Clause 4.
pub async fn clause_04_what_cannot_or_may_not_be_sent_is_invalid_and_not_sent(
    fixture: &impl HttpClientFixture,
) {
    let served = fixture
        .serve(Site::from([("/".into(), Answer::respond(200, ""))]))
        .await;
    let client = fixture.open().await;
    for url in [
        "",
        "nonsense",
        "/relative",
        "http://",
        "ftp://127.0.0.1/",
        "file:///etc/hostname",
    ] {
        fails(&*client, get(url.into()), HttpFailureKind::Invalid).await;
    }
    fails(
        &*client,
        get(fixture.forbidden_url()),
        HttpFailureKind::Invalid,
    )
    .await;

    let good = get(format!("{}/", served.url));
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for bad in [
        HttpRequest {
            method: String::new(),
            ..good.clone()
        },
        HttpRequest {
            method: "GE T".into(),
            ..good.clone()
        },
        HttpRequest {
            headers: header("", "x"),
            ..good.clone()
        },
        HttpRequest {
            headers: header("a b", "x"),
            ..good.clone()
        },
        HttpRequest {
            headers: header("a", "x\r\nb: y"),
            ..good.clone()
        },
    ] {
        fails(&*client, bad, HttpFailureKind::Invalid).await;
    }
    assert_eq!(served.asked(), [], "nothing was sent");
    client.execute(good).await.expect("the good one is sent");
}

/// Clause 5.
pub async fn clause_05_of_a_large_body_the_first_bytes_are_kept(fixture: &impl HttpClientFixture) {
    const LIMIT: usize = 1000;
    let body = |size: usize| -> Bytes {
        (0..size)
            .map(|index| u8::try_from(index % 251).expect("below 251"))
            .collect()
    };
    let site = Site::from([
        ("/at".into(), Answer::respond(200, body(LIMIT))),
        ("/above".into(), Answer::respond(200, body(LIMIT + 1))),
        (
            "/far-above".into(),
            Answer::respond(500, body(LIMIT * 1000)),
        ),
        ("/endless".into(), Answer::Endless),
    ]);
    let served = fixture.serve(site).await;
    let client = fixture.open().await;
    let ask = async |path: &str| {
        let request = HttpRequest {
            body_limit: LIMIT,
            ..get(format!("{}{path}", served.url))
        };
        client.execute(request).await.expect("a response")
    };
    let at: HttpResponse = ask("/at").await;
    assert!(at.body == body(LIMIT) && !at.truncated);
    for (path, status) in [("/above", 200), ("/far-above", 500)] {
        let above = ask(path).await;
        assert!(
            above.body == body(LIMIT),
            "{path} keeps {} bytes",
            above.body.len()
        );
        assert!(above.truncated, "{path}");
        assert_eq!(above.status, status);
    }
    // The rest is not read: this one would never end.
    let endless = ask("/endless").await;
    assert_eq!(endless.body.len(), LIMIT);
    assert!(endless.body.starts_with(b"0123456789abcdef0123"));
    assert!(endless.truncated);
}

/// Clause 6.
pub async fn clause_06_redirects_are_followed_where_wanted_and_allowed(
    fixture: &impl HttpClientFixture,
) {
    const REDIRECTS: usize = 10;
    let mut site: Site = (0..REDIRECTS)
        .map(|hop| {
            (
                format!("/{hop}"),
                Answer::redirect(&format!("/{}", hop + 1)),
            )
        })
        .collect();
    site.insert(format!("/{REDIRECTS}"), Answer::respond(200, "arrived"));
    site.insert("/loop".into(), Answer::redirect("/loop"));
    site.insert("/away".into(), Answer::redirect(&fixture.forbidden_url()));
    site.insert("/ftp".into(), Answer::redirect("ftp://127.0.0.1/"));
    let served = fixture.serve(site).await;
    let client = fixture.open().await;
    let following = |path: &str| HttpRequest {
        follow_redirects: true,
        ..get(format!("{}{path}", served.url))
    };

    let response = client.execute(following("/0")).await.expect("a response");
    assert_eq!(response.status, 200);
    assert_eq!(response.body, Bytes::from_static(b"arrived"));
    for path in ["/away", "/ftp"] {
        fails(&*client, following(path), HttpFailureKind::Invalid).await;
    }

    let before = served.asked().len();
    let endless = client.execute(following("/loop")).await;
    assert!(
        !matches!(&endless, Ok(response) if response.status == 200),
        "{endless:?}"
    );
    let hops = served.asked().len() - before;
    assert!(
        (1..=REDIRECTS + 1).contains(&hops),
        "{hops} requests in a loop"
    );

    let before = served.asked().len();
    let response = client
        .execute(get(format!("{}/0", served.url)))
        .await
        .expect("a response");
    assert_eq!(response.status, 307);
    let header = ("location".to_owned(), "/1".to_owned());
    assert!(response.headers.contains(&header), "{:?}", response.headers);
    assert_eq!(served.asked().len(), before + 1, "not followed");
}

async fn fails(client: &dyn HttpClient, request: HttpRequest, kind: HttpFailureKind) {
    let asked = format!("{} {:?}", request.method, request.url);
    match client.execute(request).await {
        Ok(response) => panic!("{asked} must fail, not answer {}", response.status),
        Err(failure) => assert_eq!(failure.kind, kind, "{asked}: {failure}"),
    }
}

fn get(url: String) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        url,
        headers: Vec::new(),
        body: Bytes::new(),
        timeout: LONG,
        body_limit: 64 * 1024,
        follow_redirects: false,
    }
}
