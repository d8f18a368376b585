//! One world's run: turns in which things are asked, answered and go wrong, then calm, in which everything must come to
//! its end by itself.

use std::{collections::BTreeMap, fmt::Arguments, time::Duration};

use eventflow_domain::{DurationMs, Timestamp, execution::Event};
use eventflow_ports::{
    Clock,
    inbound::{Action, Controls, ExecutionView, Executions},
};
use tokio::sync::mpsc;

use crate::{
    agents::{self, Agent},
    answer::{Answer, Asked},
    callers::{self, Planned, tenants},
    chaos::Temper,
    draw::Draw,
    evidence::Evidence,
    ledger::{Books, Key},
    lives::Lives,
    oracle,
    report::{Outcome, Tally},
    trace::Trace,
    world::World,
};

/// Turns in which things go wrong.
const TURNS: std::ops::RangeInclusive<u64> = 25..=60;
/// Turns of calm that no world needs.
const CALM_TURNS_MAX: u32 = 4_000;
/// Nothing waits for so long but an execution's own time-out: all waits, delays, leases and jumps of a world together.
const CALM_MAX: DurationMs = DurationMs::from_secs(8 * 60 * 60);
/// Turns in which nothing moves, and nothing will.
const IDLE_TURNS_MAX: u32 = 40;
/// Turns of calm within which everything is answered.
const ANSWER_TURNS_MAX: u32 = 300;
/// The longest that time is moved on at once while things go wrong.
const STRIDE_MAX: DurationMs = DurationMs::from_secs(120);
/// The longest that time is moved on at once while nothing but time is waited for.
const CALM_STRIDE_MAX: DurationMs = DurationMs::from_secs(30);
/// An answer that does not come within so long does not come; of tokio's paused time.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// A request that was not answered yet.
pub(crate) struct Request {
    pub(crate) what: &'static str,
    pub(crate) by: Asked,
    pub(crate) since: u32,
}

/// The driver.
pub(crate) struct Run {
    pub(crate) draw: Draw,
    pub(crate) temper: Temper,
    pub(crate) world: World,
    pub(crate) lives: Lives,
    pub(crate) planned: Vec<Planned>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) evidence: Evidence,
    pub(crate) trace: Trace,
    pub(crate) tally: Tally,
    pub(crate) answers: mpsc::UnboundedSender<(u64, Answer)>,
    heard: mpsc::UnboundedReceiver<(u64, Answer)>,
    /// In the order in which they were made.
    pub(crate) under_way: BTreeMap<u64, Request>,
    pub(crate) last_request: u64,
    pub(crate) outage_until: Option<u32>,
    /// Faults have ceased.
    pub(crate) is_calm: bool,
    /// It will never come to an end.
    pub(crate) is_hopeless: bool,
}

/// Runs the world of one seed.
pub(crate) async fn run(seed: u64) -> Outcome {
    let mut draw = Draw::of(seed);
    let (answers, heard) = mpsc::unbounded_channel();
    let mut run = Run {
        temper: Temper::of(&mut draw),
        world: World::new(&mut draw),
        lives: Lives::default(),
        planned: callers::planned(&mut draw),
        agents: agents::agents(&mut draw),
        evidence: Evidence::default(),
        trace: Trace::default(),
        tally: Tally::default(),
        answers,
        heard,
        under_way: BTreeMap::new(),
        last_request: 0,
        outage_until: None,
        is_calm: false,
        is_hopeless: false,
        draw,
    };
    run.whole().await;
    run.outcome(seed)
}

impl Run {
    async fn whole(&mut self) {
        self.introduce();
        for _ in 0..self.draw.number(TURNS) {
            self.turn().await;
        }
        self.calm().await;
        if !self.is_hopeless {
            self.look_back().await;
        }
    }

    fn introduce(&mut self) {
        let (temper, partitions) = (self.temper, self.world.partitions);
        self.say(format_args!("{partitions} partitions, {temper:?}"));
        for planned in 0..self.planned.len() {
            let line = self.planned[planned].describe();
            self.say(format_args!("{line}"));
        }
    }

    pub(crate) fn say(&mut self, line: Arguments<'_>) {
        let now = self.now();
        self.trace.say(now, line);
    }

    fn now(&self) -> Timestamp {
        let node = self.lives.leader.as_ref().map_or(0, |leader| leader.node);
        self.world.nodes[node].clock.now()
    }

    async fn turn(&mut self) {
        self.trace.next_turn();
        self.keep_alive();
        self.go_wrong();
        for _ in 0..self.draw.number(1..=4) {
            self.act();
        }
        let span = self.draw.one_of(&[1, 1, 1, 4, 20, 120]);
        self.settle(span).await;
        self.let_time_pass();
    }

