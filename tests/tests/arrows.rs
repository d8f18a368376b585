//! The arrows between the crates (ADR 1), and which packages the pure ones may use.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Our own packages that a package may depend on, or `None` for all of them.
fn allowed(package: &str) -> Option<&'static [&'static str]> {
    match package {
        "eventflow-domain" | "eventflow-nats-server" => Some(&[]),
        "eventflow-dsl" | "eventflow-ports" | "eventflow-checker" => Some(&["eventflow-domain"]),
        "eventflow-engine" => Some(&["eventflow-domain", "eventflow-dsl", "eventflow-ports"]),
        "eventflow-wire" | "eventflow-contracts" => Some(&["eventflow-domain", "eventflow-ports"]),
        "eventflow-agent" => Some(&["eventflow-domain", "eventflow-wire"]),
        "event-flow-workflow-execution"
        | "eventflow"
        | "eventflow-simulation"
        | "eventflow-tests" => None,
        adapter if adapter.starts_with("eventflow-adapter-") => {
            Some(&["eventflow-domain", "eventflow-ports", "eventflow-wire"])
        }
        other => panic!("{other} has no arrows yet: name them here and in ADR 1"),
    }
}

/// Packages of others that the pure crates use: none of them does I/O, reads a clock, draws random numbers or logs.
const PURE: &[&str] = &[
    "base64",
    "crc32fast",
    "granit-parser",
    "jaq-core",
    "jaq-json",
    "jaq-std",
    "jiff",
    "lz4_flex",
    "percent-encoding",
    "serde",
    "serde-saphyr",
    "serde_json",
    "serde_json_canonicalizer",
    "serde_path_to_error",
    "sha2",
    "thiserror",
    "utoipa",
];
const PURE_CRATES: [&str; 4] = [
    "eventflow-domain",
    "eventflow-dsl",
    "eventflow-wire",
    "eventflow-checker",
];
/// Never anybody's normal dependency.
const FOR_TESTS_ONLY: [&str; 3] = [
    "eventflow-contracts",
    "eventflow-nats-server",
    "eventflow-simulation",
];

fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(eventflow_tests::service::workspace().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs")
}

fn normal_dependencies(package: &Package) -> BTreeSet<&str> {
    let normal = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal);
    normal.map(|dependency| dependency.name.as_str()).collect()
}

#[test]
fn every_arrow_is_allowed() {
    let workspace = workspace();
    let ours: BTreeSet<&str> = workspace
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert!(ours.len() >= 17, "the workspace has only {ours:?}");
    for package in &workspace.packages {
        let Some(allowed) = allowed(&package.name) else {
            continue;
        };
        for dependency in normal_dependencies(package).intersection(&ours) {
            assert!(
                allowed.contains(dependency),
                "{} -> {dependency} is no allowed arrow",
                package.name
            );
        }
    }
}

#[test]
fn test_support_stays_in_tests() {
    let packages = workspace().packages;
    // All of this package is tests.
    for package in packages
        .iter()
        .filter(|package| package.name != "eventflow-tests")
    {
        for support in FOR_TESTS_ONLY {
            assert!(
                !normal_dependencies(package).contains(support),
                "{} -> {support}",
                package.name
            );
        }
    }
}

#[test]
fn pure_crates_use_pure_packages() {
    let workspace = workspace();
    for pure in PURE_CRATES {
        let package = workspace
            .packages
            .iter()
            .find(|package| package.name == pure)
            .expect("it exists");
        for dependency in normal_dependencies(package) {
            let is_pure = PURE.contains(&dependency) || dependency.starts_with("eventflow-");
            assert!(
                is_pure,
                "{pure} uses {dependency}: is it pure? Then name it here"
            );
        }
    }
}

#[test]
fn the_service_is_what_cargo_run_starts() {
    let workspace = workspace();
    let defaults: Vec<_> = workspace
        .workspace_default_packages()
        .into_iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(defaults, ["event-flow-workflow-execution"]);
}
