//! Workflows that nobody would write: lists and graphs of every kind of task, nested, with conditions, jumps, retries,
//! time-outs and errors.
//!
//! What flows is always an object with a number `n`, so that conditions have something to look at. Nothing waits for
//! longer than [`WAIT_MAX`], so that the simulation can tell what is slow from what is stuck.

use serde_json::{Value, json};

use crate::draw::Draw;

/// The capabilities that agents serve.
pub(crate) const CAPABILITIES: [&str; 3] = ["pack", "send", "bill"];
/// The one host that answers.
pub(crate) const SITE: &str = "http://site/";
/// Tasks of one document: enough for every nesting, few enough for thousands of worlds.
const TASKS_MAX: usize = 9;
/// How deep lists stand in each other.
const DEPTH_MAX: usize = 3;

/// A document of either language.
pub(crate) fn document(draw: &mut Draw, number: usize) -> Value {
    if draw.happens(250) {
        return graph(draw, number);
    }
    let mut writer = Writer {
        draw,
        names: 0,
        left: TASKS_MAX,
    };
    let tasks = writer.list(0);
    let mut document = json!({
        "document": {"dsl": "1.0.3", "namespace": "simulated", "name": format!("list-{number}"), "version": "1.0.0"},
        "do": tasks,
    });
    if draw.happens(80) {
        document["timeout"] = json!({"after": draw.one_of(&["PT30S", "PT5M", "PT30M"])});
    }
    if draw.happens(150) {
        document["output"] = json!({"as": "${ {result: .n, all: .} }"});
    }
    document
}

/// Writes lists; names are unique in a document.
struct Writer<'d> {
    draw: &'d mut Draw,
    names: usize,
    left: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Agent,
    Set,
    Switch,
    Raise,
    Do,
    Fork,
    Race,
    Try,
    Wait,
    Http,
    Loop,
}

impl Writer<'_> {
    fn list(&mut self, depth: usize) -> Value {
        let count = 1 + self.draw.place(3);
        let names: Vec<String> = (0..count).map(|_| self.name()).collect();
        let tasks = (0..count).map(|place| {
            let task = self.task(depth, &names[place + 1..]);
            json!({&names[place]: task})
        });
        Value::Array(tasks.collect())
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("t{}", self.names)
    }

    fn task(&mut self, depth: usize, later: &[String]) -> Value {
        self.left = self.left.saturating_sub(1);
        let kind = self.kind(depth);
        let mut task = match kind {
            Kind::Agent => self.agent(),
            Kind::Set => json!({"set": {"n": "${ .n + 1 }"}}),
            Kind::Switch => self.switch(later),
            Kind::Raise => {
                json!({"raise": {"error": {"type": "https://example.com/raised", "status": 500, "title": "Raised"}}})
            }
            Kind::Do => json!({"do": self.list(depth + 1)}),
            Kind::Fork => self.fork(depth, false),
            Kind::Race => self.fork(depth, true),
            Kind::Try => self.attempt(depth),
            Kind::Wait => {
                json!({"wait": self.draw.one_of(&["PT0.2S", "PT3S", "PT20S", "PT2M", "PT5M"])})
            }
            Kind::Http => self.http(),
            Kind::Loop => self.repeated(),
        };
        if self.draw.happens(100) {
            task["if"] = json!(format!("${{ .n >= {} }}", self.draw.number(0..=9)));
        }
        if self.draw.happens(120) {
            task["export"] =
                json!({"as": self.draw.one_of(&["${ {last: .n} }", "${ $context + {seen: .n} }"])});
        }
        let may_time_out = !matches!(kind, Kind::Set | Kind::Switch | Kind::Raise);
        if may_time_out && self.draw.happens(60) {
            task["timeout"] = json!({"after": self.draw.one_of(&["PT8S", "PT1M", "PT10M"])});
        }
        if !matches!(kind, Kind::Switch) && self.draw.happens(60) {
            task["then"] = json!(self.onward(later));
        }
        task
    }

    fn kind(&mut self, depth: usize) -> Kind {
        let leaves = [
            (60, Kind::Agent),
            (15, Kind::Set),
            (8, Kind::Switch),
            (4, Kind::Raise),
            (12, Kind::Wait),
            (12, Kind::Http),
        ];
        if depth >= DEPTH_MAX || self.left < 3 {
            return self.draw.weighted(&leaves);
        }
        let nested = [
            (8, Kind::Do),
            (14, Kind::Fork),
            (8, Kind::Race),
            (18, Kind::Try),
            (6, Kind::Loop),
        ];
        self.draw.weighted(&[&leaves[..], &nested[..]].concat())
    }

    fn agent(&mut self) -> Value {
        let mut with = json!({"capability": self.draw.one_of(&CAPABILITIES)});
        if self.draw.happens(700) {
            let count = self.draw.number(0..=4);
            with["retry"] = json!({"delay": self.draw.one_of(&["PT0.5S", "PT1S", "PT30S"]), "limit": {"attempt": {"count": count}}});
        }
        if self.draw.happens(400) {
            with["startWithin"] = json!(self.draw.one_of(&["PT5S", "PT1M", "PT10M"]));
        }
        if self.draw.happens(200) {
            with["heartbeat"] = json!(self.draw.one_of(&["PT5S", "PT30S"]));
        }
        if self.draw.happens(200) {
            with["input"] = json!({"n": "${ .n }", "of": "${ $context }"});
        }
        let mut task = json!({"call": "agent:1.0.0@default", "with": with});
        if self.draw.happens(300) {
            task["output"] = json!({"as": "${ {n: .n, was: $input.n} }"});
        }
        task
    }

    fn http(&mut self) -> Value {
        let mut task = json!({
            "call": "http",
            "with": {"method": self.draw.one_of(&["get", "post"]), "endpoint": format!("{SITE}{}", self.names)},
        });
        if self.draw.happens(300) {
            task["output"] = json!({"as": "${ {n: .n, was: $input.n} }"});
        }
        task
    }

    fn switch(&mut self, later: &[String]) -> Value {
        let count = 1 + self.draw.place(2);
        let cases = (0..count).map(|place| {
            let when = format!("${{ .n < {} }}", self.draw.number(0..=9));
            let then = self.onward(later);
            json!({format!("case{place}"): {"when": when, "then": then}})
        });
        json!({"switch": cases.collect::<Vec<_>>()})
    }

    /// Forward only: what goes back goes through [`Writer::repeated`], which ends.
    fn onward(&mut self, later: &[String]) -> String {
        match self.draw.place(8) {
            0 => "exit".to_owned(),
            1 => "end".to_owned(),
            2..=5 if !later.is_empty() => later[self.draw.place(later.len())].clone(),
            _ => "continue".to_owned(),
        }
    }

    fn fork(&mut self, depth: usize, compete: bool) -> Value {
        let count = 2 + self.draw.place(2);
        let branches = (0..count).map(|_| {
            let name = self.name();
            json!({name: self.task(depth + 1, &[])})
        });
        let branches: Vec<Value> = branches.collect();
        let mut task = json!({"fork": {"branches": branches}});
        if compete {
            task["fork"]["compete"] = json!(true);
        } else {
            task["output"] =
                json!({"as": format!("${{ {{n: .[{}].n, all: .}} }}", self.draw.place(count))});
        }
        task
    }

    fn attempt(&mut self, depth: usize) -> Value {
        let tasks = self.list(depth + 1);
        let mut catch = json!({});
        if self.draw.happens(200) {
            catch["errors"] = json!({"with": {"status": self.draw.one_of(&[408, 500])}});
        }
        if self.draw.happens(150) {
            catch["when"] = json!("${ $error.status >= 500 }");
        }
        if self.draw.happens(500) {
            let mut limit = json!({"attempt": {"count": self.draw.number(1..=3)}});
            if self.draw.happens(200) {
                limit["attempt"]["duration"] = json!("PT40S");
            }
            catch["retry"] =
                json!({"delay": self.draw.one_of(&["PT0.3S", "PT10S"]), "limit": limit});
        }
        if self.draw.happens(600) {
            catch["do"] = self.list(depth + 1);
        }
        json!({"try": tasks, "catch": catch})
    }

    /// A loop that ends: it counts in `n` what it has done.
    fn repeated(&mut self) -> Value {
        let [zero, step, check] = [self.name(), self.name(), self.name()];
        let mut work = if self.draw.happens(600) {
            self.agent()
        } else {
            json!({"set": {"n": "${ .n }"}})
        };
        work["output"] = json!({"as": "${ {n: ($input.n + 1)} }"});
        let rounds = self.draw.number(2..=4);
        let again = json!({"when": format!("${{ .n < {rounds} }}"), "then": step});
        json!({"do": [
            {zero: {"set": {"n": 0}}},
            {step: work},
            {check: {"switch": [{"again": again}, {"enough": {"then": "exit"}}]}},
        ]})
    }
}

