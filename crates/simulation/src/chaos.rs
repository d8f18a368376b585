//! What goes wrong: processes die, stores do not answer, clocks jump, somebody else takes over.

use std::time::Duration;

use eventflow_adapter_memory::When;

use crate::{draw::Draw, run::Run, world::NODES};

/// How rough a world is: times in a thousand turns, or in a thousand attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Temper {
    crash: u32,
    kill: u32,
    hiccup: u32,
    outage: u32,
    takeover: u32,
    shutdown: u32,
    jump: u32,
    /// Orders among what is asked.
    pub(crate) orders: u32,
    pub(crate) failure: u32,
    pub(crate) silence: u32,
    /// The longest way of an append.
    pub(crate) latency: Duration,
}

/// Turns that a port stays away at most.
const OUTAGE_TURNS_MAX: u64 = 6;
/// Port calls until something that was armed happens.
const CALLS_AHEAD: std::ops::RangeInclusive<u64> = 1..=25;

/// Ports and how a failing call of theirs may fail. What is taken from the queue is gone for whoever did not hear of it:
/// that port fails before only.
const PORTS: [(&str, &[When]); 6] = [
    ("Journal", &[When::Before, When::After]),
    ("View", &[When::Before, When::After]),
    ("BlobStore", &[When::Before, When::After]),
    ("DefinitionStore", &[When::Before, When::After]),
    ("EventPublisher", &[When::Before, When::After]),
    ("TaskQueue", &[When::Before]),
];

impl Temper {
    /// Most worlds work most of the time; some are quiet, some are rough.
    pub(crate) fn of(draw: &mut Draw) -> Self {
        let roughness = draw.weighted(&[(15, 0), (40, 1), (35, 3), (10, 8)]);
        Self {
            crash: 12 * roughness,
            kill: 4 * roughness,
            hiccup: 20 * roughness,
            outage: 10 * roughness,
            takeover: 12 * roughness,
            shutdown: 5 * roughness,
            jump: 8 * roughness,
            orders: if roughness == 0 { 0 } else { 40 },
            failure: if roughness == 0 { 0 } else { 120 },
            silence: 20 * roughness,
            latency: Duration::from_millis(draw.one_of(&[0, 3, 30])),
        }
    }
}

impl Run {
    /// Whatever goes wrong this turn.
    pub(crate) fn go_wrong(&mut self) {
        let temper = self.temper;
        if self.draw.happens(temper.crash) {
            self.crash();
        }
        if self.draw.happens(temper.kill) && self.lives.leader.is_some() {
            self.note("kill");
            self.kill_leader("it is killed");
        }
        if self.draw.happens(temper.hiccup) {
            self.hiccup();
        }
        if self.draw.happens(temper.outage) {
            self.outage();
        }
        if self.draw.happens(temper.takeover) {
            self.take_over();
        }
        if self.lives.zombie.is_some() && self.draw.happens(60) {
            self.kill_zombie("it is killed");
        }
        if self.draw.happens(temper.shutdown) {
            self.note("shutdown");
            self.shut_down();
        }
        if self.draw.happens(temper.jump) {
            self.jump();
        }
        if self
            .outage_until
            .is_some_and(|until| until <= self.trace.turn())
        {
            self.outage_until = None;
            self.say(format_args!("every port answers again"));
            self.disarm();
        }
    }

    pub(crate) fn disarm(&mut self) {
        let lives = [&self.lives.leader, &self.lives.zombie]
            .into_iter()
            .flatten();
        let faults = lives.map(|life| &life.faults);
        for faults in faults.chain(self.lives.birth.iter().map(|birth| &birth.faults)) {
            faults.disarm();
            if self.is_calm {
                faults.slow_down(Duration::ZERO);
            }
        }
    }

    fn when(&mut self) -> When {
        self.draw.one_of(&[When::Before, When::After])
    }

    /// Some call from now on is the last of its process, which may just be recovering.
    fn crash(&mut self) {
        let (ahead, when) = (self.draw.number(CALLS_AHEAD), self.when());
        let faults = match (&self.lives.birth, &self.lives.leader) {
            (Some(birth), _) => birth.faults.clone(),
            (None, Some(leader)) => leader.faults.clone(),
            (None, None) => return,
        };
        self.note("crash");
        self.say(format_args!("a crash in {ahead} calls, {when:?}"));
        faults.fail_at(faults.calls() + ahead, when);
    }

    /// Some call from now on fails.
    fn hiccup(&mut self) {
        let ahead = self.draw.number(CALLS_AHEAD);
        let Some(leader) = &self.lives.leader else {
            return;
        };
        let faults = leader.faults.clone();
        self.note("hiccup");
        self.say(format_args!("a hiccup in {ahead} calls"));
        faults.hiccup_at(faults.calls() + ahead, When::Before);
    }

    /// One port does not answer for a while, of whoever leads and of whoever is being born.
    fn outage(&mut self) {
        let (port, ways) = self.draw.one_of(&PORTS);
        let when = self.draw.one_of(ways);
        let turns = self.draw.number(1..=OUTAGE_TURNS_MAX);
        self.note("outage");
        self.say(format_args!(
            "{port} does not answer, {when:?}, for {turns} turns"
        ));
        if let Some(leader) = &self.lives.leader {
            leader.faults.take_down(port, when);
        }
        if let Some(birth) = &self.lives.birth {
            birth.faults.take_down(port, when);
        }
        let turns = u32::try_from(turns).expect("a small number");
        self.outage_until = Some(self.trace.turn() + turns);
    }

    /// A second engine begins on the other node while the first one lives.
    fn take_over(&mut self) {
        let Some(leader) = &self.lives.leader else {
            return;
        };
        if self.lives.birth.is_some() {
            return;
        }
        let node = NODES - 1 - leader.node;
        self.kill_zombie("its node is needed");
        self.note("takeover");
        if self.draw.happens(150) {
            self.note("lost view");
            self.say(format_args!("node {node} has lost its view"));
            self.world.lose_view(node);
        }
        self.give_birth(node);
    }

    fn jump(&mut self) {
        let node = self.draw.place(NODES);
        let by_ms = self
            .draw
            .one_of(&[-300_000, -20_000, -1_500, -7, 40, 2_000, 30_000, 300_000]);
        self.note(if by_ms < 0 {
            "clock back"
        } else {
            "clock forward"
        });
        self.say(format_args!("the clock of node {node} jumps by {by_ms} ms"));
        self.world.jump(node, by_ms);
    }

    fn note(&mut self, fault: &'static str) {
        *self.tally.faults.entry(fault).or_default() += 1;
    }
}
