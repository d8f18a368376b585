//! A decorator for every port that counts calls and lets one of them fail: the process dies there, or an answer is
//! lost.
//!
//! A crash-everywhere test runs once to count the calls, then once per call and [`When`]: it wraps all ports with one
//! [`Faults`], waits for [`Faults::tripped_wait`], throws the engine away, starts another one on the same stores with
//! fresh `Faults`, lets it finish and compares the end.

mod journal;
mod ports;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use eventflow_domain::{PartitionId, Position};
use eventflow_ports::Source;
use tokio::sync::watch;

use crate::lock;

/// A port whose calls are counted and may fail. It passes every clause of the port as long as nothing is armed.
#[derive(Debug)]
pub struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    faults: Faults,
}

/// Counts the calls of all ports that it wraps, and decides which one fails. Stands for one life of a process.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    tripped: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<(&'static str, &'static str), u64>,
    calls: u64,
    armed: Option<Armed>,
    hit: Option<(&'static str, &'static str)>,
    dead: bool,
    /// The port that does not answer, and whether it carries out what it is asked all the same.
    down: Option<(&'static str, When)>,
    /// The longest that a call takes.
    latency: Duration,
    /// Per partition, the position named by the append that builds on one that failed.
    broken: HashMap<PartitionId, Position>,
}

#[derive(Debug, Clone, Copy)]
struct Armed {
    call: u64,
    when: When,
    effect: Effect,
}

/// Whether the call that fails is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It fails and nothing was done.
    Before,
    /// It is done, and nobody learns of it.
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing works from then on.
    Crash,
    /// This one call is `Unavailable`, the next one works.
    Hiccup,
}

/// The cause of every failure that this decorator makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fault was injected into {port}::{method}")]
pub struct Injected {
    /// The port's name.
    pub port: &'static str,
    /// The method's name.
    pub method: &'static str,
}

impl Faults {
    /// Nothing is armed: calls are counted only.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `call`-th call (the first is 1) fails with the port's `Unavailable`, and the process is dead from then on:
    /// every later call fails in the same way, and so do those that were under way.
    pub fn fail_at(&self, call: u64, when: When) {
        self.arm(call, when, Effect::Crash);
    }

    /// The `call`-th call fails with the port's `Unavailable`, all others work. Where it is an append, the ones that
    /// build on it fail as well until somebody reads that partition. A port that has no `Unavailable` is left alone.
    pub fn hiccup_at(&self, call: u64, when: When) {
        self.arm(call, when, Effect::Hiccup);
    }

    /// Nothing that is still to come fails.
    pub fn disarm(&self) {
        let mut state = lock(&self.0.state);
        state.armed = None;
        state.down = None;
    }

    /// From now on every call of this port fails with its `Unavailable`, until [`Faults::disarm`].
    pub fn take_down(&self, port: &'static str, when: When) {
        lock(&self.0.state).down = Some((port, when));
    }

    /// From now on a call takes up to so long before it is carried out, differently each time and the same in every
    /// run. Appends, which are handed over at once, are not slowed down here.
    pub fn slow_down(&self, latency: Duration) {
        lock(&self.0.state).latency = latency;
    }

    /// A port whose calls count here.
    pub fn wrap<T: ?Sized>(&self, inner: Arc<T>) -> Arc<Faulty<T>> {
        Arc::new(Faulty {
            inner,
            faults: self.clone(),
        })
    }

    /// How many calls there were that may fail: all but those of `Clock` and `Ids`.
    pub fn calls(&self) -> u64 {
        lock(&self.0.state).calls
    }

