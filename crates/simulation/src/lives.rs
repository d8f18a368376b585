//! The lives of engines: one leads, another may not know yet that it does not, and every one may die at any time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use eventflow_adapter_memory::Faults;
use eventflow_domain::Sequence;
use eventflow_engine::{Engine, Node, StartError};
use eventflow_ports::inbound::System;
use tokio::{sync::Semaphore, task::AbortHandle};

use crate::{
    answer::Answer,
    ledger::Key,
    run::Run,
    world::{Latency, NODES},
};

/// A life that has not been ready for so many turns is taken away by whoever watches it.
const PATIENCE_TURNS: u32 = 25;

/// One process.
pub(crate) struct Life {
    pub(crate) number: u32,
    pub(crate) node: usize,
    pub(crate) engine: Arc<Engine>,
    pub(crate) faults: Faults,
    /// What it has acknowledged to hold back, and at which event.
    pub(crate) held: BTreeMap<Key, Sequence>,
    /// How often it was asked to resume each, and how often it has answered.
    resumes: BTreeMap<Key, (u32, u32)>,
    /// Closed when it is: then nobody waits for an answer any more.
    pub(crate) gone: Arc<Semaphore>,
    unready_since: Option<u32>,
    is_closing: bool,
}

impl Life {
    /// It is asked to resume an execution: from here on it may hold nothing back any more.
    pub(crate) fn resume(&mut self, key: &Key) {
        self.held.remove(key);
        self.resumes.entry(key.clone()).or_default().0 += 1;
    }

    /// It has answered that.
    pub(crate) fn resumed(&mut self, key: &Key) {
        self.resumes.entry(key.clone()).or_default().1 += 1;
    }

    /// How often it was asked that; none while an answer is still to come.
    pub(crate) fn round(&self, key: &Key) -> Option<u32> {
        let (asked, answered) = self.resumes.get(key).copied().unwrap_or_default();
        (asked == answered).then_some(asked)
    }

    fn end(&self) {
        self.engine.abort();
        self.gone.close();
    }
}

/// A process that recovers.
pub(crate) struct Birth {
    pub(crate) number: u32,
    pub(crate) node: usize,
    pub(crate) faults: Faults,
    /// Whether it began when nothing went wrong any more.
    is_calm: bool,
    task: AbortHandle,
}

/// All processes there are.
#[derive(Default)]
pub(crate) struct Lives {
    pub(crate) leader: Option<Life>,
    /// One that was taken over from and does not know.
    pub(crate) zombie: Option<Life>,
    pub(crate) birth: Option<Birth>,
    pub(crate) last: u32,
}

impl Lives {
    /// Where something runs.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        let lives = [&self.leader, &self.zombie].into_iter().flatten();
        let born = self.birth.iter().map(|birth| birth.node);
        lives.map(|life| life.node).chain(born).collect()
    }

    pub(crate) fn leads(&self, number: u32) -> bool {
        self.leader
            .as_ref()
            .is_some_and(|leader| leader.number == number && !leader.is_closing)
    }

    pub(crate) fn of(&mut self, number: u32) -> Option<&mut Life> {
        [&mut self.leader, &mut self.zombie]
            .into_iter()
            .flatten()
            .find(|life| life.number == number)
    }
}

impl Run {
    /// Buries what has died and makes sure that somebody leads, or will.
    pub(crate) fn keep_alive(&mut self) {
        if let Some(birth) = &self.lives.birth
            && birth.faults.tripped()
        {
            let number = birth.number;
            self.say(format_args!("life {number} died while it was born"));
            self.abort_birth();
        }
        if let Some(zombie) = &self.lives.zombie
            && zombie.faults.tripped()
        {
            self.kill_zombie("it died");
        }
        if let Some(leader) = &self.lives.leader
            && leader.faults.tripped()
        {
            self.kill_leader("it died");
        }
        self.take_away_the_unready();
        if self.lives.leader.is_none() && self.lives.birth.is_none() {
            // Where the other one still runs there is no place for a second process.
            let zombie = self.lives.zombie.as_ref().map(|zombie| zombie.node);
            let node = match zombie {
                Some(node) => NODES - 1 - node,
                None => self.draw.place(NODES),
            };
            self.give_birth(node);
        }
    }

    /// Whether every partition is led.
    pub(crate) fn is_ready(&self) -> bool {
        self.lives.leader.as_ref().is_some_and(|leader| {
            let node = Node::new(leader.engine.clone(), String::new);
            !leader.faults.tripped() && node.readiness().is_ok()
        })
    }

