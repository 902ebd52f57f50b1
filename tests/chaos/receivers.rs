//! Devices that connect to any node, and elsewhere when that ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::harness::Dial;
use crate::model::{Client, Model};
use crate::senders::{ALL, channel, name, topic};

/// How long the opening may take.
pub const OPEN_MAX: Duration = Duration::from_secs(3);
/// Nodes ping every two seconds: silence of this length is a dead connection.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often a device that speaks envelopes acknowledges.
const ACKNOWLEDGE: Duration = Duration::from_millis(100);
/// The longest pause before a device tries again.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Close codes after which a client connects again. Any other is our fault.
const FRIENDLY: [u16; 6] = [1001, 1012, 1013, 4101, 4102, 4103];

/// One device.
pub struct Receiver {
    pub model: Arc<Model>,
    pub client: Client,
    pub user: usize,
    pub addresses: Vec<SocketAddr>,
    pub seed: u64,
    /// Whether it also leaves by itself now and then.
    pub restless: bool,
}

type Stream = WebSocketStream<TcpStream>;

/// A device's memory over its connections.
pub struct Device {
    pub receiver: Receiver,
    pub life: usize,
    pub rng: StdRng,
    /// By channel, the last position it had.
    pub positions: BTreeMap<String, String>,
    /// The same of an event stream.
    pub last_id: String,
    /// Channels with positions that no node was told of.
    pub unacknowledged: BTreeSet<String>,
    pub http: reqwest::Client,
    /// Learns when the first connection stands.
    first: Option<Arc<Semaphore>>,
}

/// Why a connection ended, for the pause that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stopped,
    Lost,
}

impl Receiver {
    /// Connects again and again until it is told to stop. `first` learns when
    /// the first connection stands.
    pub async fn run(self, stop: CancellationToken, first: Arc<Semaphore>) {
        let life = self.model.born(self.client, self.user);
        let rng = StdRng::seed_from_u64(self.seed ^ (life as u64) << 16);
        let (positions, last_id, unacknowledged) = (BTreeMap::new(), String::new(), BTreeSet::new());
        let (http, first) = (reqwest::Client::new(), Some(first));
        let mut device =
            Device { receiver: self, life, rng, positions, last_id, unacknowledged, http, first };
        let mut tries = 0;
        loop {
            let ended = match device.receiver.client {
                Client::Events => device.follow(&stop).await,
                _ => device.socket(&stop).await,
            };
            match ended {
                Some(End::Stopped) => return,
                Some(End::Lost) => tries = 0,
                None => {}
            }
            // Full jitter: a crash must not become a storm.
            let most = Duration::from_millis(100 << tries.min(5)).min(PAUSE_MAX);
            tries += 1;
            let pause = most.mul_f64(device.rng.random());
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }
}

impl Device {
    /// A connection stands.
    pub fn connected(&mut self) {
        self.receiver.model.connected(self.life);
        if let Some(first) = self.first.take() {
            first.add_permits(1);
        }
    }

    /// When it leaves by itself.
    pub fn leave_at(&mut self) -> Instant {
        let stay = Duration::from_millis(self.rng.random_range(2_000..20_000));
        Instant::now() + if self.receiver.restless { stay } else { Duration::from_secs(86_400) }
    }

    /// One connection from beginning to end, if it comes to be.
    async fn socket(&mut self, stop: &CancellationToken) -> Option<End> {
        let stream = self.open().await?;
        self.connected();
        Some(self.listen(stream, stop).await)
    }

    /// A connection to any node, greeted if it is to be.
    async fn open(&mut self) -> Option<Stream> {
        let Receiver { addresses, client, user: number, .. } = &self.receiver;
        let address = addresses[self.rng.random_range(0..addresses.len())];
        let user_name = name(*number);
        let device = format!("d{}", self.life);
        let dial = match client {
            Client::Resuming => Dial::envelope(address, &user_name).device(&device).query("resume=1"),
            Client::Named => Dial::envelope(address, &user_name).device(&device),
            Client::PlainDevice => Dial::plain(address, &user_name).device(&device),
            Client::Nameless => Dial::plain(address, &user_name),
            Client::Events => unreachable!("an event stream is no socket"),
        };
        let dial = match topic(*number) {
            Some(topic) => dial.query(&format!("topic={topic}")),
            None => dial,
        };
        let mut stream = timeout(OPEN_MAX, dial.open()).await.ok()?.ok()?;
        if *client == Client::Resuming {
            let resume = json!({"type": "resume", "positions": self.positions});
            stream.send(Message::text(resume.to_string())).await.ok()?;
        }
        if matches!(client, Client::Resuming | Client::Named) {
            let hello = timeout(OPEN_MAX, hello(&mut stream)).await.ok()??;
            self.greeted(&hello);
        }
        Some(stream)
    }

