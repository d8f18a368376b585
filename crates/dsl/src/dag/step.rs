//! One step: who performs it, with what, after which others.

use eventflow_domain::{
    DurationMs,
    expression::{Expression, Template},
    limits::START_WITHIN,
    plan::{Invoke, Join, Kind, NodeId, Performer, Step},
    retry::{Backoff, Jitter, RetryPolicy},
};

use super::{Ids, reference::References, shared};
use crate::{
    agent,
    arena::Arena,
    duration::{self, DURATION_MAX, Spelling},
    fault::Faults,
    http, property, retry,
    site::Site,
    template::{self, Values as _},
};

/// Properties of a step, FlowOps' spellings included (requirement F2).
const EXECUTED: [&str; 14] = [
    "id", "stepId", "uses", "with", "inputs", "dependsOn", "when", "condition", "join", "retry", "timeout", "pluginId",
    "type", "config",
];
const NOT_YET: [&str; 3] = ["branches", "children", "outputs"];

const USES: [&str; 3] = ["http", "agent", "set"];
const USES_NOT_YET: [&str; 2] = ["plugin", "workflow"];

/// Where a step's id stands.
pub(super) fn id<'a>(step: &'a Site<'a>) -> Option<Site<'a>> {
    step.get("id").or_else(|| step.get("stepId"))
}

/// Compiles a step to a node and its place in the graph.
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
    either(site, "id", "stepId", faults);
    if id(site).is_none() {
        faults.at(site, "must have the property `id`");
    }
    let mut references = References::new(ids);
    let work = Reader { site, references: &mut references, faults }.work();
    let condition = when(site, &mut references, faults);
    depends_on(site, &mut references, faults);
    let join = site.get("join").and_then(|site| property::one_of(&site, &["all", "any"], faults));
    let config = Config::read(site, faults);
    let timeout = site.get("timeout").and_then(|site| duration::positive(&site, Spelling::Short, faults));
    let retry = site.get("retry").and_then(|site| retry::flat(&site, faults)).or(config.retry);
    let id = id(site).and_then(|site| site.value.as_str())?;
    let node = arena.add(site.pointer(), id, Some(graph))?;
    let place = arena.node(node);
    place.condition = condition;
    place.timeout = timeout.or(config.timeout);
    // A faulty one still has its place, so that circles through it are found.
    if let Some(work) = work {
        if let (Does::Set(_), Some(_)) = (&work.does, retry) {
            faults.at(site, "a `set` step cannot fail and has nothing to retry: remove `retry`");
        }
        place.input = work.input;
        place.kind = work.does.kind(retry);
    }
    let join = if join == Some("any") { Join::Any } else { Join::All };
    let needs = references.needs.into_iter().collect();
    Some(Step { id: shared(id), node, needs, dependents: Vec::new(), join })
}

/// What a step does.
struct Work {
    input: Option<Template>,
    does: Does,
}

enum Does {
    Set(Template),
    Invoke { performer: Performer, start_within: DurationMs },
}

impl Does {
    fn kind(self, retry: Option<RetryPolicy>) -> Kind {
        match self {
            Self::Set(template) => Kind::Set(template),
            Self::Invoke { performer, start_within } => {
                let default = match performer {
                    Performer::Agent { .. } => RetryPolicy::DEFAULT,
                    Performer::Http(_) => RetryPolicy::NEVER,
                };
                Kind::Invoke(Invoke { performer, retry: retry.unwrap_or(default), start_within })
            }
        }
    }
}

/// Reads what a step does: `uses` or `pluginId`, `with` and `inputs`.
struct Reader<'r, 'a> {
    site: &'r Site<'r>,
    references: &'r mut References<'a>,
    faults: &'r mut Faults,
}

impl Reader<'_, '_> {
    fn work(&mut self) -> Option<Work> {
        if let Some(kind) = self.site.get("type") {
            self.step_type(&kind);
        }
        either(self.site, "uses", "pluginId", self.faults);
        if let Some(plugin) = self.site.get("pluginId") {
            return self.to_agent(Some(&plugin));
        }
        let uses = property::required(self.site, "uses", self.faults)?;
        let given = uses.value.as_str().unwrap_or_default();
        if USES_NOT_YET.contains(&given) {
            self.faults.not_yet(&uses, &format!("`{given}`"));
            return None;
        }
        match property::one_of(&uses, &USES, self.faults)? {
            "agent" => self.to_agent(None),
            "http" => self.http(),
            _ => self.set(),
        }
    }

    /// FlowOps' kinds of steps.
    fn step_type(&mut self, site: &Site<'_>) {
        if site.value == "DECISION" {
            self.faults.not_yet(site, "`DECISION`");
        } else {
            property::one_of(site, &["ACTION", "DECISION"], self.faults);
        }
    }

    /// `inputs` become the task's input. A plugin that nobody registered is the agent capability of its name.
    fn to_agent(&mut self, plugin: Option<&Site<'_>>) -> Option<Work> {
        let with = match plugin {
            Some(_) => self.site.get("with"),
            None => Some(property::required(self.site, "with", self.faults)?),
        };
        let (mut capability, mut start_within, mut heartbeat) = (None, None, None);
        if let Some(with) = &with {
            if !property::object(with, self.faults) {
                return None;
            }
            let executed = ["capability", "startWithin", "heartbeat"];
            let known = if plugin.is_some() { &executed[1..] } else { &executed[..] };
            property::check(with, known, &[], self.faults);
            if plugin.is_none() {
                capability = property::required(with, "capability", self.faults);
            }
            (start_within, heartbeat) = (with.get("startWithin"), with.get("heartbeat"));
        }
        let capability = capability.or(plugin.copied()).and_then(|site| agent::capability(&site, self.faults));
        let start_within = agent::start_within(start_within, self.faults);
        let heartbeat = agent::heartbeat(heartbeat, self.faults);
        let input = match self.site.get("inputs") {
            Some(inputs) if property::object(&inputs, self.faults) => {
                Some(self.references.value(&inputs, self.faults)?)
            }
            _ => None,
        };
        let performer = Performer::Agent { capability: capability?, input: None, heartbeat: heartbeat? };
        Some(Work { input, does: Does::Invoke { performer, start_within: start_within? } })
    }

