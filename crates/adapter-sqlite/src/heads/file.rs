//! `journal.heads`: a line per partition, and one that proves the others.
//!
//! ```text
//! eventflow journal heads 1
//! 0 1234 <SHA-256 of record 1234>
//! 3 7 <SHA-256 of record 7>
//! <SHA-256 of the lines above>
//! ```

use std::{fmt::Write as _, fs, io, path::Path};

use eventflow_domain::{Digest, Position};

use super::{Head, Heads};
use crate::{OpenError, directory};

/// The file's name.
const NAME: &str = "journal.heads";
/// Its first line, with its version.
const FIRST_LINE: &str = "eventflow journal heads 1";

/// What the file says; nothing where it is missing or damaged, since it is no truth of its own.
pub(crate) fn read(directory: &Path, partitions: u16) -> Result<Heads, OpenError> {
    let nothing = vec![None; usize::from(partitions)];
    let path = directory.join(NAME);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(nothing),
        Err(error) => return Err(OpenError::io(&path)(error)),
    };
    Ok(parse(&text, nothing.clone()).unwrap_or_else(|| {
        let file = path.display();
        tracing::warn!(%file, "it is damaged: that nothing is missing at the journal's end cannot be checked this time");
        nothing
    }))
}

/// Replaces the file durably.
pub(crate) fn write(directory: &Path, heads: &Heads) -> io::Result<()> {
    directory::replace(&directory.join(NAME), render(heads).as_bytes())
}

fn render(heads: &Heads) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for (partition, head) in heads.iter().enumerate() {
        if let Some(Head { position, record }) = head {
            writeln!(text, "{partition} {position} {record}")
                .expect("writing to a String cannot fail");
        }
    }
    let proof = Digest::of(text.as_bytes());
    text + &format!("{proof}\n")
}

fn parse(text: &str, mut heads: Heads) -> Option<Heads> {
    let lines = text.strip_suffix('\n')?;
    let proof = lines.lines().next_back()?;
    let proved = &lines[..lines.len() - proof.len()];
    let is_proved = Digest::parse(proof) == Some(Digest::of(proved.as_bytes()));
    let rest = proved.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?;
    for line in rest.lines() {
        let mut words = line.split(' ');
        let partition: usize = words.next()?.parse().ok()?;
        let position = Position(words.next()?.parse().ok()?);
        let record = Digest::parse(words.next()?)?;
        *heads.get_mut(partition)? = Some(Head { position, record });
    }
    is_proved.then_some(heads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads() -> Heads {
        let head = |position, record: &[u8]| {
            Some(Head {
                position: Position(position),
                record: Digest::of(record),
            })
        };
        vec![head(1234, b"a"), None, None, head(7, b"b")]
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(
            read(directory.path(), 4).expect("missing"),
            vec![None; 4],
            "before the first second"
        );
        write(directory.path(), &heads()).expect("written");
        assert_eq!(read(directory.path(), 4).expect("read"), heads());
    }

    #[test]
    fn any_flipped_bit_or_lost_byte_is_noticed() {
        let text = render(&heads());
        for at in 0..text.len() {
            let mut flipped = text.clone().into_bytes();
            flipped[at] ^= 1;
            let flipped = String::from_utf8_lossy(&flipped).into_owned();
            assert_eq!(parse(&flipped, vec![None; 4]), None, "byte {at}");
            assert_eq!(parse(&text[..at], vec![None; 4]), None, "cut at {at}");
        }
        assert_eq!(parse(&text, vec![None; 4]), Some(heads()));
    }
}
