//! DAG documents: steps that need each other (INTERFACES sections 4 and 7, requirement F2).
//!
//! What stands around the steps is read here, a single step in `step` and what it does in `work`, the references that tie steps together in
//! `reference`; `cycle` finds the circles that no order of the steps could satisfy.

mod cycle;
mod reference;
mod step;
mod work;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use eventflow_domain::{
    Digest,
    error::Fault,
    limits::{EXECUTION_TIMEOUT, TASKS_PER_EXECUTION_MAX},
    plan::{Graph, Kind, NodeId, Plan, PlanParts, Step},
};
use serde_json::Value;

use crate::{
    arena::Arena,
    bindings,
    duration::{self, Spelling},
    fault::{Faults, quoted},
    identity, property, service_call,
    site::Site,
    template::Values as _,
};
use reference::References;

/// The id under which steps read the execution's input.
const INPUT: &str = "input";
/// Steps that run at once where a document does not say: as many as there can be.
pub(crate) const MAX_PARALLEL_DEFAULT: u32 = TASKS_PER_EXECUTION_MAX;
/// Circles that are named; a document with more is not mended by a longer list.
const CYCLES_MAX: usize = 100;

/// Where each step stands among the steps, by its id.
type Ids = HashMap<String, usize>;

/// Compiles a DAG document.
pub(crate) fn compile(document: &Value, digest: Digest) -> Result<Plan, Vec<Fault>> {
    let (root, mut faults, mut arena) = (Site::root(document), Faults::default(), Arena::default());
    let executed = [
        "dag",
        "namespace",
        "name",
        "version",
        "title",
        "summary",
        "tags",
        "metadata",
        "maxParallel",
        "timeout",
        "steps",
        "output",
    ];
    property::check(&root, &executed, &[], &mut faults);
    header(&root, &mut faults);
    let workflow = identity::ours(&root, &mut faults);
    service_call::check_name(workflow.as_ref(), &digest, &root, &mut faults);
    let timeout = root
        .get("timeout")
        .map(|site| duration::positive(&site, Spelling::Short, &mut faults));
    let most = u64::from(TASKS_PER_EXECUTION_MAX);
    let max_parallel = root
        .get("maxParallel")
        .and_then(|site| property::integer(&site, 1..=most, &mut faults))
        .and_then(|count| u32::try_from(count).ok());
    let graph_node = arena.add("/steps".to_owned(), "steps", None);
    let steps = property::required(&root, "steps", &mut faults)
        .zip(graph_node)
        .and_then(|(list, graph)| compile_steps(&root, &list, graph, &mut arena, &mut faults));
    let (Some(workflow), Some(mut graph), true) = (workflow, steps, faults.is_empty()) else {
        return Err(faults.into_list());
    };
    graph.max_parallel = max_parallel.unwrap_or(MAX_PARALLEL_DEFAULT);
    arena.node(NodeId(0)).kind = Kind::Graph(graph);
    Ok(Plan::new(PlanParts {
        workflow,
        digest,
        timeout: timeout.flatten().unwrap_or(EXECUTION_TIMEOUT),
        input: None,
        output: None,
        root: NodeId(0),
        nodes: arena.into_nodes(),
    }))
}

fn header(root: &Site<'_>, faults: &mut Faults) {
    if let Some(version) = root.get("dag")
        && version.value != "1.0"
    {
        faults.at(
            &version,
            format!(
                "must be the text \"1.0\", not {}",
                property::shown(version.value)
            ),
        );
    }
    for name in ["title", "summary"] {
        root.get(name).map(|site| property::text(&site, faults));
    }
    for name in ["tags", "metadata"] {
        root.get(name).map(|site| property::object(&site, faults));
    }
    if let Some(metadata) = root.get("metadata") {
        bindings::automations(&metadata, faults);
    }
}

/// The steps and the graph's output, which may refer to any of them.
fn compile_steps(
    root: &Site<'_>,
    list: &Site<'_>,
    graph: NodeId,
    arena: &mut Arena,
    faults: &mut Faults,
) -> Option<Graph> {
    if !property::array(list, faults) {
        return None;
    }
    let sites: Vec<Site<'_>> = list.elements().collect();
    let most = usize::try_from(TASKS_PER_EXECUTION_MAX).unwrap_or(usize::MAX);
    if sites.is_empty() {
        faults.at(list, "must have at least one step");
        return None;
    }
    if sites.len() > most {
        faults.at(
            list,
            format!(
                "a workflow has at most {most} steps, this has {}: split it",
                sites.len()
            ),
        );
        return None;
    }
    let ids = ids(&sites, faults);
    let mut steps = Vec::with_capacity(sites.len());
    for site in &sites {
        // Later steps' places hold even where this one is faulty.
        steps.push(step::compile(site, graph, &ids, arena, faults));
    }
    let needs: Vec<Vec<usize>> = steps
        .iter()
        .map(|step| {
            step.as_ref()
                .map(|step| step.needs.clone())
                .unwrap_or_default()
        })
        .collect();
    name_cycles(&sites, &needs, faults);
    let mut references = References::new(&ids);
    let output = root
        .get("output")
        .map(|site| references.value(&site, faults));
    let mut steps: Vec<Step> = steps.into_iter().collect::<Option<_>>()?;
    for (index, needs) in needs.iter().enumerate() {
        for need in needs {
            steps[*need].dependents.push(index);
        }
    }
    Some(Graph {
        steps,
        max_parallel: MAX_PARALLEL_DEFAULT,
        output: output.flatten(),
    })
}

/// The place of each id; the first step of an id has it.
fn ids(sites: &[Site<'_>], faults: &mut Faults) -> Ids {
    let mut ids = Ids::new();
    for (index, step) in sites.iter().enumerate() {
        let Some(site) = step::id(step) else { continue };
        let Some(id) = property::text(&site, faults) else {
            continue;
        };
        if id == INPUT {
            faults.at(
                &site,
                "`input` is the execution's input: call the step something else",
            );
        } else if !identity::is_name(id) {
            faults.at(
                &site,
                format!(
                    "a step's id is 1 to 64 of A-Z a-z 0-9 _ -, not {}",
                    quoted(id)
                ),
            );
        } else if let Some(first) = ids.get(id) {
            faults.at(
                &site,
                format!("the step /steps/{first} has the id {} already", quoted(id)),
            );
        } else {
            ids.insert(id.to_owned(), index);
        }
    }
    ids
}

/// One fault for each circle, at its first step.
fn name_cycles(sites: &[Site<'_>], needs: &[Vec<usize>], faults: &mut Faults) {
    let (cycles, more) = cycle::cycles(needs, CYCLES_MAX);
    let name = |index: usize| {
        step::id(&sites[index])
            .and_then(|site| site.value.as_str())
            .unwrap_or("?")
    };
    for cycle in &cycles {
        let (Some(first), way) = (cycle.first(), cycle.iter().map(|index| name(*index))) else {
            continue;
        };
        let circle: Vec<&str> = way.chain([name(*first)]).collect();
        faults.at(
            &sites[*first],
            format!(
                "steps need each other in a circle: {}",
                circle.join(" needs ")
            ),
        );
    }
    if more {
        faults.at(
            &sites[0],
            format!("there are more than {CYCLES_MAX} circles of steps; the others are not named"),
        );
    }
}

/// What a step needs, as it is found.
type Needs = BTreeSet<usize>;

fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}
