//! Stopping: signals, the token that says so, the tasks that are waited for.
//!
//! One [`Shutdown`] per process (or per node in a test), cloned freely. It goes
//! through two phases: *draining* (leave politely: unready, sessions moved,
//! streams handed over) and *closing* (what still runs must end now). Every
//! task is spawned through it, so none is forgotten, upgraded sockets included.
//!
//! Knows nothing of ours. A task that ignores both phases is abandoned when the
//! deadline of [`Shutdown::finish`] passes.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The handle through which everything learns that the process is to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A handle in neither phase.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to drain; calling it again changes nothing.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Whether draining has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Cancelled when draining begins.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Tells every task to end now; implies draining.
    pub fn close(&self) {
        self.draining.cancel();
        self.closing.cancel();
    }

    /// Cancelled when tasks must end.
    #[must_use]
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Spawns a task that [`Self::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// How many spawned tasks have not ended.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Closes, waits until every task has ended or `deadline` has passed, and
    /// says how many are left.
    pub async fn finish(&self, deadline: Duration) -> usize {
        self.close();
        self.tasks.close();
        let _ = timeout(deadline, self.tasks.wait()).await;
        self.tasks.len()
    }
}

/// The signals that stop a process: SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    term: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes the signals over from their default action, which is to kill.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    #[cfg(unix)]
    pub fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal; returns the exit code that stands for dying of it.
    #[cfg(unix)]
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.term.recv() => 128 + 15,
            _ = self.interrupt.recv() => 128 + 2,
        }
    }

    /// Nothing to install: Ctrl-C is watched for when waited for.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(unix))]
    pub fn install() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for Ctrl-C; returns the exit code that stands for dying of it.
    #[cfg(not(unix))]
    pub async fn next(&mut self) -> u8 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        128 + 2
    }

    /// The first signal begins the drain; returns, with the exit code, at the second.
    pub async fn govern(mut self, shutdown: &Shutdown) -> u8 {
        self.next().await;
        tracing::info!("signal received, draining; a second one exits at once");
        shutdown.drain();
        self.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_that_heed_the_close_are_waited_for() {
        let shutdown = Shutdown::new();
        let closing = shutdown.closing().clone();
        let task = shutdown.spawn(async move {
            closing.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            7
        });
        assert!(!shutdown.is_draining());
        assert_eq!(shutdown.finish(Duration::from_secs(5)).await, 0);
        assert!(shutdown.is_draining());
        assert_eq!(task.await.expect("ended"), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_counted_at_the_deadline() {
        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending::<()>());
        let begun = tokio::time::Instant::now();
        assert_eq!(shutdown.finish(Duration::from_secs(2)).await, 1);
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn draining_does_not_end_tasks() {
        let shutdown = Shutdown::new();
        shutdown.drain();
        assert!(shutdown.draining().is_cancelled());
        assert!(!shutdown.closing().is_cancelled());
    }
}
