//! The client against real sockets: what it refuses, what it keeps, what it says.

use std::time::Duration;

use bytes::Bytes;
use eventflow_adapter_http_client::{AllowedTargets, ReqwestHttpClient};
use eventflow_ports::{HttpClient, HttpFailure, HttpFailureKind, HttpRequest, HttpResponse};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path},
};

fn request(url: impl Into<String>) -> HttpRequest {
    HttpRequest {
        method: "get".into(),
        url: url.into(),
        headers: Vec::new(),
        body: Bytes::new(),
        timeout: Duration::from_secs(5),
        body_limit: 1024,
        follow_redirects: true,
    }
}

async fn execute(
    targets: AllowedTargets,
    request: HttpRequest,
) -> Result<HttpResponse, HttpFailure> {
    ReqwestHttpClient::new(targets)
        .expect("the client is set up")
        .execute(request)
        .await
}

async fn execute_local(request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
    execute(AllowedTargets::with_loopback(), request).await
}

/// Answers every connection with these bytes, as soon as something was sent, and then holds it open.
async fn raw_server(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                if socket.read(&mut buffer).await.is_ok() {
                    let _ = socket.write_all(&answer).await;
                    tokio::time::sleep(Duration::from_mins(1)).await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn method_headers_and_body_arrive_and_the_response_comes_back() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/orders"))
        .and(header("x-key", "7"))
        .respond_with(
            ResponseTemplate::new(201)
                .insert_header("X-Reply", "yes")
                .set_body_string("made"),
        )
        .expect(1)
        .mount(&server)
        .await;
    let mut request = request(format!("{}/orders?q=1", server.uri()));
    request.method = "post".into();
    request.headers = vec![("X-Key".into(), "7".into())];
    request.body = Bytes::from_static(b"order");
    let response = execute_local(request).await.unwrap();
    assert_eq!(response.status, 201);
    assert_eq!(response.body, "made");
    assert!(!response.truncated);
    assert!(
        response
            .headers
            .contains(&("x-reply".to_owned(), "yes".to_owned()))
    );
    let received = server.received_requests().await.unwrap();
    assert_eq!(received[0].body, b"order");
}

#[tokio::test]
async fn private_addresses_are_refused_and_nothing_is_sent() {
    let server = MockServer::start().await;
    let port = server.address().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let failure = execute(
            AllowedTargets::default(),
            request(format!("http://{host}:{port}/")),
        )
        .await
        .unwrap_err();
        assert_eq!(failure.kind, HttpFailureKind::Invalid, "{host}: {failure}");
        assert!(failure.message.contains("public address"), "{failure}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_into_a_range_that_is_not_allowed_is_refused() {
    let server = MockServer::start().await;
    for (from, to) in [
        ("/address", "http://169.254.169.254/latest/meta-data"),
        ("/scheme", "ftp://127.0.0.1/file"),
        ("/file", "file:///etc/passwd"),
    ] {
        Mock::given(path(from))
            .respond_with(ResponseTemplate::new(302).insert_header("Location", to))
            .mount(&server)
            .await;
    }
    let failure = execute_local(request(format!("{}/address", server.uri())))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, HttpFailureKind::Invalid);
    assert!(failure.message.contains("169.254.169.254"), "{failure}");
    for path in ["scheme", "file"] {
        let failure = execute_local(request(format!("{}/{path}", server.uri())))
            .await
            .unwrap_err();
        assert_eq!(failure.kind, HttpFailureKind::Invalid);
        assert!(failure.message.contains("http or https"), "{failure}");
    }
}

#[tokio::test]
async fn ten_redirects_are_followed_and_the_eleventh_is_refused() {
    let server = MockServer::start().await;
    for hop in 0..11 {
        Mock::given(path(format!("/{hop}")))
            .respond_with(
                ResponseTemplate::new(307).insert_header("Location", format!("/{}", hop + 1)),
            )
            .mount(&server)
            .await;
    }
    Mock::given(path("/11"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&server)
        .await;
    let ten = execute_local(request(format!("{}/1", server.uri()))).await;
    assert_eq!(ten.unwrap().status, 200);
    let eleven = execute_local(request(format!("{}/0", server.uri()))).await;
    let failure = eleven.unwrap_err();
    assert_eq!(failure.kind, HttpFailureKind::Invalid);
    let words = format!(
        "redirected more than 10 times, the last time to {}",
        server.uri()
    );
    assert_eq!(failure.message, words);
    let mut stay = request(format!("{}/1", server.uri()));
    stay.follow_redirects = false;
    assert_eq!(execute_local(stay).await.unwrap().status, 307);
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let (first, second) = (MockServer::start().await, MockServer::start().await);
    let elsewhere = second.uri().replace("127.0.0.1", "localhost");
    Mock::given(path("/"))
        .respond_with(ResponseTemplate::new(302).insert_header("Location", elsewhere))
        .mount(&first)
        .await;
    Mock::given(path("/"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&second)
        .await;
    let mut request = request(format!("{}/?token=secret", first.uri()));
    request.headers = vec![("Authorization".into(), "Bearer secret".into())];
    assert_eq!(execute_local(request).await.unwrap().status, 200);
    let received = second.received_requests().await.unwrap();
    assert!(!received[0].headers.contains_key("authorization"));
    assert!(!received[0].headers.contains_key("referer"));
}

#[tokio::test]
async fn a_body_is_kept_up_to_its_limit_and_not_read_further() {
    // The server promises a gigabyte and sends 2,000 bytes of it: a client that reads on would time out.
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n".to_vec();
    answer.extend(std::iter::repeat_n(b'x', 2_000));
    let url = raw_server(answer).await;
    let response = execute_local(request(url)).await.unwrap();
    assert_eq!(response.body.len(), 1024);
    assert!(response.truncated);
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_whole() {
    let server = MockServer::start().await;
    Mock::given(path("/"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(vec![b'x'; 1024]))
        .mount(&server)
        .await;
    let response = execute_local(request(server.uri())).await.unwrap();
    assert_eq!(response.body.len(), 1024);
    assert!(!response.truncated);
}

#[tokio::test]
async fn a_compressed_body_stays_as_it_was_sent() {
    let server = MockServer::start().await;
    let bomb = vec![0x1f, 0x8b, 8, 0, 0];
    Mock::given(path("/"))
        .respond_with(
            ResponseTemplate::new(200)
                .insert_header("Content-Encoding", "gzip")
                .set_body_bytes(bomb.clone()),
        )
        .mount(&server)
        .await;
    let response = execute_local(request(server.uri())).await.unwrap();
    assert_eq!(response.body, bomb);
}

#[tokio::test]
async fn silence_before_and_within_the_body_is_a_timeout() {
    let silent = raw_server(Vec::new()).await;
    let stalled = raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()).await;
    for url in [silent, stalled] {
        let mut request = request(url);
        request.timeout = Duration::from_millis(200);
        let failure = execute_local(request).await.unwrap_err();
        assert_eq!(failure.kind, HttpFailureKind::Timeout, "{failure}");
        assert!(failure.latency >= Duration::from_millis(200));
    }
}

#[tokio::test]
async fn a_refused_or_broken_connection_and_an_unknown_name_are_network_failures() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let broken = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        url
    };
    for url in [closed, broken, "http://no-such-host.invalid/".to_owned()] {
        let failure = execute_local(request(url)).await.unwrap_err();
        assert_eq!(failure.kind, HttpFailureKind::Network, "{failure}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_invalid() {
    let server = MockServer::start().await;
    let mut bad = vec![
        request("not a url"),
        request("/relative"),
        request("file:///etc/passwd"),
    ];
    for (name, value) in [
        ("bad name", "x"),
        ("x-split", "a\r\nx-more: b"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "5"),
    ] {
        let mut request = request(server.uri());
        request.headers = vec![(name.into(), value.into())];
        bad.push(request);
    }
    for name in ["CONNECT", "GE T", ""] {
        let mut request = request(server.uri());
        request.method = name.into();
        bad.push(request);
    }
    for request in bad {
        let failure = execute_local(request.clone()).await.unwrap_err();
        assert_eq!(
            failure.kind,
            HttpFailureKind::Invalid,
            "{request:?}: {failure}"
        );
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn messages_hold_no_secrets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut refused = request(format!(
        "http://me:hidden@{address}/hidden?key=hidden#hidden"
    ));
    refused.headers = vec![("Authorization".into(), "hidden".into())];
    let mut malformed = refused.clone();
    malformed.headers = vec![("Authorization".into(), "hidden\n".into())];
    let mut not_allowed = refused.clone();
    not_allowed.url = "http://me:hidden@10.0.0.1/hidden?key=hidden".into();
    let mut unparsable = refused.clone();
    unparsable.url = "http://me:hidden@ex ample/hidden".into();
    for request in [refused, malformed, not_allowed, unparsable] {
        let failure = execute_local(request).await.unwrap_err();
        assert!(!failure.message.contains("hidden"), "{failure}");
        assert!(!failure.message.is_empty());
    }
}
