//! What expressions see while a task is decided (OWS runtime expression arguments; INTERFACES section 7 for DAGs).

use serde::Serialize;

use super::{Execution, TaskStatus};
use crate::{
    expression::{Scope, field_of},
    plan::{Kind, Node, Plan},
    value::{Json, Value},
};

/// The scope of one evaluation.
pub(crate) struct TaskScope<'a> {
    pub(crate) execution: &'a Execution,
    pub(crate) plan: &'a Plan,
    /// None for the workflow's own `input.from` and `output.as`.
    pub(crate) node: Option<&'a Node>,
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
        let reference = crate::ids::TaskReference {
            pointer: node.pointer.clone(),
            iteration: Vec::new(),
        };
        let task = self.execution.tasks.get(&reference)?;
        (task.status == TaskStatus::Completed).then(|| task.output.as_ref().map(text))?
    }

    fn whole_graph(&self, graph: &Node) -> Json {
        let steps = match &graph.kind {
            Kind::Graph(graph) => graph.steps.as_slice(),
            Kind::Sequence(_)
            | Kind::Switch(_)
            | Kind::Set(_)
            | Kind::Raise(_)
            | Kind::Invoke(_) => &[],
        };
        let ids = std::iter::once("input").chain(steps.iter().map(|step| &*step.id));
        let fields = ids.filter_map(|id| Some((id, self.step_output(id)?)));
        Json::of(&Fields(fields.collect()))
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
            "context" => Some(text(&execution.context)),
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
            _ => None,
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
