//! A result that was accepted is accepted again, whatever became of its task since: its sender has not heard.

use crate::support::{
    fail, fail_for_good, given,
    plans::{agent_with, retries, sequence},
};

#[test]
fn a_failure_is_accepted_again_after_its_task_timed_out_waiting_for_the_retry() {
    let plan = sequence(&agent_with(
        "charge",
        &retries(1),
        "timeout: {after: PT0.5S}",
    ));
    let given = given(&plan)
        .history([fail("charge", 1, "declined")])
        .wait(500);
    assert!(given.run.execution.is_ended());
    given.when(fail("charge", 1, "declined")).then_nothing();
}

#[test]
fn a_failure_is_accepted_again_after_its_task_was_given_up_and_began_again() {
    let plan = sequence(&format!(
        "- outer:\n    try:\n    - both:\n        fork:\n          branches:\n          {}          {}    \
         catch: {{{}}}\n",
        agent_with("one", &retries(1), ""),
        agent_with("other", &retries(0), ""),
        retries(1),
    ));
    let given = given(&plan)
        .history([
            fail("one", 1, "declined"),
            fail_for_good("other", 1, "broken"),
        ])
        .wait(1_000);
    assert_eq!(given.task("one").attempt.0, 2);
    given.when(fail("one", 1, "declined")).then_nothing();
}
