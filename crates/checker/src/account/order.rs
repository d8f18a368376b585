//! What may begin and what may end, by the plan (I2): written from the languages' own words, not from the domain's
//! `settle`, so that neither can hide a fault of the other.

use eventflow_domain::{
    TaskReference,
    execution::Content,
    plan::{Graph, Join, Kind, Node, NodeId, Plan, Then},
};

use super::{
    Account,
    task::{Container, Outcome, Stage, Task},
};
use crate::fact::Begun;

/// How the tasks of a container follow each other.
enum Tasks<'p> {
    /// One after the other, as `then` says.
    InARow(&'p [NodeId]),
    /// As soon as what they need is there.
    ByNeeds(&'p Graph),
    /// All of them beside each other.
    Together(&'p [NodeId]),
    /// It holds none.
    None,
}

/// **A new kind that holds tasks is an arm here.**
fn tasks_of<'p>(kind: &'p Kind, container: &Container) -> Tasks<'p> {
    match kind {
        Kind::Sequence(tasks) => Tasks::InARow(tasks),
        Kind::Try(tried) if container.is_handling() => Tasks::InARow(&tried.catch.tasks),
        Kind::Try(tried) => Tasks::InARow(&tried.tasks),
        Kind::Graph(graph) => Tasks::ByNeeds(graph),
        Kind::Fork(fork) => Tasks::Together(&fork.branches),
        Kind::Switch(_) | Kind::Set(_) | Kind::Raise(_) | Kind::Invoke(_) | Kind::Wait(_) => {
            Tasks::None
        }
    }
}

/// Whether a task of this kind begins and ends in one event.
pub(crate) fn is_instant(kind: &Kind) -> bool {
    match kind {
        Kind::Set(_) | Kind::Raise(_) => true,
        Kind::Sequence(_)
        | Kind::Graph(_)
        | Kind::Switch(_)
        | Kind::Invoke(_)
        | Kind::Fork(_)
        | Kind::Try(_)
        | Kind::Wait(_) => false,
    }
}

/// How often an activation of this kind may be tried again.
pub(crate) fn retries_max(kind: &Kind) -> u32 {
    match kind {
        Kind::Invoke(invoke) => invoke.retry.retries,
        Kind::Try(tried) => {
            let retry = tried.catch.retry.as_ref();
            retry.map_or(0, |retry| retry.policy.retries)
        }
        Kind::Sequence(_)
        | Kind::Graph(_)
        | Kind::Fork(_)
        | Kind::Wait(_)
        | Kind::Switch(_)
        | Kind::Set(_)
        | Kind::Raise(_) => 0,
    }
}

/// Where the flow of a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Task(NodeId),
    Leave,
    End,
}

impl Account {
    /// Why a task may not begin now, or not be skipped.
    pub(crate) fn out_of_order(
        &self,
        plan: &Plan,
        task: &TaskReference,
        within: Option<&TaskReference>,
        is_skipped: bool,
    ) -> Option<String> {
        let Some(id) = plan.find(&task.pointer) else {
            return Some(format!("{task} is no task of its definition"));
        };
        let Some(parent) = plan.node(id).parent else {
            return Some(format!("{task} is the definition itself, no task"));
        };
        let stands_in = (parent != plan.root).then(|| &plan.node(parent).pointer);
        if within.map(|within| &within.pointer) != stands_in {
            return Some(format!(
                "{task} says that it stands in {}",
                within.map_or("the outermost", |within| &within.pointer)
            ));
        }
        let Some(container) = self.open_container(within) else {
            return Some(format!("{task} begins, but its container is not under way"));
        };
        if container.is_closing {
            return Some(format!("{task} begins beside a task that has failed"));
        }
        match tasks_of(&plan.node(parent).kind, container) {
            Tasks::InARow(row) => self.out_of_row(plan, container, row, id, task),
            Tasks::ByNeeds(graph) => self.before_its_needs(plan, graph, id, task, is_skipped),
            Tasks::Together(_) => self
                .has_begun(task)
                .then(|| format!("{task} begins a second time")),
            Tasks::None => Some(format!("{task} stands in a task that holds none")),
        }
    }

