//! Keeps what may happen a thousand times a second from filling the log.

use std::time::Duration;

use tokio::time::Instant;

const TELL_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Told {
    /// It happened again. How often since it was last told, if it is time to tell it.
    pub fn again(&mut self) -> Option<u64> {
        self.untold += 1;
        if self.last.is_some_and(|last| last.elapsed() < TELL_EVERY) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_told_once_a_second() {
        let mut told = Told::default();
        assert_eq!(told.again(), Some(1));
        assert_eq!(told.again(), None);
        assert_eq!(told.again(), None);
        tokio::time::advance(TELL_EVERY).await;
        assert_eq!(told.again(), Some(3));
    }
}