    /// What a supervisor does with a process that says for long that it is not ready.
    fn take_away_the_unready(&mut self) {
        let turn = self.trace.turn();
        let Some(leader) = &mut self.lives.leader else {
            return;
        };
        let ready = Node::new(leader.engine.clone(), String::new).readiness();
        let Err(reasons) = ready else {
            leader.unready_since = None;
            return;
        };
        // What every kind of damage asks for.
        if let Some(damage) = reasons
            .iter()
            .find(|reason| reason.contains("estore a backup"))
        {
            let finding = format!("life {}: {damage}", leader.number);
            self.is_hopeless = true;
            return self.evidence.find(finding);
        }
        let since = *leader.unready_since.get_or_insert(turn);
        if turn - since > PATIENCE_TURNS && !leader.is_closing {
            self.kill_leader(&reasons.join("; "));
        }
    }

    pub(crate) fn kill_leader(&mut self, why: &str) {
        if let Some(leader) = self.lives.leader.take() {
            leader.end();
            self.say(format_args!("life {} ends: {why}", leader.number));
        }
    }

    pub(crate) fn kill_zombie(&mut self, why: &str) {
        if let Some(zombie) = self.lives.zombie.take() {
            zombie.end();
            self.say(format_args!("life {} ends: {why}", zombie.number));
        }
    }

    fn abort_birth(&mut self) {
        if let Some(birth) = self.lives.birth.take() {
            birth.task.abort();
        }
    }

    /// A new process recovers on this node.
    pub(crate) fn give_birth(&mut self, node: usize) {
        self.lives.last += 1;
        let number = self.lives.last;
        let faults = Faults::new();
        let latency = if self.is_calm {
            Duration::ZERO
        } else {
            self.temper.latency
        };
        let latency = Latency {
            journal: latency,
            others: latency / 2,
        };
        let draw = self.draw.split();
        let backend = self.world.backend(node, &faults, latency, draw);
        let config = self.world.config(number);
        let answers = self.answers.clone();
        self.say(format_args!("life {number} is born on node {node}"));
        let task = tokio::spawn(async move {
            let born = Engine::start(backend, config).await;
            let _ = answers.send((0, Answer::Born(number, born)));
        });
        self.lives.birth = Some(Birth {
            number,
            node,
            faults,
            is_calm: self.is_calm,
            task: task.abort_handle(),
        });
        self.tally.lives += 1;
    }

    /// It leads, or it could not.
    pub(crate) fn born(&mut self, number: u32, born: Result<Engine, StartError>) {
        let Some(birth) = self.lives.birth.take_if(|birth| birth.number == number) else {
            return;
        };
        match born {
            Ok(engine) => {
                self.say(format_args!("life {number} leads"));
                if let Some(mut old) = self.lives.leader.take() {
                    self.kill_zombie("there is no third node");
                    old.unready_since = None;
                    self.lives.zombie = Some(old);
                    if self.is_calm {
                        self.kill_zombie("there is one engine from here on");
                    }
                }
                self.lives.leader = Some(Life {
                    number,
                    node: birth.node,
                    engine: Arc::new(engine),
                    faults: birth.faults,
                    held: BTreeMap::new(),
                    resumes: BTreeMap::new(),
                    gone: Arc::new(Semaphore::new(0)),
                    unready_since: None,
                    is_closing: false,
                });
            }
            Err(error) => {
                self.say(format_args!("life {number} cannot lead: {error}"));
                self.tally.failed_births += 1;
                let is_damage = matches!(
                    error,
                    StartError::Damaged { .. }
                        | StartError::Hole { .. }
                        | StartError::JournalBehindView { .. }
                );
                if is_damage || (birth.is_calm && !matches!(error, StartError::NotLed { .. })) {
                    self.evidence
                        .find(format!("life {number} cannot lead: {error}"));
                    self.is_hopeless |= is_damage;
                }
            }
        }
    }

    /// The leader lets nothing new in, finishes and ends.
    pub(crate) fn shut_down(&mut self) {
        let Some(leader) = &mut self.lives.leader else {
            return;
        };
        if std::mem::replace(&mut leader.is_closing, true) {
            return;
        }
        let (number, engine) = (leader.number, leader.engine.clone());
        let answers = self.answers.clone();
        self.say(format_args!("life {number} is asked to end"));
        tokio::spawn(async move {
            engine.shutdown().await;
            let _ = answers.send((0, Answer::Ended(number)));
        });
    }

    pub(crate) fn ended(&mut self, number: u32) {
        if self
            .lives
            .leader
            .as_ref()
            .is_some_and(|leader| leader.number == number)
        {
            self.kill_leader("it was asked to");
        }
    }
}
