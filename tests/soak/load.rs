//! Everybody at once: devices that stay, devices that come and go, some that do
//! not read, connections that mean no good, and senders to all of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::rude::{Rude, corpus};
use crate::harness::{Api, Dial};

/// Devices that stay, two of each user; by them latency is measured.
const STEADY: usize = 200;
/// Hands that open connections which soon end.
const CHURN: usize = 40;
const SLOW: usize = 10;
const RUDE: usize = 4;
const SENDERS: usize = 16;
/// How often each sender sends at the pace that the load begins with.
const SEND_EVERY: Duration = Duration::from_millis(80);
/// How long one that comes and goes stays at most, at that pace.
const STAY_MAX: Duration = Duration::from_millis(1_600);
const SLOW_STAY: Duration = Duration::from_secs(25);
const PACE: u64 = 1_000;

/// What became of it all.
#[derive(Default)]
pub(crate) struct Tally {
    accepted: AtomicU64,
    refused: AtomicU64,
    came_and_went: AtomicU64,
    turned_away: AtomicU64,
    lost_steady: AtomicU64,
    slow: AtomicU64,
    rude: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    /// What should not have happened to anybody here.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = self.wrong.lock().expect("no panic while held").clone();
        complaints.truncate(10);
        let lost = self.lost_steady.load(Ordering::Relaxed);
        if lost > 0 {
            complaints.push(format!("{lost} connections of devices that stay were lost"));
        }
        let (accepted, refused) =
            (self.accepted.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        if accepted == 0 || refused > 0 {
            complaints.push(format!("{accepted} pushes were accepted and {refused} were not"));
        }
        complaints
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [accepted, refused, came, away, slow, rude] =
            [&self.accepted, &self.refused, &self.came_and_went, &self.turned_away, &self.slow, &self.rude]
                .map(|count| count.load(Ordering::Relaxed));
        write!(
            f,
            "{accepted} pushes accepted, {refused} not; {came} connections came and went, {away} were turned away; \
             {slow} did not read; {rude} were rude"
        )
    }
}

/// What all hands share.
#[derive(Clone)]
struct Shared {
    nodes: Arc<[SocketAddr]>,
    /// Thousandths of the pace that the load begins with.
    pace: Arc<AtomicU64>,
    tally: Arc<Tally>,
    latencies: Arc<Mutex<Histogram<u64>>>,
    began: Instant,
    stop: CancellationToken,
}

/// A load under way.
pub(crate) struct Load {
    shared: Shared,
    hands: TaskTracker,
}

impl Load {
    pub(crate) fn start(nodes: Vec<SocketAddr>) -> Self {
        let shared = Shared {
            nodes: nodes.into(),
            pace: Arc::new(AtomicU64::new(PACE)),
            tally: Arc::default(),
            latencies: Arc::new(Mutex::new(empty())),
            began: Instant::now(),
            stop: CancellationToken::new(),
        };
        let hands = TaskTracker::new();
        let hand = |task| hands.spawn(task);
        for n in 0..STEADY {
            hand(boxed(shared.clone(), async move |shared| shared.stay(n).await));
        }
        for n in 0..CHURN {
            hand(boxed(shared.clone(), async move |shared| shared.come_and_go(n).await));
        }
        for n in 0..SLOW {
            hand(boxed(shared.clone(), async move |shared| shared.do_not_read(n).await));
        }
        for _ in 0..RUDE {
            hand(boxed(shared.clone(), async move |shared| shared.be_rude().await));
        }
        for n in 0..SENDERS {
            hand(boxed(shared.clone(), async move |shared| shared.send(n).await));
        }
        hands.close();
        Self { shared, hands }
    }

    pub(crate) fn change_pace(&self, times: f64) {
        let pace = self.shared.pace.load(Ordering::Relaxed) as f64 * times;
        self.shared.pace.store((pace as u64).clamp(PACE / 20, PACE * 50), Ordering::Relaxed);
    }

    /// Latencies since the last call, in microseconds.
    pub(crate) fn take_latencies(&self) -> Histogram<u64> {
        std::mem::replace(&mut self.shared.latencies.lock().expect("no panic while held"), empty())
    }

    /// Everybody leaves.
    pub(crate) async fn stop(self) -> Arc<Tally> {
        self.shared.stop.cancel();
        self.hands.wait().await;
        self.shared.tally.clone()
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that make sense")
}

/// One hand at work until all stop.
fn boxed<F: Future<Output = ()> + Send + 'static>(
    shared: Shared,
    work: impl FnOnce(Shared) -> F + Send + 'static,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    let stop = shared.stop.clone();
    let work = work(shared);
    Box::pin(async move {
        stop.run_until_cancelled(work).await;
    })
}

impl Shared {
    fn node(&self) -> SocketAddr {
        self.nodes[rand::random_range(0..self.nodes.len())]
    }

    fn slower(&self, span: Duration) -> Duration {
        span.mul_f64(PACE as f64 / self.pace.load(Ordering::Relaxed) as f64)
    }

