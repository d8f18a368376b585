//! The `DefinitionStore` port on the bucket `EVENTFLOW_DEFINITIONS`: documents by digest, and names that point at them.
//!
//! | key | value |
//! |---|---|
//! | `document.<tenant>.<digest>` | what it is called, and the document, or how many parts it has |
//! | `part.<digest of the text>.<number>` | a part of a document that is too large for one message |
//! | `name.<tenant>.<namespace>.<name>.<version>` | the digest |
//!
//! Every key is created, none is ever put again. A name is created after its document, so that it never points at
//! nothing; where two nodes put different documents under one name at the same moment, one of them has it, and the other
//! document is kept without a name.

use async_nats::{Client, jetstream::kv};
use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{Digest, Json, Tenant, WorkflowId};
use eventflow_ports::{Definition, DefinitionError, DefinitionStore, Put, Source};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::{
    NatsConfig, OpenError,
    bucket::{self, text, token},
};

/// Text in one message: a quarter of what a server takes by default, for a text that is quoted may double.
const PART_BYTES: usize = 256 * 1024;
/// A document is as long as its 1 MiB of YAML or JSON make it, aliases included; this is far more.
const PARTS_MAX: usize = 256;
/// Documents that a list asks for at a time: enough to hide the way to the server and back.
const READ_AHEAD: usize = 16;

/// Documents and their names.
#[derive(Debug, Clone)]
pub struct NatsDefinitions {
    bucket: kv::Store,
}

/// The value of a document's key.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    workflow: WorkflowId,
    text: Text,
}

#[derive(Debug, Serialize, Deserialize)]
enum Text {
    /// All of it.
    Whole(String),
    /// It lies under keys of its own.
    Parts { digest: Digest, parts: usize },
}

impl NatsDefinitions {
    /// Creates the bucket where it is not there, and verifies it where it is.
    pub async fn open(client: &Client, config: &NatsConfig) -> Result<Self, OpenError> {
        let bucket = bucket::open_keys(client, config, "DEFINITIONS").await?;
        Ok(Self { bucket })
    }

    /// On a bucket that is there, which is only read.
    pub(crate) fn on(bucket: kv::Store) -> Self {
        Self { bucket }
    }

    /// The digest that a name points at.
    async fn pointed_at(&self, name: &str) -> Result<Option<Digest>, Source> {
        let Some(value) = self.bucket.get(name).await? else {
            return Ok(None);
        };
        let digest = std::str::from_utf8(&value).ok().and_then(Digest::parse);
        let digest = digest.ok_or_else(|| self.damaged(name, "it is no digest"))?;
        Ok(Some(digest))
    }

    async fn store(&self, tenant: &Tenant, definition: &Definition) -> Result<(), Source> {
        let document = definition.document.as_str();
        let text = if document.len() <= PART_BYTES {
            Text::Whole(document.to_owned())
        } else {
            self.store_parts(document).await?
        };
        let stored = Stored {
            workflow: definition.workflow.clone(),
            text,
        };
        let key = document_key(tenant, &definition.digest);
        bucket::create(&self.bucket, &key, serde_json::to_vec(&stored)?.into()).await?;
        Ok(())
    }

    /// Under the digest of this very text: another text of the same document has parts of its own.
    async fn store_parts(&self, document: &str) -> Result<Text, Source> {
        let parts = document.len().div_ceil(PART_BYTES);
        if parts > PARTS_MAX {
            let max = PARTS_MAX * PART_BYTES;
            return Err(format!("the document is longer than {max} bytes: make it smaller").into());
        }
        let digest = Digest::of(document.as_bytes());
        for (number, part) in document.as_bytes().chunks(PART_BYTES).enumerate() {
            let part = Bytes::copy_from_slice(part);
            bucket::create(&self.bucket, &part_key(&digest, number), part).await?;
        }
        Ok(Text::Parts { digest, parts })
    }

    async fn load(&self, tenant: &Tenant, digest: &Digest) -> Result<Option<Definition>, Source> {
        let key = document_key(tenant, digest);
        let Some(value) = self.bucket.get(&key).await? else {
            return Ok(None);
        };
        let damaged = |error: serde_json::Error| self.damaged(&key, &error.to_string());
        let stored: Stored = serde_json::from_slice(&value).map_err(damaged)?;
        let document = match stored.text {
            Text::Whole(text) => text,
            Text::Parts { digest, parts } => self.load_parts(&digest, parts).await?,
        };
        Ok(Some(Definition {
            workflow: stored.workflow,
            digest: *digest,
            document: Json::parse(&document)
                .map_err(|error| self.damaged(&key, &error.to_string()))?,
        }))
    }

    async fn load_parts(&self, digest: &Digest, parts: usize) -> Result<String, Source> {
        let mut document = Vec::new();
        for number in 0..parts.min(PARTS_MAX) {
            let key = part_key(digest, number);
            let part = self.bucket.get(&key).await?;
            document.extend(part.ok_or_else(|| self.damaged(&key, "it is gone"))?);
        }
        if Digest::of(&document) != *digest {
            return Err(self.damaged(&part_key(digest, 0), "the parts are not what was written"));
        }
        Ok(String::from_utf8(document)?)
    }

