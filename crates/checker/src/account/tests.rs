//! Orders, waits and handlers on hand-written facts: what they do to the books, and what is wrong with them.

use eventflow_domain::{
    Attempt, Digest, DurationMs, Json, TaskReference, Timestamp, Value, WorkflowId,
    execution::{Requested, Status},
};

use super::{Account, Moment};
use crate::{
    Invariant,
    fact::{Begun, Fact, Order},
};

fn requested() -> Requested {
    Requested {
        workflow: WorkflowId {
            namespace: "default".into(),
            name: "test".into(),
            version: "1.0.0".into(),
        },
        digest: Digest([0; 32]),
        semantics: 1,
        input: Value::Inline(Json::null()),
        timeout: DurationMs(60_000),
        fingerprint: Digest([0; 32]),
        correlation: None,
        labels: std::collections::BTreeMap::new(),
        traceparent: None,
        causation: None,
    }
}

/// The books of an execution, and what was wrong with the last fact.
struct Books {
    account: Account,
    faults: Vec<(Invariant, String)>,
}

impl Books {
    fn started() -> Self {
        let books = Self {
            account: Account::requested(&requested(), None, Timestamp(0)),
            faults: Vec::new(),
        };
        books.then(0, Fact::Started { max_parallel: None })
    }

    /// The next fact; those before it must have been right.
    #[track_caller]
    fn then(mut self, at: i64, fact: Fact<'_>) -> Self {
        assert_eq!(self.faults, [], "before {fact:?}");
        let when = Moment {
            at: Timestamp(at),
            reign_since: Timestamp(0),
        };
        self.faults = self.account.take(&fact, when);
        self
    }

    #[track_caller]
    fn is_right(&self) {
        assert_eq!(self.faults, []);
    }

    #[track_caller]
    fn violates(&self, invariant: Invariant, words: &str) {
        let (found, detail) = self.faults.first().expect("something is wrong");
        assert_eq!(*found, invariant, "{detail}");
        assert!(detail.contains(words), "{detail}");
    }
}

fn scheduled(task: &TaskReference) -> Fact<'_> {
    Fact::Scheduled {
        begun: Begun::new(task, None),
        timeout: DurationMs(10_000),
    }
}

fn taken(task: &TaskReference) -> Fact<'_> {
    Fact::Taken {
        task,
        attempt: Attempt(1),
    }
}

fn completed<'a>(task: &'a TaskReference, within: Option<&'a TaskReference>) -> Fact<'a> {
    Fact::Completed {
        begun: Begun::new(task, within),
        output: None,
        result: None,
    }
}

fn cancelled() -> Fact<'static> {
    Fact::Ended {
        status: Status::Cancelled,
        timed_out: false,
    }
}

#[test]
fn i5_nothing_begins_after_a_pause_until_it_is_resumed() {
    let (a, b) = (TaskReference::at("/do/0/a"), TaskReference::at("/do/1/b"));
    let paused = || {
        Books::started()
            .then(1, scheduled(&a))
            .then(2, Fact::Ordered(Order::Pause))
    };
    assert_eq!(paused().account.status(), Status::Suspending);
    let begins = "attempt 1 of /do/0/a begins after a pause";
    paused().then(3, taken(&a)).violates(Invariant::I5, begins);
    let schedules = paused().then(3, scheduled(&b));
    schedules.violates(Invariant::I5, "/do/1/b begins after a pause");
    let resumed = paused()
        .then(3, Fact::Suspended)
        .then(4, Fact::Ordered(Order::Resume))
        .then(5, taken(&a));
    resumed.is_right();
    assert_eq!(resumed.account.status(), Status::Running);
}

#[test]
fn i5_what_had_begun_before_a_pause_may_end_and_only_then_is_it_suspended() {
    let a = TaskReference::at("/do/0/a");
    let paused = || {
        Books::started()
            .then(1, scheduled(&a))
            .then(2, taken(&a))
            .then(3, Fact::Ordered(Order::Pause))
    };
    let early = paused().then(4, Fact::Suspended);
    early.violates(Invariant::I5, "it suspends while /do/0/a is with somebody");
    let drained = paused()
        .then(4, completed(&a, None))
        .then(5, Fact::Suspended);
    drained.is_right();
    assert_eq!(drained.account.status(), Status::Suspended);
}

#[test]
fn i5_nothing_begins_after_a_stop() {
    let a = TaskReference::at("/do/0/a");
    let stopped = || {
        Books::started()
            .then(1, scheduled(&a))
            .then(2, Fact::Ordered(Order::Stop))
    };
    let begins = "attempt 1 of /do/0/a begins after a stop";
    stopped().then(3, taken(&a)).violates(Invariant::I5, begins);
    let ended = stopped()
        .then(3, Fact::Cancelled { task: &a })
        .then(3, cancelled());
    ended.is_right();
    let resumed = stopped().then(3, Fact::Ordered(Order::Resume));
    resumed.violates(Invariant::I3, "a resume after its stop");
}

#[test]
fn i10_nobody_is_stopped_resumed_or_suspended_without_an_order() {
    Books::started()
        .then(1, cancelled())
        .violates(Invariant::I10, "it was stopped");
    let resumed = Books::started().then(1, Fact::Ordered(Order::Resume));
    resumed.violates(Invariant::I10, "without having been paused");
    let suspended = Books::started().then(1, Fact::Suspended);
    suspended.violates(Invariant::I10, "nobody asked for it");
}

