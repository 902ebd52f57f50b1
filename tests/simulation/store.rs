//! A store as one node sees it: everything goes through its [`Faults`].

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use postrider::protocol::{Channel, NodeId, Position, entry};
use postrider::store::{
    Ack, Append, Appended, Beat, Burial, ChannelInfo, Consumer, EntryAcks, EntryId, Error, Join, NodeInfo,
    NodeRecord, Page, Route, Sent, Settled, Start, Store, StreamEntry, StreamStats,
};

use crate::faults::{DEADLINE, EntryFate, Fate, Faults, LATE_MAX};

/// How much later a delayed entry comes at most.
const ENTRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// One node's way to the store that all share.
#[derive(Clone)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
    /// Every id that any node ever enrolled under.
    enrolled: Arc<Mutex<Vec<NodeId>>>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").finish_non_exhaustive()
    }
}

fn timeout(what: &'static str) -> Error {
    Error::Timeout { what, after_ms: DEADLINE.as_millis() as u64 }
}

impl FaultyStore {
    pub(crate) fn new(inner: Arc<dyn Store>, faults: Arc<Faults>, enrolled: Arc<Mutex<Vec<NodeId>>>) -> Self {
        Self { inner, faults, enrolled }
    }

    /// Makes a call, or fails to.
    pub(crate) async fn call<T, F>(
        &self,
        what: &'static str,
        op: impl FnOnce(Arc<dyn Store>) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let faults = &self.faults;
        faults.gate().await;
        let fate = faults.fate();
        faults.way().await;
        if faults.is_dead() && fate == Fate::Fine && faults.arrives_all_the_same() {
            let _ = op(self.inner.clone()).await;
            std::future::pending::<()>().await;
            unreachable!("the dead wait for ever");
        }
        faults.gate().await;
        let result = match fate {
            Fate::Fine => op(self.inner.clone()).await,
            Fate::Refused => Err(Error::Unavailable("refused by the simulation".into())),
            Fate::Unheard => self.give_up(what).await,
            Fate::Unanswered => {
                let _ = op(self.inner.clone()).await;
                self.give_up(what).await
            }
            Fate::Late => {
                let (inner, after) = (self.inner.clone(), DEADLINE + faults.up_to(LATE_MAX));
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    let _ = op(inner).await;
                });
                self.give_up(what).await
            }
        };
        faults.way().await;
        faults.gate().await;
        result
    }

    async fn give_up<T>(&self, what: &'static str) -> Result<T, Error> {
        tokio::time::sleep(DEADLINE).await;
        Err(timeout(what))
    }

    fn send_later(&self, node: NodeId, payload: Bytes) {
        let (inner, after) = (self.inner.clone(), self.faults.up_to(ENTRY_DELAY_MAX));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = inner.send(node, payload).await;
        });
    }
}

/// What has no position comes at most once: no sender would repeat it.
fn may_repeat(payload: &Bytes) -> bool {
    let entry = entry::decode(payload.clone()).expect("a node sends what it can read");
    entry.disconnects.is_empty()
        && entry.questions.is_empty()
        && entry.messages.iter().all(|message| message.position.is_some())
}

