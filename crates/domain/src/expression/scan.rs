//! The pre-scan: size and nesting of a source, before any parser sees it.
//!
//! jaq's lexer and parser recurse per bracket, per word such as `if` or `try` and per operator, without a limit: a
//! thousand `[` overflow the stack and abort the process. So what they recurse on is counted first, in one flat loop.

/// The longest source. Bytes; the standard's own expressions stay below 300.
pub const SOURCE_BYTES_MAX: usize = 4 * 1024;
/// How deep a source may nest: brackets of any sort, interpolations, and words such as `if` and `try`. In a debug build
/// jaq's parser takes up to 20 KiB of stack for each, and a thread may have no more than 2 MiB.
pub const SOURCE_NESTING_MAX: usize = 64;
/// How many operators such as `|`, `+` or `==` a source may have, counted in bytes: each may nest a term in the next
/// one. Commas and colons do not count, so that an object of 300 fields is fine.
pub const SOURCE_OPERATORS_MAX: usize = 256;

/// The words behind which the parser starts a term inside of the current one. They count up to the next closing
/// bracket, even `if`: an `end` may as well be the name of something.
const PREFIXES: [&str; 7] = ["if", "try", "def", "reduce", "foreach", "label", "as"];

/// Passes a source that the parser can take without danger, or says what is too much and where.
pub(super) fn check(source: &str) -> Result<(), String> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(format!(
            "the source is {} bytes long, at most {SOURCE_BYTES_MAX} are allowed",
            source.len()
        ));
    }
    if source.trim().is_empty() {
        return Err("the source is empty: write `.` for the whole value".into());
    }
    let mut scan = Scan {
        source,
        at: 0,
        open: vec![],
        nesting: 0,
        operators: 0,
    };
    while let Some(byte) = source.as_bytes().get(scan.at) {
        match scan.open.last() {
            Some(Open {
                closed_by: b'"', ..
            }) => scan.in_text(*byte),
            Some(_) | None => scan.in_code(*byte)?,
        }
        if scan.nesting > SOURCE_NESTING_MAX {
            return Err(format!(
                "at byte {} it nests deeper than {SOURCE_NESTING_MAX}",
                scan.at
            ));
        }
        if scan.operators > SOURCE_OPERATORS_MAX {
            return Err(format!(
                "at byte {} it has more than {SOURCE_OPERATORS_MAX} operators",
                scan.at
            ));
        }
    }
    match scan.open.last() {
        None => Ok(()),
        Some(Open {
            closed_by, start, ..
        }) => Err(format!(
            "what opens at byte {start} is not closed by `{}`",
            char::from(*closed_by)
        )),
    }
}

/// A string, a bracket or an interpolation that is open.
struct Open {
    closed_by: u8,
    start: usize,
    /// The prefixes in it, which end with it.
    prefixes: usize,
}

struct Scan<'s> {
    source: &'s str,
    at: usize,
    open: Vec<Open>,
    /// What is open and the prefixes in it.
    nesting: usize,
    operators: usize,
}

