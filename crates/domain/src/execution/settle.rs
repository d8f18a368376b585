//! Drawing consequences: what follows from what ended or was entered.
//!
//! A pure function of state and plan, so settling twice gives nothing the second time: recovery may settle everything.

use std::sync::Arc;

use super::{
    Container, Content, Event, Execution, Status, Task, TaskStatus, Unsettled,
    activate::{Activation, expression_problem},
    catch::caught,
    flow::{Next, follow},
    fork::Forked,
    graph::{graph_end, step_due},
    scope::{Dot, TaskScope, text},
    task::Flow,
};
use crate::{
    error::Problem,
    ids::TaskReference,
    limits::BYTES_PER_STEP_MAX,
    plan::{Fork, Kind, Node, NodeId, Plan},
    value::{Json, Value},
};

/// One call settles in portions of so many events, so that `step` can keep to its own bound.
pub(crate) const EVENTS_PER_PORTION_MAX: usize = 16;
/// The beginning of one task is at most so many events (a switch: its choice and its end), which stay together.
const EVENTS_PER_ACTIVATION_MAX: usize = 2;

/// A portion of what follows; empty when nothing (more) does.
pub(crate) fn settle(execution: &Execution, plan: &Plan, item: &Unsettled) -> Vec<Event> {
    if execution.is_stopping && *item != Unsettled::Stopping {
        return Vec::new();
    }
    match (execution.status, item) {
        (Status::Completed | Status::Faulted | Status::Cancelled, _) => Vec::new(),
        (_, Unsettled::Stopping) => close(execution, || Event::ExecutionCancelled {}),
        (Status::Pending, Unsettled::Requested) => vec![started(execution, plan)],
        (_, Unsettled::Requested) => Vec::new(),
        (_, Unsettled::Entered(task)) => entered(execution, plan, task.as_ref()),
        (_, Unsettled::Ended(task)) => ended(execution, plan, task),
    }
}

fn started(execution: &Execution, plan: &Plan) -> Event {
    let scope = workflow_scope(execution, plan, &execution.requested.input);
    let max_parallel = plan.node(plan.root).graph().map(|graph| graph.max_parallel);
    match plan
        .input
        .as_ref()
        .map(|from| from.evaluate(&scope))
        .transpose()
    {
        Ok(input) => Event::ExecutionStarted {
            input: input.map(Value::new),
            max_parallel,
        },
        Err(error) => Event::ExecutionFaulted {
            error: expression_problem(&error).at("/input/from"),
        },
    }
}

fn entered(execution: &Execution, plan: &Plan, task: Option<&TaskReference>) -> Vec<Event> {
    let Some((node, container)) = open_container(execution, plan, task) else {
        return Vec::new();
    };
    if container.closing || container.winner.is_some() {
        return Vec::new();
    }
    if let Some(tasks) = sequence_of(node, container) {
        return match tasks.first() {
            _ if container.position.is_some() => Vec::new(),
            Some(first) => begin(execution, plan, *first, task, &container.flow),
            None => finish(execution, plan, task, node, &container.flow),
        };
    }
    match &node.kind {
        Kind::Graph(graph) => {
            let roots = graph
                .steps
                .iter()
                .filter(|step| step.needs.is_empty())
                .map(|step| step.node);
            if graph.steps.is_empty() {
                graph_end(execution, plan, task, node, graph)
            } else {
                let raw = Content::WorkflowInput;
                portion(roots, |step, ahead| {
                    begin_beside(execution, plan, step, task, &raw, ahead)
                })
            }
        }
        Kind::Fork(fork) if fork.branches.is_empty() => {
            let output = Value::new(Json::of::<[Json]>(&[]));
            finish(execution, plan, task, node, &Content::Value(output))
        }
        Kind::Fork(fork) => portion(unbegun(plan, fork, container), |branch, ahead| {
            begin_beside(execution, plan, *branch, task, &branch_input(task), ahead)
        }),
        Kind::Sequence(_)
        | Kind::Try(_)
        | Kind::Switch(_)
        | Kind::Set(_)
        | Kind::Raise(_)
        | Kind::Invoke(_)
        | Kind::Wait(_) => Vec::new(),
    }
}

