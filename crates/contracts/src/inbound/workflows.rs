//! The clauses of `Workflows`.

use eventflow_domain::Json;
use eventflow_ports::{Definition, inbound::Refusal};
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
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_an_invalid_document_is_refused_with_all_faults(
    fixture: &impl EngineFixture,
) {
    let refused = fixture
        .workflows()
        .register(&tenant("acme"), invalid())
        .await;
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
    for no_document in [Json::null(), Json::of(&json!([])), Json::of(&json!({}))] {
        let refused = fixture
            .workflows()
            .register(&tenant("acme"), no_document)
            .await;
        assert!(
            matches!(refused, Err(Refusal::Invalid { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(list(fixture, "acme", None).await, []);
    let stored = get(fixture, "acme", "wrong", None).await;
    assert!(matches!(stored, Err(Refusal::NotFound(_))), "{stored:?}");
}

/// Clause 2.
pub async fn clause_02_the_same_again_is_fine_and_another_contradicts(
    fixture: &impl EngineFixture,
) {
    let owner = tenant("acme");
    let first = fixture.workflows().register(&owner, one_task()).await;
    let first = first.expect("registered");
    assert!(first.created);
    assert_eq!(first.definition.workflow.to_string(), "default/order:1.0.0");

    let mut changed = one_task().to_value();
    changed["do"][0]["charge"]["with"]["capability"] = json!("refund");
    for _ in 0..2 {
        // The same document, written in another way.
        let pretty = serde_json::to_string_pretty(&one_task().to_value()).expect("JSON");
        for same in [one_task(), Json::parse(&pretty).expect("JSON")] {
            let again = fixture.workflows().register(&owner, same).await;
            let again = again.expect("registered");
            assert!(!again.created);
            assert_eq!(again.definition, first.definition);
        }
        let refused = fixture
            .workflows()
            .register(&owner, Json::of(&changed))
            .await;
        assert!(
            matches!(refused, Err(Refusal::Contradiction(_))),
            "{refused:?}"
        );
        let stored = get(fixture, "acme", "order", None).await;
        assert_eq!(stored.expect("stored"), first.definition);
        fixture.restart().await;
    }

    changed["document"]["version"] = json!("1.0.1");
    let next = fixture
        .workflows()
        .register(&owner, Json::of(&changed))
        .await;
    assert!(next.expect("another version").created);
}

/// Clause 3.
pub async fn clause_03_validate_gives_the_faults_and_stores_nothing(fixture: &impl EngineFixture) {
    let workflows = fixture.workflows();
    for valid in [one_task(), two_tasks(), super::pair()] {
        assert_eq!(workflows.validate(&valid), []);
    }
    let refused = workflows.register(&tenant("acme"), invalid()).await;
    let Err(Refusal::Invalid { faults, .. }) = refused else {
        panic!("an invalid document must be refused as such: {refused:?}");
    };
    assert_eq!(workflows.validate(&invalid()), faults);
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
        Json::of(&later),
        one_task(),
        two_tasks(),
        Json::of(&elsewhere),
    ] {
        let one = fixture
            .workflows()
            .register(&tenant("acme"), document.clone())
            .await;
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
