//! One engine after the other on the same stores: where one has crashed, the next is born.

use eventflow_adapter_memory::Faults;
use eventflow_engine::Engine;

use super::World;

/// The lives of an engine, of which the first may crash.
pub(crate) struct Lives {
    pub(crate) world: World,
    engine: Option<Engine>,
    faults: Faults,
    pub(crate) count: usize,
}

impl Lives {
    /// The first of them crashes where `faults` says.
    pub(crate) fn of(world: World, faults: Faults) -> Self {
        Self {
            world,
            engine: None,
            faults,
            count: 0,
        }
    }

    /// Makes sure that an engine lives: another one where the last has crashed.
    pub(crate) async fn revive(&mut self) {
        if self.engine.is_some() && !self.faults.tripped() {
            return;
        }
        while self.engine.is_none() || self.faults.tripped() {
            self.engine = None;
            if self.count > 0 {
                self.faults = Faults::new();
            }
            self.count += 1;
            let faults = self.faults.clone();
            tokio::select! {
                // It may be waiting for a store that never answers again.
                () = faults.tripped_wait() => {}
                born = self.world.live(&faults) => match born {
                    Ok(engine) => self.engine = Some(engine),
                    Err(error) => assert!(faults.tripped(), "life {}: {error}", self.count),
                }
            }
        }
    }

    /// What comes of this in the life that was revived; nothing where it crashes first.
    pub(crate) async fn live<T>(&self, turn: impl AsyncFnOnce(&Engine) -> T) -> Option<T> {
        let engine = self.engine.as_ref().expect("revived");
        tokio::select! {
            () = self.faults.tripped_wait() => None,
            outcome = turn(engine) => Some(outcome),
        }
    }
}