/// The branches that have not begun: they begin in document order, which is that of the nodes.
fn unbegun<'a>(plan: &Plan, fork: &'a Fork, container: &Container) -> std::slice::Iter<'a, NodeId> {
    let last = container.position.as_ref();
    let last = last.and_then(|last| plan.find(&last.pointer));
    let begun = fork
        .branches
        .partition_point(|branch| last.is_some_and(|last| *branch <= last));
    fork.branches[begun..].iter()
}

/// What each branch of a fork is given: the fork's own input.
fn branch_input(fork: Option<&TaskReference>) -> Content {
    fork.map_or(Content::WorkflowInput, |fork| {
        Content::InputOf(fork.clone())
    })
}

/// The tasks of a container that run one after the other, where it is one of those.
pub(crate) fn sequence_of<'a>(node: &'a Node, container: &Container) -> Option<&'a [NodeId]> {
    node.kind.sequence(container.kind == Flow::Handler)
}

fn ended(execution: &Execution, plan: &Plan, reference: &TaskReference) -> Vec<Event> {
    let Some((node, task)) = find(execution, plan, reference) else {
        return Vec::new();
    };
    let within = task.within.as_ref();
    let Some((parent, container)) = open_container(execution, plan, within) else {
        return Vec::new();
    };
    if !execution.is_of_this_round(task) {
        return Vec::new();
    }
    if let (Kind::Fork(fork), Some(within)) = (&parent.kind, within) {
        let forked = Forked {
            execution,
            plan,
            node: parent,
            fork,
            reference: within,
        };
        return forked.branch_ended(reference, task);
    }
    match task.status {
        TaskStatus::Completed | TaskStatus::Skipped => {}
        TaskStatus::Faulted => {
            let error = first_error(execution, plan, parent, within)
                .unwrap_or_else(|| unknown_error(reference));
            return match (&parent.kind, within) {
                (Kind::Try(_), Some(within)) if container.kind != Flow::Handler => {
                    failed_try(execution, plan, within, error)
                }
                _ => fault(execution, plan, within, parent, error),
            };
        }
        // Whoever cancelled it draws the consequences.
        TaskStatus::Cancelled
        | TaskStatus::Pending
        | TaskStatus::Running
        | TaskStatus::Waiting
        | TaskStatus::Suspended => return Vec::new(),
    }
    if container.closing {
        return Vec::new();
    }
    if let Some(tasks) = sequence_of(parent, container) {
        if container.position.as_ref() != Some(reference) {
            return Vec::new();
        }
        return match follow(execution, plan, node, task, tasks) {
            Next::Task(next) => begin(execution, plan, next, within, &container.flow),
            // The end of the execution is passed on from level to level: see `follow`.
            Next::Leave | Next::End => finish(execution, plan, within, parent, &container.flow),
        };
    }
    match &parent.kind {
        Kind::Graph(graph) => {
            let place = graph
                .steps
                .iter()
                .position(|step| plan.node(step.node).pointer == node.pointer);
            let dependents = place.map_or(&[][..], |place| &graph.steps[place].dependents);
            if container.ended as usize >= graph.steps.len() {
                graph_end(execution, plan, within, parent, graph)
            } else {
                portion(dependents.iter(), |&step, ahead| {
                    step_due(execution, plan, graph, step, within, ahead)
                })
            }
        }
        Kind::Sequence(_)
        | Kind::Try(_)
        | Kind::Fork(_)
        | Kind::Switch(_)
        | Kind::Set(_)
        | Kind::Raise(_)
        | Kind::Invoke(_)
        | Kind::Wait(_) => Vec::new(),
    }
}

/// What follows from an error in the tasks of a `try`; nothing where that was drawn already and it waits for its next
/// attempt.
fn failed_try(
    execution: &Execution,
    plan: &Plan,
    reference: &TaskReference,
    error: Problem,
) -> Vec<Event> {
    let waits = |task: &Task| task.status == TaskStatus::Waiting;
    if execution.tasks.get(reference).is_some_and(waits) {
        return Vec::new();
    }
    let below = below_cancelled(execution, reference);
    if !below.is_empty() {
        return below;
    }
    vec![caught(
        execution,
        plan,
        reference,
        error,
        execution.changed_at,
    )]
}

