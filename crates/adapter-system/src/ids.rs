//! The `Ids` port by UUID v7.

use eventflow_domain::ExecutionId;
use eventflow_ports::Ids;
use uuid::Uuid;

/// Random UUIDs that begin with their time, so that newer ones sort after older ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct UuidIds;

impl Ids for UuidIds {
    fn execution_id(&self) -> ExecutionId {
        let mut buffer = Uuid::encode_buffer();
        let text = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
        ExecutionId::parse(text).expect("a hyphenated UUID is 36 letters, digits and hyphens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_version_7_uuid_and_ids_sort_by_time() {
        let ids: Vec<_> = (0..1_000).map(|_| UuidIds.execution_id()).collect();
        for id in &ids {
            assert_eq!(Uuid::parse_str(id.as_str()).unwrap().get_version_num(), 7);
        }
        assert!(
            ids.is_sorted_by(|one, two| one < two),
            "each is newer than the one before"
        );
    }
}
