//! What a task asks of an agent, the same in both languages.

use eventflow_domain::{Capability, DurationMs, limits::START_WITHIN};

use crate::{
    duration::{self, Spelling},
    fault::Faults,
    property,
    site::Site,
    template,
};

/// `capability`: the queue the task goes to.
pub(crate) fn capability(site: &Site<'_>, faults: &mut Faults) -> Option<Capability> {
    let given = property::text(site, faults)?;
    if template::is_expression(given) {
        faults.not_yet(site, "a capability computed by an expression");
        return None;
    }
    Capability::parse(given)
        .map_err(|fault| faults.at(site, fault.to_string()))
        .ok()
}

/// `startWithin`: how long an attempt waits to be picked up.
pub(crate) fn start_within(site: Option<Site<'_>>, faults: &mut Faults) -> DurationMs {
    site.and_then(|site| duration::positive(&site, Spelling::Short, faults))
        .unwrap_or(START_WITHIN)
}

/// `heartbeat`: the longest silence of an agent.
pub(crate) fn heartbeat(site: Option<Site<'_>>, faults: &mut Faults) -> Option<DurationMs> {
    site.and_then(|site| duration::positive(&site, Spelling::Short, faults))
}
