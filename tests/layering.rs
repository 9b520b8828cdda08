//! Holds the layers: which module may import which, and where SQL may stand.
//!
//! Services of one crate end as one circle of modules unless something refuses the first wrong import. This
//! reads every file under `src`, finds each path that leaves its module, and compares it with the table below.
//! When it refuses you: move the line to where it belongs; the table changes only together with the design.
//!
//! Comments and strings are skipped. The second half feeds it forbidden sources, because a check that cannot
//! fail holds nothing.

#[path = "layering/source.rs"]
mod source;
#[path = "layering/the_check_itself.rs"]
mod the_check_itself;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use source::{Target, Token, lines_of_tests, references, tokens};

/// Module, and what of ours it may import.
const TABLE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &[]),
    ("settings", &[]),
    ("telemetry", &["clock", "settings"]),
    ("balance", &["domain"]),
    ("store", &["domain"]),
    ("view", &["domain"]),
    ("probe", &["domain"]),
    ("auth", &["domain"]),
    ("liveness", &["domain", "store", "view"]),
    ("log", &["domain", "store", "view", "liveness"]),
    ("app", &["domain", "balance", "store", "view", "liveness", "log", "probe", "auth"]),
    ("checker", &["domain", "probe", "app"]),
    ("sinks", &["domain", "store", "log"]),
    ("doors", &[ANY_DOOR]),
    (ANY_DOOR, &["domain", "app", "doors::kit"]),
    ("doors::kit", &["domain", "app"]),
    (
        "server",
        &[
            "domain", "balance", "store", "view", "probe", "auth", "liveness", "log", "app", "checker",
            "sinks", "doors", ANY_DOOR,
        ],
    ),
    ("cli", &["server"]),
    (ROOT, &["cli"]),
];

/// `lib.rs` and `main.rs`.
const ROOT: &str = "the root";

/// Any folder of `doors`; `kit` has a row of its own.
const ANY_DOOR: &str = "doors::x";

/// What all but those without imports of ours may use.
const EVERYWHERE: [&str; 3] = ["clock", "settings", "telemetry"];
const ON_THEIR_OWN: [&str; 4] = ["domain", "clock", "settings", "telemetry"];

/// These decide and know nothing of the world outside.
const PURE: [&str; 2] = ["domain", "balance"];
const OUTSIDE: [&str; 6] = ["axum", "hyper", "prometheus_client", "reqwest", "tokio", "tracing"];

const LONGEST_FILE: usize = 500;

#[test]
fn the_modules_keep_to_their_layers() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &source, &mut files);
    assert!(files.iter().any(|(path, _)| path == "lib.rs"), "no sources found in {}", source.display());
    let found = violations(&files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn collect(folder: &Path, root: &Path, files: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, root, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let content =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            files.push((name, content));
        }
    }
}

/// Everything that is wrong, as `src/file:line: what`.
fn violations(files: &[(String, String)]) -> Vec<String> {
    let doors: BTreeSet<String> = files
        .iter()
        .map(|(path, _)| module_of(path))
        .filter(|module| module.first().is_some_and(|first| first == "doors"))
        .filter_map(|module| module.get(1).cloned())
        .collect();
    files.iter().flat_map(|(path, source)| check_file(path, source, &doors)).collect()
}

fn check_file(path: &str, source: &str, doors: &BTreeSet<String>) -> Vec<String> {
    let tokens = tokens(source);
    let module = module_of(path);
    let from = node(&module, doors);
    let mut found = Vec::new();
    let mut complain = |line: usize, what: String| found.push(format!("src/{path}:{line}: {what}"));

    if from != ROOT && row(&from).is_none() {
        complain(1, format!("{from} is not in the table of layers: say what it may import"));
    }
    for reference in references(&tokens, &module) {
        match reference.target {
            Target::Root => complain(
                reference.line,
                "imports the root of the crate, which hides what is used of it: name the module".to_owned(),
            ),
            Target::Module(target) => {
                let to = node(&target, doors);
                if !may_import(&from, &to) {
                    complain(reference.line, format!("{from} may not import {to}"));
                }
            }
            Target::Outside(name) => {
                if PURE.contains(&from.as_str()) && OUTSIDE.contains(&name.as_str()) {
                    complain(reference.line, format!("{from} is pure and may not use {name}"));
                }
            }
        }
    }
    let mut before = "";
    for (token, next) in tokens.iter().zip(tokens.iter().skip(1).map(Token::text)) {
        match token.text() {
            "sqlx" if from != "store" => {
                complain(token.line, format!("{from} may not use sqlx: SQL stands in store"));
            }
            "path" if before == "[" && next == "=" && leads_out(source, token.line) => {
                complain(token.line, "#[path] leads out of its folder".to_owned());
            }
            "include" if next == "!" => {
                complain(token.line, "code of another file comes as a module: no include!".to_owned());
            }
            _ => {}
        }
        before = token.text();
    }
    let length = source.lines().count() - lines_of_tests(&tokens);
    if length > LONGEST_FILE && !is_test_file(path) {
        complain(1, format!("{length} lines without its tests: more than {LONGEST_FILE}, split it"));
    }
    found.dedup();
    found
}

/// Whether the file of a `#[path = "…"]` may lie in another module's folder.
fn leads_out(source: &str, line: usize) -> bool {
    source.lines().nth(line - 1).is_none_or(|text| text.contains("../") || text.contains("\"/"))
}

fn row(node: &str) -> Option<&'static [&'static str]> {
    let name = if node.starts_with("doors::") && node != "doors::kit" { ANY_DOOR } else { node };
    TABLE.iter().find(|(module, _)| *module == name).map(|(_, allowed)| *allowed)
}

fn may_import(from: &str, to: &str) -> bool {
    if from == to {
        return true;
    }
    if EVERYWHERE.contains(&to) && !ON_THEIR_OWN.contains(&from) {
        return true;
    }
    let Some(allowed) = row(from) else { return false };
    allowed.contains(&to) || (to.starts_with("doors::") && allowed.contains(&ANY_DOOR))
}

/// The path of the module that a file is.
fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    if module.first().is_some_and(|first| ["lib", "main", "bin"].contains(&first.as_str())) {
        module.clear();
    }
    module
}

/// The line of the table that a module belongs to.
fn node(module: &[String], doors: &BTreeSet<String>) -> String {
    match module {
        [] => ROOT.to_owned(),
        [first, second, ..] if first == "doors" && doors.contains(second) => format!("doors::{second}"),
        [first, ..] => first.clone(),
    }
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}
