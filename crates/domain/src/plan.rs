//! The plan: a definition compiled to an arena of nodes. Immutable, rebuilt from the document at will, never stored.
//!
//! Both languages end here. A [`Kind`] is added when it is executed, not before.

use std::{collections::HashMap, sync::Arc};

use crate::{
    error::{Problem, same_kind},
    expression::{Expression, Template},
    ids::{Capability, Digest, WorkflowId},
    retry::RetryPolicy,
    time::DurationMs,
};

/// How decisions are made; an execution keeps the version that it began with (DESIGN section 4).
pub const SEMANTICS_VERSION: u32 = 1;

/// The place of a node in its plan's arena. Never stored: events name JSON Pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// A compiled definition.
#[derive(Debug)]
pub struct Plan {
    /// Its name for people.
    pub workflow: WorkflowId,
    /// Of the document it was compiled from.
    pub digest: Digest,
    /// How long an execution may take.
    pub timeout: DurationMs,
    /// `input.from` of the workflow.
    pub input: Option<Template>,
    /// `output.as` of the workflow.
    pub output: Option<Template>,
    /// The outermost sequence or graph. Not a task of its own.
    pub root: NodeId,
    nodes: Vec<Node>,
    by_pointer: HashMap<Arc<str>, NodeId>,
    steps: HashMap<Arc<str>, NodeId>,
}

/// What a plan is made from.
#[derive(Debug)]
pub struct PlanParts {
    /// See [`Plan::workflow`].
    pub workflow: WorkflowId,
    /// See [`Plan::digest`].
    pub digest: Digest,
    /// See [`Plan::timeout`].
    pub timeout: DurationMs,
    /// See [`Plan::input`].
    pub input: Option<Template>,
    /// See [`Plan::output`].
    pub output: Option<Template>,
    /// See [`Plan::root`].
    pub root: NodeId,
    /// The arena, in document order: a node comes before its children and before its next sibling.
    pub nodes: Vec<Node>,
}

impl Plan {
    /// Puts the parts together and indexes the nodes by pointer.
    pub fn new(parts: PlanParts) -> Self {
        let ids = (0_u32..).map(NodeId);
        let by_pointer = parts
            .nodes
            .iter()
            .map(|node| node.pointer.clone())
            .zip(ids)
            .collect();
        let steps = parts
            .nodes
            .iter()
            .filter_map(Node::graph)
            .flat_map(|graph| &graph.steps);
        let steps = steps.map(|step| (step.id.clone(), step.node)).collect();
        Self {
            workflow: parts.workflow,
            digest: parts.digest,
            timeout: parts.timeout,
            input: parts.input,
            output: parts.output,
            root: parts.root,
            nodes: parts.nodes,
            by_pointer,
            steps,
        }
    }

    /// The node of this id; ids come from this plan, so there is one.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The node at a JSON Pointer.
    pub fn find(&self, pointer: &str) -> Option<NodeId> {
        self.by_pointer.get(pointer).copied()
    }

    /// The node of the graph's step of this id.
    pub fn step(&self, id: &str) -> Option<&Node> {
        self.steps.get(id).map(|node| self.node(*node))
    }

    /// All nodes in document order, the root included.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0_u32..).map(NodeId).zip(&self.nodes)
    }
}

/// One task of the definition.
#[derive(Debug)]
pub struct Node {
    /// Where it stands in the document, as `/do/0/charge`: below its parent's.
    pub pointer: Arc<str>,
    /// The name its author gave it.
    pub name: Arc<str>,
    /// The sequence or graph it belongs to; none for the root.
    pub parent: Option<NodeId>,
    /// `if` or `when`: where it is false the task is skipped.
    pub condition: Option<Expression>,
    /// `input.from`.
    pub input: Option<Template>,
    /// `output.as`.
    pub output: Option<Template>,
    /// `export.as`: the new `$context`.
    pub export: Option<Template>,
    /// Where the flow goes after it.
    pub then: Then,
    /// How long it may take over all of its attempts; [`crate::limits::TASK_TIMEOUT`] where nothing is said.
    pub timeout: Option<DurationMs>,
    /// What it does.
    pub kind: Kind,
}

impl Node {
    /// The graph, where it is one.
    pub fn graph(&self) -> Option<&Graph> {
        match &self.kind {
            Kind::Graph(graph) => Some(graph),
            Kind::Sequence(_)
            | Kind::Switch(_)
            | Kind::Set(_)
            | Kind::Raise(_)
            | Kind::Invoke(_)
            | Kind::Fork(_)
            | Kind::Try(_)
            | Kind::Wait(_) => None,
        }
    }
}

