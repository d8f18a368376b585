//! Whoever starts, steers and watches executions: asks, asks again, asks what is not theirs.

use std::{collections::BTreeMap, sync::Arc};

use eventflow_domain::{
    ExecutionId, Json, Sequence, Tenant, limits::INLINE_VALUE_BYTES_MAX, plan::Plan,
};
use eventflow_ports::{
    ListQuery,
    inbound::{
        Action, Controls, ExecutionView, Executions, HistoryPage, ListPage, Refusal,
        StartExecution, Started, WorkflowRef,
    },
};
use serde_json::json;

use crate::{
    answer::{Answer, Asked},
    documents,
    draw::Draw,
    evidence::Ordered,
    ledger::Key,
    run::Run,
};

/// Beyond what stays inline, bytes: such a value is stored as a blob.
pub(crate) const LARGE_BYTES: usize = INLINE_VALUE_BYTES_MAX + 1;
/// Executions of one world.
const STARTS: std::ops::RangeInclusive<u64> = 2..=7;
/// Documents of one world.
const DOCUMENTS: std::ops::RangeInclusive<u64> = 1..=4;
/// More than one world has.
const LIST_MAX: usize = 100;
/// Events of one page.
const PAGE_MAX: usize = 40;

/// An execution that is to be.
pub(crate) struct Planned {
    pub(crate) key: Key,
    /// What it runs.
    pub(crate) plan: Arc<Plan>,
    request: StartExecution,
}

impl Planned {
    /// One line of a story.
    pub(crate) fn describe(&self) -> String {
        let WorkflowRef::Inline(document) = &self.request.workflow else {
            return String::new();
        };
        let input = self.request.input.as_str();
        let input = if input.len() > 200 { "large" } else { input };
        format!("{}/{} with {input}: {document:?}", self.key.0, self.key.1)
    }

    pub(crate) fn input(&self) -> Json {
        self.request.input.clone()
    }
}

/// The tenants of every world.
pub(crate) fn tenants() -> [Tenant; 2] {
    ["north", "south"].map(|name| Tenant::parse(name).expect("a name"))
}

/// What a world is asked to run.
pub(crate) fn planned(draw: &mut Draw) -> Vec<Planned> {
    let count = usize::try_from(draw.number(DOCUMENTS)).expect("a small number");
    let compiled = |document: Json| {
        let plan = eventflow_dsl::compile(&document).expect("every document compiles");
        (document, Arc::new(plan))
    };
    let documents: Vec<_> = (0..count)
        .map(|number| compiled(Json::of(&documents::document(draw, number))))
        .collect();
    (0..draw.number(STARTS))
        .map(|number| plan_one(draw, number, &documents))
        .collect()
}

fn plan_one(draw: &mut Draw, number: u64, documents: &[(Json, Arc<Plan>)]) -> Planned {
    let tenant = tenants()[draw.place(2)].clone();
    // The other tenant may use the same name.
    let name = format!("{}-{number}", tenant.as_str());
    let name = if number == 0 { "x".to_owned() } else { name };
    let mut input = json!({"n": draw.number(0..=9)});
    if draw.happens(30) {
        input["text"] = json!("x".repeat(LARGE_BYTES));
    }
    let by_key = draw.happens(300);
    let id = if by_key {
        ExecutionId::derived(&tenant, "idempotency-key", &[&name])
    } else {
        ExecutionId::parse(&name).expect("a name")
    };
    let (document, plan) = documents[draw.place(documents.len())].clone();
    let request = StartExecution {
        tenant: tenant.clone(),
        workflow: WorkflowRef::Inline(document),
        input: Json::of(&input),
        execution: (!by_key).then(|| id.clone()),
        idempotency_key: by_key.then_some(name),
        correlation: None,
        labels: BTreeMap::from([("number".to_owned(), number.to_string())]),
        traceparent: None,
        causation: None,
    };
    Planned {
        key: (tenant, id),
        plan,
        request,
    }
}

/// Whether it may have been done, and may be asked again.
fn is_passing(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Unavailable { .. } | Refusal::Busy { .. })
}

