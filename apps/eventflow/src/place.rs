//! Where in a text a JSON Pointer points: line and column, for YAML and JSON alike.

use granit_parser::{Event, Parser};

/// From 1, as editors count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// What is being read: an array's next index, or an object whose next scalar is a key.
enum Inside {
    Array(usize),
    Object { key: Option<String> },
}

/// The place of a pointer; of its nearest ancestor, where the text has no such value (a key that is missing).
pub(crate) fn of(text: &str, pointer: &str) -> Place {
    let mut nearest = (0, Place { line: 1, column: 1 });
    let mut stack: Vec<Inside> = Vec::new();
    for event in Parser::new_from_str(text) {
        // A text that does not parse has no document, and so no pointers.
        let Ok((event, span)) = event else { break };
        let is_key = matches!(stack.last(), Some(Inside::Object { key: None }));
        match &event {
            Event::Scalar(value, ..) if is_key => {
                if let Some(Inside::Object { key }) = stack.last_mut() {
                    *key = Some(value.replace('~', "~0").replace('/', "~1"));
                }
                // A key stands for its value: an editor goes to where the name is.
                note(&stack, pointer, place(&span), &mut nearest);
            }
            Event::Scalar(..) | Event::Alias(..) => {
                note(&stack, pointer, place(&span), &mut nearest);
                next(&mut stack);
            }
            Event::SequenceStart(..) => {
                note(&stack, pointer, place(&span), &mut nearest);
                stack.push(Inside::Array(0));
            }
            Event::MappingStart(..) => {
                note(&stack, pointer, place(&span), &mut nearest);
                stack.push(Inside::Object { key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                stack.pop();
                next(&mut stack);
            }
            _ => {}
        }
    }
    nearest.1
}

fn place(span: &granit_parser::Span) -> Place {
    Place {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// Remembers the first place of the longest path that leads to the pointer.
fn note(stack: &[Inside], pointer: &str, place: Place, nearest: &mut (usize, Place)) {
    let path: String = stack
        .iter()
        .map(|inside| match inside {
            Inside::Array(index) => format!("/{index}"),
            Inside::Object { key } => format!("/{}", key.as_deref().unwrap_or_default()),
        })
        .collect();
    let leads = pointer == path || pointer.starts_with(&format!("{path}/"));
    if leads && path.len() > nearest.0 {
        *nearest = (path.len(), place);
    }
}

/// The value is over: an array goes on to its next index, an object to its next key.
fn next(stack: &mut [Inside]) {
    match stack.last_mut() {
        Some(Inside::Array(index)) => *index += 1,
        Some(Inside::Object { key }) => *key = None,
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, pointer: &str) -> (usize, usize) {
        let place = of(text, pointer);
        (place.line, place.column)
    }

    #[test]
    fn yaml_values_are_found_by_their_keys() {
        let text = "document:\n  name: order\ndo:\n  - charge:\n      call: http\n  - 'ship/it': {a: [1, 2]}\n";
        assert_eq!(at(text, "/document/name"), (2, 3));
        assert_eq!(at(text, "/do"), (3, 1));
        assert_eq!(at(text, "/do/0"), (4, 5));
        assert_eq!(at(text, "/do/0/charge/call"), (5, 7));
        assert_eq!(at(text, "/do/1/ship~1it/a/1"), (6, 24));
    }

    #[test]
    fn json_values_are_found_too() {
        let text = "{\n  \"a\": {\"b\": [\n    10,\n    {\"c\": 1}\n  ]}\n}";
        assert_eq!(at(text, "/a/b/0"), (3, 5));
        assert_eq!(at(text, "/a/b/1/c"), (4, 6));
    }

    #[test]
    fn what_is_missing_is_shown_at_its_parent() {
        assert_eq!(at("a:\n  b: 1\n", "/a/missing/deep"), (1, 1));
        assert_eq!(at("a:\n  b: 1\n", ""), (1, 1));
        assert_eq!(at("x: 1\na:\n  b: 1\n", "/a/c"), (2, 1));
    }
}
