//! What expressions see while a task is decided (OWS runtime expression arguments; INTERFACES section 7 for DAGs).

use serde::Serialize;

use super::{Execution, TaskStatus, task::Flow};
use crate::{
    expression::{Scope, field_of},
    ids::TaskReference,
    plan::{Kind, Node, Plan},
    value::{Json, Value},
};

/// The scope of one evaluation.
pub(crate) struct TaskScope<'a> {
    pub(crate) execution: &'a Execution,
    pub(crate) plan: &'a Plan,
    /// None for the workflow's own `input.from` and `output.as`.
    pub(crate) node: Option<&'a Node>,
    /// The container it stands in; none for the outermost.
    pub(crate) within: Option<&'a TaskReference>,
    /// `$context`
    pub(crate) context: &'a Value,
    /// The error that a `catch` is asked about, under the name that it gives it.
    pub(crate) error: Option<(&'a str, &'a Json)>,
    pub(crate) dot: Dot<'a>,
    /// `$input`: the task's input after `input.from`.
    pub(crate) input: Option<Json>,
    /// `$output`: the task's output after `output.as`.
    pub(crate) output: Option<Json>,
}

/// What `.` is.
#[derive(Clone)]
pub(crate) enum Dot<'a> {
    /// A value that flows through a sequence.
    Value(Json),
    /// `{"input": …, "<step id>": output, …}` of what has completed in the graph.
    Graph(&'a Node),
}

/// The text of a value. Whoever steps an execution has loaded what was missing: `Execution::missing`.
pub(crate) fn text(value: &Value) -> Json {
    value
        .json()
        .expect("large values are loaded before a step")
        .clone()
}

impl TaskScope<'_> {
    /// The output of a step that has completed.
    fn step_output(&self, id: &str) -> Option<Json> {
        if id == "input" {
            return Some(text(&self.execution.input));
        }
        let node = self.plan.step(id)?;
        let reference = TaskReference {
            pointer: node.pointer.clone(),
            iteration: Vec::new(),
        };
        let task = self.execution.this_round(&reference)?;
        (task.status == TaskStatus::Completed).then(|| task.output.as_ref().map(text))?
    }

    fn whole_graph(&self, graph: &Node) -> Json {
        let steps = match &graph.kind {
            Kind::Graph(graph) => graph.steps.as_slice(),
            Kind::Sequence(_)
            | Kind::Switch(_)
            | Kind::Set(_)
            | Kind::Raise(_)
            | Kind::Invoke(_)
            | Kind::Fork(_)
            | Kind::Try(_)
            | Kind::Wait(_) => &[],
        };
        let ids = std::iter::once("input").chain(steps.iter().map(|step| &*step.id));
        let fields = ids.filter_map(|id| Some((id, self.step_output(id)?)));
        Json::of(&Fields(fields.collect()))
    }
}

impl TaskScope<'_> {
    /// The error that the innermost handler around this place has caught under this name.
    fn caught(&self, name: &str) -> Option<Json> {
        if let Some((variable, error)) = self.error
            && variable == name
        {
            return Some(error.clone());
        }
        let handlers = self.execution.around(self.within).filter(|(_, task)| {
            let container = task.container.as_ref();
            container.is_some_and(|container| container.kind == Flow::Handler)
        });
        let mut errors = handlers.filter_map(|(reference, task)| {
            let node = self.plan.node(self.plan.find(&reference.pointer)?);
            let Kind::Try(attempt) = &node.kind else {
                return None;
            };
            (*attempt.catch.variable == *name).then_some(task.error.as_ref())?
        });
        errors.next().map(Json::of)
    }
}

/// An object of texts, in order.
pub(crate) struct Fields<'a>(pub(crate) Vec<(&'a str, Json)>);

impl serde::Serialize for Fields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Scope for TaskScope<'_> {
    fn dot(&self) -> Json {
        match &self.dot {
            Dot::Value(value) => value.clone(),
            Dot::Graph(graph) => self.whole_graph(graph),
        }
    }

    fn field(&self, name: &str) -> Option<Json> {
        match &self.dot {
            Dot::Value(value) => field_of(value, name),
            Dot::Graph(_) => self.step_output(name),
        }
    }

    fn dot_is_object(&self) -> bool {
        match &self.dot {
            Dot::Value(value) => value.as_str().trim_start().starts_with('{'),
            Dot::Graph(_) => true,
        }
    }

    fn variable(&self, name: &str) -> Option<Json> {
        let execution = self.execution;
        match name {
            "context" => Some(text(self.context)),
            "input" => self.input.clone(),
            "output" => self.output.clone(),
            "task" => self.node.map(|node| {
                Json::of(&TaskDescriptor {
                    name: &node.name,
                    reference: &node.pointer,
                    input: self.input.as_ref(),
                    output: self.output.as_ref(),
                })
            }),
            "workflow" => Some(Json::of(&WorkflowDescriptor {
                id: execution.id.as_str(),
                input: text(&execution.requested.input),
                started_at: Moment {
                    epoch: Epoch {
                        seconds: execution.created_at.0.div_euclid(1000),
                        milliseconds: execution.created_at.0,
                    },
                },
            })),
            "runtime" => Some(Json::of(&serde_json::json!({
                "name": "eventflow",
                "version": env!("CARGO_PKG_VERSION"),
                "metadata": {},
            }))),
            _ => self.caught(name),
        }
    }
}

/// `$task`. Values stay text: they may be what a parsed value cannot hold.
#[derive(Serialize)]
struct TaskDescriptor<'a> {
    name: &'a str,
    reference: &'a str,
    input: Option<&'a Json>,
    output: Option<&'a Json>,
}

/// `$workflow`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkflowDescriptor<'a> {
    id: &'a str,
    input: Json,
    started_at: Moment,
}

#[derive(Serialize)]
struct Moment {
    epoch: Epoch,
}

#[derive(Serialize)]
struct Epoch {
    seconds: i64,
    milliseconds: i64,
}
