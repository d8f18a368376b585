//! Whole runs of every shape: what the golden histories were made from, and what the table of transitions is drawn from.

use eventflow_domain::{DurationMs, Json, plan::Plan};
use serde_json::{Value, json};

use crate::support::{
    Order, Outcome, Run, begin, complete, pause,
    plans::plan_of,
    resume,
    run::{Job, START},
    stop,
};

/// A run from its start to its end.
pub(crate) struct Scenario {
    /// Also the name of its golden history.
    pub(crate) name: &'static str,
    pub(crate) document: &'static str,
    input: Value,
    worker: fn(&Job) -> Outcome,
    controls: &'static [Controlled],
}

/// What somebody orders, and when: milliseconds after the start.
type Controlled = (u64, fn() -> Order);

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
        controls: &[],
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
        controls: &[],
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
        controls: &[],
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
        controls: &[],
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
        controls: &[],
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
        controls: &[],
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
        controls: &[],
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
        controls: &[],
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
        controls: &[],
        worker: well,
    }
    },
    || {
        Scenario {
        name: "fork-completed",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: checks, version: 1.0.0}
do:
  - checks:
      fork:
        branches:
          - stock: {call: 'agent:1.0.0@default', with: {capability: stock}, export: {as: '${ $context + {stock: .by} }'}}
          - credit:
              do:
                - score: {call: 'agent:1.0.0@default', with: {capability: score}}
                - rate: {set: {rate: 3}, export: {as: '${ $context + {rate: .rate} }'}}
          - gift: {if: '${ .gift }', call: 'agent:1.0.0@default', with: {capability: gift}}
  - decide: {set: {of: '${ . }', context: '${ $context }'}}
",
        input: json!({"gift": false}),
        controls: &[],
        worker: well,
    }
    },
    || Scenario {
        name: "race-won",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: quotes, version: 1.0.0}
do:
  - quotes:
      fork:
        compete: true
        branches:
          - slow: {do: [{nap: {wait: PT1M}}, {never: {set: {n: 1}}}]}
          - broken: {call: 'agent:1.0.0@default', with: {capability: broken}}
          - quick: {call: 'agent:1.0.0@default', with: {capability: quick}}
",
        input: json!({}),
        controls: &[],
        worker: |job| match job.task.as_str() {
            "broken" => Outcome::FailedForGood(crate::support::problem("no offer")),
            _ => well(job),
        },
    },
    || {
        Scenario {
        name: "fork-faulted",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: checks, version: 1.1.0}
do:
  - checks:
      fork:
        branches:
          - deep: {fork: {branches: [{a: {call: 'agent:1.0.0@default', with: {capability: a}}}, {b: {wait: PT1H}}]}}
          - refuse: {call: 'agent:1.0.0@default', with: {capability: refuse}}
",
        input: json!({}),
        controls: &[],
        worker: |job| match job.task.as_str() {
            "refuse" => Outcome::FailedForGood(crate::support::problem("refused")),
            _ => Outcome::Nobody,
        },
    }
    },
    || {
        Scenario {
        name: "caught-after-retries",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: payment, version: 1.0.0}
do:
  - pay:
      try:
        - reserve: {set: {reserved: true}}
        - charge: {call: 'agent:1.0.0@default', with: {capability: charge}}
      catch:
        errors: {with: {type: 'https://open-workflow-specification.org/dsl/errors/types/runtime'}}
        as: problem
        retry: {delay: PT2S, backoff: {linear: {}}, jitter: {from: PT0S, to: PT1S}, limit: {attempt: {count: 2, duration: PT10S}}}
        do:
          - undo: {call: 'agent:1.0.0@default', with: {capability: undo, input: '${ $problem.title }'}}
          - tell: {set: {because: '${ $problem.title }'}, then: exit}
          - never: {set: {n: 1}}
  - after: {set: {told: '${ .because }'}}
",
        input: json!({"id": 7}),
        controls: &[],
        worker: |job| match job.task.as_str() {
            "charge" => Outcome::FailedForGood(crate::support::problem("declined")),
            _ => well(job),
        },
    }
    },
    || {
        Scenario {
        name: "try-in-a-loop",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: polling, version: 1.0.0}
do:
  - poll:
      try:
        - look: {call: 'agent:1.0.0@default', with: {capability: look}, timeout: {after: PT5S}}
        - beside: {fork: {branches: [{x: {set: {x: 1}}}, {y: {set: {y: 2}}}]}, output: {as: {attempt: 1}}}
      catch:
        errors: {with: {status: 408}}
        do: [{late: {set: {attempt: 9}}}]
  - again: {switch: [{more: {when: '${ .attempt < 5 }', then: poll}}]}
",
        input: json!({}),
        controls: &[],
        worker: |job| {
            if job.attempt.0 < 2 {
                well(job)
            } else {
                Outcome::Nobody
            }
        },
    }
    },
    || Scenario {
        name: "waited",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: reminder, version: 1.0.0}
do:
  - fixed: {wait: PT1.5S}
  - computed: {wait: '${ {minutes: .patience} }'}
  - remind: {call: 'agent:1.0.0@default', with: {capability: remind}}
",
        input: json!({"patience": 3}),
        controls: &[],
        worker: well,
    },
    || {
        Scenario {
        name: "paused-and-resumed",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: paused, version: 1.0.0}
do:
  - both:
      fork:
        branches:
          - one: {do: [{a: {call: 'agent:1.0.0@default', with: {capability: a}}}, {b: {call: 'agent:1.0.0@default', with: {capability: b}}}]}
          - two: {do: [{nap: {wait: PT0.04S}}, {c: {call: 'agent:1.0.0@default', with: {capability: c}}}]}
",
        input: json!({}),
        controls: &[(30, pause), (500, resume)],
        worker: well,
    }
    },
    || Scenario {
        name: "suspending-until-drained",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: paused, version: 1.1.0}
do:
  - a: {call: 'agent:1.0.0@default', with: {capability: a, heartbeat: PT10S}}
  - b: {set: {n: 1}}
",
        input: json!({}),
        controls: &[
            (10, || begin("a", 1, "worker-1")),
            (20, pause),
            (40, || complete("a", 1, json!({"n": 0}))),
            (60, resume),
        ],
        worker: |_| Outcome::Nobody,
    },
    || {
        Scenario {
        name: "stopped",
        document: "
document: {dsl: 1.0.3, namespace: golden, name: stopped, version: 1.0.0}
do:
  - both:
      fork:
        branches:
          - one: {try: [{a: {call: 'agent:1.0.0@default', with: {capability: a}}}], catch: {do: [{never: {set: {n: 1}}}]}}
          - two: {wait: P1D}
",
        input: json!({}),
        controls: &[(10, || begin("a", 1, "worker-1")), (20, pause), (30, stop)],
        worker: |_| Outcome::Nobody,
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
        let mut controls = self.controls.iter();
        let mut control = controls.next();
        while !run.execution.is_ended() {
            run.wait(DurationMs(25));
            if let Some((after, order)) = control
                && run.now >= START.after(DurationMs(*after))
            {
                run.order(&order())
                    .unwrap_or_else(|rejection| panic!("{}: {rejection}", self.name));
                run.advance();
                control = controls.next();
            } else if !run.perform(&mut { self.worker }) && control.is_none() {
                assert!(run.next_deadline(), "{} waits for nothing", self.name);
            }
        }
        run
    }
}
