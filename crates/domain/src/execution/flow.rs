//! Where the flow goes: `then`, the cases of a switch, and the end that is passed on from level to level.

use super::{
    Execution, Task, TaskStatus,
    settle::{find, sequence_of},
};
use crate::{
    ids::TaskReference,
    plan::{Kind, Node, NodeId, Plan, Then},
};

/// What comes after a task of a row.
pub(crate) enum Next {
    Task(NodeId),
    Leave,
    End,
}

/// Where the flow goes after a task of a sequence. A skipped task sends it nowhere else than on; a sequence whose last
/// task ended the execution does the same.
pub(crate) fn follow(
    execution: &Execution,
    plan: &Plan,
    node: &Node,
    task: &Task,
    siblings: &[NodeId],
) -> Next {
    if task.status == TaskStatus::Completed && ends_inside(execution, plan, node, task) {
        return Next::End;
    }
    let directive = match (&node.kind, task.status, &task.branch) {
        (_, TaskStatus::Skipped, _) => Then::Continue,
        (Kind::Switch(cases), _, Some(branch)) => cases
            .iter()
            .find(|case| case.name == *branch)
            .map_or(node.then, |case| case.then),
        _ => node.then,
    };
    match directive {
        Then::Task(next) => Next::Task(next),
        Then::Exit => Next::Leave,
        Then::End => Next::End,
        Then::Continue => {
            let own = plan.find(&node.pointer);
            let place = siblings.iter().position(|sibling| Some(*sibling) == own);
            place
                .and_then(|place| siblings.get(place + 1))
                .map_or(Next::Leave, |next| Next::Task(*next))
        }
    }
}

/// Whether what runs in this container has ended the execution.
fn ends_inside(execution: &Execution, plan: &Plan, node: &Node, task: &Task) -> bool {
    let Some(container) = &task.container else {
        return false;
    };
    if let Some(below) = sequence_of(node, container) {
        let last = container.position.as_ref();
        let last = last.and_then(|last| find(execution, plan, last));
        return last.is_some_and(|(node, task)| {
            matches!(follow(execution, plan, node, task, below), Next::End)
        });
    }
    let Kind::Fork(fork) = &node.kind else {
        return false;
    };
    let ends = |branch: &TaskReference| {
        find(execution, plan, branch)
            .filter(|(_, task)| task.round == container.round)
            .is_some_and(|(node, task)| sends_to_the_end(execution, plan, node, task))
    };
    if fork.compete {
        return container.winner.as_ref().is_some_and(ends);
    }
    let Some(last) = &container.position else {
        return false;
    };
    fork.branches.iter().any(|branch| {
        ends(&TaskReference {
            pointer: plan.node(*branch).pointer.clone(),
            iteration: last.iteration.clone(),
        })
    })
}

/// Whether a completed task has ended the execution, by its own `then` or by what ran in it.
pub(crate) fn sends_to_the_end(
    execution: &Execution,
    plan: &Plan,
    node: &Node,
    task: &Task,
) -> bool {
    task.status == TaskStatus::Completed
        && matches!(follow(execution, plan, node, task, &[]), Next::End)
}
