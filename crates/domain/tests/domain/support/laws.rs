//! What holds in every history, whatever the plan and whatever was ordered (DESIGN section 12, invariants I2, I3, I6
//! and I12).

use eventflow_domain::{
    Sequence, TaskReference, Timestamp,
    execution::{Event, Execution, Status, TaskStatus},
    limits::{EVENTS_PER_STEP_MAX, TASKS_PER_EXECUTION_MAX},
    plan::{Kind, Node, Plan},
};

use super::{Run, run::fold};

/// Checks a whole history, event by event.
#[track_caller]
pub(crate) fn check(plan: &Plan, history: &[(Event, Timestamp)]) {
    let mut before = fold(&history[..1]);
    for (event, at) in &history[1..] {
        assert!(!before.is_ended(), "{} after the end", event.kind());
        if let Some(task) = begun(&before, event) {
            begins_in_its_turn(plan, &before, task);
        }
        let mut after = before.clone();
        after.evolve(event, *at);
        assert_eq!(after.sequence, before.sequence.next());
        limits_hold(plan, &after);
        assert_eq!(
            is_terminal(event),
            after.is_ended(),
            "{} and {:?}",
            event.kind(),
            after.status
        );
        if after.is_ended() {
            nothing_is_left(&after);
        }
        before = after;
    }
}

/// Checks a run that has come to rest.
#[track_caller]
pub(crate) fn check_at_rest(run: &Run<'_>) {
    let execution = &run.execution;
    assert_eq!(
        &fold(&run.history),
        execution,
        "the history folds to the live state"
    );
    assert_eq!(execution.sequence.0, run.history.len() as u64);
    let largest = run.steps.windows(2).map(|step| step[1] - step[0]).max();
    assert!(
        largest.is_none_or(|events| events <= EVENTS_PER_STEP_MAX),
        "{largest:?} events in a step"
    );
    let waits = execution
        .tasks
        .values()
        .any(|task| task.status == TaskStatus::Waiting);
    let due = execution
        .next_deadline()
        .is_some_and(|deadline| deadline <= run.now);
    if !execution.is_ended() {
        assert!(
            execution.owed(Sequence(0)).next().is_some() || waits || due,
            "an open execution waits for nothing"
        );
        assert!(execution.next_deadline().is_some());
    }
    settled(run);
}

/// Whatever is settled again gives nothing new.
fn settled(run: &Run<'_>) {
    let mut again = run.clone();
    again.execution.unsettle();
    again.advance();
    assert_eq!(
        again.history.len(),
        run.history.len(),
        "settled twice: {:?}",
        again.history.last()
    );
    assert_eq!(again.execution, run.execution);
}

/// The task whose activation this event begins.
fn begun<'e>(before: &Execution, event: &'e Event) -> Option<&'e TaskReference> {
    let is_open = |task| {
        before
            .tasks
            .get(task)
            .is_some_and(|task| !task.status.is_ended())
    };
    match event {
        Event::SequenceEntered { task, .. }
        | Event::TaskScheduled { task, .. }
        | Event::BranchSelected { task, .. }
        | Event::TaskSkipped { task, .. } => Some(task),
        Event::TaskCompleted { task, .. } | Event::TaskFaulted { task, .. } => {
            Some(task).filter(|task| !is_open(task))
        }
        Event::TaskStarted { task, .. }
        | Event::RetryScheduled { task, .. }
        | Event::TimerFired { task, .. }
        | Event::TaskTimedOut { task, .. }
        | Event::TaskCancelled { task } => {
            assert!(
                is_open(task),
                "{} for {task}, which is not under way",
                event.kind()
            );
            None
        }
        Event::ExecutionRequested(_)
        | Event::ExecutionStarted { .. }
        | Event::ExecutionCompleted { .. }
        | Event::ExecutionFaulted { .. }
        | Event::ExecutionTimedOut { .. } => None,
    }
}

/// I2: no task begins before what it needs has ended.
fn begins_in_its_turn(plan: &Plan, before: &Execution, task: &TaskReference) {
    let node = plan.node(
        plan.find(&task.pointer)
            .expect("events name tasks of the plan"),
    );
    let parent = plan.node(node.parent.expect("the root is no task"));
    if node.parent != Some(plan.root) {
        let container = before
            .tasks
            .get(&TaskReference::at(&parent.pointer))
            .expect("its container was entered");
        assert!(
            !container.status.is_ended(),
            "{task} begins in {} that has ended",
            parent.pointer
        );
    }
    let status = |node: &Node| {
        before
            .tasks
            .get(&TaskReference::at(&node.pointer))
            .map(|task| task.status)
    };
    match &parent.kind {
        Kind::Sequence(siblings) => {
            for sibling in siblings {
                let open = status(plan.node(*sibling)).is_some_and(|status| !status.is_ended());
                assert!(
                    !open,
                    "{task} begins while {} is under way",
                    plan.node(*sibling).pointer
                );
            }
        }
        Kind::Graph(graph) => {
            assert!(!before.tasks.contains_key(task), "{task} begins twice");
            let step = graph
                .steps
                .iter()
                .find(|step| plan.node(step.node).pointer == node.pointer);
            for need in &step.expect("a step of the graph").needs {
                let need = plan.node(graph.steps[*need].node);
                let ended = status(need).is_some_and(TaskStatus::is_ended);
                assert!(ended, "{task} begins before {} has ended", need.pointer);
            }
        }
        Kind::Switch(_) | Kind::Set(_) | Kind::Raise(_) | Kind::Invoke(_) => {
            panic!("{task} stands in a leaf")
        }
    }
}

/// I6: no more tasks and no more of them at once than may be.
fn limits_hold(plan: &Plan, execution: &Execution) {
    // The one above the limit is the fault that names it.
    assert!(execution.activations <= TASKS_PER_EXECUTION_MAX + 1);
    if let Some(graph) = plan.node(plan.root).graph() {
        let owed = execution.owed(Sequence(0)).count();
        assert!(owed <= graph.max_parallel as usize, "{owed} steps at once");
        let open = |status| matches!(status, TaskStatus::Running | TaskStatus::Waiting);
        let busy = execution
            .tasks
            .values()
            .filter(|task| task.work.is_some() && open(task.status))
            .count();
        assert!(
            busy <= graph.max_parallel as usize,
            "{busy} steps are begun at once"
        );
    }
}

fn is_terminal(event: &Event) -> bool {
    matches!(
        event,
        Event::ExecutionCompleted { .. }
            | Event::ExecutionFaulted { .. }
            | Event::ExecutionTimedOut { .. }
    )
}

/// I3: an end is an end.
fn nothing_is_left(execution: &Execution) {
    assert_eq!(
        execution.output.is_some(),
        execution.status == Status::Completed
    );
    assert_eq!(
        execution.error.is_some(),
        execution.status == Status::Faulted
    );
    assert!(execution.ended_at.is_some());
    assert_eq!(execution.owed(Sequence(0)).count(), 0);
    assert_eq!(execution.next_deadline(), None);
    let open = execution
        .tasks
        .iter()
        .find(|(_, task)| !task.status.is_ended());
    assert!(open.is_none(), "{open:?} is left open");
}