    fn out_of_row(
        &self,
        plan: &Plan,
        container: &Container,
        row: &[NodeId],
        id: NodeId,
        task: &TaskReference,
    ) -> Option<String> {
        if container.open > 0 {
            return Some(format!(
                "{task} begins while another task of its list is under way"
            ));
        }
        let next = self.next_of(plan, container, row);
        if next == Next::Task(id) {
            return None;
        }
        Some(match next {
            Next::Task(next) => format!(
                "{task} begins, where {} was to come next",
                plan.node(next).pointer
            ),
            Next::Leave | Next::End => format!("{task} begins after the last task of its list"),
        })
    }

    fn before_its_needs(
        &self,
        plan: &Plan,
        graph: &Graph,
        id: NodeId,
        task: &TaskReference,
        is_skipped: bool,
    ) -> Option<String> {
        let step = graph.steps.iter().find(|step| step.node == id)?;
        let this = |node: NodeId| TaskReference {
            pointer: plan.node(node).pointer.clone(),
            iteration: task.iteration.clone(),
        };
        if self.has_begun(task) {
            return Some(format!("{task} begins a second time"));
        }
        let mut completed = 0;
        for need in &step.needs {
            let need = this(graph.steps[*need].node);
            match self.stage(&need) {
                Some(Stage::Ended(Outcome::Completed)) => completed += 1,
                Some(Stage::Ended(_)) => {}
                _ => return Some(format!("{task} begins before {need} has ended")),
            }
        }
        let may_run = match step.join {
            Join::All => completed == step.needs.len(),
            Join::Any => completed > 0 || step.needs.is_empty(),
        };
        let may_be_skipped = !may_run || plan.node(id).condition.is_some();
        match (is_skipped, may_run, may_be_skipped) {
            (false, false, _) => Some(format!("{task} begins, although what it needs was skipped")),
            (true, _, false) => Some(format!("{task} is skipped, although nothing says so")),
            _ => None,
        }
    }

    /// Whether a task has begun since its container was entered.
    fn has_begun(&self, task: &TaskReference) -> bool {
        self.stage(task)
            .is_some_and(|stage| stage != Stage::Forgotten)
    }

