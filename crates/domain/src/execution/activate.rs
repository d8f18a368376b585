//! Beginning a task, and ending it with an output: where expressions are evaluated and their results become events.

use super::{
    Content, Event, Execution, Work,
    http::http_call,
    scope::{Dot, TaskScope, text},
    task::digest_of_output,
};
use crate::{
    duration,
    error::{ErrorKind, Problem},
    expression::{EvaluationError, Template},
    ids::{Attempt, Digest, TaskReference},
    limits::{TASK_TIMEOUT, TASKS_PER_EXECUTION_MAX},
    plan::{Invoke, Kind, Node, Performer, Plan, RaiseTemplate, Span},
    time::DurationMs,
    value::{Json, Value},
};

/// Each text of an error is cut to so many bytes: it is written again at every level up to the execution's own, and a
/// record has a limit.
const ERROR_TEXT_BYTES_MAX: usize = 4 * 1024;

/// One task about to begin or to end.
pub(crate) struct Activation<'a> {
    pub(crate) execution: &'a Execution,
    pub(crate) plan: &'a Plan,
    pub(crate) node: &'a Node,
    pub(crate) task: TaskReference,
    pub(crate) within: Option<TaskReference>,
    /// The node of the graph it is a step of.
    pub(crate) graph: Option<&'a Node>,
    /// Activations decided together with this one, before it, and not folded yet.
    ahead: u32,
    /// Of a fork that ends: `$context` as its branches leave it.
    merged: Option<Value>,
}

impl<'a> Activation<'a> {
    pub(crate) fn new(
        execution: &'a Execution,
        plan: &'a Plan,
        node: &'a Node,
        within: Option<TaskReference>,
    ) -> Self {
        let graph = node
            .parent
            .map(|parent| plan.node(parent))
            .filter(|parent| parent.graph().is_some());
        let iteration = within
            .as_ref()
            .map_or_else(Vec::new, |within| within.iteration.clone());
        let task = TaskReference {
            pointer: node.pointer.clone(),
            iteration,
        };
        Self {
            execution,
            plan,
            node,
            task,
            within,
            graph,
            ahead: 0,
            merged: None,
        }
    }

    /// The same, with the `$context` that its branches leave, where they have changed it.
    pub(crate) fn with_context(self, merged: Option<Value>) -> Self {
        Self { merged, ..self }
    }

    /// The same, to be folded after so many other activations.
    pub(crate) fn behind(self, ahead: u32) -> Self {
        Self { ahead, ..self }
    }

    /// The events of the task's beginning, given its raw input; of its end as well where it needs nobody to perform it.
    pub(crate) fn begin(&self, raw: &Content) -> Vec<Event> {
        self.try_begin(raw)
            .unwrap_or_else(|error| vec![self.faulted(expression_problem(&error))])
    }

    fn try_begin(&self, raw: &Content) -> Result<Vec<Event>, EvaluationError> {
        let raw_scope = self.scope(raw, None, None);
        if let Some(condition) = &self.node.condition
            && !condition.evaluate_bool(&raw_scope)?
        {
            return Ok(vec![Event::TaskSkipped {
                task: self.task.clone(),
                within: self.within.clone(),
            }]);
        }
        if self.execution.activations + self.ahead >= TASKS_PER_EXECUTION_MAX {
            let title = format!("More than {TASKS_PER_EXECUTION_MAX} tasks");
            let detail = "the execution has activated as many tasks as one execution may: split the workflow, or \
                          check its loops";
            return Ok(vec![self.faulted(Problem::new(
                ErrorKind::Runtime,
                title,
                detail,
            ))]);
        }
        let input = self.transform(self.node.input.as_ref(), &raw_scope, raw)?;
        let scope = self.scope(&input, Some(self.text_of(&input)), None);
        match &self.node.kind {
            Kind::Sequence(_) | Kind::Graph(_) => Ok(vec![Event::SequenceEntered {
                task: self.task.clone(),
                within: self.within.clone(),
                input,
                timeout: self.node.timeout,
                attempt_timeout: None,
            }]),
            Kind::Try(attempt) => Ok(vec![Event::SequenceEntered {
                task: self.task.clone(),
                within: self.within.clone(),
                input,
                timeout: self.node.timeout,
                attempt_timeout: attempt
                    .catch
                    .retry
                    .as_ref()
                    .and_then(|retry| retry.attempt_timeout),
            }]),
            Kind::Fork(fork) => Ok(vec![Event::ForkEntered {
                task: self.task.clone(),
                within: self.within.clone(),
                input,
                timeout: self.node.timeout,
                compete: fork.compete,
            }]),
            Kind::Wait(span) => Ok(vec![match duration_of(span, &scope)? {
                Ok(duration) => Event::WaitStarted {
                    task: self.task.clone(),
                    within: self.within.clone(),
                    input,
                    duration,
                    timeout: self.node.timeout,
                },
                Err(problem) => self.faulted(problem),
            }]),
            Kind::Set(template) => {
                let value = self.transform(Some(template), &scope, &input)?;
                Ok(vec![self.completed(
                    self.next_attempt(),
                    &input,
                    &value,
                    None,
                )?])
            }
            Kind::Raise(template) => Ok(vec![self.faulted(raised(template, &scope)?)]),
            Kind::Switch(cases) => {
                // `BranchSelected` begins a new activation, whose output cannot be that of the one before.
                let own = Content::OutputOf(self.task.clone());
                let input = if input == own {
                    Content::Value(self.execution.resolve(&own))
                } else {
                    input
                };
                let mut chosen = None;
                for case in cases {
                    let holds = case
                        .when
                        .as_ref()
                        .map_or(Ok(true), |when| when.evaluate_bool(&scope))?;
                    if holds {
                        chosen = Some(case.name.clone());
                        break;
                    }
                }
                Ok(vec![
                    Event::BranchSelected {
                        task: self.task.clone(),
                        within: self.within.clone(),
                        case: chosen,
                    },
                    self.completed(self.next_attempt(), &input, &input, None)?,
                ])
            }
            Kind::Invoke(invoke) => self.schedule(invoke, input, &scope),
        }
    }

