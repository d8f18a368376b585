//! Bytes of a journal: decoded, or refused with a named fault. A checksum keeps the fuzzer out, so it is made to fit.
#![no_main]

use eventflow_domain::{
    PartitionId, Sequence,
    execution::Execution,
    record::{Chain, Entry, decode},
};
use libfuzzer_sys::fuzz_target;

/// Up to the packed body.
const HEADER_BYTES: usize = 70;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    if bytes.len() >= HEADER_BYTES {
        read(&sealed(bytes.to_vec()));
    }
    // As the text of a body, below a header of the first record.
    let size = u32::try_from(bytes.len()).expect("an input is small");
    let mut record = vec![0; HEADER_BYTES];
    record[17] = 1; // the first epoch
    record[HEADER_BYTES - 4..].copy_from_slice(&size.to_be_bytes());
    record.extend(lz4_flex::block::compress(bytes));
    read(&sealed(record));
});

fn sealed(mut record: Vec<u8>) -> Vec<u8> {
    record[..4].copy_from_slice(b"EVF\x01");
    let checksum = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&checksum.to_be_bytes());
    record
}

fn read(bytes: &[u8]) {
    let decoded = decode(bytes);
    let followed = Chain::start(PartitionId(0)).follow(bytes);
    let Ok(record) = decoded else {
        assert!(
            followed.is_err(),
            "a record that cannot be read continues a chain"
        );
        return;
    };
    for entry in &record.entries {
        if let Entry::Execution(events) = entry {
            let Ok(parsed) = events.parse() else { continue };
            let (tenant, id, at) = (
                events.tenant.clone(),
                events.execution.clone(),
                record.header.time,
            );
            let history = parsed.iter().map(|(_, event)| (event, at));
            // Whatever was written folds; where it begins with no start, it is not the beginning.
            if let Some(mut execution) = Execution::fold(tenant, id, history) {
                execution.unsettle();
                let _ = execution.next_deadline();
                let _ = execution.owed(Sequence(0)).count();
            }
        }
    }
}
