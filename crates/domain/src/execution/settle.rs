//! Drawing consequences: what follows from what ended or was entered.
//!
//! A pure function of state and plan, so settling twice gives nothing the second time: recovery may settle everything.

use super::{
    Container, Content, Event, Execution, Status, Task, TaskStatus, Unsettled,
    activate::{Activation, expression_problem},
    scope::{Dot, Fields, TaskScope, text},
};
use crate::{
    error::Problem,
    expression::EvaluationError,
    ids::TaskReference,
    limits::BYTES_PER_STEP_MAX,
    plan::{Graph, Join, Kind, Node, NodeId, Plan, Then},
    value::{Json, Value},
};

/// One call settles in portions of so many events, so that `step` can keep to its own bound.
pub(crate) const EVENTS_PER_PORTION_MAX: usize = 16;
/// The beginning of one task is at most so many events (a switch: its choice and its end), which stay together.
const EVENTS_PER_ACTIVATION_MAX: usize = 2;

/// A portion of what follows; empty when nothing (more) does.
pub(crate) fn settle(execution: &Execution, plan: &Plan, item: &Unsettled) -> Vec<Event> {
    match (execution.status, item) {
        (Status::Pending, Unsettled::Requested) => vec![started(execution, plan)],
        (Status::Completed | Status::Faulted | Status::Cancelled, _)
        | (_, Unsettled::Requested) => Vec::new(),
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
    if container.closing {
        return Vec::new();
    }
    match &node.kind {
        Kind::Sequence(tasks) if container.position.is_none() => match tasks.first() {
            Some(first) => begin(execution, plan, *first, task, &container.flow),
            None => finish(execution, plan, task, node, &container.flow),
        },
        Kind::Graph(graph) => {
            let roots = graph
                .steps
                .iter()
                .filter(|step| step.needs.is_empty())
                .map(|step| step.node);
            if graph.steps.is_empty() {
                graph_end(execution, plan, task, node, graph)
            } else {
                portion(roots, |step, ahead| {
                    begin_step(execution, plan, step, task, ahead)
                })
            }
        }
        Kind::Sequence(_) | Kind::Switch(_) | Kind::Set(_) | Kind::Raise(_) | Kind::Invoke(_) => {
            Vec::new()
        }
    }
}

fn ended(execution: &Execution, plan: &Plan, reference: &TaskReference) -> Vec<Event> {
    let Some((node, task)) = find(execution, plan, reference) else {
        return Vec::new();
    };
    let within = task.within.as_ref();
    let Some((parent, container)) = open_container(execution, plan, within) else {
        return Vec::new();
    };
    match task.status {
        TaskStatus::Completed | TaskStatus::Skipped => {}
        TaskStatus::Faulted => {
            let error = first_error(execution, plan, parent, within)
                .unwrap_or_else(|| unknown_error(reference));
            return fault(execution, plan, within, parent, error);
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
    match &parent.kind {
        Kind::Sequence(tasks) if container.position.as_ref() == Some(reference) => {
            match follow(execution, plan, node, task, tasks) {
                Next::Task(next) => begin(execution, plan, next, within, &container.flow),
                // The end of the execution is passed on from level to level: see `follow`.
                Next::Leave | Next::End => finish(execution, plan, within, parent, &container.flow),
            }
        }
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
        Kind::Sequence(_) | Kind::Switch(_) | Kind::Set(_) | Kind::Raise(_) | Kind::Invoke(_) => {
            Vec::new()
        }
    }
}

enum Next {
    Task(NodeId),
    Leave,
    End,
}

/// Where the flow goes after a task of a sequence. A skipped task sends it nowhere else than on; a sequence whose last
/// task ended the execution does the same.
fn follow(
    execution: &Execution,
    plan: &Plan,
    node: &Node,
    task: &Task,
    siblings: &[NodeId],
) -> Next {
    let inner = || {
        let last = task.container.as_ref()?.position.as_ref()?;
        let (last_node, last) = find(execution, plan, last)?;
        let Kind::Sequence(below) = &node.kind else {
            return None;
        };
        Some(follow(execution, plan, last_node, last, below))
    };
    if task.status == TaskStatus::Completed && matches!(inner(), Some(Next::End)) {
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

fn begin(
    execution: &Execution,
    plan: &Plan,
    node: NodeId,
    within: Option<&TaskReference>,
    raw: &Content,
) -> Vec<Event> {
    Activation::new(execution, plan, plan.node(node), within.cloned()).begin(raw)
}

/// Begins a step of a graph, unless it has begun.
fn begin_step(
    execution: &Execution,
    plan: &Plan,
    node: NodeId,
    within: Option<&TaskReference>,
    ahead: u32,
) -> Vec<Event> {
    let activation =
        Activation::new(execution, plan, plan.node(node), within.cloned()).behind(ahead);
    if execution.tasks.contains_key(&activation.task) {
        return Vec::new();
    }
    activation.begin(&Content::WorkflowInput)
}

/// Begins or skips a step whose needs have all ended.
fn step_due(
    execution: &Execution,
    plan: &Plan,
    graph: &Graph,
    step: usize,
    within: Option<&TaskReference>,
    ahead: u32,
) -> Vec<Event> {
    let step = &graph.steps[step];
    let iteration = within.map_or_else(Vec::new, |within| within.iteration.clone());
    let status = |node: NodeId| {
        let reference = TaskReference {
            pointer: plan.node(node).pointer.clone(),
            iteration: iteration.clone(),
        };
        execution.tasks.get(&reference).map(|task| task.status)
    };
    let needs = || {
        step.needs
            .iter()
            .rev()
            .map(|&need| status(graph.steps[need].node))
    };
    // From the last, since steps mostly end in document order: the first look tells that it is too early.
    if !needs().all(|need| need.is_some_and(TaskStatus::is_ended)) || status(step.node).is_some() {
        return Vec::new();
    }
    let completed = |need: Option<TaskStatus>| need == Some(TaskStatus::Completed);
    let runs = match step.join {
        Join::All => needs().all(completed),
        Join::Any => needs().any(completed),
    };
    if runs {
        return begin_step(execution, plan, step.node, within, ahead);
    }
    let task = TaskReference {
        pointer: plan.node(step.node).pointer.clone(),
        iteration,
    };
    vec![Event::TaskSkipped {
        task,
        within: within.cloned(),
    }]
}

fn graph_end(
    execution: &Execution,
    plan: &Plan,
    within: Option<&TaskReference>,
    node: &Node,
    graph: &Graph,
) -> Vec<Event> {
    let scope = TaskScope {
        execution,
        plan,
        node: within.map(|_| node),
        dot: Dot::Graph(node),
        input: Some(text(&execution.input)),
        output: None,
    };
    match graph_output(graph, &scope) {
        Ok(output) => finish(
            execution,
            plan,
            within,
            node,
            &Content::Value(Value::new(output)),
        ),
        Err(error) => fault(
            execution,
            plan,
            within,
            node,
            expression_problem(&error).at("/output"),
        ),
    }
}

fn graph_output(graph: &Graph, scope: &TaskScope<'_>) -> Result<Json, EvaluationError> {
    use crate::expression::Scope as _;
    if let Some(template) = &graph.output {
        return template.evaluate(scope);
    }
    let outputs = graph
        .steps
        .iter()
        .filter_map(|step| Some((&*step.id, scope.field(&step.id)?)));
    Ok(Json::of(&Fields(outputs.collect())))
}

/// Ends a container well: the outermost ends the execution.
fn finish(
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
fn fault(
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
    let below = cancel(execution, |task| is_below(execution, task, reference));
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
    let cancelled = cancel(execution, |_| true);
    if cancelled.is_empty() {
        vec![last()]
    } else {
        cancelled
    }
}

/// A portion of the open tasks that match, cancelled.
pub(crate) fn cancel(execution: &Execution, matches: impl Fn(&Task) -> bool) -> Vec<Event> {
    let open = execution
        .tasks
        .iter()
        .filter(|(_, task)| !task.status.is_ended() && matches(task));
    open.take(EVENTS_PER_PORTION_MAX)
        .map(|(reference, _)| Event::TaskCancelled {
            task: reference.clone(),
        })
        .collect()
}

/// Whether a task stands in this container, at any depth.
pub(crate) fn is_below(execution: &Execution, task: &Task, container: &TaskReference) -> bool {
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

fn find<'a>(
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
        execution.tasks.get(&TaskReference {
            pointer: plan.node(*id).pointer.clone(),
            iteration: iteration.clone(),
        })
    };
    let children: Vec<NodeId> = match &node.kind {
        Kind::Sequence(tasks) => tasks.clone(),
        Kind::Graph(graph) => graph.steps.iter().map(|step| step.node).collect(),
        Kind::Switch(_) | Kind::Set(_) | Kind::Raise(_) | Kind::Invoke(_) => Vec::new(),
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
