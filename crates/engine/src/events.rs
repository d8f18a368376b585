//! The `Events` port: which workflows an event is bound to, and the executions that it starts (requirement E5).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use eventflow_domain::{Digest, ExecutionId, Tenant, WorkflowId};
use eventflow_dsl::{AUTOMATION_TRIGGER, Bindings};
use eventflow_ports::{
    Definition, DefinitionError, DefinitionStore,
    inbound::{Events, Executions, ExternalEvent, Refusal, StartExecution, WorkflowRef},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use crate::engine::Engine;

/// How late an event may start what was registered on another node. Each reading lists all definitions of a tenant.
const BINDINGS_AGE_MAX: Duration = Duration::from_secs(1);
/// Tenants whose bindings are kept; when there are more, all are forgotten and read again as needed.
const TENANTS_MAX: usize = 1_024;
/// Executions that one event is starting at a time: one that many workflows are bound to leaves room for others.
const STARTS_IN_FLIGHT_MAX: usize = 16;

#[async_trait]
impl Events for Engine {
    async fn accept(
        &self,
        tenant: &Tenant,
        event: ExternalEvent,
    ) -> Result<Vec<ExecutionId>, Refusal> {
        let automation = automation(&event)?;
        let bound = self.inner.definitions.bound(tenant).await?;
        let starts: Vec<_> = bound
            .iter()
            .filter(|(_, bindings)| {
                bindings.hold(&event.kind, &event.source, automation.as_deref())
            })
            .map(|(workflow, _)| self.start_on(tenant, &event, workflow))
            .collect();
        let starts = stream::iter(starts).buffered(STARTS_IN_FLIGHT_MAX);
        starts.try_collect().await
    }
}

impl Engine {
    /// Starts what is bound to an event, where the event has not started it before.
    async fn start_on(
        &self,
        tenant: &Tenant,
        event: &ExternalEvent,
        workflow: &WorkflowId,
    ) -> Result<ExecutionId, Refusal> {
        let WorkflowId {
            namespace,
            name,
            version,
        } = workflow;
        let whole_name = format!("{namespace}/{name}");
        let id = ExecutionId::derived(tenant, "event", &[&event.source, &event.id, &whole_name]);
        let start = StartExecution {
            tenant: tenant.clone(),
            workflow: WorkflowRef::Named {
                namespace: namespace.to_string(),
                name: name.to_string(),
                version: Some(version.to_string()),
            },
            input: event.data.clone(),
            execution: Some(id.clone()),
            idempotency_key: None,
            correlation: event.correlation.clone(),
            labels: BTreeMap::new(),
            traceparent: event.traceparent.clone(),
            causation: Some(event.id.clone()),
        };
        match self.start(start).await {
            // It was delivered before, in other words or when the workflow had another version.
            Ok(_) | Err(Refusal::Contradiction(_)) => Ok(id),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Which automation an event asks for, where it is of the type that asks for one.
fn automation(event: &ExternalEvent) -> Result<Option<String>, Refusal> {
    #[derive(Deserialize)]
    struct Trigger {
        automation_id: String,
    }
    if *event.kind != *AUTOMATION_TRIGGER {
        return Ok(None);
    }
    let trigger: Trigger = event.data.read().map_err(|error| {
        Refusal::malformed(format!(
            "the data of an `{AUTOMATION_TRIGGER}` must be an object with the text `automation_id`: {error}"
        ))
    })?;
    if trigger.automation_id.is_empty() {
        return Err(Refusal::malformed("`automation_id` must not be empty"));
    }
    Ok(Some(trigger.automation_id))
}

/// The workflows of a tenant that something starts, each in its latest version, in order of their names.
pub(crate) type Bound = Arc<[(WorkflowId, Arc<Bindings>)]>;

/// What the workflows of each tenant are bound to, as it was read last.
#[derive(Default)]
pub(crate) struct BoundWorkflows {
    by_tenant: Mutex<HashMap<Tenant, Arc<Place>>>,
}

/// Held by whoever reads, so that others wait for what it finds.
type Place = tokio::sync::Mutex<Option<Reading>>;

struct Reading {
    /// None once it is known to be outdated.
    at: Option<Instant>,
    bound: Bound,
    /// Of every latest version, so that only new documents are read again.
    known: HashMap<Digest, Arc<Bindings>>,
}

impl BoundWorkflows {
    /// The bindings of a tenant, as of a moment ago.
    pub(crate) async fn of(
        &self,
        tenant: &Tenant,
        store: &dyn DefinitionStore,
    ) -> Result<Bound, DefinitionError> {
        let place = self.place(tenant);
        let mut reading = place.lock().await;
        if let Some(read) = &*reading
            && read.at.is_some_and(|at| at.elapsed() < BINDINGS_AGE_MAX)
        {
            return Ok(read.bound.clone());
        }
        let at = Some(Instant::now());
        let definitions = store.list(tenant, None).await?;
        let known = reading.take().map(|read| read.known).unwrap_or_default();
        let read = Reading::of(at, &definitions, &known);
        let bound = read.bound.clone();
        *reading = Some(read);
        Ok(bound)
    }

    /// A workflow was registered here: the next event sees it.
    pub(crate) async fn forget(&self, tenant: &Tenant) {
        let place = self.place(tenant);
        if let Some(read) = &mut *place.lock().await {
            // What it knows of documents stays.
            read.at = None;
        }
    }

    fn place(&self, tenant: &Tenant) -> Arc<Place> {
        let mut by_tenant = self
            .by_tenant
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if by_tenant.len() >= TENANTS_MAX && !by_tenant.contains_key(tenant) {
            by_tenant.clear();
        }
        by_tenant.entry(tenant.clone()).or_default().clone()
    }
}

impl Reading {
    /// Of all definitions in order of namespace, name and version: the last of each name counts.
    fn of(
        at: Option<Instant>,
        definitions: &[Definition],
        before: &HashMap<Digest, Arc<Bindings>>,
    ) -> Self {
        let mut known = HashMap::new();
        let mut bound = Vec::new();
        for (place, definition) in definitions.iter().enumerate() {
            let name = |definition: &Definition| {
                let workflow = &definition.workflow;
                (workflow.namespace.clone(), workflow.name.clone())
            };
            let next = definitions.get(place + 1);
            if next.is_some_and(|next| name(next) == name(definition)) {
                continue;
            }
            let bindings = before.get(&definition.digest).cloned();
            let bindings =
                bindings.unwrap_or_else(|| Arc::new(eventflow_dsl::bindings(&definition.document)));
            if !bindings.is_empty() {
                bound.push((definition.workflow.clone(), bindings.clone()));
            }
            known.insert(definition.digest, bindings);
        }
        Self {
            at,
            bound: bound.into(),
            known,
        }
    }
}

#[cfg(test)]
mod tests {
    use eventflow_adapter_memory::MemoryDefinitionStore;
    use eventflow_domain::Json;

    use super::*;

    /// A definition that is bound where it names an automation.
    fn definition(name: &str, version: &str, metadata: &str) -> Definition {
        let document = format!(
            r#"{{"document":{{"dsl":"1.0.3","namespace":"default","name":"{name}","version":"{version}","metadata":{metadata}}},"do":[{{"a":{{"set":{{"x":1}}}}}}]}}"#
        );
        let document = Json::parse(&document).unwrap();
        let plan = eventflow_dsl::compile(&document).unwrap();
        Definition {
            workflow: plan.workflow.clone(),
            digest: plan.digest,
            document,
        }
    }

    async fn names(bound: &BoundWorkflows, store: &MemoryDefinitionStore) -> Vec<String> {
        let bound = bound.of(&Tenant::default_tenant(), store).await.unwrap();
        bound
            .iter()
            .map(|(workflow, _)| workflow.to_string())
            .collect()
    }

    #[tokio::test]
    async fn what_another_node_registers_is_seen_a_moment_later() {
        let (bound, store) = (BoundWorkflows::default(), MemoryDefinitionStore::default());
        let tenant = Tenant::default_tenant();
        let put = async |definition| store.put(&tenant, definition).await.unwrap();
        let ids = r#"{"automationIds":["a"]}"#;
        put(definition("one", "1.0.0", ids)).await;
        assert_eq!(names(&bound, &store).await, ["default/one:1.0.0"]);
        let began = Instant::now();
        put(definition("two", "1.0.0", ids)).await;
        put(definition("one", "1.0.1", "{}")).await;
        while names(&bound, &store).await != ["default/two:1.0.0"] {
            assert!(
                began.elapsed() < BINDINGS_AGE_MAX * 10,
                "it is never read again"
            );
            tokio::time::sleep(BINDINGS_AGE_MAX / 20).await;
        }
        // Read again for every event, they would be there at once.
        assert!(
            began.elapsed() >= BINDINGS_AGE_MAX / 2,
            "{:?}",
            began.elapsed()
        );
    }

    #[tokio::test]
    async fn what_this_node_registers_is_seen_at_once() {
        let (bound, store) = (BoundWorkflows::default(), MemoryDefinitionStore::default());
        let tenant = Tenant::default_tenant();
        assert_eq!(names(&bound, &store).await, [""; 0]);
        let one = definition("one", "1.0.0", r#"{"automationIds":["a"]}"#);
        store.put(&tenant, one).await.unwrap();
        bound.forget(&tenant).await;
        assert_eq!(names(&bound, &store).await, ["default/one:1.0.0"]);
    }
}