fn begin(
    execution: &Execution,
    plan: &Plan,
    node: NodeId,
    within: Option<&TaskReference>,
    raw: &Content,
) -> Vec<Event> {
    Activation::new(execution, plan, plan.node(node), within.cloned()).begin(raw)
}

/// Begins a step of a graph or a branch of a fork, unless it has begun.
pub(crate) fn begin_beside(
    execution: &Execution,
    plan: &Plan,
    node: NodeId,
    within: Option<&TaskReference>,
    raw: &Content,
    ahead: u32,
) -> Vec<Event> {
    let activation =
        Activation::new(execution, plan, plan.node(node), within.cloned()).behind(ahead);
    if execution.this_round(&activation.task).is_some() {
        return Vec::new();
    }
    activation.begin(raw)
}

/// Ends a container well: the outermost ends the execution.
pub(crate) fn finish(
    execution: &Execution,
    plan: &Plan,
    task: Option<&TaskReference>,
    node: &Node,
    flow: &Content,
) -> Vec<Event> {
    let Some(reference) = task else {
        return close(execution, || complete(execution, plan, flow));
    };
    let Some(state) = execution.tasks.get(reference) else {
        return Vec::new();
    };
    let activation = Activation::new(execution, plan, node, state.within.clone());
    vec![activation.end_container(state.attempt, flow)]
}

/// Ends a container with an error: the outermost ends the execution.
pub(crate) fn fault(
    execution: &Execution,
    plan: &Plan,
    task: Option<&TaskReference>,
    node: &Node,
    error: Problem,
) -> Vec<Event> {
    let Some(reference) = task else {
        return close(execution, || Event::ExecutionFaulted { error });
    };
    let Some(state) = execution.tasks.get(reference) else {
        return Vec::new();
    };
    let below = below_cancelled(execution, reference);
    if !below.is_empty() {
        return below;
    }
    let activation = Activation::new(execution, plan, node, state.within.clone());
    vec![Event::TaskFaulted {
        task: activation.task,
        within: activation.within,
        attempt: state.attempt,
        error,
        result: None,
    }]
}

/// Cancels what is still under way, in portions; then the execution ends.
pub(crate) fn close(execution: &Execution, last: impl FnOnce() -> Event) -> Vec<Event> {
    let cancelled = cancel(execution.tasks.iter());
    if cancelled.is_empty() {
        vec![last()]
    } else {
        cancelled
    }
}

/// A portion of those of these tasks that are open, cancelled.
fn cancel<'a>(tasks: impl Iterator<Item = (&'a TaskReference, &'a Task)>) -> Vec<Event> {
    let open = tasks.filter(|(_, task)| !task.status.is_ended());
    open.take(EVENTS_PER_PORTION_MAX)
        .map(|(reference, _)| Event::TaskCancelled {
            task: reference.clone(),
        })
        .collect()
}

/// A portion of what is under way in this container, cancelled.
pub(crate) fn below_cancelled(execution: &Execution, container: &TaskReference) -> Vec<Event> {
    let prefix: Arc<str> = format!("{}/", container.pointer).into();
    let first = TaskReference {
        pointer: prefix.clone(),
        iteration: Vec::new(),
    };
    // In the order of their pointers, so that what stands elsewhere costs nothing.
    let near = execution.tasks.range(first..);
    let near = near.take_while(|(reference, _)| reference.pointer.starts_with(&*prefix));
    cancel(near.filter(|(_, task)| is_below(execution, task, container)))
}

/// Whether a task stands in this container, at any depth.
fn is_below(execution: &Execution, task: &Task, container: &TaskReference) -> bool {
    let parents = std::iter::successors(task.within.as_ref(), |parent| {
        execution.tasks.get(*parent)?.within.as_ref()
    });
    parents.into_iter().any(|parent| parent == container)
}

