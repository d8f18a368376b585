//! Retry policies: the standard's and the flat one of DAG steps.
//!
//! A policy is what it says. What it leaves out is the plainest: no growth, no jitter; only the number of retries and
//! the first delay are the engine's defaults.

use eventflow_domain::{
    DurationMs,
    retry::{Backoff, Jitter, RetryPolicy},
};
use serde_json::Value;

use crate::{
    duration::{self, Spelling},
    fault::Faults,
    property,
    site::Site,
};

/// Retries of one task; more is a loop and should be written as one.
pub(crate) const RETRIES_MAX: u32 = 10_000;

const BACKOFFS: [&str; 3] = ["constant", "linear", "exponential"];

/// `{delay, backoff, limit: {attempt: {count}}, jitter: {from, to}}`
pub(crate) fn standard(site: &Site<'_>, faults: &mut Faults) -> Option<RetryPolicy> {
    if site.value.is_string() {
        faults.not_yet(site, "a retry policy by name");
        return None;
    }
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &["delay", "backoff", "limit", "jitter"], &["when", "exceptWhen"], faults);
    let delay = site.get("delay").map(|site| duration::read(&site, Spelling::Standard, faults));
    let backoff = site.get("backoff").map(|site| standard_backoff(&site, faults));
    let retries = site.get("limit").map(|site| standard_limit(&site, faults));
    let jitter = site.get("jitter").map(|site| jitter_range(&site, Spelling::Standard, faults));
    policy(Parts { retries: retries.unwrap_or(Some(None))?, delay, backoff, delay_max: None, jitter })
}

/// `{limit, delay, backoff, maxDelay, jitter}` (INTERFACES section 7)
pub(crate) fn flat(site: &Site<'_>, faults: &mut Faults) -> Option<RetryPolicy> {
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &["limit", "delay", "backoff", "maxDelay", "jitter"], &[], faults);
    let delay = site.get("delay").map(|site| duration::read(&site, Spelling::Short, faults));
    let backoff = site
        .get("backoff")
        .map(|site| property::one_of(&site, &BACKOFFS, faults).map(backoff_of));
    let retries = site.get("limit").map(|site| count(&site, faults).map(Some));
    let delay_max = site.get("maxDelay").map(|site| duration::positive(&site, Spelling::Short, faults));
    let jitter = site.get("jitter").map(|site| flat_jitter(&site, faults));
    policy(Parts { retries: retries.unwrap_or(Some(None))?, delay, backoff, delay_max, jitter })
}

/// The number of retries, where there is one.
pub(crate) fn count(site: &Site<'_>, faults: &mut Faults) -> Option<u32> {
    property::integer(site, 0..=u64::from(RETRIES_MAX), faults).and_then(|count| u32::try_from(count).ok())
}

/// Each part is left out (`None`), faulty (`Some(None)`) or there.
struct Parts {
    retries: Option<u32>,
    delay: Option<Option<DurationMs>>,
    backoff: Option<Option<Backoff>>,
    delay_max: Option<Option<DurationMs>>,
    jitter: Option<Option<Jitter>>,
}

fn policy(parts: Parts) -> Option<RetryPolicy> {
    let delay = parts.delay.unwrap_or(Some(RetryPolicy::DEFAULT.delay))?;
    Some(RetryPolicy {
        retries: parts.retries.unwrap_or(RetryPolicy::DEFAULT.retries),
        delay,
        backoff: parts.backoff.unwrap_or(Some(Backoff::Constant))?,
        delay_max: parts.delay_max.unwrap_or(Some(RetryPolicy::DEFAULT.delay_max.max(delay)))?,
        jitter: parts.jitter.unwrap_or(Some(Jitter::None))?,
    })
}

fn standard_backoff(site: &Site<'_>, faults: &mut Faults) -> Option<Backoff> {
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &BACKOFFS, &[], faults);
    let given: Vec<&str> = BACKOFFS.into_iter().filter(|name| site.get(name).is_some()).collect();
    let [name] = given[..] else {
        faults.at(site, "must have exactly one of constant, linear, exponential");
        return None;
    };
    let definition = site.get(name)?;
    if property::object(&definition, faults) {
        property::check(&definition, &[], &[], faults);
    }
    Some(backoff_of(name))
}

fn backoff_of(name: &str) -> Backoff {
    match name {
        "linear" => Backoff::Linear,
        "exponential" => Backoff::Exponential,
        _ => Backoff::Constant,
    }
}

/// `Some(None)` where no number is given.
#[allow(clippy::option_option)] // Three answers: faulty, not said, said.
fn standard_limit(site: &Site<'_>, faults: &mut Faults) -> Option<Option<u32>> {
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &["attempt"], &["duration"], faults);
    let Some(attempt) = site.get("attempt") else { return Some(None) };
    if !property::object(&attempt, faults) {
        return None;
    }
    property::check(&attempt, &["count"], &["duration"], faults);
    match attempt.get("count") {
        Some(site) => count(&site, faults).map(Some),
        None => Some(None),
    }
}

fn jitter_range(site: &Site<'_>, spelling: Spelling, faults: &mut Faults) -> Option<Jitter> {
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &["from", "to"], &[], faults);
    let from = property::required(site, "from", faults).and_then(|site| duration::read(&site, spelling, faults));
    let to = property::required(site, "to", faults).and_then(|site| duration::read(&site, spelling, faults));
    let (from, to) = from.zip(to)?;
    if from > to {
        faults.at(site, "`from` must not be longer than `to`");
        return None;
    }
    Some(Jitter::Between(from, to))
}

/// `true` (the engine's default), `false`, per cent of the delay, or a range.
fn flat_jitter(site: &Site<'_>, faults: &mut Faults) -> Option<Jitter> {
    match site.value {
        Value::Bool(true) => Some(RetryPolicy::DEFAULT.jitter),
        Value::Bool(false) => Some(Jitter::None),
        Value::Object(_) => jitter_range(site, Spelling::Short, faults),
        Value::Number(_) => {
            let percent = property::integer(site, 0..=100, faults)?;
            u8::try_from(percent).ok().map(Jitter::Percent)
        }
        _ => {
            faults.at(site, "must be true, false, per cent of the delay (0 to 100) or `{from, to}`");
            None
        }
    }
}
