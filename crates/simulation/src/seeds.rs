//! One seed, and many: a runtime per world, a thread per core.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{Outcome, Tally, panics, run};

/// Runs the world of one seed, on one thread and without a real clock.
///
/// # Panics
///
/// Where the machine has no room for a runtime.
pub fn simulate(seed: u64) -> Outcome {
    let (outcome, panics) = panics::caught(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime of one thread needs nothing that could be missing")
            .block_on(run::run(seed))
    });
    let mut outcome = outcome.unwrap_or_else(|| Outcome::of_a_panic(seed));
    let panicked = |panic: String| format!("a panic: {panic}");
    outcome.findings.extend(panics.into_iter().map(panicked));
    outcome.tally.seeds = 1;
    outcome
}

/// Runs these seeds on so many threads; `each` hears of every one, in no order.
pub fn simulate_many(seeds: Range<u64>, threads: usize, each: impl Fn(&Outcome) + Sync) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Tally::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = simulate(seed);
                    own.add(&outcome.tally);
                    each(&outcome);
                }
                total
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(&own);
            });
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}
