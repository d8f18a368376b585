//! Agents: they work, fail, fall silent, answer late, twice, with something else, and with what is not theirs.

use std::time::Duration;

use eventflow_domain::{
    AgentName, Capability, DurationMs, Json, Problem, Sequence, error::ErrorKind,
};
use eventflow_ports::inbound::{
    LeaseRequest, LeasedTask, Refusal, ResultOutcome, TaskFailure, TaskResult, TaskToken,
    TaskVerdict, Tasks,
};
use serde_json::json;

use crate::{
    answer::{Answer, Asked},
    callers::{LARGE_BYTES, tenants},
    documents::CAPABILITIES,
    draw::Draw,
    evidence::{AttemptKey, Said},
    ledger::Key,
    run::Run,
};

/// What an agent takes on at once.
const HELD_MAX: usize = 6;
/// Of so many attempts an agent remembers what it answered, to answer again.
const ANSWERED_MAX: usize = 8;
/// Attempts in one lease.
const LEASE_MAX: u64 = 4;

/// A worker of one tenant.
pub(crate) struct Agent {
    tenant: usize,
    name: AgentName,
    capabilities: Vec<Capability>,
    held: Vec<Held>,
    answered: Vec<(AttemptKey, TaskToken, Said)>,
    is_asking: bool,
}

/// An attempt in somebody's hands.
struct Held {
    attempt: AttemptKey,
    token: TaskToken,
    said: Option<Said>,
    /// The turn in which it is done.
    due: u32,
    is_under_way: bool,
}

/// One line of a batch of results.
#[derive(Clone)]
pub(crate) struct Sent {
    attempt: AttemptKey,
    token: TaskToken,
    what: What,
}

#[derive(Clone)]
enum What {
    Result(Said),
    Heartbeat,
    /// What was accepted already.
    Again(Said),
    /// Something else than what was accepted already.
    Otherwise(Said),
    /// With a token that is not theirs, or nobody's.
    Foreign,
}

/// Two or three for each tenant.
pub(crate) fn agents(draw: &mut Draw) -> Vec<Agent> {
    let mut agents = Vec::new();
    for tenant in 0..tenants().len() {
        // The first can do everything, so that nothing waits for ever.
        for number in 0..2 + draw.place(2) {
            let all = CAPABILITIES.map(|name| Capability::parse(name).expect("a name"));
            let some = 1 + draw.place(CAPABILITIES.len());
            let capabilities = if number == 0 { &all[..] } else { &all[..some] };
            agents.push(Agent {
                tenant,
                name: AgentName::parse(&format!("agent-{tenant}-{number}")).expect("a name"),
                capabilities: capabilities.to_vec(),
                held: Vec::new(),
                answered: Vec::new(),
                is_asking: false,
            });
        }
    }
    agents
}

impl Run {
    /// An agent asks for work.
    pub(crate) fn lease(&mut self, agent: usize) {
        if self.agents[agent].is_asking || self.agents[agent].held.len() >= HELD_MAX {
            return;
        }
        let Some(line) = self.line() else { return };
        let tenant = tenants()[self.agents[agent].tenant].clone();
        let wait = if self.is_calm {
            0
        } else {
            self.draw.one_of(&[0, 0, 5, 40])
        };
        let lease_for = self.draw.one_of(&[None, None, Some(5_000), Some(30_000)]);
        let request = LeaseRequest {
            agent: self.agents[agent].name.clone(),
            capabilities: self.agents[agent].capabilities.clone(),
            max: usize::try_from(self.draw.number(1..=LEASE_MAX)).expect("a small number"),
            wait: Duration::from_millis(wait),
            lease_for: lease_for.map(DurationMs),
        };
        let held = self.lives.of(line.by.life).into_iter();
        let held = held.flat_map(|life| life.held.clone()).collect();
        self.agents[agent].is_asking = true;
        let name = &request.agent;
        if !self.is_calm {
            self.say(format_args!("{name} asks life {} for work", line.by.life));
        }
        let engine = line.engine.clone();
        let asking = async move { engine.lease(&tenant, request).await };
        self.ask(line, "lease", asking, move |by, answer| Answer::Leased {
            by,
            agent,
            held,
            answer,
        });
    }

    pub(crate) fn leased(
        &mut self,
        by: Asked,
        agent: usize,
        held: &[(Key, Sequence)],
        answer: Result<Vec<LeasedTask>, Refusal>,
    ) {
        self.agents[agent].is_asking = false;
        let tasks = match answer {
            Ok(tasks) => tasks,
            Err(refusal) => {
                return self.say(format_args!("  lease from life {}: {refusal}", by.life));
            }
        };
        for task in tasks {
            self.take_on(by, agent, held, &task);
        }
    }

