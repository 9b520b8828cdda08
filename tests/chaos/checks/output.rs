//! What the replicas wrote into their logs: no panic, and no error without a cause.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;

/// Messages of level ERROR that a fault of ours is the cause of.
pub type Expected = &'static [&'static str];

pub fn check(files: &[PathBuf], expected: Expected) -> Vec<String> {
    let mut findings: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap_or_default();
        for line in text.lines() {
            if let Some(finding) = finding(line, expected) {
                *findings.entry(finding).or_default() += 1;
            }
        }
    }
    findings.into_iter().map(|(finding, times)| format!("{times} × {finding}")).collect()
}

fn finding(line: &str, expected: Expected) -> Option<String> {
    let Ok(told) = serde_json::from_str::<Value>(line) else {
        // before the log is set up, and where the standard library speaks
        return line.contains("panicked").then(|| line.to_owned());
    };
    let message = told["message"].as_str().unwrap_or_default();
    let panicked = message.contains("panicked");
    let unexpected = told["level"] == "ERROR" && !expected.iter().any(|known| message.contains(known));
    let without_time = || {
        let mut told = told.clone();
        for field in ["timestamp", "target", "request_id", "path", "batch", "revision"] {
            told.as_object_mut().map(|fields| fields.remove(field));
        }
        told.to_string()
    };
    (panicked || unexpected).then(without_time)
}
