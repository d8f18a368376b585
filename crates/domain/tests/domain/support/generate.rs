//! Documents that nobody would write: lists and graphs of every kind of task, with conditions, jumps, loops, forks,
//! races, retries, handlers, waits, time-outs and errors, one inside the other, and agents that do anything.
//!
//! What flows is mostly an object with a number `n`, so that conditions have something to look at.

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
    /// Seconds.
    timeout: Option<u8>,
}

#[derive(Debug, Clone)]
enum Does {
    Agent {
        retries: u8,
        transformed: bool,
    },
    Set,
    Switch(Vec<(u8, Direction)>),
    Raise,
    Do(Vec<Item>),
    /// The same tasks twice, so that what they hold is entered again.
    Twice(Vec<Item>),
    Fork {
        branches: Vec<Item>,
        compete: bool,
    },
    Try {
        tasks: Vec<Item>,
        catch: Catch,
    },
    Wait(Span),
}

#[derive(Debug, Clone)]
enum Span {
    Seconds(u8),
    /// As many seconds as `n` says.
    Computed,
}

#[derive(Debug, Clone)]
struct Catch {
    filter: Option<Filter>,
    retry: Option<Retry>,
    handler: Option<Vec<Item>>,
}

#[derive(Debug, Clone, Copy)]
enum Filter {
    Status(u16),
    Timeout,
    When,
    ExceptWhen,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    count: u8,
    /// Seconds for each try.
    each: Option<u8>,
    /// Seconds for all of them.
    all: Option<u8>,
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
        1 => (0_u8..20).prop_map(|seconds| Does::Wait(Span::Seconds(seconds))),
        1 => Just(Does::Wait(Span::Computed)),
    ];
    let does = leaf.prop_recursive(3, 20, 3, |inner| {
        let list = || vec(item(inner.clone()), 1..4);
        let fork = (vec(item(inner.clone()), 1..5), any::<bool>());
        prop_oneof![
            2 => list().prop_map(Does::Do),
            1 => list().prop_map(Does::Twice),
            3 => fork.prop_map(|(branches, compete)| Does::Fork { branches, compete }),
            3 => (list(), catch(list())).prop_map(|(tasks, catch)| Does::Try { tasks, catch }),
        ]
    });
    vec(item(does), 1..5)
}

fn catch(handler: impl Strategy<Value = Vec<Item>>) -> impl Strategy<Value = Catch> {
    let filter = prop_oneof![
        Just(Filter::Status(500)),
        Just(Filter::Status(408)),
        Just(Filter::Timeout),
        Just(Filter::When),
        Just(Filter::ExceptWhen),
    ];
    let seconds = || proptest::option::weighted(0.3, 1_u8..20);
    let retry = (0_u8..4, seconds(), seconds());
    let retry = retry.prop_map(|(count, each, all)| Retry { count, each, all });
    (
        proptest::option::weighted(0.4, filter),
        proptest::option::of(retry),
        proptest::option::of(handler),
    )
        .prop_map(|(filter, retry, handler)| Catch {
            filter,
            retry,
            handler,
        })
}

fn item(does: impl Strategy<Value = Does>) -> impl Strategy<Value = Item> {
    let skipped_below = proptest::option::weighted(0.2, 0_u8..10);
    (
        does,
        skipped_below,
        direction(),
        proptest::bool::weighted(0.2),
        proptest::option::weighted(0.1, 1_u8..20),
    )
        .prop_map(|(does, skipped_below, then, exports, timeout)| Item {
            does,
            skipped_below,
            then,
            exports,
            timeout,
        })
}

/// Writes lists as a document has them; names are unique in it.
struct Writer {
    names: usize,
}

