//! The bodies of the REST API's questions: what became of a message, who is
//! there, and what is taken away.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Channel, MessageId, NodeId, Position, SessionId};

/// The most channels of one `POST /v1/presence`.
pub const PRESENCE_CHANNELS_MAX: usize = 1_000;
/// The most messages of one page of `GET /v1/channels/{channel}/messages`.
pub const RECENT_MESSAGES_MAX: usize = 100;
/// How many a page has when the question does not say.
pub const RECENT_MESSAGES_DEFAULT: usize = 25;

/// What became of a message, by its class in the ledger: one of these, for good
/// once it is no longer `waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Kept, and no device has received it yet.
    Waiting,
    /// At least one device received it.
    Received,
    /// Its time was over before any device received it.
    Expired,
    /// A newer one of its collapse key replaced it before any device received it.
    Collapsed,
    /// It was lost or taken back before any device received it: see the reason.
    Dropped,
}

/// What became of a message at one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It is kept for the device, which has not been sent it as far as is known.
    Waiting,
    /// It was written to the device's socket, and is not acknowledged yet.
    Written,
    /// The device acknowledged it, or a later one, while it was there.
    Acknowledged,
    /// Its time was over first.
    Expired,
    /// It was replaced first.
    Collapsed,
    /// It was lost or taken back first: see the reason.
    Dropped,
    /// The device's cursor is past it, but moved there after the message had
    /// gone: whether the device had it before is not known.
    Passed,
}

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Trimmed from a full mailbox.
    MailboxFull,
    /// Taken back by `DELETE /v1/messages/{id}`.
    Withdrawn,
}

/// The answer to `GET /v1/messages/{id}`, and one line of a channel's recent messages.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageAnswer {
    /// The message's id.
    pub id: MessageId,
    /// Its channel.
    pub channel: Channel,
    /// Its position, in the channel's present epoch.
    pub pos: Position,
    /// Its class.
    pub state: MessageState,
    /// Why, when it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DropReason>,
    /// When it was accepted, in RFC 3339.
    #[schema(format = DateTime, examples("2026-11-24T19:02:11.482Z"))]
    pub accepted_at: String,
    /// When it stops being kept, in RFC 3339.
    #[schema(format = DateTime, examples("2026-11-24T19:02:11.482Z"))]
    pub expires_at: String,
    /// When it left the mailbox, in RFC 3339; absent while it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub left_at: Option<String>,
    /// The payload; absent when it is gone, and where only the fate was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false)]
    pub data: Option<Box<RawValue>>,
    /// Its fate at each named device that was known when it was sent or came
    /// since; nameless sessions count in `state` only.
    pub devices: Vec<DeviceAnswer>,
    /// Whether the channel has more devices than are listed.
    pub more_devices: bool,
}

/// A message's fate at one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeviceAnswer {
    /// The device.
    pub device: String,
    /// What became of it there.
    pub state: DeviceState,
    /// Why, when it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DropReason>,
    /// When the acknowledgement was kept, in RFC 3339: known while the device
    /// has acknowledged nothing later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub acknowledged_at: Option<String>,
    /// When the device had acknowledged it at the latest, in RFC 3339, where the
    /// moment itself is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub acknowledged_before: Option<String>,
}

/// The answer to `GET /v1/channels/{channel}/messages`.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecentAnswer {
    /// The channel.
    pub channel: Channel,
    /// Newest first: what is kept, and of what is gone as much as is remembered.
    pub messages: Vec<MessageAnswer>,
    /// To be given as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// The answer to `DELETE /v1/messages/{id}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct WithdrawAnswer {
    /// The message's id.
    pub id: MessageId,
    /// Its channel.
    pub channel: Channel,
    /// Its position.
    pub pos: Position,
    /// Whether this request took it out of the mailbox; false: it had gone before.
    pub withdrawn: bool,
    /// Its class now: `dropped` when no device had received it, `received` when
    /// one had (others then do not get it any more).
    pub state: MessageState,
    /// Why, when it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DropReason>,
}

/// The answer to `DELETE /v1/channels/{channel}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct EraseAnswer {
    /// The channel.
    pub channel: Channel,
    /// Messages that were in its mailbox.
    pub messages: u64,
    /// Devices whose cursors were kept.
    pub devices: u64,
    /// Nodes that were told to close its sessions.
    pub nodes: u32,
}

/// The answer to `GET /v1/channels/{channel}/sessions`.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionsAnswer {
    /// The channel.
    pub channel: Channel,
    /// Its sessions, by id, which is by the time they began.
    pub sessions: Vec<SessionAnswer>,
    /// Whether a node has more than it told of.
    pub more: bool,
    /// Live nodes that hold the channel and did not answer in time.
    pub unanswered: Vec<NodeId>,
}

/// One live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionAnswer {
    /// Its id.
    pub id: SessionId,
    /// The node that has its socket.
    pub node: NodeId,
    /// The channel of the user whose it is.
    #[serde(default)]
    pub user: Option<String>,
    /// The device, if the client named it.
    pub device: Option<String>,
    /// `plain` or `envelope`.
    pub dialect: String,
    /// When it came, in RFC 3339.
    #[schema(format = DateTime, examples("2026-11-24T19:02:11.482Z"))]
    pub connected_at: String,
    /// Whether it has caught up with the channel; false: it reads the mailbox.
    pub live: bool,
    /// The last position it was given.
    pub pos: Option<Position>,
    /// Bytes that wait for its socket.
    pub outbox_bytes: u64,
}

/// The answer to `DELETE /v1/channels/{channel}/sessions/{session}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloseAnswer {
    /// The session.
    pub id: SessionId,
    /// Whether a node had it and closed it (4000).
    pub closed: bool,
    /// Live nodes that hold the channel and did not answer in time: they may
    /// close it yet.
    pub unanswered: Vec<NodeId>,
}

/// The body of `POST /v1/presence`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PresenceBody {
    /// Up to 1,000 channels.
    #[schema(value_type = Vec<Channel>, min_items = 1, max_items = 1_000)]
    pub channels: Vec<String>,
}

/// The answer to `POST /v1/presence`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresenceAnswer {
    /// One for each channel that was asked for, in that order.
    pub channels: Vec<ChannelPresence>,
}

/// Who holds a channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelPresence {
    /// The channel.
    pub channel: Channel,
    /// Whether a live node has a session of it.
    pub online: bool,
    /// Sessions on live nodes.
    pub sessions: u32,
    /// The live nodes that hold it.
    pub nodes: Vec<super::rest::ChannelNode>,
}

/// How a node's stream stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct StreamAnswer {
    /// Entries in it.
    pub length: u64,
    /// Entries not read yet.
    pub lag: u64,
    /// Entries read and not acknowledged.
    pub pending: u64,
    /// Age of the oldest of these.
    pub oldest_pending_ms: u64,
}
