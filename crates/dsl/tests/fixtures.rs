//! Every workflow that ships with the service compiles, to the plan that lies beside this file.

mod support;

use std::{fs, path::PathBuf};

fn fixtures() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/workflows");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder is readable").path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let name = file
                .file_stem()
                .expect("a file has a name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(&file).expect("a fixture is text"))
        })
        .collect()
}

#[test]
fn every_fixture_compiles_to_its_plan() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 10, "{} fixtures", fixtures.len());
    for (name, text) in fixtures {
        insta::assert_snapshot!(name.clone(), support::outline(&support::plan(&text)), &name);
    }
}

#[test]
fn every_fixture_has_the_same_digest_in_yaml_and_in_json() {
    for (name, text) in fixtures() {
        let document = support::document(&text);
        let json =
            support::document(&serde_json::to_string_pretty(&document.to_value()).expect("JSON"));
        assert_eq!(
            eventflow_dsl::digest(&document),
            eventflow_dsl::digest(&json),
            "{name}"
        );
        assert_eq!(
            support::plan(&text).digest,
            eventflow_dsl::digest(&json),
            "{name}"
        );
    }
}
