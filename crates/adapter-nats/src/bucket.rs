//! Buckets of keys and of objects: what their streams must be like, and the way to a key.
//!
//! Everything is read through the stream's leader, so that what was acknowledged is seen: no bucket allows direct reads,
//! which any replica answers, also one that lags behind. Other clients ask the leader then as well.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        Context,
        kv::{self, CreateErrorKind},
        stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, Stream},
    },
};
use bytes::Bytes;
use eventflow_ports::Source;
use futures::TryStreamExt as _;
use tokio::time::{Instant, sleep};

use crate::{NatsConfig, OpenError, stream};

/// Writes that may be on their way to the servers when ours comes, one after another.
pub(crate) const TRIES_MAX: usize = 20;
/// Such a write has arrived long before, or is lost.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A bucket of values by key, each as it was written last: `<PREFIX>_<NAME>`.
pub(crate) async fn open_keys(
    client: &Client,
    config: &NatsConfig,
    name: &str,
) -> Result<kv::Store, OpenError> {
    open_keys_as(client, config, name, PersistenceMode::Default).await
}

/// The same, of what may be written to the disk later where it can be lost.
pub(crate) async fn open_keys_as(
    client: &Client,
    config: &NatsConfig,
    name: &str,
    persist: PersistenceMode,
) -> Result<kv::Store, OpenError> {
    let bucket = bucket(config, name);
    let needed = needed_keys(config, name, persist);
    let (context, _) = open(client, config, &needed).await?;
    let store = context.get_key_value(bucket).await;
    store.map_err(|error| OpenError::Unavailable {
        stream: needed.name,
        cause: error.into(),
    })
}

/// A bucket of objects: `<PREFIX>_<NAME>`; the bucket's name with it.
pub(crate) async fn open_objects(
    client: &Client,
    config: &NatsConfig,
    name: &str,
) -> Result<(Context, Stream<()>, String), OpenError> {
    let bucket = bucket(config, name);
    let needed = needed_objects(config, name);
    let (context, stream) = open(client, config, &needed).await?;
    Ok((context, stream, bucket))
}

/// A bucket's name.
pub(crate) fn bucket(config: &NatsConfig, name: &str) -> String {
    format!("{}_{name}", config.upper_prefix())
}

/// The name of the stream of a bucket of values by key.
pub(crate) fn keys_stream(config: &NatsConfig, name: &str) -> String {
    format!("KV_{}", bucket(config, name))
}

/// The stream of a bucket of values by key as it must be.
pub(crate) fn needed_keys(config: &NatsConfig, name: &str, persist: PersistenceMode) -> Config {
    let bucket = bucket(config, name);
    Config {
        name: keys_stream(config, name),
        subjects: vec![format!("$KV.{bucket}.>")],
        max_messages_per_subject: 1,
        // A key that is put with a time to live goes by itself.
        allow_message_ttl: true,
        // What a purge of a key is to the stream.
        allow_rollup: true,
        deny_delete: true,
        persist_mode: Some(persist),
        ..needed(config)
    }
}

/// The stream of a bucket of objects as it must be.
pub(crate) fn needed_objects(config: &NatsConfig, name: &str) -> Config {
    let bucket = bucket(config, name);
    Config {
        name: format!("OBJ_{bucket}"),
        subjects: vec![format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")],
        max_messages_per_subject: -1,
        // What the newest line of an object is to the stream.
        allow_rollup: true,
        ..needed(config)
    }
}

/// What all buckets have in common.
fn needed(config: &NatsConfig) -> Config {
    Config {
        description: Some("EventFlow's: written by its nodes only".to_owned()),
        storage: StorageType::File,
        persist_mode: Some(PersistenceMode::Default),
        num_replicas: config.replicas,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_messages: -1,
        max_bytes: -1,
        max_message_size: -1,
        allow_direct: false,
        ..Config::default()
    }
}

async fn open(
    client: &Client,
    config: &NatsConfig,
    needed: &Config,
) -> Result<(Context, Stream<()>), OpenError> {
    stream::check_prefix(&config.prefix)?;
    let context = config.context(client);
    let deadline = Instant::now() + config.open_within;
    let stream = stream::open(&context, needed, deadline).await?;
    Ok((context, stream))
}

/// Writes a key that was never written; whether it was not.
pub(crate) async fn create(bucket: &kv::Store, key: &str, value: Bytes) -> Result<bool, Source> {
    for _ in 1..TRIES_MAX {
        match create_once(bucket, key, value.clone()).await {
            Err(error) if stream::is_stale(&*error) => sleep(LOOK_AGAIN).await,
            done => return done,
        }
    }
    create_once(bucket, key, value).await
}

async fn create_once(bucket: &kv::Store, key: &str, value: Bytes) -> Result<bool, Source> {
    match bucket.create(key, value).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The subjects below `filter` that have messages, from the stream's leader, in order.
pub(crate) async fn subjects<I>(stream: &Stream<I>, filter: &str) -> Result<Vec<String>, Source> {
    let found = stream.info_with_subjects(filter).await?;
    let found: BTreeSet<String> = found.map_ok(|(subject, _)| subject).try_collect().await?;
    Ok(found.into_iter().collect())
}

/// One token of a key that stands for any text: letters, digits, `-` and `_` are themselves, every other byte is `=` and
/// two hex digits, and nothing at all is `=`.
pub(crate) fn token(text: &str) -> String {
    if text.is_empty() {
        return "=".to_owned();
    }
    text.bytes().fold(String::new(), |mut token, byte| {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            // A string takes everything.
            let _ = write!(token, "={byte:02X}");
        }
        token
    })
}

/// The text of a token; nothing where it is none.
pub(crate) fn text(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'=' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_legal_in_a_subject_and_stands_for_one_text() {
        let texts = [
            "", "order", "1.0.0", "1=2E0", "a b/c.d", "größe", "*", ">", "=", "==", "\u{0}", "A",
            "a",
        ];
        let mut tokens = BTreeSet::new();
        for original in texts {
            let token = token(original);
            let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
            assert!(!token.is_empty() && token.bytes().all(is_legal), "{token}");
            assert_eq!(text(&token).as_deref(), Some(original));
            assert!(tokens.insert(token), "{original} shares a token");
        }
        for none in ["=2", "=zz", "=C3"] {
            assert_eq!(text(none), None, "{none}");
        }
    }
}
