//! A small real HTTP server for the `HttpClient` suite: canned answers, and a record of what was asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The largest request that a suite sends.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Responds.
    Respond {
        /// The status code.
        status: u16,
        /// Header names and values.
        headers: Vec<(String, String)>,
        /// The whole body.
        body: Bytes,
    },
    /// Takes the request and never says a word.
    Silence,
    /// Sends the head of a response and a part of its body, then nothing more.
    Stall,
    /// Closes the connection without an answer.
    HangUp,
    /// A response whose body never ends.
    Endless,
}

impl Answer {
    /// A response with a status and a body.
    pub fn respond(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Respond {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// A redirect.
    pub fn redirect(location: &str) -> Self {
        Self::Respond {
            status: 307,
            headers: vec![("Location".into(), location.into())],
            body: Bytes::new(),
        }
    }
}

/// Answers by path, as `/a?b=c`.
pub type Site = BTreeMap<String, Answer>;

/// A request as the server read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// In upper case.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

/// A site that is being served.
pub struct Served {
    /// What to put before a path, without a slash at the end.
    pub url: String,
    asked: Box<dyn Fn() -> Vec<Asked> + Send + Sync>,
}

impl Served {
    /// A site at `url`, and a look at what was asked.
    pub fn new(
        url: impl Into<String>,
        asked: impl Fn() -> Vec<Asked> + Send + Sync + 'static,
    ) -> Self {
        Self {
            url: url.into(),
            asked: Box::new(asked),
        }
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        (self.asked)()
    }
}

/// Serves a site on a free local port until the test ends.
pub async fn serve(site: Site) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let asked = log.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, site.clone(), asked.clone()));
        }
    });
    Served::new(format!("http://{address}"), move || {
        log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    })
}

/// One request per connection. An error is a client that went away, which is the client's right.
async fn answer(
    mut stream: TcpStream,
    site: Site,
    log: Arc<Mutex<Vec<Asked>>>,
) -> std::io::Result<()> {
    let Some(asked) = read(&mut stream).await? else {
        return Ok(());
    };
    let answer = site
        .get(&asked.path)
        .cloned()
        .unwrap_or_else(|| Answer::respond(404, "no such path"));
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked);
    match answer {
        Answer::Respond {
            status,
            headers,
            body,
        } => {
            let mut head = format!(
                "HTTP/1.1 {status} Canned\r\nContent-Length: {}\r\nConnection: close\r\n",
                body.len()
            );
            for (name, value) in headers {
                head.extend([&name, ": ", &value, "\r\n"]);
            }
            head += "\r\n";
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.shutdown().await
        }
        Answer::Silence => std::future::pending().await,
        Answer::Stall => {
            stream
                .write_all(b"HTTP/1.1 200 Canned\r\nContent-Length: 100\r\n\r\npart")
                .await?;
            std::future::pending().await
        }
        Answer::HangUp => Ok(()),
        Answer::Endless => {
            stream
                .write_all(b"HTTP/1.1 200 Canned\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            loop {
                stream.write_all(b"10\r\n0123456789abcdef\r\n").await?;
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(asked) = parse(&bytes) {
            return Ok(Some(asked));
        }
        if bytes.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// The request, once all of it is there.
fn parse(bytes: &[u8]) -> Option<Asked> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(Some(0), |(_, value)| value.parse().ok())?;
    let body = bytes.get(end + 4..end + 4 + length)?;
    Some(Asked {
        method,
        path,
        headers,
        body: Bytes::copy_from_slice(body),
    })
}
