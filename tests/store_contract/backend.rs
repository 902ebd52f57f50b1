//! What the suite asks of whatever runs a store for it.

use std::sync::Arc;

use async_trait::async_trait;
use postrider::store::{Limits, Store};

/// Runs one kind of store for one test, apart from every other test.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// A store with these limits that shares nothing with others opened here.
    async fn open(&self, limits: Limits) -> Arc<dyn Store>;

    /// Stops and starts whatever the stores stand on; everything is kept.
    /// Heartbeats may lapse meanwhile.
    async fn restart(&self);

    /// The data is in another life from now on, with nothing lost; calls may fail
    /// for a moment.
    async fn begin_life(&self);

    /// Remembers the state of now for [`lose`](Self::lose).
    async fn save(&self);

    /// Crashes and comes back with what was last saved: everything since is lost.
    async fn lose(&self);

    /// How many random histories are affordable.
    fn random_histories(&self) -> u64;
}
