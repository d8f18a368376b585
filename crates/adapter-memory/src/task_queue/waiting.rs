//! One tenant's waiting tasks: taken in constant time, in turns between executions.
//!
//! Each capability has a ring of turns, one turn per execution that has (or had) a task for it. A take gives the
//! execution whose turn is the oldest among the rings of its capabilities its oldest task that the take can do, and
//! that execution's turn goes to the end of the ring. So the order within an execution holds across capabilities too.

use std::collections::{HashMap, HashSet, VecDeque};

use eventflow_domain::{Attempt, Capability, ExecutionId, TaskReference};
use eventflow_ports::{OfferedAttempt, TaskOffer};

/// What makes a task one and the same.
type Key = (ExecutionId, TaskReference, Attempt);

#[derive(Debug, Default)]
pub(super) struct Waiting {
    executions: HashMap<ExecutionId, Vec<Lane>>,
    rings: HashMap<Capability, VecDeque<Turn>>,
    /// What must not be added again: all that waits, and what was taken out but not forgotten.
    known: HashSet<Key>,
    /// The number of the last task added at an end; what is put back at a front counts down from 0.
    last: i64,
    first: i64,
    /// The number of the last turn at the end of a ring, and of the last at a front.
    last_turn: i64,
    first_turn: i64,
}

/// The tasks of one execution for one capability. It exists exactly while it has a turn in that capability's ring.
#[derive(Debug)]
struct Lane {
    capability: Capability,
    /// With their numbers, ascending.
    tasks: VecDeque<(i64, TaskOffer)>,
}

#[derive(Debug)]
struct Turn {
    number: i64,
    execution: ExecutionId,
}

impl Waiting {
    /// Whether nothing waits and nothing that was taken out may still come back.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether it waits, or was taken out and may still come back.
    pub(super) fn knows(&self, attempt: &OfferedAttempt) -> bool {
        let key = (
            attempt.execution.clone(),
            attempt.task.clone(),
            attempt.attempt,
        );
        self.known.contains(&key)
    }

    /// Adds a task at the end; false where it is there already.
    pub(super) fn add(&mut self, task: TaskOffer) -> bool {
        if !self.known.insert(key(&task)) {
            return false;
        }
        self.last += 1;
        let number = self.last;
        if let Some(lane) = lane(&mut self.executions, &task) {
            lane.tasks.push_back((number, task));
            return true;
        }
        self.last_turn += 1;
        let turn = Turn {
            number: self.last_turn,
            execution: task.execution.clone(),
        };
        ring(&mut self.rings, &task.capability).push_back(turn);
        self.open_lane(number, task);
        true
    }

    /// Puts tasks back, each before all else of its execution; an execution that has no turn any more gets the first.
    pub(super) fn put_back(&mut self, tasks: Vec<TaskOffer>) {
        for task in tasks.into_iter().rev() {
            self.first -= 1;
            let number = self.first;
            if let Some(lane) = lane(&mut self.executions, &task) {
                lane.tasks.push_front((number, task));
                continue;
            }
            self.first_turn -= 1;
            let turn = Turn {
                number: self.first_turn,
                execution: task.execution.clone(),
            };
            ring(&mut self.rings, &task.capability).push_front(turn);
            self.open_lane(number, task);
        }
    }

    /// Takes out up to `max` tasks of these capabilities.
    pub(super) fn take(&mut self, capabilities: &[Capability], max: usize) -> Vec<TaskOffer> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(capability) = self.oldest_turn(capabilities)
        {
            taken.extend(self.take_turn(capability, capabilities));
        }
        taken
    }

    /// What was taken out will not come back: from now on the same task is a new one.
    pub(super) fn forget(&mut self, tasks: &[TaskOffer]) {
        for task in tasks {
            self.known.remove(&key(task));
        }
    }

    /// Whose ring has the oldest turn.
    fn oldest_turn<'a>(&self, capabilities: &'a [Capability]) -> Option<&'a Capability> {
        capabilities
            .iter()
            .filter_map(|capability| {
                let turn = self.rings.get(capability)?.front()?;
                Some((turn.number, capability))
            })
            .min_by_key(|(number, _)| *number)
            .map(|(_, capability)| capability)
    }

    /// The next execution in this ring has its turn: its oldest task that can be done, none where all were taken in
    /// turns of other rings. Each turn without a task was paid for by one with a task.
    fn take_turn(&mut self, capability: &Capability, can: &[Capability]) -> Option<TaskOffer> {
        let ring = self.rings.get_mut(capability)?;
        let mut turn = ring.pop_front()?;
        let lanes = self.executions.get_mut(&turn.execution)?;
        let task = lanes
            .iter_mut()
            .filter(|lane| can.contains(&lane.capability))
            .min_by_key(|lane| lane.tasks.front().map_or(i64::MAX, |(number, _)| *number))
            .and_then(|lane| lane.tasks.pop_front());

        let own = lanes.iter().position(|lane| lane.capability == *capability);
        if let Some(own) = own
            && lanes[own].tasks.is_empty()
        {
            lanes.swap_remove(own);
            if lanes.is_empty() {
                self.executions.remove(&turn.execution);
            }
            if ring.is_empty() {
                self.rings.remove(capability);
            }
        } else {
            self.last_turn += 1;
            turn.number = self.last_turn;
            ring.push_back(turn);
        }
        task.map(|(_, task)| task)
    }

    fn open_lane(&mut self, number: i64, task: TaskOffer) {
        let lanes = self.executions.entry(task.execution.clone()).or_default();
        lanes.push(Lane {
            capability: task.capability.clone(),
            tasks: VecDeque::from([(number, task)]),
        });
    }
}

fn key(task: &TaskOffer) -> Key {
    (task.execution.clone(), task.task.clone(), task.attempt)
}

fn lane<'a>(
    executions: &'a mut HashMap<ExecutionId, Vec<Lane>>,
    task: &TaskOffer,
) -> Option<&'a mut Lane> {
    let lanes = executions.get_mut(&task.execution)?;
    lanes
        .iter_mut()
        .find(|lane| lane.capability == task.capability)
}

fn ring<'a>(
    rings: &'a mut HashMap<Capability, VecDeque<Turn>>,
    capability: &Capability,
) -> &'a mut VecDeque<Turn> {
    if !rings.contains_key(capability) {
        rings.insert(capability.clone(), VecDeque::new());
    }
    rings
        .get_mut(capability)
        .expect("it was there or was inserted")
}
