//! What a listener has seen: pure, frames in, lines and positions out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::cli::output::one_line;
use crate::cli::utc::utc;
use crate::protocol::Position;

/// How a listener wants to see things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// A line for people.
    Lines,
    /// The frames, one on a line.
    Json,
    /// Bare payloads, as a plain client gets them.
    Plain,
}

/// What a frame comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The session is set up.
    Ready {
        /// For people.
        text: String,
        /// How often the server says something.
        heartbeat: Duration,
    },
    /// A message, ready to be printed; it counts.
    Message(String),
    /// Something to be printed that does not count.
    Note(String),
    /// Something for stderr.
    Aside(String),
    /// To be answered with a pong.
    Ping,
    /// The node is leaving: come back after that long.
    Drain(Duration),
    /// Nothing to do.
    Nothing,
}

/// How far a listener has come.
#[derive(Debug)]
pub(super) struct Progress {
    view: View,
    positions: BTreeMap<String, Position>,
    unacknowledged: BTreeMap<String, Position>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Hello {
    node: String,
    user: String,
    #[serde(default)]
    resumed: bool,
    #[serde(default)]
    positions: BTreeMap<String, Position>,
    heartbeat_ms: u64,
}

#[derive(Deserialize)]
struct Message<'a> {
    channel: String,
    #[serde(default)]
    pos: Option<Position>,
    ts: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Gap {
    channel: String,
    from: Option<Position>,
    to: Option<Position>,
    #[serde(default)]
    reason: String,
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
    pub(super) fn new(view: View) -> Self {
        Self { view, positions: BTreeMap::new(), unacknowledged: BTreeMap::new() }
    }

    /// Takes a text frame in. An error is a frame that no server of ours sends.
    pub(super) fn take(&mut self, text: &str) -> Result<Event, serde_json::Error> {
        if self.view == View::Plain {
            return Ok(Event::Message(text.to_owned()));
        }
        let kind: Kind<'_> = serde_json::from_str(text)?;
        match &*kind.kind {
            "hello" => Ok(self.hello(serde_json::from_str(text)?)),
            "message" => Ok(self.message(serde_json::from_str(text)?, text)),
            "gap" => Ok(self.gap(serde_json::from_str(text)?, text)),
            "ping" => Ok(Event::Ping),
            "drain" => {
                let drain: Drain = serde_json::from_str(text)?;
                Ok(Event::Drain(Duration::from_millis(drain.reconnect_after_ms)))
            }
            "error" => {
                let Complaint { code, message } = serde_json::from_str(text)?;
                Ok(Event::Aside(format!("the server says: {message} [code {code}]")))
            }
            // A later release's.
            _ => Ok(Event::Nothing),
        }
    }

    fn hello(&mut self, hello: Hello) -> Event {
        // Where delivery begins is where to resume if nothing comes before the
        // connection breaks. What was handled already stays handled.
        for (channel, position) in hello.positions {
            self.positions.entry(channel).or_insert(position);
        }
        let resumed = if hello.resumed { ", resumed" } else { "" };
        Event::Ready {
            text: format!("connected to node {} as user {}{resumed}", hello.node, hello.user),
            heartbeat: Duration::from_millis(hello.heartbeat_ms),
        }
    }

    fn message(&mut self, message: Message<'_>, text: &str) -> Event {
        if let Some(position) = message.pos {
            let known = self.positions.get(&message.channel);
            if known.is_some_and(|known| known.epoch == position.epoch && known.seq >= position.seq) {
                return Event::Nothing;
            }
            self.move_to(&message.channel, position);
        }
        if self.view == View::Json {
            return Event::Message(one_line(text));
        }
        let position = message.pos.map_or_else(|| "ephemeral".to_owned(), |position| position.to_string());
        let data = one_line(message.data.get());
        Event::Message(format!("{} {} {position} {data}", utc(message.ts), message.channel))
    }

    fn gap(&mut self, gap: Gap, text: &str) -> Event {
        match gap.to {
            Some(to) => self.move_to(&gap.channel, to),
            // The store has forgotten the channel: asking for the old position
            // again would only bring the same gap again.
            None => {
                self.positions.remove(&gap.channel);
                self.unacknowledged.remove(&gap.channel);
            }
        }
        if self.view == View::Json {
            return Event::Note(one_line(text));
        }
        let of = |position: Option<Position>| position.map_or_else(|| "?".to_owned(), |at| at.to_string());
        let Gap { channel, reason, .. } = &gap;
        Event::Note(format!(
            "gap {channel}: messages after {} up to {} are lost ({reason})",
            of(gap.from),
            of(gap.to)
        ))
    }

    fn move_to(&mut self, channel: &str, position: Position) {
        self.positions.insert(channel.to_owned(), position);
        self.unacknowledged.insert(channel.to_owned(), position);
    }

    /// The frame that acknowledges what was printed since the last one.
    pub(super) fn ack(&mut self) -> Option<String> {
        if self.unacknowledged.is_empty() {
            return None;
        }
        let positions = std::mem::take(&mut self.unacknowledged);
        Some(json!({"type": "ack", "positions": positions}).to_string())
    }

    /// Whether there is something to acknowledge.
    pub(super) fn owes_ack(&self) -> bool {
        !self.unacknowledged.is_empty()
    }

    /// Whether a resume frame would say anything.
    pub(super) fn can_resume(&self) -> bool {
        !self.positions.is_empty()
    }

    /// The frame that tells a new connection where to go on.
    pub(super) fn resume(&self) -> String {
        json!({"type": "resume", "positions": self.positions}).to_string()
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

    fn take(progress: &mut Progress, text: &str) -> Event {
        progress.take(text).expect("a frame")
    }

    #[test]
    fn a_message_is_shown_once_and_owed_an_ack() {
        let mut progress = Progress::new(View::Lines);
        let line = "1970-01-01T00:00:01.000Z user:alice 0000000000000001.5 {  \"a\": 1.50}".to_owned();
        assert_eq!(take(&mut progress, &message(5, "{\n \"a\": 1.50}")), Event::Message(line));
        assert_eq!(take(&mut progress, &message(5, "1")), Event::Nothing);
        assert_eq!(take(&mut progress, &message(4, "1")), Event::Nothing);
        assert_eq!(
            progress.ack().as_deref(),
            Some(r#"{"positions":{"user:alice":"0000000000000001.5"},"type":"ack"}"#)
        );
        assert_eq!(progress.ack(), None);
    }

    #[test]
    fn another_epoch_is_not_taken_for_a_repeat() {
        let mut progress = Progress::new(View::Json);
        take(&mut progress, &message(5, "1"));
        let other = message(1, "2").replace("0001.1", "0009.1");
        assert_eq!(take(&mut progress, &other), Event::Message(other.clone()));
    }

    #[test]
    fn an_ephemeral_message_moves_nothing() {
        let mut progress = Progress::new(View::Lines);
        let frame = r#"{"type":"message","id":"x","channel":"user:alice","ts":0,"data":"hi"}"#;
        let line = "1970-01-01T00:00:00.000Z user:alice ephemeral \"hi\"".to_owned();
        assert_eq!(take(&mut progress, frame), Event::Message(line));
        assert!(!progress.owes_ack() && !progress.can_resume());
    }

    #[test]
    fn a_resume_goes_on_behind_what_was_handled_or_else_where_delivery_began() {
        let mut progress = Progress::new(View::Lines);
        assert!(
            matches!(take(&mut progress, HELLO), Event::Ready { heartbeat, .. } if heartbeat.as_secs() == 25)
        );
        take(&mut progress, &message(5, "1"));
        // The next connection's hello repeats where it begins; that is no step back.
        take(&mut progress, HELLO);
        let resume = progress.resume();
        assert!(resume.contains(r#""user:alice":"0000000000000001.5""#), "{resume}");
        assert!(resume.contains(r#""all":"0000000000000002.1""#), "{resume}");
        assert_eq!(take(&mut progress, &message(5, "1")), Event::Nothing);
    }

    #[test]
    fn a_gap_is_told_and_stepped_over() {
        let mut progress = Progress::new(View::Lines);
        let gap = r#"{"type":"gap","channel":"user:alice","from":null,"to":"0000000000000001.7","reason":"trimmed"}"#;
        let Event::Note(line) = take(&mut progress, gap) else { panic!("a note") };
        assert_eq!(line, "gap user:alice: messages after ? up to 0000000000000001.7 are lost (trimmed)");
        assert_eq!(take(&mut progress, &message(7, "1")), Event::Nothing);
        assert!(progress.owes_ack());
    }

    #[test]
    fn a_channel_that_was_forgotten_is_not_asked_for_again() {
        let mut progress = Progress::new(View::Lines);
        take(&mut progress, &message(5, "1"));
        let gap =
            r#"{"type":"gap","channel":"user:alice","from":"0000000000000001.5","to":null,"reason":"reset"}"#;
        assert!(matches!(take(&mut progress, gap), Event::Note(_)));
        assert!(!progress.can_resume() && !progress.owes_ack());
    }

    #[test]
    fn plain_text_is_shown_as_it_comes() {
        let mut progress = Progress::new(View::Plain);
        assert_eq!(take(&mut progress, HELLO), Event::Message(HELLO.to_owned()));
        assert!(!progress.owes_ack());
    }

    #[test]
    fn unknown_frames_are_passed_over_and_others_refused() {
        let mut progress = Progress::new(View::Lines);
        assert_eq!(take(&mut progress, r#"{"type":"wave","data":[1]}"#), Event::Nothing);
        assert_eq!(take(&mut progress, r#"{"type":"ping"}"#), Event::Ping);
        assert!(progress.take("hello").is_err());
        assert!(progress.take(r#"{"type":"message"}"#).is_err());
    }
}