fn complete(execution: &Execution, plan: &Plan, flow: &Content) -> Event {
    let value = execution.resolve(flow);
    let Some(template) = &plan.output else {
        return Event::ExecutionCompleted {
            output: flow.clone(),
        };
    };
    match template.evaluate(&workflow_scope(execution, plan, &value)) {
        Ok(output) => Event::ExecutionCompleted {
            output: Content::Value(Value::new(output)),
        },
        Err(error) => Event::ExecutionFaulted {
            error: expression_problem(&error).at("/output/as"),
        },
    }
}

fn workflow_scope<'a>(execution: &'a Execution, plan: &'a Plan, dot: &Value) -> TaskScope<'a> {
    TaskScope {
        execution,
        plan,
        node: None,
        within: None,
        context: &execution.context,
        error: None,
        dot: Dot::Value(text(dot)),
        input: Some(text(&execution.input)),
        output: None,
    }
}

/// The node and state of a container that is under way.
fn open_container<'a>(
    execution: &'a Execution,
    plan: &'a Plan,
    task: Option<&TaskReference>,
) -> Option<(&'a Node, &'a Container)> {
    let node = match task {
        None => plan.node(plan.root),
        Some(reference) => {
            let (node, state) = find(execution, plan, reference)?;
            (!state.status.is_ended()).then_some(node)?
        }
    };
    Some((node, execution.container(task)?))
}

pub(crate) fn find<'a>(
    execution: &'a Execution,
    plan: &'a Plan,
    reference: &TaskReference,
) -> Option<(&'a Node, &'a Task)> {
    Some((
        plan.node(plan.find(&reference.pointer)?),
        execution.tasks.get(reference)?,
    ))
}

/// The events of at least one activation, if there is one, and no more than a portion by number and by size. `events`
/// is told how many activations of the portion come before. Nothing follows a fault: it would only be cancelled.
fn portion<T>(steps: impl Iterator<Item = T>, events: impl Fn(T, u32) -> Vec<Event>) -> Vec<Event> {
    let mut taken = Vec::new();
    let (mut bytes, mut ahead) = (0, 0);
    for step in steps {
        let activation = events(step, ahead);
        ahead += match activation.first() {
            None | Some(Event::TaskSkipped { .. }) => 0,
            Some(_) => 1,
        };
        bytes += activation.iter().map(Event::weight).sum::<usize>();
        let faulted = activation
            .iter()
            .any(|event| matches!(event, Event::TaskFaulted { .. }));
        taken.extend(activation);
        let full = taken.len() + EVENTS_PER_ACTIVATION_MAX > EVENTS_PER_PORTION_MAX;
        if full || faulted || bytes >= BYTES_PER_STEP_MAX / 2 {
            break;
        }
    }
    taken
}

/// The error that ends a container: the first of its tasks', whichever of them is settled first.
fn first_error(
    execution: &Execution,
    plan: &Plan,
    node: &Node,
    within: Option<&TaskReference>,
) -> Option<Problem> {
    let iteration = within.map_or_else(Vec::new, |within| within.iteration.clone());
    let task = |id: &NodeId| {
        execution.this_round(&TaskReference {
            pointer: plan.node(*id).pointer.clone(),
            iteration: iteration.clone(),
        })
    };
    let children: Vec<NodeId> = match &node.kind {
        Kind::Sequence(tasks) => tasks.clone(),
        Kind::Try(attempt) => [&attempt.tasks[..], &attempt.catch.tasks[..]].concat(),
        Kind::Graph(graph) => graph.steps.iter().map(|step| step.node).collect(),
        Kind::Fork(_)
        | Kind::Switch(_)
        | Kind::Set(_)
        | Kind::Raise(_)
        | Kind::Invoke(_)
        | Kind::Wait(_) => Vec::new(),
    };
    let faulted = children
        .iter()
        .filter_map(task)
        .filter(|task| task.status == TaskStatus::Faulted);
    faulted
        .min_by_key(|task| task.ended_at)
        .and_then(|task| task.error.clone())
}

fn unknown_error(reference: &TaskReference) -> Problem {
    let kind = crate::error::ErrorKind::Runtime;
    Problem::new(kind, "Task faulted", "no error was recorded").at(reference.to_string())
}
