//! The `Executions` port: starting, reading, watching.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use eventflow_domain::{
    ExecutionId, Sequence, Tenant, Timestamp, Value,
    execution::Requested,
    plan::{Plan, SEMANTICS_VERSION},
};
use eventflow_ports::{
    ListQuery,
    inbound::{
        EventStream, ExecutionView, Executions, HistoryPage, ListPage, Refusal, StartExecution,
        Started, StreamFrom,
    },
};

use crate::{
    engine::{Engine, Inner, fingerprint},
    follow, history, meters,
    partition::{Key, Message, Snapshot, Start, StartAnswer},
    render,
};

/// How often a start looks again when the execution moved from memory to the view under its eyes.
const LOOKS_MAX: usize = 8;

#[async_trait]
impl Executions for Engine {
    async fn start(&self, request: StartExecution) -> Result<Started, Refusal> {
        let inner = &self.inner;
        let plan = inner
            .definitions
            .plan_for(&request.tenant, &request.workflow)
            .await?;
        let (id, is_fresh) = inner.execution_id(&request)?;
        let key = Key {
            tenant: request.tenant.clone(),
            id,
        };
        let requested = requested(&plan, request);
        for _ in 0..LOOKS_MAX {
            let answer = inner.try_start(&key, &requested, &plan, is_fresh).await?;
            match answer {
                StartAnswer::Started { snapshot, repeated } => {
                    return Ok(Started {
                        execution: key.id,
                        repeated,
                        view: inner.render(&snapshot),
                    });
                }
                StartAnswer::Refused(refusal) => return Err(refusal),
                StartAnswer::AskAgain => {}
            }
        }
        Err(Refusal::unavailable(format!(
            "execution {} could not be looked up in time",
            key.id
        )))
    }

    async fn view(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<ExecutionView, Refusal> {
        let key = Key {
            tenant: tenant.clone(),
            id: execution.clone(),
        };
        self.inner
            .find(&key, false)
            .await
            .map(|snapshot| self.inner.render(&snapshot))
    }

    async fn wait(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
        within: Duration,
    ) -> Result<ExecutionView, Refusal> {
        let key = Key {
            tenant: tenant.clone(),
            id: execution.clone(),
        };
        let asked = |reply| Message::Wait {
            key: key.clone(),
            reply,
        };
        let ended = self.inner.partition(&key).ask(asked);
        match tokio::time::timeout(within, ended).await {
            Ok(Ok(Some(snapshot))) => Ok(self.inner.render(&snapshot)),
            // Not in memory, not ended in time, or the writer stopped: whatever there is to see.
            Ok(Ok(None) | Err(_)) | Err(_) => self.view(tenant, execution).await,
        }
    }

    async fn list(&self, query: ListQuery) -> Result<ListPage, Refusal> {
        let inner = &self.inner;
        let now = inner.backend.clock.now();
        let mut found = std::collections::BTreeMap::new();
        for partition in &inner.partitions {
            // Memory first: what leaves it meanwhile is in the view by then.
            let asked = |reply| Message::List {
                query: Box::new(query.clone()),
                reply,
            };
            for Snapshot {
                execution, plan, ..
            } in partition.ask(asked).await?
            {
                let view = render::summary_view(&execution, &plan, now);
                found.insert((view.created_at, view.execution.clone()), view);
            }
            let rows = inner.backend.view.list(partition.id, query.clone()).await;
            let rows = rows.map_err(|error| Refusal::unavailable(error.to_string()))?;
            meters::rows_read(rows.len());
            for row in rows.into_iter().filter(|row| row.status.is_ended()) {
                let view = render::from_row(row)
                    .map_err(|error| Refusal::unavailable(error.to_string()))?;
                found
                    .entry((view.created_at, view.execution.clone()))
                    .or_insert(view);
            }
        }
        let is_more = found.len() > query.limit;
        let executions: Vec<_> = found.into_values().rev().take(query.limit).collect();
        let last = executions
            .last()
            .filter(|_| is_more || executions.len() == query.limit);
        let next: Option<(Timestamp, ExecutionId)> =
            last.map(|view| (view.created_at, view.execution.clone()));
        Ok(ListPage { executions, next })
    }

    async fn history(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
        after: Sequence,
        limit: usize,
    ) -> Result<HistoryPage, Refusal> {
        let key = Key {
            tenant: tenant.clone(),
            id: execution.clone(),
        };
        Ok(history::page(
            self.inner.events_of(&key).await?,
            after,
            limit,
        ))
    }

    async fn events(&self, tenant: &Tenant, from: StreamFrom) -> Result<EventStream, Refusal> {
        follow::stream(&self.inner, tenant, from).await
    }
}

impl Inner {
    /// The id of a start, and whether nobody can have used it.
    fn execution_id(&self, request: &StartExecution) -> Result<(ExecutionId, bool), Refusal> {
        match (&request.execution, &request.idempotency_key) {
            (Some(_), Some(_)) => Err(Refusal::malformed(
                "give either an executionId or an Idempotency-Key, not both",
            )),
            (Some(id), None) => Ok((id.clone(), false)),
            (None, Some(key)) => Ok((
                ExecutionId::derived(&request.tenant, "idempotency-key", &[key]),
                false,
            )),
            (None, None) => Ok((self.backend.ids.execution_id(), true)),
        }
    }

    async fn try_start(
        &self,
        key: &Key,
        requested: &Requested,
        plan: &Arc<Plan>,
        is_fresh: bool,
    ) -> Result<StartAnswer, Refusal> {
        let partition = self.partition(key);
        let absent_as_of = (!is_fresh).then(|| partition.status().evictions);
        if !is_fresh && let Some(snapshot) = self.find_in_view(key).await? {
            return Ok(
                if snapshot.execution.requested.fingerprint == requested.fingerprint {
                    StartAnswer::Started {
                        snapshot,
                        repeated: true,
                    }
                } else {
                    StartAnswer::Refused(crate::partition::other_start(key))
                },
            );
        }
        let start = |reply| {
            let (key, requested, plan) = (key.clone(), requested.clone(), plan.clone());
            Message::Start(Box::new(Start {
                key,
                requested,
                plan,
                absent_as_of,
                reply,
            }))
        };
        partition.ask(start).await
    }
}

fn requested(plan: &Plan, request: StartExecution) -> Requested {
    let fingerprint = fingerprint(&plan.digest, &request);
    Requested {
        workflow: plan.workflow.clone(),
        digest: plan.digest,
        semantics: SEMANTICS_VERSION,
        input: Value::new(request.input),
        timeout: plan.timeout,
        fingerprint,
        correlation: request.correlation,
        labels: request.labels,
        traceparent: request.traceparent,
    }
}
