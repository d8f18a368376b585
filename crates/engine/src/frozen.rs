//! An execution as the view stores it: its state and where its history lies. Disposable, so of one version only.
//!
//! Public for whoever reads a view without an engine: `eventflow verify` compares its rows with the journal.

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

/// A row's execution, unpacked.
#[derive(Debug, Deserialize)]
pub struct Thawed {
    /// The records that hold its events, in order.
    pub positions: Vec<Position>,
    /// Its state.
    pub execution: Execution,
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

/// Unpacks the state of a row; an error names what is wrong with the bytes, or that another version wrote them.
pub fn thaw(bytes: &[u8]) -> Result<Thawed, String> {
    let Some((&VERSION, packed)) = bytes.split_first() else {
        return Err("the view holds an execution of another version".to_owned());
    };
    let json = lz4_flex::decompress_size_prepended(packed).map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}
