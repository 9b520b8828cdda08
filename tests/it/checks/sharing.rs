//! Replicas share the checks out.

use std::time::{Duration, Instant};

use serde_json::json;

use super::checked;
use crate::support::{Answer, HealthTarget, PATIENCE, TestApp, wait_until};

const TARGETS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_check_is_run_by_one_replica_and_taken_over_when_that_is_gone() {
    let first = TestApp::start_checking().await;
    let others = [
        TestApp::start_with(first.database(), |settings| settings.checker = true).await,
        TestApp::start_with(first.database(), |settings| settings.checker = true).await,
    ];
    wait_until(PATIENCE, "all three are there", async || {
        let there =
            "select count(*) from rollcall.replicas where checks and alive_at > now() - interval '3 seconds'";
        let there: i64 =
            sqlx::query_scalar(there).fetch_one(&mut first.database().connect().await).await.unwrap();
        (there == 3).then_some(())
    })
    .await;
    let mut targets = Vec::new();
    for number in 0..TARGETS {
        let target = HealthTarget::start(Answer::Status(200)).await;
        let check = json!({"kind": "http", "interval": "1s"});
        first.registered(&checked(&format!("shared-{number}"), target.port(), &json!([check]))).await;
        targets.push(target);
    }
    let asked = |at_least: usize| {
        let targets = &targets;
        async move {
            wait_until(PATIENCE, "all targets are asked", async || {
                targets.iter().all(|target| target.times_asked() >= at_least).then_some(())
            })
            .await;
        }
    };
    asked(3).await;
    // from here on every replica knows of the others, and each target is asked once an interval
    let before: Vec<_> = targets.iter().map(HealthTarget::times_asked).collect();
    let begun = Instant::now();
    asked(8).await;
    let intervals = begun.elapsed();
    for (target, before) in targets.iter().zip(before) {
        let times = target.times_asked() - before;
        let taken = Duration::from_secs(1) * u32::try_from(times).unwrap();
        assert!(taken <= intervals + Duration::from_secs(1), "{times} times in {intervals:?}");
    }
    // two of the three go, and what was theirs is run by the one that is left
    drop(others);
    let before: Vec<_> = targets.iter().map(HealthTarget::times_asked).collect();
    let gone = Instant::now();
    wait_until(Duration::from_secs(10), "all targets are asked again", async || {
        let again = |(target, before): (&HealthTarget, &usize)| target.times_asked() >= before + 2;
        targets.iter().zip(&before).all(again).then_some(())
    })
    .await;
    assert!(gone.elapsed() < Duration::from_secs(10));
}
