//! Streams, also those of buckets: created where they are not there, verified where they are.

use std::{
    error::Error,
    fmt::{self, Debug},
    time::Duration,
};

use async_nats::{
    HeaderMap,
    header::NATS_EXPECTED_LAST_SEQUENCE,
    jetstream::{
        self, Context, ErrorCode,
        context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
        stream::{Config, Stream},
    },
};
use bytes::Bytes;
use eventflow_ports::Source;
use tokio::time::{Instant, sleep, timeout};

/// The longest prefix of subjects and streams, in bytes: the journal's `HEADER_BYTES_MAX` counts on it.
const PREFIX_BYTES_MAX: usize = 64;

/// Between two questions to a server that has not answered the first one.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What is published to a stream that its servers know is answered far sooner, also where it is synced first.
const REACHED_WITHIN: Duration = Duration::from_secs(1);

/// Why a journal, queue or bucket could not be opened; nothing that was there has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The prefix cannot begin a subject and a stream's name.
    #[error(
        "the prefix `{given}` cannot begin a subject: use 1 to {PREFIX_BYTES_MAX} of A-Z a-z 0-9 _ -"
    )]
    Prefix {
        /// As it was given.
        given: String,
    },
    /// The server did not answer: try again later.
    #[error("NATS JetStream did not answer when asked for stream {stream}: {cause}")]
    Unavailable {
        /// Which stream.
        stream: String,
        /// What happened.
        cause: Source,
    },
    /// The server refuses to create the stream.
    #[error("NATS JetStream refuses to create stream {stream}: {cause}")]
    Refused {
        /// Which stream.
        stream: String,
        /// The server's reason.
        cause: Source,
    },
    /// The stream is there and is not what is needed.
    #[error(
        "stream {stream} is not what EventFlow needs ({}): change it, or use another prefix",
        listed(.differences)
    )]
    Different {
        /// Which stream.
        stream: String,
        /// All that differ.
        differences: Vec<Difference>,
    },
}

/// A setting of a stream that is not as needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting's name.
    pub setting: &'static str,
    /// What is needed.
    pub needed: String,
    /// What the stream has.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} must be {}, is {}",
            self.setting, self.needed, self.found
        )
    }
}

fn listed(differences: &[Difference]) -> String {
    let listed: Vec<_> = differences.iter().map(ToString::to_string).collect();
    listed.join("; ")
}

pub(crate) fn check_prefix(prefix: &str) -> Result<(), OpenError> {
    let fits = (1..=PREFIX_BYTES_MAX).contains(&prefix.len())
        && prefix
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if fits {
        Ok(())
    } else {
        Err(OpenError::Prefix {
            given: prefix.to_owned(),
        })
    }
}

/// A handle for the stream, which is there, as needed and can be written to when this returns; a server that does not
/// answer is asked until `deadline`.
pub(crate) async fn open(
    context: &Context,
    needed: &Config,
    deadline: Instant,
) -> Result<Stream<()>, OpenError> {
    loop {
        // Boxed, since a configuration is large and held by whatever opens a stream.
        let verified = match Box::pin(create_or_verify(context, needed)).await {
            Ok(()) => is_reached(context, needed).await,
            Err(error) => Err(error),
        };
        match verified {
            Err(error) if may_pass(&error) && Instant::now() < deadline => {
                sleep(ASK_AGAIN).await;
            }
            verified => {
                verified?;
                return context
                    .get_stream_no_info(&needed.name)
                    .await
                    .map_err(|error| unavailable(needed, error));
            }
        }
    }
}

/// Whether it may be otherwise in a moment: servers that are starting have not found all of each other.
fn may_pass(error: &OpenError) -> bool {
    match error {
        OpenError::Unavailable { .. } => true,
        OpenError::Refused { cause, .. } => cause
            .downcast_ref::<CreateStreamError>()
            .is_some_and(|error| code_of(error) == Some(ErrorCode::CLUSTER_NO_PEERS)),
        _ => false,
    }
}

/// Whether what is published reaches the stream: one that was just made is not known to all servers at once, and what is
/// published to it meanwhile is lost. What is published here is refused, for no stream has ever come so far.
async fn is_reached(context: &Context, needed: &Config) -> Result<(), OpenError> {
    let subject = needed.subjects.first().cloned().unwrap_or_default();
    let subject = subject.replace(['*', '>'], "reached");
    let mut headers = HeaderMap::new();
    headers.insert(NATS_EXPECTED_LAST_SEQUENCE, i64::MAX.to_string());
    let publish = async {
        let publish = context.publish_with_headers(subject, headers, Bytes::new());
        publish.await?.await
    };
    match timeout(REACHED_WITHIN, publish).await {
        Ok(Err(error)) if is_stale(&error) => Ok(()),
        Ok(Err(error)) => Err(unavailable(needed, error)),
        Ok(Ok(_)) => Err(unavailable(needed, "it took what it had to refuse")),
        Err(_) => Err(unavailable(needed, "what is published does not reach it")),
    }
}

