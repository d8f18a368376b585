//! What the executions of a benchmark do, and what must come of it.
//!
//! A baton is handed from step to step: each counts it up and mixes its own number into its trail. A step that is
//! missing, repeated, out of order or of another execution shows in the last one.

use std::collections::BTreeMap;

use anyhow::ensure;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The capability of a benchmark's agent.
pub(crate) const CAPABILITY: &str = "bench-step";
/// The trail stays below this prime, so that every party computes it without overflow.
const TRAIL_MODULUS: u64 = 1_000_003;
/// What a trail is multiplied by before a step's number is added.
const TRAIL_FACTOR: u64 = 31;
/// The namespace of a benchmark's workflows.
const NAMESPACE: &str = "bench";

/// Which workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// K steps by an agent, one after the other.
    Sequence,
    /// K `set` steps: nobody else is involved.
    Local,
    /// K HTTP calls of a local stub.
    Http,
    /// K steps by an agent, all at a time.
    Fanout,
    /// As sequence, one execution at a time.
    Latency,
}

impl Kind {
    pub(crate) fn needs_agent(self) -> bool {
        match self {
            Self::Sequence | Self::Fanout | Self::Latency => true,
            Self::Local | Self::Http => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Local => "local",
            Self::Http => "http",
            Self::Fanout => "fanout",
            Self::Latency => "latency",
        }
    }
}

/// What goes from step to step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Baton {
    /// The execution's.
    pub(crate) id: String,
    /// Steps so far.
    pub(crate) n: u64,
    /// Which ones, in order.
    pub(crate) trail: u64,
}

impl Baton {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            n: 0,
            trail: 0,
        }
    }

    /// What the step of this number makes of it.
    pub(crate) fn after(self, step: u64) -> Self {
        Self {
            n: self.n + 1,
            trail: (self.trail % TRAIL_MODULUS * TRAIL_FACTOR + step) % TRAIL_MODULUS,
            ..self
        }
    }
}

/// A workload's document and what comes of it.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) document: Value,
    kind: Kind,
    steps: u64,
}

impl Workload {
    pub(crate) fn new(kind: Kind, steps: u32, stub: &str) -> Self {
        let agent = json!({
            "call": "agent:1.0.0@default",
            "with": {"capability": CAPABILITY, "input": "${ . }"},
        });
        let each = |of: &dyn Fn(u32) -> Value| -> Value {
            (0..steps)
                .map(|step| json!({ format!("step{step}"): of(step) }))
                .collect()
        };
        // The stub's port differs from run to run, and a version never changes.
        let port = stub.rsplit(':').next().filter(|port| !port.is_empty());
        let name = match port {
            Some(port) => format!("{}-{steps}-{port}", kind.name()),
            None => format!("{}-{steps}", kind.name()),
        };
        let document = match kind {
            Kind::Sequence | Kind::Latency => sequence(&name, &each(&|_| agent.clone())),
            Kind::Local => sequence(&name, &each(&local)),
            Kind::Http => sequence(&name, &each(&|step| http(stub, step))),
            Kind::Fanout => json!({
                "dag": "1.0", "namespace": NAMESPACE, "name": name, "version": "1.0.0",
                "steps": (0..steps).map(branch).collect::<Value>(),
            }),
        };
        Self {
            name,
            document,
            kind,
            steps: u64::from(steps),
        }
    }

    /// The body that starts one.
    pub(crate) fn start(&self, id: &str) -> Value {
        json!({
            "workflow": {"namespace": NAMESPACE, "name": self.name},
            "executionId": id,
            "input": Baton::new(id),
        })
    }

