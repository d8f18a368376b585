//! OWS documents: what is executed, what is refused, and that all faults are named at once.

mod calls;
mod catching;
mod faults;
mod flow;
#[path = "../support/mod.rs"]
mod support;
mod tasks;

use eventflow_domain::plan::{Node, Plan};
use support::{faults, outline, tasks};

fn node<'p>(plan: &'p Plan, pointer: &str) -> &'p Node {
    plan.node(
        plan.find(pointer)
            .unwrap_or_else(|| panic!("no {pointer} in\n{}", outline(plan))),
    )
}

/// The only fault of these tasks.
#[track_caller]
fn fault(text: &str) -> String {
    let mut faults = faults(&tasks(text));
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

#[track_caller]
fn check_fault(text: &str, pointer: &str, says: &str) {
    let fault = fault(text);
    assert!(
        fault.starts_with(&format!("{pointer}: ")) && fault.contains(says),
        "{fault}"
    );
}