impl Run {
    /// Starts one of them, for the first time or again; at times with something else in it.
    pub(crate) fn start(&mut self, start: usize) {
        let Some(line) = self.line() else { return };
        let Planned { key, request, .. } = &self.planned[start];
        let (key, mut request) = (key.clone(), request.clone());
        let was_known = self.evidence.started.contains(&key);
        let is_impostor = was_known && !self.is_calm && self.draw.happens(200);
        if is_impostor {
            request.input = Json::of(&json!({"n": 77}));
        }
        self.say(format_args!(
            "start {}/{}{}",
            key.0,
            key.1,
            if is_impostor {
                " with something else"
            } else {
                ""
            }
        ));
        let engine = line.engine.clone();
        let asking = async move { engine.start(request).await };
        self.ask(line, "start", asking, move |by, answer| Answer::Started {
            by,
            start,
            is_impostor,
            was_known,
            answer,
        });
    }

    pub(crate) fn started(
        &mut self,
        by: Asked,
        start: usize,
        is_impostor: bool,
        was_known: bool,
        answer: Result<Started, Refusal>,
    ) {
        let key = self.planned[start].key.clone();
        let name = format!("{}/{}", key.0, key.1);
        match answer {
            Ok(_) if is_impostor => {
                let finding = format!("{name} was started again with something else in it");
                self.evidence.find(finding);
            }
            Ok(started) => {
                self.say(format_args!(
                    "  {name} started, repeated: {}",
                    started.repeated
                ));
                if started.execution != key.1 {
                    let finding = format!("{name} was started as {}", started.execution);
                    self.evidence.find(finding);
                }
                if was_known && !started.repeated {
                    let finding = format!("{name} was started twice");
                    self.evidence.find(finding);
                }
                self.evidence.see(&key, started.view.sequence);
                self.evidence.started.insert(key);
            }
            Err(Refusal::Contradiction(_)) if is_impostor => {}
            Err(refusal) if is_passing(&refusal) => {
                self.say(format_args!("  {name} by life {}: {refusal}", by.life));
            }
            Err(refusal) => {
                let finding = format!("the start of {name} was refused: {refusal}");
                self.evidence.find(finding);
            }
        }
    }

    /// Pauses, resumes or stops one of them.
    pub(crate) fn control(&mut self, start: usize, action: Action) {
        let Some(line) = self.line() else { return };
        let key = self.planned[start].key.clone();
        self.say(format_args!("{action:?} {}/{}", key.0, key.1));
        let round = self.lives.of(line.by.life).and_then(|asked| {
            if action == Action::Resume {
                asked.resume(&key);
            }
            asked.round(&key)
        });
        let (engine, (tenant, id)) = (line.engine.clone(), key.clone());
        let asking = async move { engine.control(&tenant, &id, action, None).await };
        self.ask(line, "control", asking, move |by, answer| {
            Answer::Controlled {
                by,
                key,
                action,
                round,
                answer,
            }
        });
    }

    pub(crate) fn controlled(
        &mut self,
        by: Asked,
        key: &Key,
        action: Action,
        round: Option<u32>,
        answer: Result<ExecutionView, Refusal>,
    ) {
        let name = format!("{}/{}", key.0, key.1);
        if action == Action::Resume
            && let Some(life) = self.lives.of(by.life)
        {
            life.resumed(key);
        }
        match answer {
            Ok(view) => {
                self.say(format_args!(
                    "  {action:?} {name}: {}",
                    view.status.as_str()
                ));
                self.evidence.see(key, view.sequence);
                self.evidence.controls.push(Ordered {
                    key: key.clone(),
                    action,
                    by: self.world.latest(),
                });
                if action != Action::Resume
                    && let Some(life) = self.lives.of(by.life)
                    && round.is_some()
                    && life.round(key) == round
                {
                    life.held.insert(key.clone(), view.sequence);
                }
            }
            Err(Refusal::NotFound(_)) if by.led && self.evidence.started.contains(key) => {
                // It may have been acknowledged after the order was sent: then it need not have been there.
                self.say(format_args!("  {action:?} {name}: not found"));
            }
            Err(refusal) => self.say(format_args!("  {action:?} {name}: {refusal}")),
        }
    }

    /// Looks at one, as its tenant or as the other one.
    pub(crate) fn look(&mut self, start: usize) {
        let Some(line) = self.line() else { return };
        let mut key = self.planned[start].key.clone();
        if self.draw.happens(150) {
            let other = tenants().into_iter().find(|tenant| *tenant != key.0);
            key.0 = other.expect("there are two");
        }
        let seen = self.evidence.seen(&key);
        let engine = line.engine.clone();
        let (tenant, id) = key.clone();
        if self.draw.happens(500) {
            let asking = async move { engine.view(&tenant, &id).await };
            self.ask(line, "view", asking, move |by, answer| Answer::Viewed {
                by,
                key,
                seen,
                answer,
            });
        } else {
            let asking = async move { engine.history(&tenant, &id, Sequence(0), PAGE_MAX).await };
            self.ask(line, "history", asking, move |by, answer| Answer::Read {
                by,
                key,
                seen,
                answer,
            });
        }
    }