    /// The branches of a fork by name, those that have begun.
    fn branches<'a>(
        &'a self,
        plan: &'a Plan,
        branches: &'a [NodeId],
        iteration: &'a [u32],
    ) -> impl Iterator<Item = (&'a Node, Option<&'a Task>)> {
        branches.iter().map(move |branch| {
            let node = plan.node(*branch);
            let reference = TaskReference {
                pointer: node.pointer.clone(),
                iteration: iteration.to_vec(),
            };
            (node, self.tasks.get(&reference))
        })
    }

    /// Whether a branch of a fork has ended the execution; of a race, whether its winner has.
    fn branch_ends_it(
        &self,
        plan: &Plan,
        container: &Container,
        branches: &[NodeId],
        iteration: &[u32],
    ) -> bool {
        let counts = |node: &Node| {
            let winner = container.winner.as_ref();
            winner.is_none_or(|winner| winner.pointer == node.pointer)
        };
        self.branches(plan, branches, iteration)
            .filter(|(node, _)| counts(node))
            .any(|(node, task)| task.and_then(|task| directive(node, task)) == Some(Then::End))
    }

    /// The first branch of a fork that has not ended.
    pub(crate) fn open_branch<'a>(
        &'a self,
        plan: &'a Plan,
        fork: Option<&'a TaskReference>,
    ) -> Option<&'a Node> {
        let Kind::Fork(of) = &container_node(plan, fork)?.kind else {
            return None;
        };
        let is_over = |task: &Task| matches!(task.stage, Stage::Ended(_));
        self.branches(plan, &of.branches, &fork?.iteration)
            .find(|(_, task)| !task.is_some_and(is_over))
            .map(|(node, _)| node)
    }

    /// Why a race may not end with the output of this branch: another had won it.
    pub(crate) fn outrun(&self, race: Begun<'_>) -> Option<String> {
        let winner = self.container(Some(race.task))?.winner.as_ref()?;
        let Some(Content::OutputOf(branch)) = race.reads else {
            return None;
        };
        let is_branch = self.tasks.get(branch)?.within.as_ref() == Some(race.task);
        (is_branch && branch != winner).then(|| {
            format!(
                "{} ends with the output of {branch}, although {winner} had won",
                race.task
            )
        })
    }

    /// Why a container may not end well now; the outermost where there is no task.
    pub(crate) fn unfinished(&self, plan: &Plan, task: Option<&TaskReference>) -> Option<String> {
        let node = container_node(plan, task)?;
        let container = self.container(task)?;
        let name = || task.map_or_else(|| "the execution".to_owned(), ToString::to_string);
        match tasks_of(&node.kind, container) {
            Tasks::InARow(_) | Tasks::ByNeeds(_) if container.is_closing => Some(format!(
                "{} completes, although a task in it failed",
                name()
            )),
            Tasks::InARow(row) => match self.next_of(plan, container, row) {
                Next::Task(next) => Some(format!(
                    "{} completes, where {} was to come next",
                    name(),
                    plan.node(next).pointer
                )),
                Next::Leave | Next::End => None,
            },
            Tasks::ByNeeds(graph) => {
                let iteration = task.map_or_else(Vec::new, |task| task.iteration.clone());
                let left = graph.steps.iter().find(|step| {
                    let step = TaskReference {
                        pointer: plan.node(step.node).pointer.clone(),
                        iteration: iteration.clone(),
                    };
                    !matches!(self.stage(&step), Some(Stage::Ended(_)))
                })?;
                Some(format!(
                    "{} completes before its step {} has ended",
                    name(),
                    left.id
                ))
            }
            Tasks::Together(branches) => {
                let iteration = task.map_or(&[][..], |task| &task.iteration);
                let left = self.open_branch(plan, task);
                if container.winner.is_some()
                    || self.branch_ends_it(plan, container, branches, iteration)
                {
                    return None;
                }
                match left {
                    _ if container.has_failed && !container.is_race() => Some(format!(
                        "{} completes, although a task in it failed",
                        name()
                    )),
                    Some(left) => Some(format!(
                        "{} completes before its branch {} has ended",
                        name(),
                        left.name
                    )),
                    None if container.has_failed => {
                        Some(format!("{} completes, although nobody has won it", name()))
                    }
                    None => None,
                }
            }
            Tasks::None => Some(format!(
                "{} completes like a container, but is none",
                name()
            )),
        }
    }

    /// Whether a container ended because a task in it ended the execution.
    pub(crate) fn passes_the_end_on(&self, plan: &Plan, task: &TaskReference) -> bool {
        let node = container_node(plan, Some(task));
        let (Some(node), Some(container)) = (node, self.container(Some(task))) else {
            return false;
        };
        match tasks_of(&node.kind, container) {
            Tasks::InARow(row) => self.next_of(plan, container, row) == Next::End,
            Tasks::Together(branches) => {
                self.branch_ends_it(plan, container, branches, &task.iteration)
            }
            Tasks::ByNeeds(_) | Tasks::None => false,
        }
    }

    /// What comes next in a row.
    fn next_of(&self, plan: &Plan, container: &Container, row: &[NodeId]) -> Next {
        let Some(last) = &container.last else {
            return row.first().map_or(Next::Leave, |first| Next::Task(*first));
        };
        let (Some(id), Some(task)) = (plan.find(&last.pointer), self.tasks.get(last)) else {
            return Next::Leave;
        };
        match directive(plan.node(id), task) {
            Some(Then::Task(next)) => Next::Task(next),
            Some(Then::End) => Next::End,
            Some(Then::Continue) => {
                let mut rest = row.iter().skip_while(|sibling| **sibling != id);
                rest.nth(1).map_or(Next::Leave, |next| Next::Task(*next))
            }
            // Without a directive it is under way, or failed: nothing follows from it yet.
            Some(Then::Exit) | None => Next::Leave,
        }
    }
}

fn container_node<'p>(plan: &'p Plan, task: Option<&TaskReference>) -> Option<&'p Node> {
    match task {
        None => Some(plan.node(plan.root)),
        Some(task) => plan.find(&task.pointer).map(|id| plan.node(id)),
    }
}

/// Where the flow goes after a task that has ended well or was skipped.
fn directive(node: &Node, task: &Task) -> Option<Then> {
    match task.stage {
        // It was not run, so it sends the flow nowhere else.
        Stage::Ended(Outcome::Skipped) => Some(Then::Continue),
        Stage::Ended(Outcome::Completed) if task.ends_execution => Some(Then::End),
        Stage::Ended(Outcome::Completed) => Some(match (&node.kind, &task.case) {
            (Kind::Switch(cases), Some(chosen)) => cases
                .iter()
                .find(|case| *case.name == **chosen)
                .map_or(node.then, |case| case.then),
            _ => node.then,
        }),
        _ => None,
    }
}
