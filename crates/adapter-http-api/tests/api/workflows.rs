//! Workflows over HTTP: register, validate, read, in JSON and in YAML.

use crate::support::*;
use eventflow_adapter_http_api::router;
use eventflow_domain::{Digest, Json};
use eventflow_ports::{
    Definition,
    inbound::{Fault, Format, Place, Refusal, Registered},
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
    ports.workflows.expect_register().returning(move |_, _, _| {
        let definition = definition(json(r#"{"do":[]}"#));
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
async fn the_text_reaches_the_port_as_it_is_with_its_format() {
    let yaml = "do:\n- a:\n    set: {x: no}\n";
    let latin = b"{\"name\": \"\xe9\"}".as_slice();
    for (media, text, wanted) in [
        (
            "application/yaml; charset=utf-8",
            yaml.as_bytes(),
            Format::Yaml,
        ),
        ("application/json", yaml.as_bytes(), Format::Json),
        ("application/ows+json", latin, Format::Json),
    ] {
        let mut ports = Ports::default();
        ports
            .workflows
            .expect_register()
            .withf(move |tenant, given, format| {
                (tenant.as_str(), given, *format) == ("default", text, wanted)
            })
            .returning(|_, _, _| {
                let definition = definition(json("{}"));
                now(Ok(Registered {
                    definition,
                    created: true,
                }))
            });
        ports
            .workflows
            .expect_validate()
            .withf(move |given, format| (given, *format) == (text, wanted))
            .returning(|_, _| Vec::new());
        let app = router(ports.api());
        let answer = ask(&app, post_as(media, "/v1/workflows", text)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let answer = ask(&app, post_as(media, "/v1/workflows/validate", text)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

fn faults() -> Vec<Fault> {
    let place = |line, column| Some(Place { line, column });
    let fault = |pointer: &str, place| Fault {
        place,
        ..Fault::at(pointer, "unknown")
    };
    vec![fault("/do/0", place(2, 3)), fault("/do/1/x", None)]
}

#[tokio::test]
async fn every_fault_is_named_at_its_pointer_and_at_its_place() {
    let refusals: [(fn() -> Refusal, u16); 2] = [
        (
            || Refusal::Invalid {
                detail: "the document has 2 faults".into(),
                faults: faults(),
            },
            422,
        ),
        (
            || Refusal::Malformed {
                detail: "the document has 2 faults".into(),
                faults: faults(),
            },
            400,
        ),
    ];
    for (refusal, status) in refusals {
        let mut ports = Ports::default();
        ports
            .workflows
            .expect_register()
            .returning(move |_, _, _| now(Err(refusal())));
        let answer = ports.ask(post("/v1/workflows", "{}")).await;
        let problem = answer.is_problem(status, "2 faults");
        assert_eq!(
            problem["errors"],
            serde_json::json!([
                {"pointer": "/do/0", "detail": "unknown", "line": 2, "column": 3},
                {"pointer": "/do/1/x", "detail": "unknown"},
            ])
        );
        assert_eq!(problem["instance"], "/v1/workflows");
    }
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
async fn a_body_that_is_too_large_is_413_before_anybody_reads_it() {
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
        .returning(|_, _, _| now(Err(Refusal::Contradiction("order 1.0.0 exists".into()))));
    ports
        .ask(post("/v1/workflows", "{}"))
        .await
        .is_problem(409, "exists");
}

#[tokio::test]
async fn validation_is_200_with_all_faults() {
    for (faults, text) in [
        (Vec::new(), r#"{"valid":true,"errors":[]}"#),
        (
            faults(),
            r#"{"valid":false,"errors":[{"pointer":"/do/0","detail":"unknown","line":2,"column":3},{"pointer":"/do/1/x","detail":"unknown"}]}"#,
        ),
    ] {
        let mut ports = Ports::default();
        ports
            .workflows
            .expect_validate()
            .return_once(move |_, _| faults);
        let answer = ports.ask(post("/v1/workflows/validate", "{}")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text, text);
    }
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
