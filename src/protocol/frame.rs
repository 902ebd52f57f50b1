//! The dialects: bare payloads, the envelopes of `postrider.v1+json`, and the
//! same envelopes as server-sent events.
//!
//! A message is encoded at most once per dialect and node: [`Outgoing`] keeps
//! the finished frame, and every socket is given the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Channel, Message, NodeId, Position, SessionId, sse, ws};

/// The subprotocol that asks for envelopes.
pub const SUBPROTOCOL: &str = "postrider.v1+json";

/// What a client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The frame's text is the payload itself: a JSON string's content, else its JSON.
    Plain,
    /// Every frame is an envelope with a `type`.
    Envelope,
    /// Server-sent events whose data are envelopes. The client only listens.
    Events,
}

impl Dialect {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Envelope, Self::Events];

    /// A stable name for metrics and answers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Envelope => "envelope",
            Self::Events => "events",
        }
    }
}

/// A message on its way to sockets, with its encoded frames.
#[derive(Debug)]
pub struct Outgoing {
    message: Message,
    waited: bool,
    received: AtomicBool,
    plain: OnceLock<Bytes>,
    envelope: OnceLock<Bytes>,
    event: OnceLock<Bytes>,
}

impl Outgoing {
    /// Wraps a message; nothing is encoded yet.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self {
            message,
            waited: false,
            received: AtomicBool::new(false),
            plain: OnceLock::new(),
            envelope: OnceLock::new(),
            event: OnceLock::new(),
        }
    }

    /// The same of a message that was accepted before the session came that it is for.
    #[must_use]
    pub fn kept(message: Message) -> Self {
        Self { waited: true, ..Self::new(message) }
    }

    /// Whether it waited for its session, so that its age says nothing of the way it took.
    #[must_use]
    pub fn has_waited(&self) -> bool {
        self.waited
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Notes that a session without a name has it: all of them are one device, to
    /// which this happens once. Says whether it was now.
    pub fn receive_nameless(&self) -> bool {
        !self.received.load(Ordering::Relaxed) && !self.received.swap(true, Ordering::Relaxed)
    }

    /// The complete frame in a dialect, encoded at the first call; an event's id
    /// is its session's and comes before it.
    pub fn frame(&self, dialect: Dialect) -> &Bytes {
        match dialect {
            Dialect::Plain => self.plain.get_or_init(|| encode_plain(&self.message.data)),
            Dialect::Envelope => {
                self.envelope.get_or_init(|| ws::encode_text(&envelope(&self.message, &mut Vec::new())))
            }
            Dialect::Events => {
                self.event.get_or_init(|| sse::encode("message", &envelope(&self.message, &mut Vec::new())))
            }
        }
    }
}

fn encode_plain(data: &[u8]) -> Bytes {
    if data.first() == Some(&b'"')
        && let Ok(text) = serde_json::from_slice::<Cow<'_, str>>(data)
    {
        return ws::encode_text(&[text.as_bytes()]);
    }
    ws::encode_text(&[data])
}

/// The envelope is assembled around the payload's own text, which is valid JSON
/// already: parsing and printing it again would cost more than everything else.
/// Its head is written into `head`.
fn envelope<'a>(message: &'a Message, head: &'a mut Vec<u8>) -> [&'a [u8]; 4] {
    #[derive(Serialize)]
    struct Head<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        id: super::MessageId,
        channel: &'a Channel,
        #[serde(skip_serializing_if = "Option::is_none")]
        pos: Option<Position>,
        ts: u64,
    }
    *head = to_json(&Head {
        kind: "message",
        id: message.id,
        channel: &message.channel,
        pos: message.position,
        ts: message.accepted_at_us / 1_000,
    });
    head.truncate(head.len() - 1);
    [head, b",\"data\":", &message.data, b"}"]
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our frames hold no maps with other keys than strings")
}

