//! Waits for what seldom happens without looking at it each time that the task is woken for something else.

use std::task::{Context, Poll, Waker};

/// Whom something that is waited for wakes when it happens.
#[derive(Default)]
pub struct Seldom(Option<Waker>);

impl Seldom {
    /// Looks if it may have happened, or would not wake this task yet.
    pub fn look(
        &mut self,
        may_have_happened: bool,
        context: &mut Context<'_>,
        look: impl FnOnce(&mut Context<'_>) -> Poll<()>,
    ) -> bool {
        let will_wake = self.0.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if will_wake && !may_have_happened {
            return false;
        }
        self.0 = Some(context.waker().clone());
        look(context).is_ready()
    }

    /// It is another thing now that is waited for.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}
