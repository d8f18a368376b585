//! Every numbered clause of a port has exactly one test in the suite of the same file name, and every suite runs all
//! of its tests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_clause_of_a_port_is_tested() {
    let sources = source("../ports/src");
    let mut seen = 0;
    for path in rust_files(&sources) {
        let text = fs::read_to_string(&path).expect("a readable source");
        let traits = clauses(&text);
        if traits.is_empty() {
            continue;
        }
        let relative = path.strip_prefix(&sources).expect("below ports");
        // Beside the port there may be what it calls back, which has no clauses of its own.
        let ports: Vec<_> = traits
            .iter()
            .filter(|(_, of_it)| !of_it.is_empty())
            .collect();
        let [(name, clauses)] = &ports[..] else {
            panic!(
                "{}: one port with numbered clauses per file, so that its suite is found",
                relative.display()
            );
        };
        let in_order: Vec<u32> = (1..).take(clauses.len()).collect();
        assert_eq!(
            *clauses, in_order,
            "the clauses of `{name}` are numbered from 1 without gap"
        );

        let suite = source("src").join(relative);
        let suite = fs::read_to_string(&suite)
            .unwrap_or_else(|_| panic!("`{name}` has no suite at {}", suite.display()));
        let mut tested: Vec<u32> = tests(&suite).iter().map(|test| number(test)).collect();
        tested.sort_unstable();
        // A clause may take more than one test; none may be without, and no test without a clause.
        tested.dedup();
        assert_eq!(tested, *clauses, "the tests of `{name}`, by clause");
        seen += 1;
    }
    assert!(seen >= 14, "the ports were found: {seen}");
}

#[test]
fn every_suite_runs_all_of_its_tests_and_tests_a_port() {
    let suites = source("src");
    for path in rust_files(&suites) {
        let text = fs::read_to_string(&path).expect("a readable source");
        let tests = tests(&text);
        let run = run(&text);
        assert_eq!(
            run,
            tests,
            "{}: the macro's list, and what is there",
            path.display()
        );
        let relative = path.strip_prefix(&suites).expect("below the suites");
        let port = source("../ports/src").join(relative);
        assert!(
            tests.is_empty() || port.is_file(),
            "{} tests no port",
            relative.display()
        );
    }
}

#[test]
fn the_reader_of_this_test_sees_what_is_there() {
    let port = "/// A port.\n///\n/// 1. One MUST.\n///    And more.\n/// 2. Two.\n#[async_trait]\n\
                #[cfg_attr(x)]\npub trait Port: Send {\n    /// 3. Not a clause.\n    fn f();\n}\n\
                /// 1. Of a struct.\npub struct S;\n";
    assert_eq!(clauses(port), [("Port".to_owned(), vec![1, 2])]);
    let suite = "[\n  clause_01_a,\n clause_02_b,\n]\npub async fn clause_01_a(\n) {}\n\
                 pub async fn clause_02_b() {}\nasync fn clause_03_private() {}";
    assert_eq!(tests(suite), ["clause_01_a", "clause_02_b"]);
    assert_eq!(run(suite), tests(suite));
}

/// The traits of a port's source, each with the numbers of its clauses.
fn clauses(text: &str) -> Vec<(String, Vec<u32>)> {
    let mut traits = BTreeMap::new();
    let mut numbers = Vec::new();
    for line in text.lines() {
        if let Some(doc) = line.strip_prefix("///") {
            let number = doc.strip_prefix(' ').and_then(|doc| doc.split_once(". "));
            numbers.extend(number.and_then(|(number, _)| number.parse::<u32>().ok()));
        } else if let Some(declared) = line.strip_prefix("pub trait ") {
            let name = declared
                .split([':', ' ', '<', '{'])
                .next()
                .unwrap_or_default();
            traits.insert(name.to_owned(), std::mem::take(&mut numbers));
        } else if !line.starts_with("#[") {
            numbers.clear();
        }
    }
    traits.into_iter().collect()
}

/// The names of a suite's tests, in order.
fn tests(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("pub async fn clause_"))
        .filter_map(|rest| rest.split(['(', '<']).next())
        .map(|rest| format!("clause_{rest}"))
        .collect()
}

/// The names in a suite's macro, in order.
fn run(text: &str) -> Vec<String> {
    let listed = text.lines().map(str::trim);
    listed
        .filter(|line| line.starts_with("clause_") || line.starts_with("[clause_"))
        .map(|line| line.trim_matches(['[', ']', ',']).to_owned())
        .collect()
}

fn number(test: &str) -> u32 {
    test.split('_')
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("`{test}` has no number"))
}

fn source(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(below).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