/// Envelopes that a node sends, messages apart.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<'a> {
    /// The session is set up; what follows is delivery.
    Hello {
        /// This session.
        session: SessionId,
        /// The node that has it.
        node: NodeId,
        /// Whose it is.
        user: &'a str,
        /// The device it named.
        device: Option<&'a str>,
        /// Whether every position given was understood and nothing was lost.
        resumed: bool,
        /// Where delivery begins, by channel; absent for a user's own channel that
        /// nothing was ever sent to. Where something is lost, the position before
        /// that: a `gap` follows.
        positions: BTreeMap<&'a str, Position>,
        /// How often the node sends `ping`, in milliseconds.
        heartbeat_ms: u64,
        /// What the node accepts.
        limits: HelloLimits,
    },
    /// The session's token ends soon: send `auth` with a fresh one.
    Reauth {
        /// When the session is closed otherwise, in milliseconds.
        within_ms: u64,
    },
    /// The session listens to these topics, too.
    Subscribed {
        /// Every topic asked for that it listens to now.
        topics: Vec<&'a str>,
        /// Whether every position given for them was understood and nothing was lost.
        resumed: bool,
        /// As in `hello`; absent where it listened already.
        positions: BTreeMap<&'a str, Position>,
    },
    /// The session no longer listens to these topics: nothing of them follows.
    Unsubscribed {
        /// Every topic named.
        topics: Vec<&'a str>,
    },
    /// Messages were lost.
    Gap {
        /// In which channel.
        channel: &'a Channel,
        /// The last position before them, if there was one.
        from: Option<Position>,
        /// The last of them.
        to: Option<Position>,
        /// `trimmed` or `reset`.
        reason: &'a str,
    },
    /// Answer with `pong`, so that both know the other is there.
    Ping,
    /// The node is about to leave: reconnect after that many milliseconds.
    Drain {
        /// A delay of this client's own, spread over the drain's window.
        reconnect_after_ms: u64,
    },
    /// What the client sent could not be used; the session goes on.
    Error {
        /// Stable, for programs.
        code: &'a str,
        /// For people: what to do.
        message: &'a str,
        /// The topics that it is about.
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        topics: &'a [&'a str],
    },
    /// The last of all on an event stream, which has no close codes of its own.
    Close {
        /// One of [`super::close`]: its range says what to do next.
        code: u16,
        /// For people.
        reason: &'a str,
    },
}

/// The part of `hello` that tells a client what is accepted.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct HelloLimits {
    /// The largest frame a client may send.
    pub frame_bytes_max: usize,
    /// Messages a session may have unwritten before it is closed as slow.
    pub outbox_messages_max: usize,
    /// Bytes of the same.
    pub outbox_bytes_max: usize,
    /// Topics that a session may listen to.
    pub topics_max: usize,
}

impl ServerFrame<'_> {
    /// The complete WebSocket frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        ws::encode_text(&[&to_json(self)])
    }

    /// The event, its id apart: its type is the frame's, its data the frame.
    #[must_use]
    pub fn encode_event(&self) -> Bytes {
        sse::encode(self.kind(), &[&to_json(self)])
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Gap { .. } => "gap",
            Self::Ping => "ping",
            Self::Drain { .. } => "drain",
            Self::Error { .. } => "error",
            Self::Reauth { .. } => "reauth",
            Self::Subscribed { .. } => "subscribed",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Close { .. } => "close",
        }
    }
}

/// Envelopes that a client sends. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// A token, when the handshake carried none.
    Auth {
        /// The token.
        token: String,
        /// Positions to resume from, as in `resume`.
        #[serde(default)]
        positions: BTreeMap<String, Position>,
        /// Topics to listen to from the start.
        #[serde(default)]
        topics: Vec<String>,
    },
    /// Where to begin, by channel; the first frame after `?resume=1`.
    Resume {
        /// The last position handled, by channel.
        positions: BTreeMap<String, Position>,
        /// Topics to listen to from the start.
        #[serde(default)]
        topics: Vec<String>,
    },
    /// Everything up to these positions was received.
    Ack {
        /// By channel.
        positions: BTreeMap<String, Position>,
    },
    /// Also listen to these topics.
    Subscribe {
        /// Topics that the token allows.
        topics: Vec<String>,
        /// The last position handled, by channel.
        #[serde(default)]
        positions: BTreeMap<String, Position>,
        /// Where to begin in those without a position.
        #[serde(default)]
        from: Option<From>,
    },
    /// No longer listen to these topics.
    Unsubscribe {
        /// Topics that it listens to.
        topics: Vec<String>,
    },
    /// The answer to `ping`.
    Pong,
    /// A type this release does not know: ignored.
    #[serde(other)]
    Unknown,
}

