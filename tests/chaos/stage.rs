//! The nodes, Redis, and the networks between, which break on demand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::harness::{
    Direction, Mode, Node, NodeOptions, PATIENCE, Persistence, Proxy, RedisOptions, RedisServer, eventually,
};
use crate::schedule::{Cut, NODES, Trouble};

/// Quick heartbeats, so that a short storm sees nodes declared dead; quick
/// pings, so that half-open connections are found within it.
const CONFIG: &str = "\
heartbeat_ttl_ms = 1500
heartbeat_interval_ms = 400
heartbeat_grace_ms = 1000
heal_interval_ms = 1000
ping_interval_seconds = 2
pong_timeout_seconds = 3
drain_delay_ms = 100
drain_window_ms = 500
drain_deadline_ms = 4000
handshakes_per_second_max = 10000
log = \"info,postrider=debug\"
";

/// A node and the two networks at its sides.
pub struct Member {
    node: Mutex<Node>,
    to_store: Proxy,
    to_clients: Proxy,
}

/// Everything that can break.
pub struct Stage {
    members: Vec<Member>,
    redis: Mutex<RedisServer>,
    lost_entries: AtomicU64,
}

impl Stage {
    /// Starts Redis (every write synced), and the nodes.
    pub async fn start() -> Arc<Self> {
        let persistence = Persistence::Always;
        let options = RedisOptions { persistence, in_memory: true, ..RedisOptions::default() };
        let redis = RedisServer::start_with(options).await;
        let address = redis.address();
        let members = (0..NODES).map(|_| async {
            let to_store = Proxy::start(address).await;
            let options = NodeOptions {
                redis: Some(format!("redis://{}", to_store.address())),
                config: Some(CONFIG.to_owned()),
                ..NodeOptions::default()
            };
            let node = Node::start(options).await;
            let to_clients = Proxy::start(node.address()).await;
            Member { node: Mutex::new(node), to_store, to_clients }
        });
        let members = futures_util::future::join_all(members).await;
        Arc::new(Self { members, redis: Mutex::new(redis), lost_entries: AtomicU64::new(0) })
    }

    /// Where clients reach a node: behind its proxy.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.to_clients.address()).collect()
    }

    /// Redis itself, past every proxy.
    pub fn redis(&self) -> &Mutex<RedisServer> {
        &self.redis
    }

    /// All logs of all nodes.
    pub async fn logs(&self) -> Vec<String> {
        let mut logs = Vec::new();
        for member in &self.members {
            logs.push(member.node.lock().await.whole_log());
        }
        logs
    }

    /// Makes a trouble and ends it.
    pub async fn suffer(&self, trouble: Trouble) {
        match trouble {
            Trouble::Kill { node, lasting } => {
                let mut node = self.members[node].node.lock().await;
                node.kill();
                sleep(lasting).await;
                revive(&mut node).await;
            }
            Trouble::Pause { node, lasting } => {
                let mut node = self.members[node].node.lock().await;
                node.pause();
                sleep(lasting).await;
                node.resume();
            }
            Trouble::Restart { node } => self.restart(node).await,
            Trouble::Roll => {
                for node in 0..self.members.len() {
                    self.restart(node).await;
                }
            }
            Trouble::StoreLink { node, cut, lasting } => {
                sever(&self.members[node].to_store, cut, lasting).await;
            }
            Trouble::ClientLink { node, cut, lasting } => {
                sever(&self.members[node].to_clients, cut, lasting).await;
            }
            Trouble::RedisKill { lasting } => {
                let mut redis = self.redis.lock().await;
                redis.kill();
                sleep(lasting).await;
                redis.restart().await;
            }
            Trouble::RedisPause { lasting } => {
                let mut redis = self.redis.lock().await;
                redis.pause();
                sleep(lasting).await;
                redis.resume();
            }
            Trouble::BothKill { node, lasting, later } => {
                let mut redis = self.redis.lock().await;
                let mut node = self.members[node].node.lock().await;
                redis.kill();
                node.kill();
                sleep(lasting).await;
                redis.restart().await;
                drop(redis);
                sleep(later).await;
                revive(&mut node).await;
            }
            Trouble::Lose { node, lasting } => {
                // Nobody takes Redis away meanwhile.
                let redis = self.redis.lock().await;
                let mut node = self.members[node].node.lock().await;
                node.pause();
                sleep(lasting).await;
                self.lost_entries.fetch_add(empty_node_streams(&redis).await, Ordering::Relaxed);
                node.resume();
            }
        }
    }

    /// How many entries of node streams were lost on purpose.
    pub fn lost_entries(&self) -> u64 {
        self.lost_entries.load(Ordering::Relaxed)
    }

    async fn restart(&self, node: usize) {
        let mut node = self.members[node].node.lock().await;
        node.terminate();
        let status = node.exit(PATIENCE).await;
        assert!(status.success(), "a drain ended with {status}");
        revive(&mut node).await;
    }

    /// Waits until every node is ready.
    pub async fn all_ready(&self) {
        for member in &self.members {
            member.node.lock().await.ready(PATIENCE).await;
        }
    }
}

/// Starts a node until it stays: without Redis it ends at once, as it should,
/// and whoever supervises it tries again.
async fn revive(node: &mut Node) {
    node.respawn();
    let api = node.api();
    eventually(PATIENCE * 2, "a node that was started again is ready", async || {
        if !node.is_running() {
            sleep(Duration::from_millis(200)).await;
            node.respawn();
        }
        let answer = tokio::time::timeout(Duration::from_secs(1), api.try_get("/readyz")).await;
        matches!(answer, Ok(Ok(answer)) if answer.status == 200)
    })
    .await;
}

/// Takes every entry out of every node stream; how many there were. Nearly all
/// are in the stream of whoever stands still, for the others read at once; what
/// they lose is a lost notification as well.
async fn empty_node_streams(redis: &RedisServer) -> u64 {
    let mut connection = redis.connection().await;
    let mut lost = 0;
    for stream in redis.node_streams().await {
        let trimmed: u64 = ::redis::cmd("XTRIM")
            .arg(&[&*stream.key, "MAXLEN", "0"])
            .query_async(&mut connection)
            .await
            .expect("XTRIM is answered");
        lost += trimmed;
    }
    lost
}

async fn sever(proxy: &Proxy, cut: Cut, lasting: Duration) {
    match cut {
        Cut::Latency(delay) => proxy.set_both(Mode::Delay(delay)),
        Cut::Blackhole => proxy.set_both(Mode::Blackhole),
        Cut::Deaf => proxy.set(Direction::ToClient, Mode::Blackhole),
        Cut::Mute => proxy.set(Direction::ToServer, Mode::Blackhole),
        Cut::Reset => proxy.reset(),
        Cut::Refused => {
            proxy.refuse(true);
            proxy.reset();
        }
        Cut::HalfClose => proxy.half_close(Direction::ToServer),
    }
    sleep(lasting).await;
    proxy.set_both(Mode::Pass);
    proxy.refuse(false);
}
