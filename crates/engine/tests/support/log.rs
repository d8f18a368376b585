//! What happened, in order, as the doubles of a test tell it.

use std::sync::{Arc, Mutex};

use super::until;

/// A clone is the same log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    pub(crate) fn push(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    /// All of it so far, forgotten here.
    pub(crate) fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn all(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until all of these have happened.
    pub(crate) async fn shows(&self, expected: &[&'static str]) {
        for what in expected {
            until(&format!("{what}, after {:?}", self.all()), || {
                self.all().contains(what)
            })
            .await;
        }
    }
}
