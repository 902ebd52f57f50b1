//! What the runtime that serves is doing.

use tokio::runtime::{Handle, RuntimeMetrics};

use super::Handles;

/// The runtime that samples itself.
pub(super) struct Runtime {
    metrics: RuntimeMetrics,
}

impl Runtime {
    /// The one that this is called in.
    pub(super) fn current() -> Self {
        Self { metrics: Handle::current().metrics() }
    }

    /// Looks.
    pub(super) fn sample(&self, handles: &Handles) {
        let workers = self.metrics.num_workers();
        handles.runtime_workers.set(workers as f64);
        handles.runtime_tasks.set(self.metrics.num_alive_tasks() as f64);
        let busy = (0..workers).map(|worker| self.metrics.worker_total_busy_duration(worker)).sum();
        handles.runtime_busy_seconds.absolute(busy);
    }
}
