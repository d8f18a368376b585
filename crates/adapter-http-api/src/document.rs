//! Documents as they are sent: which format a media type is. Reading them is not done here.

use eventflow_ports::inbound::Format;

use crate::body::is_json;

/// The format of a media type, without parameters and in lower case.
pub(crate) fn format_of(media: &str) -> Option<Format> {
    match media {
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => {
            Some(Format::Yaml)
        }
        _ if media.starts_with("application/") && media.ends_with("+yaml") => Some(Format::Yaml),
        _ if is_json(media) => Some(Format::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_media_type() {
        for yaml in ["application/yaml", "text/x-yaml", "application/ows+yaml"] {
            assert_eq!(format_of(yaml), Some(Format::Yaml), "{yaml}");
        }
        for json in ["application/json", "application/ows+json"] {
            assert_eq!(format_of(json), Some(Format::Json), "{json}");
        }
        for neither in ["text/plain", "text/json", "yaml", ""] {
            assert_eq!(format_of(neither), None, "{neither}");
        }
    }
}
