//! News for whoever follows from outside: who came and went, what was received,
//! what expired. Nothing here is on a message's way, and without a follower
//! nothing is done at all.
//!
//! Which node tells what, each piece of news being told by one:
//! - *online*: the node whose session was the channel's first, *offline*: the
//!   node that took the last line out of its directory, which for a node that
//!   died is its heir. The store says of each turn who noted it.
//! - *delivered*: the node that wrote a cursor, once the store has it.
//! - *expired*: the node that took the push, which looks at the message when its
//!   time is over, and forgets that it has to when it ends.
//!
//! News is kept in memory until it is handed over: what a node that is killed had
//! not handed over is lost. The store stays the truth.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::protocol::status::MessageState;
use crate::protocol::{Channel, Device, MessageId, NodeId, Position};
use crate::store::{Ack, Traced};

use super::Delivery;
use super::replay::backoff;

/// Turns of presence that wait to be noted.
const TURNS_MAX: usize = 10_000;
/// Messages whose end is waited for.
const EXPIRIES_MAX: usize = 100_000;
/// How often messages are looked at whose time is over.
const EXPIRY_TICK: Duration = Duration::from_millis(500);
/// Messages looked at in one tick, so that it does not crowd out pushes.
const EXPIRIES_PER_TICK: usize = 5_000;
/// How often a call to the store is tried.
const TRIES_MAX: u32 = 5;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// To whose channel.
    pub channel: Channel,
    /// What.
    pub event: Event,
    /// When, by the store's clock, in milliseconds.
    pub at_ms: u64,
    /// The node that tells it.
    pub node: NodeId,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A user's first session came.
    Online,
    /// A user's last session has been away for a linger, or its node died.
    Offline,
    /// A device received everything up to a position; a nameless one if none.
    Delivered {
        /// Which device.
        device: Option<Device>,
        /// Up to where.
        position: Position,
    },
    /// A message's time was over before any device received it.
    Expired {
        /// Its id.
        id: MessageId,
        /// Its position.
        position: Position,
        /// When it was accepted, in milliseconds.
        accepted_at_ms: u64,
        /// When its time was over, in milliseconds.
        expires_at_ms: u64,
    },
}

/// A kind of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// See [`Event::Online`].
    Online,
    /// See [`Event::Offline`].
    Offline,
    /// See [`Event::Delivered`].
    Delivered,
    /// See [`Event::Expired`].
    Expired,
}

/// Whoever wants to know. Neither call may block.
pub trait Follower: Send + Sync + std::fmt::Debug {
    /// Whether it wants news of that kind.
    fn wants(&self, kind: Kind) -> bool;

    /// Something happened.
    fn tell(&self, news: News);

    /// News could not be told, since too much of it waits.
    fn missed(&self, count: u64);
}

struct Turn {
    channel: Channel,
    online: bool,
}

/// A message whose time will be over.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Expiry {
    at_ms: u64,
    channel: Channel,
    id: MessageId,
    seq: u64,
    epoch: u64,
}

/// What waits to become news.
pub(super) struct Following {
    follower: Option<Arc<dyn Follower>>,
    turns: mpsc::Sender<Turn>,
    /// Taken by the loop.
    queue: Mutex<Option<mpsc::Receiver<Turn>>>,
    expiries: Mutex<BinaryHeap<Reverse<Expiry>>>,
}

impl Following {
    pub(super) fn new(follower: Option<Arc<dyn Follower>>) -> Self {
        let (turns, queue) = mpsc::channel(TURNS_MAX);
        Self { follower, turns, queue: Mutex::new(Some(queue)), expiries: Mutex::default() }
    }

    fn wanting(&self, kind: Kind) -> Option<&Arc<dyn Follower>> {
        self.follower.as_ref().filter(|follower| follower.wants(kind))
    }
}

impl Delivery {
    /// A channel may have come online or gone offline: the store knows.
    pub(super) fn may_have_turned(&self, channel: &Channel, online: bool) {
        let following = &self.inner.following;
        let Some(follower) = &following.follower else { return };
        let wanted = follower.wants(Kind::Online) || follower.wants(Kind::Offline);
        if !wanted || channel.user_name().is_none() {
            return;
        }
        if following.turns.try_send(Turn { channel: channel.clone(), online }).is_err() {
            follower.missed(1);
        }
    }

    /// A message was accepted: its end is news, unless it is received.
    pub(super) fn await_expiry(&self, channel: &Channel, id: MessageId, position: Position, at_ms: u64) {
        let Some(follower) = self.inner.following.wanting(Kind::Expired) else { return };
        let mut expiries = self.inner.following.expiries.lock().expect("no panic while held");
        if expiries.len() >= EXPIRIES_MAX {
            return follower.missed(1);
        }
        let Position { epoch, seq } = position;
        expiries.push(Reverse(Expiry { at_ms, channel: channel.clone(), id, seq, epoch: epoch.bits() }));
    }

    /// Whether the end of accepted messages has to be waited for.
    pub(super) fn follows_expiry(&self) -> bool {
        self.inner.following.wanting(Kind::Expired).is_some()
    }

