//! The state machine of a check, cell by cell, and what its steps can never do.

use proptest::prelude::*;

use super::*;
use Seen::{Failing, Lapsed, Passing, Warning};
use Status::{Degraded, Healthy, Starting, Unhealthy, Unknown};

const CLASSIC: Thresholds = Thresholds { degraded_after: 1, unhealthy_after: 3, healthy_after: 1 };
/// Each threshold is one that takes several steps to reach.
const SLOW: Thresholds = Thresholds { degraded_after: 2, unhealthy_after: 4, healthy_after: 3 };

type Cell = (Status, u16, u16);

fn check_table(thresholds: Thresholds, table: &[(Cell, Seen, Option<Cell>)]) {
    for ((status, failures, successes), seen, expected) in table.iter().copied() {
        let before = CheckState { status, failures, successes, changes: 7 };
        let after = before.after(seen, thresholds);
        let cell = after.map(|state| (state.status, state.failures, state.successes));
        assert_eq!(cell, expected, "{before:?} {seen:?}");
        assert!(after.is_none_or(|state| state.changes == 8));
    }
}

#[test]
fn every_cell_with_the_thresholds_that_are_the_default() {
    assert_eq!(Thresholds::default(), CLASSIC);
    check_table(
        CLASSIC,
        &[
            ((Unknown, 0, 0), Passing, Some((Healthy, 0, 0))),
            ((Unknown, 0, 0), Warning, Some((Degraded, 0, 0))),
            ((Unknown, 0, 0), Failing, Some((Degraded, 1, 0))),
            ((Unknown, 0, 0), Lapsed, Some((Unhealthy, 3, 0))),
            ((Starting, 0, 0), Passing, Some((Healthy, 0, 0))),
            ((Starting, 0, 0), Warning, Some((Degraded, 0, 0))),
            ((Starting, 0, 0), Failing, Some((Degraded, 1, 0))),
            ((Starting, 0, 0), Lapsed, Some((Unhealthy, 3, 0))),
            ((Healthy, 0, 0), Passing, None),
            ((Healthy, 0, 0), Warning, Some((Degraded, 0, 0))),
            ((Healthy, 0, 0), Failing, Some((Degraded, 1, 0))),
            ((Healthy, 0, 0), Lapsed, Some((Unhealthy, 3, 0))),
            ((Degraded, 0, 0), Passing, Some((Healthy, 0, 0))),
            ((Degraded, 0, 0), Warning, None),
            ((Degraded, 0, 0), Failing, Some((Degraded, 1, 0))),
            ((Degraded, 1, 0), Passing, Some((Healthy, 0, 0))),
            ((Degraded, 1, 0), Warning, Some((Degraded, 0, 0))),
            ((Degraded, 1, 0), Failing, Some((Degraded, 2, 0))),
            ((Degraded, 1, 0), Lapsed, Some((Unhealthy, 3, 0))),
            ((Degraded, 2, 0), Passing, Some((Healthy, 0, 0))),
            ((Degraded, 2, 0), Warning, Some((Degraded, 0, 0))),
            ((Degraded, 2, 0), Failing, Some((Unhealthy, 3, 0))),
            ((Degraded, 2, 0), Lapsed, Some((Unhealthy, 3, 0))),
            ((Unhealthy, 3, 0), Passing, Some((Healthy, 0, 0))),
            ((Unhealthy, 3, 0), Warning, Some((Degraded, 0, 0))),
            ((Unhealthy, 3, 0), Failing, None),
            ((Unhealthy, 3, 0), Lapsed, None),
        ],
    );
}

#[test]
fn every_cell_where_each_threshold_takes_several_steps() {
    check_table(
        SLOW,
        &[
            ((Unknown, 0, 0), Passing, Some((Unknown, 0, 1))),
            ((Unknown, 0, 1), Passing, Some((Unknown, 0, 2))),
            ((Unknown, 0, 2), Passing, Some((Healthy, 0, 0))),
            ((Unknown, 0, 2), Warning, Some((Degraded, 0, 0))),
            ((Unknown, 0, 2), Failing, Some((Unknown, 1, 0))),
            ((Unknown, 1, 0), Failing, Some((Degraded, 2, 0))),
            ((Unknown, 1, 0), Passing, Some((Unknown, 0, 1))),
            ((Unknown, 1, 0), Lapsed, Some((Unhealthy, 4, 0))),
            ((Healthy, 0, 0), Passing, None),
            ((Healthy, 0, 0), Failing, Some((Healthy, 1, 0))),
            ((Healthy, 1, 0), Passing, Some((Healthy, 0, 0))),
            ((Healthy, 1, 0), Failing, Some((Degraded, 2, 0))),
            ((Degraded, 2, 0), Failing, Some((Degraded, 3, 0))),
            ((Degraded, 3, 0), Failing, Some((Unhealthy, 4, 0))),
            ((Degraded, 3, 0), Passing, Some((Degraded, 0, 1))),
            ((Degraded, 0, 1), Passing, Some((Degraded, 0, 2))),
            ((Degraded, 0, 2), Passing, Some((Healthy, 0, 0))),
            ((Degraded, 0, 2), Failing, Some((Degraded, 1, 0))),
            ((Degraded, 0, 2), Warning, Some((Degraded, 0, 0))),
            ((Unhealthy, 4, 0), Failing, None),
            ((Unhealthy, 4, 0), Lapsed, None),
            ((Unhealthy, 4, 0), Passing, Some((Unhealthy, 0, 1))),
            // ill it stays until enough good results have come in a row
            ((Unhealthy, 0, 1), Failing, Some((Unhealthy, 1, 0))),
            ((Unhealthy, 1, 0), Failing, Some((Unhealthy, 2, 0))),
            ((Unhealthy, 0, 2), Passing, Some((Healthy, 0, 0))),
            ((Unhealthy, 0, 2), Lapsed, Some((Unhealthy, 4, 0))),
            ((Unhealthy, 0, 2), Warning, Some((Degraded, 0, 0))),
        ],
    );
}

