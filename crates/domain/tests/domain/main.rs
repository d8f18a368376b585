//! The domain's tests, one binary: a room per topic, the harness in `support`.
#![allow(
    clippy::needless_pass_by_value,
    clippy::format_collect,
    reason = "a test reads better with `json!(1)` than with `&json!(1)`, and builds small documents"
)]

mod catching;
mod chain;
mod control;
mod dataflow;
mod decide;
mod fork;
mod golden;
mod graph;
mod laws;
mod record;
mod repeats;
mod scenarios;
mod sequence;
mod situations;
mod support;
mod timing;
mod transitions;
mod waiting;
