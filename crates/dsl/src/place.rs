//! Where in a text a JSON Pointer points: line and column, for YAML and JSON alike, in one pass for any number of them.

use std::collections::HashMap;

use eventflow_domain::error::{Fault, Place};
use granit_parser::{Event, Parser, Span};

use crate::DOCUMENT_BYTES_MAX;

/// The same faults, each at the place of its pointer in the text that they are faults of; of the pointer's nearest
/// ancestor, where the text has no such value (a key that is missing, what an alias stands for).
pub fn locate(text: &str, faults: Vec<Fault>) -> Vec<Fault> {
    let mut wanted = Wanted::default();
    let steps: Vec<usize> = faults
        .iter()
        .map(|fault| wanted.add(&fault.pointer))
        .collect();
    wanted.find(text);
    let placed = faults.into_iter().zip(steps).map(|(fault, step)| Fault {
        place: Some(wanted.nearest(step)),
        ..fault
    });
    placed.collect()
}

/// The place of a byte.
pub(crate) fn of_byte(text: &[u8], byte: usize) -> Place {
    let before = String::from_utf8_lossy(&text[..byte]);
    let last = before.rsplit('\n').next().unwrap_or_default();
    Place {
        line: 1 + before.matches('\n').count(),
        column: 1 + last.chars().count(),
    }
}

/// The root of every pointer: the first of all steps.
const ROOT: usize = 0;

/// The pointers that are looked for, as a tree of their steps: a document has a megabyte and a thousand faults, so that
/// neither may be gone through for each of the other.
struct Wanted {
    steps: Vec<Step>,
}

/// One key or index on the way.
#[derive(Default)]
struct Step {
    parent: usize,
    next: HashMap<String, usize>,
    place: Option<Place>,
}

impl Default for Wanted {
    fn default() -> Self {
        let root = Step {
            place: Some(Place::START),
            ..Step::default()
        };
        Self { steps: vec![root] }
    }
}

impl Wanted {
    /// Adds a pointer and returns its last step.
    fn add(&mut self, pointer: &str) -> usize {
        let tokens = pointer.split('/').skip(1);
        tokens.fold(ROOT, |parent, token| {
            let token = token.replace("~1", "/").replace("~0", "~");
            if let Some(known) = self.steps[parent].next.get(&token) {
                return *known;
            }
            let new = self.steps.len();
            self.steps[parent].next.insert(token, new);
            self.steps.push(Step {
                parent,
                ..Step::default()
            });
            new
        })
    }

    /// The place of a step or of the nearest one before it.
    fn nearest(&self, mut step: usize) -> Place {
        loop {
            match self.steps[step].place {
                Some(place) => return place,
                None if step == ROOT => return Place::START,
                None => step = self.steps[step].parent,
            }
        }
    }

    fn next(&self, step: Option<usize>, token: &str) -> Option<usize> {
        self.steps[step?].next.get(token).copied()
    }

    /// Notes the place of each step that the text has.
    fn find(&mut self, text: &str) {
        // JSON has no limit on the length of a key, and comments are nowhere.
        let options = granit_parser::options! {
            simple_key_max_lookahead: DOCUMENT_BYTES_MAX,
            emit_comments: false,
        };
        let mut around: Vec<Inside> = Vec::new();
        for event in Parser::new_from_str_with_options(text, options) {
            // The text was read before. Where this parser is stricter, what comes later is shown at what was found.
            let Ok((event, span)) = event else { break };
            if let (Event::Scalar(key, ..), Some(inside @ &mut Inside::Key { object })) =
                (&event, around.last_mut())
            {
                // A key stands for its value: an editor goes to where the name is.
                let step = self.next(object, key);
                self.note(step, &span);
                *inside = Inside::Value { object, step };
                continue;
            }
            let here = self.value(around.last());
            match &event {
                Event::Scalar(..) | Event::Alias(..) => {
                    self.note(here, &span);
                    after(&mut around);
                }
                Event::SequenceStart(..) => {
                    self.note(here, &span);
                    around.push(Inside::Array {
                        step: here,
                        index: 0,
                    });
                }
                Event::MappingStart(..) => {
                    self.note(here, &span);
                    around.push(Inside::Key { object: here });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    around.pop();
                    after(&mut around);
                }
                _ => {}
            }
        }
    }

