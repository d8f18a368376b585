//! Panics of a simulated world: tokio keeps those of its tasks to itself, and a world in which a writer has panicked must
//! not only look slow.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    /// None while no world runs on this thread.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Runs a world and gives the panics in it; one that ends it leaves no result.
pub(crate) fn caught<T>(world: impl FnOnce() -> T) -> (Option<T>, Vec<String>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_kept = PANICS.with_borrow_mut(|panics| {
                panics.as_mut().map(|panics| panics.push(info.to_string()))
            });
            if is_kept.is_none() {
                usual(info);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(world)).ok();
    let panics = PANICS.take().unwrap_or_default();
    (outcome, panics)
}
