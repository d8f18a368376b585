//! Documents that nobody would write: lists and graphs of every kind of task, with conditions, jumps, retries and
//! errors, and agents that do anything.
//!
//! What flows is always an object with a number `n`, so that conditions have something to look at.

use eventflow_domain::{Digest, Json, plan::Plan};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{
    plans::plan_of,
    run::{Job, Outcome},
};

/// A task of a list.
#[derive(Debug, Clone)]
struct Item {
    does: Does,
    skipped_below: Option<u8>,
    then: Direction,
    exports: bool,
}

#[derive(Debug, Clone)]
enum Does {
    Agent { retries: u8, transformed: bool },
    Set,
    Switch(Vec<(u8, Direction)>),
    Raise,
    Do(Vec<Item>),
}

#[derive(Debug, Clone)]
enum Direction {
    Continue,
    Exit,
    End,
    To(Index),
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![
        12 => Just(Direction::Continue),
        1 => Just(Direction::Exit),
        1 => Just(Direction::End),
        2 => any::<Index>().prop_map(Direction::To),
    ]
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let leaf = prop_oneof![
        6 => (0_u8..3, any::<bool>()).prop_map(|(retries, transformed)| Does::Agent { retries, transformed }),
        3 => Just(Does::Set),
        2 => vec((0_u8..10, direction()), 1..3).prop_map(Does::Switch),
        1 => Just(Does::Raise),
    ];
    let does = leaf.prop_recursive(2, 12, 4, |inner| vec(item(inner), 1..4).prop_map(Does::Do));
    vec(item(does), 1..5)
}

fn item(does: impl Strategy<Value = Does>) -> impl Strategy<Value = Item> {
    let skipped_below = proptest::option::weighted(0.2, 0_u8..10);
    (
        does,
        skipped_below,
        direction(),
        proptest::bool::weighted(0.2),
    )
        .prop_map(|(does, skipped_below, then, exports)| Item {
            does,
            skipped_below,
            then,
            exports,
        })
}

/// Writes lists as a document has them; names are unique in it.
struct Writer {
    names: usize,
}

impl Writer {
    fn list(&mut self, items: &[Item]) -> Value {
        let names: Vec<String> = items
            .iter()
            .map(|_| {
                self.names += 1;
                format!("t{}", self.names)
            })
            .collect();
        let tasks = items.iter().enumerate().map(|(place, item)| {
            let mut task = self.task(item, &names);
            task["then"] = json!(onward(&item.then, &names[place + 1..]));
            json!({&names[place]: task})
        });
        Value::Array(tasks.collect())
    }

    fn task(&mut self, item: &Item, siblings: &[String]) -> Value {
        let mut task = match &item.does {
            Does::Agent {
                retries,
                transformed,
            } => {
                let retry = json!({"delay": "PT1S", "limit": {"attempt": {"count": retries}}});
                let with = json!({"capability": "work", "retry": retry, "startWithin": "PT10S"});
                let mut task = json!({"call": "agent:1.0.0@default", "with": with});
                if *transformed {
                    task["output"] = json!({"as": "${ {n: .n, was: $input.n} }"});
                }
                task
            }
            Does::Set => json!({"set": {"n": "${ .n + 1 }"}}),
            Does::Switch(cases) => {
                let cases = cases.iter().enumerate().map(|(place, (below, then))| {
                    let when = format!("${{ .n < {below} }}");
                    json!({format!("case{place}"): {"when": when, "then": target(then, siblings)}})
                });
                json!({"switch": cases.collect::<Vec<_>>()})
            }
            Does::Raise => {
                json!({"raise": {"error": {"type": "https://example.com/raised", "status": 500}}})
            }
            Does::Do(items) => json!({"do": self.list(items)}),
        };
        if let Some(below) = item.skipped_below {
            task["if"] = json!(format!("${{ .n >= {below} }}"));
        }
        if item.exports {
            task["export"] = json!({"as": "${ {last: .n} }"});
        }
        task
    }
}

