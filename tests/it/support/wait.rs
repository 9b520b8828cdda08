//! Waiting for a state, with a deadline: never a sleep in the hope that it is long enough.

use std::time::{Duration, Instant};

/// Long enough for a machine that is busy with something else; a test that passes never waits so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(20);

/// Asks again and again until `probe` gives something, and fails with `what` when the deadline is over.
pub async fn wait_until<T>(deadline: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}