    /// The store took these acknowledgements, as far as they made sense to it.
    pub(super) async fn tell_delivered(&self, acks: &[Ack]) {
        let Some(follower) = self.inner.following.wanting(Kind::Delivered) else { return };
        let received = acks.iter().filter_map(|ack| match ack {
            Ack::Received { channel, device, position } => Some((channel, device, *position)),
            Ack::Ephemeral { .. } => None,
        });
        let received: Vec<_> = received.collect();
        let channels: Vec<_> = received.iter().map(|(channel, ..)| (*channel).clone()).collect();
        let watermarks = match self.inner.store.watermarks(&channels).await {
            Ok(watermarks) => watermarks,
            Err(error) => {
                self.noted(error);
                return follower.missed(received.len() as u64);
            }
        };
        for ((channel, device, position), watermark) in received.into_iter().zip(watermarks) {
            // An acknowledgement of what was never sent moved nothing.
            if watermark.is_some_and(|watermark| position.seq <= watermark.seq) {
                let event = Event::Delivered { device: device.clone(), position };
                self.tell(follower, channel.clone(), event);
            }
        }
    }

    fn tell(&self, follower: &Arc<dyn Follower>, channel: Channel, event: Event) {
        let at_ms = self.inner.clock.now_us() / 1_000;
        follower.tell(News { channel, event, at_ms, node: self.node() });
    }

    /// Notes turns of presence one by one, so that each channel's stay in order.
    pub(super) async fn run_turns(self) {
        let following = &self.inner.following;
        let queue = following.queue.lock().expect("no panic while held").take();
        let (Some(mut queue), Some(follower)) = (queue, &following.follower) else { return };
        loop {
            let turn = tokio::select! {
                () = self.inner.stop.cancelled() => break,
                turn = queue.recv() => turn,
            };
            let Some(turn) = turn else { return };
            self.turn(follower, turn).await;
        }
        // What this node's own leaving brought about.
        while let Ok(turn) = queue.try_recv() {
            self.turn(follower, turn).await;
        }
    }

    async fn turn(&self, follower: &Arc<dyn Follower>, turn: Turn) {
        let Turn { channel, online } = turn;
        let (kind, event) =
            if online { (Kind::Online, Event::Online) } else { (Kind::Offline, Event::Offline) };
        for tries in 1..=TRIES_MAX {
            match self.inner.store.turn(&channel, online).await {
                Ok(news) => {
                    if news && follower.wants(kind) {
                        self.tell(follower, channel, event);
                    }
                    return;
                }
                Err(error) => {
                    self.noted(error);
                    if self.inner.stop.is_cancelled() {
                        break;
                    }
                    tokio::time::sleep(backoff(tries)).await;
                }
            }
        }
        follower.missed(1);
    }

    /// Looks at messages whose time is over.
    pub(super) async fn run_expiries(self) {
        let Some(follower) = self.inner.following.wanting(Kind::Expired).cloned() else { return };
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(EXPIRY_TICK) => {}
            }
            let due = self.due_expiries();
            if let Err(again) = self.look_at(&follower, due).await {
                let mut expiries = self.inner.following.expiries.lock().expect("no panic while held");
                expiries.extend(again.into_iter().map(Reverse));
            }
        }
    }

    fn due_expiries(&self) -> Vec<Expiry> {
        let now_ms = self.inner.clock.now_us() / 1_000;
        let mut expiries = self.inner.following.expiries.lock().expect("no panic while held");
        let mut due = Vec::new();
        while due.len() < EXPIRIES_PER_TICK
            && let Some(first) = expiries.peek_mut()
            && first.0.at_ms < now_ms
        {
            due.push(std::collections::binary_heap::PeekMut::pop(first).0);
        }
        due
    }

    /// Most messages were received long ago, which one short read of each channel
    /// tells; the rest are asked for. Hands back what could not be asked.
    async fn look_at(&self, follower: &Arc<dyn Follower>, due: Vec<Expiry>) -> Result<(), Vec<Expiry>> {
        let mut by_channel: HashMap<Channel, Vec<Expiry>> = HashMap::new();
        for expiry in due {
            by_channel.entry(expiry.channel.clone()).or_default().push(expiry);
        }
        let channels: Vec<Channel> = by_channel.keys().cloned().collect();
        let watermarks = match self.inner.store.watermarks(&channels).await {
            Ok(watermarks) => watermarks,
            Err(error) => {
                self.noted(error);
                return Err(by_channel.into_values().flatten().collect());
            }
        };
        let mut again = Vec::new();
        for (channel, watermark) in channels.into_iter().zip(watermarks) {
            let received = watermark.map_or(0, |watermark| watermark.seq);
            for expiry in by_channel.remove(&channel).unwrap_or_default() {
                let position = Position::new(crate::protocol::Epoch::from_bits(expiry.epoch), expiry.seq);
                if position.seq <= received {
                    continue;
                }
                match self.inner.store.find(&channel, expiry.id, Some(position)).await {
                    Ok(Some(found)) => {
                        self.settled(found.settled);
                        if found.message.state().0 == MessageState::Expired {
                            self.tell(follower, channel.clone(), expired(&found.message));
                        }
                    }
                    // Erased, or lost with the store.
                    Ok(None) => {}
                    Err(error) => {
                        self.noted(error);
                        again.push(expiry);
                    }
                }
            }
        }
        if again.is_empty() { Ok(()) } else { Err(again) }
    }
}

fn expired(message: &Traced) -> Event {
    Event::Expired {
        id: message.id,
        position: message.position,
        accepted_at_ms: message.accepted_at_us / 1_000,
        expires_at_ms: message.expires_at_ms,
    }
}