impl Scan<'_> {
    /// One step inside of a string.
    fn in_text(&mut self, byte: u8) {
        match byte {
            b'"' => self.close(),
            b'\\' if self.source.as_bytes().get(self.at + 1) == Some(&b'(') => {
                self.open(b')');
                self.at += 1;
            }
            b'\\' => self.at += 1,
            _ => {}
        }
        self.at += 1;
    }

    /// One step outside of strings.
    fn in_code(&mut self, byte: u8) -> Result<(), String> {
        let at = self.at;
        match byte {
            b'"' => self.open(b'"'),
            b'(' => self.open(b')'),
            b'[' => self.open(b']'),
            b'{' => self.open(b'}'),
            b')' | b']' | b'}' if self.open.last().is_some_and(|open| open.closed_by == byte) => {
                self.close();
            }
            b')' | b']' | b'}' => {
                return Err(format!(
                    "`{}` at byte {at} closes nothing",
                    char::from(byte)
                ));
            }
            b'#' => {
                return Err(format!(
                    "a comment at byte {at}: comments are not part of expressions"
                ));
            }
            b'-' => self.minus(),
            _ if b"|=!<>+*/%".contains(&byte) => self.operators += 1,
            _ if is_word(byte) => {
                self.word();
                return Ok(());
            }
            _ => {}
        }
        self.at += 1;
        Ok(())
    }

    /// A minus may be a prefix: the one thing that nests without a bracket or a word.
    fn minus(&mut self) {
        self.operators += 1;
        if let Some(b'-' | b'(' | b'[' | b'{' | b'"') = self.next() {
            self.prefix();
        }
    }

    fn word(&mut self) {
        let rest = &self.source[self.at..];
        let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
        match &rest[..length] {
            word if PREFIXES.contains(&word) => self.prefix(),
            "and" | "or" => self.operators += 1,
            _ => {}
        }
        self.at += length;
    }

    fn prefix(&mut self) {
        self.nesting += 1;
        // Outside of any bracket there is nothing that ends it.
        if let Some(open) = self.open.last_mut() {
            open.prefixes += 1;
        }
    }

    fn open(&mut self, closed_by: u8) {
        self.nesting += 1;
        self.open.push(Open {
            closed_by,
            start: self.at,
            prefixes: 0,
        });
    }

    fn close(&mut self) {
        if let Some(open) = self.open.pop() {
            self.nesting -= 1 + open.prefixes;
        }
    }

    /// The next byte that is not white space.
    fn next(&self) -> Option<u8> {
        let rest = &self.source.as_bytes()[self.at + 1..];
        rest.iter()
            .copied()
            .find(|byte| !byte.is_ascii_whitespace())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str) -> String {
        check(source).expect_err("it should be refused")
    }

    #[test]
    fn an_everyday_source_passes() {
        check(r#"if .a == "}" then { "x)": [.b[0], "\(.c | "\(.d)")"] } else -1 end"#).unwrap();
    }

    #[test]
    fn sixty_four_brackets_pass_and_one_more_is_refused() {
        let nested = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(SOURCE_NESTING_MAX)).unwrap();
        assert!(refused(&nested(SOURCE_NESTING_MAX + 1)).contains("nests deeper than 64"));
    }

    #[test]
    fn interpolations_nest_too() {
        let nested = format!("{}0{}", "\"\\(".repeat(40), ")\"".repeat(40));
        assert!(refused(&nested).contains("nests deeper"));
    }

    #[test]
    fn brackets_in_text_do_not_nest() {
        check(&format!("\"{}\"", "[".repeat(500))).unwrap();
    }

    #[test]
    fn what_is_not_closed_is_named_by_its_place() {
        assert!(refused(".a | [1").contains("opens at byte 5 is not closed by `]`"));
        assert!(refused(r#".a == "x"#).contains("opens at byte 6"));
        assert!(refused(".a }").contains("`}` at byte 3 closes nothing"));
        assert!(refused("[1)").contains("closes nothing"));
        assert!(refused(r#""\"#).contains("not closed"));
    }

    #[test]
    fn prefixes_nest_without_brackets() {
        assert!(refused(&format!("{}1", "- ".repeat(100))).contains("nests deeper"));
        check(".a - -2").unwrap();
        assert!(refused(&format!("{}1", "try ".repeat(65))).contains("nests deeper"));
        assert!(refused(&"-(try [if ".repeat(20)).contains("nests deeper"));
        assert!(refused(&"def end: ".repeat(65)).contains("nests deeper"));
        check(&vec!["(if . then . end)"; 100].join(", ")).unwrap();
    }

    #[test]
    fn operators_are_counted() {
        assert!(refused(&vec!["."; 300].join("|")).contains("more than 256 operators"));
        assert!(refused(&vec!["."; 300].join(" and ")).contains("more than 256 operators"));
        check(&vec!["."; 300].join(",")).unwrap();
    }

    #[test]
    fn a_source_has_a_size() {
        assert!(refused("  ").contains("empty"));
        assert!(refused(&"a".repeat(SOURCE_BYTES_MAX + 1)).contains("4097 bytes"));
    }

    #[test]
    fn comments_are_refused_outside_of_text() {
        assert!(refused(".a # b").contains("comment at byte 3"));
        check("\"#\"").unwrap();
    }
}