    /// `inputs` are added to `with`.
    fn http(&mut self) -> Option<Work> {
        let with = self.site.get("with");
        let inputs = self.site.get("inputs");
        let objects: Vec<Site<'_>> = [with, inputs].into_iter().flatten().collect();
        if objects.is_empty() {
            property::required(self.site, "with", self.faults)?;
        }
        if !objects.iter().fold(true, |all, object| property::object(object, self.faults) && all) {
            return None;
        }
        self.no_overlap(&objects);
        let performer = http::call(&objects, self.site, self.references, self.faults)?;
        Some(Work { input: None, does: Does::Invoke { performer, start_within: START_WITHIN } })
    }

    /// The value is `with`; `inputs` are added to it.
    fn set(&mut self) -> Option<Work> {
        let set = |does| Some(Work { input: None, does: Does::Set(does) });
        let objects = match (self.site.get("with"), self.site.get("inputs")) {
            (Some(with), None) => return set(self.references.value(&with, self.faults)?),
            (None, None) => {
                property::required(self.site, "with", self.faults)?;
                return None;
            }
            (with, inputs) => [with, inputs].into_iter().flatten().collect::<Vec<_>>(),
        };
        if !objects.iter().fold(true, |all, object| property::object(object, self.faults) && all) {
            return None;
        }
        self.no_overlap(&objects);
        let mut properties = Vec::new();
        for object in &objects {
            for (name, value) in object.properties() {
                properties.push((shared(name), self.references.value(&value, self.faults)?));
            }
        }
        set(Template::Object(properties))
    }

    fn no_overlap(&mut self, objects: &[Site<'_>]) {
        let [with, inputs] = objects else { return };
        for (name, site) in inputs.properties() {
            if with.get(name).is_some() {
                self.faults.at(&site, "stands in `with` already");
            }
        }
    }
}

/// Two spellings of one property, of which one may be used.
fn either<'a>(site: &'a Site<'a>, one: &str, two: &str, faults: &mut Faults) -> Option<Site<'a>> {
    match (site.get(one), site.get(two)) {
        (Some(_), Some(second)) => {
            faults.at(&second, format!("stands beside `{one}`: give one of the two"));
            None
        }
        (first, second) => first.or(second),
    }
}

fn when(site: &Site<'_>, references: &mut References<'_>, faults: &mut Faults) -> Option<Expression> {
    let condition = either(site, "when", "condition", faults)?;
    let expression = template::expression(&condition, faults)?;
    match expression.roots() {
        Some(roots) => roots.iter().for_each(|root| references.root(root, &condition, faults)),
        None => faults.at(&condition, "reads all of `.`: name the steps it needs, as `.step.key`"),
    }
    Some(expression)
}

fn depends_on(site: &Site<'_>, references: &mut References<'_>, faults: &mut Faults) {
    let Some(list) = site.get("dependsOn") else { return };
    if !property::array(&list, faults) {
        return;
    }
    for element in list.elements() {
        if let Some(id) = property::text(&element, faults) {
            references.step(id, &element, faults);
        }
    }
}

/// FlowOps' `config {timeoutMs, retryCount, retryDelayMs}`.
#[derive(Default)]
struct Config {
    timeout: Option<DurationMs>,
    retry: Option<RetryPolicy>,
}

impl Config {
    fn read(step: &Site<'_>, faults: &mut Faults) -> Self {
        let Some(site) = step.get("config") else { return Self::default() };
        if !property::object(&site, faults) {
            return Self::default();
        }
        property::check(&site, &["timeoutMs", "retryCount", "retryDelayMs"], &[], faults);
        for (ours, names) in [("timeout", &["timeoutMs"][..]), ("retry", &["retryCount", "retryDelayMs"])] {
            for theirs in names.iter().filter_map(|name| site.get(name)).filter(|_| step.get(ours).is_some()) {
                faults.at(&theirs, format!("stands beside the step's `{ours}`: give one of the two"));
            }
        }
        let timeout = site
            .get("timeoutMs")
            .and_then(|site| property::integer(&site, 1..=DURATION_MAX.0, faults))
            .map(DurationMs);
        let count = site.get("retryCount").map(|site| retry::count(&site, faults));
        let delay = site
            .get("retryDelayMs")
            .map(|site| property::integer(&site, 0..=DURATION_MAX.0, faults).map(DurationMs));
        if count.is_none() && delay.is_none() {
            return Self { timeout, retry: None };
        }
        let delay = delay.flatten().unwrap_or(RetryPolicy::DEFAULT.delay);
        let retry = RetryPolicy {
            retries: count.flatten().unwrap_or(RetryPolicy::DEFAULT.retries),
            delay,
            backoff: Backoff::Constant,
            delay_max: delay,
            jitter: Jitter::None,
        };
        Self { timeout, retry: Some(retry) }
    }
}
