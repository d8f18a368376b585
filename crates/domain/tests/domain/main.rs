//! The domain's tests, one binary: a room per topic, the harness in `support`.

mod dataflow;
mod decide;
mod graph;
mod laws;
mod record;
mod sequence;
mod situations;
mod support;
mod timing;
