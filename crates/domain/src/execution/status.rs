//! Where executions and tasks stand, in the words of the full view (INTERFACES section 2).

use serde::{Deserialize, Serialize};

macro_rules! status {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $type {
            $($(#[$variant_doc])* $variant),+
        }

        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that people and programs see.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }

            /// Reads that word.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|status| status.as_str() == text)
            }
        }
    };
}

status!(
    /// Where an execution stands.
    Status {
        /// Accepted, nothing activated yet.
        Pending = "pending",
        /// Under way.
        Running = "running",
        /// Everything that is under way waits for a time or an event.
        Waiting = "waiting",
        /// Paused, attempts are still running out.
        Suspending = "suspending",
        /// Paused.
        Suspended = "suspended",
        /// Stopped.
        Cancelled = "cancelled",
        /// Ended by an error.
        Faulted = "faulted",
        /// Ended well.
        Completed = "completed",
    }
);

status!(
    /// Where a task stands.
    TaskStatus {
        /// Not activated, or waiting for an agent.
        Pending = "pending",
        /// An agent or the engine is at it.
        Running = "running",
        /// Between two attempts, or waiting for a time or an event.
        Waiting = "waiting",
        /// Held by a pause.
        Suspended = "suspended",
        /// Given up because something else ended.
        Cancelled = "cancelled",
        /// Ended by an error.
        Faulted = "faulted",
        /// Ended well.
        Completed = "completed",
        /// Not run: its condition was false, or the path did not come by.
        Skipped = "skipped",
    }
);

impl Status {
    /// Whether nothing more will happen by itself.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Cancelled | Self::Faulted | Self::Completed)
    }
}

impl TaskStatus {
    /// Whether nothing more will happen by itself.
    pub const fn is_ended(self) -> bool {
        matches!(
            self,
            Self::Cancelled | Self::Faulted | Self::Completed | Self::Skipped
        )
    }
}
