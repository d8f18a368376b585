//! Graphs: which step is due once what it needs has ended, and what the whole of it gives.

use super::{
    Content, Event, Execution, TaskStatus,
    activate::expression_problem,
    scope::{Dot, Fields, TaskScope, text},
    settle::{begin_beside, fault, finish},
};
use crate::{
    expression::EvaluationError,
    ids::TaskReference,
    plan::{Graph, Join, Node, NodeId, Plan},
    value::{Json, Value},
};

/// Begins or skips a step whose needs have all ended.
pub(crate) fn step_due(
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
        execution.this_round(&reference).map(|task| task.status)
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
        let raw = Content::WorkflowInput;
        return begin_beside(execution, plan, step.node, within, &raw, ahead);
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

/// Ends a graph with its output: the execution where it is the outermost.
pub(crate) fn graph_end(
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
        within,
        context: execution.context_within(within),
        error: None,
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
