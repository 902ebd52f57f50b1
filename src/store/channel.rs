//! What is asked and answered about channels.

use crate::protocol::{Channel, Device, Message, MessageId, NodeId, Position};

use super::Ledger;

/// A message to accept.
#[derive(Debug, Clone)]
pub struct Append {
    /// The id it will have, unless an idempotency key recalls an earlier one.
    pub id: MessageId,
    /// What it is addressed to.
    pub channel: Channel,
    /// JSON text.
    pub data: bytes::Bytes,
    /// How long it is kept; 0 is ephemeral: no position, at most once.
    pub ttl_ms: u64,
    /// Replaces an earlier message of the same key that is still in the mailbox.
    pub collapse_key: Option<Box<str>>,
    /// Makes a retry harmless.
    pub idempotency: Option<Idempotency>,
    /// What joins deliveries to the push; see [`crate::protocol::trace`].
    pub trace: Option<Box<str>>,
}

/// An idempotency key, already combined with the sender's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// Hash of sender and key.
    pub key: [u8; 16],
    /// Hash of the body: another body under the same key is refused.
    pub fingerprint: [u8; 8],
}

/// The answer to an [`Append`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The message's id: the first one's when `repeated`.
    pub id: MessageId,
    /// Its position; none when ephemeral.
    pub position: Option<Position>,
    /// When it was accepted, in microseconds.
    pub accepted_at_us: u64,
    /// When it expires, in milliseconds.
    pub expires_at_ms: u64,
    /// The nodes that hold the channel now.
    pub routes: Vec<Route>,
    /// Whether an earlier push with this idempotency key was found.
    pub repeated: bool,
    /// What the append moved in the ledger besides `accepted`.
    pub settled: Settled,
}

/// One line of a channel's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The node that holds the channel.
    pub node: NodeId,
    /// Which registration this is: grows with every one the node makes.
    pub generation: u64,
    /// How many of its sessions are subscribed.
    pub sessions: u32,
}

/// A node's first or further session on a channel.
#[derive(Debug, Clone)]
pub struct Join {
    /// The node that holds it from now on.
    pub node: NodeId,
    /// The channel.
    pub channel: Channel,
    /// Higher than in every earlier call of this node for this channel.
    pub generation: u64,
    /// The node's sessions on it, this one included.
    pub sessions: u32,
    /// Where the session begins.
    pub start: Start,
    /// Messages to return at most.
    pub limit: usize,
}

/// Where to begin reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Behind a position the client gave; [`Position::BEGINNING`] is valid in
    /// every epoch.
    After(Position),
    /// Behind what the named device acknowledged last; without a device, or
    /// when it has no cursor yet, behind the watermark: the last message that
    /// any device received.
    Cursor(Option<Device>),
    /// Behind what the named device acknowledged last; when it has no cursor
    /// yet, behind the last message: where many users meet, what others have
    /// received says nothing of this one.
    CursorOrNow(Device),
    /// Behind the last message.
    Now,
    /// At the oldest message that is kept.
    Oldest,
}

/// A part of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The channel's last position when the page was read; none when the
    /// channel is unknown to the store (nothing was ever pushed, or all is lost).
    pub head: Option<Position>,
    /// Where the page begins, once `start` was resolved (and any gap skipped):
    /// every message kept behind this number up to the last of `messages`
    /// (up to `head` when `complete`) is in the page.
    pub after: u64,
    /// What was lost between the start asked for and `after`.
    pub gap: Option<Gap>,
    /// Ascending, unexpired.
    pub messages: Vec<Message>,
    /// Whether nothing is kept between the last message and `head`.
    pub complete: bool,
    /// What the read moved in the ledger (messages found expired).
    pub settled: Settled,
}

/// Messages that were lost, to be told to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last position before the loss, as the reader knew it; none when it
    /// had none.
    pub from: Option<Position>,
    /// The last position lost: reading goes on behind it. None when the channel
    /// is unknown now.
    pub to: Option<Position>,
    /// Why.
    pub reason: GapReason,
}

/// Why messages were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The mailbox was full.
    Trimmed,
    /// The store lost the channel, or came back older than what was seen.
    Reset,
}

/// What devices did, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// A device received everything up to a position. Without a device: one of
    /// the nameless sessions did, which moves only the watermark. A position
    /// the store does not understand or that is ahead of it is ignored.
    Received {
        /// Whose.
        channel: Channel,
        /// Which device, if it has a name.
        device: Option<Device>,
        /// Up to where.
        position: Position,
    },
    /// What became of ephemeral messages this node was accountable for.
    Ephemeral {
        /// Whose.
        channel: Channel,
        /// Written to at least one socket.
        received: u32,
        /// Found no session.
        dropped: u32,
    },
}

impl Ack {
    /// The channel that it is about.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        match self {
            Self::Received { channel, .. } | Self::Ephemeral { channel, .. } => channel,
        }
    }
}

/// What a call moved in the ledger: for the counters of the node that called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// Received by a first device.
    pub received: u64,
    /// Expired without being received.
    pub expired: u64,
    /// Replaced by a newer one of the same collapse key without being received.
    pub collapsed: u64,
    /// Trimmed from a full mailbox without being received.
    pub dropped_mailbox_full: u64,
    /// Ephemeral, with nobody there.
    pub dropped_no_session: u64,
    /// Ephemeral, and its fate was never reported.
    pub dropped_unreported: u64,
    /// Taken back without having been received.
    pub dropped_withdrawn: u64,
}

impl std::ops::AddAssign for Settled {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.expired += other.expired;
        self.collapsed += other.collapsed;
        self.dropped_mailbox_full += other.dropped_mailbox_full;
        self.dropped_no_session += other.dropped_no_session;
        self.dropped_unreported += other.dropped_unreported;
        self.dropped_withdrawn += other.dropped_withdrawn;
    }
}

/// All that is known of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// The last position; none when nothing was ever pushed with a TTL.
    pub head: Option<Position>,
    /// The highest sequence number lost to trimming.
    pub floor: u64,
    /// The highest sequence number that any device received.
    pub watermark: u64,
    /// Messages in the mailbox.
    pub mailbox_messages: u64,
    /// Messages that wait, counted one by one: mailbox entries above the
    /// watermark plus ephemeral ones not reported yet. `audit` compares it with
    /// [`Ledger::waiting`].
    pub waiting_counted: u64,
    /// The counts.
    pub ledger: Ledger,
    /// The directory, as stored: not intersected with the live nodes.
    pub routes: Vec<Route>,
    /// The devices' cursors: about [`DEVICES_MAX`](super::DEVICES_MAX) at most.
    pub cursors: Vec<Cursor>,
    /// Whether there are more.
    pub more_cursors: bool,
}

impl ChannelInfo {
    /// Whether as many messages wait as the counts say.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        i64::try_from(self.waiting_counted) == Ok(self.ledger.waiting())
    }
}

/// How far a device has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The device.
    pub device: Device,
    /// What it acknowledged last.
    pub position: Position,
    /// When.
    pub at_ms: u64,
}
