//! The clauses of `BlobStore`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use eventflow_domain::{Digest, Tenant};
use eventflow_ports::{BlobError, BlobStore};

use crate::samples::tenant;

/// One store of blobs, empty when the fixture is made.
#[async_trait]
pub trait BlobStoreFixture: Send + Sync {
    /// A new instance on this fixture's store; an earlier one may still be in use.
    async fn open(&self) -> Arc<dyn BlobStore>;
    /// Damages the stored bytes of a blob that was put, as a broken disk does.
    async fn damage(&self, tenant: &Tenant, digest: &Digest);
}

/// One test per clause of `BlobStore`, for the fixture that the closure makes.
#[macro_export]
macro_rules! blob_store_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            blob_store,
            [
                clause_01_an_acknowledged_put_is_found_also_by_a_new_instance,
                clause_02_put_of_what_is_there_is_harmless,
                clause_03_get_gives_nothing_that_was_not_put_by_this_tenant,
                clause_04_get_answers_corrupt_rather_than_wrong_bytes,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_an_acknowledged_put_is_found_also_by_a_new_instance(
    fixture: &impl BlobStoreFixture,
) {
    let store = fixture.open().await;
    let blobs = [
        Bytes::from_static(b"\0"),
        (0..=255).collect(),
        Bytes::from(vec![b'x'; 3 * 1024 * 1024 + 17]),
    ];
    for blob in &blobs {
        let digest = put(&*store, "acme", blob).await;
        assert!(get(&*store, "acme", &digest).await.as_ref() == Some(blob));
    }
    drop(store);
    let store = fixture.open().await;
    for blob in &blobs {
        assert!(get(&*store, "acme", &Digest::of(blob)).await.as_ref() == Some(blob));
    }
}

/// Clause 2.
pub async fn clause_02_put_of_what_is_there_is_harmless(fixture: &impl BlobStoreFixture) {
    let store = fixture.open().await;
    let other = fixture.open().await;
    let blob = Bytes::from(vec![7; 100_000]);
    let digest = put(&*store, "acme", &blob).await;
    put(&*store, "acme", &blob).await;
    // Two at once, by two instances.
    tokio::join!(put(&*store, "acme", &blob), put(&*other, "acme", &blob));
    assert!(get(&*store, "acme", &digest).await == Some(blob));
}

/// Clause 3.
pub async fn clause_03_get_gives_nothing_that_was_not_put_by_this_tenant(
    fixture: &impl BlobStoreFixture,
) {
    let store = fixture.open().await;
    let digest = put(&*store, "acme", &Bytes::from_static(b"ours")).await;
    assert_eq!(get(&*store, "rival", &digest).await, None);
    let unknown = Digest::of(b"never put");
    assert_eq!(get(&*store, "acme", &unknown).await, None);
}

/// Clause 4.
pub async fn clause_04_get_answers_corrupt_rather_than_wrong_bytes(
    fixture: &impl BlobStoreFixture,
) {
    let store = fixture.open().await;
    let damaged = put(&*store, "acme", &Bytes::from_static(b"damaged")).await;
    let intact = put(&*store, "acme", &Bytes::from_static(b"intact")).await;
    fixture.damage(&tenant("acme"), &damaged).await;
    for store in [store, fixture.open().await] {
        let refused = store.get(&tenant("acme"), &damaged).await;
        assert!(
            matches!(refused, Err(BlobError::Corrupt { digest }) if digest == damaged),
            "{refused:?}"
        );
        let found = get(&*store, "acme", &intact).await;
        assert_eq!(found, Some(Bytes::from_static(b"intact")));
    }
}

async fn put(store: &dyn BlobStore, owner: &str, blob: &Bytes) -> Digest {
    let digest = Digest::of(blob);
    store
        .put(&tenant(owner), &digest, blob.clone())
        .await
        .expect("put");
    digest
}

async fn get(store: &dyn BlobStore, owner: &str, digest: &Digest) -> Option<Bytes> {
    store.get(&tenant(owner), digest).await.expect("get")
}
