//! Every route, once: what is served and what is described come from the same list.

use eventflow_wire::v1::Problem;
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, OpenApi as Document, PathItem, Ref, RefOr, ResponseBuilder, path::Operation,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{controls, events, executions, operations, state::Shared, tasks, workflows};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "EventFlow",
        description = "Durable workflows: register a document, start executions of it, perform their tasks, watch their events. Every error is `application/problem+json` (RFC 9457). Times are RFC 3339 in UTC; durations in requests are ISO 8601 (`PT30S`) or `30s`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "Workflows", description = "Definitions: OWS and DAG documents."),
        (name = "Executions", description = "Runs of a definition, their history and events."),
        (name = "Agents", description = "Performing tasks, in any language."),
        (name = "Operations", description = "Running the service."),
    ),
    components(schemas(Problem)),
)]
struct Description;

/// The routes and their description.
pub(crate) fn routes() -> (axum::Router<Shared>, Document) {
    let (router, mut document) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(workflows::register, workflows::list))
        .routes(routes!(workflows::validate))
        .routes(routes!(workflows::latest))
        .routes(routes!(workflows::get))
        .routes(routes!(executions::start, executions::list))
        .routes(routes!(executions::view))
        .routes(routes!(executions::history))
        .routes(routes!(executions::events))
        .routes(routes!(executions::all_events, events::accept))
        .routes(routes!(controls::pause))
        .routes(routes!(controls::resume))
        .routes(routes!(controls::stop))
        .routes(routes!(controls::explain))
        .routes(routes!(tasks::lease))
        .routes(routes!(tasks::complete))
        .routes(routes!(tasks::fail))
        .routes(routes!(tasks::heartbeat))
        .routes(routes!(tasks::results))
        .routes(routes!(operations::health))
        .routes(routes!(operations::readiness))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::system))
        .routes(routes!(operations::openapi))
        .routes(routes!(operations::docs))
        .split_for_parts();
    for item in document.paths.paths.values_mut() {
        operations_of(item).for_each(describe_problems);
    }
    (router, document)
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post]
        .into_iter()
        .filter_map(Option::as_mut)
}

/// Every operation may answer any problem.
fn describe_problems(operation: &mut Operation) {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    let response = ResponseBuilder::new()
        .description("A problem: 400 malformed, 404, 409 contradiction, 413, 415, 422 invalid, 429 and 503 with `Retry-After`.")
        .content("application/problem+json", content)
        .build();
    operation
        .responses
        .responses
        .insert("default".into(), RefOr::T(response));
}
