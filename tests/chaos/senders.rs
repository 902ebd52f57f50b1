//! Backends that push at a steady rate and try again until they are told that
//! it is accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

use crate::model::{Kind, Model};

/// How long a sender waits for an answer before it asks another node.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How often it tries: without any node for that long something is very wrong.
const TRIES_MAX: u32 = 200;

/// One sender: sends to one channel, one message after the other.
pub struct Sender {
    pub model: Arc<Model>,
    pub number: usize,
    pub user: usize,
    pub addresses: Vec<SocketAddr>,
    pub seed: u64,
    pub interval: Duration,
}

impl Sender {
    /// Sends until it is told to stop, and finishes what it has begun.
    pub async fn run(self, stop: CancellationToken) {
        let mut rng = StdRng::seed_from_u64(self.seed ^ (self.number as u64) << 32);
        let client = client();
        let first = Instant::now() + self.interval.mul_f64(rng.random());
        let mut ticks = tokio::time::interval_at(first, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let kind = match rng.random_range(0..100) {
                0..4 => Kind::Ephemeral,
                4..8 => Kind::Brief,
                8..13 => Kind::Collapsible(rng.random_range(0..3)),
                _ => Kind::Kept,
            };
            self.push(&client, &mut rng, kind).await;
        }
    }

    /// Sends one message that is kept.
    pub async fn last_word(self) {
        let mut rng = StdRng::seed_from_u64(self.seed);
        self.push(&client(), &mut rng, Kind::Kept).await;
    }

    async fn push(&self, client: &reqwest::Client, rng: &mut StdRng, kind: Kind) {
        let n = self.model.sending(self.user, self.number, kind);
        let length = if rng.random_bool(0.02) { 8_000 } else { rng.random_range(0..200) };
        let mut body = json!({
            "to": channel(self.user),
            "data": {"n": n, "pad": "x".repeat(length)},
            "ttl": match kind { Kind::Ephemeral => 0, Kind::Brief => 1, _ => 3_600 },
        });
        if let Kind::Collapsible(key) = kind {
            body["collapse_key"] = json!(format!("key{key}"));
        }
        let (key, text) = (format!("message-{n}"), body.to_string());
        let patient = rng.random_bool(0.97);
        for tries in 1..=TRIES_MAX {
            let address = self.addresses[rng.random_range(0..self.addresses.len())];
            if self.attempt(client, address, n, &key, &text).await {
                return;
            }
            self.model.failed();
            if !patient {
                return;
            }
            let most = Duration::from_millis(50 << tries.min(4));
            sleep(most.mul_f64(rng.random())).await;
        }
        self.model.complain(format!("message {n} was not accepted in {TRIES_MAX} tries"));
    }

    /// Whether it was accepted.
    async fn attempt(
        &self,
        client: &reqwest::Client,
        address: SocketAddr,
        n: usize,
        key: &str,
        body: &str,
    ) -> bool {
        let request = client
            .post(format!("http://{address}/v1/push"))
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(body.to_owned());
        let Ok(response) = request.send().await else { return false };
        let status = response.status().as_u16();
        let Ok(text) = response.text().await else { return false };
        match status {
            202 => {
                let answer = serde_json::from_str(&text).unwrap_or_default();
                self.model.accepted(n, &answer);
                true
            }
            500..=599 => {
                if status == 503 && !text.contains("\"code\"") {
                    self.model.complain(format!("a 503 without a code: {text}"));
                }
                false
            }
            _ => {
                self.model.complain(format!("message {n} was answered {status}: {text}"));
                false
            }
        }
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(1))
        .timeout(ANSWER_MAX)
        .build()
        .expect("a client without special wishes")
}

/// Channels of users; those behind them are topics', and the last is everyone's.
pub const USERS: usize = 12;
/// Topics, each with listeners of its own.
pub const TOPICS: usize = 3;
/// The channel that every session listens to.
pub const ALL: usize = USERS + TOPICS;
/// All that is sent to.
pub const CHANNELS: usize = ALL + 1;

/// A channel.
pub fn channel(number: usize) -> String {
    match topic(number) {
        _ if number == ALL => "all".to_owned(),
        Some(topic) => format!("topic:{topic}"),
        None => format!("user:{}", name(number)),
    }
}

/// The topic that a channel is, if it is one's.
pub fn topic(number: usize) -> Option<String> {
    (USERS..ALL).contains(&number).then(|| format!("t.{number}"))
}

/// The name of the user who receives what is sent to a channel.
pub fn name(number: usize) -> String {
    format!("u{number}")
}
