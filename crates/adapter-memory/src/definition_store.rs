//! Definitions in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use eventflow_domain::{Digest, Tenant, WorkflowId};
use eventflow_ports::{Definition, DefinitionError, DefinitionStore, Put};
use semver::Version;

use crate::lock;

/// Documents in memory, as many as were put and kept. A clone is another instance on the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryDefinitionStore(Arc<Mutex<HashMap<Tenant, Documents>>>);

#[derive(Debug, Default)]
struct Documents {
    by_digest: HashMap<Digest, Definition>,
    by_name: BTreeMap<Place, Definition>,
}

/// Where a definition stands in a list: namespace, name, version. What is no semantic version comes before all that are.
type Place = (Arc<str>, Arc<str>, Option<Version>, Arc<str>);

fn place(workflow: &WorkflowId) -> Place {
    (
        workflow.namespace.clone(),
        workflow.name.clone(),
        Version::parse(&workflow.version).ok(),
        workflow.version.clone(),
    )
}

impl MemoryDefinitionStore {
    fn of<T>(&self, tenant: &Tenant, read: impl FnOnce(&Documents) -> T) -> Option<T> {
        lock(&self.0).get(tenant).map(read)
    }
}

#[async_trait]
impl DefinitionStore for MemoryDefinitionStore {
    async fn put(&self, tenant: &Tenant, definition: Definition) -> Result<Put, DefinitionError> {
        let mut tenants = lock(&self.0);
        let documents = tenants.entry(tenant.clone()).or_default();
        let place = place(&definition.workflow);
        if let Some(stored) = documents.by_name.get(&place) {
            return Ok(if stored.digest == definition.digest {
                Put::Same
            } else {
                Put::Different {
                    stored: stored.digest,
                }
            });
        }
        documents
            .by_digest
            .insert(definition.digest, definition.clone());
        documents.by_name.insert(place, definition);
        Ok(Put::Created)
    }

    async fn keep(&self, tenant: &Tenant, definition: Definition) -> Result<(), DefinitionError> {
        let mut tenants = lock(&self.0);
        let documents = tenants.entry(tenant.clone()).or_default();
        documents
            .by_digest
            .entry(definition.digest)
            .or_insert(definition);
        Ok(())
    }

    async fn by_digest(
        &self,
        tenant: &Tenant,
        digest: &Digest,
    ) -> Result<Option<Definition>, DefinitionError> {
        let found = self.of(tenant, |documents| documents.by_digest.get(digest).cloned());
        Ok(found.flatten())
    }

    async fn by_name<'a>(
        &self,
        tenant: &Tenant,
        namespace: &str,
        name: &str,
        version: Option<&'a str>,
    ) -> Result<Option<Definition>, DefinitionError> {
        let named =
            |workflow: &WorkflowId| &*workflow.namespace == namespace && &*workflow.name == name;
        let first: Place = (namespace.into(), name.into(), None, "".into());
        let found = self.of(tenant, |documents| {
            documents
                .by_name
                .range(first..)
                .map(|(_, definition)| definition)
                .take_while(|definition| named(&definition.workflow))
                .filter(|definition| {
                    version.is_none_or(|version| *definition.workflow.version == *version)
                })
                .last()
                .cloned()
        });
        Ok(found.flatten())
    }

    async fn list<'a>(
        &self,
        tenant: &Tenant,
        namespace: Option<&'a str>,
    ) -> Result<Vec<Definition>, DefinitionError> {
        let found = self.of(tenant, |documents| {
            documents
                .by_name
                .values()
                .filter(|definition| {
                    namespace.is_none_or(|wanted| *definition.workflow.namespace == *wanted)
                })
                .cloned()
                .collect()
        });
        Ok(found.unwrap_or_default())
    }
}
