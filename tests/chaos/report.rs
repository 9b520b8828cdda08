//! What a run says of itself: faults by kind, operations, recovery times, and a verdict for each check.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// So many findings of a check are printed.
const SHOWN: usize = 5;
const LONGEST_FINDING: usize = 1200;

pub struct Report {
    begun: Instant,
    scenario: String,
    faults: BTreeMap<String, usize>,
    counts: Vec<(String, usize)>,
    recoveries: BTreeMap<String, Vec<Duration>>,
    passed: usize,
    failed: Vec<String>,
    failed_here: bool,
}

impl Report {
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            scenario: String::new(),
            faults: BTreeMap::new(),
            counts: Vec::new(),
            recoveries: BTreeMap::new(),
            passed: 0,
            failed: Vec::new(),
            failed_here: false,
        }
    }

    #[expect(clippy::print_stdout, reason = "the report is what the program is for")]
    pub fn say(&self, text: &str) {
        println!("{:7.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    pub fn begin(&mut self, scenario: &str) {
        scenario.clone_into(&mut self.scenario);
        self.failed_here = false;
        self.faults.clear();
        self.counts.clear();
        self.recoveries.clear();
        self.say(&format!("== {scenario}"));
    }

    pub fn fault(&mut self, kind: &str) {
        *self.faults.entry(kind.to_owned()).or_default() += 1;
    }

    pub fn faults(&self) -> usize {
        self.faults.values().sum()
    }

    pub fn count(&mut self, what: &str, number: usize) {
        self.counts.push((what.to_owned(), number));
    }

    pub fn recovered(&mut self, what: &str, after: Duration) {
        self.recoveries.entry(what.to_owned()).or_default().push(after);
    }

    /// A check, which is passed when nothing was found.
    pub fn check(&mut self, what: &str, findings: &[String]) {
        if findings.is_empty() {
            self.passed += 1;
            self.say(&format!("   ok      {what}"));
            return;
        }
        self.failed.push(format!("{}: {what}", self.scenario));
        self.failed_here = true;
        self.say(&format!("   FAILED  {what}: {} findings", findings.len()));
        for finding in findings.iter().take(SHOWN) {
            let short: String = finding.chars().take(LONGEST_FINDING).collect();
            self.say(&format!("             {short}"));
        }
    }

    pub fn has_failed_here(&self) -> bool {
        self.failed_here
    }

    /// Ends a scenario: its figures.
    pub fn end(&mut self) {
        if !self.faults.is_empty() {
            self.say(&format!("faults: {} of {} kinds", self.faults(), self.faults.len()));
            for (kind, times) in &self.faults {
                self.say(&format!("   {times:4} × {kind}"));
            }
        }
        for (what, number) in &self.counts {
            self.say(&format!("{number:9} {what}"));
        }
        for (what, times) in &self.recoveries {
            let mut times = times.clone();
            times.sort_unstable();
            let (p50, most) = (times[times.len() / 2], times[times.len() - 1]);
            let count = times.len();
            self.say(&format!(
                "{what}: p50 {:.3} s, max {:.3} s ({count} times)",
                p50.as_secs_f64(),
                most.as_secs_f64()
            ));
        }
    }

    pub fn slowest(&self, what: &str) -> Option<Duration> {
        self.recoveries.get(what)?.iter().max().copied()
    }

    /// The last lines. Whether all was well.
    #[expect(clippy::print_stdout, reason = "the report is what the program is for")]
    pub fn verdict(&self) -> bool {
        for failed in &self.failed {
            println!("FAILED {failed}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        self.failed.is_empty()
    }
}