    /// The step of the value that comes next.
    fn value(&self, around: Option<&Inside>) -> Option<usize> {
        match around {
            None => Some(ROOT),
            Some(Inside::Array { step, index }) => {
                step.and_then(|step| self.next(Some(step), &index.to_string()))
            }
            Some(Inside::Key { .. }) => None,
            Some(Inside::Value { step, .. }) => *step,
        }
    }

    fn note(&mut self, step: Option<usize>, span: &Span) {
        if let Some(step) = step {
            self.steps[step].place.get_or_insert(Place {
                line: span.start.line(),
                column: span.start.col() + 1,
            });
        }
    }
}

/// What is being read, and which steps these are, if any.
#[derive(Clone, Copy)]
enum Inside {
    Array {
        step: Option<usize>,
        index: usize,
    },
    /// In an object, before a key.
    Key {
        object: Option<usize>,
    },
    /// In an object, before the value of a key.
    Value {
        object: Option<usize>,
        step: Option<usize>,
    },
}

/// What comes after a value. A key that is no scalar is one, too, and names no step.
fn after(around: &mut [Inside]) {
    if let Some(inside) = around.last_mut() {
        *inside = match *inside {
            Inside::Array { step, index } => Inside::Array {
                step,
                index: index + 1,
            },
            Inside::Key { object } => Inside::Value { object, step: None },
            Inside::Value { object, .. } => Inside::Key { object },
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, time::Instant};

    use super::*;

    fn at(text: &str, pointer: &str) -> (usize, usize) {
        let located = locate(text, vec![Fault::at(pointer, "wrong")]);
        let place = located[0].place.unwrap();
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

    #[test]
    fn keys_are_found_however_they_are_written() {
        assert_eq!(at("{\r\n\t\"a\": 1,\r\n\t\"b~\": 2\r\n}", "/b~0"), (3, 2));
        assert_eq!(at("{\"\\u0061\": [1,\n2]}", "/a/1"), (2, 1));
        assert_eq!(at("{\"\\ud83d\\ude00\": 1,\n\"x\": 2}", "/x"), (2, 1));
        assert_eq!(at("\u{feff}a: 1\nb: 2\n", "/b"), (2, 1));
        assert_eq!(at("\u{feff}{\"é\": 1, \"b\": 2}", "/b"), (1, 10));
        let long = "k".repeat(5_000);
        assert_eq!(at(&format!("{{\"{long}\": 1,\n\"b\": 2}}"), "/b"), (2, 1));
    }

    #[test]
    fn an_alias_a_merge_or_a_key_that_is_none_does_not_shift_what_follows() {
        let text = "x: &x {k: 1}\ny: *x\nz: {<<: *x, l: 1}\n? *x\n: 1\nmid: 1\n? [a, b]\n: {k: 1}\nlast: 1\n";
        assert_eq!(at(text, "/y/k"), (2, 1));
        assert_eq!(at(text, "/z/k"), (3, 1));
        assert_eq!(at(text, "/z/l"), (3, 13));
        assert_eq!(at(text, "/mid"), (6, 1));
        assert_eq!(at(text, "/last"), (9, 1));
    }

    #[test]
    fn a_thousand_faults_of_a_long_document_take_one_pass() {
        let long = "k".repeat(1_000);
        let mut text = format!("{long}:\n");
        for key in 0..50_000 {
            let _ = writeln!(text, "  k{key}: 1");
        }
        let faults = (0..1_000).map(|fault| Fault::at(format!("/{long}/k{fault}"), ""));
        let faults = faults.collect();
        let begin = Instant::now();
        let located = locate(&text, faults);
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
        let last = Place {
            line: 1_001,
            column: 3,
        };
        assert_eq!(located[999].place, Some(last));
    }
}
