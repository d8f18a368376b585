//! Nodes come, go and die in any order: the partitions end up spread evenly, and none moves that need not.

use eventflow_ports::Held;
use proptest::prelude::*;

use super::*;

/// A roll, its nodes' clocks and who is really there.
#[derive(Default)]
struct Room {
    roll: Roll,
    marks: u64,
    living: BTreeSet<NodeName>,
    /// How often a partition was taken.
    moves: usize,
}

fn node(number: usize) -> NodeName {
    NodeName::parse(&format!("node-{number}")).expect("a name")
}

impl Room {
    /// What one node sees and does; whether that was anything.
    fn act(&mut self, me: &NodeName, partitions: u16) -> bool {
        let plan = plan(&self.roll, &self.living, me, partitions);
        for (partition, seen) in &plan.take {
            let held = self.held(*partition);
            assert_eq!(held.mark, *seen, "taken with the mark it has");
            let is_led = held
                .leader
                .clone()
                .is_some_and(|leader| self.living.contains(&leader));
            assert!(!is_led, "taken from a living node");
            self.lead(*partition, Some(me.clone()));
            self.moves += 1;
        }
        for partition in &plan.release {
            assert_eq!(self.held(*partition).leader.as_ref(), Some(me));
            self.lead(*partition, None);
        }
        plan != Plan::default()
    }

    fn held(&mut self, partition: PartitionId) -> &mut Held {
        let place = self
            .roll
            .partitions
            .iter()
            .position(|held| held.partition == partition);
        let place = place.unwrap_or_else(|| {
            let (leader, mark) = (None, Mark::NONE);
            self.roll.partitions.push(Held {
                partition,
                leader,
                mark,
            });
            self.roll.partitions.len() - 1
        });
        &mut self.roll.partitions[place]
    }

    fn lead(&mut self, partition: PartitionId, leader: Option<NodeName>) {
        self.marks += 1;
        let mark = Mark(self.marks);
        *self.held(partition) = Held {
            partition,
            leader,
            mark,
        };
    }

    fn led_by(&self, node: &NodeName) -> usize {
        let led = self.roll.partitions.iter();
        led.filter(|held| held.leader.as_ref() == Some(node))
            .count()
    }

    /// Lets the nodes act in this order until none has anything to do.
    fn settle(&mut self, order: &[usize], partitions: u16) {
        for _ in 0..4 * (usize::from(partitions) + 1) {
            let mut acted = false;
            for number in order {
                let me = node(*number);
                acted |= self.living.contains(&me) && self.act(&me, partitions);
            }
            if !acted {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.roll.partitions);
    }

    /// The least number of moves that makes the spread even, counted from the shares alone.
    fn least_moves(&self, partitions: u16) -> usize {
        let partitions = usize::from(partitions);
        let mut held: Vec<_> = self.living.iter().map(|node| self.led_by(node)).collect();
        held.sort_unstable_by_key(|count| Reverse(*count));
        let (least, uneven) = (partitions / held.len(), partitions % held.len());
        let kept = held.iter().enumerate();
        let kept = kept.map(|(rank, count)| *count.min(&(least + usize::from(rank < uneven))));
        partitions - kept.sum::<usize>()
    }
}

#[derive(Debug, Clone)]
enum Turn {
    Comes(usize),
    Dies(usize),
    /// It gives up what it leads and goes.
    Leaves(usize),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = (0..3_u8, 0..6_usize).prop_map(|(kind, node)| match kind {
        0 => Turn::Comes(node),
        1 => Turn::Dies(node),
        _ => Turn::Leaves(node),
    });
    prop::collection::vec(turn, 1..12)
}

proptest! {
    #[test]
    fn it_comes_to_rest_evenly_and_with_the_fewest_moves(
        turns in turns(),
        partitions in 1..20_u16,
        order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let mut room = Room::default();
        room.living.insert(node(0));
        room.settle(&order, partitions);
        for turn in turns {
            match turn {
                Turn::Comes(number) => {
                    room.living.insert(node(number));
                }
                Turn::Dies(number) | Turn::Leaves(number) if room.living.len() == 1 && room.living.contains(&node(number)) => {}
                Turn::Dies(number) => {
                    room.living.remove(&node(number));
                }
                Turn::Leaves(number) => {
                    room.living.remove(&node(number));
                    let led: Vec<_> = room.roll.partitions.iter().filter(|held| held.leader == Some(node(number))).map(|held| held.partition).collect();
                    for partition in led {
                        room.lead(partition, None);
                    }
                }
            }
            let least = room.least_moves(partitions);
            room.moves = 0;
            room.settle(&order, partitions);
            prop_assert_eq!(room.moves, least);
            let shares: Vec<_> = room.living.iter().map(|node| room.led_by(node)).collect();
            let (most, fewest) = (shares.iter().max().unwrap(), shares.iter().min().unwrap());
            prop_assert!(most - fewest <= 1, "{shares:?}");
            prop_assert_eq!(shares.iter().sum::<usize>(), usize::from(partitions));
        }
    }

    #[test]
    fn nodes_that_see_the_same_never_want_the_same(
        leaders in prop::collection::vec(prop::option::of(0..6_usize), 0..20),
        alive in prop::collection::btree_set(0..6_usize, 1..6),
    ) {
        let mut room = Room { living: alive.into_iter().map(node).collect(), ..Room::default() };
        let partitions = u16::try_from(leaders.len()).unwrap();
        for (partition, leader) in (0..).map(PartitionId).zip(leaders) {
            room.lead(partition, leader.map(node));
        }
        let mut taken = BTreeSet::new();
        for me in &room.living {
            for (partition, _) in plan(&room.roll, &room.living, me, partitions).take {
                prop_assert!(taken.insert(partition), "{partition} has two takers");
            }
        }
    }
}

#[test]
fn whoever_has_too_many_gives_up_what_it_has_had_longest() {
    let mut room = Room::default();
    for partition in [2, 0, 3, 1] {
        room.lead(PartitionId(partition), Some(node(0)));
    }
    room.living = [node(0), node(1)].into();
    let plan = plan(&room.roll, &room.living, &node(0), 4);
    assert_eq!(plan.release, [PartitionId(0), PartitionId(2)]);
    assert!(plan.take.is_empty());
}

#[test]
fn a_mark_that_stands_still_is_a_dead_node_by_the_lookers_own_clock() {
    let mut roll = Roll {
        nodes: vec![(node(0), Mark(1)), (node(1), Mark(2))],
        ..Roll::default()
    };
    let mut sightings = Sightings::default();
    // However old the marks are: this looker sees them for the first time.
    let first = Duration::from_secs(1_000);
    sightings.look(&roll, first);
    assert_eq!(sightings.alive(first), [node(0), node(1)].into());
    roll.nodes[1].1 = Mark(3);
    let later = first + LEASE.saturating_sub(Duration::from_millis(1));
    sightings.look(&roll, later);
    assert_eq!(sightings.alive(later), [node(0), node(1)].into());
    let dead = first + LEASE;
    sightings.look(&roll, dead);
    assert_eq!(sightings.alive(dead), [node(1)].into());
    roll.nodes[0].1 = Mark(4);
    sightings.look(&roll, dead);
    assert_eq!(sightings.alive(dead), [node(0), node(1)].into());
}

#[test]
fn nobody_alive_plans_nothing() {
    assert_eq!(
        plan(&Roll::default(), &BTreeSet::new(), &node(0), 4),
        Plan::default()
    );
}