#[async_trait]
impl Store for FaultyStore {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        self.call("append", |store| async move { store.append(append).await }).await
    }

    async fn append_batch(&self, appends: Vec<Append>) -> Vec<Result<Appended, Error>> {
        let count = appends.len();
        let results = self.call("append", |store| async move { Ok(store.append_batch(appends).await) }).await;
        results.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn join(&self, join: &Join) -> Result<Page, Error> {
        let join = join.clone();
        self.call("join", |store| async move { store.join(&join).await }).await
    }

    async fn join_batch(&self, joins: Vec<Join>) -> Vec<Result<Page, Error>> {
        let count = joins.len();
        let results = self.call("join", |store| async move { Ok(store.join_batch(joins).await) }).await;
        results.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn leave(
        &self,
        node: NodeId,
        channel: &Channel,
        generation: u64,
        sessions: u32,
    ) -> Result<(), Error> {
        let channel = channel.clone();
        self.call(
            "leave",
            move |store| async move { store.leave(node, &channel, generation, sessions).await },
        )
        .await
    }

    async fn read(&self, channel: &Channel, start: &Start, limit: usize) -> Result<Page, Error> {
        let (channel, start) = (channel.clone(), start.clone());
        self.call("read", move |store| async move { store.read(&channel, &start, limit).await }).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error> {
        let channels = channels.to_vec();
        self.call("heads", |store| async move { store.heads(&channels).await }).await
    }

    async fn acknowledge(&self, acks: &[Ack]) -> Result<Settled, Error> {
        let acks = acks.to_vec();
        self.call("acknowledge", |store| async move { store.acknowledge(&acks).await }).await
    }

    async fn routes(&self, channel: &Channel) -> Result<Vec<Route>, Error> {
        let channel = channel.clone();
        self.call("routes", |store| async move { store.routes(&channel).await }).await
    }

    async fn drop_routes(&self, node: NodeId, channels: &[Channel]) -> Result<(), Error> {
        let channels = channels.to_vec();
        self.call("drop_routes", move |store| async move { store.drop_routes(node, &channels).await }).await
    }

    async fn inspect(&self, channel: &Channel) -> Result<ChannelInfo, Error> {
        let channel = channel.clone();
        self.call("inspect", |store| async move { store.inspect(&channel).await }).await
    }

    async fn channels(&self, cursor: u64) -> Result<(u64, Vec<Channel>), Error> {
        self.call("channels", move |store| async move { store.channels(cursor).await }).await
    }

    async fn enrol(&self, node: NodeId, info: &NodeInfo) -> Result<(), Error> {
        self.enrolled.lock().expect("no panic while held").push(node);
        let info = info.clone();
        self.call("enrol", move |store| async move { store.enrol(node, &info).await }).await
    }

    async fn beat(&self, node: NodeId, info: &NodeInfo) -> Result<Beat, Error> {
        let info = info.clone();
        self.call("beat", move |store| async move { store.beat(node, &info).await }).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        self.call("nodes", |store| async move { store.nodes().await }).await
    }

    async fn send(&self, node: NodeId, entry: Bytes) -> Result<Sent, Error> {
        match self.faults.entry_fate() {
            EntryFate::Lost => return Ok(Sent::Stored { capped: false }),
            EntryFate::Delayed => {
                self.send_later(node, entry);
                return Ok(Sent::Stored { capped: false });
            }
            EntryFate::Repeated if may_repeat(&entry) => self.send_later(node, entry.clone()),
            EntryFate::Repeated | EntryFate::Fine => {}
        }
        self.call("send", move |store| async move { store.send(node, entry).await }).await
    }

    async fn consume(&self, node: NodeId) -> Result<Box<dyn Consumer>, Error> {
        let inner = self.call("consume", move |store| async move { store.consume(node).await }).await?;
        Ok(Box::new(FaultyConsumer { store: self.clone(), node, inner: Some(inner) }))
    }

    async fn ack_entries(&self, node: NodeId, acks: &EntryAcks) -> Result<(), Error> {
        let acks = acks.clone();
        self.call("ack_entries", move |store| async move { store.ack_entries(node, &acks).await }).await
    }

    async fn stream_stats(&self, node: NodeId) -> Result<StreamStats, Error> {
        self.call("stream_stats", move |store| async move { store.stream_stats(node).await }).await
    }

    async fn retire(&self, node: NodeId) -> Result<bool, Error> {
        self.call("retire", move |store| async move { store.retire(node).await }).await
    }

    async fn fence(&self, dead: NodeId, by: NodeId) -> Result<bool, Error> {
        self.call("fence", move |store| async move { store.fence(dead, by).await }).await
    }

    async fn orphans(&self, dead: NodeId, limit: usize) -> Result<Vec<StreamEntry>, Error> {
        self.call("orphans", move |store| async move { store.orphans(dead, limit).await }).await
    }

    async fn discard(&self, dead: NodeId, by: NodeId, entries: &[EntryId]) -> Result<(), Error> {
        let entries = entries.to_vec();
        self.call("discard", move |store| async move { store.discard(dead, by, &entries).await }).await
    }

    async fn orphaned_channels(&self, dead: NodeId, limit: usize) -> Result<Vec<Channel>, Error> {
        self.call("orphaned_channels", move |store| async move { store.orphaned_channels(dead, limit).await })
            .await
    }

    async fn bury(&self, dead: NodeId, by: NodeId) -> Result<Burial, Error> {
        self.call("bury", move |store| async move { store.bury(dead, by).await }).await
    }
}

/// The reader of a node's stream. After a failure it reads through a fresh one,
/// which begins with what is pending, as the contract wants.
struct FaultyConsumer {
    store: FaultyStore,
    node: NodeId,
    inner: Option<Box<dyn Consumer>>,
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn next(&mut self, acks: EntryAcks, entries_max: usize) -> Result<Vec<StreamEntry>, Error> {
        let faults = self.store.faults.clone();
        faults.gate().await;
        let fate = faults.fate();
        faults.way().await;
        faults.gate().await;
        let mut inner = match self.inner.take() {
            Some(inner) => inner,
            None => self.store.inner.consume(self.node).await?,
        };
        let result = match fate {
            Fate::Fine => {
                let result = inner.next(acks, entries_max).await;
                self.inner = Some(inner);
                result
            }
            Fate::Refused => Err(Error::Unavailable("refused by the simulation".into())),
            Fate::Unheard | Fate::Late => Err(timeout("read the node stream")),
            Fate::Unanswered => {
                let _ = inner.next(acks, entries_max).await;
                Err(timeout("read the node stream"))
            }
        };
        faults.gate().await;
        if result.is_err() {
            self.inner = None;
            // Failing takes time too.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        result
    }
}