    /// Whether this is what must come of the execution of this id.
    pub(crate) fn check(&self, id: &str, output: &str) -> anyhow::Result<()> {
        let baton = Baton::new(id);
        if self.kind == Kind::Fanout {
            let came: BTreeMap<String, Baton> = serde_json::from_str(output)?;
            let expected: BTreeMap<_, _> = (0..self.steps)
                .map(|step| (format!("step{step}"), baton.clone().after(step)))
                .collect();
            ensure!(
                came == expected,
                "{} branches came, or others than {}",
                came.len(),
                expected.len()
            );
            return Ok(());
        }
        let came: Baton = serde_json::from_str(output)?;
        let expected = (0..self.steps).fold(baton, Baton::after);
        ensure!(came == expected, "{came:?} came, not {expected:?}");
        Ok(())
    }
}

fn sequence(name: &str, tasks: &Value) -> Value {
    json!({
        "document": {"dsl": "1.0.3", "namespace": NAMESPACE, "name": name, "version": "1.0.0"},
        "do": tasks,
    })
}

/// What [`Baton::after`] does, in jq.
fn local(step: u32) -> Value {
    json!({"set": {
        "id": "${ .id }",
        "n": "${ .n + 1 }",
        "trail": format!("${{ (.trail * {TRAIL_FACTOR} + {step}) % {TRAIL_MODULUS} }}"),
    }})
}

fn http(stub: &str, step: u32) -> Value {
    json!({"call": "http", "with": {
        "method": "post", "endpoint": format!("{stub}/step/{step}"), "body": "${ . }",
    }})
}

/// A step of a graph that needs no other.
fn branch(step: u32) -> Value {
    json!({
        "id": format!("step{step}"),
        "uses": "agent",
        "with": {"capability": CAPABILITY},
        "inputs": {"id": "${input.id}", "n": "${input.n}", "trail": "${input.trail}"},
    })
}

/// A task's number among its siblings: the last index of its reference.
pub(crate) fn number(reference: &str) -> Option<u64> {
    reference
        .rsplit('/')
        .find_map(|segment| segment.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_is_valid() {
        for kind in Kind::value_variants() {
            let workload = Workload::new(*kind, 5, "http://127.0.0.1:4000");
            let document = eventflow_domain::Json::of(&workload.document);
            let compiled = eventflow_dsl::compile(&document);
            assert!(compiled.is_ok(), "{kind:?}: {:?}", compiled.err());
        }
    }

    #[test]
    fn a_missing_repeated_swapped_or_foreign_step_shows() {
        let workload = Workload::new(Kind::Sequence, 3, "");
        let trail = |id: &str, steps: &[u64]| {
            let baton = steps
                .iter()
                .fold(Baton::new(id), |baton, step| baton.after(*step));
            serde_json::to_string(&baton).unwrap()
        };
        assert!(workload.check("e1", &trail("e1", &[0, 1, 2])).is_ok());
        for wrong in [&[0, 1][..], &[0, 1, 1, 2], &[1, 0, 2], &[0, 2, 1]] {
            assert!(
                workload.check("e1", &trail("e1", wrong)).is_err(),
                "{wrong:?}"
            );
        }
        assert!(workload.check("e1", &trail("e2", &[0, 1, 2])).is_err());
        assert!(workload.check("e1", "null").is_err());
    }

    #[test]
    fn a_fan_out_is_whole_and_each_branch_its_own() {
        let workload = Workload::new(Kind::Fanout, 2, "");
        let of = |branches: &[(&str, u64)]| {
            let outputs: BTreeMap<_, _> = branches
                .iter()
                .map(|(name, step)| (*name, Baton::new("e").after(*step)))
                .collect();
            serde_json::to_string(&outputs).unwrap()
        };
        assert!(
            workload
                .check("e", &of(&[("step0", 0), ("step1", 1)]))
                .is_ok()
        );
        assert!(
            workload
                .check("e", &of(&[("step0", 1), ("step1", 0)]))
                .is_err()
        );
        assert!(workload.check("e", &of(&[("step0", 0)])).is_err());
    }

    #[test]
    fn a_task_knows_its_number() {
        assert_eq!(number("/do/2/step2"), Some(2));
        assert_eq!(number("/steps/17"), Some(17));
        assert_eq!(number("/do"), None);
    }
}