    fn take_on(&mut self, by: Asked, agent: usize, held: &[(Key, Sequence)], task: &LeasedTask) {
        let tenant = tenants()[self.agents[agent].tenant].clone();
        let key: Key = (tenant, task.execution.clone());
        let attempt: AttemptKey = (key.clone(), task.task.clone(), task.attempt);
        if !self
            .world
            .ledger
            .is_ready(&task.execution, &task.task, task.attempt)
        {
            let finding = format!(
                "{} attempt {} of {} was leased, which the journal has not scheduled",
                task.task, task.attempt, task.execution
            );
            self.evidence.find(finding);
        }
        // Held back when it was asked for, and not let go since.
        let is_held = self
            .lives
            .of(by.life)
            .is_some_and(|life| life.held.contains_key(&key));
        let begun_by = held.iter().find(|(of, _)| *of == key && is_held);
        let begun_by = begun_by.map(|(_, sequence)| *sequence);
        self.evidence.lease(&key, task, begun_by);
        let said = self.intent(task);
        let name = self.agents[agent].name.clone();
        self.say(format_args!(
            "  {name} takes {}{} attempt {} from life {}: {}",
            key.1,
            task.task,
            task.attempt,
            by.life,
            match &said {
                None => "falls silent",
                Some(Said::Done(_)) => "works",
                Some(Said::Failed(_)) => "fails",
            }
        ));
        let delay = self.draw.one_of(&[0, 0, 0, 1, 3, 12]);
        let due = self.trace.turn() + if self.is_calm { 0 } else { delay };
        self.agents[agent].held.push(Held {
            attempt,
            token: task.token.clone(),
            said,
            due,
            is_under_way: false,
        });
    }

    /// What will come of it; nothing where the agent falls silent.
    fn intent(&mut self, task: &LeasedTask) -> Option<Said> {
        let temper = self.temper;
        if self.is_calm {
            return Some(self.done(task));
        }
        if self.draw.happens(temper.silence) {
            return None;
        }
        if self.draw.happens(temper.failure) {
            return Some(self.failed());
        }
        Some(self.done(task))
    }

    fn done(&mut self, task: &LeasedTask) -> Said {
        let mut output = json!({"n": self.draw.number(0..=9), "by": format!("{} {}", task.capability, task.attempt)});
        if self.draw.happens(8) {
            output["text"] = json!("y".repeat(LARGE_BYTES));
        }
        Said::Done(Json::of(&output))
    }

    fn failed(&mut self) -> Said {
        let kind = self.draw.one_of(&[
            ErrorKind::Runtime,
            ErrorKind::Communication,
            ErrorKind::Timeout,
        ]);
        let number = self.draw.number(0..=99);
        Said::Failed(TaskFailure {
            error: Problem::new(kind, "It did not work", format!("reason {number}")),
            retryable: self.draw.happens(800),
            retry_after: self.draw.happens(100).then_some(DurationMs(5_000)),
        })
    }

    /// An agent says what it has to say, in one batch.
    pub(crate) fn bring(&mut self, agent: usize) {
        let mut batch = Vec::new();
        let turn = self.trace.turn();
        for place in 0..self.agents[agent].held.len() {
            let beats = self.draw.happens(300);
            let held = &mut self.agents[agent].held[place];
            if held.is_under_way {
                continue;
            }
            let what = match &held.said {
                Some(said) if turn >= held.due => {
                    held.is_under_way = true;
                    What::Result(said.clone())
                }
                Some(_) if beats => What::Heartbeat,
                Some(_) | None => continue,
            };
            batch.push(Sent {
                attempt: held.attempt.clone(),
                token: held.token.clone(),
                what,
            });
        }
        if !self.is_calm {
            self.add_mischief(agent, &mut batch);
        }
        self.send(agent, batch);
    }

    /// What nobody asked for.
    fn add_mischief(&mut self, agent: usize, batch: &mut Vec<Sent>) {
        let remembered = self.agents[agent].answered.len();
        if remembered > 0 && self.draw.happens(150) {
            let (attempt, token, said) =
                self.agents[agent].answered[self.draw.place(remembered)].clone();
            let what = if self.draw.happens(500) {
                What::Again(said)
            } else {
                What::Otherwise(Said::Done(Json::of(&json!({"n": 1_000}))))
            };
            batch.push(Sent {
                attempt,
                token,
                what,
            });
        }
        if self.draw.happens(40) {
            let other = &self.agents[self.draw.place(self.agents.len())];
            let is_foreign = other.tenant != self.agents[agent].tenant;
            let theirs = other.held.first().filter(|_| is_foreign);
            let own = self.agents[agent].held.first();
            let forged = |held: &Held| TaskToken(format!("{}A", held.token.0).into());
            let token = theirs
                .map(|held| held.token.clone())
                .or_else(|| own.map(forged));
            if let (Some(token), Some(held)) = (token, theirs.or(own)) {
                batch.push(Sent {
                    attempt: held.attempt.clone(),
                    token,
                    what: What::Foreign,
                });
            }
        }
    }

