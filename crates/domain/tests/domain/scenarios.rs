//! Whole runs of every shape: what the golden histories were made from, and what the table of transitions is drawn from.

use eventflow_domain::{DurationMs, Json, plan::Plan};
use serde_json::{Value, json};

use crate::support::{Outcome, Run, plans::plan_of, run::Job};

/// A run from its start to its end.
pub(crate) struct Scenario {
    /// Also the name of its golden history.
    pub(crate) name: &'static str,
    pub(crate) document: &'static str,
    input: Value,
    worker: fn(&Job) -> Outcome,
}

/// What an agent answers where nothing else is said.
fn well(job: &Job) -> Outcome {
    Outcome::done(&json!({"by": job.task, "attempt": job.attempt}))
}

pub(crate) const SCENARIOS: &[fn() -> Scenario] = &[
    || Scenario {
        name: "sequence-completed",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: order, version: 1.0.0}
input: {from: '${ .order }'}
output: {as: {parcel: '${ .parcel }', of: '${ $input.id }'}}
do:
  - price: {set: {id: '${ .id }', total: '${ .pieces * 5 }'}, export: {as: '${ {total: .total} }'}}
  - charge: {call: 'agent:1.0.0@default', with: {capability: charge, input: '${ .total }'}}
  - ship:
      call: 'agent:1.0.0@default'
      with: {capability: ship, heartbeat: PT10S}
      input: {from: '${ {charged: ., total: $context.total} }'}
      output: {as: '${ {parcel: .by} }'}
",
        input: json!({"order": {"id": 7, "pieces": 3}}),
        worker: well,
    },
    || Scenario {
        name: "sequence-faulted",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: refused, version: 1.0.0}
do:
  - check:
      do:
        - charge: {call: 'agent:1.0.0@default', with: {capability: charge}}
        - never: {set: {n: 1}}
  - ship: {call: 'agent:1.0.0@default', with: {capability: ship}}
",
        input: json!({"id": 7}),
        worker: |_| Outcome::FailedForGood(crate::support::problem("card stolen")),
    },
    || {
        Scenario {
        name: "task-retried",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: flaky, version: 1.0.0}
do:
  - charge:
      call: 'agent:1.0.0@default'
      with: {capability: charge, startWithin: PT30S, retry: {delay: PT2S, backoff: {exponential: {}}, limit: {attempt: {count: 3}}}}
",
        input: json!(null),
        worker: |job| match job.attempt.0 {
            1 => Outcome::failed("busy"),
            2 => Outcome::Silence,
            3 => Outcome::Nobody,
            _ => well(job),
        },
    }
    },
    || Scenario {
        name: "conditional-with-skip",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: conditional, version: 1.0.0}
do:
  - gift: {if: '${ .gift }', call: 'agent:1.0.0@default', with: {capability: gift}}
  - choose:
      switch:
        - small: {when: '${ .total < 10 }', then: done}
        - large: {when: '${ .total >= 10 }', then: approve}
  - never: {set: {n: 1}}
  - approve: {call: 'agent:1.0.0@default', with: {capability: approve}}
  - again: {switch: [{more: {when: '${ .attempt < 2 }', then: approve}}]}
  - done: {set: {approved: '${ .by }'}, then: end}
",
        input: json!({"gift": false, "total": 12}),
        worker: well,
    },
    || Scenario {
        name: "graph-completed",
        document: "
dag: '1.0'
namespace: golden
name: n-shape
version: 1.0.0
maxParallel: 2
steps:
  - {id: a, uses: agent, with: {capability: work}}
  - {id: b, uses: agent, with: {capability: work}, inputs: {of: '${input.id}'}}
  - {id: c, uses: agent, with: {capability: work}, dependsOn: [a]}
  - {id: d, uses: agent, with: {capability: work}, inputs: {a: '${a}', b: '${b.by}'}}
  - {id: e, uses: set, with: {late: true}, when: '${ .b.attempt > 1 }'}
  - {id: f, uses: agent, with: {capability: work}, dependsOn: [d, e], join: any}
  - {id: g, uses: agent, with: {capability: work}, dependsOn: [e]}
",
        input: json!({"id": 7}),
        worker: well,
    },
    || Scenario {
        name: "graph-faulted",
        document: "
dag: '1.0'
namespace: golden
name: broken
version: 1.0.0
maxParallel: 2
steps:
  - {id: a, uses: agent, with: {capability: work}, retry: {limit: 1, delay: 1s}}
  - {id: b, uses: agent, with: {capability: work, startWithin: 1h}}
  - {id: c, uses: agent, with: {capability: work}}
  - {id: d, uses: agent, with: {capability: work}, dependsOn: [a, b]}
",
        input: json!({}),
        worker: |job| {
            if job.task == "b" {
                Outcome::Nobody
            } else {
                Outcome::failed("broken")
            }
        },
    },
    || Scenario {
        name: "execution-timed-out",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: slow, version: 1.0.0}
timeout: {after: PT1M}
do:
  - outer:
      do:
        - wait: {call: 'agent:1.0.0@default', with: {capability: wait}}
        - after: {call: 'agent:1.0.0@default', with: {capability: after}}
",
        input: json!({}),
        worker: |_| Outcome::Nobody,
    },
    || {
        Scenario {
        name: "task-timed-out",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: slow, version: 1.1.0}
do:
  - call: {call: http, with: {method: get, endpoint: 'https://example.com/slow'}, timeout: {after: PT10S}}
",
        input: json!({}),
        worker: |_| Outcome::Nobody,
    }
    },
    || {
        Scenario {
        name: "raised",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: raised, version: 1.0.0}
do:
  - refuse: {raise: {error: {type: 'https://example.com/errors/credit', status: 402, title: No credit}}}
",
        input: json!({}),
        worker: well,
    }
    },
];

impl Scenario {
    pub(crate) fn parsed(&self) -> Json {
        eventflow_dsl::parse(self.document).unwrap_or_else(|fault| panic!("{}: {fault}", self.name))
    }

    pub(crate) fn plan(&self) -> Plan {
        plan_of(&self.parsed())
    }

    /// The whole run; a little time passes between its attempts.
    pub(crate) fn run<'p>(&self, plan: &'p Plan) -> Run<'p> {
        let mut run = Run::requested(plan, Json::of(&self.input));
        run.advance();
        while !run.execution.is_ended() {
            run.wait(DurationMs(25));
            if !run.perform(&mut { self.worker }) && !run.execution.is_ended() {
                assert!(run.next_deadline(), "{} waits for nothing", self.name);
            }
        }
        run
    }
}
