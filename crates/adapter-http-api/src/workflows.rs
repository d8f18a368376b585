//! Registering, validating and reading definitions.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use eventflow_ports::inbound::Format;
use eventflow_wire::v1::{
    Fault,
    workflows::{Validation, Workflow, WorkflowDocument, WorkflowList},
};

use crate::{
    body::{Raw, Segments, answer, unsupported},
    document::format_of,
    query::Pairs,
    shape,
    state::Shared,
    trouble::Trouble,
};

/// Register a workflow: an OWS document or a DAG document, in JSON or YAML.
///
/// The same document again is 200; other content under the same version is 409; an invalid one is 422 with all faults.
#[utoipa::path(
    post, path = "/v1/workflows", tag = "Workflows", operation_id = "registerWorkflow",
    request_body(description = "The document.", content(
        (serde_json::Value = "application/json"), (String = "application/yaml"),
    )),
    responses(
        (status = 201, description = "Registered.", body = Workflow, headers(("Location" = String, description = "Where to read it."))),
        (status = 200, description = "It was registered already.", body = Workflow),
    ),
)]
pub(crate) async fn register(State(shared): State<Shared>, raw: Raw) -> Result<Response, Trouble> {
    let registered = shared
        .workflows()
        .register(shared.tenant(), &raw.bytes, format(&raw)?)
        .await?;
    let workflow = shape::workflow(registered.definition);
    let location = format!(
        "/v1/workflows/{}/{}/{}",
        workflow.namespace, workflow.name, workflow.version
    );
    let status = if registered.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = answer(status, &workflow);
    let location = HeaderValue::from_str(&location);
    response
        .headers_mut()
        .extend(location.map(|location| (header::LOCATION, location)));
    Ok(response)
}

/// Validate a document: every fault, and nothing registered.
#[utoipa::path(
    post, path = "/v1/workflows/validate", tag = "Workflows", operation_id = "validateWorkflow",
    request_body(description = "The document.", content(
        (serde_json::Value = "application/json"), (String = "application/yaml"),
    )),
    responses((status = 200, description = "Whether it is valid, and its faults.", body = Validation)),
)]
pub(crate) async fn validate(State(shared): State<Shared>, raw: Raw) -> Result<Response, Trouble> {
    let faults = shared.workflows().validate(&raw.bytes, format(&raw)?);
    let errors: Vec<Fault> = faults.into_iter().map(Fault::from).collect();
    let validation = Validation {
        valid: errors.is_empty(),
        errors,
    };
    Ok(answer(StatusCode::OK, &validation))
}

fn format(raw: &Raw) -> Result<Format, Trouble> {
    raw.media
        .as_deref()
        .and_then(format_of)
        .ok_or_else(|| unsupported("application/json` or `application/yaml"))
}

/// List workflows.
#[utoipa::path(
    get, path = "/v1/workflows", tag = "Workflows", operation_id = "listWorkflows",
    params(("namespace" = Option<String>, Query, description = "Only of this namespace.")),
    responses((status = 200, description = "All of them, without their documents.", body = WorkflowList)),
)]
pub(crate) async fn list(State(shared): State<Shared>, query: Pairs) -> Result<Response, Trouble> {
    let namespace = query.namespace()?;
    let definitions = shared
        .workflows()
        .list(shared.tenant(), namespace.as_deref())
        .await?;
    let workflows = definitions.into_iter().map(shape::workflow).collect();
    Ok(answer(StatusCode::OK, &WorkflowList { workflows }))
}

/// The latest version of a workflow, with its document.
#[utoipa::path(
    get, path = "/v1/workflows/{namespace}/{name}", tag = "Workflows", operation_id = "getLatestWorkflow",
    params(
        ("namespace" = String, Path, description = "Its namespace."),
        ("name" = String, Path, description = "Its name."),
    ),
    responses((status = 200, description = "The definition.", body = WorkflowDocument)),
)]
pub(crate) async fn latest(
    State(shared): State<Shared>,
    Segments((namespace, name)): Segments<(String, String)>,
) -> Result<Response, Trouble> {
    one(&shared, &namespace, &name, None).await
}

/// One version of a workflow, with its document.
#[utoipa::path(
    get, path = "/v1/workflows/{namespace}/{name}/{version}", tag = "Workflows", operation_id = "getWorkflow",
    params(
        ("namespace" = String, Path, description = "Its namespace."),
        ("name" = String, Path, description = "Its name."),
        ("version" = String, Path, description = "Its version."),
    ),
    responses((status = 200, description = "The definition.", body = WorkflowDocument)),
)]
pub(crate) async fn get(
    State(shared): State<Shared>,
    Segments((namespace, name, version)): Segments<(String, String, String)>,
) -> Result<Response, Trouble> {
    one(&shared, &namespace, &name, Some(&version)).await
}

async fn one(
    shared: &Shared,
    namespace: &str,
    name: &str,
    version: Option<&str>,
) -> Result<Response, Trouble> {
    let definition = shared
        .workflows()
        .get(shared.tenant(), namespace, name, version)
        .await?;
    Ok(answer(StatusCode::OK, &shape::document(definition)))
}
