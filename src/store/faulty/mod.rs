//! A store whose network misbehaves: for simulations.
//!
//! Wraps any [`Store`](super::Store) and lets calls be slow, be refused, time
//! out without effect, with it, or with it happening later, and lets entries
//! vanish or arrive twice. What happens to the n-th call follows from the seed,
//! so a simulation under a paused clock repeats itself. Every node of a
//! simulation gets its own wrapper around the store they share, so that each
//! can be cut off alone.
//!
//! It invents no answers and starts no tasks: calls that take effect late do so
//! within the next call after they are due.

mod access;
mod consumer;
mod forward;
mod inquiries;
mod plan;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Error;
use plan::{Fate, Plan};

pub use plan::Faults;

/// The wrapper; clones share their faults.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn super::Store>,
    plan: Arc<Mutex<Plan>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("inner", &self.inner).field("faults", &self.plan().faults).finish()
    }
}

impl Store {
    /// Wraps `inner`; `seed` decides which calls go wrong.
    #[must_use]
    pub fn new(inner: Arc<dyn super::Store>, seed: u64, faults: Faults) -> Self {
        Self { inner, plan: Arc::new(Mutex::new(Plan::new(seed, faults))) }
    }

    /// Changes what goes wrong from now on.
    pub fn set(&self, faults: Faults) {
        self.plan().faults = faults;
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_what_is_late(&self) {
        let now = Instant::now();
        while let Some(effect) = { self.plan().take_due(now) } {
            effect.await;
        }
    }

    /// Lets `run` happen, or not, as its fate wants.
    async fn call<T, F>(
        &self,
        what: &'static str,
        run: impl FnOnce(Arc<dyn super::Store>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let trip = self.plan().trip();
        let deadline = Instant::now() + trip.deadline;
        sleep_if_any(trip.there).await;
        self.run_what_is_late().await;
        let effect = run(Arc::clone(&self.inner));
        match trip.fate {
            Fate::Answered => {
                let answer = effect.await;
                sleep_if_any(trip.back).await;
                return answer;
            }
            Fate::Refused => return Err(closed()),
            Fate::Lost => {}
            Fate::Unanswered => {
                // Whatever it answers, nobody hears it.
                let _ = effect.await;
            }
            Fate::Late(after) => {
                let effect = async move {
                    let _ = effect.await;
                };
                self.plan().postpone(deadline + after, Box::pin(effect));
            }
        }
        sleep_until(deadline).await;
        Err(timeout(what, trip.deadline))
    }
}

/// A sleep of no length would still be one of a millisecond.
async fn sleep_if_any(delay: Duration) {
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

fn timeout(what: &'static str, deadline: Duration) -> Error {
    Error::Timeout { what, after_ms: deadline.as_millis() as u64 }
}

fn closed() -> Error {
    Error::Unavailable("the simulated connection is closed".into())
}
