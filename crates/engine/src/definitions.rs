//! Definitions: compiled, registered, and kept compiled.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use eventflow_domain::{Digest, Json, Tenant, plan::Plan};
use eventflow_dsl::{TextFault, TextFaultKind};
use eventflow_ports::{
    Definition, DefinitionStore, Put,
    inbound::{Fault, Format, Place, Refusal, Registered, WorkflowRef, Workflows},
};

use crate::{
    config::PLANS_MAX,
    events::{Bound, BoundWorkflows},
};

/// The definition store with a compiler in front of it.
pub struct Definitions {
    store: Arc<dyn DefinitionStore>,
    kept: Mutex<Kept>,
    bound: BoundWorkflows,
}

/// What was compiled. When it is full it is forgotten and compiled again as needed.
#[derive(Default)]
struct Kept {
    by_digest: HashMap<(Tenant, Digest), Arc<Plan>>,
    /// By namespace, name and version; without a version, the latest.
    by_name: HashMap<Name, Arc<Plan>>,
}

type Name = (Tenant, String, String, Option<String>);

impl Definitions {
    /// In front of this store.
    pub fn new(store: Arc<dyn DefinitionStore>) -> Self {
        Self {
            store,
            kept: Mutex::default(),
            bound: BoundWorkflows::default(),
        }
    }

    /// The plan that a start asks for. An inline document is kept, so that the execution can be recovered.
    pub(crate) async fn plan_for(
        &self,
        tenant: &Tenant,
        workflow: &WorkflowRef,
    ) -> Result<Arc<Plan>, Refusal> {
        match workflow {
            WorkflowRef::Named {
                namespace,
                name,
                version,
            } => {
                self.plan_named(tenant, namespace, name, version.as_deref())
                    .await
            }
            WorkflowRef::Inline(document) => {
                let digest = eventflow_dsl::digest(document);
                if let Some(plan) =
                    self.kept(|kept| kept.by_digest.get(&(tenant.clone(), digest)).cloned())
                {
                    return Ok(plan);
                }
                let plan = compile(document)?;
                let definition = Definition {
                    workflow: plan.workflow.clone(),
                    digest,
                    document: document.clone(),
                };
                self.store
                    .keep(tenant, definition)
                    .await
                    .map_err(unavailable)?;
                Ok(self.keep(tenant, plan))
            }
        }
    }

    /// The workflows that events start.
    pub(crate) async fn bound(&self, tenant: &Tenant) -> Result<Bound, Refusal> {
        let bound = self.bound.of(tenant, &*self.store).await;
        bound.map_err(unavailable)
    }

    /// The plan that an execution is pinned to.
    pub(crate) async fn plan_of(
        &self,
        tenant: &Tenant,
        digest: &Digest,
    ) -> Result<Arc<Plan>, Refusal> {
        if let Some(plan) =
            self.kept(|kept| kept.by_digest.get(&(tenant.clone(), *digest)).cloned())
        {
            return Ok(plan);
        }
        match self
            .store
            .by_digest(tenant, digest)
            .await
            .map_err(unavailable)?
        {
            Some(definition) => Ok(self.keep(tenant, compile(&definition.document)?)),
            None => Err(Refusal::NotFound(format!(
                "there is no definition {digest}: restore it from a backup"
            ))),
        }
    }

