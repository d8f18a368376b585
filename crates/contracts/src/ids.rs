//! The clauses of `Ids`.

use std::{
    collections::HashSet,
    sync::{Arc, Barrier},
};

use async_trait::async_trait;
use eventflow_ports::Ids;

/// One source of ids.
#[async_trait]
pub trait IdsFixture: Send + Sync {
    /// An instance; two of the same fixture make ids for the same store.
    async fn open(&self) -> Arc<dyn Ids>;
}

/// One test per clause of `Ids`, for the fixture that the closure makes.
#[macro_export]
macro_rules! ids_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            ids,
            [clause_01_two_calls_never_give_the_same_id]
        );
    };
}

/// Clause 1.
pub async fn clause_01_two_calls_never_give_the_same_id(fixture: &impl IdsFixture) {
    const CALLERS: usize = 4;
    const CALLS: usize = 20_000;
    let together = Arc::new(Barrier::new(CALLERS));
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let ids = fixture.open().await;
        let together = together.clone();
        callers.push(tokio::task::spawn_blocking(move || {
            together.wait();
            (0..CALLS).map(|_| ids.execution_id()).collect::<Vec<_>>()
        }));
    }
    let mut seen = HashSet::new();
    for caller in callers {
        for id in caller.await.expect("the caller ends") {
            assert!(seen.insert(id.clone()), "{id} was given twice");
        }
    }
    assert_eq!(seen.len(), CALLERS * CALLS);
}
