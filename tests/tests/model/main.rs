//! A checked model of the partition writer's fence: pipelined appends, the read-back after one that was not
//! acknowledged, and the take-over by a new epoch (DESIGN sections 5 and 12.5, ADR 10).
//!
//! Two or three writers, one log. Answers of the journal come late or never; an append whose answer was lost takes
//! effect now, later or never; a writer may pause at any moment, for ever or until long after another one took over.
//! Every order of events within the bounds below is tried.
//!
//! | here | in the engine |
//! |---|---|
//! | `Start` | `recovery::recover` to the end of the log, then `Writer::lead` |
//! | `Submit` | `Writer::submit`, up to `APPENDS_IN_FLIGHT_MAX` |
//! | `CarryOut`, `LoseAnswer`, `ArriveLate` | the journal behind its port, with clauses 1 to 5, 11 and 12 |
//! | `Hear` | `Writer::appended`: commit, or begin to mend |
//! | `Look` | `ReadBack::settle`: mine, empty (send again), another's (fenced) |

mod journal;
mod writer;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use self::{
    journal::{Answer, Log, RecordId, WriterId},
    writer::{Answered, How, Phase, Writer},
};

/// Of each of three writers, where `EVENTFLOW_BATCHES` says nothing: two are under way at a time.
const BATCHES: u8 = 2;
const THREADS: usize = 2;

/// What the model can be broken by: each is found, so the model sees what it is there to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// The journal writes wherever its end is.
    NoFence,
    /// What was handed over behind a failed append is carried out all the same (ADR 10).
    PipelinePastAHole,
    /// The read-back takes whatever it finds for its own record.
    AnothersIsMine,
    /// A record whose answer was lost is sent again to the end of the log, without reading back.
    SendAgainUnread,
    /// A new writer whose first record is refused goes to the new end of the log without reading what is there.
    TakeOverUnread,
    /// Callers are answered when their record is handed over.
    AnswerFirst,
}

/// The bounds of what is tried.
#[derive(Debug, Clone)]
struct Partition {
    writers: u8,
    /// Of each writer, beside its `EpochStarted`.
    batches: u8,
    lost_answers: u8,
    bug: Option<Bug>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    log: Log,
    writers: Vec<Writer>,
    /// Records whose callers were answered; kept sorted.
    answered: Vec<Answered>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Start(WriterId),
    Submit(WriterId),
    CarryOut(WriterId),
    LoseAnswer(WriterId),
    ArriveLate(usize),
    Hear(WriterId),
    Look(WriterId),
}

impl Partition {
    const fn sound(writers: u8, batches: u8, lost_answers: u8) -> Self {
        Self {
            writers,
            batches,
            lost_answers,
            bug: None,
        }
    }

    fn actions_of(&self, state: &State, id: WriterId, actions: &mut Vec<Action>) {
        let writer = &state.writers[usize::from(id)];
        match writer.phase {
            // They start in the order of their numbers: any other is the same with other names.
            Phase::Down => {
                let before = usize::from(id).checked_sub(1);
                if before.is_none_or(|before| state.writers[before].phase != Phase::Down) {
                    actions.push(Action::Start(id));
                }
            }
            Phase::Mending => actions.push(Action::Look(id)),
            Phase::Starting | Phase::Leading | Phase::SendingAgain => {
                if writer.may_submit(self.batches) {
                    actions.push(Action::Submit(id));
                }
                if !writer.journal.answers.is_empty() {
                    actions.push(Action::Hear(id));
                }
            }
            Phase::Fenced => {}
        }
        if !writer.journal.queue.is_empty() {
            actions.push(Action::CarryOut(id));
            if state.log.lost_answers < self.lost_answers {
                actions.push(Action::LoseAnswer(id));
            }
        }
    }

    fn is_fenced(&self) -> bool {
        self.bug != Some(Bug::NoFence)
    }

