//! The clauses of `DefinitionStore`.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_domain::{Digest, Json, WorkflowId};
use eventflow_ports::{Definition, DefinitionStore, Put};

use crate::samples::tenant;

/// One store of definitions, empty when the fixture is made.
#[async_trait]
pub trait DefinitionStoreFixture: Send + Sync {
    /// A new instance on this fixture's store; an earlier one may still be in use.
    async fn open(&self) -> Arc<dyn DefinitionStore>;
}

/// One test per clause of `DefinitionStore`, for the fixture that the closure makes.
#[macro_export]
macro_rules! definition_store_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            definition_store,
            [
                clause_01_put_of_a_new_version_stores_it,
                clause_02_put_of_the_same_again_changes_nothing,
                clause_03_put_of_another_document_under_a_stored_version_is_refused,
                clause_04_keep_makes_a_document_findable_by_digest_only,
                clause_05_by_digest_finds_what_was_put_or_kept_of_this_tenant,
                clause_06_by_name_finds_a_version_or_the_highest,
                clause_07_list_gives_put_definitions_in_order,
                clause_08_what_was_acknowledged_is_found_by_a_new_instance,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_put_of_a_new_version_stores_it(fixture: &impl DefinitionStoreFixture) {
    let store = fixture.open().await;
    for definition in [
        sample("order", "1.0.0"),
        sample("order", "1.0.1"),
        sample("refund", "1.0.0"),
    ] {
        assert_eq!(put(&*store, &definition).await, Put::Created);
        let version = definition.workflow.version.clone();
        let found = named(&*store, &definition.workflow.name, Some(&version)).await;
        assert_eq!(found, Some(definition));
    }
}

/// Clause 2.
pub async fn clause_02_put_of_the_same_again_changes_nothing(
    fixture: &impl DefinitionStoreFixture,
) {
    let store = fixture.open().await;
    let definition = sample("order", "1.0.0");
    put(&*store, &definition).await;
    assert_eq!(put(&*store, &definition).await, Put::Same);
    assert_eq!(put(&*fixture.open().await, &definition).await, Put::Same);
    assert_eq!(list(&*store, None).await, [definition]);
}

/// Clause 3.
pub async fn clause_03_put_of_another_document_under_a_stored_version_is_refused(
    fixture: &impl DefinitionStoreFixture,
) {
    let store = fixture.open().await;
    let stored = sample("order", "1.0.0");
    let other = document("order", "1.0.0", r#"{"changed":true}"#);
    put(&*store, &stored).await;
    let different = Put::Different {
        stored: stored.digest,
    };
    assert_eq!(put(&*store, &other).await, different);
    assert_eq!(put(&*fixture.open().await, &other).await, different);
    assert_eq!(named(&*store, "order", None).await, Some(stored.clone()));
    assert_eq!(by_digest(&*store, "acme", &other.digest).await, None);
    assert_eq!(list(&*store, None).await, [stored]);
}

/// Clause 4.
pub async fn clause_04_keep_makes_a_document_findable_by_digest_only(
    fixture: &impl DefinitionStoreFixture,
) {
    let store = fixture.open().await;
    let kept = sample("order", "1.0.0");
    keep(&*store, &kept).await;
    keep(&*store, &kept).await;
    assert_eq!(
        by_digest(&*store, "acme", &kept.digest).await,
        Some(kept.clone())
    );
    assert_eq!(named(&*store, "order", None).await, None);
    assert_eq!(named(&*store, "order", Some("1.0.0")).await, None);
    assert_eq!(list(&*store, None).await, []);

    // It neither takes the version nor loses it.
    let other = document("order", "1.0.0", r#"{"changed":true}"#);
    assert_eq!(put(&*store, &other).await, Put::Created);
    keep(&*store, &kept).await;
    keep(&*store, &other).await;
    assert_eq!(named(&*store, "order", None).await, Some(other.clone()));
    assert_eq!(list(&*store, None).await, [other]);
    assert_eq!(by_digest(&*store, "acme", &kept.digest).await, Some(kept));
}

/// Clause 5.
pub async fn clause_05_by_digest_finds_what_was_put_or_kept_of_this_tenant(
    fixture: &impl DefinitionStoreFixture,
) {
    let store = fixture.open().await;
    let registered = sample("order", "1.0.0");
    let kept = sample("refund", "1.0.0");
    put(&*store, &registered).await;
    keep(&*store, &kept).await;
    for definition in [&registered, &kept] {
        let found = by_digest(&*store, "acme", &definition.digest).await;
        assert_eq!(found.as_ref(), Some(definition));
        assert_eq!(by_digest(&*store, "rival", &definition.digest).await, None);
    }
    let unknown = Digest::of(b"unknown");
    assert_eq!(by_digest(&*store, "acme", &unknown).await, None);

    // The same document of another tenant is that tenant's own.
    store
        .keep(&tenant("rival"), registered.clone())
        .await
        .expect("kept");
    let found = by_digest(&*store, "rival", &registered.digest).await;
    assert_eq!(found, Some(registered));
}

/// Clause 6.
pub async fn clause_06_by_name_finds_a_version_or_the_highest(
    fixture: &impl DefinitionStoreFixture,
) {
    let store = fixture.open().await;
    assert_eq!(named(&*store, "order", None).await, None);
    // Each is higher than all before it, though not as text; what follows must not become the latest.
    let versions = [
        "0.9.0",
        "1.9.0",
        "1.10.0-alpha.2",
        "1.10.0-alpha.10",
        "1.10.0",
        "10.0.0",
    ];
    for version in versions {
        put(&*store, &sample("order", version)).await;
        let latest = named(&*store, "order", None).await.expect("found");
        assert_eq!(&*latest.workflow.version, version, "the latest");
    }
    put(&*store, &sample("order", "9.99.99")).await;
    let latest = named(&*store, "order", None).await.expect("found");
    assert_eq!(&*latest.workflow.version, "10.0.0");
    for version in versions {
        assert_eq!(
            named(&*store, "order", Some(version)).await,
            Some(sample("order", version))
        );
    }
    assert_eq!(named(&*store, "order", Some("7.0.0")).await, None);
    assert_eq!(named(&*store, "orders", None).await, None);
    let elsewhere = store
        .by_name(&tenant("acme"), "other", "order", None)
        .await
        .expect("by name");
    assert_eq!(elsewhere, None, "another namespace");
    let theirs = store
        .by_name(&tenant("rival"), "default", "order", None)
        .await
        .expect("by name");
    assert_eq!(theirs, None, "another tenant");
}

/// Clause 7.
pub async fn clause_07_list_gives_put_definitions_in_order(fixture: &impl DefinitionStoreFixture) {
    let store = fixture.open().await;
    assert_eq!(list(&*store, None).await, []);
    let elsewhere = Definition {
        workflow: WorkflowId {
            namespace: "billing".into(),
            ..sample("order", "1.0.0").workflow
        },
        ..document("order", "1.0.0", r#"{"in":"billing"}"#)
    };
    let sorted = [
        elsewhere,
        sample("order", "1.9.0"),
        sample("order", "1.10.0"),
        sample("refund", "1.0.0"),
    ];
    for index in [3, 1, 0, 2] {
        put(&*store, &sorted[index]).await;
    }
    keep(&*store, &sample("kept", "1.0.0")).await;
    store
        .put(&tenant("rival"), sample("theirs", "1.0.0"))
        .await
        .expect("put");
    assert_eq!(list(&*store, None).await, sorted);
    assert_eq!(list(&*store, Some("default")).await, sorted[1..]);
    assert_eq!(list(&*store, Some("billing")).await, sorted[..1]);
    assert_eq!(list(&*store, Some("nowhere")).await, []);
}

/// Clause 8.
pub async fn clause_08_what_was_acknowledged_is_found_by_a_new_instance(
    fixture: &impl DefinitionStoreFixture,
) {
    let store = fixture.open().await;
    let registered = document(
        "order",
        "1.0.0",
        r#"{"größe":"\u0000 \ud83e\udd80","n":[1.50,1e3]}"#,
    );
    let kept = sample("refund", "1.0.0");
    put(&*store, &registered).await;
    keep(&*store, &kept).await;
    drop(store);
    let store = fixture.open().await;
    let found = named(&*store, "order", None).await.expect("found");
    assert_eq!(found, registered);
    assert_eq!(
        found.document.as_str(),
        registered.document.as_str(),
        "the text is kept as it was"
    );
    assert_eq!(by_digest(&*store, "acme", &kept.digest).await, Some(kept));
    assert_eq!(list(&*store, None).await, [registered]);
}

async fn put(store: &dyn DefinitionStore, definition: &Definition) -> Put {
    store
        .put(&tenant("acme"), definition.clone())
        .await
        .expect("put")
}

async fn keep(store: &dyn DefinitionStore, definition: &Definition) {
    store
        .keep(&tenant("acme"), definition.clone())
        .await
        .expect("kept");
}

async fn named(
    store: &dyn DefinitionStore,
    name: &str,
    version: Option<&str>,
) -> Option<Definition> {
    store
        .by_name(&tenant("acme"), "default", name, version)
        .await
        .expect("by name")
}

async fn by_digest(
    store: &dyn DefinitionStore,
    owner: &str,
    digest: &Digest,
) -> Option<Definition> {
    store
        .by_digest(&tenant(owner), digest)
        .await
        .expect("by digest")
}

async fn list(store: &dyn DefinitionStore, namespace: Option<&str>) -> Vec<Definition> {
    store
        .list(&tenant("acme"), namespace)
        .await
        .expect("listed")
}

fn sample(name: &str, version: &str) -> Definition {
    let text = format!(r#"{{"name":"{name}","version":"{version}"}}"#);
    document(name, version, &text)
}

fn document(name: &str, version: &str, text: &str) -> Definition {
    Definition {
        workflow: WorkflowId {
            version: version.into(),
            ..crate::samples::workflow(name)
        },
        digest: Digest::of(text.as_bytes()),
        document: Json::parse(text).expect("JSON"),
    }
}
