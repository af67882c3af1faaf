//! Holds the two tiers: the platform knows no module, and modules never know each other.
//!
//! A module that needs another one speaks to it over the bus, with the messages of
//! `aico-contracts`; only the program composes them. And what `docs/faults.md` says is tested, is.
#![expect(clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// May be depended on. The order is the layering: each may use those before it.
const PLATFORM: [&str; 8] = [
    "aico-contracts",
    "aico-characters",
    "aico-config",
    "aico-vault",
    "aico-logging",
    "aico-store",
    "aico-bus",
    "aico-access",
];

/// Each does one job, and knows the platform only.
const MODULES: [&str; 3] = ["aico-models", "aico-companion", "aico-gateway"];

/// Put the parts together: the program, and the executables beside it for graphics devices.
const PROGRAMS: [&str; 2] = ["aico", "aico-engine"];

/// A crate's dependencies within the workspace, by kind ("normal", "dev", "build").
type Graph = BTreeMap<String, Vec<(String, String)>>;

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn graph() -> Graph {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let names: BTreeSet<&str> = packages.iter().map(|p| text(p, "name")).collect();
    let dependencies = |package: &Value| {
        let all = package["dependencies"]
            .as_array()
            .expect("a list of dependencies");
        all.iter()
            .filter(|d| names.contains(text(d, "name")))
            .map(|d| {
                let kind = d["kind"].as_str().unwrap_or("normal");
                (text(d, "name").to_owned(), kind.to_owned())
            })
            .collect()
    };
    packages
        .iter()
        .map(|p| (text(p, "name").to_owned(), dependencies(p)))
        .collect()
}

/// What breaks the rules, in words.
fn violations(graph: &Graph) -> Vec<String> {
    let platform: Vec<&str> = PLATFORM.to_vec();
    let layer = |name: &str| platform.iter().position(|p| *p == name);
    let mut found = Vec::new();
    for (package, dependencies) in graph {
        let is_module = MODULES.contains(&package.as_str());
        let own_layer = layer(package);
        if !is_module && own_layer.is_none() && !PROGRAMS.contains(&package.as_str()) {
            found.push(format!(
                "{package} is in no tier: add it to the lists of this test"
            ));
        }
        for (name, kind) in dependencies {
            let module = MODULES.contains(&name.as_str());
            if PROGRAMS.contains(&name.as_str()) {
                found.push(format!("{package} uses the program"));
            } else if is_module && module && name != package {
                found.push(format!("module {package} uses module {name} ({kind})"));
            } else if own_layer.is_some() && module {
                found.push(format!(
                    "platform crate {package} uses module {name} ({kind})"
                ));
            } else if own_layer.is_some() && layer(name) >= own_layer && kind == "normal" {
                found.push(format!(
                    "platform crate {package} uses {name}, which is above it"
                ));
            }
        }
    }
    found
}

#[test]
fn tiers_hold() {
    let graph = graph();
    assert_eq!(violations(&graph), Vec::<String>::new());
    for name in PLATFORM.iter().chain(&MODULES).chain(&PROGRAMS) {
        assert!(
            graph.contains_key(*name),
            "{name} is listed here and is no crate"
        );
    }
}

#[test]
fn broken_tiers_are_noticed() {
    let with = |package: &str, name: &str, kind: &str| {
        let edge = vec![(name.to_owned(), kind.to_owned())];
        violations(&Graph::from([(package.to_owned(), edge)])).len()
    };
    assert_eq!(with("aico-gateway", "aico-companion", "normal"), 1);
    assert_eq!(with("aico-gateway", "aico-companion", "dev"), 1);
    assert_eq!(with("aico-bus", "aico-models", "dev"), 1);
    assert_eq!(with("aico-contracts", "aico-vault", "normal"), 1);
    assert_eq!(with("aico-models", "aico", "dev"), 1);
    assert_eq!(with("aico-new", "aico-vault", "normal"), 1);
    assert_eq!(with("aico-gateway", "aico-bus", "normal"), 0);
    assert_eq!(with("aico", "aico-gateway", "normal"), 0);
}

/// The Rust files under a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn each_fault_of_the_documents_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/faults.md")).expect("the page");
    let mut found = Vec::new();
    sources(&root.join("crates"), &mut found);
    let mut tests = BTreeSet::new();
    for source in found {
        let text = fs::read_to_string(source).expect("a source");
        let names = text.split("fn ").skip(1);
        tests.extend(names.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
    }
    let rows: Vec<&str> = page.lines().filter(|line| line.contains("| `")).collect();
    assert!(rows.len() > 20, "the tables are read");
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let is_head = row.starts_with("| what happens");
        assert!(is_head || !named.is_empty(), "no test: {row}");
        for name in named {
            assert!(tests.contains(name), "there is no test {name}");
        }
    }
}
