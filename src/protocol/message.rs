//! A message as nodes and the store hold it.

use bytes::Bytes;

use super::{Channel, MessageId, Position};

/// One accepted message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What receivers de-duplicate by.
    pub id: MessageId,
    /// What it is addressed to.
    pub channel: Channel,
    /// Where it stands in the channel; none when it is ephemeral (`ttl: 0`).
    pub position: Option<Position>,
    /// When the store accepted it: microseconds since 1970, by the store's clock.
    pub accepted_at_us: u64,
    /// When it stops being kept: milliseconds on the same clock; the time of
    /// acceptance when ephemeral.
    pub expires_at_ms: u64,
    /// The payload: JSON text, byte for byte as the sender wrote it.
    pub data: Bytes,
    /// What joins a delivery to its push; see [`super::trace`].
    pub trace: Option<Box<str>>,
    /// For an ephemeral message: whether the node that reads this copy is the
    /// one that reports its fate to the ledger (exactly one node is).
    pub accountable: bool,
}
