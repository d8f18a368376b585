//! The clauses of `Workflows`.

use eventflow_domain::Json as Document;
use eventflow_ports::{
    Definition,
    inbound::{
        Format::{self, Json, Yaml},
        Refusal, Registered,
    },
};
use serde_json::json;

use super::{EngineFixture, invalid, one_task, two_tasks};
use crate::samples::tenant;

/// One test per clause of `Workflows`, for the fixture that the closure makes.
#[macro_export]
macro_rules! workflows_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            inbound::workflows,
            [
                clause_01_an_invalid_document_is_refused_with_all_faults,
                clause_02_the_same_again_is_fine_and_another_contradicts,
                clause_03_validate_gives_the_faults_and_stores_nothing,
                clause_04_reads_see_what_was_registered_by_this_tenant,
                clause_05_what_cannot_be_read_is_refused_at_its_place,
            ]
        );
    };
}

/// [`invalid`] as people write it.
const INVALID_YAML: &str = "\
document: {dsl: 1.0.3, namespace: default, name: wrong, version: 1.0.0}
do:
  - one:
      call: agent:1.0.0@default
      with: {}
  - two:
      call: agent:1.0.0@default
      with: {capability: no blanks allowed}
";
/// [`one_task`] as people write it.
const ONE_TASK_YAML: &str = "\
document: {dsl: 1.0.3, namespace: default, name: order, version: 1.0.0}
do:
  - charge:
      call: agent:1.0.0@default
      with:
        capability: charge
        retry: {limit: {attempt: {count: 1}}, delay: PT1S}
";

/// Clause 1.
pub async fn clause_01_an_invalid_document_is_refused_with_all_faults(
    fixture: &impl EngineFixture,
) {
    let json = invalid();
    let mut named = Vec::new();
    for (text, format) in [(json.as_str(), Json), (INVALID_YAML, Yaml)] {
        let refused = register_text(fixture, text, format).await;
        let Err(Refusal::Invalid { faults, .. }) = refused else {
            panic!("an invalid document must be refused as such: {refused:?}");
        };
        for at in ["/do/0", "/do/1"] {
            assert!(
                faults
                    .iter()
                    .any(|fault| fault.pointer.starts_with(at) && !fault.detail.is_empty()),
                "a fault at {at} among {faults:?}"
            );
        }
        let without_place = faults
            .into_iter()
            .map(|fault| (fault.pointer, fault.detail));
        named.push(without_place.collect::<Vec<_>>());
    }
    assert_eq!(named[0], named[1], "the same document in JSON and in YAML");
    for no_document in ["null", "[]", "{}"] {
        for format in [Json, Yaml] {
            let refused = register_text(fixture, no_document, format).await;
            assert!(
                matches!(refused, Err(Refusal::Invalid { .. })),
                "{refused:?}"
            );
        }
    }
    assert_eq!(list(fixture, "acme", None).await, []);
    let stored = get(fixture, "acme", "wrong", None).await;
    assert!(matches!(stored, Err(Refusal::NotFound(_))), "{stored:?}");
}

/// Clause 2.
pub async fn clause_02_the_same_again_is_fine_and_another_contradicts(
    fixture: &impl EngineFixture,
) {
    let first = register(fixture, "acme", &one_task()).await;
    let first = first.expect("registered");
    assert!(first.created);
    assert_eq!(first.definition.workflow.to_string(), "default/order:1.0.0");

    let mut changed = one_task().to_value();
    changed["do"][0]["charge"]["with"]["capability"] = json!("refund");
    for _ in 0..2 {
        // The same document, written in other ways.
        let compact = one_task();
        let pretty = serde_json::to_string_pretty(&compact.to_value()).expect("JSON");
        for (same, format) in [
            (compact.as_str(), Json),
            (pretty.as_str(), Json),
            (pretty.as_str(), Yaml),
            (ONE_TASK_YAML, Yaml),
        ] {
            let again = register_text(fixture, same, format).await;
            let again = again.expect("registered");
            assert!(!again.created);
            assert_eq!(again.definition, first.definition);
        }
        let refused = register(fixture, "acme", &Document::of(&changed)).await;
        assert!(
            matches!(refused, Err(Refusal::Contradiction(_))),
            "{refused:?}"
        );
        let stored = get(fixture, "acme", "order", None).await;
        assert_eq!(stored.expect("stored"), first.definition);
        fixture.restart().await;
    }

    changed["document"]["version"] = json!("1.0.1");
    let next = register(fixture, "acme", &Document::of(&changed)).await;
    assert!(next.expect("another version").created);
}

/// Clause 3.
pub async fn clause_03_validate_gives_the_faults_and_stores_nothing(fixture: &impl EngineFixture) {
    let workflows = fixture.workflows();
    for valid in [one_task(), two_tasks(), super::pair()] {
        for format in [Json, Yaml] {
            assert_eq!(workflows.validate(valid.as_str().as_bytes(), format), []);
        }
    }
    assert_eq!(workflows.validate(ONE_TASK_YAML.as_bytes(), Yaml), []);
    let json = invalid();
    for (text, format) in [(json.as_str(), Json), (INVALID_YAML, Yaml)] {
        let refused = register_text(fixture, text, format).await;
        let Err(Refusal::Invalid { faults, .. }) = refused else {
            panic!("an invalid document must be refused as such: {refused:?}");
        };
        assert_eq!(workflows.validate(text.as_bytes(), format), faults);
    }
    assert_eq!(list(fixture, "acme", None).await, []);
}

