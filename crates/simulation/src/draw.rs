//! Everything that is left to chance, drawn from one seed.
//!
//! By `fastrand`: small, without dependencies, in the lock file anyway, and the same on every machine. Whoever changes
//! its version or what is drawn here changes what every seed means.

use std::ops::RangeInclusive;

/// A sequence of choices. The same seed, the same choices.
#[derive(Debug)]
pub(crate) struct Draw(fastrand::Rng);

impl Draw {
    pub(crate) fn of(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Choices of their own for something about which nobody knows how many it will make.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// Whether something happens that happens so many times in a thousand.
    pub(crate) fn happens(&mut self, per_mille: u32) -> bool {
        self.0.u32(0..1_000) < per_mille
    }

    pub(crate) fn number(&mut self, of: RangeInclusive<u64>) -> u64 {
        self.0.u64(of)
    }

    /// A place in something that has so many, which must be some.
    pub(crate) fn place(&mut self, len: usize) -> usize {
        self.0.usize(0..len)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.place(items.len())]
    }

    /// One of them, each as often as its weight says.
    pub(crate) fn weighted<T: Copy>(&mut self, items: &[(u32, T)]) -> T {
        let total: u32 = items.iter().map(|(weight, _)| weight).sum();
        let mut left = self.0.u32(0..total);
        for (weight, item) in items {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return *item,
            }
        }
        unreachable!("what is left is below the sum of all weights")
    }
}
