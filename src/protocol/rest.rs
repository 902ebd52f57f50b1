//! The bodies of the REST API.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::status::StreamAnswer;
use super::{Channel, MessageId, NodeId, Position};

/// The longest collapse key, in bytes.
pub const COLLAPSE_KEY_BYTES_MAX: usize = 64;
/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// The most recipients of one push.
pub const RECIPIENTS_MAX: usize = 100;

/// The body of `POST /v1/push`, and one message of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushBody<'a> {
    /// One channel, or a list of them.
    #[serde(borrow)]
    pub to: Recipients<'a>,
    /// Any JSON.
    #[serde(borrow)]
    #[schema(value_type = serde_json::Value, examples(json!({"order": 42})))]
    pub data: &'a RawValue,
    /// Seconds to keep it; 0: only for who is connected now.
    #[serde(default)]
    #[schema(nullable, maximum = 604_800, examples(86_400))]
    pub ttl: Option<u64>,
    /// Replaces an earlier message of the same key that a device has not seen.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64, examples("order-42"))]
    pub collapse_key: Option<String>,
    /// A ULID of the sender's; also makes a retry harmless.
    #[serde(default)]
    pub id: Option<MessageId>,
}

/// One recipient or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients<'a> {
    /// The answer is one object.
    One(Cow<'a, str>),
    /// The answer is a list, in this order.
    Many(Vec<String>),
}

// By hand: what serde derives for either of two shapes copies the text first.
impl<'de: 'a, 'a> Deserialize<'de> for Recipients<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Recipients<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"to\" to be a channel like \"user:alice\", or a list of them")
            }

            fn visit_borrowed_str<E>(self, to: &'de str) -> Result<Self::Value, E> {
                Ok(Recipients::One(Cow::Borrowed(to)))
            }

            fn visit_str<E>(self, to: &str) -> Result<Self::Value, E> {
                Ok(Recipients::One(Cow::Owned(to.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Recipients::Many)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The body of `POST /v1/push/batch`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchBody<'a> {
    /// The messages; each has one recipient.
    #[serde(borrow)]
    #[schema(min_items = 1, max_items = 100)]
    pub messages: Vec<PushBody<'a>>,
}

/// What a push answers for each recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PushAnswer {
    /// The message's id.
    pub id: MessageId,
    /// The recipient.
    pub channel: Channel,
    /// Its position; absent when ephemeral.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pos: Option<Position>,
    /// Nodes it was handed to at once.
    pub nodes: u32,
    /// Sessions these nodes have for the recipient.
    pub sessions: u32,
    /// When it stops being kept, in RFC 3339.
    #[schema(format = DateTime, examples("2026-11-24T19:02:11.482Z"))]
    pub expires_at: String,
}

/// One result of a batch or of a push to several recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ItemAnswer {
    /// It was accepted.
    Accepted {
        /// 202.
        status: u16,
        /// What a single push would answer.
        #[serde(flatten)]
        answer: PushAnswer,
    },
    /// It was not.
    Refused {
        /// What a single push would answer.
        status: u16,
        /// Stable, for programs.
        code: &'static str,
        /// For people: what to do.
        detail: String,
    },
}

/// The answer to a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswer {
    /// In input order.
    pub results: Vec<ItemAnswer>,
}

/// The answer to `GET /v1/nodes`.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodesAnswer {
    /// The live nodes, by id.
    pub nodes: Vec<NodeAnswer>,
}

/// One live node.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeAnswer {
    /// Its id.
    pub id: NodeId,
    /// Where it listens.
    pub address: String,
    /// Its version.
    pub version: String,
    /// When it started, in RFC 3339.
    #[schema(format = DateTime, examples("2026-11-24T19:02:11.482Z"))]
    pub started_at: String,
    /// Its sessions.
    pub sessions: u64,
    /// Whether it is about to leave.
    pub draining: bool,
    /// How long ago it beat.
    pub heartbeat_age_ms: u64,
    /// How its stream stands; null when that could not be asked.
    pub stream: Option<StreamAnswer>,
}

/// The answer to `GET /v1/channels/{channel}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelAnswer {
    /// The channel.
    pub channel: Channel,
    /// Whether a live node has a session of it.
    pub online: bool,
    /// Sessions on live nodes.
    pub sessions: u32,
    /// The live nodes that hold it.
    pub nodes: Vec<ChannelNode>,
    /// The last position; null when nothing was ever sent.
    pub head: Option<Position>,
    /// Messages in its mailbox.
    pub mailbox: u64,
    /// How far each named device has come: a thousand of them at most.
    pub cursors: Vec<CursorAnswer>,
    /// Whether there are more.
    pub more_cursors: bool,
    /// The ledger, by class.
    pub ledger: BTreeMap<&'static str, i64>,
}

/// A node that holds a channel.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChannelNode {
    /// Its id.
    pub node: NodeId,
    /// Its sessions of the channel.
    pub sessions: u32,
}

/// How far a device has come.
#[derive(Debug, Serialize, ToSchema)]
pub struct CursorAnswer {
    /// The device.
    pub device: String,
    /// The last position it acknowledged.
    pub pos: Position,
    /// When, in RFC 3339.
    #[schema(format = DateTime, examples("2026-11-24T19:02:11.482Z"))]
    pub at: String,
}

/// The answer to `DELETE /v1/channels/{channel}/sessions`.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisconnectAnswer {
    /// Nodes that were told.
    pub nodes: u32,
}

/// Milliseconds since 1970 in RFC 3339, UTC.
#[must_use]
pub fn rfc3339(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    humantime::format_rfc3339_millis(at).to_string()
}

/// The body of `POST /v1/events/acks`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcksBody {
    /// The last position that the device has handled, by channel.
    pub positions: BTreeMap<String, Position>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_names_one_recipient_or_several_and_keeps_its_data_verbatim() {
        let body: PushBody = serde_json::from_str(r#"{"to":"user:a","data":{"x": 1.0}}"#).expect("valid");
        assert_eq!(body.to, Recipients::One("user:a".into()));
        assert_eq!(body.data.get(), r#"{"x": 1.0}"#);
        let body: PushBody =
            serde_json::from_str(r#"{"to":["user:a","user:b"],"data":null,"ttl":0}"#).expect("valid");
        assert_eq!(body.to, Recipients::Many(vec!["user:a".into(), "user:b".into()]));
        assert!(serde_json::from_str::<PushBody>(r#"{"to":"user:a","data":1,"tttl":5}"#).is_err());
        assert!(serde_json::from_str::<PushBody>(r#"{"to":7,"data":1}"#).is_err());
    }
}
