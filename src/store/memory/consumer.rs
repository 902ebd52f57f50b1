//! The reader of a node's stream.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::protocol::NodeId;
use crate::store::{self, EntryAcks, EntryId, Error, StreamEntry};

use super::Store;

/// How long an empty stream is watched before the reader hears of it.
const WAIT: Duration = Duration::from_secs(1);

/// Reads what is pending first, then what is new.
pub(super) struct Consumer {
    store: Store,
    node: NodeId,
    news: Arc<Notify>,
    /// The last pending entry that was read again; none when all were.
    pending_after: Option<EntryId>,
}

impl Consumer {
    pub(super) fn new(store: Store, node: NodeId, news: Arc<Notify>) -> Self {
        Self { store, node, news, pending_after: Some(EntryId::default()) }
    }
}

#[async_trait]
impl store::Consumer for Consumer {
    async fn next(&mut self, mut acks: EntryAcks, entries_max: usize) -> Result<Vec<StreamEntry>, Error> {
        // A stream that never runs empty must not keep the thread from others.
        tokio::task::coop::consume_budget().await;
        let deadline = Instant::now() + WAIT;
        let news = Arc::clone(&self.news);
        loop {
            // Before looking, so that nothing comes unnoticed in between.
            let mut woken = std::pin::pin!(news.notified());
            woken.as_mut().enable();
            let acks = std::mem::take(&mut acks);
            let entries = self.store.with_nodes(|nodes, now| {
                nodes.consume(self.node, &acks, &mut self.pending_after, entries_max, now)
            })?;
            if !entries.is_empty() || timeout_at(deadline, woken).await.is_err() {
                return Ok(entries);
            }
        }
    }
}