    /// Somebody does something.
    fn act(&mut self) {
        if self.draw.happens(self.temper.orders) {
            let action =
                self.draw
                    .weighted(&[(5, Action::Pause), (6, Action::Resume), (2, Action::Stop)]);
            let start = self.draw.place(self.planned.len());
            return self.control(start, action);
        }
        let start = self.draw.place(self.planned.len());
        let agent = self.draw.place(self.agents.len());
        let is_known = self.evidence.started.contains(&self.planned[start].key);
        match self.draw.place(20) {
            0..=3 if !is_known || self.draw.happens(250) => self.start(start),
            4 => self.look(start),
            5 if self.draw.happens(400) => self.list(start % tenants().len()),
            5..=11 => self.lease(agent),
            _ => self.bring(agent),
        }
    }

    /// Lets everything that is ready happen, and hears what was answered.
    async fn settle(&mut self, span_ms: u64) {
        tokio::time::sleep(Duration::from_millis(span_ms)).await;
        while let Ok((number, answer)) = self.heard.try_recv() {
            self.under_way.remove(&number);
            self.hear(answer);
        }
    }

    fn hear(&mut self, answer: Answer) {
        match answer {
            Answer::Born(number, born) => self.born(number, born),
            Answer::Ended(number) => self.ended(number),
            Answer::Started {
                by,
                start,
                is_impostor,
                was_known,
                answer,
            } => self.started(by, start, is_impostor, was_known, answer),
            Answer::Leased {
                by,
                agent,
                held,
                answer,
            } => self.leased(by, agent, &held, answer),
            Answer::Brought {
                by,
                agent,
                sent,
                answer,
            } => self.brought(by, agent, sent, answer),
            Answer::Controlled {
                by,
                key,
                action,
                round,
                answer,
            } => self.controlled(by, &key, action, round, answer),
            Answer::Viewed {
                by,
                key,
                seen,
                answer,
            } => self.viewed(by, &key, seen, answer),
            Answer::Listed {
                by,
                tenant,
                known,
                answer,
            } => self.listed(by, tenant, &known, answer),
            Answer::Read {
                by,
                key,
                seen,
                answer,
            } => self.read(by, &key, seen, answer),
        }
    }

    fn let_time_pass(&mut self) {
        let span = match self.draw.place(20) {
            0..=9 => self.draw.number(1..=200),
            10..=14 => self.draw.number(200..=3_000),
            15..=18 => {
                let next = self.world.until_next_sleeper(&self.lives.nodes());
                next.map_or(100, |span| span.0.min(STRIDE_MAX.0))
            }
            _ => self.draw.number(3_000..=40_000),
        };
        self.pass(DurationMs(span));
    }

    fn pass(&mut self, span: DurationMs) {
        self.world.advance(span);
        self.tally.simulated += span;
    }

    /// Faults cease, agents work well, time passes: whatever is still open must end.
    async fn calm(&mut self) {
        self.is_calm = true;
        self.say(format_args!("from here on all is well"));
        self.world.site.be_well();
        self.disarm();
        self.kill_zombie("there is one engine from here on");
        if self.draw.happens(300) {
            self.kill_leader("it is killed a last time");
        }
        self.pull_themselves_together();
        let began = self.world.latest();
        let (mut idle, mut asleep, mut records) = (0_u32, 0, 0);
        for turn in 0..CALM_TURNS_MAX {
            self.trace.next_turn();
            self.keep_alive();
            self.ask_for_all(turn, idle < 2 || turn.is_multiple_of(16));
            self.settle(if turn.is_multiple_of(4) { 120 } else { 2 })
                .await;
            if self.is_over() || self.is_hopeless {
                return;
            }
            let now = self.world.ledger.look(|books| books.records.len());
            idle = if now == records { idle + 1 } else { 0 };
            records = now;
            let next = self.world.until_next_sleeper(&self.lives.nodes());
            let spent = self.world.latest().since(began);
            let next = next.filter(|next| spent.0 + next.0 < CALM_MAX.0);
            asleep = if idle > 0 && next.is_none() {
                asleep + 1
            } else {
                0
            };
            if asleep > IDLE_TURNS_MAX || !self.unanswered().is_empty() {
                break;
            }
            // First whatever is ready, then what comes with time: whoever only looks around each second is not waited for.
            let stride = DurationMs(u64::from(idle / 8) * 1_000).min(CALM_STRIDE_MAX);
            let is_ready = idle < 2 || !self.under_way.is_empty();
            let span = next.filter(|_| !is_ready);
            self.pass(span.map_or(DurationMs(10), |next| next.max(stride)));
        }
        self.find_stuck().await;
    }

    /// Whatever has not come yet, and work, where there may be some.
    fn ask_for_all(&mut self, turn: u32, for_work: bool) {
        for start in 0..self.planned.len() {
            let key = &self.planned[start].key;
            if turn.is_multiple_of(8) && !self.evidence.started.contains(key) {
                self.start(start);
            }
            if turn % 8 == 4 && self.is_paused(start) {
                self.control(start, Action::Resume);
            }
        }
        for agent in 0..self.agents.len() {
            if for_work {
                self.lease(agent);
            }
            self.bring(agent);
        }
    }