fn graph(draw: &mut Draw, number: usize) -> Value {
    let count = 2 + draw.place(5);
    let steps: Vec<Value> = (0..count).map(|place| step(draw, place)).collect();
    json!({
        "dag": "1.0", "namespace": "simulated", "name": format!("graph-{number}"), "version": "1.0.0",
        "maxParallel": draw.number(1..=4), "steps": steps,
    })
}

fn step(draw: &mut Draw, place: usize) -> Value {
    let mut step = if draw.happens(200) {
        json!({"uses": "set", "with": {"n": place}})
    } else {
        let delay = draw.one_of(&["500ms", "1s", "30s"]);
        json!({
            "uses": "agent",
            "with": {"capability": draw.one_of(&CAPABILITIES), "startWithin": draw.one_of(&["10s", "10m"])},
            "retry": {"limit": draw.number(0..=3), "delay": delay},
        })
    };
    step["id"] = json!(format!("s{place}"));
    step["join"] = json!(if draw.happens(500) { "any" } else { "all" });
    if place > 0 {
        let mut needs: Vec<String> = (0..draw.place(3))
            .map(|_| format!("s{}", draw.place(place)))
            .collect();
        needs.sort();
        needs.dedup();
        step["dependsOn"] = json!(needs);
    }
    if draw.happens(200) {
        let read = match place {
            0 => "input".to_owned(),
            _ => format!("s{}", draw.place(place)),
        };
        step["when"] = json!(format!("${{ .{read}.n >= {} }}", draw.number(0..=9)));
    }
    step
}

#[cfg(test)]
mod tests {
    use eventflow_domain::Json;

    use super::*;

    #[test]
    fn every_document_compiles() {
        let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
        for seed in 0..150 {
            let document = document(&mut Draw::of(seed), 1);
            let compiled = eventflow_dsl::compile(&Json::of(&document));
            assert!(compiled.is_ok(), "seed {seed}: {compiled:?} in {document}");
            let text = document.to_string();
            for kind in [
                "\"fork\"",
                "\"compete\"",
                "\"try\"",
                "\"wait\"",
                "\"http\"",
                "\"dag\"",
                "\"again\"",
                "\"raise\"",
            ] {
                *kinds.entry(kind).or_default() += usize::from(text.contains(kind));
            }
        }
        assert_eq!(kinds.len(), 8);
        for (kind, count) in kinds {
            assert!(count >= 8, "only {count} of 150 documents have {kind}");
        }
    }
}