    fn carry_out(&self, state: &mut State, id: WriterId) {
        let instance = &mut state.writers[usize::from(id)].journal;
        let append = instance.queue.remove(0);
        let answer = state.log.carry_out(append, self.is_fenced());
        instance.answers.push(answer);
        if answer == Answer::Written {
            return;
        }
        for append in instance.queue.drain(..) {
            instance.answers.push(Answer::Failed);
            if self.bug == Some(Bug::PipelinePastAHole) {
                state.log.keep_late(append, false);
            }
        }
    }

    /// The answer is lost, and with it those of all that stand behind.
    fn lose_answer(&self, state: &mut State, id: WriterId) {
        let instance = &mut state.writers[usize::from(id)].journal;
        for (place, append) in instance.queue.drain(..).enumerate() {
            instance.answers.push(Answer::Failed);
            let is_behind = place > 0 && self.bug != Some(Bug::PipelinePastAHole);
            state.log.keep_late(append, is_behind);
        }
        state.log.lost_answers += 1;
    }
}

impl State {
    fn answer(&mut self, answered: Option<Answered>) {
        self.answered.extend(answered);
        self.answered.sort_unstable();
    }

    fn holds(&self, wanted: RecordId) -> bool {
        self.log.records.iter().any(|record| record.id == wanted)
    }

    fn any_writer(&self, is: impl Fn(&Writer) -> bool) -> bool {
        self.writers.iter().any(is)
    }
}

