//! Waiting for a state, with a deadline: never a sleep in the hope that it is long enough.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(10);

/// Asks again and again until `probe` gives something. None when the deadline is over.
pub async fn wait_for<T>(deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return Some(found);
        }
        if start.elapsed() >= deadline {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
