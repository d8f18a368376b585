//! One step: what it does, after which others, and how it fails.

use eventflow_domain::{
    DurationMs,
    expression::Expression,
    plan::{Join, NodeId, Step},
    retry::{Backoff, Jitter, RetryPolicy},
};

use super::{
    Ids,
    reference::References,
    shared,
    work::{self, Work},
};
use crate::{
    arena::Arena,
    duration::{self, DURATION_MAX, Spelling},
    fault::Faults,
    property, retry,
    site::Site,
    template,
    variables::Variables,
};

/// Properties of a step, the spellings of `FlowOps` included (requirement F2).
const EXECUTED: [&str; 14] = [
    "id",
    "stepId",
    "uses",
    "with",
    "inputs",
    "dependsOn",
    "when",
    "condition",
    "join",
    "retry",
    "timeout",
    "pluginId",
    "type",
    "config",
];
const NOT_YET: [&str; 3] = ["branches", "children", "outputs"];

/// Where a step's id stands.
pub(super) fn id<'a>(step: &'a Site<'a>) -> Option<Site<'a>> {
    step.get("id").or_else(|| step.get("stepId"))
}

/// Compiles a step to a node and its place in the graph. A step whose work is faulty has its place all the same, so
/// that circles through it are found.
pub(super) fn compile(
    site: &Site<'_>,
    graph: NodeId,
    ids: &Ids,
    arena: &mut Arena,
    faults: &mut Faults,
) -> Option<Step> {
    if !property::object(site, faults) {
        return None;
    }
    property::check(site, &EXECUTED, &NOT_YET, faults);
    step_type(site, faults);
    check_config(site, faults);
    for (one, two) in [
        ("id", "stepId"),
        ("uses", "pluginId"),
        ("when", "condition"),
    ] {
        not_both(site, one, two, faults);
    }
    if id(site).is_none() {
        faults.at(site, "must have the property `id`");
    }
    let mut references = References::new(ids);
    let work = work::read(site, &mut references, faults);
    let condition = condition(site, &mut references, faults);
    depends_on(site, &mut references, faults);
    let join = site
        .get("join")
        .and_then(|site| property::one_of(&site, &["all", "any"], faults));
    let timeout = timeout(site, faults);
    let retry = retry_policy(site, faults);
    if let (Some(Work::Set(_)), Some(_)) = (&work, &retry) {
        faults.at(
            site,
            "a `set` step has nothing to retry: remove its retry policy",
        );
    }
    let id = id(site).and_then(|site| site.value.as_str())?;
    let node = arena.add(site.pointer(), id, Some(graph))?;
    let place = arena.node(node);
    (place.condition, place.timeout) = (condition, timeout);
    if let Some(work) = work {
        (place.input, place.kind) = work.into_kind(retry);
    }
    let join = if join == Some("any") {
        Join::Any
    } else {
        Join::All
    };
    let needs = references.needs.into_iter().collect();
    Some(Step {
        id: shared(id),
        node,
        needs,
        dependents: Vec::new(),
        join,
    })
}

/// `type`: the kinds of steps that `FlowOps` has.
fn step_type(step: &Site<'_>, faults: &mut Faults) {
    let Some(site) = step.get("type") else { return };
    if property::one_of(&site, &["ACTION", "DECISION"], faults) == Some("DECISION") {
        faults.not_yet(&site, "`DECISION`");
    }
}

/// Two spellings of one thing, of which one may be used.
fn not_both(site: &Site<'_>, one: &str, two: &str, faults: &mut Faults) {
    if let (Some(_), Some(second)) = (site.get(one), site.get(two)) {
        faults.at(
            &second,
            format!("stands beside `{one}`: give one of the two"),
        );
    }
}

/// jq over `{"input": …, "<step id>": output, …}`. What it reads, the step needs.
fn condition(
    step: &Site<'_>,
    references: &mut References<'_>,
    faults: &mut Faults,
) -> Option<Expression> {
    let site = step.get("when").or_else(|| step.get("condition"))?;
    let expression = template::expression(&site, &Variables::NONE, faults)?;
    match expression.roots() {
        Some(roots) => roots
            .iter()
            .for_each(|root| references.root(root, &site, faults)),
        None => faults.at(
            &site,
            "reads all of `.`: name the steps it needs, as `.step.key`",
        ),
    }
    Some(expression)
}

fn depends_on(step: &Site<'_>, references: &mut References<'_>, faults: &mut Faults) {
    let Some(list) = step
        .get("dependsOn")
        .filter(|list| property::array(list, faults))
    else {
        return;
    };
    for element in list.elements() {
        if let Some(id) = property::text(&element, faults) {
            references.step(id, &element, faults);
        }
    }
}

/// `timeout`, or the `config.timeoutMs` of `FlowOps`.
fn timeout(step: &Site<'_>, faults: &mut Faults) -> Option<DurationMs> {
    if let Some(own) = step.get("timeout") {
        return duration::positive(&own, Spelling::Short, faults);
    }
    let config = step.get("config")?;
    let milliseconds = property::integer(&config.get("timeoutMs")?, 1..=DURATION_MAX.0, faults);
    milliseconds.map(DurationMs)
}

/// `retry`, or the `config.retryCount` and `config.retryDelayMs` of `FlowOps`.
fn retry_policy(step: &Site<'_>, faults: &mut Faults) -> Option<RetryPolicy> {
    if let Some(own) = step.get("retry") {
        return retry::flat(&own, faults);
    }
    let config = step.get("config")?;
    let (count, delay) = (config.get("retryCount"), config.get("retryDelayMs"));
    if count.is_none() && delay.is_none() {
        return None;
    }
    let default = RetryPolicy::DEFAULT;
    let count = count.and_then(|site| retry::count(&site, faults));
    let delay = delay.and_then(|site| property::integer(&site, 0..=DURATION_MAX.0, faults));
    let delay = delay.map_or(default.delay, DurationMs);
    let retries = count.unwrap_or(default.retries);
    Some(RetryPolicy {
        retries,
        delay,
        backoff: Backoff::Constant,
        delay_max: delay,
        jitter: Jitter::None,
    })
}

/// The `config` of `FlowOps` as a whole; what it says must not be said by a property of ours as well.
fn check_config(step: &Site<'_>, faults: &mut Faults) {
    let Some(config) = step
        .get("config")
        .filter(|site| property::object(site, faults))
    else {
        return;
    };
    property::check(
        &config,
        &["timeoutMs", "retryCount", "retryDelayMs"],
        &[],
        faults,
    );
    for (theirs, ours) in [
        ("timeoutMs", "timeout"),
        ("retryCount", "retry"),
        ("retryDelayMs", "retry"),
    ] {
        if let (Some(twice), Some(_)) = (config.get(theirs), step.get(ours)) {
            faults.at(
                &twice,
                format!("stands beside the step's `{ours}`: give one of the two"),
            );
        }
    }
}