    fn schedule(
        &self,
        invoke: &Invoke,
        input: Content,
        scope: &TaskScope<'_>,
    ) -> Result<Vec<Event>, EvaluationError> {
        let work = match &invoke.performer {
            Performer::Agent {
                capability,
                input: template,
                heartbeat,
            } => {
                let own = template
                    .as_ref()
                    .map(|template| template.evaluate(scope))
                    .transpose()?;
                let own = own.filter(|own| !own.is_clone_of(&self.text_of(&input)));
                Work::Agent {
                    capability: capability.clone(),
                    input: own.map(Value::new),
                    heartbeat: *heartbeat,
                }
            }
            Performer::Http(template) => match http_call(template, scope)? {
                Ok(call) => Work::Http {
                    call: Value::new(Json::of(&call)),
                },
                Err(problem) => return Ok(vec![self.faulted(problem)]),
            },
            Performer::ServiceCall => Work::ServiceCall {},
        };
        Ok(vec![Event::TaskScheduled {
            task: self.task.clone(),
            within: self.within.clone(),
            attempt: self.next_attempt(),
            input,
            work,
            timeout: self.node.timeout.unwrap_or(TASK_TIMEOUT),
            start_within: invoke.start_within,
        }])
    }

    /// The event of the task's good end: `output.as` and `export.as` applied to what it brought.
    pub(crate) fn end(&self, attempt: Attempt, input: &Value, brought: Value) -> Event {
        let made = self.node.output.is_some() || self.node.export.is_some();
        let result = made.then(|| digest_of_output(&brought));
        let input = Content::Value(input.clone());
        self.completed(attempt, &input, &Content::Value(brought), result)
            .unwrap_or_else(|error| Event::TaskFaulted {
                error: bounded(expression_problem(&error).at(self.task.to_string())),
                task: self.task.clone(),
                within: self.within.clone(),
                attempt,
                result,
            })
    }

    /// The event of a sequence's good end: its output is what flowed out of its last task.
    pub(crate) fn end_container(&self, attempt: Attempt, flow: &Content) -> Event {
        self.completed(attempt, &Content::InputOf(self.task.clone()), flow, None)
            .unwrap_or_else(|error| self.faulted_in(attempt, expression_problem(&error)))
    }

    fn completed(
        &self,
        attempt: Attempt,
        input: &Content,
        raw: &Content,
        result: Option<Digest>,
    ) -> Result<Event, EvaluationError> {
        let node = self.node;
        let (output, context) = if node.output.is_none() && node.export.is_none() {
            (raw.clone(), self.merged.clone())
        } else {
            let input = self.text_of(input);
            let output = self.transform(
                node.output.as_ref(),
                &self.scope(raw, Some(input.clone()), None),
                raw,
            )?;
            let scope = self.scope(&output, Some(input), Some(self.text_of(&output)));
            let export = node
                .export
                .as_ref()
                .map(|export| export.evaluate(&scope))
                .transpose()?;
            (
                output,
                export.map(Value::new).or_else(|| self.merged.clone()),
            )
        };
        Ok(Event::TaskCompleted {
            task: self.task.clone(),
            within: self.within.clone(),
            attempt,
            result: result.filter(|_| node.output.is_some()),
            output,
            context,
        })
    }

