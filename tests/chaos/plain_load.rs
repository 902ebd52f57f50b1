//! A plain load, and one thing that goes wrong in the middle of it.
//!
//! Plain `?device=` clients on node B, one user each; pushes through node A at a
//! steady rate, each tried once. After a third of the time B is killed, or every
//! client is cut off for two seconds, or Redis (`appendfsync everysec`) is
//! killed and started again a second later. Counted is what anyone would count:
//! accepted, refused, lost, twice, and how long a client waited for its first
//! message elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::figures::{Account, Figures, Push};
use crate::harness::{Dial, Node, NodeOptions, Persistence, Proxy, RedisOptions, RedisServer};

/// Clients come back within this, each at a moment of its own.
const RECONNECT_MAX: Duration = Duration::from_millis(500);
/// How long the clients are cut off.
const CUT: Duration = Duration::from_secs(2);
/// How long Redis is away.
const AWAY: Duration = Duration::from_secs(1);
/// Connections being opened at the same time.
const OPENING_MAX: usize = 100;
/// How long the last messages may take.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);
/// How long a push may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const CONFIG: &str = "handshakes_per_second_max = 100000\nlog = \"warn,postrider::node=info\"\n";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// `kill -9` of B; clients go to A.
    NodeKilled,
    /// Every client's network is gone for two seconds.
    ClientsCut,
    /// `kill -9` of Redis, which is back a second later.
    RedisKilled,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Clients, each of a user of its own.
    pub clients: usize,
    /// Pushes in a second.
    pub per_second: u32,
    /// For how long.
    pub lasting: Duration,
}

struct Scene {
    nodes: [Node; 2],
    /// Before B.
    proxy: Proxy,
    redis: RedisServer,
}

/// What clients share.
struct Crowd {
    /// B's proxy, then A.
    doors: [SocketAddr; 2],
    /// Which of them is open.
    door: AtomicUsize,
    opening: Semaphore,
    accounts: Vec<Mutex<Account>>,
    closing: CancellationToken,
}

/// Runs the load and strikes in the middle of it.
pub async fn run(load: Load, blow: Blow) -> Figures {
    let mut scene = set_up().await;
    let crowd = Arc::new(Crowd {
        doors: [scene.proxy.address(), scene.nodes[0].address()],
        door: AtomicUsize::new(0),
        opening: Semaphore::new(OPENING_MAX),
        accounts: (0..load.clients).map(|_| Mutex::default()).collect(),
        closing: CancellationToken::new(),
    });
    let mut clients = JoinSet::new();
    for number in 0..load.clients {
        clients.spawn(live(number, Arc::clone(&crowd)));
    }
    all_connected(&crowd).await;

    let begun = Instant::now();
    let struck_at = begun + load.lasting / 3;
    let pushing = push_all(scene.nodes[0].url(), load, begun);
    let (pushes, over_at) = tokio::join!(pushing, strike(&mut scene, &crowd, blow, struck_at));
    arrival(&pushes, &crowd).await;
    crowd.closing.cancel();
    while clients.join_next().await.is_some() {}
    let mut accounts = Vec::new();
    for account in &crowd.accounts {
        accounts.push(std::mem::take(&mut *account.lock().await));
    }
    Figures::count(&pushes, &accounts, struck_at, over_at)
}

async fn set_up() -> Scene {
    let persistence = Persistence::EverySecond;
    let redis = RedisServer::start_with(RedisOptions { persistence, ..RedisOptions::default() }).await;
    let options =
        NodeOptions { redis: Some(redis.url()), config: Some(CONFIG.to_owned()), ..NodeOptions::default() };
    let nodes = [Node::start(options.clone()).await, Node::start(options).await];
    let proxy = Proxy::start(nodes[1].address()).await;
    Scene { nodes, proxy, redis }
}

async fn all_connected(crowd: &Crowd) {
    let deadline = Instant::now() + Duration::from_secs(60);
    for account in &crowd.accounts {
        while account.lock().await.connected.is_empty() {
            assert!(Instant::now() < deadline, "not every client could connect");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Makes the trouble and, where it has one, its end; when that was.
async fn strike(scene: &mut Scene, crowd: &Crowd, blow: Blow, at: Instant) -> Instant {
    sleep_until(at).await;
    match blow {
        Blow::NodeKilled => {
            crowd.door.store(1, Ordering::SeqCst);
            scene.nodes[1].kill();
        }
        Blow::ClientsCut => {
            scene.proxy.refuse(true);
            scene.proxy.reset();
            sleep(CUT).await;
            scene.proxy.refuse(false);
        }
        Blow::RedisKilled => {
            scene.redis.kill();
            sleep(AWAY).await;
            scene.redis.restart().await;
        }
    }
    Instant::now()
}

/// Pushes on time, whatever becomes of the earlier ones.
async fn push_all(url: String, load: Load, begun: Instant) -> Vec<Push> {
    let client = reqwest::Client::builder().timeout(ANSWER_MAX).build().expect("a plain client");
    let count = (load.lasting.as_secs_f64() * f64::from(load.per_second)) as usize;
    let mut pushing = JoinSet::new();
    for n in 0..count {
        sleep_until(begun + Duration::from_secs_f64(n as f64 / f64::from(load.per_second))).await;
        let to = n % load.clients;
        let body = json!({"to": format!("user:client{to}"), "data": {"n": n}});
        let request = client.post(format!("{url}/v1/push")).header("content-type", "application/json");
        let request = request.body(body.to_string());
        pushing.spawn(async move {
            let answer = request.send().await;
            let status = answer.map(|answer| answer.status().as_u16()).unwrap_or(0);
            Push { n, to, status, at: Instant::now() }
        });
    }
    let mut pushes = pushing.join_all().await;
    pushes.sort_by_key(|push| push.n);
    pushes
}

/// Waits until everything accepted has arrived, or for so long as is fair.
async fn arrival(pushes: &[Push], crowd: &Crowd) {
    let deadline = Instant::now() + ARRIVAL_MAX;
    for push in pushes.iter().filter(|push| push.accepted()) {
        while !crowd.accounts[push.to].lock().await.has(push.n) {
            if Instant::now() > deadline {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One client: connects, listens, and comes back within half a second.
async fn live(number: usize, crowd: Arc<Crowd>) {
    loop {
        tokio::select! {
            () = crowd.closing.cancelled() => return,
            () = connection(number, &crowd) => {}
        }
        sleep(RECONNECT_MAX.mul_f64(rand::random())).await;
    }
}

async fn connection(number: usize, crowd: &Crowd) {
    let address = crowd.doors[crowd.door.load(Ordering::SeqCst)];
    let account = &crowd.accounts[number];
    let permit = crowd.opening.acquire().await.expect("it is never closed");
    let dial = Dial::plain(address, &format!("client{number}")).device("phone");
    let Ok(Ok(mut stream)) = timeout(ANSWER_MAX, dial.open()).await else { return };
    drop(permit);
    account.lock().await.connected.push(Instant::now());
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Text(text) => {
                let payload: Value = serde_json::from_str(&text).expect("payloads are JSON");
                let n = payload["n"].as_u64().expect("payloads are numbered") as usize;
                account.lock().await.arrivals.push((n, Instant::now()));
            }
            // The library has queued the pong; it goes out with a flush.
            Message::Ping(_) => drop(stream.flush().now_or_never()),
            _ => {}
        }
    }
}