/// Whether a write was refused because it expected something else than the stream's last message. Three servers say so
/// also of a write that comes while another one is on its way to them: that one may not be seen yet, or fail.
pub(crate) fn is_stale(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    let refused = causes.find_map(|error| error.downcast_ref::<jetstream::Error>());
    refused.is_some_and(|refused| {
        [
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE,
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
        ]
        .contains(&refused.error_code())
    })
}

async fn create_or_verify(context: &Context, needed: &Config) -> Result<(), OpenError> {
    let found = match context.get_stream(&needed.name).await {
        Ok(stream) => stream.cached_info().config.clone(),
        Err(error) if is_not_found(&error) => create(context, needed).await?,
        Err(error) => return Err(unavailable(needed, error)),
    };
    let differences = differences(needed, &found);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(OpenError::Different {
            stream: needed.name.clone(),
            differences,
        })
    }
}

async fn create(context: &Context, needed: &Config) -> Result<Config, OpenError> {
    match context.create_stream(needed).await {
        Ok(stream) => Ok(stream.cached_info().config.clone()),
        // Another node was faster, with something else: the caller compares.
        Err(error) if is_name_taken(&error) => context
            .get_stream(&needed.name)
            .await
            .map(|stream| stream.cached_info().config.clone())
            .map_err(|error| unavailable(needed, error)),
        Err(error) if matches!(error.kind(), CreateStreamErrorKind::JetStream(_)) => {
            Err(OpenError::Refused {
                stream: needed.name.clone(),
                cause: error.into(),
            })
        }
        Err(error) => Err(unavailable(needed, error)),
    }
}

pub(crate) fn is_not_found(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(cause)
        if cause.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn is_name_taken(error: &CreateStreamError) -> bool {
    code_of(error) == Some(ErrorCode::STREAM_NAME_EXIST)
}

fn code_of(error: &CreateStreamError) -> Option<ErrorCode> {
    match error.kind() {
        CreateStreamErrorKind::JetStream(cause) => Some(cause.error_code()),
        _ => None,
    }
}

pub(crate) fn unavailable(needed: &Config, error: impl Into<Source>) -> OpenError {
    OpenError::Unavailable {
        stream: needed.name.clone(),
        cause: error.into(),
    }
}

/// What matters, setting by setting. `max_bytes` does not: with `discard: new` a full stream refuses and
/// loses nothing. Neither do the description, the placement, the compression and the window of duplicates.
pub(crate) fn differences(needed: &Config, found: &Config) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut check = |setting, needed: &dyn Debug, found: &dyn Debug| {
        let (needed, found) = (format!("{needed:?}"), format!("{found:?}"));
        if needed != found {
            differences.push(Difference {
                setting,
                needed,
                found,
            });
        }
    };
    let persist = |config: &Config| config.persist_mode.unwrap_or_default();
    check("subjects", &needed.subjects, &found.subjects);
    check("storage", &needed.storage, &found.storage);
    check("persist_mode", &persist(needed), &persist(found));
    check("num_replicas", &needed.num_replicas, &found.num_replicas);
    check("retention", &needed.retention, &found.retention);
    check("discard", &needed.discard, &found.discard);
    check("max_age", &needed.max_age, &found.max_age);
    check("max_msgs", &needed.max_messages, &found.max_messages);
    check(
        "max_msgs_per_subject",
        &needed.max_messages_per_subject,
        &found.max_messages_per_subject,
    );
    check(
        "max_msg_size",
        &needed.max_message_size,
        &found.max_message_size,
    );
    check("no_ack", &needed.no_ack, &found.no_ack);
    check("sealed", &needed.sealed, &found.sealed);
    check("deny_delete", &needed.deny_delete, &found.deny_delete);
    check("deny_purge", &needed.deny_purge, &found.deny_purge);
    check(
        "allow_rollup_hdrs",
        &needed.allow_rollup,
        &found.allow_rollup,
    );
    check("allow_direct", &needed.allow_direct, &found.allow_direct);
    check(
        "allow_batched",
        &needed.allow_batch_publish,
        &found.allow_batch_publish,
    );
    check(
        "allow_msg_ttl",
        &needed.allow_message_ttl,
        &found.allow_message_ttl,
    );
    check("mirror", &needed.mirror, &found.mirror);
    check("sources", &needed.sources, &found.sources);
    check(
        "subject_transform",
        &needed.subject_transform,
        &found.subject_transform,
    );
    differences
}
