//! Everything that can happen to a cluster, brought about once.
//!
//! Three nodes under load, with limits small enough that each is reached, and
//! short lives. Every event is there because a metric, a panel or an alert is
//! about it.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use super::outsiders::{from_the_proxy, moody_receiver};
use crate::harness::{
    Api, Device, Direction, EventStream, Mode, Node, NodeOptions, PATIENCE, Proxy, RedisServer, Socket,
    settled,
};
use crate::traces::stream_of;

const CONFIG: &str = r#"
heartbeat_interval_ms = 100
heartbeat_ttl_ms = 1000
heartbeat_grace_ms = 500
heal_interval_ms = 200
ledger_audit_interval_ms = 200
cursor_flush_ms = 50
mailbox_messages_max = 40
stream_entries_max = 16
outbox_messages_max = 64
socket_send_buffer_bytes = 4096
drain_delay_ms = 60000
drain_window_ms = 0
drain_deadline_ms = 120000
proxy_protocol = "on"
trusted_proxies = ["127.0.0.2"]
webhook_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
webhook_queue_max = 8
"#;

/// A cluster to which things happen, and what keeps them happening.
pub(super) struct Stage {
    pub(super) nodes: Vec<Node>,
    redis: RedisServer,
    /// Between the second node and Redis.
    line: Proxy,
    devices: Vec<Device>,
    sockets: Vec<Socket>,
    streams: Vec<EventStream>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Waits until a series of a node's page is above zero.
async fn moved(api: &Api, series: &str) {
    settled(PATIENCE, &format!("{series} moves"), async || {
        let value = api.metric(series).await;
        if value > 0.0 { Ok(()) } else { Err(value) }
    })
    .await;
}

impl Stage {
    pub(super) async fn start() -> Self {
        let redis = RedisServer::start().await;
        let line = Proxy::start(redis.address()).await;
        let (webhook_url, receiver) = moody_receiver().await;
        let mut nodes = Vec::new();
        for redis_address in [redis.address(), line.address(), redis.address()] {
            let options = NodeOptions {
                redis: Some(format!("redis://{redis_address}")),
                config: Some(format!("{CONFIG}webhook_url = \"{webhook_url}\"\n")),
                ..NodeOptions::default()
            };
            nodes.push(Node::start(options).await);
        }
        Self {
            nodes,
            redis,
            line,
            devices: Vec::new(),
            sockets: Vec::new(),
            streams: Vec::new(),
            tasks: vec![receiver],
        }
    }

    fn api(&self, node: usize) -> Api {
        self.nodes[node].api()
    }