/// Where to begin without a position or a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// Behind the last message.
    Now,
    /// At the oldest that is kept.
    Oldest,
}

impl ClientFrame {
    /// Reads a client's text frame.
    ///
    /// # Errors
    /// When it is not an envelope: the text says what is wrong with it.
    pub fn decode(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Epoch, MessageId};
    use proptest::prelude::*;

    fn outgoing(data: &str) -> Outgoing {
        Outgoing::new(Message {
            id: MessageId::from_bits(7),
            channel: Channel::user("alice").expect("valid"),
            position: Some(Position::new(Epoch::from_bits(1), 42)),
            accepted_at_us: 1_700_000_000_123_456,
            expires_at_ms: 0,
            data: Bytes::copy_from_slice(data.as_bytes()),
            trace: None,
            accountable: false,
        })
    }

    fn text_of(frame: &[u8]) -> &str {
        let header = if frame[1] < 126 {
            2
        } else if frame[1] == 126 {
            4
        } else {
            10
        };
        std::str::from_utf8(&frame[header..]).expect("UTF-8")
    }

    #[test]
    fn a_plain_client_reads_a_string_as_itself_and_anything_else_as_json() {
        assert_eq!(text_of(outgoing(r#""hi \"you\" ☕""#).frame(Dialect::Plain)), "hi \"you\" ☕");
        assert_eq!(text_of(outgoing(r#"{"a":1}"#).frame(Dialect::Plain)), r#"{"a":1}"#);
        assert_eq!(text_of(outgoing("null").frame(Dialect::Plain)), "null");
    }

    #[test]
    fn an_envelope_carries_the_payload_verbatim() {
        assert_eq!(
            text_of(outgoing(r#"{"a": [1,2]}"#).frame(Dialect::Envelope)),
            concat!(
                r#"{"type":"message","id":"00000000000000000000000007","channel":"user:alice","#,
                r#""pos":"0000000000000001.42","ts":1700000000123,"data":{"a": [1,2]}}"#
            )
        );
    }

    #[test]
    fn an_event_carries_the_envelope_whatever_its_layout() {
        let text =
            String::from_utf8(outgoing("{\n\"a\": 1}").frame(Dialect::Events).to_vec()).expect("UTF-8");
        let data: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let envelope: serde_json::Value = serde_json::from_str(&data.join("\n")).expect("JSON");
        assert_eq!((&envelope["type"], &envelope["data"]["a"]), (&"message".into(), &1.into()));
        assert!(text.starts_with("event: message\n") && text.ends_with("}\n\n"), "{text}");
    }

    #[test]
    fn a_frame_is_encoded_once() {
        let outgoing = outgoing("1");
        assert_eq!(outgoing.frame(Dialect::Envelope).as_ptr(), outgoing.frame(Dialect::Envelope).as_ptr());
    }

    #[test]
    fn client_frames_parse_and_unknown_ones_are_tolerated() {
        let ack =
            ClientFrame::decode(br#"{"type":"ack","positions":{"user:a":"0000000000000001.3"},"new":1}"#);
        let positions = BTreeMap::from([("user:a".to_owned(), Position::new(Epoch::from_bits(1), 3))]);
        assert_eq!(ack.expect("valid"), ClientFrame::Ack { positions });
        assert_eq!(
            ClientFrame::decode(br#"{"type":"wave","at":3}"#).expect("tolerated"),
            ClientFrame::Unknown
        );
        assert!(ClientFrame::decode(b"hello").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ClientFrame::decode(&bytes);
        }
    }
}