    /// How often each method of each port was called, `Clock` and `Ids` included.
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        lock(&self.0.state).counts.clone()
    }

    /// The port and the method that failed.
    pub fn hit(&self) -> Option<(&'static str, &'static str)> {
        lock(&self.0.state).hit
    }

    /// Whether the process died, and what it did at last has been done.
    pub fn tripped(&self) -> bool {
        *self.0.tripped.borrow()
    }

    /// Waits for that; for ever, where it never happens.
    pub async fn tripped_wait(&self) {
        // Fails only where the sender is gone, which `self` holds.
        let _ = self
            .0
            .tripped
            .subscribe()
            .wait_for(|tripped| *tripped)
            .await;
    }

    fn arm(&self, call: u64, when: When, effect: Effect) {
        lock(&self.0.state).armed = Some(Armed { call, when, effect });
    }

    /// Counts a call that cannot fail.
    fn count(&self, port: &'static str, method: &'static str) {
        *lock(&self.0.state)
            .counts
            .entry((port, method))
            .or_default() += 1;
    }

    /// A call begins: it may be carried out, or it fails here.
    fn call(&self, port: &'static str, method: &'static str) -> Result<Pass, Injected> {
        self.call_where(port, method, true)
    }

    fn call_where(
        &self,
        port: &'static str,
        method: &'static str,
        may_hiccup: bool,
    ) -> Result<Pass, Injected> {
        let injected = Injected { port, method };
        let mut pass = Pass {
            faults: self.clone(),
            injected,
            fails: None,
        };
        let crashed = {
            let mut state = lock(&self.0.state);
            *state.counts.entry((port, method)).or_default() += 1;
            state.calls += 1;
            if state.dead {
                return Err(injected);
            }
            match state.armed {
                Some(armed)
                    if armed.call == state.calls
                        && (may_hiccup || armed.effect == Effect::Crash) =>
                {
                    state.hit = Some((port, method));
                    state.dead = armed.effect == Effect::Crash;
                    if armed.when == When::After {
                        pass.fails = Some(armed.effect);
                        return Ok(pass);
                    }
                    state.dead
                }
                Some(_) | None => match state.down {
                    Some((down, When::Before)) if down == port && may_hiccup => false,
                    Some((down, When::After)) if down == port && may_hiccup => {
                        pass.fails = Some(Effect::Hiccup);
                        return Ok(pass);
                    }
                    Some(_) | None => return Ok(pass),
                },
            }
        };
        if crashed {
            self.0.tripped.send_replace(true);
        }
        Err(injected)
    }

    /// Carries out a call that is done once `call` is polled.
    async fn run<T, E>(
        &self,
        (port, method): (&'static str, &'static str),
        unavailable: fn(Source) -> E,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let lost = |injected: Injected| unavailable(injected.into());
        let pass = self.call(port, method).map_err(lost)?;
        if let Some(latency) = self.latency() {
            tokio::time::sleep(latency).await;
            if lock(&self.0.state).dead && pass.fails.is_none() {
                return Err(lost(pass.injected));
            }
        }
        let outcome = call.await;
        pass.done().map_err(lost)?;
        outcome
    }

    /// How long the call that just began takes; none where calls are not slowed down.
    fn latency(&self) -> Option<Duration> {
        let state = lock(&self.0.state);
        let longest = u64::try_from(state.latency.as_millis()).unwrap_or(u64::MAX);
        // Any number that has no factor in common with what comes up spreads the calls.
        (longest > 0).then(|| Duration::from_millis(state.calls.wrapping_mul(7_919) % longest))
    }
}

/// A call that is being carried out.
#[derive(Debug)]
struct Pass {
    faults: Faults,
    injected: Injected,
    fails: Option<Effect>,
}

impl Pass {
    /// The call is done; its outcome may be lost all the same.
    fn done(self) -> Result<(), Injected> {
        if self.fails.is_some() || lock(&self.faults.0.state).dead {
            return Err(self.injected);
        }
        Ok(())
    }
}

impl Drop for Pass {
    /// Done, or given up by who asked: now the process is dead, where it was to die here.
    fn drop(&mut self) {
        if self.fails == Some(Effect::Crash) {
            self.faults.0.tripped.send_replace(true);
        }
    }
}
