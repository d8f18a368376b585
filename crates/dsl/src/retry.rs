//! Retry policies: the standard's and the flat one of DAG steps.
//!
//! A policy is what it says. What it leaves out is the plainest: no growth, no jitter. Only the first delay and, where
//! nothing limits how often or how long is retried (the standard knows no default), the number of retries are the
//! engine's defaults.

use eventflow_domain::{
    DurationMs,
    plan::Retrying,
    retry::{Backoff, Jitter, RetryPolicy},
};
use serde_json::Value;

use crate::{
    duration::{self, Spelling},
    fault::Faults,
    property,
    site::Site,
    template,
    variables::Variables,
};

/// Retries of one task; more is a loop and should be written as one.
pub(crate) const RETRIES_MAX: u32 = 10_000;

const BACKOFFS: [&str; 3] = ["constant", "linear", "exponential"];

/// The standard's policy, as a `catch` has it: `{when, exceptWhen, delay, backoff, limit, jitter}`.
pub(crate) fn of_catch(
    site: &Site<'_>,
    variables: &Variables,
    faults: &mut Faults,
) -> Option<Retrying> {
    let (policy, limits) = standard(site, faults)?;
    let mut condition = |name| {
        let condition = site.get(name)?;
        template::expression(&condition, variables, faults)
    };
    Some(Retrying {
        when: condition("when"),
        except_when: condition("exceptWhen"),
        policy,
        attempt_timeout: limits.attempt,
        within: limits.within,
    })
}

/// The standard's policy for the attempts of one task; its conditions and limits of time are for a `catch` alone.
pub(crate) fn of_task(site: &Site<'_>, faults: &mut Faults) -> Option<RetryPolicy> {
    let (policy, _) = standard(site, faults)?;
    let limit = site.get("limit");
    let attempt = limit.as_ref().and_then(|limit| limit.get("attempt"));
    let of_catch = [
        site.get("when"),
        site.get("exceptWhen"),
        limit.as_ref().and_then(|limit| limit.get("duration")),
        attempt.as_ref().and_then(|attempt| attempt.get("duration")),
    ];
    for place in of_catch.iter().flatten() {
        faults.at(
            place,
            "is executed in `catch.retry` only: remove it, or put the task into a `try`",
        );
    }
    Some(policy)
}

/// How often and how soon, and what else is limited.
fn standard(site: &Site<'_>, faults: &mut Faults) -> Option<(RetryPolicy, Limits)> {
    if !property::object(site, faults) {
        return None;
    }
    let executed = ["when", "exceptWhen", "delay", "backoff", "limit", "jitter"];
    property::check(site, &executed, &[], faults);
    let delay = site.get("delay");
    let delay = delay.and_then(|site| duration::read(&site, Spelling::Standard, faults));
    let backoff = site
        .get("backoff")
        .and_then(|site| standard_backoff(&site, faults));
    let limits = site.get("limit").and_then(|site| limits(&site, faults));
    let limits = limits.unwrap_or_default();
    let jitter = site.get("jitter");
    let jitter = jitter.and_then(|site| jitter_range(&site, Spelling::Standard, faults));
    let said = Said {
        retries: limits.retries(),
        delay,
        backoff,
        delay_max: None,
        jitter,
    };
    Some((said.policy(), limits))
}

/// `{limit, delay, backoff, maxDelay, jitter}` (INTERFACES section 7)
pub(crate) fn flat(site: &Site<'_>, faults: &mut Faults) -> Option<RetryPolicy> {
    if !property::object(site, faults) {
        return None;
    }
    let executed = ["limit", "delay", "backoff", "maxDelay", "jitter"];
    property::check(site, &executed, &[], faults);
    let delay = site.get("delay");
    let delay = delay.and_then(|site| duration::read(&site, Spelling::Short, faults));
    let backoff = site.get("backoff");
    let backoff = backoff
        .and_then(|site| property::one_of(&site, &BACKOFFS, faults))
        .map(backoff_of);
    let retries = site.get("limit").and_then(|site| count(&site, faults));
    let delay_max = site.get("maxDelay");
    let delay_max = delay_max.and_then(|site| duration::positive(&site, Spelling::Short, faults));
    let jitter = site
        .get("jitter")
        .and_then(|site| flat_jitter(&site, faults));
    Some(
        Said {
            retries,
            delay,
            backoff,
            delay_max,
            jitter,
        }
        .policy(),
    )
}

/// The number of retries, where there is one.
pub(crate) fn count(site: &Site<'_>, faults: &mut Faults) -> Option<u32> {
    let count = property::integer(site, 0..=u64::from(RETRIES_MAX), faults)?;
    u32::try_from(count).ok()
}

/// What a policy says. What is faulty counts as not said: no plan comes of it.
struct Said {
    retries: Option<u32>,
    delay: Option<DurationMs>,
    backoff: Option<Backoff>,
    delay_max: Option<DurationMs>,
    jitter: Option<Jitter>,
}

impl Said {
    fn policy(self) -> RetryPolicy {
        let default = RetryPolicy::DEFAULT;
        let delay = self.delay.unwrap_or(default.delay);
        RetryPolicy {
            retries: self.retries.unwrap_or(default.retries),
            delay,
            backoff: self.backoff.unwrap_or(Backoff::Constant),
            // A first delay that was asked for is never cut.
            delay_max: self.delay_max.unwrap_or(default.delay_max.max(delay)),
            jitter: self.jitter.unwrap_or(Jitter::None),
        }
    }
}

fn standard_backoff(site: &Site<'_>, faults: &mut Faults) -> Option<Backoff> {
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &BACKOFFS, &[], faults);
    let given: Vec<&str> = BACKOFFS
        .into_iter()
        .filter(|name| site.get(name).is_some())
        .collect();
    let [name] = given[..] else {
        faults.at(
            site,
            "must have exactly one of constant, linear, exponential",
        );
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

/// `{attempt: {count, duration}, duration}`
#[derive(Default)]
struct Limits {
    /// Attempts after the first.
    count: Option<u32>,
    /// Of each attempt.
    attempt: Option<DurationMs>,
    /// Of all attempts.
    within: Option<DurationMs>,
}

impl Limits {
    /// Who limits the time for all attempts does not mean to limit their number.
    fn retries(&self) -> Option<u32> {
        self.count.or(self.within.and(Some(RETRIES_MAX)))
    }
}

fn limits(site: &Site<'_>, faults: &mut Faults) -> Option<Limits> {
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &["attempt", "duration"], &[], faults);
    let within = site.get("duration");
    let within = within.and_then(|site| duration::positive(&site, Spelling::Standard, faults));
    let limits = Limits {
        within,
        ..Limits::default()
    };
    let Some(attempt) = site.get("attempt") else {
        return Some(limits);
    };
    if !property::object(&attempt, faults) {
        return None;
    }
    property::check(&attempt, &["count", "duration"], &[], faults);
    let longest = attempt.get("duration");
    Some(Limits {
        count: attempt.get("count").and_then(|site| count(&site, faults)),
        attempt: longest.and_then(|site| duration::positive(&site, Spelling::Standard, faults)),
        ..limits
    })
}

fn jitter_range(site: &Site<'_>, spelling: Spelling, faults: &mut Faults) -> Option<Jitter> {
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &["from", "to"], &[], faults);
    let from = property::required(site, "from", faults)
        .and_then(|site| duration::read(&site, spelling, faults));
    let to = property::required(site, "to", faults)
        .and_then(|site| duration::read(&site, spelling, faults));
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
            faults.at(
                site,
                "must be true, false, per cent of the delay (0 to 100) or `{from, to}`",
            );
            None
        }
    }
}
