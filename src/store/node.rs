//! What is asked and answered about nodes and their streams.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::protocol::NodeId;

/// What a node's heartbeat says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeInfo {
    /// Where its REST endpoint listens, as others reach it.
    pub address: String,
    /// Its program's version.
    pub version: String,
    /// When it started, by its own clock.
    pub started_at_ms: u64,
    /// How many sessions it has.
    pub sessions: u64,
    /// Whether it is about to leave.
    pub draining: bool,
}

/// A live node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its id.
    pub id: NodeId,
    /// What its heartbeat says.
    pub info: NodeInfo,
    /// How long ago it beat, in milliseconds.
    pub beat_age_ms: u64,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Whether the node was declared dead: it must rejoin under a new id.
    pub fenced: bool,
    /// Registered nodes that have not beaten for expiry plus grace.
    pub suspects: Vec<NodeId>,
    /// The store's clock, in microseconds since 1970.
    pub now_us: u64,
}

/// What an attempt to end a reclaim came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burial {
    /// Something is left, or the lease is not theirs.
    Refused,
    /// Nothing is left, by their doing.
    Done,
    /// There was no stream any more: another survivor, or the node as it left,
    /// had removed it. Only the registry still knew the node.
    Already,
}

/// The id of an entry in a node stream; ascending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The stream's milliseconds part.
    pub ms: u64,
    /// Distinguishes entries of one millisecond.
    pub n: u64,
}

impl EntryId {
    /// The smallest id above this one.
    #[must_use]
    pub fn successor(self) -> Self {
        match self.n.checked_add(1) {
            Some(n) => Self { ms: self.ms, n },
            None => Self { ms: self.ms + 1, n: 0 },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

impl FromStr for EntryId {
    type Err = super::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('-')
            .and_then(|(ms, n)| Some(Self { ms: ms.parse().ok()?, n: n.parse().ok()? }))
            .ok_or_else(|| super::Error::Corrupt {
                what: "an entry id",
                detail: text.chars().take(48).collect(),
            })
    }
}

/// An entry as its consumer reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Its id.
    pub id: EntryId,
    /// A batch of messages in the form of [`crate::protocol::entry`].
    pub payload: Bytes,
}

/// Entries that are done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryAcks {
    /// Done, in any order.
    pub ids: Vec<EntryId>,
    /// Everything below this is done, so that the stream may be trimmed there.
    pub trim_below: Option<EntryId>,
}

impl EntryAcks {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// What became of an entry that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in the stream.
    Stored {
        /// Whether the stream's cap cut off older entries (the mailboxes owe them).
        capped: bool,
    },
    /// The stream is gone, and so is its node.
    NoStream,
}

/// How a node's stream stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Entries in it.
    pub length: u64,
    /// Entries not read yet.
    pub lag: u64,
    /// Entries read and not acknowledged.
    pub pending: u64,
    /// Age of the oldest of these, in milliseconds; 0 when there is none.
    pub oldest_pending_ms: u64,
}