/// Where the flow goes next (OWS flow directives).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// To the next sibling, or out of the sequence after the last.
    #[default]
    Continue,
    /// Out of the sequence it stands in.
    Exit,
    /// To the end of the execution.
    End,
    /// To a sibling, which may come earlier.
    Task(NodeId),
}

/// What a node does.
#[derive(Debug)]
pub enum Kind {
    /// Runs its tasks one after the other.
    Sequence(Vec<NodeId>),
    /// Runs its steps as soon as what they need is there.
    Graph(Graph),
    /// Takes the first case that holds; where none does, continues as the node's `then` says.
    Switch(Vec<Case>),
    /// Computes its output.
    Set(Template),
    /// Raises an error.
    Raise(RaiseTemplate),
    /// Has an attempt performed by somebody.
    Invoke(Invoke),
    /// Runs its branches side by side, each with a `$context` of its own.
    Fork(Fork),
    /// Runs its tasks one after the other; where one fails, it may run them again or others instead.
    Try(Try),
    /// Lets time pass.
    Wait(Span),
}

impl Kind {
    /// The tasks of a container that run one after the other: of a `try`, those of its handler once it has caught.
    pub(crate) fn sequence(&self, is_handling: bool) -> Option<&[NodeId]> {
        match self {
            Self::Sequence(tasks) => Some(tasks),
            Self::Try(attempt) if is_handling => Some(&attempt.catch.tasks),
            Self::Try(attempt) => Some(&attempt.tasks),
            Self::Graph(_)
            | Self::Switch(_)
            | Self::Set(_)
            | Self::Raise(_)
            | Self::Invoke(_)
            | Self::Fork(_)
            | Self::Wait(_) => None,
        }
    }
}

/// Branches that run side by side.
#[derive(Debug)]
pub struct Fork {
    /// In document order, which is the order of their outputs.
    pub branches: Vec<NodeId>,
    /// Whether the first to complete wins and the others are cancelled; otherwise all must complete.
    pub compete: bool,
}

/// Tasks whose errors may be caught.
#[derive(Debug)]
pub struct Try {
    /// What is tried.
    pub tasks: Vec<NodeId>,
    /// What is done about an error.
    pub catch: Catch,
}

/// Which errors are caught, and what happens then.
#[derive(Debug)]
pub struct Catch {
    /// What an error must look like.
    pub errors: ErrorFilter,
    /// The variable that holds the error, without its dollar.
    pub variable: Arc<str>,
    /// Must hold, where there is one.
    pub when: Option<Expression>,
    /// Must not hold, where there is one.
    pub except_when: Option<Expression>,
    /// Whether, when and how often the tasks are tried again before the handler's turn.
    pub retry: Option<Retrying>,
    /// The handler; where it is empty, the error is swallowed and the `try` gives its input, unless it was tried again
    /// in vain.
    pub tasks: Vec<NodeId>,
}

/// What a caught error must look like: each property that is given must be the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorFilter {
    /// A type URI; the standard's own types match in all of its spellings.
    pub kind: Option<String>,
    /// An HTTP-like status.
    pub status: Option<u16>,
    /// The task's reference.
    pub instance: Option<String>,
    /// The summary.
    pub title: Option<String>,
    /// What happened.
    pub detail: Option<String>,
}

impl ErrorFilter {
    /// Whether it lets this one through.
    pub fn matches(&self, error: &Problem) -> bool {
        let is = |wanted: &Option<String>, given: Option<&String>| {
            wanted.is_none() || wanted.as_ref() == given
        };
        let kind = self.kind.as_deref();
        kind.is_none_or(|kind| same_kind(kind, &error.kind))
            && self.status.is_none_or(|status| status == error.status)
            && is(&self.instance, error.instance.as_ref())
            && is(&self.title, error.title.as_ref())
            && is(&self.detail, error.detail.as_ref())
    }
}

/// When the tasks of a `try` are tried again.
#[derive(Debug)]
pub struct Retrying {
    /// Must hold, where there is one.
    pub when: Option<Expression>,
    /// Must not hold, where there is one.
    pub except_when: Option<Expression>,
    /// How often and how soon.
    pub policy: RetryPolicy,
    /// How long each try may take.
    pub attempt_timeout: Option<DurationMs>,
    /// No further try begins so long after the first.
    pub within: Option<DurationMs>,
}

