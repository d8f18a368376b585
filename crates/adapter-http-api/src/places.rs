//! Who holds a connection, since when it has kept us waiting, and who gives way when every place is taken.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

/// So many give way at once, of a full house one in so many: making room looks at every place, so it must make some.
const GIVE_WAY_ONE_IN: usize = 64;
/// `waiting_since` of a client whose turn it is not: it has sent all that it has to and waits for us.
const SERVED: u64 = u64::MAX;

/// Every open connection, up to a bound.
pub(crate) struct Places {
    max: usize,
    began: Instant,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    by_number: HashMap<u64, Arc<State>>,
}

/// Of one connection.
struct State {
    /// Since when we wait for the client's next request or for the rest of its body, milliseconds since the beginning.
    waiting_since: AtomicU64,
    gives_way: Notify,
}

impl Places {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            began: Instant::now(),
            taken: Mutex::default(),
        })
    }

    /// A place for a new connection. Where all are taken, the clients that have kept us waiting the longest give way;
    /// `None` where nobody does, as every client is waiting for us.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken();
        if taken.by_number.len() >= self.max {
            taken.make_room(self.max);
        }
        if taken.by_number.len() >= self.max {
            return None;
        }
        let state = Arc::new(State {
            waiting_since: AtomicU64::new(self.now()),
            gives_way: Notify::new(),
        });
        taken.next += 1;
        let number = taken.next;
        taken.by_number.insert(number, Arc::clone(&state));
        Some(Place {
            places: Arc::clone(self),
            number,
            state,
        })
    }

    /// Lets some go that keep us waiting, although not every place is taken.
    pub(crate) fn make_room(&self) {
        self.taken().make_room(self.max);
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(SERVED - 1)
    }
}

impl Taken {
    fn make_room(&mut self, max: usize) {
        let mut waiting: Vec<(u64, u64)> = self
            .by_number
            .iter()
            .map(|(number, state)| (state.waiting_since.load(Ordering::Relaxed), *number))
            .filter(|(since, _)| *since != SERVED)
            .collect();
        waiting.sort_unstable();
        for (_, number) in waiting.into_iter().take(max.div_ceil(GIVE_WAY_ONE_IN)) {
            if let Some(state) = self.by_number.remove(&number) {
                state.gives_way.notify_one();
            }
        }
    }
}

/// A connection's place; given back when dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    state: Arc<State>,
}

impl Place {
    /// Returns once this connection must close for another one.
    pub(crate) async fn gives_way(&self) {
        self.state.gives_way.notified().await;
    }

    /// All of a request has arrived: now the client waits for us.
    pub(crate) fn serve(&self) {
        self.state.waiting_since.store(SERVED, Ordering::Relaxed);
    }

    /// The answer is out: now we wait for the client.
    fn wait(&self) {
        let now = self.places.now();
        self.state.waiting_since.store(now, Ordering::Relaxed);
    }

    /// Whether we wait for the client's next request or for the rest of its body.
    pub(crate) fn is_waiting(&self) -> bool {
        self.state.waiting_since.load(Ordering::Relaxed) != SERVED
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().by_number.remove(&self.number);
    }
}

/// One request of a connection, until its answer is out.
pub(crate) struct Turn(pub(crate) Arc<Place>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn gives_way(place: &Place) -> bool {
        tokio::time::timeout(Duration::from_millis(1), place.gives_way())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn whoever_kept_us_waiting_the_longest_gives_way() {
        let places = Places::new(2);
        let first = places.take().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let second = places.take().unwrap();
        let third = places.take();
        assert!(third.is_some());
        assert!(gives_way(&first).await);
        assert!(!gives_way(&second).await);
    }

    #[tokio::test]
    async fn whoever_is_served_stays_and_a_newcomer_is_turned_away() {
        let places = Places::new(1);
        let first = Arc::new(places.take().unwrap());
        let turn = Turn(Arc::clone(&first));
        first.serve();
        assert!(!first.is_waiting());
        assert!(places.take().is_none());
        drop(turn);
        assert!(places.take().is_some(), "it waits for the next request");
        assert!(gives_way(&first).await);
    }

    #[test]
    fn a_place_is_given_back() {
        let places = Places::new(1);
        for _ in 0..3 {
            let place = Arc::new(places.take().unwrap());
            place.serve();
            assert!(places.take().is_none());
        }
    }
}
