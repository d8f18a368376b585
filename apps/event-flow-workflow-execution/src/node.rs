//! What this node is called among all that share its store.

use eventflow_adapter_system::UuidIds;
use eventflow_domain::NodeName;
use eventflow_ports::Ids as _;

/// Of the machine's name: it is to be recognised, not to be complete.
const HOST_LETTERS_MAX: usize = 40;
/// Of a fresh id: its random end.
const UNIQUE_LETTERS: usize = 12;

/// The machine's name, and letters that no other start has: a node that is started again is another one.
pub(crate) fn name() -> NodeName {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let letters = host.chars().take(HOST_LETTERS_MAX);
    let letters = letters.map(|letter| match letter {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '-',
    });
    let host: String = letters.collect();
    let id = UuidIds.execution_id();
    let unique = &id.as_str()[id.as_str().len() - UNIQUE_LETTERS..];
    NodeName::parse(&format!("{host}-{unique}")).expect("letters, digits and dashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_starts_have_the_same_name() {
        let names: std::collections::BTreeSet<_> = (0..1_000).map(|_| name()).collect();
        assert_eq!(names.len(), 1_000);
    }
}