    pub(crate) fn viewed(
        &mut self,
        by: Asked,
        key: &Key,
        seen: Sequence,
        answer: Result<ExecutionView, Refusal>,
    ) {
        let name = format!("{}/{}", key.0, key.1);
        match answer {
            Ok(_) if !self.is_planned(key) => {
                let finding = format!("{name} was shown, which is nobody's or another's");
                self.evidence.find(finding);
            }
            Ok(view) if self.is_new(by) && view.sequence < seen => {
                let finding = format!(
                    "{name} was shown at event {}, after event {seen} had been",
                    view.sequence
                );
                self.evidence.find(finding);
            }
            Ok(view) => self.evidence.see(key, view.sequence),
            Err(Refusal::NotFound(detail)) if self.is_new(by) && seen > Sequence(0) => {
                let finding = format!("{name} was not found after it had been: {detail}");
                self.evidence.find(finding);
            }
            Err(_) => {}
        }
    }

    pub(crate) fn read(
        &mut self,
        by: Asked,
        key: &Key,
        seen: Sequence,
        answer: Result<HistoryPage, Refusal>,
    ) {
        let name = format!("{}/{}", key.0, key.1);
        match answer {
            Ok(_) if !self.is_planned(key) => {
                let finding = format!("the history of {name} was shown, which is another's");
                self.evidence.find(finding);
            }
            Ok(page) => {
                let numbers = page.events.iter().map(|event| event.sequence.0);
                if !numbers.eq(1..=page.events.len() as u64) {
                    let finding = format!("the history of {name} has gaps");
                    self.evidence.find(finding);
                }
                let expected = seen.0.min(PAGE_MAX as u64);
                if self.is_new(by) && (page.events.len() as u64) < expected {
                    let finding = format!("the history of {name} ends before event {seen}");
                    self.evidence.find(finding);
                }
            }
            Err(Refusal::NotFound(detail)) if self.is_new(by) && seen > Sequence(0) => {
                let finding = format!("the history of {name} was not found: {detail}");
                self.evidence.find(finding);
            }
            Err(_) => {}
        }
    }

    /// Lists everything of a tenant.
    pub(crate) fn list(&mut self, tenant: usize) {
        let Some(line) = self.line() else { return };
        let owner = tenants()[tenant].clone();
        let started = self.evidence.started.iter();
        let known = started.filter(|key| key.0 == owner).cloned().collect();
        let query = ListQuery {
            tenant: owner,
            statuses: Vec::new(),
            workflow: None,
            labels: Vec::new(),
            started_after: None,
            started_before: None,
            before: None,
            limit: LIST_MAX,
        };
        let engine = line.engine.clone();
        let asking = async move { engine.list(query).await };
        self.ask(line, "list", asking, move |by, answer| Answer::Listed {
            by,
            tenant,
            known,
            answer,
        });
    }

    pub(crate) fn listed(
        &mut self,
        by: Asked,
        tenant: usize,
        known: &[Key],
        answer: Result<ListPage, Refusal>,
    ) {
        let Ok(page) = answer else { return };
        let owner = &tenants()[tenant];
        let shown: Vec<Key> = page
            .executions
            .iter()
            .map(|view| (view.tenant.clone(), view.execution.clone()))
            .collect();
        for key in &shown {
            if key.0 != *owner || !self.is_planned(key) {
                let finding = format!("{owner}'s list shows {}/{}", key.0, key.1);
                self.evidence.find(finding);
            }
        }
        for key in known {
            let times = shown.iter().filter(|shown| shown.1 == key.1).count();
            if times != 1 && self.is_new(by) {
                let finding = format!("{}/{} is in its tenant's list {times} times", key.0, key.1);
                self.evidence.find(finding);
            }
        }
    }

    fn is_planned(&self, key: &Key) -> bool {
        self.planned.iter().any(|planned| planned.key == *key)
    }

    /// Whether it led when it was asked and still does: then it must know of everything that anybody was told.
    pub(crate) fn is_new(&self, by: Asked) -> bool {
        by.led && self.lives.leads(by.life)
    }
}
