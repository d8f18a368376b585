//! Bodies in and out: bounded bytes, JSON that says where it is wrong, and answers written once into one buffer.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use eventflow_ports::inbound::Refusal;
use eventflow_wire::v1::{REQUEST_BYTES_MAX, read};
use futures::StreamExt as _;
use serde::{Serialize, de::DeserializeOwned};

use crate::{state::Shared, trouble::Trouble};

/// How long a body may take to arrive: a connection is not held open by dripping bytes.
const BODY_ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read and thrown away, so that its sender gets to read the refusal instead of
/// a broken connection.
const DISCARD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long that may take.
const DISCARD_WITHIN: Duration = Duration::from_secs(2);
/// A usual answer fits without growing the buffer.
const ANSWER_BYTES_USUAL: usize = 512;

/// The whole body and its media type, at most [`REQUEST_BYTES_MAX`].
pub(crate) struct Raw {
    pub(crate) media: Option<String>,
    pub(crate) bytes: Bytes,
}

impl FromRequest<Shared> for Raw {
    type Rejection = Trouble;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Trouble> {
        let (parts, body) = request.into_parts();
        let media = media_type(&parts.headers);
        let bytes = match tokio::time::timeout(BODY_ARRIVES_WITHIN, collect(body, shared)).await {
            Ok(bytes) => bytes?,
            Err(_) => {
                return Err(Trouble::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body did not arrive in time",
                ));
            }
        };
        Ok(Self { media, bytes })
    }
}

/// The media type without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media = value.split(';').next().unwrap_or_default();
    Some(media.trim().to_ascii_lowercase())
}

/// Most bodies arrive as one frame and are not copied.
async fn collect(body: Body, shared: &Shared) -> Result<Bytes, Trouble> {
    let mut frames = body.into_data_stream();
    let mut whole = Bytes::new();
    let mut growing = BytesMut::new();
    let mut rooms = Vec::new();
    while let Some(frame) = frames.next().await {
        let frame =
            frame.map_err(|error| Trouble::malformed(format!("the body broke off: {error}")))?;
        if whole.len() + growing.len() + frame.len() > REQUEST_BYTES_MAX {
            discard(frames, frame.len()).await;
            return Err(Trouble::from(Refusal::TooLarge {
                what: "a request's body",
                limit: REQUEST_BYTES_MAX,
            }));
        }
        if whole.is_empty() && growing.is_empty() {
            whole = frame;
        } else {
            rooms.push(shared.room_to_arrive(frame.len())?);
            if growing.is_empty() {
                growing.extend_from_slice(&std::mem::take(&mut whole));
            }
            growing.extend_from_slice(&frame);
        }
    }
    Ok(if growing.is_empty() {
        whole
    } else {
        growing.freeze()
    })
}

async fn discard(mut frames: axum::body::BodyDataStream, mut discarded: usize) {
    let discarding = async {
        while let Some(Ok(frame)) = frames.next().await {
            discarded += frame.len();
            if discarded > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    // Whether the sender stopped in time or not, the answer is the same.
    let _ = tokio::time::timeout(DISCARD_WITHIN, discarding).await;
}

/// A JSON body.
///
/// A media type that says JSON is demanded, not only for good order: a page in somebody's browser can post anything else
/// to a service on his machine without being asked.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Trouble;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Trouble> {
        let raw = Raw::from_request(request, shared).await?;
        Ok(Self(raw.json()?))
    }
}

impl Raw {
    /// What it says, where it says that it is JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        if !self.media.as_deref().is_some_and(is_json) {
            return Err(unsupported("application/json"));
        }
        Ok(read(&self.bytes)?)
    }
}

/// A JSON body that may be left out altogether.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<Shared> for OptionalJson<T> {
    type Rejection = Trouble;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Trouble> {
        let raw = Raw::from_request(request, shared).await?;
        if raw.bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !raw.media.as_deref().is_some_and(is_json) {
            return Err(unsupported("application/json"));
        }
        Ok(Self(read(&raw.bytes)?))
    }
}

pub(crate) fn is_json(media: &str) -> bool {
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

/// 415, with what would be read.
pub(crate) fn unsupported(supported: &str) -> Trouble {
    Trouble::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("send the body with the header `Content-Type: {supported}`"),
    )
}

/// An answer in JSON.
pub(crate) fn answer<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let mut bytes = Vec::with_capacity(ANSWER_BYTES_USUAL);
    match serde_json::to_writer(&mut bytes, body) {
        Ok(()) => (status, [(header::CONTENT_TYPE, JSON)], bytes).into_response(),
        Err(error) => Trouble::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the answer could not be written: {error}"),
        )
        .into_response(),
    }
}

/// The media type of most answers.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The variable parts of a path.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Trouble;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Trouble> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(rejection) => Err(Trouble::malformed(rejection.body_text())),
        }
    }
}