    fn is_paused(&self, start: usize) -> bool {
        let key = &self.planned[start].key;
        self.world.ledger.look(|books| {
            let events = books
                .histories
                .get(key)
                .map_or(&[][..], |history| &history.events);
            let last = events.iter().rev().find_map(|written| match written.event {
                Event::ExecutionPauseRequested(_) => Some(true),
                Event::ExecutionResumed(_) => Some(false),
                _ => None,
            });
            last == Some(true)
                && !events
                    .last()
                    .is_some_and(|last| crate::ledger::is_end(&last.event))
        })
    }

    fn is_over(&self) -> bool {
        let all = |books: &Books| {
            self.planned.iter().all(|planned| {
                let history = books.histories.get(&planned.key);
                history.is_some_and(crate::ledger::History::has_ended)
            })
        };
        let started = |planned: &Planned| self.evidence.started.contains(&planned.key);
        self.is_ready()
            && self.planned.iter().all(started)
            && self.world.ledger.look(all)
            && self.under_way.is_empty()
    }

    /// What never came to its end, and what it says that it waits for.
    async fn find_stuck(&mut self) {
        self.is_hopeless = true;
        let Some(leader) = &self.lives.leader else {
            return self.evidence.find("nobody leads in the end".to_owned());
        };
        let engine = leader.engine.clone();
        let open: Vec<Key> = self
            .planned
            .iter()
            .map(|planned| planned.key.clone())
            .collect();
        for key in open {
            let is_open = |books: &Books| {
                !books
                    .histories
                    .get(&key)
                    .is_some_and(crate::ledger::History::has_ended)
            };
            if !self.world.ledger.look(is_open) {
                continue;
            }
            let asking = engine.explain(&key.0, &key.1);
            let answer = tokio::time::timeout(ANSWER_WITHIN, asking).await;
            let why = match answer {
                Err(_) => "nobody answers".to_owned(),
                Ok(Err(refusal)) => refusal.to_string(),
                Ok(Ok(explained)) => {
                    let waits = explained.waits.iter().map(|wait| {
                        format!(
                            "{:?}: {} -> {} (due {:?})",
                            wait.cause, wait.detail, wait.next, wait.due
                        )
                    });
                    format!("{}: {:?}", explained.summary, waits.collect::<Vec<_>>())
                }
            };
            self.evidence
                .find(format!("{}/{} is stuck: {why}", key.0, key.1));
        }
        let unanswered = self.unanswered();
        self.evidence.findings.extend(unanswered);
        if self.evidence.findings.is_empty() {
            self.evidence.find("it never comes to rest".to_owned());
        }
    }

    /// Requests that nobody will answer any more.
    fn unanswered(&self) -> Vec<String> {
        let now = self.trace.turn();
        let lost = self
            .under_way
            .values()
            .filter(|request| now - request.since > ANSWER_TURNS_MAX);
        lost.map(|request| format!("life {} never answered a {}", request.by.life, request.what))
            .collect()
    }

    /// Everything has ended: what engines show of it must be what the journal says, also after a recovery from nothing.
    async fn look_back(&mut self) {
        self.settle(1_000).await;
        let shown = self.views().await;
        oracle::compare_views(self, &shown);
        oracle::compare_published(self);
        if self.draw.happens(300) {
            self.kill_leader("its view is to be built once more");
            self.world.lose_view(0);
            self.give_birth(0);
            for _ in 0..20 {
                self.settle(200).await;
                self.pass(DurationMs(200));
            }
            let again = self.views().await;
            self.say(format_args!("views of a view built anew"));
            oracle::compare_views(self, &again);
        }
    }

    async fn views(&mut self) -> Vec<(Key, Result<ExecutionView, String>)> {
        let Some(leader) = &self.lives.leader else {
            self.evidence.find("nobody leads in the end".to_owned());
            return Vec::new();
        };
        let engine = leader.engine.clone();
        let mut views = Vec::new();
        for planned in &self.planned {
            let (tenant, id) = &planned.key;
            let asking = engine.view(tenant, id);
            let view = match tokio::time::timeout(ANSWER_WITHIN, asking).await {
                Ok(Ok(view)) => Ok(view),
                Ok(Err(refusal)) => Err(refusal.to_string()),
                Err(_) => Err("nobody answers".to_owned()),
            };
            views.push((planned.key.clone(), view));
        }
        views
    }

    fn outcome(mut self, seed: u64) -> Outcome {
        self.kill_leader("the world ends");
        self.kill_zombie("the world ends");
        oracle::judge(&mut self);
        self.evidence.findings.extend(self.world.site.findings());
        self.world.ledger.look(|books| {
            self.tally.events = books.events;
            self.tally.records = books.records.len() as u64;
        });
        self.tally.calls = self.world.site.asked();
        let digest = self.trace.digest();
        let story = [digest.0, self.world.ledger.digest().0].concat();
        Outcome {
            seed,
            findings: self.evidence.findings,
            digest: eventflow_domain::Digest::of(&story),
            story: self.trace.into_text(),
            tally: self.tally,
        }
    }
}
