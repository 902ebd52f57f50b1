//! Runs the embedded store, bare or behind a slow network.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use postrider::store::faulty::{self, Faults};
use postrider::store::memory::{self, Copy};
use postrider::store::{Limits, Store};

use crate::backend::Backend;

/// The stores opened so far, with what was last saved of each.
pub(crate) struct MemoryBackend {
    stores: Mutex<Vec<(memory::Store, Copy)>>,
    random_histories: u64,
    /// Probability that a call of a store takes a while.
    delayed: f64,
}

/// For tests that wait for real.
pub(crate) async fn start() -> MemoryBackend {
    MemoryBackend { stores: Mutex::default(), random_histories: 2, delayed: 0.0 }
}

/// For tests whose clock is paused.
pub(crate) async fn start_paused() -> MemoryBackend {
    MemoryBackend { stores: Mutex::default(), random_histories: 100, delayed: 0.0 }
}

/// For tests whose clock is paused, with answers that overtake one another.
pub(crate) async fn start_delayed() -> MemoryBackend {
    MemoryBackend { stores: Mutex::default(), random_histories: 10, delayed: 0.2 }
}

impl MemoryBackend {
    fn stores(&self) -> MutexGuard<'_, Vec<(memory::Store, Copy)>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn open(&self, limits: Limits) -> Arc<dyn Store> {
        let store = memory::Store::new(limits);
        self.stores().push((store.clone(), store.copy()));
        let delay_max = Duration::from_millis(3);
        let faults = Faults { delayed: self.delayed, delay_max, ..Faults::default() };
        if self.delayed > 0.0 {
            Arc::new(faulty::Store::new(Arc::new(store), 1, faults))
        } else {
            Arc::new(store)
        }
    }

    async fn restart(&self) {
        self.stores().iter().for_each(|(store, _)| store.restart(&store.copy()));
    }

    async fn begin_life(&self) {
        self.restart().await;
    }

    async fn save(&self) {
        self.stores().iter_mut().for_each(|(store, saved)| *saved = store.copy());
    }

    async fn lose(&self) {
        self.stores().iter().for_each(|(store, saved)| store.restart(saved));
    }

    fn random_histories(&self) -> u64 {
        self.random_histories
    }
}