    /// Users on every node, of each kind of client, and pushes that never stop.
    pub(super) async fn load(&mut self) {
        for (i, node) in self.nodes.iter().cycle().take(9).enumerate() {
            let dial = node.envelope(&format!("user{i}")).device("phone").acknowledging();
            self.devices.push(Device::connect(dial).await);
            self.sockets.push(node.plain(&format!("user{i}")).connect().await);
            self.streams.push(node.listen(&format!("user{i}")).device("tv").greeted().await);
        }
        // Nodes that stand still or end are passed over.
        let apis: Vec<_> = self.nodes.iter().map(Node::api).collect();
        self.tasks.push(tokio::spawn(async move {
            for n in 0_usize.. {
                let body = json!({"to": format!("user:user{}", n % 9), "data": n});
                drop(
                    tokio::time::timeout(Duration::from_millis(200), apis[n % 2 * 2].try_push(&body, None))
                        .await,
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
    }

    /// What senders do, rightly and wrongly.
    pub(super) async fn senders(&mut self) {
        let api = self.api(0);
        let away = |data: usize| json!({"to": "user:away", "data": data});
        let first = api.push(&away(0)).await.expect(202);
        for n in 1..100 {
            api.push(&away(n)).await.expect(202);
        }
        // Its first position was trimmed since.
        let position = first["pos"].as_str().expect("a position").to_owned();
        let dial = self.nodes[0].envelope("away").device("phone").acknowledging();
        self.devices.push(Device::resume(dial, &[("user:away", &position)]).await);
        moved(&api, "postrider_gaps_told_total{reason=\"trimmed\"}").await;
        // What came since is there.
        let since = api.push(&away(100)).await.expect(202);
        let position = since["pos"].as_str().expect("a position").to_owned();
        let dial = self.nodes[0].envelope("away").device("tablet");
        self.devices.push(Device::resume(dial, &[("user:away", &position)]).await);
        moved(&api, "postrider_resumes_total{outcome=\"resumed\"}").await;

        for _ in 0..2 {
            api.push_once(&json!({"to": "user:user0", "data": 1}), "once").await.expect(202);
            api.push(&json!({"to": "user:absent", "data": 1, "collapse_key": "same"})).await.expect(202);
        }
        api.push_once(&json!({"to": "user:user0", "data": 2}), "once").await.expect(422);
        api.push(&json!({"to": "nobody", "data": 1})).await.expect(422);
        api.push(&json!({"to": "user:absent", "data": 1, "ttl": 0})).await.expect(202);
        let taken_back = api.push_to("absent", 1).await["id"].as_str().expect("an id").to_owned();
        let withdrawn = api.delete(&format!("/v1/messages/{taken_back}?channel=user:absent")).await;
        withdrawn.expect(200);
        api.push_batch(&json!([{"to": "user:user1", "data": 1}])).await;

        api.push(&json!({"to": "user:brief", "data": 1, "ttl": 1})).await.expect(202);
        settled(PATIENCE, "a message has expired", async || {
            api.push_to("brief", 2).await;
            let value = api.metric("postrider_ledger_messages_total{class=\"expired\"}").await;
            if value > 0.0 { Ok(()) } else { Err(value) }
        })
        .await;
    }

    /// What comes to the door.
    pub(super) async fn visitors(&mut self) {
        let api = self.api(0);
        let node = &self.nodes[0];
        api.get("/v1/ws").await;
        drop(node.plain("user0").header("origin", "http://elsewhere.example").connect().await);
        drop(node.plain("no/name at all").connect().await);
        moved(&api, "postrider_connects_refused_total{reason=\"token\"}").await;
        let request = "GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        for head in ["PROXY TCP4 192.0.2.7 10.0.0.1 4444 443\r\n", "PROXY UNKNOWN\r\n", ""] {
            from_the_proxy(node.address(), &format!("{head}{request}")).await;
        }
        moved(&api, "postrider_proxy_headers_total{result=\"refused\"}").await;

        // Connected on two nodes, and not by whoever asks.
        self.devices.push(Device::connect(self.nodes[1].envelope("asked").device("tv")).await);
        self.devices.push(Device::connect(self.nodes[2].envelope("asked").device("phone")).await);
        api.wait_sessions("asked", 2).await;
        api.get("/v1/channels/user:asked/sessions").await.expect(200);
        moved(&api, "postrider_asks_total{outcome=\"answered\"}").await;
    }

    /// A device that does not read: entries stay pending, its outbox fills.
    pub(super) async fn a_slow_device(&mut self) -> Device {
        let slow = self.nodes[2].envelope("slow").device("phone").receive_buffer(4096);
        let slow = Device::connect(slow).await;
        slow.socket().stop_reading();
        self.push_to_slow_until("postrider_outbox_bytes").await;
        slow
    }

    /// It goes on not reading, and is closed.
    pub(super) async fn a_slow_close(&mut self, slow: Device) {
        self.push_to_slow_until("postrider_closes_total{code=\"slow\"}").await;
        drop(slow);
    }

    async fn push_to_slow_until(&self, series: &str) {
        let (api, watched) = (self.api(0), self.api(2));
        let padding = "x".repeat(8 * 1024);
        settled(PATIENCE, &format!("{series} moves as a device does not read"), async || {
            for _ in 0..8 {
                api.push_to("slow", padding.clone()).await;
            }
            let value = watched.metric(series).await;
            if value > 0.0 { Ok(()) } else { Err(value) }
        })
        .await;
    }

    /// A message is gone from a mailbox, and no count says why. Not the last one: a
    /// mailbox that is found empty is taken for expired.
    pub(super) async fn a_ledger_that_differs(&mut self) {
        self.devices.push(Device::connect(self.nodes[0].envelope("robbed").device("phone")).await);
        let api = self.api(0);
        api.wait_sessions("robbed", 1).await;
        let position = api.push_to("robbed", 1).await["pos"].as_str().expect("a position").to_owned();
        api.push_to("robbed", 2).await;
        let number = position.rsplit('.').next().expect("a number").to_owned();
        let mut redis = self.redis.connection().await;
        let removed: u64 = redis::cmd("XDEL")
            .arg("postrider:b:{user:robbed}")
            .arg(format!("{number}-0"))
            .query_async(&mut redis)
            .await
            .expect("XDEL is answered");
        assert_eq!(removed, 1, "the message was not where it was looked for");
        moved(&api, "postrider_ledger_audits_total{result=\"differing\"}").await;
    }

    /// Redis is slow for the second node alone.
    pub(super) async fn a_slow_line(&mut self) {
        let (api, watched) = (self.api(0), self.api(1));
        self.line.set(Direction::ToClient, Mode::Delay(Duration::from_millis(300)));
        settled(PATIENCE, "the second node lags", async || {
            for n in 0..20 {
                api.push_to("user1", n).await;
            }
            let lag = watched.metric("postrider_stream_lag_entries").await;
            if lag > 0.0 { Ok(()) } else { Err(lag) }
        })
        .await;
        self.line.set_both(Mode::Pass);
    }

    /// The second node stands still for less than a heartbeat; its stream fills, and
    /// is lost. A quiet user's message is then found in the mailbox.
    pub(super) async fn a_loss(&mut self) {
        self.devices.push(Device::connect(self.nodes[1].envelope("quiet")).await);
        let (api, watched) = (self.api(0), self.api(1));
        let mut redis = self.redis.connection().await;
        let node = &mut self.nodes[1];
        settled(PATIENCE, "the second node finds what it was not told", async || {
            node.pause();
            // The first of them answers the read that waited, and is not lost.
            for n in 0..17 {
                api.push_to("user1", n).await;
            }
            api.push_to("quiet", 1).await;
            let mut trim = redis::cmd("XTRIM");
            trim.arg(stream_of(node.id())).arg("MAXLEN").arg(0);
            trim.query_async::<u64>(&mut redis).await.expect("XTRIM is answered");
            node.resume();
            tokio::time::sleep(Duration::from_millis(500)).await;
            let capped = api.metric("postrider_stream_capped_total").await;
            let heals = watched.metric("postrider_heals_total").await;
            if capped > 0.0 && heals > 0.0 { Ok(()) } else { Err((capped, heals)) }
        })
        .await;
    }

    /// Redis is away for the second node alone.
    pub(super) async fn a_bad_line(&mut self) {
        let watched = self.api(1);
        self.line.refuse(true);
        self.line.reset();
        moved(&watched, "postrider_store_errors_total{kind=\"unavailable\"}").await;
        watched.push(&json!({"to": "user:user1", "data": 1})).await.expect(503);
    }

    pub(super) async fn a_good_line(&mut self) {
        self.line.refuse(false);
        self.nodes[1].ready(PATIENCE).await;
    }

    /// A node stands still until others have taken its stream over; pushes go on.
    pub(super) async fn a_pause(&mut self) {
        let api = self.api(0);
        // Users of the node that stands still are on another one as well: entries are handed on to it.
        // They are those whom the load is for, since a full stream keeps only the last entries.
        for user in ["user1", "user4", "user7"] {
            self.devices.push(Device::connect(self.nodes[2].envelope(user)).await);
            api.wait_sessions(user, 4).await;
        }
        // It may have been declared dead before, while its line was bad.
        let fencings = self.api(1).metric("postrider_fencings_total").await;
        let handed_on = async |nodes: &[Node]| {
            let mut sum = 0.0;
            for node in [0, 2] {
                sum += nodes[node].api().metric("postrider_reroutes_total").await;
            }
            sum
        };
        let before = handed_on(&self.nodes).await;
        self.nodes[1].pause();
        api.get("/v1/channels/user:asked/sessions").await.expect(200);
        settled(PATIENCE, "the paused node's stream is taken over", async || {
            for n in 0..10 {
                api.push_to("user1", n).await;
            }
            let sum = handed_on(&self.nodes).await;
            if sum > before { Ok(()) } else { Err(sum) }
        })
        .await;
        self.nodes[1].resume();
        let api = self.api(1);
        settled(PATIENCE, "it finds out", async || {
            let value = api.metric("postrider_fencings_total").await;
            if value > fencings { Ok(()) } else { Err(value) }
        })
        .await;
        self.nodes[1].ready(PATIENCE).await;
    }

    /// The third node is killed, and its users come to the first.
    pub(super) async fn a_death(&mut self) {
        self.nodes[2].kill();
        self.devices
            .push(Device::connect(self.nodes[0].envelope("user2").device("phone").acknowledging()).await);
    }

    /// The first node is asked to leave, and goes on while load balancers notice.
    pub(super) fn a_departure(&mut self) {
        self.nodes[0].terminate();
    }
}
