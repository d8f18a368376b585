//! Worlds of many seeds, each of which must come to a good end; seeds that once failed; and the same seed twice.

use std::sync::Mutex;

use eventflow_simulation::{Outcome, simulate, simulate_many};

/// What runs on every change. More, and at full speed: `just simulate 20000`.
const SEEDS: u64 = 500;
/// Seeds that are run a second time.
const TWICE: u64 = 60;

/// What somebody needs to find the reason.
fn told(outcome: &Outcome) -> String {
    format!(
        "seed {}: {}\nreplay: just simulate --seed {}",
        outcome.seed,
        outcome.findings.join("\n  "),
        outcome.seed
    )
}

#[test]
fn nothing_is_found_in_the_worlds_of_every_change() {
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tally = simulate_many(0..SEEDS, threads, |outcome| {
        if !outcome.findings.is_empty() {
            failed.lock().unwrap().push(told(outcome));
        }
    });
    println!("{tally}");
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(tally.seeds, SEEDS);
    // A simulation in which little happens would find nothing either.
    for (kind, least) in [
        ("crash", 200),
        ("hiccup", 200),
        ("outage", 200),
        ("takeover", 200),
        ("shutdown", 100),
        ("clock back", 100),
        ("clock forward", 100),
        ("lost view", 20),
    ] {
        let count = tally.faults.get(kind).copied().unwrap_or_default();
        assert!(count >= least, "only {count} times {kind}");
    }
    for (end, least) in [("completed", 800), ("faulted", 200), ("cancelled", 50)] {
        let count = tally.ends.get(end).copied().unwrap_or_default();
        assert!(count >= least, "only {count} executions {end}");
    }
    assert!(tally.compared >= 800, "only {} compared", tally.compared);
}

#[test]
fn the_same_seed_is_the_same_world_to_the_last_byte() {
    let mut digests = std::collections::BTreeSet::new();
    for seed in 0..TWICE {
        let (once, again) = (simulate(seed), simulate(seed));
        let lines = once.story.lines().zip(again.story.lines());
        let differs = lines.into_iter().find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(
            once.digest, again.digest,
            "seed {seed}: the journals differ"
        );
        digests.insert(once.digest.0);
    }
    assert_eq!(
        digests.len() as u64,
        TWICE,
        "different seeds, different worlds"
    );
}

/// Worlds in which something was found once. They mean that only as long as what is drawn does not change: what was found
/// has a test of its own where it was.
fn is_well(seeds: [u64; 2]) {
    for seed in seeds {
        let outcome = simulate(seed);
        assert!(outcome.findings.is_empty(), "{}", told(&outcome));
    }
}

/// The publisher's feed read ahead, failed to look back, and went on after the record that it had not passed.
#[test]
fn a_publisher_that_could_not_look_back_goes_on_where_it_was() {
    is_well([2_572, 2_782]);
}

/// A failure was refused when it was repeated after its task had timed out, or had been given up and begun again.
#[test]
fn a_failure_is_accepted_again_whatever_became_of_its_task() {
    is_well([19_649, 27_371]);
}

/// A lease that was under way when its execution was resumed, and a process that died in the last moment: the simulation
/// saw faults where there were none.
#[test]
fn what_is_under_way_is_no_fault() {
    is_well([17_788, 17_227]);
}
