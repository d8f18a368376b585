//! What a step does: `uses` or `pluginId`, with `with` and `inputs`.

use eventflow_domain::{
    DurationMs,
    expression::Template,
    limits::START_WITHIN,
    plan::{Invoke, Kind, Performer},
    retry::RetryPolicy,
};

use super::{reference::References, shared};
use crate::{agent, fault::Faults, http, property, site::Site, template::Values as _};

const USES: [&str; 3] = ["http", "agent", "set"];
const USES_NOT_YET: [&str; 2] = ["plugin", "workflow"];

/// What a step does, before it is said how it is retried.
pub(super) enum Work {
    /// Computes a value.
    Set(Template),
    /// Hands its `inputs` to an agent.
    Agent {
        performer: Performer,
        start_within: DurationMs,
        input: Option<Template>,
    },
    /// Calls somebody.
    Http(Performer),
}

impl Work {
    /// The node's `input` and kind.
    pub(super) fn into_kind(self, retry: Option<RetryPolicy>) -> (Option<Template>, Kind) {
        match self {
            Self::Set(value) => (None, Kind::Set(value)),
            Self::Agent {
                performer,
                start_within,
                input,
            } => {
                let retry = retry.unwrap_or(RetryPolicy::DEFAULT);
                (
                    input,
                    Kind::Invoke(Invoke {
                        performer,
                        retry,
                        start_within,
                    }),
                )
            }
            // One request per attempt; only the step's own policy repeats it (INTERFACES section 7).
            Self::Http(performer) => {
                let retry = retry.unwrap_or(RetryPolicy::NEVER);
                (
                    None,
                    Kind::Invoke(Invoke {
                        performer,
                        retry,
                        start_within: START_WITHIN,
                    }),
                )
            }
        }
    }
}

/// Reads a step's work. Which of `uses` and `pluginId` is given was looked at before.
pub(super) fn read(
    step: &Site<'_>,
    references: &mut References<'_>,
    faults: &mut Faults,
) -> Option<Work> {
    if let Some(plugin) = step.get("pluginId") {
        return plugin_step(step, &plugin, references, faults);
    }
    let uses = property::required(step, "uses", faults)?;
    if let Some(given) = USES_NOT_YET.into_iter().find(|name| uses.value == name) {
        faults.not_yet(&uses, &format!("`{given}`"));
        return None;
    }
    match property::one_of(&uses, &USES, faults)? {
        "agent" => agent_step(step, references, faults),
        "http" => http_step(step, references, faults),
        _ => set_step(step, references, faults),
    }
}

/// A plugin that nobody registered is the agent capability of its name (requirement F2).
fn plugin_step(
    step: &Site<'_>,
    plugin: &Site<'_>,
    references: &mut References<'_>,
    faults: &mut Faults,
) -> Option<Work> {
    let with = step
        .get("with")
        .filter(|with| property::object(with, faults));
    if let Some(with) = &with {
        property::check(with, &["startWithin", "heartbeat"], &[], faults);
    }
    to_agent(step, plugin, with.as_ref(), references, faults)
}

fn agent_step(
    step: &Site<'_>,
    references: &mut References<'_>,
    faults: &mut Faults,
) -> Option<Work> {
    let with =
        property::required(step, "with", faults).filter(|with| property::object(with, faults))?;
    property::check(
        &with,
        &["capability", "startWithin", "heartbeat"],
        &[],
        faults,
    );
    let capability = property::required(&with, "capability", faults)?;
    to_agent(step, &capability, Some(&with), references, faults)
}

/// `inputs` become the task's input; without them it is the execution's.
fn to_agent(
    step: &Site<'_>,
    capability: &Site<'_>,
    with: Option<&Site<'_>>,
    references: &mut References<'_>,
    faults: &mut Faults,
) -> Option<Work> {
    let capability = agent::capability(capability, faults);
    let start_within = agent::start_within(with.and_then(|with| with.get("startWithin")), faults);
    let heartbeat = agent::heartbeat(with.and_then(|with| with.get("heartbeat")), faults);
    let inputs = step
        .get("inputs")
        .filter(|inputs| property::object(inputs, faults));
    let input = inputs.and_then(|inputs| references.value(&inputs, faults));
    let performer = Performer::Agent {
        capability: capability?,
        input: None,
        heartbeat,
    };
    Some(Work::Agent {
        performer,
        start_within,
        input,
    })
}

fn http_step(
    step: &Site<'_>,
    references: &mut References<'_>,
    faults: &mut Faults,
) -> Option<Work> {
    let (with, inputs) = (step.get("with"), step.get("inputs"));
    let objects = merged(step, with, inputs, faults)?;
    http::call(&objects, step, references, faults).map(Work::Http)
}

fn set_step(step: &Site<'_>, references: &mut References<'_>, faults: &mut Faults) -> Option<Work> {
    let (with, inputs) = (step.get("with"), step.get("inputs"));
    if let (Some(value), None) = (&with, &inputs) {
        return references.value(value, faults).map(Work::Set);
    }
    let mut properties = Vec::new();
    for object in &merged(step, with, inputs, faults)? {
        for (name, value) in object.properties() {
            properties.extend(
                references
                    .value(&value, faults)
                    .map(|value| (shared(name), value)),
            );
        }
    }
    Some(Work::Set(Template::Object(properties)))
}

/// `inputs` are added to `with`: the objects of which each has some of the properties.
fn merged<'a>(
    step: &'a Site<'a>,
    with: Option<Site<'a>>,
    inputs: Option<Site<'a>>,
    faults: &mut Faults,
) -> Option<Vec<Site<'a>>> {
    let given: Vec<Site<'_>> = [with, inputs].into_iter().flatten().collect();
    if given.is_empty() {
        property::required(step, "with", faults)?;
    }
    let mut objects = given.clone();
    objects.retain(|object| property::object(object, faults));
    if objects.len() < given.len() {
        return None;
    }
    if let [with, inputs] = &given[..] {
        for (_, twice) in inputs
            .properties()
            .filter(|(name, _)| with.get(name).is_some())
        {
            faults.at(&twice, "stands in `with` already");
        }
    }
    Some(given)
}
