//! Receivers: they connect somewhere, listen, lose their connection, come back.

use std::sync::Arc;
use std::time::Duration;

use postrider::protocol::frame::Dialect;
use postrider::protocol::{Channel, Position};
use postrider::session::pipe::{Client, Received};
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::model::HeardGap;
use crate::node::{Connection, Wish};
use crate::plan::Kind;
use crate::world::{Phase, World};

/// Never, as far as a run is concerned.
const NEVER: Duration = Duration::from_secs(100_000);

/// One client.
pub(crate) struct Receiver {
    pub(crate) world: Arc<World>,
    pub(crate) rng: StdRng,
    /// Its number in the model.
    pub(crate) at: usize,
    pub(crate) user: Channel,
    /// What it is held to: its user's own, a topic, or everyone's.
    pub(crate) channel: Channel,
    pub(crate) kind: Kind,
    /// What an envelope client would resume with.
    pub(crate) position: Option<Position>,
}

/// What a connection waits for.
struct Waiting {
    client: Client,
    opened: Option<oneshot::Receiver<()>>,
    phases: watch::Receiver<Phase>,
    /// It stops reading until then.
    reads: Instant,
    ack: Option<Instant>,
    pong: Option<(Instant, Vec<u8>)>,
    trouble: Instant,
}

/// What a connection waited for.
enum Happening {
    Opened(bool),
    Phase,
    Ack,
    Pong,
    Trouble,
    Read(Received),
    ReadsAgain,
}

impl Waiting {
    async fn next(&mut self) -> Happening {
        let now = Instant::now();
        let later = now + NEVER;
        let pong_at = self.pong.as_ref().map(|(at, _)| *at);
        tokio::select! {
            biased;
            told = async { self.opened.as_mut().expect("checked").await }, if self.opened.is_some() => {
                self.opened = None;
                Happening::Opened(told.is_ok())
            }
            _ = self.phases.changed() => Happening::Phase,
            () = sleep_until(self.ack.unwrap_or(later)), if self.ack.is_some() => Happening::Ack,
            () = sleep_until(pong_at.unwrap_or(later)), if pong_at.is_some() => Happening::Pong,
            () = sleep_until(self.trouble) => Happening::Trouble,
            received = self.client.next(), if self.reads <= now => Happening::Read(received),
            () = sleep_until(self.reads), if self.reads > now => Happening::ReadsAgain,
        }
    }
}

impl Receiver {
    pub(crate) async fn run(mut self) {
        if self.rng.random_bool(0.3) {
            sleep(self.world.plan.chaos.mul_f64(0.5 * self.rng.random::<f64>())).await;
        }
        while self.world.phase() != Phase::Over {
            if let Some(node) = self.world.pick(&mut self.rng) {
                self.world.model(|model| model.connected(self.at));
                let connection = node.connect(self.wish());
                self.listen(connection).await;
            }
            // Full jitter.
            let pause = Duration::from_millis(self.rng.random_range(1..500));
            sleep(pause).await;
        }
    }

    fn wish(&self) -> Wish {
        let (dialect, device) = match &self.kind {
            Kind::Envelope(device) => (Dialect::Envelope, device.clone()),
            Kind::Device(device) => (Dialect::Plain, Some(device.clone())),
            Kind::Nameless => (Dialect::Plain, None),
        };
        let (user, channel) = (self.user.clone(), self.channel.clone());
        Wish { user, device, dialect, channel, position: self.position }
    }

