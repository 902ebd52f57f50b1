//! What a client has had: pure, frames in, events and positions out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::protocol::{Channel, Position};

/// A session that is set up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// The node that has it.
    pub node: String,
    /// Whose it is.
    pub user: String,
    /// Whether delivery goes on behind the positions given and nothing was lost.
    #[serde(default)]
    pub resumed: bool,
    #[serde(default)]
    positions: BTreeMap<String, Position>,
    heartbeat_ms: u64,
}

/// A message.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    /// Its ULID.
    pub id: String,
    /// What it was addressed to, like `user:alice`.
    pub channel: String,
    /// Where it stands in the channel; none of an ephemeral one.
    #[serde(default, rename = "pos")]
    pub position: Option<Position>,
    /// When it was accepted: milliseconds since 1970.
    #[serde(rename = "ts")]
    pub accepted_at_ms: u64,
    /// What was pushed: JSON as its sender wrote it.
    pub data: Box<RawValue>,
    /// The whole envelope as it came.
    #[serde(skip)]
    pub frame: String,
    /// Which one it was, of all that came.
    #[serde(skip)]
    order: u64,
}

/// Messages that were lost for this device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Gap {
    /// In which channel.
    pub channel: String,
    /// The last position before them, if there was one.
    pub from: Option<Position>,
    /// The last of them, if it is known.
    pub to: Option<Position>,
    /// `trimmed` or `reset`.
    #[serde(default)]
    pub reason: String,
    /// The whole envelope as it came.
    #[serde(skip)]
    pub frame: String,
}

/// What a frame comes to.
#[derive(Debug)]
pub(super) enum Taken {
    /// The session is set up; the server says something as often as that.
    Ready(Session, Duration),
    Message(Message),
    Gap(Gap),
    /// Something the server complains of: code and text.
    Complaint(String, String),
    /// To be answered with a pong.
    Ping,
    /// The node is leaving: come back after that long.
    Drain(Duration),
    /// Nothing to do.
    Nothing,
}

/// How far a client has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last one given, or else where delivery began.
    positions: BTreeMap<String, Position>,
    /// Given, and not yet asked beyond.
    given: BTreeMap<String, Mark>,
    /// Handled, whether a node was told or not.
    handled: BTreeMap<String, Mark>,
    /// Handled, and the node not told.
    untold: BTreeSet<String>,
    orders: u64,
}

/// Positions of two epochs cannot be compared; the order in which they came can.
#[derive(Debug, Clone, Copy)]
struct Mark {
    order: u64,
    position: Position,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Subscribed {
    #[serde(default)]
    positions: BTreeMap<String, Position>,
}

#[derive(Deserialize)]
struct Drain {
    reconnect_after_ms: u64,
}

#[derive(Deserialize)]
struct Complaint {
    code: String,
    message: String,
}

impl Progress {
    pub(super) fn new(positions: BTreeMap<String, Position>) -> Self {
        Self { positions, ..Self::default() }
    }

    /// Takes a text frame in. An error is a frame that no server of ours sends.
    pub(super) fn take(&mut self, text: &str) -> Result<Taken, serde_json::Error> {
        let kind: Kind<'_> = serde_json::from_str(text)?;
        Ok(match &*kind.kind {
            "hello" => self.hello(serde_json::from_str(text)?),
            "message" => self.message(serde_json::from_str(text)?, text),
            "gap" => self.gap(serde_json::from_str(text)?, text),
            "subscribed" => {
                let Subscribed { positions } = serde_json::from_str(text)?;
                self.begin(&positions);
                Taken::Nothing
            }
            "ping" => Taken::Ping,
            "drain" => {
                let drain: Drain = serde_json::from_str(text)?;
                Taken::Drain(Duration::from_millis(drain.reconnect_after_ms))
            }
            "error" => {
                let Complaint { code, message } = serde_json::from_str(text)?;
                Taken::Complaint(code, message)
            }
            // A later release's.
            _ => Taken::Nothing,
        })
    }

    fn hello(&mut self, session: Session) -> Taken {
        self.begin(&session.positions);
        // What the last node was told may have been lost with it.
        self.untold.extend(self.handled.keys().cloned());
        let heartbeat = Duration::from_millis(session.heartbeat_ms);
        Taken::Ready(session, heartbeat)
    }