#[test]
fn one_report_decides_for_an_instance_without_checks() {
    let once = Thresholds { degraded_after: 1, unhealthy_after: 1, healthy_after: 1 };
    let ill = CheckState::new(Healthy).after(Failing, once).unwrap();
    assert_eq!((ill.status, ill.failures), (Unhealthy, 1));
    assert_eq!(ill.after(Failing, once), None);
}

/// A million steps of checks with all kinds of thresholds, beside the plainest account of what has been seen.
#[test]
fn a_million_steps_keep_to_the_rules() {
    const STEPS: usize = 1000;
    let thresholds = (1_u16..6, 1_u16..6, 1_u16..6).prop_map(|(degraded, unhealthy, healthy)| Thresholds {
        degraded_after: degraded,
        unhealthy_after: unhealthy,
        healthy_after: healthy,
    });
    // good and bad results in runs, as they come
    let run = (
        prop_oneof![6 => Just(Passing), 6 => Just(Failing), 1 => Just(Warning), 1 => Just(Lapsed)],
        1_usize..8,
    );
    let runs = proptest::collection::vec(run, STEPS / 2);
    let config = ProptestConfig { cases: 1100, failure_persistence: None, ..ProptestConfig::default() };
    let steps = std::cell::Cell::new(0_u64);
    proptest!(config, |(thresholds in thresholds, runs in runs)| {
        let mut state = CheckState::new(Unknown);
        let (mut failures, mut successes) = (0_u16, 0_u16);
        for seen in runs.iter().flat_map(|(seen, times)| std::iter::repeat_n(*seen, *times)).take(STEPS) {
            steps.set(steps.get() + 1);
            failures = if seen == Failing { failures + 1 } else { 0 };
            successes = if seen == Passing { successes + 1 } else { 0 };
            let next = state.after(seen, thresholds).unwrap_or(state);
            if next.status == Unhealthy && state.status != Unhealthy {
                prop_assert!(seen == Lapsed || failures >= thresholds.unhealthy_after, "{state:?} {seen:?}");
            }
            if next.status == Healthy && state.status != Healthy {
                prop_assert!(successes >= thresholds.healthy_after, "{state:?} {seen:?}");
            }
            if next.status == Degraded && state.status != Degraded {
                prop_assert!(seen == Warning || failures >= thresholds.degraded_after, "{state:?} {seen:?}");
            }
            if failures >= thresholds.unhealthy_after {
                prop_assert_eq!(next.status, Unhealthy);
            }
            if successes >= thresholds.healthy_after {
                prop_assert_eq!(next.status, Healthy);
            }
            prop_assert!(next.failures <= thresholds.unhealthy_after);
            prop_assert!(next.successes < thresholds.healthy_after);
            state = next;
        }
    });
    assert!(steps.get() >= 1_000_000, "{steps:?}");
}

#[test]
fn the_worst_check_speaks_for_the_instance() {
    let health = |statuses: &[Status]| Health::of(statuses.iter().copied().map(CheckState::new)).status();
    for (statuses, expected) in [
        (&[Healthy][..], Healthy),
        (&[Healthy, Healthy], Healthy),
        (&[Healthy, Unknown], Unknown),
        (&[Unknown, Degraded], Degraded),
        (&[Degraded, Unhealthy, Healthy], Unhealthy),
        (&[], Healthy),
    ] {
        assert_eq!(health(statuses), expected, "{statuses:?}");
    }
    let both = Health::of([CheckState::new(Healthy), CheckState::new(Healthy)]);
    let ill = both.with(1, CheckState { failures: 3, ..CheckState::new(Unhealthy) });
    assert_eq!((ill.status(), ill.failures()), (Unhealthy, 3));
    assert_eq!(ill.state(0), Some(CheckState::new(Healthy)));
    assert_eq!(ill.with(9, CheckState::new(Healthy)), ill);
    assert_eq!(ill.state(9), None);
}

#[test]
fn health_is_written_as_before_where_there_is_one_check() {
    let one = Health::of([CheckState { status: Degraded, failures: 2, successes: 0, changes: 5 }]);
    let text = r#"{"status":"degraded","failures":2,"changes":5}"#;
    assert_eq!(serde_json::to_string(&one).unwrap(), text);
    assert_eq!(serde_json::from_str::<Health>(text).unwrap(), one);
    let two = Health::of([
        CheckState { status: Degraded, failures: 0, successes: 1, changes: 5 },
        CheckState::new(Unknown),
    ]);
    let text = serde_json::to_string(&two).unwrap();
    assert!(text.starts_with(r#"{"status":"degraded","failures":0,"changes":5,"checks":["#), "{text}");
    assert_eq!(serde_json::from_str::<Health>(&text).unwrap(), two);
}

#[test]
fn names_on_the_wire_lead_back_to_their_status() {
    for status in Status::ALL {
        assert_eq!(Status::parse(status.as_str()), Some(status));
        assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{}\"", status.as_str()));
    }
    assert_eq!(Status::parse("Healthy"), None);
}
