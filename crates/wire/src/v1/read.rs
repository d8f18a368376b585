//! Reading a JSON body: what is no JSON is malformed, what is JSON of another shape is wrong at a place.

use eventflow_domain::error::Fault;
use eventflow_ports::inbound::Refusal;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

/// Reads a body.
///
/// `Malformed` where it is no JSON, `Invalid` with the place where it has another shape.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() {
            invalid(vec![locate::<T>(bytes, &error)])
        } else {
            Refusal::malformed(format!("the body is not JSON: {error}"))
        }
    })
}

/// It can be read but is wrong, in all of these places.
pub fn invalid(faults: Vec<Fault>) -> Refusal {
    let detail = match faults.as_slice() {
        [only] => only.detail.clone(),
        all => format!("{} things are wrong, see `errors`", all.len()),
    };
    Refusal::Invalid { detail, faults }
}

/// Reads again what could not be read, this time keeping track of the place.
fn locate<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> Fault {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let pointer = serde_path_to_error::deserialize::<_, T>(&mut reader)
        .err()
        .map(|error| pointer(error.path()))
        .unwrap_or_default();
    Fault::at(pointer, error.to_string())
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter().fold(String::new(), |mut pointer, segment| {
        match segment {
            Segment::Seq { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&escaped(key));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
        pointer
    })
}

/// A key as a token of a JSON Pointer (RFC 6901).
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::executions::StartBody;

    #[test]
    fn what_is_no_json_is_malformed() {
        for text in ["", "{", "nonsense", "{} {}"] {
            let refusal = read::<StartBody>(text.as_bytes()).unwrap_err();
            assert!(matches!(refusal, Refusal::Malformed { .. }), "{text}");
        }
    }

    #[test]
    fn another_shape_is_wrong_at_its_place() {
        let text = r#"{"workflow":{"name":"order"},"labels":{"a~/b":1}}"#;
        let Refusal::Invalid { faults, detail } = read::<StartBody>(text.as_bytes()).unwrap_err()
        else {
            panic!("it is JSON");
        };
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].pointer, "/labels/a~0~1b");
        assert_eq!(detail, faults[0].detail);
    }
}
