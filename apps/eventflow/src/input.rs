//! Values and files that people name on the command line.

use std::{fmt::Write as _, fs, io::Read, path::Path};

use anyhow::Context;
use eventflow_domain::Json;

/// A value given as JSON, as `@file`, or as `@-` for stdin.
pub(crate) fn value(given: &str) -> anyhow::Result<Json> {
    let Some(file) = given.strip_prefix('@') else {
        return Json::parse(given).with_context(|| {
            format!(
                "`{given}` is not JSON: quote text twice, as '\"text\"', or name a file as @file"
            )
        });
    };
    let text = text(Path::new(file))?;
    Json::parse(&text).with_context(|| format!("{file} does not hold JSON"))
}

/// A file's text; `-` is stdin.
pub(crate) fn text(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read stdin")?;
        return Ok(text);
    }
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// A label or filter, `key:value` or `key=value`.
pub(crate) fn pair(given: &str) -> Result<(String, String), String> {
    given
        .split_once([':', '='])
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("`{given}` is not key:value"))
}

/// Text as one segment or value of a URL.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_json_or_a_file_of_it() {
        assert_eq!(value("{\"a\": 1}").unwrap().to_value()["a"], 1);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "[1, 2]").unwrap();
        let named = value(&format!("@{}", file.path().display())).unwrap();
        assert_eq!(named.to_value(), serde_json::json!([1, 2]));
        assert!(
            value("text")
                .unwrap_err()
                .to_string()
                .contains("is not JSON")
        );
        assert!(
            value("@/no/such/file")
                .unwrap_err()
                .to_string()
                .contains("cannot read")
        );
    }

    #[test]
    fn a_pair_has_a_key() {
        assert_eq!(pair("a:b:c"), Ok(("a".into(), "b:c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair(":b").is_err());
        assert!(pair("ab").is_err());
    }

    #[test]
    fn a_segment_of_a_url_holds_no_delimiter() {
        assert_eq!(encoded("a b/ü?"), "a%20b%2F%C3%BC%3F");
    }
}
