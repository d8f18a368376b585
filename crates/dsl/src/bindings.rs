//! What starts a workflow by itself: events, by `schedule.on` and by `document.metadata.automationIds` (requirement E5).

use eventflow_domain::Json;
use serde_json::Value;

use crate::{
    fault::Faults,
    property::{self, array, object},
    site::Site,
    template,
};

/// The type of the events that start workflows by automation id, which is their data's `automation_id`.
pub const AUTOMATION_TRIGGER: &str = "automation_trigger_requested";

/// The longest automation id, type or source, bytes: they are compared with what comes in envelopes.
const TEXT_BYTES_MAX: usize = 256;

/// The events that a workflow is bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    /// Ids of automations: each start is asked for by an event of the type [`AUTOMATION_TRIGGER`].
    pub automations: Vec<String>,
    /// Any of these starts it.
    pub events: Vec<EventFilter>,
}

/// What an event must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter {
    /// Its type, exactly.
    pub kind: String,
    /// Its source, exactly; any, where nothing is said.
    pub source: Option<String>,
}

impl Bindings {
    /// Whether an event starts the workflow; `automation` is the id in the data of an [`AUTOMATION_TRIGGER`].
    pub fn hold(&self, kind: &str, source: &str, automation: Option<&str>) -> bool {
        let named = automation.is_some_and(|id| self.automations.iter().any(|bound| bound == id));
        named
            || self.events.iter().any(|filter| {
                filter.kind == kind && filter.source.as_ref().is_none_or(|wanted| wanted == source)
            })
    }

    /// Whether nothing starts it by itself.
    pub fn is_empty(&self) -> bool {
        self.automations.is_empty() && self.events.is_empty()
    }
}

/// The bindings of a document that [`crate::compile`] accepts; of another, what can be read.
pub fn bindings(document: &Json) -> Bindings {
    let Ok(value) = document.read::<Value>() else {
        return Bindings::default();
    };
    let root = Site::root(&value);
    let mut faults = Faults::default();
    let events = root.get("schedule");
    let events = events.map_or_else(Vec::new, |site| schedule(&site, &mut faults));
    // A DAG document is its own header.
    let header = root.get("document");
    let metadata = header.as_ref().unwrap_or(&root).get("metadata");
    let automations = metadata.map_or_else(Vec::new, |site| automations(&site, &mut faults));
    Bindings {
        automations,
        events,
    }
}

/// `metadata.automationIds`, where there are any; other metadata is for people.
pub(crate) fn automations(metadata: &Site<'_>, faults: &mut Faults) -> Vec<String> {
    match metadata.get("automationIds") {
        Some(ids) if array(&ids, faults) => ids
            .elements()
            .filter_map(|id| constant(&id, faults))
            .collect(),
        Some(_) | None => Vec::new(),
    }
}

/// `schedule`, of which `on` is executed: one event, or any of several, each by itself.
pub(crate) fn schedule(site: &Site<'_>, faults: &mut Faults) -> Vec<EventFilter> {
    if !object(site, faults) {
        return Vec::new();
    }
    property::check(site, &["on"], &["every", "cron", "after"], faults);
    let Some(on) = site.get("on") else {
        if site.properties().next().is_none() {
            faults.at(site, "must have the property `on`");
        }
        return Vec::new();
    };
    if !object(&on, faults) {
        return Vec::new();
    }
    property::check(&on, &["one", "any"], &["all", "until", "foreach"], faults);
    match (on.get("one"), on.get("any")) {
        (Some(one), None) => filter(&one, faults).into_iter().collect(),
        (None, Some(any)) if array(&any, faults) => {
            if any.elements().next().is_none() {
                faults.not_yet(&any, "starting on every event");
            }
            any.elements()
                .filter_map(|one| filter(&one, faults))
                .collect()
        }
        (None, Some(_)) => Vec::new(),
        (Some(_), Some(_)) => {
            faults.at(&on, "give either `one` or `any`, not both");
            Vec::new()
        }
        (None, None) => {
            if on.get("all").is_none() {
                faults.at(&on, "must have the property `one` or `any`");
            }
            Vec::new()
        }
    }
}

/// `{with: {type, source}}`
fn filter(site: &Site<'_>, faults: &mut Faults) -> Option<EventFilter> {
    if !object(site, faults) {
        return None;
    }
    property::check(site, &["with"], &["correlate"], faults);
    let with = property::required(site, "with", faults).filter(|with| object(with, faults))?;
    // The standard lets a filter name any attribute.
    for (name, attribute) in with.properties() {
        if !["type", "source"].contains(&name) {
            let what = format!("choosing events by {}", crate::fault::quoted(name));
            faults.not_yet(&attribute, &what);
        }
    }
    let kind = property::required(&with, "type", faults).and_then(|kind| constant(&kind, faults));
    let source = with.get("source").map(|source| constant(&source, faults));
    Some(EventFilter {
        kind: kind?,
        source: match source {
            Some(source) => Some(source?),
            None => None,
        },
    })
}

/// A text that is compared as it stands.
fn constant(site: &Site<'_>, faults: &mut Faults) -> Option<String> {
    let text = property::text(site, faults)?;
    if template::is_expression(text) {
        faults.not_yet(site, "an expression here");
        return None;
    }
    if !(1..=TEXT_BYTES_MAX).contains(&text.len()) {
        faults.at(site, format!("must have 1 to {TEXT_BYTES_MAX} bytes"));
        return None;
    }
    Some(text.to_owned())
}
