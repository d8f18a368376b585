//! Workflows over HTTP: register, validate, read, in JSON and in YAML.

use crate::support::*;
use eventflow_domain::{Digest, Json};
use eventflow_ports::{
    Definition,
    inbound::{Fault, Refusal, Registered},
};

fn definition(document: Json) -> Definition {
    Definition {
        workflow: workflow(),
        digest: Digest([7; 32]),
        document,
    }
}

fn registers(created: bool) -> Ports {
    let mut ports = Ports::default();
    ports
        .workflows
        .expect_register()
        .returning(move |_, document| {
            let definition = definition(document);
            now(Ok(Registered {
                definition,
                created,
            }))
        });
    ports
}

#[tokio::test]
async fn a_new_document_is_201_with_its_place() {
    let answer = registers(true)
        .ask(post("/v1/workflows", r#"{"do":[]}"#))
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(
        answer.header("location"),
        "/v1/workflows/default/order/1.0.0"
    );
    assert_eq!(answer.json()["name"], "order");
    assert_eq!(answer.json()["digest"], "07".repeat(32));
    assert!(answer.json().get("document").is_none());
}

#[tokio::test]
async fn the_same_document_again_is_200() {
    let answer = registers(false).ask(post("/v1/workflows", "{}")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn yaml_reaches_the_port_as_json() {
    let mut ports = Ports::default();
    ports
        .workflows
        .expect_register()
        .withf(|tenant, document| {
            tenant.as_str() == "default"
                && document.as_str() == r#"{"do":[{"a":{"set":{"x":"no"}}}]}"#
        })
        .returning(|_, document| {
            let definition = definition(document);
            now(Ok(Registered {
                definition,
                created: true,
            }))
        });
    let yaml = "do:\n- a:\n    set: {x: no}\n";
    let answer = ports
        .ask(post_as(
            "application/yaml; charset=utf-8",
            "/v1/workflows",
            yaml,
        ))
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

#[tokio::test]
async fn every_fault_is_named_at_its_pointer() {
    let mut ports = Ports::default();
    ports.workflows.expect_register().returning(|_, _| {
        let fault = |pointer: &str| Fault {
            pointer: pointer.into(),
            detail: "unknown".into(),
        };
        now(Err(Refusal::Invalid {
            detail: "the document has 2 faults".into(),
            faults: vec![fault("/do/0"), fault("/do/1/x")],
        }))
    });
    let answer = ports.ask(post("/v1/workflows", "{}")).await;
    let problem = answer.is_problem(422, "2 faults");
    assert_eq!(problem["errors"][1]["pointer"], "/do/1/x");
    assert_eq!(problem["instance"], "/v1/workflows");
}

#[tokio::test]
async fn what_cannot_be_read_is_400_with_its_line() {
    let json = Ports::default()
        .ask(post("/v1/workflows", "{\n\"a\": }"))
        .await;
    json.is_problem(400, "line 2 column 6");
    let yaml = Ports::default()
        .ask(post_as("application/yaml", "/v1/workflows", "a: [1,\nb: }"))
        .await;
    yaml.is_problem(400, "line ");
}

#[tokio::test]
async fn a_media_type_that_is_not_read_is_415() {
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "nonsense",
    ] {
        let answer = Ports::default()
            .ask(post_as(media, "/v1/workflows", "{}"))
            .await;
        answer.is_problem(415, "application/yaml");
    }
}

#[tokio::test]
async fn a_document_that_is_too_deep_is_422_and_one_that_is_too_large_413() {
    let deep = "[".repeat(300_000) + &"]".repeat(300_000);
    let answer = Ports::default()
        .ask(post("/v1/workflows", deep.clone()))
        .await;
    answer.is_problem(422, "at most 64");
    let answer = Ports::default()
        .ask(post_as("application/yaml", "/v1/workflows", deep))
        .await;
    answer.is_problem(422, "at most 64");
    let large = " ".repeat(1024 * 1024 + 1);
    let answer = Ports::default().ask(post("/v1/workflows", large)).await;
    answer.is_problem(413, "1048576 bytes");
}

#[tokio::test]
async fn other_content_under_the_same_version_is_409() {
    let mut ports = Ports::default();
    ports
        .workflows
        .expect_register()
        .returning(|_, _| now(Err(Refusal::Contradiction("order 1.0.0 exists".into()))));
    ports
        .ask(post("/v1/workflows", "{}"))
        .await
        .is_problem(409, "exists");
}

#[tokio::test]
async fn validation_is_200_with_all_faults_also_for_what_cannot_be_read() {
    let mut ports = Ports::default();
    ports.workflows.expect_validate().returning(|_| Vec::new());
    let answer = ports.ask(post("/v1/workflows/validate", "{}")).await;
    assert_eq!(answer.text, r#"{"valid":true,"errors":[]}"#);

    let answer = Ports::default()
        .ask(post("/v1/workflows/validate", "{"))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["valid"], false);
    assert_eq!(answer.json()["errors"][0]["pointer"], "");
}

#[tokio::test]
async fn workflows_are_listed_and_read_by_name_and_version() {
    let mut ports = Ports::default();
    ports
        .workflows
        .expect_list()
        .withf(|_, namespace| *namespace == Some("shop"))
        .returning(|_, _| now(Ok(vec![definition(json("{}"))])));
    let answer = ports.ask(get("/v1/workflows?namespace=shop")).await;
    assert_eq!(answer.json()["workflows"][0]["version"], "1.0.0");

    for (path, version) in [
        ("/v1/workflows/default/order", None),
        ("/v1/workflows/default/order/1.0.0%2Bb", Some("1.0.0+b")),
    ] {
        let mut ports = Ports::default();
        ports
            .workflows
            .expect_get()
            .withf(move |_, namespace, name, wanted| {
                (namespace, name, *wanted) == ("default", "order", version)
            })
            .returning(|_, _, _, _| now(Ok(definition(json(r#"{"do":[]}"#)))));
        let answer = ports.ask(get(path)).await;
        assert_eq!(
            answer.json()["document"]["do"],
            serde_json::json!([]),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_misspelt_parameter_is_400() {
    let answer = Ports::default().ask(get("/v1/workflows?namespce=x")).await;
    answer.is_problem(400, "`namespce` here: use namespace");
    let answer = Ports::default().ask(get("/v1/workflows/a%ff/b")).await;
    answer.is_problem(400, "");
}