    async fn plan_named(
        &self,
        tenant: &Tenant,
        namespace: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Arc<Plan>, Refusal> {
        let key: Name = (
            tenant.clone(),
            namespace.to_owned(),
            name.to_owned(),
            version.map(ToOwned::to_owned),
        );
        if let Some(plan) = self.kept(|kept| kept.by_name.get(&key).cloned()) {
            return Ok(plan);
        }
        let definition = self.get(tenant, namespace, name, version).await?;
        let plan = match self.kept(|kept| {
            kept.by_digest
                .get(&(tenant.clone(), definition.digest))
                .cloned()
        }) {
            Some(plan) => plan,
            None => self.keep(tenant, compile(&definition.document)?),
        };
        self.kept(|kept| kept.by_name.insert(key, plan.clone()));
        Ok(plan)
    }

    fn keep(&self, tenant: &Tenant, plan: Plan) -> Arc<Plan> {
        let plan = Arc::new(plan);
        self.kept(|kept| {
            if kept.by_digest.len() >= PLANS_MAX || kept.by_name.len() >= PLANS_MAX {
                *kept = Kept::default();
            }
            kept.by_digest
                .insert((tenant.clone(), plan.digest), plan.clone());
        });
        plan
    }

    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Workflows for Definitions {
    async fn register(
        &self,
        tenant: &Tenant,
        text: &[u8],
        format: Format,
    ) -> Result<Registered, Refusal> {
        let (document, plan) = compile_text(text, format)?;
        let definition = Definition {
            workflow: plan.workflow.clone(),
            digest: plan.digest,
            document,
        };
        let workflow = plan.workflow.clone();
        let created = match self
            .store
            .put(tenant, definition.clone())
            .await
            .map_err(unavailable)?
        {
            Put::Created => true,
            Put::Same => false,
            Put::Different { stored } => {
                return Err(Refusal::Contradiction(format!(
                    "{workflow} is registered with other content (digest {stored}): give it a new version"
                )));
            }
        };
        self.keep(tenant, plan);
        self.kept(|kept| {
            let (namespace, name) = (&*workflow.namespace, &*workflow.name);
            kept.by_name
                .remove(&(tenant.clone(), namespace.to_owned(), name.to_owned(), None))
        });
        if created {
            self.bound.forget(tenant).await;
        }
        Ok(Registered {
            definition,
            created,
        })
    }

    fn validate(&self, text: &[u8], format: Format) -> Vec<Fault> {
        match read(text, format) {
            Ok((text, document)) => match eventflow_dsl::compile(&document) {
                Ok(_) => Vec::new(),
                Err(faults) => eventflow_dsl::locate(text, faults),
            },
            Err(fault) => vec![fault.into()],
        }
    }

    async fn get<'a>(
        &self,
        tenant: &Tenant,
        namespace: &str,
        name: &str,
        version: Option<&'a str>,
    ) -> Result<Definition, Refusal> {
        let found = self
            .store
            .by_name(tenant, namespace, name, version)
            .await
            .map_err(unavailable)?;
        found.ok_or_else(|| {
            let version = version.map_or_else(String::new, |version| format!(":{version}"));
            Refusal::NotFound(format!("there is no workflow {namespace}/{name}{version}"))
        })
    }

    async fn list<'a>(
        &self,
        tenant: &Tenant,
        namespace: Option<&'a str>,
    ) -> Result<Vec<Definition>, Refusal> {
        self.store
            .list(tenant, namespace)
            .await
            .map_err(unavailable)
    }
}

/// A document from its text and the plan of it, or a refusal with the place of each fault.
fn compile_text(text: &[u8], format: Format) -> Result<(Json, Plan), Refusal> {
    let (text, document) = read(text, format).map_err(|fault| unreadable(fault, format))?;
    match eventflow_dsl::compile(&document) {
        Ok(plan) => Ok((document, plan)),
        Err(faults) => Err(invalid(eventflow_dsl::locate(text, faults))),
    }
}

fn read(text: &[u8], format: Format) -> Result<(&str, Json), TextFault> {
    let text = eventflow_dsl::utf8(text)?;
    let document = match format {
        Format::Json => eventflow_dsl::parse_json(text),
        Format::Yaml => eventflow_dsl::parse_yaml(text),
    };
    Ok((text, document?))
}

fn unreadable(fault: TextFault, format: Format) -> Refusal {
    let TextFault {
        kind,
        place: Place { line, column },
        detail,
    } = &fault;
    match kind {
        TextFaultKind::TooLarge => Refusal::TooLarge {
            what: "a document",
            limit: eventflow_dsl::DOCUMENT_BYTES_MAX,
        },
        TextFaultKind::Malformed => Refusal::Malformed {
            detail: format!(
                "the document is not {format}: {detail} at line {line} column {column}"
            ),
            faults: vec![fault.into()],
        },
        TextFaultKind::Unsound => Refusal::Invalid {
            detail: format!("{detail} at line {line} column {column}"),
            faults: vec![fault.into()],
        },
    }
}

/// A document that came without a text of its own.
fn compile(document: &Json) -> Result<Plan, Refusal> {
    eventflow_dsl::compile(document).map_err(invalid)
}

fn invalid(faults: Vec<Fault>) -> Refusal {
    Refusal::Invalid {
        detail: match faults.len() {
            1 => "the document has a fault".to_owned(),
            count => format!("the document has {count} faults"),
        },
        faults,
    }
}

fn unavailable(error: impl std::fmt::Display) -> Refusal {
    Refusal::unavailable(error.to_string())
}