/// A `then` never goes back: a loop without a condition takes all of the thousand tasks that an execution may have.
fn onward<'n>(direction: &Direction, later: &'n [String]) -> &'n str {
    match direction {
        Direction::To(_) if later.is_empty() => "continue",
        direction => target(direction, later),
    }
}

fn target<'n>(direction: &Direction, siblings: &'n [String]) -> &'n str {
    match direction {
        Direction::Continue => "continue",
        Direction::Exit => "exit",
        Direction::End => "end",
        Direction::To(place) => &siblings[place.index(siblings.len())],
    }
}

/// A list of tasks as a document.
pub(crate) fn lists() -> impl Strategy<Value = Value> {
    items().prop_map(|items| {
        json!({
            "document": {"dsl": "1.0.3", "namespace": "test", "name": "generated", "version": "1.0.0"},
            "do": Writer { names: 0 }.list(&items),
        })
    })
}

/// A step of a graph.
#[derive(Debug, Clone)]
struct Step {
    needs: Vec<Index>,
    sets: bool,
    any: bool,
    skipped_below: Option<(u8, Index)>,
    retries: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let skipped_below = proptest::option::weighted(0.3, (0_u8..10, any::<Index>()));
    let step = (
        vec(any::<Index>(), 0..3),
        proptest::bool::weighted(0.2),
        any::<bool>(),
        skipped_below,
        0_u8..3,
    )
        .prop_map(|(needs, sets, any, skipped_below, retries)| Step {
            needs,
            sets,
            any,
            skipped_below,
            retries,
        });
    vec(step, 1..9)
}

fn step_of(place: usize, step: &Step) -> Value {
    let earlier = |index: &Index| format!("s{}", index.index(place.max(1)));
    let mut written = if step.sets {
        json!({"uses": "set", "with": {"n": place}})
    } else {
        json!({
            "uses": "agent", "with": {"capability": "work", "startWithin": "10s"},
            "retry": {"limit": step.retries, "delay": "1s"},
        })
    };
    written["id"] = json!(format!("s{place}"));
    written["join"] = json!(if step.any { "any" } else { "all" });
    if place > 0 {
        let mut needs: Vec<String> = step.needs.iter().map(earlier).collect();
        needs.sort();
        needs.dedup();
        written["dependsOn"] = json!(needs);
    }
    if let Some((below, of)) = &step.skipped_below {
        let read = if place == 0 {
            "input".to_owned()
        } else {
            earlier(of)
        };
        written["when"] = json!(format!("${{ .{read}.n >= {below} }}"));
    }
    written
}

/// A graph as a document.
pub(crate) fn graphs() -> impl Strategy<Value = Value> {
    (steps(), 1_u32..5).prop_map(|(steps, max_parallel)| {
        let steps: Vec<Value> = steps
            .iter()
            .enumerate()
            .map(|(place, step)| step_of(place, step))
            .collect();
        json!({
            "dag": "1.0", "namespace": "test", "name": "generated", "version": "1.0.0",
            "maxParallel": max_parallel, "steps": steps,
        })
    })
}

/// Either.
pub(crate) fn documents() -> impl Strategy<Value = Value> {
    prop_oneof![lists(), graphs()]
}

/// The plan of a generated document.
pub(crate) fn compiled(document: &Value) -> Plan {
    plan_of(&Json::of(document))
}

/// Agents that do anything, but the same for the same attempt: mostly well, sometimes not at all.
pub(crate) fn agents(seed: u64) -> impl Fn(&Job) -> Outcome {
    move |job| {
        let digest = Digest::of(format!("{seed} {} {}", job.task, job.attempt).as_bytes());
        let [choice, n, ..] = digest.0;
        match choice {
            0..=180 => Outcome::done(&json!({"n": n % 10})),
            181..=215 => Outcome::failed("it did not work"),
            216..=223 => Outcome::FailedForGood(super::problem("it will never work")),
            224..=240 => Outcome::Silence,
            241..=255 => Outcome::Nobody,
        }
    }
}