    /// Listens until the connection is over.
    async fn listen(&mut self, connection: Connection) {
        let Connection { client, opened } = connection;
        let now = Instant::now();
        let trouble = now + Duration::from_millis(self.rng.random_range(20..6_000));
        let phases = self.world.phases();
        let opened = Some(opened);
        let mut waiting = Waiting { client, opened, phases, reads: now, ack: None, pong: None, trouble };
        loop {
            let calm = self.world.phase() != Phase::Chaos;
            if calm {
                waiting.trouble = Instant::now() + NEVER;
            }
            match waiting.next().await {
                Happening::Opened(true) => self.world.model(|model| model.attached(self.at)),
                Happening::Phase if self.world.phase() == Phase::Over => return,
                Happening::Opened(false) | Happening::Phase | Happening::ReadsAgain => {}
                Happening::Ack => {
                    waiting.ack = None;
                    self.acknowledge(&waiting.client).await;
                }
                Happening::Pong => {
                    if let Some((_, payload)) = waiting.pong.take() {
                        waiting.client.pong(&payload).await;
                    }
                }
                Happening::Trouble => return self.part(waiting.client).await,
                Happening::Read(received) => {
                    if !self.take(received, &mut waiting).await {
                        return;
                    }
                    if !calm && self.world.plan.stalls && self.rng.random_bool(0.05) {
                        let pause = Duration::from_millis(self.rng.random_range(10..4_000));
                        waiting.reads = Instant::now() + pause;
                    }
                }
            }
        }
    }

    /// Loses its connection, one way or another.
    async fn part(&mut self, client: Client) {
        match self.rng.random_range(0..3) {
            // The network breaks it.
            0 => {}
            // It is gone, and the node does not know.
            1 => {
                let known_after = Duration::from_millis(self.rng.random_range(500..10_000));
                tokio::spawn(async move {
                    sleep(known_after).await;
                    drop(client);
                });
            }
            _ => client.close(1000, "").await,
        }
    }

    /// Takes a frame; `false` when the connection is over.
    async fn take(&mut self, received: Received, waiting: &mut Waiting) -> bool {
        let now = Instant::now();
        match received {
            Received::End | Received::Close(..) => return false,
            Received::Pong(_) => {}
            Received::Ping(payload) => {
                let after = Duration::from_millis(self.rng.random_range(0..150));
                waiting.pong = Some((now + after, payload));
            }
            Received::Text(text) if matches!(self.kind, Kind::Envelope(_)) => {
                let frame: serde_json::Value = serde_json::from_str(&text).expect("envelopes are JSON");
                self.take_envelope(&frame, waiting).await;
            }
            Received::Text(text) => self.world.model(|model| model.heard(self.at, &text)),
        }
        true
    }

    async fn take_envelope(&mut self, frame: &serde_json::Value, waiting: &mut Waiting) {
        let position = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse().ok());
        match frame["type"].as_str() {
            Some("hello") => {
                let begin = position(&frame["positions"][self.channel.as_str()]);
                self.world.model(|model| model.greeted(self.at, begin));
                if self.position.is_none() {
                    self.position = begin;
                }
            }
            Some("message") => {
                let data = frame["data"].as_str().expect("we push strings");
                self.world.model(|model| model.heard(self.at, data));
                if let Some(position) = position(&frame["pos"]) {
                    self.advance(position);
                    let after = Duration::from_millis(self.rng.random_range(0..400));
                    waiting.ack.get_or_insert(Instant::now() + after);
                }
            }
            Some("gap") => {
                let (from, to) = (position(&frame["from"]), position(&frame["to"]));
                let reason = frame["reason"].as_str().unwrap_or("").to_owned();
                self.world.model(|model| model.heard_gap(self.at, HeardGap { from, to, reason }));
                self.position = to;
                waiting.ack.get_or_insert(Instant::now());
            }
            Some("ping") => waiting.client.text(r#"{"type":"pong"}"#).await,
            Some("drain") => {}
            _ => self.world.model(|model| model.violation(format!("client {} was sent {frame}", self.at))),
        }
    }

    /// Moves to a message's position, which must be ahead.
    fn advance(&mut self, position: Position) {
        let world = self.world.clone();
        if let Some(last) = self.position {
            let ahead = position.seq > last.seq;
            let same = position.epoch == last.epoch || last == Position::BEGINNING;
            if !ahead || (!same && !world.plan.flavour.restarts()) {
                let text = format!("client {} went from {last} to {position}", self.at);
                world.model(|model| model.violation(text));
            }
        }
        self.position = Some(position);
    }

    async fn acknowledge(&self, client: &Client) {
        let (Kind::Envelope(Some(_)), Some(position)) = (&self.kind, self.position) else { return };
        let positions = serde_json::json!({ self.channel.as_str(): position.to_string() });
        client.text(&serde_json::json!({ "type": "ack", "positions": positions }).to_string()).await;
    }
}
