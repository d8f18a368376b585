//! The domain's tests, one binary: a room per topic, the harness in `support`.

mod dataflow;
mod decide;
mod golden;
mod graph;
mod laws;
mod record;
mod scenarios;
mod sequence;
mod situations;
mod support;
mod timing;
mod transitions;