/// Clause 4.
pub async fn clause_04_reads_see_what_was_registered_by_this_tenant(fixture: &impl EngineFixture) {
    let mut later = one_task().to_value();
    later["document"]["version"] = json!("1.10.0");
    let mut elsewhere = one_task().to_value();
    elsewhere["document"]["namespace"] = json!("billing");
    let mut registered = Vec::new();
    for document in [
        Document::of(&later),
        one_task(),
        two_tasks(),
        Document::of(&elsewhere),
    ] {
        let one = register(fixture, "acme", &document).await;
        let definition = one.expect("registered").definition;
        assert_eq!(definition.document, document);
        registered.push(definition);
    }
    let [later, first, deliver, billing] = &registered[..] else {
        unreachable!("four were registered")
    };
    for _ in 0..2 {
        let all = [billing, deliver, first, later].map(Clone::clone);
        assert_eq!(list(fixture, "acme", None).await, all);
        assert_eq!(list(fixture, "acme", Some("default")).await, all[1..]);
        assert_eq!(list(fixture, "acme", Some("billing")).await, all[..1]);
        assert_eq!(
            get(fixture, "acme", "order", None).await.as_ref(),
            Ok(later)
        );
        assert_eq!(
            get(fixture, "acme", "order", Some("1.0.0")).await.as_ref(),
            Ok(first)
        );
        assert_eq!(list(fixture, "rival", None).await, []);
        for unknown in [
            get(fixture, "acme", "order", Some("2.0.0")).await,
            get(fixture, "acme", "nothing", None).await,
            get(fixture, "rival", "order", None).await,
        ] {
            assert!(matches!(unknown, Err(Refusal::NotFound(_))), "{unknown:?}");
        }
        fixture.restart().await;
    }
}

/// Clause 5.
pub async fn clause_05_what_cannot_be_read_is_refused_at_its_place(fixture: &impl EngineFixture) {
    let workflows = fixture.workflows();
    let deep = "[".repeat(1_000) + &"]".repeat(1_000);
    let large = vec![b' '; 2 * 1024 * 1024];
    for (text, format, place) in [
        (b"{\n\"a\": }".as_slice(), Json, Some((2, 6))),
        (b"{\"a\": 1,\n\"a\": 2}", Json, Some((2, 3))),
        (b"{\"a\":\n\"\xe9\"}", Json, Some((2, 2))),
        (b"a: 1\n b: 2\n", Yaml, Some((2, 3))),
        (b"a: 1\na: 2\n", Yaml, Some((2, 1))),
        (b"a: *nowhere\n", Yaml, Some((1, 4))),
        (b"a: 1\n---\nb: 2\n", Yaml, Some((2, 1))),
        (deep.as_bytes(), Json, Some((1, 65))),
        (deep.as_bytes(), Yaml, Some((1, 65))),
        (&large, Json, None),
        (&large, Yaml, None),
        (invalid().as_str().as_bytes(), Json, None),
        (INVALID_YAML.as_bytes(), Yaml, Some((5, 7))),
    ] {
        let shown = String::from_utf8_lossy(&text[..text.len().min(100)]);
        let validated = workflows.validate(text, format);
        assert!(!validated.is_empty(), "{shown}");
        assert!(validated.iter().all(|fault| fault.place.is_some()));
        if let Some(place) = place {
            let first = validated[0].place.map(|place| (place.line, place.column));
            assert_eq!(first, Some(place), "{shown}: {validated:?}");
        }
        let refused = workflows.register(&tenant("acme"), text, format).await;
        match refused {
            Err(Refusal::Malformed { faults, .. } | Refusal::Invalid { faults, .. }) => {
                assert_eq!(faults, validated, "{shown}");
            }
            Err(Refusal::TooLarge { .. }) => assert_eq!(text, large),
            other => panic!("{shown} must be refused: {other:?}"),
        }
    }
    let malformed = register_text(fixture, "{", Json).await;
    assert!(
        matches!(malformed, Err(Refusal::Malformed { .. })),
        "{malformed:?}"
    );
    let unsound = register_text(fixture, &deep, Yaml).await;
    assert!(
        matches!(unsound, Err(Refusal::Invalid { .. })),
        "{unsound:?}"
    );
    assert_eq!(list(fixture, "acme", None).await, []);
}

/// Registers a document as JSON.
pub(super) async fn register(
    fixture: &impl EngineFixture,
    owner: &str,
    document: &Document,
) -> Result<Registered, Refusal> {
    let text = document.as_str().as_bytes();
    fixture
        .workflows()
        .register(&tenant(owner), text, Json)
        .await
}

async fn register_text(
    fixture: &impl EngineFixture,
    text: &str,
    format: Format,
) -> Result<Registered, Refusal> {
    fixture
        .workflows()
        .register(&tenant("acme"), text.as_bytes(), format)
        .await
}

async fn get(
    fixture: &impl EngineFixture,
    owner: &str,
    name: &str,
    version: Option<&str>,
) -> Result<Definition, Refusal> {
    fixture
        .workflows()
        .get(&tenant(owner), "default", name, version)
        .await
}

async fn list(
    fixture: &impl EngineFixture,
    owner: &str,
    namespace: Option<&str>,
) -> Vec<Definition> {
    fixture
        .workflows()
        .list(&tenant(owner), namespace)
        .await
        .expect("listed")
}
