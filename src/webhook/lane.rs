//! Lanes: bounded queues, each with a task that sends what is in it.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::delivery::{Follower, Kind, News};
use crate::metrics::Metrics;
use crate::protocol::MessageId;

use super::body::{body, kind, name};
use super::sign::Secret;

/// Requests under way at once.
const LANES: usize = 8;
/// How long a receiver may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often a piece of news is tried: with the pauses between, some six minutes.
const TRIES_MAX: u32 = 12;
/// The longest first pause; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause, also of those that a receiver asks for.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a node that ends goes on handing over what it has, without retries.
const FAREWELL: Duration = Duration::from_secs(3);

/// Where news goes, and which.
#[derive(Debug, Clone)]
pub struct Options {
    /// The receiver.
    pub url: Url,
    /// What requests are signed with.
    pub secret: Secret,
    /// The kinds wanted, by name.
    pub events: Vec<String>,
    /// News that may wait in all.
    pub queue_max: usize,
}

/// Takes news, and sends it.
#[derive(Debug)]
pub struct Webhook {
    lanes: Vec<mpsc::Sender<News>>,
    hasher: RandomState,
    events: Vec<String>,
    dropped: DropCounter,
}

/// The counter, which has no text form.
struct DropCounter(Metrics);

impl std::fmt::Debug for DropCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DropCounter").finish_non_exhaustive()
    }
}

impl DropCounter {
    fn count(&self, reason: &'static str, count: u64) {
        self.0.webhooks_dropped.with(reason).increment(count);
    }
}

impl Webhook {
    /// Starts the lanes under `tasks`; they end soon after `stop`.
    ///
    /// # Errors
    /// When this machine cannot make requests.
    pub fn start(
        options: &Options,
        metrics: &Metrics,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
            // The receiver was named; where it points elsewhere the news is not for.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let lane_max = options.queue_max.div_ceil(LANES).max(1);
        let lanes = (0..LANES).map(|_| {
            let (sender, queue) = mpsc::channel(lane_max);
            let lane = Lane {
                http: http.clone(),
                url: options.url.clone(),
                secret: options.secret.clone(),
                metrics: metrics.clone(),
                stop: stop.clone(),
            };
            tasks.spawn(lane.run(queue));
            sender
        });
        Ok(Self {
            lanes: lanes.collect(),
            hasher: RandomState::new(),
            events: options.events.clone(),
            dropped: DropCounter(metrics.clone()),
        })
    }
}

impl Follower for Webhook {
    fn wants(&self, kind: Kind) -> bool {
        self.events.iter().any(|event| event == name(kind))
    }

    fn tell(&self, news: News) {
        if !self.wants(kind(&news.event)) {
            return;
        }
        let lane = self.hasher.hash_one(&news.channel) as usize % LANES;
        if self.lanes[lane].try_send(news).is_err() {
            self.dropped.count("queue_full", 1);
        }
    }

    fn missed(&self, count: u64) {
        self.dropped.count("not_followed", count);
    }
}

struct Lane {
    http: reqwest::Client,
    url: Url,
    secret: Secret,
    metrics: Metrics,
    stop: CancellationToken,
}

/// What a try came to.
enum Tried {
    Taken,
    /// Never to be tried again.
    Refused,
    /// To be tried again, after that long if the receiver said so.
    Failed(Option<Duration>),
}

impl Lane {
    async fn run(self, mut queue: mpsc::Receiver<News>) {
        let mut farewell_until = None;
        loop {
            let news = tokio::select! {
                news = queue.recv() => news,
                () = self.stop.cancelled(), if farewell_until.is_none() => {
                    farewell_until = Some(Instant::now() + FAREWELL);
                    // Other tasks still tell of this node's own leaving.
                    continue;
                }
                () = until(farewell_until) => None,
            };
            let Some(news) = news else { break };
            self.hand_over(&news).await;
        }
        queue.close();
        let left = std::iter::from_fn(|| queue.try_recv().ok()).count();
        self.metrics.webhooks_dropped.with("stopped").increment(left as u64);
    }

    async fn hand_over(&self, news: &News) {
        let (id, body) = (format!("evt_{}", MessageId::generate()), body(news));
        for tries in 1..=TRIES_MAX {
            let farewell = async {
                self.stop.cancelled().await;
                tokio::time::sleep(FAREWELL).await;
            };
            let tried = tokio::select! {
                tried = self.send(&id, &body) => tried,
                () = farewell => break,
            };
            let result = |result| self.metrics.webhook_requests.with(result).increment(1);
            let asked = match tried {
                Tried::Taken => return result("taken"),
                Tried::Refused => {
                    result("refused");
                    return self.metrics.webhooks_dropped.with("refused").increment(1);
                }
                Tried::Failed(asked) => asked,
            };
            result("failed");
            if tries == TRIES_MAX || self.stop.is_cancelled() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(pause(tries, asked)) => {}
                () = self.stop.cancelled() => {}
            }
        }
        let reason = if self.stop.is_cancelled() { "stopped" } else { "given_up" };
        self.metrics.webhooks_dropped.with(reason).increment(1);
    }

    async fn send(&self, id: &str, body: &[u8]) -> Tried {
        // The receiver's clock is compared with this one, not with the store's.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = since.as_secs();
        let request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.secret.sign(id, timestamp, body))
            .body(body.to_vec());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Tried::Taken,
            Ok(answer) if answer.status() == reqwest::StatusCode::GONE => Tried::Refused,
            Ok(answer) => {
                let asked = answer.headers().get(reqwest::header::RETRY_AFTER);
                let asked =
                    asked.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
                tracing::debug!(status = answer.status().as_u16(), "a webhook was not taken");
                Tried::Failed(asked)
            }
            Err(error) => {
                let error = error.without_url();
                tracing::debug!(%error, "a webhook did not arrive");
                Tried::Failed(None)
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => {
            let _ = timeout_at(moment, std::future::pending::<()>()).await;
        }
        None => std::future::pending().await,
    }
}

/// Full jitter below a bound that doubles, and not before the receiver wants it.
fn pause(tries: u32, asked: Option<Duration>) -> Duration {
    let bound = (PAUSE_MIN * 2_u32.saturating_pow(tries - 1)).min(PAUSE_MAX);
    let jittered = bound.mul_f64(rand::random_range(0.0..=1.0));
    asked.map_or(jittered, |asked| asked.min(PAUSE_MAX).max(jittered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_heed_the_receiver() {
        for tries in 1..=TRIES_MAX {
            assert!(pause(tries, None) <= (PAUSE_MIN * 2_u32.pow(tries - 1)).min(PAUSE_MAX));
        }
        let asked = Duration::from_secs(7);
        assert_eq!(pause(1, Some(asked)), asked);
        assert_eq!(pause(1, Some(Duration::from_secs(86_400))), PAUSE_MAX);
    }
}