/// A span of time.
#[derive(Debug)]
pub enum Span {
    /// Known from the document.
    Fixed(DurationMs),
    /// Gives ISO 8601, or an object as `{seconds: 30}`.
    Computed(Expression),
}

/// A case of a switch.
#[derive(Debug)]
pub struct Case {
    /// Its name, recorded in the history.
    pub name: Arc<str>,
    /// When it holds; always, where there is none.
    pub when: Option<Expression>,
    /// Where the flow goes.
    pub then: Then,
}

/// A DAG of steps. Steps read outputs by id, so its expressions see `{"input": …, "<step id>": output, …}`.
#[derive(Debug)]
pub struct Graph {
    /// In document order.
    pub steps: Vec<Step>,
    /// At most so many steps run at once.
    pub max_parallel: u32,
    /// The graph's output; the object of all completed steps' outputs by id where there is none.
    pub output: Option<Template>,
}

/// A step of a graph.
#[derive(Debug)]
pub struct Step {
    /// By which others refer to it.
    pub id: Arc<str>,
    /// Its node, whose parent is the graph.
    pub node: NodeId,
    /// Indices of the steps it needs, ascending: from `dependsOn` and from references.
    pub needs: Vec<usize>,
    /// Indices of the steps that need it, ascending.
    pub dependents: Vec<usize>,
    /// What becomes of it when a step it needs is skipped.
    pub join: Join,
}

/// How a step waits for what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// All must have completed; where one is skipped, so is this.
    All,
    /// All must have ended and one must have completed; where all are skipped, so is this.
    Any,
}

/// What a `raise` raises; texts may hold expressions.
#[derive(Debug)]
pub struct RaiseTemplate {
    /// A URI.
    pub kind: Template,
    /// Optional.
    pub title: Option<Template>,
    /// A number.
    pub status: u16,
    /// Optional.
    pub detail: Option<Template>,
}

/// An attempt to be performed.
#[derive(Debug)]
pub struct Invoke {
    /// By whom.
    pub performer: Performer,
    /// What happens after a failed attempt.
    pub retry: RetryPolicy,
    /// How long an attempt may wait for somebody to pick it up.
    pub start_within: DurationMs,
}

/// Who performs attempts.
#[derive(Debug)]
pub enum Performer {
    /// An agent that serves this capability.
    Agent {
        /// The queue.
        capability: Capability,
        /// What the agent gets; the task's input where there is none.
        input: Option<Template>,
        /// The longest silence of an agent; the lease it asks for, where nothing is said.
        heartbeat: Option<DurationMs>,
    },
    /// The built-in HTTP client. Its template makes the attempt's input, an [`HttpCall`] as JSON.
    Http(HttpTemplate),
    /// The built-in HTTP client, for one request that is sent at most once. The task's input is the [`HttpCall`].
    ServiceCall,
}

/// An HTTP call with expressions in it.
#[derive(Debug)]
pub struct HttpTemplate {
    /// The method.
    pub method: Arc<str>,
    /// Must come out as an absolute URL.
    pub endpoint: Template,
    /// Must come out as an object of strings.
    pub headers: Option<Template>,
    /// Must come out as an object of strings.
    pub query: Option<Template>,
    /// Any JSON; a string is sent as it is.
    pub body: Option<Template>,
    /// What the task's output is.
    pub output: HttpOutput,
    /// Whether redirects are followed; otherwise a 3xx is an error.
    pub redirect: bool,
}

/// What an HTTP call gives as its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpOutput {
    /// The body: parsed where it is JSON, text otherwise.
    #[default]
    Content,
    /// The body, base64.
    Raw,
    /// `{request, statusCode, headers, content}`.
    Response,
    /// A [`crate::service_call::CallResponse`]; of a response that is no 2xx, the error says as much.
    Outcome,
}

/// An HTTP call with its expressions evaluated: the input of an HTTP attempt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HttpCall {
    /// The method.
    pub method: Arc<str>,
    /// An absolute URL.
    pub endpoint: String,
    /// Names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Names and values, added to the URL's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, String)>,
    /// Any JSON; a string is sent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<crate::value::Json>,
    /// What the task's output is.
    pub output: HttpOutput,
    /// Whether redirects are followed.
    pub redirect: bool,
    /// How long it may take; the service's own limit where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationMs>,
}
