//! An execution as the view stores it: its state and where its history lies. Disposable, so of one version only.

use bytes::Bytes;
use eventflow_domain::{Position, execution::Execution};
use serde::{Deserialize, Serialize};

/// Changed with every change of the state's shape; what has another is replayed from the journal.
const VERSION: u8 = 1;

#[derive(Serialize)]
struct Written<'a> {
    positions: &'a [Position],
    execution: &'a Execution,
}

/// What [`freeze`] wrote.
#[derive(Deserialize)]
pub(crate) struct Thawed {
    pub(crate) positions: Vec<Position>,
    pub(crate) execution: Execution,
}

/// Packs an execution.
pub(crate) fn freeze(execution: &Execution, positions: &[Position]) -> Bytes {
    let json = serde_json::to_vec(&Written {
        positions,
        execution,
    })
    .expect("an execution serialises");
    let mut packed = vec![VERSION];
    packed.extend(lz4_flex::compress_prepend_size(&json));
    packed.into()
}

/// Unpacks an execution; an error names what is wrong with the bytes.
pub(crate) fn thaw(bytes: &[u8]) -> Result<Thawed, String> {
    let Some((&VERSION, packed)) = bytes.split_first() else {
        return Err("the view holds an execution of another version".to_owned());
    };
    let json = lz4_flex::decompress_size_prepended(packed).map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}
