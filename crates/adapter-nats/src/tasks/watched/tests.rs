//! Which attempts count as lost, look by look.

use eventflow_domain::{Attempt, Capability, ExecutionId, TaskReference, Tenant};

use super::*;

const P: PartitionId = PartitionId(0);
const MAX: usize = 1_000;

fn queue() -> Queue {
    Queue {
        tenant: Tenant::default_tenant(),
        capability: Capability::parse("charge").expect("a name"),
    }
}

fn attempt(number: u32) -> OfferedAttempt {
    OfferedAttempt {
        partition: P,
        tenant: Tenant::default_tenant(),
        execution: ExecutionId::parse("e1").expect("a name"),
        task: TaskReference::at("/do/0"),
        attempt: Attempt(number),
    }
}

/// Offers the attempts of these numbers, each stored at the sequence of its number.
fn stored(numbers: impl IntoIterator<Item = u32>) -> Watched {
    let mut watched = Watched::default();
    for number in numbers {
        let accepted = watched.offer(&attempt(number), queue(), MAX);
        assert_eq!(accepted, Accepted::Send(1));
        watched.stored(&attempt(number), 1, u64::from(number), true);
    }
    watched
}

/// A look that finds this; what is told to be lost after it.
fn look(watched: &mut Watched, (first, last): (u64, u64), floor: u64, gone: &[u64]) -> Vec<u32> {
    let (look, _) = watched.begin_look();
    let state = QueueState {
        floor,
        is_empty: false,
    };
    watched.end_look(&Findings {
        look,
        first,
        last,
        queues: HashMap::from([(queue(), state)]),
        gone: gone.iter().copied().collect(),
    });
    told(watched)
}

fn told(watched: &mut Watched) -> Vec<u32> {
    let lost = watched.take_lost(P);
    lost.into_iter().map(|lost| lost.attempt.0).collect()
}

#[test]
fn what_is_missing_in_two_looks_in_a_row_is_lost_and_told_once() {
    let mut watched = stored(1..=9);
    // Before the first, below the floor, gone between, beyond the last.
    assert_eq!(look(&mut watched, (2, 8), 3, &[5]), [0_u32; 0]);
    assert_eq!(look(&mut watched, (2, 8), 3, &[5]), [1, 2, 3, 5, 9]);
    assert_eq!(look(&mut watched, (2, 8), 3, &[5]), [0_u32; 0]);
}

#[test]
fn what_is_there_again_is_not_lost() {
    let mut watched = stored(1..=3);
    assert_eq!(look(&mut watched, (1, 2), 0, &[]), [0_u32; 0]);
    assert_eq!(look(&mut watched, (1, 3), 0, &[]), [0_u32; 0]);
    assert_eq!(look(&mut watched, (1, 2), 0, &[]), [0_u32; 0]);
    assert_eq!(look(&mut watched, (1, 2), 0, &[]), [3]);
}

#[test]
fn of_an_empty_queue_all_is_lost() {
    let mut watched = stored(1..=3);
    for expected in [vec![], vec![1, 2, 3]] {
        let (look, queues) = watched.begin_look();
        assert_eq!(queues, HashSet::from([queue()]));
        let state = QueueState {
            floor: 0,
            is_empty: true,
        };
        watched.end_look(&Findings {
            look,
            first: 1,
            last: 3,
            queues: HashMap::from([(queue(), state)]),
            gone: HashSet::new(),
        });
        assert_eq!(told(&mut watched), expected);
    }
}

#[test]
fn a_look_says_nothing_of_what_came_while_it_was_taken() {
    let mut watched = stored(1..=3);
    for _ in 0..3 {
        let (look, _) = watched.begin_look();
        watched.settle(&attempt(4));
        watched.offer(&attempt(4), queue(), MAX);
        watched.stored(&attempt(4), 1, 4 + look, true);
        let findings = Findings {
            look,
            first: 1,
            last: 3,
            ..Findings::default()
        };
        watched.end_look(&findings);
        assert_eq!(told(&mut watched), [0_u32; 0]);
    }
}

#[test]
fn what_is_settled_or_forgotten_is_not_lost() {
    let mut watched = stored(1..=3);
    look(&mut watched, (4, 3), 0, &[]);
    watched.settle(&attempt(1));
    assert_eq!(look(&mut watched, (4, 3), 0, &[]), [2, 3]);

    let mut watched = stored(1..=3);
    look(&mut watched, (4, 3), 0, &[]);
    watched.forget(P);
    assert_eq!(look(&mut watched, (4, 3), 0, &[]), [0_u32; 0]);
    assert_eq!(watched.attempts, 0);

    // Settled between the look and the question.
    let mut watched = stored(1..=2);
    for _ in 0..2 {
        let (look, _) = watched.begin_look();
        watched.end_look(&Findings {
            look,
            first: 3,
            last: 2,
            ..Findings::default()
        });
    }
    watched.settle(&attempt(1));
    assert_eq!(told(&mut watched), [2]);
}

#[test]
fn an_offer_of_what_is_on_its_way_is_dropped_and_one_of_what_was_lost_is_another_message() {
    let mut watched = Watched::default();
    let offer = |watched: &mut Watched| watched.offer(&attempt(1), queue(), MAX);
    assert_eq!(offer(&mut watched), Accepted::Send(1));
    assert_eq!(offer(&mut watched), Accepted::Repeated);
    watched.stored(&attempt(1), 1, 1, true);
    assert_eq!(offer(&mut watched), Accepted::Repeated);
    for _ in 0..2 {
        look(&mut watched, (2, 1), 1, &[]);
    }
    assert_eq!(offer(&mut watched), Accepted::Send(2));
    assert!(watched.is_wanted(&attempt(1), 2));
    assert!(!watched.is_wanted(&attempt(1), 1));
    // The answer to the first one says nothing of the second.
    watched.stored(&attempt(1), 1, 2, true);
    assert!(watched.is_wanted(&attempt(1), 2));
}

#[test]
fn what_could_not_be_sent_is_lost_after_a_look_and_is_the_same_message_again() {
    let mut watched = Watched::default();
    watched.offer(&attempt(1), queue(), MAX);
    watched.unsent(&attempt(1), 1);
    assert_eq!(told(&mut watched), [0_u32; 0], "the server may be away");
    assert_eq!(look(&mut watched, (1, 0), 0, &[]), [1]);
    let again = watched.offer(&attempt(1), queue(), MAX);
    assert_eq!(again, Accepted::Send(1));
}

#[test]
fn of_a_stream_that_gives_a_sequence_again_all_from_there_on_is_lost() {
    let mut watched = stored(1..=9);
    watched.offer(&attempt(10), queue(), MAX);
    watched.stored(&attempt(10), 1, 4, true);
    assert_eq!(look(&mut watched, (1, 20), 0, &[]), [4, 5, 6, 7, 8, 9]);
    // A message that was there already has its old sequence.
    let mut watched = stored(1..=9);
    watched.offer(&attempt(10), queue(), MAX);
    watched.stored(&attempt(10), 1, 4, false);
    assert_eq!(look(&mut watched, (1, 20), 0, &[]), [0_u32; 0]);
}

#[test]
fn there_is_room_for_so_many() {
    let mut watched = stored(1..=3);
    assert_eq!(watched.offer(&attempt(4), queue(), 3), Accepted::Full);
    assert_eq!(watched.offer(&attempt(1), queue(), 3), Accepted::Repeated);
    watched.settle(&attempt(1));
    assert_eq!(watched.offer(&attempt(4), queue(), 3), Accepted::Send(1));
}