impl Writer {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("t{}", self.names)
    }

    fn list(&mut self, items: &[Item]) -> Value {
        let names: Vec<String> = items.iter().map(|_| self.name()).collect();
        let tasks = items.iter().enumerate().map(|(place, item)| {
            let mut task = self.task(item, &names[place + 1..]);
            // It never goes back: a loop without a condition takes all of the tasks that an execution may have.
            task["then"] = json!(target(&item.then, &names[place + 1..]));
            json!({&names[place]: task})
        });
        Value::Array(tasks.collect())
    }

    /// They run side by side, so that none leads to another.
    fn branches(&mut self, items: &[Item]) -> Value {
        let branches = items.iter().map(|item| {
            let mut task = self.task(item, &[]);
            task["then"] = json!(target(&item.then, &[]));
            json!({self.name(): task})
        });
        Value::Array(branches.collect())
    }

    /// A loop that counts its rounds in `$context`, which nothing in it takes back.
    fn twice(&mut self, items: &[Item]) -> Value {
        let (count, body, again) = (self.name(), self.name(), self.name());
        let counted = format!("${{ $context + {{{count}: (($context.{count} // 0) + 1)}} }}");
        let more = format!("${{ $context.{count} < 2 }}");
        json!([
            {&count: {"set": {"n": "${ .n }"}, "export": {"as": counted}}},
            {&body: {"do": self.list(items)}},
            {&again: {"switch": [{"more": {"when": more, "then": count}}]}},
        ])
    }

    fn catch(&mut self, catch: &Catch) -> Value {
        let mut written = json!({});
        match catch.filter {
            None => {}
            Some(Filter::Status(status)) => written["errors"] = json!({"with": {"status": status}}),
            Some(Filter::Timeout) => {
                let kind = "https://open-workflow-specification.org/dsl/errors/types/timeout";
                written["errors"] = json!({"with": {"type": kind}});
            }
            Some(Filter::When) => written["when"] = json!("${ $error.status < 450 }"),
            Some(Filter::ExceptWhen) => written["exceptWhen"] = json!("${ .status == 408 }"),
        }
        if let Some(Retry { count, each, all }) = catch.retry {
            let mut limit = json!({"attempt": {"count": count}});
            if let Some(each) = each {
                limit["attempt"]["duration"] = json!({"seconds": each});
            }
            if let Some(all) = all {
                limit["duration"] = json!({"seconds": all});
            }
            written["retry"] = json!({"delay": "PT1S", "limit": limit});
        }
        if let Some(handler) = &catch.handler {
            let reads = json!({self.name(): {"set": {"n": "${ $error.status }"}}});
            let mut tasks = self.list(handler);
            tasks.as_array_mut().expect("a list").insert(0, reads);
            written["do"] = tasks;
        }
        written
    }

    fn task(&mut self, item: &Item, later: &[String]) -> Value {
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
                    json!({format!("case{place}"): {"when": when, "then": target(then, later)}})
                });
                json!({"switch": cases.collect::<Vec<_>>()})
            }
            Does::Raise => {
                json!({"raise": {"error": {"type": "https://example.com/raised", "status": 500}}})
            }
            Does::Do(items) => json!({"do": self.list(items)}),
            Does::Twice(items) => json!({"do": self.twice(items)}),
            Does::Fork {
                branches,
                compete: true,
            } => {
                json!({"fork": {"branches": self.branches(branches), "compete": true}})
            }
            Does::Fork {
                branches,
                compete: false,
            } => {
                let branches = self.branches(branches);
                json!({"fork": {"branches": branches}, "output": {"as": {"n": 3, "all": "${ . }"}}})
            }
            Does::Try { tasks, catch } => {
                json!({"try": self.list(tasks), "catch": self.catch(catch)})
            }
            Does::Wait(Span::Seconds(seconds)) => json!({"wait": {"seconds": seconds}}),
            Does::Wait(Span::Computed) => json!({"wait": "${ {seconds: .n} }"}),
        };
        if let Some(seconds) = item.timeout {
            task["timeout"] = json!({"after": {"seconds": seconds}});
        }
        if let Some(below) = item.skipped_below {
            task["if"] = json!(format!("${{ .n >= {below} }}"));
        }
        if item.exports {
            task["export"] = json!({"as": "${ $context + {last: .n} }"});
        }
        task
    }
}

/// Where the flow goes; on, where there is no task to go to.
fn target<'n>(direction: &Direction, later: &'n [String]) -> &'n str {
    match direction {
        Direction::To(place) if !later.is_empty() => &later[place.index(later.len())],
        Direction::Continue | Direction::To(_) => "continue",
        Direction::Exit => "exit",
        Direction::End => "end",
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

/// Agents that do anything, but the same for the same try: mostly well, sometimes not at all.
pub(crate) fn agents(seed: u64) -> impl Fn(&Job) -> Outcome {
    move |job| {
        let digest = Digest::of(format!("{seed} {} {:?}", job.task, job.round).as_bytes());
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