impl Model for Partition {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            log: Log::default(),
            writers: vec![Writer::down(); usize::from(self.writers)],
            answered: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for id in 0..self.writers {
            self.actions_of(state, id, actions);
        }
        actions.extend((0..state.log.late.len()).map(Action::ArriveLate));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let writer = |id: WriterId| usize::from(id);
        match action {
            Action::Start(id) => state.writers[writer(id)].start(id, &last.log),
            Action::Submit(id) => {
                state.writers[writer(id)].hand_over_next(id);
                if self.bug == Some(Bug::AnswerFirst) {
                    let record = state.writers[writer(id)].in_flight.last();
                    let answered = record.map(|append| (append.record.id, How::Acknowledged));
                    state.answer(answered);
                }
            }
            Action::CarryOut(id) => self.carry_out(&mut state, id),
            Action::LoseAnswer(id) => self.lose_answer(&mut state, id),
            Action::ArriveLate(which) => state.log.arrive(which, self.is_fenced()),
            Action::Hear(id) => {
                let answered = state.writers[writer(id)].hear();
                state.answer(answered);
            }
            Action::Look(id) => {
                let answered = state.writers[writer(id)].look(&last.log, self.bug);
                state.answer(answered);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = promises();
        properties.extend(reached());
        properties
    }
}

const DURABLE: &str = "what was answered is in the log";
const CHAINED: &str = "each record carries the hash of the one before it";
const ORDERED: &str = "nothing of an older epoch follows a newer EpochStarted";
const ONCE: &str = "no record is written twice";
const READ: &str = "a writer that reigns has read everything before its epoch";

/// What must hold in every state.
fn promises() -> Vec<Property<Partition>> {
    vec![
        Property::always(DURABLE, |_, state: &State| {
            state
                .answered
                .iter()
                .all(|(record, _)| state.holds(*record))
        }),
        Property::always(CHAINED, |_, state: &State| {
            let records = &state.log.records;
            let before = std::iter::once(None).chain(records.iter().map(|record| Some(record.id)));
            records
                .iter()
                .zip(before)
                .all(|(record, before)| record.previous == before)
        }),
        Property::always(ORDERED, |_, state: &State| {
            state.log.records.is_sorted_by_key(|record| record.epoch)
        }),
        Property::always(ONCE, |_, state: &State| {
            let records = &state.log.records;
            (1..records.len()).all(|at| !records[..at].iter().any(|one| one.id == records[at].id))
        }),
        Property::always(READ, |_, state: &State| {
            let has_read = |writer: &Writer| {
                writer
                    .reigns_from
                    .is_none_or(|position| position == writer.read_to + 1)
            };
            state.writers.iter().all(has_read)
        }),
    ]
}

/// What must be possible: without it the promises would be empty.
fn reached() -> Vec<Property<Partition>> {
    vec![
        Property::sometimes("a record is found by reading back", |_, state: &State| {
            state.answered.iter().any(|(_, how)| *how == How::ReadBack)
        }),
        Property::sometimes("a record that was sent again counts", |_, state: &State| {
            state.answered.iter().any(|(_, how)| *how == How::SentAgain)
        }),
        Property::sometimes("a writer that reigned is fenced", |_, state: &State| {
            state.any_writer(|writer| writer.phase == Phase::Fenced && writer.reigns_from.is_some())
        }),
        Property::sometimes(
            "a new writer loses the race for its epoch",
            |_, state: &State| {
                state.any_writer(|writer| {
                    writer.phase == Phase::Fenced && writer.reigns_from.is_none()
                })
            },
        ),
        Property::sometimes(
            "two appends are settled one after the other",
            |_, state: &State| {
                state.any_writer(|writer| {
                    writer.phase == Phase::SendingAgain && writer.in_flight.len() == 2
                })
            },
        ),
        Property::sometimes(
            "every writer has written all of its batches",
            |model, state: &State| {
                let all = usize::from(model.writers) * (usize::from(model.batches) + 1);
                state.answered.len() == all
            },
        ),
    ]
}

fn check(partition: Partition, threads: usize, until: HasDiscoveries) -> impl Checker<Partition> {
    let began = Instant::now();
    let what = format!("{partition:?}");
    let checker = partition
        .checker()
        .threads(threads)
        .finish_when(until)
        .spawn_bfs()
        .join();
    println!(
        "{what}: {} states, {} steps, depth {}, {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed()
    );
    checker
}

/// Everything within the bounds: no promise is broken, and everything that must be possible is.
#[track_caller]
fn holds(partition: Partition) {
    check(partition, THREADS, HasDiscoveries::All).assert_properties();
}

/// The bug breaks this promise, and the model shows how.
#[track_caller]
fn is_found(bug: Bug, promise: &'static str) {
    let partition = Partition {
        bug: Some(bug),
        ..Partition::sound(2, 2, 1)
    };
    let checker = check(partition, 1, HasDiscoveries::AllOf([promise].into()));
    let path = checker
        .discovery(promise)
        .unwrap_or_else(|| panic!("{bug:?} does not break the promise that {promise}"));
    println!("not so: {promise}: {:?}", path.into_actions());
}

#[test]
fn two_writers_keep_every_promise() {
    holds(Partition::sound(2, 2, 2));
}

#[test]
fn three_writers_keep_every_promise() {
    let batches = std::env::var("EVENTFLOW_BATCHES").map_or(BATCHES, |batches| {
        batches.parse().expect("EVENTFLOW_BATCHES is a number")
    });
    holds(Partition::sound(3, batches, 1));
}

#[test]
fn without_the_fence_an_older_epoch_writes_behind_a_newer_one() {
    is_found(Bug::NoFence, ORDERED);
}

#[test]
fn appends_that_go_on_past_a_hole_break_the_chain() {
    is_found(Bug::PipelinePastAHole, CHAINED);
}

#[test]
fn taking_anothers_record_for_ones_own_loses_what_was_answered() {
    is_found(Bug::AnothersIsMine, DURABLE);
}

#[test]
fn sending_again_without_reading_back_writes_twice() {
    is_found(Bug::SendAgainUnread, ONCE);
}

#[test]
fn taking_over_without_reading_the_end_forgets_records() {
    is_found(Bug::TakeOverUnread, READ);
}

#[test]
fn answering_first_answers_for_what_is_not_there() {
    is_found(Bug::AnswerFirst, DURABLE);
}
