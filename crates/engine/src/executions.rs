//! The `Executions` port: starting, reading, watching.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
use futures::future::try_join_all;

use crate::{
    engine::{Engine, Inner, fingerprint},
    follow, history, meters,
    partition::{Key, Message, Partition, Snapshot, Start, StartAnswer},
    questions, render,
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
        let key = Key::new(&request.tenant, &id);
        let home = inner.home(&key);
        let start = questions::Start {
            key,
            requested: requested(&plan, request),
            plan: Some(plan),
            is_fresh,
        };
        inner.ask(home, start).await
    }

    async fn view(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
    ) -> Result<ExecutionView, Refusal> {
        let key = Key::new(tenant, execution);
        let home = self.inner.home(&key);
        self.inner.ask(home, questions::View(key)).await
    }

    async fn wait(
        &self,
        tenant: &Tenant,
        execution: &ExecutionId,
        within: Duration,
    ) -> Result<ExecutionView, Refusal> {
        let key = Key::new(tenant, execution);
        let home = self.inner.home(&key);
        let wait = questions::Wait { key, within };
        self.inner.ask(home, wait).await
    }

    async fn list(&self, query: ListQuery) -> Result<ListPage, Refusal> {
        let inner = &self.inner;
        let homes = inner.homes();
        let pages = homes.map(|home| inner.ask(home, questions::List(query.clone())));
        let mut found = BTreeMap::new();
        for view in try_join_all(pages).await?.into_iter().flatten() {
            found.insert((view.created_at, view.execution.clone()), view);
        }
        let executions: Vec<_> = found.into_values().rev().take(query.limit).collect();
        let last = executions
            .last()
            .filter(|_| executions.len() == query.limit);
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
        let key = Key::new(tenant, execution);
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

    /// Starts an execution of this partition.
    pub(crate) async fn start(
        &self,
        partition: &Partition,
        start: questions::Start,
    ) -> Result<Started, Refusal> {
        let questions::Start {
            key,
            requested,
            plan,
            is_fresh,
        } = start;
        let definitions = &self.definitions;
        let plan = match plan {
            Some(plan) => plan,
            None => definitions.plan_of(&key.tenant, &requested.digest).await?,
        };
        for _ in 0..LOOKS_MAX {
            let answer = self.try_start(partition, &key, &requested, &plan, is_fresh);
            match answer.await? {
                StartAnswer::Started { snapshot, repeated } => {
                    return Ok(Started {
                        execution: key.id,
                        repeated,
                        view: self.render(&snapshot),
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

    async fn try_start(
        &self,
        partition: &Partition,
        key: &Key,
        requested: &Requested,
        plan: &Arc<Plan>,
        is_fresh: bool,
    ) -> Result<StartAnswer, Refusal> {
        let absent_as_of = (!is_fresh).then(|| partition.status().evictions);
        if !is_fresh && let Some(snapshot) = self.find_in_view(partition.id, key).await? {
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

    /// An execution of this partition once it has ended, or as it is after a while.
    pub(crate) async fn wait(
        &self,
        partition: &Partition,
        key: &Key,
        within: Duration,
    ) -> Result<ExecutionView, Refusal> {
        let asked = |reply| Message::Wait {
            key: key.clone(),
            reply,
        };
        let snapshot = match tokio::time::timeout(within, partition.ask(asked)).await {
            Ok(Ok(Some(snapshot))) => snapshot,
            // Not in memory, not ended in time, or the writer stopped: whatever there is to see.
            Ok(Ok(None) | Err(_)) | Err(_) => self.find(partition, key, false).await?,
        };
        Ok(self.render(&snapshot))
    }

    /// The newest executions of this partition that match, at most as many as a page has.
    pub(crate) async fn list(
        &self,
        partition: &Partition,
        query: &ListQuery,
    ) -> Result<Vec<ExecutionView>, Refusal> {
        let now = self.backend.clock.now();
        let mut found = BTreeMap::new();
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
        let rows = self.backend.view.list(partition.id, query.clone()).await;
        let rows = rows.map_err(|error| Refusal::unavailable(error.to_string()))?;
        meters::rows_read(rows.len());
        for row in rows.into_iter().filter(|row| row.status.is_ended()) {
            let view =
                render::from_row(row).map_err(|error| Refusal::unavailable(error.to_string()))?;
            found
                .entry((view.created_at, view.execution.clone()))
                .or_insert(view);
        }
        Ok(found.into_values().rev().take(query.limit).collect())
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
        causation: request.causation,
    }
}