    /// Where delivery begins is where to resume if nothing comes before the
    /// connection breaks. What was given already stays given.
    fn begin(&mut self, positions: &BTreeMap<String, Position>) {
        for (channel, position) in positions {
            self.positions.entry(channel.clone()).or_insert(*position);
        }
    }

    fn message(&mut self, message: Message, text: &str) -> Taken {
        if let Some(position) = message.position {
            let known = self.positions.get(&message.channel);
            if known.is_some_and(|known| known.epoch == position.epoch && known.seq >= position.seq) {
                return Taken::Nothing;
            }
            self.move_to(&message.channel, position);
        }
        Taken::Message(Message { frame: text.to_owned(), order: self.orders, ..message })
    }

    fn gap(&mut self, gap: Gap, text: &str) -> Taken {
        match gap.to {
            Some(to) => self.move_to(&gap.channel, to),
            // The store has forgotten the channel: asking for the old position
            // again would only bring the same gap again.
            None => {
                self.positions.remove(&gap.channel);
                self.given.remove(&gap.channel);
                self.handled.remove(&gap.channel);
                self.untold.remove(&gap.channel);
            }
        }
        Taken::Gap(Gap { frame: text.to_owned(), ..gap })
    }

    fn move_to(&mut self, channel: &str, position: Position) {
        self.orders += 1;
        self.positions.insert(channel.to_owned(), position);
        self.given.insert(channel.to_owned(), Mark { order: self.orders, position });
    }

    /// What was given has been handled.
    pub(super) fn handled(&mut self) {
        for (channel, mark) in std::mem::take(&mut self.given) {
            self.handle(channel, mark);
        }
    }

    /// A message has been handled, and all before it in its channel.
    pub(super) fn acknowledge(&mut self, message: &Message) {
        if let Some(position) = message.position {
            self.handle(message.channel.clone(), Mark { order: message.order, position });
        }
    }

    fn handle(&mut self, channel: String, mark: Mark) {
        if self.handled.get(&channel).is_none_or(|known| known.order < mark.order) {
            self.untold.insert(channel.clone());
            self.handled.insert(channel, mark);
        }
    }

    /// The frame that acknowledges what no node was told of.
    pub(super) fn ack(&self) -> Option<String> {
        let position = |channel: &String| Some((channel.clone(), self.handled.get(channel)?.position));
        let positions: BTreeMap<_, _> = self.untold.iter().filter_map(position).collect();
        (!positions.is_empty()).then(|| json!({"type": "ack", "positions": positions}).to_string())
    }

    /// The node was sent the ack.
    pub(super) fn told(&mut self) {
        self.untold.clear();
    }