    pub fn greeted(&mut self, hello: &Value) {
        if !self.receiver.client.resumes() {
            return;
        }
        if !self.positions.is_empty() && hello["resumed"] != true {
            let text = format!("client {} gave {:?} and was told {hello}", self.life, self.positions);
            self.receiver.model.complain(text);
        }
        for heard in [channel(self.receiver.user), channel(ALL)] {
            if let Some(position) = hello["positions"][&heard].as_str() {
                self.positions.insert(heard, position.to_owned());
            }
        }
    }

    /// A message came as an envelope.
    pub fn message(&mut self, frame: &Value) {
        let position = frame["pos"].as_str();
        self.receiver.model.arrived(self.life, &frame["data"], position);
        if let (Some(channel), Some(position)) = (frame["channel"].as_str(), position) {
            self.positions.insert(channel.to_owned(), position.to_owned());
            self.unacknowledged.insert(channel.to_owned());
        }
    }

    /// What no node was told of, which is told now.
    pub fn take_unacknowledged(&mut self) -> Option<Value> {
        let channels = std::mem::take(&mut self.unacknowledged);
        let positions: BTreeMap<_, _> =
            channels.iter().filter_map(|channel| Some((channel, self.positions.get(channel)?))).collect();
        (!positions.is_empty()).then(|| json!(positions))
    }

    /// The server ended the connection with a code.
    pub fn closed(&self, code: u16, how: &str) {
        if !FRIENDLY.contains(&code) {
            self.receiver.model.complain(format!("client {} was closed with {how}", self.life));
        }
    }

    async fn listen(&mut self, mut stream: Stream, stop: &CancellationToken) -> End {
        let mut acknowledge = tokio::time::interval(ACKNOWLEDGE);
        acknowledge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let leave_at = self.leave_at();
        let politely = self.rng.random_bool(0.5);
        let mut silent_since = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.acknowledge(&mut stream).await;
                    return End::Stopped;
                }
                () = tokio::time::sleep_until(silent_since + SILENCE_MAX) => return End::Lost,
                () = tokio::time::sleep_until(leave_at) => {
                    if politely {
                        // Whether it is heard is not for a client to know.
                        drop(timeout(Duration::from_millis(200), stream.close(None)).await);
                    }
                    return End::Lost;
                }
                _ = acknowledge.tick() => self.acknowledge(&mut stream).await,
                incoming = stream.next() => {
                    silent_since = Instant::now();
                    match incoming {
                        Some(Ok(message)) => if !self.take(message, &mut stream).await { return End::Lost },
                        Some(Err(_)) | None => return End::Lost,
                    }
                }
            }
        }
    }

    async fn acknowledge(&mut self, stream: &mut Stream) {
        let Some(positions) = self.take_unacknowledged() else { return };
        let frame = json!({"type": "ack", "positions": positions}).to_string();
        // What does not go out is acknowledged with the next, or after coming back.
        drop(timeout(Duration::from_millis(500), stream.send(Message::text(frame))).await);
    }

    /// Whether the connection goes on.
    async fn take(&mut self, message: Message, stream: &mut Stream) -> bool {
        match message {
            Message::Text(text) => self.text(&text, stream).await,
            Message::Ping(_) => {
                // The library has queued the pong; it goes out with a flush.
                drop(stream.flush().now_or_never());
            }
            Message::Close(frame) => {
                let code = frame.as_ref().map_or(1005, |frame| u16::from(frame.code));
                self.closed(code, &format!("{frame:?}"));
                drop(stream.flush().now_or_never());
                return false;
            }
            _ => {}
        }
        true
    }

    async fn text(&mut self, text: &str, stream: &mut Stream) {
        let Receiver { model, client, .. } = &self.receiver;
        let Ok(frame) = serde_json::from_str::<Value>(text) else {
            return model.complain(format!("client {} got no JSON: {text}", self.life));
        };
        if matches!(client, Client::PlainDevice | Client::Nameless) {
            return model.arrived(self.life, &frame, None);
        }
        match frame["type"].as_str() {
            Some("message") => self.message(&frame),
            Some("ping") => drop(stream.send(Message::text(r#"{"type":"pong"}"#)).now_or_never()),
            Some("drain") => {}
            _ => model.complain(format!("client {} at {:?} was told {frame}", self.life, self.positions)),
        }
    }
}

async fn hello(stream: &mut Stream) -> Option<Value> {
    loop {
        if let Message::Text(text) = stream.next().await?.ok()? {
            let frame: Value = serde_json::from_str(&text).ok()?;
            if frame["type"] == "hello" {
                return Some(frame);
            }
        }
    }
}
