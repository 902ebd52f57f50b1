//! A client that speaks envelopes.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Closed, Dial, PATIENCE, Socket, until};

/// One `message` envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Its id.
    pub id: String,
    /// Its channel.
    pub channel: String,
    /// Its position; none when ephemeral.
    pub position: Option<String>,
    /// Its payload.
    pub data: Value,
}

/// A connected device that speaks envelopes.
#[derive(Debug)]
pub struct Device {
    socket: Socket,
}

impl Device {
    /// Connects and waits for `hello`.
    pub async fn connect(dial: Dial) -> Self {
        Self::over(dial.connect().await).await
    }

    /// Takes over a socket that is about to be greeted.
    pub async fn over(socket: Socket) -> Self {
        let device = Self { socket };
        device.hello().await;
        device
    }

    /// Takes over a socket whose frames are looked at later.
    pub fn of(socket: Socket) -> Self {
        Self { socket }
    }

    /// Connects, gives its positions in a `resume` frame, and waits for `hello`.
    pub async fn resume(dial: Dial, positions: &[(&str, &str)]) -> Self {
        let socket = dial.query("resume=1").connect().await;
        let positions: serde_json::Map<_, _> =
            positions.iter().map(|(channel, position)| ((*channel).to_owned(), json!(position))).collect();
        socket.send_json(&json!({"type": "resume", "positions": positions}));
        Self::over(socket).await
    }

    /// The socket underneath.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Every frame so far.
    pub fn frames(&self) -> Vec<Value> {
        let parse = |text: &String| {
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in the frame {text}"))
        };
        self.socket.texts().iter().map(parse).collect()
    }

    /// Every frame of a type so far.
    pub fn frames_of(&self, kind: &str) -> Vec<Value> {
        self.frames().into_iter().filter(|frame| frame["type"] == kind).collect()
    }

    /// The first frame of a type.
    pub async fn wait_frame(&self, kind: &str, within: Duration) -> Value {
        let what = format!("a device gets the frame '{kind}'");
        until(within, &what, async || self.frames_of(kind).into_iter().next()).await
    }

    /// The session's `hello`.
    pub async fn hello(&self) -> Value {
        self.wait_frame("hello", PATIENCE).await
    }

    /// Every message so far, in order.
    pub fn messages(&self) -> Vec<Received> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let message = |frame: Value| Received {
            id: text(&frame["id"]).expect("a message has an id"),
            channel: text(&frame["channel"]).expect("a message has a channel"),
            position: text(&frame["pos"]),
            data: frame["data"].clone(),
        };
        self.frames_of("message").into_iter().map(message).collect()
    }

    /// The payloads of all messages so far, in order.
    pub fn payloads(&self) -> Vec<Value> {
        self.messages().into_iter().map(|message| message.data).collect()
    }

    /// Waits for at least so many messages, and returns all.
    pub async fn wait_messages(&self, count: usize) -> Vec<Received> {
        self.wait_messages_within(count, PATIENCE).await
    }

    /// The same with a time of its own.
    pub async fn wait_messages_within(&self, count: usize, within: Duration) -> Vec<Received> {
        let what = format!("a device has {count} messages");
        until(within, &what, async || {
            let messages = self.messages();
            assert!(
                messages.len() >= count || self.socket.closed().is_none(),
                "{:?} after {} messages of {count}",
                self.socket.closed(),
                messages.len()
            );
            (messages.len() >= count).then_some(messages)
        })
        .await
    }

    /// The last position it saw in a channel.
    pub fn last_position(&self, channel: &str) -> Option<String> {
        self.messages().into_iter().rev().find(|message| message.channel == channel)?.position
    }

    /// Acknowledges everything up to a position.
    pub fn acknowledge(&self, channel: &str, position: &str) {
        self.socket.send_json(&json!({"type": "ack", "positions": {channel: position}}));
    }

    /// Waits for the node to end the session.
    pub async fn wait_closed(&self, within: Duration) -> Closed {
        self.socket.wait_closed(within).await
    }

    /// Closes in order.
    pub async fn close(self) {
        self.socket.close().await;
    }

    /// Drops the connection without a word.
    pub async fn cut(self) {
        self.socket.cut().await;
    }
}
