//! Background tasks that are tracked and stopped together.

use std::{future::Future, thread::available_parallelism, time::Duration};

use tokio::runtime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::error::ServeError;
use crate::telemetry::chain;

/// The tasks of one stage of the stop.
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Tasks {
    /// `failed` is cancelled when a task ends before it was asked to.
    pub fn new(failed: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), failed }
    }

    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// A task that runs until it is stopped.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.watch(
            name,
            async move {
                task.await;
                Ok(())
            },
            false,
        );
    }

    /// The same, as soon as something else is done.
    pub fn spawn_after(
        &self,
        done: &CancellationToken,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (done, stop) = (done.clone(), self.stop());
        self.spawn(name, async move {
            tokio::select! {
                () = done.cancelled() => {}
                () = stop.cancelled() => {}
            }
            task.await;
        });
    }

    /// The same on a thread of its own: what it waits for does not come after all that the others have to do. Where there
    /// is but one core, a thread more would only take turns with them.
    pub fn spawn_aside_after(
        &self,
        done: &CancellationToken,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        if available_parallelism().is_ok_and(|cores| cores.get() == 1) {
            return self.spawn_after(done, name, task);
        }
        let dropped = CancellationToken::new();
        let guard = dropped.clone().drop_guard();
        let aside = move || match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => drop(runtime.block_on(dropped.run_until_cancelled(task))),
            Err(error) => tracing::error!(error = chain(&error), name, "a task cannot be run"),
        };
        self.spawn_after(done, name, async move {
            // a thread would outlive whoever waits for it
            let _guard = guard;
            if let Err(error) = tokio::task::spawn_blocking(aside).await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        });
    }

    /// A task that ends by itself when its work is done.
    pub fn spawn_finite(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), ServeError>> + Send + 'static,
    ) {
        self.watch(name, task, true);
    }

    fn watch(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), ServeError>> + Send + 'static,
        may_end: bool,
    ) {
        let handle = self.tracker.spawn(task);
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        self.tracker.spawn(async move {
            let fault = match handle.await {
                Ok(Ok(())) if may_end || stop.is_cancelled() => return,
                Ok(Ok(())) => "it ended by itself".to_owned(),
                Ok(Err(error)) => chain(&error),
                Err(panic) => panic.to_string(),
            };
            tracing::error!(task = name, fault, "a background task failed");
            failed.cancel();
        });
    }

    /// Asks all to end, and waits for them. False when they did not in time.
    pub async fn end(&self, within: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(within, self.tracker.wait()).await.is_ok()
    }
}