#[test]
fn i7_a_wait_lasts_as_long_as_it_says() {
    let wait = TaskReference::at("/do/0/wait");
    let waiting = || {
        let begun = Begun::new(&wait, None);
        let fact = Fact::WaitStarted {
            begun,
            duration: DurationMs(100),
            timeout: Some(DurationMs(500)),
        };
        Books::started().then(10, fact)
    };
    assert!(waiting().account.is_alive());
    waiting().then(110, completed(&wait, None)).is_right();
    let early = waiting().then(109, completed(&wait, None));
    early.violates(Invariant::I7, "the wait of /do/0/wait comes 1 ms early");
    let timed_out = |at| {
        let fact = Fact::TimedOut {
            task: &wait,
            attempt: Attempt(1),
        };
        waiting().then(at, fact)
    };
    timed_out(510).is_right();
    timed_out(509).violates(Invariant::I7, "the time-out of /do/0/wait comes 1 ms early");
}

/// A timer that came due in a pause acts on resume.
#[test]
fn i7_a_timer_is_not_late_while_it_is_paused() {
    let wait = TaskReference::at("/do/0/wait");
    let fact = Fact::WaitStarted {
        begun: Begun::new(&wait, None),
        duration: DurationMs(100),
        timeout: None,
    };
    let resumed = Books::started()
        .then(0, fact)
        .then(50, Fact::Ordered(Order::Pause))
        .then(60, Fact::Suspended)
        .then(1_000, Fact::Ordered(Order::Resume))
        .then(1_003, completed(&wait, None));
    resumed.is_right();
    assert_eq!(
        resumed.account.late.map(|(late, _)| late),
        Some(DurationMs(3))
    );
}

/// A container with one task in it that has failed.
fn failed<'a>(container: &'a TaskReference, inner: &'a TaskReference) -> Books {
    let faulted = Fact::Faulted {
        begun: Begun::new(inner, Some(container)),
        result: None,
    };
    Books::started()
        .then(1, entered(container))
        .then(1, faulted)
}

fn entered(container: &TaskReference) -> Fact<'_> {
    Fact::Entered {
        begun: Begun::new(container, None),
        timeout: None,
        attempt_timeout: None,
        is_race: false,
    }
}

/// Whether a second branch may be performed once the first has failed.
fn goes_on_beside_a_failure(is_race: bool) -> Books {
    let fork = TaskReference::at("/do/0/fork");
    let (a, b) = ("/do/0/fork/branches/0/a", "/do/0/fork/branches/1/b");
    let (a, b) = (TaskReference::at(a), TaskReference::at(b));
    let entered = Fact::Entered {
        begun: Begun::new(&fork, None),
        timeout: None,
        attempt_timeout: None,
        is_race,
    };
    let scheduled = |task| Fact::Scheduled {
        begun: Begun::new(task, Some(&fork)),
        timeout: DurationMs(1_000),
    };
    let faulted = Fact::Faulted {
        begun: Begun::new(&a, Some(&fork)),
        result: None,
    };
    Books::started()
        .then(1, entered)
        .then(1, scheduled(&a))
        .then(2, faulted)
        .then(2, scheduled(&b))
        .then(3, taken(&b))
}

#[test]
fn i6_a_failure_in_a_race_leaves_room_for_the_others() {
    goes_on_beside_a_failure(true).is_right();
    goes_on_beside_a_failure(false).violates(Invariant::I6, "as many run as may run at once");
}

#[test]
fn i2_a_handler_runs_only_after_a_failure_and_only_once() {
    let container = TaskReference::at("/do/0/try");
    let inner = TaskReference::at("/do/0/try/try/0/a");
    let handler = TaskReference::at("/do/0/try/catch/do/0/b");
    let caught = Fact::Caught {
        task: &container,
        attempt: Attempt(1),
    };
    let mended = failed(&container, &inner)
        .then(1, caught)
        .then(1, completed(&handler, Some(&container)))
        .then(1, completed(&container, None));
    mended.is_right();
    let twice = failed(&container, &inner).then(1, caught).then(1, caught);
    twice.violates(Invariant::I2, "nothing in it failed");
    let unfounded = Books::started()
        .then(1, entered(&container))
        .then(1, caught);
    unfounded.violates(Invariant::I2, "nothing in it failed");
    let leaf = Books::started().then(1, scheduled(&inner)).then(
        1,
        Fact::Caught {
            task: &inner,
            attempt: Attempt(1),
        },
    );
    leaf.violates(Invariant::I2, "holds no tasks");
}

#[test]
fn a_container_that_is_tried_again_begins_anew() {
    let container = TaskReference::at("/do/0/try");
    let inner = TaskReference::at("/do/0/try/try/0/a");
    let retried = |at| {
        let due = Timestamp(100);
        let retry = Fact::RetryScheduled {
            task: &container,
            attempt: Attempt(1),
            due,
        };
        let fired = Fact::TimerFired {
            task: &container,
            attempt: Attempt(2),
        };
        failed(&container, &inner).then(2, retry).then(at, fired)
    };
    retried(99).violates(Invariant::I7, "1 ms early");
    let again = retried(100).then(101, completed(&inner, Some(&container)));
    again.is_right();
    assert!(!again.account.is_alive());
}