    /// Applies a template where there is one. What comes out as it went in stays a reference.
    fn transform(
        &self,
        template: Option<&Template>,
        scope: &TaskScope<'_>,
        unchanged: &Content,
    ) -> Result<Content, EvaluationError> {
        let Some(template) = template else {
            return Ok(unchanged.clone());
        };
        let made = template.evaluate(scope)?;
        if made.is_clone_of(&self.text_of(unchanged)) {
            return Ok(unchanged.clone());
        }
        Ok(self
            .known(&made)
            .unwrap_or_else(|| Content::Value(Value::new(made))))
    }

    /// Where the same value is already written: the workflow's input, or a step that this one needs.
    fn known(&self, made: &Json) -> Option<Content> {
        if self
            .execution
            .input
            .json()
            .is_some_and(|input| input.is_clone_of(made))
        {
            return Some(Content::WorkflowInput);
        }
        let graph = self.graph.and_then(Node::graph)?;
        let step = graph
            .steps
            .iter()
            .find(|step| self.plan.node(step.node).pointer == self.node.pointer)?;
        step.needs.iter().find_map(|&need| {
            let reference = TaskReference {
                pointer: self.plan.node(graph.steps[need].node).pointer.clone(),
                iteration: self.task.iteration.clone(),
            };
            let output = self
                .execution
                .this_round(&reference)?
                .output
                .as_ref()?
                .json()?;
            output
                .is_clone_of(made)
                .then_some(Content::OutputOf(reference))
        })
    }

    fn scope(&self, dot: &Content, input: Option<Json>, output: Option<Json>) -> TaskScope<'_> {
        let dot = match self.graph {
            Some(graph) => Dot::Graph(graph),
            None => Dot::Value(self.text_of(dot)),
        };
        TaskScope {
            execution: self.execution,
            plan: self.plan,
            node: Some(self.node),
            within: self.within.as_ref(),
            context: self.context(),
            error: None,
            dot,
            input,
            output,
        }
    }

    /// `$context` as the task sees it: what is under way may have exported one of its own.
    fn context(&self) -> &Value {
        let under_way = self.execution.tasks.get(&self.task);
        let under_way = under_way.filter(|task| !task.status.is_ended());
        let own = under_way.and_then(|task| task.context.as_ref());
        self.merged
            .as_ref()
            .or(own)
            .unwrap_or_else(|| self.execution.context_within(self.within.as_ref()))
    }

    fn text_of(&self, content: &Content) -> Json {
        text(&self.execution.resolve(content))
    }

    fn next_attempt(&self) -> Attempt {
        self.execution.next_attempt(&self.task)
    }

    /// The event of an error before any attempt.
    fn faulted(&self, problem: Problem) -> Event {
        self.faulted_in(self.next_attempt(), problem)
    }

    fn faulted_in(&self, attempt: Attempt, problem: Problem) -> Event {
        Event::TaskFaulted {
            error: bounded(problem.at(self.task.to_string())),
            task: self.task.clone(),
            within: self.within.clone(),
            attempt,
            result: None,
        }
    }
}

/// The same problem, its texts cut to what a record can take.
pub(crate) fn bounded(problem: Problem) -> Problem {
    Problem {
        kind: if problem.kind.len() > ERROR_TEXT_BYTES_MAX {
            cut(problem.kind.to_string()).into()
        } else {
            problem.kind
        },
        title: problem.title.map(cut),
        detail: problem.detail.map(cut),
        ..problem
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
    text
}

pub(crate) fn expression_problem(error: &EvaluationError) -> Problem {
    Problem::new(
        ErrorKind::Expression,
        "Expression failed",
        error.to_string(),
    )
}

fn raised(template: &RaiseTemplate, scope: &TaskScope<'_>) -> Result<Problem, EvaluationError> {
    let optional =
        |part: &Option<Template>| part.as_ref().map(|part| words(part, scope)).transpose();
    Ok(Problem {
        kind: words(&template.kind, scope)?.into(),
        title: optional(&template.title)?,
        status: template.status,
        detail: optional(&template.detail)?,
        instance: None,
        call: None,
    })
}

/// A template's value as text: a string as it is, anything else as JSON.
fn words(template: &Template, scope: &TaskScope<'_>) -> Result<String, EvaluationError> {
    let value = template.evaluate(scope)?;
    Ok(value
        .read::<String>()
        .unwrap_or_else(|_| value.as_str().to_owned()))
}

/// How long a task is to wait, or what is wrong with what came out.
fn duration_of(
    span: &Span,
    scope: &TaskScope<'_>,
) -> Result<Result<DurationMs, Problem>, EvaluationError> {
    let computed = match span {
        Span::Fixed(duration) => return Ok(Ok(*duration)),
        Span::Computed(expression) => expression.evaluate(scope)?,
    };
    // What is JSON and still no value (`1e400`) is no duration either.
    let value = computed.read().unwrap_or_default();
    Ok(duration::of_value(&value).map_err(|detail| {
        Problem::new(
            ErrorKind::Expression,
            "Not a duration",
            format!("`wait` {detail}"),
        )
    }))
}
