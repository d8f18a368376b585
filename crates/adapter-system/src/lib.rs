//! What the machine itself gives: the real clock and fresh ids.

mod clock;
mod ids;

pub use clock::SystemClock;
pub use ids::UuidIds;
