//! The clauses of `KeyStore`.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use eventflow_ports::KeyStore;

/// One store of keys, empty when the fixture is made.
#[async_trait]
pub trait KeyStoreFixture: Send + Sync {
    /// A new instance on this fixture's store; an earlier one may still be in use.
    async fn open(&self) -> Arc<dyn KeyStore>;
}

/// One test per clause of `KeyStore`, for the fixture that the closure makes.
#[macro_export]
macro_rules! key_store_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            key_store,
            [
                clause_01_a_name_has_one_random_key_for_all_instances,
                clause_02_different_names_have_different_keys,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_a_name_has_one_random_key_for_all_instances(fixture: &impl KeyStoreFixture) {
    let one = fixture.open().await;
    let two = fixture.open().await;
    // Both ask for it first.
    let (first, second) = tokio::join!(key(&*one, "token"), key(&*two, "token"));
    assert_eq!(first, second);
    assert_eq!(key(&*one, "token").await, first);
    drop((one, two));
    assert_eq!(key(&*fixture.open().await, "token").await, first);
    // 32 random bytes have fewer than 10 different values once in 10^24 keys.
    let different: HashSet<u8> = first.into_iter().collect();
    assert!(
        different.len() >= 10,
        "a random key does not look like {first:?}"
    );
}

/// Clause 2.
pub async fn clause_02_different_names_have_different_keys(fixture: &impl KeyStoreFixture) {
    let store = fixture.open().await;
    let mut keys = HashSet::new();
    for name in ["token", "Token", "tokens", "a b/c.d", "größe"] {
        assert!(keys.insert(key(&*store, name).await), "{name} shares a key");
    }
}

async fn key(store: &dyn KeyStore, name: &str) -> [u8; 32] {
    store.get_or_create(name).await.expect("a key")
}