    /// Whether there is something to acknowledge.
    pub(super) fn owes_ack(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Where the next connection would go on, by channel.
    pub(super) fn positions(&self) -> &BTreeMap<String, Position> {
        &self.positions
    }

    /// The frame that tells a new connection where to go on, if there is something
    /// to tell: nothing of topics that are not among the wanted ones.
    pub(super) fn resume(&self, wanted: &BTreeSet<Channel>) -> Option<String> {
        let is_wanted = |name: &str| match name.parse::<Channel>() {
            Ok(channel) => channel.topic_name().is_none() || wanted.contains(&channel),
            Err(_) => false,
        };
        let positions: BTreeMap<_, _> = self.positions.iter().filter(|(name, _)| is_wanted(name)).collect();
        (!positions.is_empty()).then(|| json!({"type": "resume", "positions": positions}).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = r#"{"type":"hello","node":"N","user":"alice","resumed":true,"heartbeat_ms":25000,"new":1,
        "positions":{"user:alice":"0000000000000001.4","all":"0000000000000002.1"}}"#;

    fn message(seq: u64, data: &str) -> String {
        format!(
            r#"{{"type":"message","id":"x","channel":"user:alice","pos":"0000000000000001.{seq}","ts":1000,"data":{data}}}"#
        )
    }

    /// The payload of the message that a frame comes to, if it is one.
    fn data(progress: &mut Progress, text: &str) -> Option<String> {
        match progress.take(text).expect("a frame") {
            Taken::Message(message) => Some(message.data.get().to_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_message_is_given_once_and_owed_an_ack_when_it_was_handled() {
        let mut progress = Progress::default();
        assert_eq!(data(&mut progress, &message(5, "{\n \"a\": 1.50}")).as_deref(), Some("{\n \"a\": 1.50}"));
        assert_eq!(data(&mut progress, &message(5, "1")), None);
        assert_eq!(data(&mut progress, &message(4, "1")), None);
        assert_eq!(progress.ack(), None, "nobody has handled it yet");
        progress.handled();
        let ack = r#"{"positions":{"user:alice":"0000000000000001.5"},"type":"ack"}"#;
        assert_eq!(progress.ack().as_deref(), Some(ack));
        progress.told();
        assert_eq!(progress.ack(), None);
        progress.take(HELLO).expect("a frame");
        assert_eq!(progress.ack().as_deref(), Some(ack), "the last node may have died with it");
    }

    #[test]
    fn acknowledging_by_hand_covers_what_came_before_and_never_goes_back() {
        let mut progress = Progress::default();
        let mut take = |seq| match progress.take(&message(seq, "1")).expect("a frame") {
            Taken::Message(message) => message,
            other => panic!("{other:?}"),
        };
        let (first, second) = (take(5), take(6));
        progress.acknowledge(&second);
        progress.acknowledge(&first);
        assert!(progress.ack().is_some_and(|ack| ack.contains("0001.6")), "{:?}", progress.ack());
        progress.told();
        progress.acknowledge(&first);
        assert!(!progress.owes_ack());
    }

    #[test]
    fn another_epoch_is_not_taken_for_a_repeat() {
        let mut progress = Progress::default();
        data(&mut progress, &message(5, "1"));
        let other = message(1, "2").replace("0001.1", "0009.1");
        assert_eq!(data(&mut progress, &other).as_deref(), Some("2"));
    }

    #[test]
    fn an_ephemeral_message_moves_nothing() {
        let mut progress = Progress::default();
        let frame = r#"{"type":"message","id":"x","channel":"user:alice","ts":0,"data":"hi"}"#;
        assert_eq!(data(&mut progress, frame).as_deref(), Some("\"hi\""));
        progress.handled();
        assert!(!progress.owes_ack() && progress.positions().is_empty());
    }

    #[test]
    fn a_resume_goes_on_behind_what_was_given_or_else_where_delivery_began() {
        let mut progress = Progress::default();
        let taken = progress.take(HELLO).expect("a frame");
        assert!(matches!(taken, Taken::Ready(_, heartbeat) if heartbeat.as_secs() == 25));
        data(&mut progress, &message(5, "1"));
        // The next connection's hello repeats where it begins; that is no step back.
        progress.take(HELLO).expect("a frame");
        let resume = progress.resume(&BTreeSet::new()).expect("something to resume");
        assert!(resume.contains(r#""user:alice":"0000000000000001.5""#), "{resume}");
        assert!(resume.contains(r#""all":"0000000000000002.1""#), "{resume}");
        assert_eq!(data(&mut progress, &message(5, "1")), None);
    }

    #[test]
    fn a_gap_is_told_and_stepped_over() {
        let mut progress = Progress::default();
        let gap = r#"{"type":"gap","channel":"user:alice","from":null,"to":"0000000000000001.7","reason":"trimmed"}"#;
        assert!(matches!(progress.take(gap).expect("a frame"), Taken::Gap(gap) if gap.reason == "trimmed"));
        assert_eq!(data(&mut progress, &message(7, "1")), None);
        progress.handled();
        assert!(progress.owes_ack());
    }

    #[test]
    fn a_channel_that_was_forgotten_is_not_asked_for_again() {
        let mut progress = Progress::default();
        data(&mut progress, &message(5, "1"));
        let gap =
            r#"{"type":"gap","channel":"user:alice","from":"0000000000000001.5","to":null,"reason":"reset"}"#;
        assert!(matches!(progress.take(gap).expect("a frame"), Taken::Gap(_)));
        progress.handled();
        assert!(progress.positions().is_empty() && !progress.owes_ack());
    }

    #[test]
    fn unknown_frames_are_passed_over_and_others_refused() {
        let mut progress = Progress::default();
        assert!(matches!(progress.take(r#"{"type":"wave","data":[1]}"#), Ok(Taken::Nothing)));
        assert!(matches!(progress.take(r#"{"type":"ping"}"#), Ok(Taken::Ping)));
        assert!(progress.take("hello").is_err());
        assert!(progress.take(r#"{"type":"message"}"#).is_err());
    }
}
