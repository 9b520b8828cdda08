//! Whose turn is when.

use std::{collections::BTreeSet, num::NonZeroU64, pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// A queue in the order of time. What waits in it is no more than a number, and takes little room.
pub(super) struct Turns<No> {
    begin: Instant,
    waiting: BTreeSet<(Turn, No)>,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Microseconds since the queue was made, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(NonZeroU64);

impl<No> Default for Turns<No> {
    fn default() -> Self {
        Self { begin: Instant::now(), waiting: BTreeSet::new(), alarm: None }
    }
}

impl<No: Copy + Ord> Turns<No> {
    pub fn add(&mut self, no: No, wait: Duration) -> Turn {
        let micros = (self.begin.elapsed() + wait).as_micros();
        let turn = Turn(
            u64::try_from(micros).map_or(NonZeroU64::MAX, |micros| NonZeroU64::MIN.saturating_add(micros)),
        );
        self.waiting.insert((turn, no));
        turn
    }

    fn time(&self, Turn(micros): Turn) -> Instant {
        self.begin + Duration::from_micros(micros.get() - 1)
    }

    pub fn remove(&mut self, turn: Turn, no: No) {
        self.waiting.remove(&(turn, no));
    }

    /// Gives it another turn.
    pub fn put_off(&mut self, turn: &mut Turn, no: No, wait: Duration) {
        self.remove(*turn, no);
        *turn = self.add(no, wait);
    }

    /// The next one, when its turn comes. Waits while there is none.
    pub async fn next(&mut self) -> No {
        loop {
            let Some((turn, _)) = self.waiting.first() else {
                return std::future::pending().await;
            };
            let at = self.time(*turn);
            if at <= Instant::now()
                && let Some((_, no)) = self.waiting.pop_first()
            {
                return no;
            }
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if alarm.deadline() != at {
                alarm.as_mut().reset(at);
            }
            alarm.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_has_its_turn_and_none_before_it() {
        let mut turns = Turns::default();
        let begin = Instant::now();
        turns.add('b', 2 * SECOND);
        turns.add('a', SECOND);
        turns.add('c', 2 * SECOND);
        for (no, after) in [('a', 1), ('b', 2), ('c', 2)] {
            assert_eq!(turns.next().await, no);
            assert_eq!(begin.elapsed().as_secs(), after);
        }
        assert!(turns.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_can_be_another_one_or_none() {
        let mut turns = Turns::default();
        let (mut first, second) = (turns.add(1, SECOND), turns.add(2, 2 * SECOND));
        assert!(turns.next().now_or_never().is_none(), "it waits for the first one");
        turns.put_off(&mut first, 1, 3 * SECOND);
        turns.remove(second, 2);
        let begin = Instant::now();
        assert_eq!(turns.next().await, 1);
        assert_eq!(begin.elapsed().as_secs(), 3);
        turns.put_off(&mut first, 1, Duration::ZERO);
        assert_eq!(turns.next().now_or_never(), Some(1), "at once");
        assert!(turns.waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_first_is_not_waited_past() {
        let mut turns = Turns::default();
        turns.add(2, 10 * SECOND);
        assert!(turns.next().now_or_never().is_none());
        turns.add(1, SECOND);
        let begin = Instant::now();
        assert_eq!(turns.next().await, 1);
        assert_eq!(begin.elapsed().as_secs(), 1);
    }
}
