//! Faults as they are collected: all of a document's, up to a bound, and what a misspelt word may have meant.
//!
//! Once a fault is noted no plan comes of the document. So whoever notes one goes on as if the faulty property were not
//! there, to find the next.

use eventflow_domain::error::Fault;

use crate::site::Site;

/// Faults that are named one by one; nobody reads more, and an answer must not grow with a hostile document.
pub(crate) const FAULTS_MAX: usize = 1_000;
/// All faults together, bytes, for the same reason: the pointer below a long key repeats it.
const FAULT_BYTES_MAX: usize = 1024 * 1024;
/// How much of a document's own text a fault quotes, characters.
const QUOTE_MAX: usize = 64;
/// Longer words are not compared with anything.
const WORD_MAX: usize = 32;

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<Fault>,
    bytes: usize,
    left_off: usize,
}

impl Faults {
    /// Something is wrong here.
    pub(crate) fn at(&mut self, site: &Site<'_>, detail: impl Into<String>) {
        self.below(site, "", detail);
    }

    /// Something is wrong at a pointer relative to here.
    pub(crate) fn below(&mut self, site: &Site<'_>, pointer: &str, detail: impl Into<String>) {
        if self.list.len() >= FAULTS_MAX || self.bytes >= FAULT_BYTES_MAX {
            self.left_off += 1;
            return;
        }
        let fault = Fault::at(site.pointer() + pointer, detail);
        // What has a name is compiled at each place that names it.
        if self.list.contains(&fault) {
            return;
        }
        self.bytes += fault.pointer.len() + fault.detail.len();
        self.list.push(fault);
    }

    /// A part of the language that is known and not executed.
    pub(crate) fn not_yet(&mut self, site: &Site<'_>, what: &str) {
        self.at(site, format!("{what} is not executed yet: remove it"));
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them, in the order they were found.
    pub(crate) fn into_list(mut self) -> Vec<Fault> {
        if self.left_off > 0 {
            let detail = format!("and {} more faults, which are not named", self.left_off);
            self.list.push(Fault::at("", detail));
        }
        self.list
    }
}

/// A document's own word, cut and in backticks.
pub(crate) fn quoted(word: &str) -> String {
    let cut: String = word
        .chars()
        .take(QUOTE_MAX)
        .flat_map(char::escape_debug)
        .collect();
    let more = if word.chars().nth(QUOTE_MAX).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{}{more}`", cut.replace("\\\"", "\"").replace("\\'", "'"))
}

/// `; did you mean …?` where one of the words is close, nothing otherwise.
pub(crate) fn did_you_mean<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let length = word.chars().count();
    if length > WORD_MAX {
        return String::new();
    }
    let given = word.to_lowercase();
    words
        .into_iter()
        .filter(|known| known.len() <= WORD_MAX)
        .map(|known| (distance(&given, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= 2 && 2 * distance < length.max(known.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (restricted Damerau-Levenshtein).
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=two.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=two.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != two[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_word_is_suggested() {
        let words = ["endpoint", "method", "body", "if", "do"];
        assert_eq!(
            did_you_mean("endpiont", words),
            "; did you mean `endpoint`?"
        );
        assert_eq!(did_you_mean("Method", words), "; did you mean `method`?");
        assert_eq!(did_you_mean("bdy", words), "; did you mean `body`?");
        assert_eq!(did_you_mean("xy", words), "");
        assert_eq!(did_you_mean("timeout", words), "");
    }

    #[test]
    fn faults_are_bounded_and_the_rest_is_counted() {
        let document = serde_json::Value::Null;
        let mut faults = Faults::default();
        for number in 0..FAULTS_MAX + 5 {
            faults.at(&Site::root(&document), format!("wrong {number}"));
        }
        let list = faults.into_list();
        assert_eq!(list.len(), FAULTS_MAX + 1);
        assert_eq!(
            list[FAULTS_MAX].detail,
            "and 5 more faults, which are not named"
        );
    }

    #[test]
    fn a_fault_is_named_once() {
        let document = serde_json::Value::Null;
        let mut faults = Faults::default();
        for detail in ["wrong", "worse", "wrong"] {
            faults.at(&Site::root(&document), detail);
        }
        assert_eq!(faults.into_list().len(), 2);
    }

    #[test]
    fn a_quote_is_cut_and_shows_what_cannot_be_seen() {
        assert_eq!(quoted("a\nb"), "`a\\nb`");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 64 + 3);
    }
}