    fn send(&mut self, agent: usize, sent: Vec<Sent>) {
        if sent.is_empty() {
            return;
        }
        let Some(line) = self.line() else {
            for held in &mut self.agents[agent].held {
                held.is_under_way = false;
            }
            return;
        };
        for sent in &sent {
            if let What::Result(said) | What::Again(said) | What::Otherwise(said) = &sent.what {
                self.evidence.bring(&sent.attempt, said);
            }
        }
        let results = sent.iter().map(Sent::result).collect();
        let tenant = tenants()[self.agents[agent].tenant].clone();
        let name = self.agents[agent].name.clone();
        self.say(format_args!(
            "{name} brings {} results to life {}",
            sent.len(),
            line.by.life
        ));
        let engine = line.engine.clone();
        let asking = async move { Ok(engine.results(&tenant, results).await) };
        self.ask(line, "batch of results", asking, move |by, answer| {
            Answer::Brought {
                by,
                agent,
                answer: answer
                    .unwrap_or_else(|refusal| vec![ResultOutcome::Refused(refusal); sent.len()]),
                sent,
            }
        });
    }

    pub(crate) fn brought(
        &mut self,
        by: Asked,
        agent: usize,
        sent: Vec<Sent>,
        answers: Vec<ResultOutcome>,
    ) {
        if answers.len() != sent.len() {
            let finding = format!("{} results got {} answers", sent.len(), answers.len());
            self.evidence.find(finding);
        }
        for (sent, answer) in sent.into_iter().zip(answers) {
            self.answered(by, agent, sent, &answer);
        }
    }

    fn answered(&mut self, by: Asked, agent: usize, sent: Sent, answer: &ResultOutcome) {
        let Sent {
            attempt,
            token,
            what,
        } = sent;
        let ((_, execution), task, number) = &attempt;
        let name = format!("{execution}{task} attempt {number}");
        let passing = matches!(
            answer,
            ResultOutcome::Refused(Refusal::Unavailable { .. } | Refusal::Busy { .. })
        );
        match (what, answer) {
            (What::Foreign, ResultOutcome::Refused(Refusal::NotFound(_))) => {}
            (What::Foreign, answer) => {
                if !passing {
                    let finding = format!("a token that is not theirs for {name} got {answer:?}");
                    self.evidence.find(finding);
                }
            }
            (What::Result(said), ResultOutcome::Accepted) => {
                self.say(format_args!("  {name} accepted"));
                self.evidence.accept(&attempt, &said);
                self.let_go(agent, &attempt);
                let answered = &mut self.agents[agent].answered;
                if answered.len() == ANSWERED_MAX {
                    answered.remove(0);
                }
                answered.push((attempt, token, said));
            }
            (What::Result(_), ResultOutcome::Refused(refusal)) if !passing => {
                self.say(format_args!("  {name} by life {}: {refusal}", by.life));
                if self.is_new(by) && matches!(refusal, Refusal::NotFound(_)) {
                    let finding = format!("the result of {name} was refused: {refusal}");
                    self.evidence.find(finding);
                }
                self.let_go(agent, &attempt);
            }
            (What::Result(_), _) => {
                self.say(format_args!("  {name} by life {}: not answered", by.life));
                for held in &mut self.agents[agent].held {
                    held.is_under_way &= held.attempt != attempt;
                }
            }
            (What::Heartbeat, ResultOutcome::Alive(beat)) => {
                if beat.cancelled && self.draw.happens(500) {
                    self.let_go(agent, &attempt);
                }
            }
            (What::Again(_), ResultOutcome::Refused(refusal)) if !passing && self.is_new(by) => {
                let finding = format!("{name} was accepted, and the same again: {refusal}");
                self.evidence.find(finding);
            }
            (What::Otherwise(_), ResultOutcome::Accepted) => {
                let finding = format!("{name} was accepted twice, with different results");
                self.evidence.find(finding);
            }
            (What::Again(_) | What::Otherwise(_) | What::Heartbeat, _) => {}
        }
    }

    fn let_go(&mut self, agent: usize, attempt: &AttemptKey) {
        let held = &mut self.agents[agent].held;
        held.retain(|held| held.attempt != *attempt);
    }

    /// From now on they work well: what somebody fell silent about is done after all, or forgotten.
    pub(crate) fn pull_themselves_together(&mut self) {
        let forgets = self.draw.happens(500);
        for agent in &mut self.agents {
            for held in &mut agent.held {
                held.due = 0;
            }
            agent.held.retain(|held| held.said.is_some() && !forgets);
        }
    }
}

impl Sent {
    fn result(&self) -> TaskResult {
        let verdict = match &self.what {
            What::Result(said) | What::Again(said) | What::Otherwise(said) => said.verdict(),
            What::Foreign => TaskVerdict::Complete(Json::of(&json!({"n": 0}))),
            What::Heartbeat => TaskVerdict::Heartbeat,
        };
        TaskResult {
            token: self.token.clone(),
            verdict,
        }
    }
}
