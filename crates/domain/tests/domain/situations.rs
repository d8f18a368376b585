//! Every situation that a task can be in, and every order that can come for it: what both the tests of `decide` and the
//! table in `fixtures/transitions.md` go through.

use serde_json::json;

use crate::support::{
    Given, Order, begin, complete, expire, fail, fail_for_good, given, pause,
    plans::{agent, agent_with, graph, retries, sequence, step},
    resume, stop,
};
use eventflow_domain::plan::Plan;

/// The plans of all situations.
pub(crate) struct Plans {
    retried: Plan,
    held: Plan,
    cancelled: Plan,
    transformed: Plan,
    conditional: Plan,
    nested: Plan,
    forked: Plan,
    tried: Plan,
    waiting: Plan,
}

impl Plans {
    pub(crate) fn new() -> Self {
        Self {
            retried: sequence(
                &[
                    agent_with("charge", &retries(1), "timeout: {after: PT1M}"),
                    agent("ship", ""),
                ]
                .concat(),
            ),
            held: graph(
                &[step("other", ""), step("charge", "")].concat(),
                "maxParallel: 1",
            ),
            cancelled: graph(&[step("charge", ""), step("other", "")].concat(), ""),
            transformed: sequence(
                &[
                    agent("charge", "output: {as: '${ .paid }'}"),
                    agent("ship", ""),
                ]
                .concat(),
            ),
            conditional: sequence(
                &[agent("charge", "if: '${ false }'"), agent("ship", "")].concat(),
            ),
            forked: sequence(
                "- charge: {fork: {branches: [{inner: {call: 'agent:1.0.0@default', with: {capability: inner}}}]}}",
            ),
            tried: sequence(
                "- charge: {try: [{inner: {call: 'agent:1.0.0@default', with: {capability: inner}}}], catch: {retry: {delay: PT1S}}}",
            ),
            waiting: sequence("- charge: {wait: PT1H}"),
            nested: sequence(
                "- charge:\n    do:\n      - inner: {call: 'agent:1.0.0@default', with: {capability: inner}}",
            ),
        }
    }
}

/// What the worker brings in these situations.
pub(crate) fn paid() -> serde_json::Value {
    json!({"paid": true})
}

/// A task `charge` in one situation.
pub(crate) struct Situation<'p> {
    pub(crate) name: &'static str,
    pub(crate) given: Given<'p>,
    /// The attempt it has come to.
    pub(crate) attempt: u32,
}

/// Every situation; `charge` was last begun by worker-1, brought `paid()` or failed as "declined".
pub(crate) fn situations(plans: &Plans) -> Vec<Situation<'_>> {
    let retried = || given(&plans.retried);
    let begun = || retried().history([begin("charge", 1, "worker-1")]);
    let declined = || begun().history([fail("charge", 1, "declined")]);
    let situation = |name, given, attempt| Situation {
        name,
        given,
        attempt,
    };
    vec![
        situation("pending, ready", retried(), 1),
        situation("pending, held above maxParallel", given(&plans.held), 1),
        situation("running", begun(), 1),
        situation("waiting for its retry", declined(), 1),
        situation("pending, second attempt", declined().wait(1_000), 2),
        situation(
            "running, second attempt",
            declined()
                .wait(1_000)
                .history([begin("charge", 2, "worker-1")]),
            2,
        ),
        situation(
            "completed",
            begun().history([complete("charge", 1, paid())]),
            1,
        ),
        situation(
            "completed, output transformed",
            given(&plans.transformed).history([
                begin("charge", 1, "worker-1"),
                complete("charge", 1, paid()),
            ]),
            1,
        ),
        situation(
            "faulted",
            begun().history([fail_for_good("charge", 1, "declined")]),
            1,
        ),
        situation("timed out", begun().wait(60_000), 1),
        situation(
            "cancelled",
            given(&plans.cancelled).history([
                begin("charge", 1, "worker-1"),
                fail_for_good("other", 1, "out of stock"),
            ]),
            1,
        ),
        situation("skipped", given(&plans.conditional), 1),
        situation("running, a sequence", given(&plans.nested), 1),
        situation("running, a fork", given(&plans.forked), 1),
        situation("running, a try", given(&plans.tried), 1),
        situation(
            "waiting, a try between its attempts",
            given(&plans.tried).history([fail_for_good("inner", 1, "declined")]),
            1,
        ),
        situation("waiting, a wait", given(&plans.waiting), 1),
        situation("paused, pending", retried().history([pause()]), 1),
        situation("paused, running", begun().history([pause()]), 1),
        situation("stopped", begun().history([stop()]), 1),
    ]
}

/// Every order for the attempt that the task has come to, and for those around it.
pub(crate) fn orders(attempt: u32) -> Vec<(&'static str, Order)> {
    vec![
        ("begin, worker-1", begin("charge", attempt, "worker-1")),
        ("begin, worker-2", begin("charge", attempt, "worker-2")),
        ("complete, paid", complete("charge", attempt, paid())),
        (
            "complete, unpaid",
            complete("charge", attempt, json!({"paid": false})),
        ),
        ("fail, declined", fail("charge", attempt, "declined")),
        ("fail, another", fail("charge", attempt, "lost")),
        ("fail for good", fail_for_good("charge", attempt, "broken")),
        ("expire", expire("charge", attempt)),
        (
            "an earlier attempt fails, declined",
            fail("charge", attempt - 1, "declined"),
        ),
        (
            "an earlier attempt completes",
            complete("charge", attempt - 1, paid()),
        ),
        (
            "a later attempt completes",
            complete("charge", attempt + 1, paid()),
        ),
        ("pause", pause()),
        ("resume", resume()),
        ("stop", stop()),
    ]
}
