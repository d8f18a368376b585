//! The `DefinitionStore` port, in `journal.db`: documents by digest, and names that point at them.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_domain::{Digest, Json, Tenant, WorkflowId};
use eventflow_ports::{Definition, DefinitionError, DefinitionStore, Put};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};
use semver::Version;

use crate::{failure::Failure, store::Shared};

/// The definitions of an open store.
#[derive(Debug, Clone)]
pub struct SqliteDefinitions {
    shared: Arc<Shared>,
}

impl SqliteDefinitions {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn read<R: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, DefinitionError> {
        self.shared
            .reader
            .call(move |connection| query(connection))
            .await
            .and_then(|result| {
                result
                    .map_err(|error| Failure::sqlite("reading definitions from journal.db", &error))
            })
            .map_err(unavailable)
    }
}

#[async_trait]
impl DefinitionStore for SqliteDefinitions {
    async fn put(&self, tenant: &Tenant, definition: Definition) -> Result<Put, DefinitionError> {
        let tenant = tenant.clone();
        self.shared
            .writer
            .change(move |connection| put(connection, &tenant, &definition))
            .await
            .map_err(unavailable)
    }

    async fn keep(&self, tenant: &Tenant, definition: Definition) -> Result<(), DefinitionError> {
        let tenant = tenant.clone();
        self.shared
            .writer
            .change(move |connection| keep(connection, &tenant, &definition))
            .await
            .map_err(unavailable)
    }

    async fn by_digest(
        &self,
        tenant: &Tenant,
        digest: &Digest,
    ) -> Result<Option<Definition>, DefinitionError> {
        let (tenant, digest) = (tenant.clone(), *digest);
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT namespace, name, version, digest, document FROM documents
                     WHERE tenant = ?1 AND digest = ?2",
                )?
                .query_row(params![tenant.as_str(), digest.0], definition)
                .optional()
        })
        .await
    }

    async fn by_name<'a>(
        &self,
        tenant: &Tenant,
        namespace: &str,
        name: &str,
        version: Option<&'a str>,
    ) -> Result<Option<Definition>, DefinitionError> {
        let tenant = tenant.clone();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let version = version.map(str::to_owned);
        self.read(move |connection| {
            let version = match version {
                Some(version) => Some(version),
                None => latest(connection, &tenant, &namespace, &name)?,
            };
            connection
                .prepare_cached(&format!(
                    "{NAMED} WHERE n.tenant = ?1 AND n.namespace = ?2 AND n.name = ?3 AND n.version = ?4"
                ))?
                .query_row(params![tenant.as_str(), namespace, name, version], definition)
                .optional()
        })
        .await
    }

    async fn list<'a>(
        &self,
        tenant: &Tenant,
        namespace: Option<&'a str>,
    ) -> Result<Vec<Definition>, DefinitionError> {
        let tenant = tenant.clone();
        let namespace = namespace.map(str::to_owned);
        self.read(move |connection| {
            let mut found: Vec<_> = connection
                .prepare_cached(&format!(
                    "{NAMED} WHERE n.tenant = ?1 AND (?2 IS NULL OR n.namespace = ?2)"
                ))?
                .query_map(params![tenant.as_str(), namespace], definition)?
                .collect::<Result<_, _>>()?;
            found.sort_by_cached_key(|definition| {
                let WorkflowId {
                    namespace,
                    name,
                    version,
                } = definition.workflow.clone();
                let order = version_order(&version);
                (namespace, name, order)
            });
            Ok(found)
        })
        .await
    }
}

/// A name with the document that it points at.
const NAMED: &str = "SELECT n.namespace, n.name, n.version, n.digest, d.document
    FROM names n JOIN documents d ON d.tenant = n.tenant AND d.digest = n.digest";

fn put(connection: &Connection, tenant: &Tenant, definition: &Definition) -> rusqlite::Result<Put> {
    let WorkflowId {
        namespace,
        name,
        version,
    } = &definition.workflow;
    let stored: Option<[u8; 32]> = connection
        .prepare_cached(
            "SELECT digest FROM names WHERE tenant = ?1 AND namespace = ?2 AND name = ?3 AND version = ?4",
        )?
        .query_row(params![tenant.as_str(), namespace, name, version], |row| row.get(0))
        .optional()?;
    match stored.map(Digest) {
        Some(stored) if stored == definition.digest => Ok(Put::Same),
        Some(stored) => Ok(Put::Different { stored }),
        None => {
            keep(connection, tenant, definition)?;
            connection
                .prepare_cached("INSERT INTO names VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    tenant.as_str(),
                    namespace,
                    name,
                    version,
                    definition.digest.0
                ])?;
            Ok(Put::Created)
        }
    }
}

fn keep(connection: &Connection, tenant: &Tenant, definition: &Definition) -> rusqlite::Result<()> {
    let WorkflowId {
        namespace,
        name,
        version,
    } = &definition.workflow;
    connection
        .prepare_cached(
            "INSERT INTO documents VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            tenant.as_str(),
            definition.digest.0,
            namespace,
            name,
            version,
            definition.document.as_str()
        ])?;
    Ok(())
}

fn latest(
    connection: &Connection,
    tenant: &Tenant,
    namespace: &str,
    name: &str,
) -> rusqlite::Result<Option<String>> {
    let versions: Vec<String> = connection
        .prepare_cached(
            "SELECT version FROM names WHERE tenant = ?1 AND namespace = ?2 AND name = ?3",
        )?
        .query_map(params![tenant.as_str(), namespace, name], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(versions
        .into_iter()
        .max_by_key(|version| version_order(version)))
}

/// Semantic versions in their order, above whatever is none.
fn version_order(version: &str) -> (Option<Version>, String) {
    (Version::parse(version).ok(), version.to_owned())
}

/// A row of namespace, name, version, digest, document.
fn definition(row: &Row<'_>) -> rusqlite::Result<Definition> {
    let name = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str()?.into());
    let document = Json::parse(row.get_ref(4)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(4, Type::Text, error.into()))?;
    Ok(Definition {
        workflow: WorkflowId {
            namespace: name(0)?,
            name: name(1)?,
            version: name(2)?,
        },
        digest: Digest(row.get(3)?),
        document,
    })
}

fn unavailable(failure: Failure) -> DefinitionError {
    DefinitionError::Unavailable(failure.into_source())
}