    fn count(&self, of: fn(&Tally) -> &AtomicU64) {
        of(&self.tally).fetch_add(1, Ordering::Relaxed);
    }

    /// A device that is always there, acknowledges, and reads the clock.
    async fn stay(self, n: usize) {
        let address = self.nodes[n % self.nodes.len()];
        let dial = Dial::envelope(address, &format!("steady{}", n / 2)).device(&format!("d{}", n % 2));
        let mut stream = dial.open().await.expect("a node takes who stays");
        while let Some(Ok(message)) = stream.next().await {
            let Message::Text(text) = message else { continue };
            let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
            let answer = match frame["type"].as_str() {
                Some("ping") => json!({"type": "pong"}),
                Some("message") => {
                    if let Some(at) = frame["data"]["at"].as_u64() {
                        let now = self.began.elapsed().as_micros() as u64;
                        let mut latencies = self.latencies.lock().expect("no panic while held");
                        latencies.saturating_record(now.saturating_sub(at).max(1));
                    }
                    json!({"type": "ack", "positions": {frame["channel"].as_str().unwrap_or_default(): frame["pos"]}})
                }
                _ => continue,
            };
            if frame["pos"].is_null() && frame["type"] == "message" {
                continue;
            }
            if stream.send(Message::text(answer.to_string())).await.is_err() {
                break;
            }
        }
        self.count(|tally| &tally.lost_steady);
    }

    /// Connections of all kinds that end after a moment, in all ways.
    async fn come_and_go(self, n: usize) {
        // So that they do not all come at once.
        sleep(Duration::from_millis(n as u64 * 25)).await;
        loop {
            let user = format!("guest{}", rand::random_range(0..1_000));
            let dial = match rand::random_range(0..3) {
                0 => Dial::plain(self.node(), &user),
                1 => Dial::plain(self.node(), &user).device("tv"),
                _ => Dial::envelope(self.node(), &user).device("phone"),
            };
            let Ok(mut stream) = dial.open().await else {
                self.count(|tally| &tally.turned_away);
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let stay = self.slower(STAY_MAX).mul_f64(rand::random_range(0.0..1.0));
            drop(timeout(stay, read(&mut stream)).await);
            leave(stream).await;
            self.count(|tally| &tally.came_and_went);
        }
    }

    async fn do_not_read(self, n: usize) {
        loop {
            let dial = Dial::plain(self.node(), &format!("slow{n}")).device("tv").receive_buffer(4_096);
            if let Ok(stream) = dial.open().await {
                sleep(SLOW_STAY.mul_f64(rand::random_range(0.5..1.0))).await;
                drop(stream);
                self.count(|tally| &tally.slow);
            } else {
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn be_rude(self) {
        let corpus: Vec<Rude> = corpus();
        loop {
            let rude = &corpus[rand::random_range(0..corpus.len())];
            let found = rude.ending(self.node()).await;
            self.count(|tally| &tally.rude);
            if found != rude.ends {
                let wrong = format!("{}: {found:?}, not {:?}", rude.name, rude.ends);
                self.tally.wrong.lock().expect("no panic while held").push(wrong);
            }
            sleep(self.slower(Duration::from_millis(50))).await;
        }
    }

    async fn send(self, n: usize) {
        let api = Api::new(&format!("http://{}", self.nodes[n % self.nodes.len()]));
        let padding = "x".repeat(4_000);
        loop {
            sleep(self.slower(SEND_EVERY).mul_f64(rand::random_range(0.5..1.5))).await;
            let at = self.began.elapsed().as_micros() as u64;
            let mut body = match rand::random_range(0..20) {
                0..14 => {
                    json!({"to": format!("user:steady{}", rand::random_range(0..STEADY / 2)), "data": {"at": at}})
                }
                14..18 => {
                    json!({"to": format!("user:guest{}", rand::random_range(0..1_000)), "data": {"n": at}})
                }
                _ => json!({"to": format!("user:slow{}", rand::random_range(0..SLOW)), "data": padding}),
            };
            match rand::random_range(0..10) {
                0 => body["ttl"] = json!(0),
                1 => body["ttl"] = json!(2),
                2 => body["collapse_key"] = json!("score"),
                _ => {}
            }
            let answered = api.try_push(&body, None).await;
            match answered {
                Ok(answer) if answer.status == 202 => self.count(|tally| &tally.accepted),
                _ => self.count(|tally| &tally.refused),
            }
        }
    }
}

async fn read(stream: &mut WebSocketStream<TcpStream>) {
    while let Some(Ok(_)) = stream.next().await {}
}

/// In order, without a word, or by a reset.
async fn leave(mut stream: WebSocketStream<TcpStream>) {
    match rand::random_range(0..3) {
        0 => {
            drop(stream.close(None).await);
            drop(timeout(Duration::from_secs(2), read(&mut stream)).await);
        }
        1 => {}
        _ => drop(socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO))),
    }
}
