//! Open files: as many as the system lets this process have, and how many of them may be connections.

use eventflow_adapter_http_api::CONNECTIONS_MAX;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept back from connections: the store's files, calls of HTTP steps and their idle connections, blobs.
const OTHER_FILES: u64 = 2_048;

/// Raises the number of files that may be open to what the system allows, and says how many connections fit into it.
pub(crate) fn connections_max() -> usize {
    let allowed = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: allowed.maximum,
        maximum: allowed.maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => allowed.maximum,
        Err(error) => {
            tracing::debug!(%error, "the number of open files cannot be raised");
            allowed.current
        }
    };
    let connections = of(files);
    if connections < CONNECTIONS_MAX {
        tracing::warn!(
            "at most {connections} connections can be open: raise the limit of open files (ulimit -n) for more"
        );
    }
    connections
}

/// Half of few files, all but [`OTHER_FILES`] of many; `None` is no limit.
fn of(files: Option<u64>) -> usize {
    files.map_or(CONNECTIONS_MAX, |files| {
        let connections = files - OTHER_FILES.min(files / 2);
        usize::try_from(connections).map_or(CONNECTIONS_MAX, |max| max.min(CONNECTIONS_MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(of(None), CONNECTIONS_MAX);
        assert_eq!(of(Some(1 << 20)), CONNECTIONS_MAX);
        assert_eq!(of(Some(4_096)), 2_048);
        assert_eq!(of(Some(1_024)), 512);
    }
}
