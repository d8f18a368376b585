//! What holds in every history, whatever the plan and whatever was ordered (DESIGN section 12, invariants I2, I3, I6
//! and I12).

use eventflow_domain::{
    Sequence, TaskReference, Timestamp, Value,
    execution::{Content, Event, Execution, Status, TaskStatus},
    limits::{EVENTS_PER_STEP_MAX, TASKS_PER_EXECUTION_MAX},
    plan::{Kind, Node, NodeId, Plan},
};

use super::{Run, run::fold, task_of};

/// Checks a whole history, event by event.
#[track_caller]
pub(crate) fn check(plan: &Plan, history: &[(Event, Timestamp)]) {
    let mut before = fold(&history[..1]);
    for (event, at) in &history[1..] {
        assert!(!before.is_ended(), "{} after the end", event.kind());
        let begun = begun(&before, event);
        if let Some(task) = begun {
            begins_in_its_turn(plan, &before, task);
        }
        control_holds(&before, event, begun.is_some());
        counts_on(&before, event);
        let mut after = before.clone();
        after.evolve(event, *at);
        one_winner(plan, &before, event, &after);
        not_early(&before, event, &after, *at);
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
            execution.owed(Sequence(0)).next().is_some() || waits || due || execution.is_paused(),
            "an open execution waits for nothing"
        );
        let begun = execution.owed(Sequence(0));
        let begun = begun.filter(|owed| owed.task.agent.is_some()).count();
        match execution.status {
            Status::Suspending => assert!(begun > 0, "it is suspending for ever"),
            Status::Suspended => assert_eq!(begun, 0, "it is suspended while somebody works"),
            _ => assert!(!execution.is_stopping, "it is being stopped for ever"),
        }
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
        | Event::ForkEntered { task, .. }
        | Event::WaitStarted { task, .. }
        | Event::TaskScheduled { task, .. }
        | Event::BranchSelected { task, .. }
        | Event::TaskSkipped { task, .. } => Some(task),
        Event::TaskCompleted { task, .. } | Event::TaskFaulted { task, .. } => {
            Some(task).filter(|task| !is_open(task))
        }
        Event::TaskStarted { task, .. }
        | Event::RetryScheduled { task, .. }
        | Event::ErrorCaught { task, .. }
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
        | Event::ExecutionTimedOut { .. }
        | Event::ExecutionPauseRequested(_)
        | Event::ExecutionSuspended {}
        | Event::ExecutionResumed(_)
        | Event::ExecutionStopRequested(_)
        | Event::ExecutionCancelled {} => None,
    }
}

/// I5: while it is paused nothing begins, and once it is being stopped all that happens is that things are cancelled.
fn control_holds(before: &Execution, event: &Event, begins: bool) {
    if before.is_stopping {
        let cancels = matches!(
            event,
            Event::TaskCancelled { .. } | Event::ExecutionCancelled {}
        );
        assert!(cancels, "{} while it is being stopped", event.kind());
    }
    if before.is_paused() {
        let begins_within = matches!(
            event,
            Event::ExecutionStarted { .. }
                | Event::TaskStarted { .. }
                | Event::TimerFired { .. }
                | Event::ErrorCaught { .. }
        );
        assert!(
            !begins && !begins_within,
            "{} while it is paused",
            event.kind()
        );
    }
}

/// I4: no two tries have the same number.
fn counts_on(before: &Execution, event: &Event) {
    if let Event::TaskScheduled { task, attempt, .. } | Event::TimerFired { task, attempt } = event
    {
        let last = before.tasks.get(task).map_or(0, |task| task.attempt.0);
        assert_eq!(attempt.0, last + 1, "an attempt of {task}");
    }
}

/// I7: nothing is due before its time, and what was due has had its effect.
fn not_early(before: &Execution, event: &Event, after: &Execution, at: Timestamp) {
    match event {
        Event::TimerFired { task, .. } => {
            let due = before.tasks[task].next_time();
            assert!(due.is_some_and(|due| due <= at), "{task} is early");
            let next = after.tasks[task].next_time();
            assert!(next.is_none_or(|next| next > at), "{task} is due again");
        }
        Event::TaskTimedOut { task, .. } => {
            let due = before.tasks[task].deadline();
            assert!(due.is_some_and(|due| due <= at), "{task} is early");
        }
        _ => {}
    }
}

/// A race has one winner, whose output is the race's own.
fn one_winner(plan: &Plan, before: &Execution, event: &Event, after: &Execution) {
    let winner = |execution: &Execution, race: &TaskReference| {
        let container = execution.tasks.get(race)?.container.as_ref()?;
        container.winner.clone()
    };
    let Some(task) = task_of(event) else { return };
    let race = before.tasks.get(task).and_then(|task| task.within.clone());
    if let Some(race) = race
        && let Some(won) = winner(before, &race)
    {
        assert_eq!(winner(after, &race), Some(won), "another winner of {race}");
    }
    let node = plan.node(plan.find(&task.pointer).expect("a task of the plan"));
    let competes = matches!(&node.kind, Kind::Fork(fork) if fork.compete);
    if let Event::TaskCompleted { output, .. } = event
        && competes
        && node.output.is_none()
    {
        match winner(before, task) {
            Some(won) => assert_eq!(*output, Content::OutputOf(won)),
            None => assert_eq!(*output, Content::Value(Value::null())),
        }
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
    let none_is_open = |siblings: &[NodeId]| {
        for sibling in siblings {
            let open = status(plan.node(*sibling)).is_some_and(|status| !status.is_ended());
            assert!(
                !open,
                "{task} begins while {} is under way",
                plan.node(*sibling).pointer
            );
        }
    };
    match &parent.kind {
        Kind::Sequence(siblings) => none_is_open(siblings),
        Kind::Try(attempt) => {
            none_is_open(&attempt.tasks);
            none_is_open(&attempt.catch.tasks);
            let container = &before.tasks[&TaskReference::at(&parent.pointer)];
            assert_eq!(
                container.status,
                TaskStatus::Running,
                "{task} begins while its `try` waits"
            );
        }
        Kind::Fork(_) => {
            let open = status(node).is_some_and(|status| !status.is_ended());
            assert!(!open, "{task} begins twice");
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
        Kind::Switch(_) | Kind::Set(_) | Kind::Raise(_) | Kind::Invoke(_) | Kind::Wait(_) => {
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
            | Event::ExecutionCancelled {}
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