    /// The names of a tenant below `below`, a list of tokens, each with the digest that it points at.
    async fn names(
        &self,
        tenant: &Tenant,
        below: &[String],
    ) -> Result<Vec<(String, WorkflowId)>, Source> {
        let names = ["name", tenant.as_str()].into_iter();
        let prefix: Vec<&str> = names.chain(below.iter().map(String::as_str)).collect();
        let filter = format!("{}{}.>", self.bucket.prefix, prefix.join("."));
        let mut found = Vec::new();
        for subject in bucket::subjects(&self.bucket.stream, &filter).await? {
            let key = subject
                .strip_prefix(&self.bucket.prefix)
                .unwrap_or(&subject);
            let workflow = named(key)
                .ok_or_else(|| self.damaged(key, "the key is not one of a definition"))?;
            found.push((key.to_owned(), workflow));
        }
        Ok(found)
    }

    /// What a name stands for.
    async fn resolve(
        &self,
        tenant: &Tenant,
        name: &str,
        workflow: WorkflowId,
    ) -> Result<Option<Definition>, Source> {
        let Some(digest) = self.pointed_at(name).await? else {
            return Ok(None);
        };
        let found = self.load(tenant, &digest).await?;
        let definition = found.ok_or_else(|| self.damaged(name, "its document is gone"))?;
        Ok(Some(Definition {
            workflow,
            ..definition
        }))
    }

    fn damaged(&self, key: &str, detail: &str) -> Source {
        format!(
            "key {key} of bucket {} is damaged: {detail}; restore it from a backup",
            self.bucket.name
        )
        .into()
    }
}

#[async_trait]
impl DefinitionStore for NatsDefinitions {
    async fn put(&self, tenant: &Tenant, definition: Definition) -> Result<Put, DefinitionError> {
        let name = name_key(tenant, &definition.workflow);
        let put = async {
            // First of all: what is refused is not kept either.
            if let Some(stored) = self.pointed_at(&name).await? {
                return Ok((false, stored));
            }
            self.store(tenant, &definition).await?;
            let digest = definition.digest;
            if bucket::create(&self.bucket, &name, digest.to_string().into()).await? {
                return Ok((true, digest));
            }
            let stored = self.pointed_at(&name).await?;
            let stored = stored.ok_or_else(|| self.damaged(&name, "it was just removed"))?;
            Ok((false, stored))
        };
        let (created, stored) = put.await.map_err(DefinitionError::Unavailable)?;
        Ok(if stored != definition.digest {
            Put::Different { stored }
        } else if created {
            Put::Created
        } else {
            Put::Same
        })
    }

    async fn keep(&self, tenant: &Tenant, definition: Definition) -> Result<(), DefinitionError> {
        let kept = self.store(tenant, &definition).await;
        kept.map_err(DefinitionError::Unavailable)
    }

    async fn by_digest(
        &self,
        tenant: &Tenant,
        digest: &Digest,
    ) -> Result<Option<Definition>, DefinitionError> {
        let found = self.load(tenant, digest).await;
        found.map_err(DefinitionError::Unavailable)
    }

    async fn by_name<'a>(
        &self,
        tenant: &Tenant,
        namespace: &str,
        name: &str,
        version: Option<&'a str>,
    ) -> Result<Option<Definition>, DefinitionError> {
        let found = async {
            let found = if let Some(version) = version {
                let workflow = WorkflowId {
                    namespace: namespace.into(),
                    name: name.into(),
                    version: version.into(),
                };
                Some((name_key(tenant, &workflow), workflow))
            } else {
                let versions = self.names(tenant, &[token(namespace), token(name)]).await?;
                versions
                    .into_iter()
                    .max_by_key(|(_, workflow)| version_order(&workflow.version))
            };
            match found {
                Some((key, workflow)) => self.resolve(tenant, &key, workflow).await,
                None => Ok(None),
            }
        };
        found.await.map_err(DefinitionError::Unavailable)
    }

    async fn list<'a>(
        &self,
        tenant: &Tenant,
        namespace: Option<&'a str>,
    ) -> Result<Vec<Definition>, DefinitionError> {
        let found = async {
            let below: Vec<String> = namespace.map(token).into_iter().collect();
            let mut names = self.names(tenant, &below).await?;
            names.sort_by_cached_key(|(_, workflow)| {
                let order = version_order(&workflow.version);
                (workflow.namespace.clone(), workflow.name.clone(), order)
            });
            let resolved = stream::iter(names)
                .map(|(key, workflow)| async move { self.resolve(tenant, &key, workflow).await });
            let found: Vec<_> = resolved.buffered(READ_AHEAD).try_collect().await?;
            Ok(found.into_iter().flatten().collect())
        };
        found.await.map_err(DefinitionError::Unavailable)
    }
}

fn document_key(tenant: &Tenant, digest: &Digest) -> String {
    format!("document.{}.{digest}", tenant.as_str())
}

fn part_key(digest: &Digest, number: usize) -> String {
    format!("part.{digest}.{number}")
}

fn name_key(tenant: &Tenant, workflow: &WorkflowId) -> String {
    let WorkflowId {
        namespace,
        name,
        version,
    } = workflow;
    format!(
        "name.{}.{}.{}.{}",
        tenant.as_str(),
        token(namespace),
        token(name),
        token(version)
    )
}

/// What the key of a name names.
fn named(key: &str) -> Option<WorkflowId> {
    let tokens: Vec<&str> = key.split('.').collect();
    let ["name", _, namespace, name, version] = tokens[..] else {
        return None;
    };
    Some(WorkflowId {
        namespace: text(namespace)?.into(),
        name: text(name)?.into(),
        version: text(version)?.into(),
    })
}

/// Semantic versions in their order, above whatever is none.
fn version_order(version: &str) -> (Option<Version>, String) {
    (Version::parse(version).ok(), version.to_owned())
}
