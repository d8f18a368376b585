//! Histories of the domain's own generator: plans that nobody would write, agents that do anything. All are clean.

use std::sync::Arc;

use eventflow_domain::Json;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Check, History, clean};

#[path = "../../../domain/tests/domain/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    clippy::needless_pass_by_value,
    clippy::format_collect,
    reason = "the domain's tests need more of it"
)]
mod support;

use support::{
    Run,
    generate::{agents, compiled, documents},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_machine_writes_is_clean(document in documents(), seed in any::<u64>()) {
        let plan = Arc::new(compiled(&document));
        let mut run = Run::requested(&plan, Json::of(&json!({"n": 5})));
        run.advance();
        run.finish(agents(seed));
        let history = History::of(&plan, "execution-1", &run.history);
        let mut check = Check::with(&[&history]);
        check.settings.late_max = Some(eventflow_domain::DurationMs(0));
        clean(&check.histories(&[&history]));
    }

    #[test]
    fn whatever_it_has_written_so_far_is_clean(document in documents(), seed in any::<u64>(), length in any::<prop::sample::Index>()) {
        let plan = Arc::new(compiled(&document));
        let mut run = Run::requested(&plan, Json::of(&json!({"n": 5})));
        run.advance();
        run.finish(agents(seed));
        // A crash falls between two steps.
        let length = run.steps[length.index(run.steps.len())];
        let history = History::of(&plan, "execution-1", &run.history[..length]);
        clean(&Check::with(&[&history]).histories(&[&history]));
    }
}
