//! What is run: a workflow of every kind. Each task counts `n` up by one.

use serde_json::{Value, json};

/// A workflow, and what must come of it.
pub(crate) struct Workflow {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) document: &'static str,
    /// Whether this is its output.
    pub(crate) is_right: fn(&Value) -> bool,
    /// What a task may not begin before, each by its reference.
    pub(crate) needs: &'static [(&'static str, &'static [&'static str])],
}

impl Workflow {
    pub(crate) fn named(name: &str) -> &'static Self {
        let found = ALL.iter().find(|workflow| workflow.name == name);
        found.expect("a workflow of this test")
    }
}

pub(crate) const ALL: [Workflow; 5] = [
    Workflow {
        name: "chain",
        file: "chain.yaml",
        document: CHAIN,
        is_right: |output| output["n"] == 3,
        needs: &[
            ("/do/1/second", &["/do/0/first"]),
            ("/do/2/third", &["/do/1/second"]),
        ],
    },
    Workflow {
        name: "graph",
        file: "graph.json",
        document: GRAPH,
        is_right: |output| *output == json!({"c": 2, "d": 2}),
        needs: &[
            ("/steps/2", &["/steps/0"]),
            ("/steps/3", &["/steps/0", "/steps/1"]),
        ],
    },
    Workflow {
        name: "beside",
        file: "beside.yaml",
        document: BESIDE,
        is_right: |output| output["n"] == 3,
        needs: &[(
            "/do/1/race/fork/branches/0/quick",
            &[
                "/do/0/both/fork/branches/0/left",
                "/do/0/both/fork/branches/1/right",
            ],
        )],
    },
    Workflow {
        name: "compensating",
        file: "compensating.yaml",
        document: COMPENSATING,
        is_right: |output| output["n"] == 2,
        needs: &[("/do/1/after", &["/do/0/tried"])],
    },
    Workflow {
        name: "patient",
        file: "patient.yaml",
        document: PATIENT,
        is_right: |output| output["n"] == 2,
        needs: &[
            ("/do/1/first", &["/do/0/rest"]),
            ("/do/3/second", &["/do/2/again"]),
        ],
    },
];

/// Three in a row, each one more than the one before.
const CHAIN: &str = "
document: {dsl: 1.0.3, namespace: default, name: chain, version: 1.0.0}
do:
  - first: &work
      call: agent:1.0.0@default
      with:
        capability: work
        heartbeat: PT1S
        retry: {delay: {milliseconds: 50}, backoff: {constant: {}}, limit: {attempt: {count: 1000}}}
  - second: *work
  - third: *work
";

/// c needs a; d needs a and b.
const GRAPH: &str = r#"{
  "dag": "1.0", "namespace": "default", "name": "graph", "version": "1.0.0",
  "steps": [
    {"id": "a", "uses": "agent", "with": {"capability": "work", "heartbeat": "PT1S"}, "inputs": {"n": "${input.n}"},
     "retry": {"limit": 1000, "delay": "50ms", "backoff": "constant"}},
    {"id": "b", "uses": "agent", "with": {"capability": "work", "heartbeat": "PT1S"}, "inputs": {"n": "${input.n}"},
     "retry": {"limit": 1000, "delay": "50ms", "backoff": "constant"}},
    {"id": "c", "uses": "agent", "with": {"capability": "work", "heartbeat": "PT1S"}, "inputs": {"n": "${a.n}"},
     "retry": {"limit": 1000, "delay": "50ms", "backoff": "constant"}},
    {"id": "d", "uses": "agent", "with": {"capability": "work", "heartbeat": "PT1S"}, "inputs": {"n": "${a.n}", "m": "${b.n}"},
     "retry": {"limit": 1000, "delay": "50ms", "backoff": "constant"}}
  ],
  "output": {"c": "${c.n}", "d": "${d.n}"}
}"#;

/// Two beside each other, then a race that only one can win.
const BESIDE: &str = "
document: {dsl: 1.0.3, namespace: default, name: beside, version: 1.0.0}
do:
  - both:
      fork:
        branches:
          - left: &work
              call: agent:1.0.0@default
              with:
                capability: work
                heartbeat: PT1S
                retry: {delay: {milliseconds: 50}, backoff: {constant: {}}, limit: {attempt: {count: 1000}}}
          - right: *work
      output: {as: '${ {n: (.[0].n + .[1].n)} }'}
  - race:
      fork:
        compete: true
        branches:
          - quick: *work
          - never: {wait: {hours: 1}}
";

/// Fails three times, then something else is done instead.
const COMPENSATING: &str = "
document: {dsl: 1.0.3, namespace: default, name: compensating, version: 1.0.0}
do:
  - tried:
      try:
        - work: &work
            call: agent:1.0.0@default
            with:
              capability: work
              heartbeat: PT1S
              retry: {delay: {milliseconds: 50}, backoff: {constant: {}}, limit: {attempt: {count: 1000}}}
        - refuse: {raise: {error: {type: 'https://example.com/refused', status: 402, title: Refused}}}
      catch:
        errors: {with: {status: 402}}
        retry: {delay: {milliseconds: 20}, backoff: {constant: {}}, limit: {attempt: {count: 2}}}
        do:
          - instead: *work
  - after: *work
";

/// Lets time pass between its tasks.
const PATIENT: &str = "
document: {dsl: 1.0.3, namespace: default, name: patient, version: 1.0.0}
do:
  - rest: {wait: {milliseconds: 40}}
  - first: &work
      call: agent:1.0.0@default
      with:
        capability: work
        heartbeat: PT1S
        retry: {delay: {milliseconds: 50}, backoff: {constant: {}}, limit: {attempt: {count: 1000}}}
  - again: {wait: {milliseconds: 90}}
  - second: *work
";
