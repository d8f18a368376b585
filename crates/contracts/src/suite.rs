//! What every suite's macro expands to.

/// A module of tests, one per clause of `suite`, each on a fixture of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! suite {
    ($module:ident, $fixture:expr, $($suite:ident)::+, [$($clause:ident),+ $(,)?]) => {
        mod $module {
            #[allow(unused_imports, clippy::wildcard_imports)]
            use super::*;
            use $crate::$($suite)::+ as clauses;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $clause() {
                    let fixture = ($fixture)().await;
                    clauses::$clause(&fixture).await;
                }
            )+
        }
    };
}
