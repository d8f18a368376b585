//! The domain's tests, one binary: a room per topic, the harness in `support`.

mod decide;
mod situations;
mod support;
