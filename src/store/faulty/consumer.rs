//! The reader of a node stream behind the faults.

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use super::plan::Fate;
use super::{Store, closed, sleep_if_any, timeout};
use crate::protocol::NodeId;
use crate::store::{Consumer, EntryAcks, Error, StreamEntry};

/// Reads through the wrapper. After a failure the inner reader is opened anew,
/// so that what it read in vain is read again.
pub(super) struct FaultyConsumer {
    store: Store,
    node: NodeId,
    inner: Option<Box<dyn Consumer>>,
}

impl FaultyConsumer {
    pub(super) fn new(store: Store, node: NodeId, inner: Box<dyn Consumer>) -> Self {
        Self { store, node, inner: Some(inner) }
    }
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn next(&mut self, acks: EntryAcks, entries_max: usize) -> Result<Vec<StreamEntry>, Error> {
        let trip = self.store.plan().trip();
        let deadline = Instant::now() + trip.deadline;
        sleep_if_any(trip.there).await;
        self.store.run_what_is_late().await;
        // Taken out until it answered: whoever gives up waiting has failed too.
        let inner = self.inner.take();
        match trip.fate {
            Fate::Refused => return Err(closed()),
            Fate::Lost => {}
            Fate::Answered | Fate::Unanswered | Fate::Late(_) => {
                let mut inner = match inner {
                    Some(inner) => inner,
                    None => self.store.inner.consume(self.node).await?,
                };
                let entries = inner.next(acks, entries_max).await?;
                // The answer may have waited for long: the way back counts too.
                if trip.fate == Fate::Answered && !self.store.plan().faults.cut {
                    sleep_if_any(trip.back).await;
                    self.inner = Some(inner);
                    return Ok(entries);
                }
            }
        }
        sleep_until(deadline).await;
        Err(timeout("read a node stream", trip.deadline))
    }
}
