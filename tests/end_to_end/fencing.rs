//! A node that was declared dead and is not: it comes back as another, and its
//! sockets do not notice.

use std::time::Duration;

use tokio::time::sleep;

use crate::harness::{
    Api, Cluster, Device, Mode, Node, NodeOptions, PATIENCE, Proxy, RedisServer, Socket, settled,
};
use crate::traces::{SHORT_LIVES, forgotten, numbers, push_numbers};

struct Clients {
    phone: Device,
    plain: Socket,
    nameless: Socket,
}

impl Clients {
    async fn of(node: &Node) -> Self {
        Self {
            phone: Device::connect(node.envelope("ann").device("phone").acknowledging()).await,
            plain: node.plain("ann").device("tv").connect().await,
            nameless: node.plain("ann").connect().await,
        }
    }

    /// All of them got `0..count`, each once and in order, and nothing else.
    async fn have(&self, count: u32) {
        let wanted = count as usize;
        self.phone.wait_messages(wanted).await;
        assert_eq!(self.phone.payloads(), numbers(0..count));
        assert!(self.phone.frames_of("gap").is_empty(), "nothing was lost, but a gap was told");
        let texts: Vec<_> = (0..count).map(|n| n.to_string()).collect();
        assert_eq!(self.plain.wait_texts(wanted).await, texts);
        assert_eq!(self.nameless.wait_texts(wanted).await, texts);
        for socket in [self.phone.socket(), &self.plain, &self.nameless] {
            assert_eq!(socket.closed(), None, "the socket outlives its node's id");
        }
    }
}

async fn listed(api: &Api) -> Vec<String> {
    let answer = api.get("/v1/nodes").await.expect(200);
    let nodes = answer["nodes"].as_array().expect("a list");
    nodes.iter().map(|node| node["id"].as_str().expect("an id").to_owned()).collect()
}

/// The node on `address` is listed under another id than `old`, and only so.
async fn renamed(api: &Api, old: &str) {
    settled(PATIENCE, "the node is listed under a new id", async || {
        let nodes = listed(api).await;
        if nodes.len() == 2 && !nodes.iter().any(|id| id == old) { Ok(()) } else { Err(nodes) }
    })
    .await;
}

async fn paused_and_back(config: Option<&str>, pause: Option<Duration>) {
    let options = NodeOptions { config: config.map(str::to_owned), ..NodeOptions::default() };
    let mut cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let clients = Clients::of(&cluster.nodes[1]).await;
    let pusher = cluster.nodes[0].api();
    push_numbers(&pusher, 0..5).await;
    clients.have(5).await;

    let old = cluster.nodes[1].id().to_owned();
    cluster.nodes[1].pause();
    push_numbers(&pusher, 5..10).await;
    forgotten(&cluster.redis, &old).await;
    push_numbers(&pusher, 10..15).await;
    if let Some(pause) = pause {
        sleep(pause).await;
    }
    cluster.nodes[1].resume();
    clients.have(15).await;
    renamed(&pusher, &old).await;
    cluster.nodes[1].ready(PATIENCE).await;
    // Under its new id it is found again, without waiting for the mailboxes to be compared.
    let answer = pusher.push_to("ann", 15).await;
    assert_eq!((&answer["nodes"], &answer["sessions"]), (&1.into(), &3.into()), "{answer}");
    clients.have(16).await;
    assert_eq!(cluster.nodes[1].api().metric("postrider_fencings_total").await, 1.0);
    assert_eq!(pusher.metric("postrider_reclaims_total").await, 1.0);
    assert_eq!(pusher.metric("postrider_fencings_total").await, 0.0, "who was well was not declared dead");
    forgotten(&cluster.redis, &old).await;
}

#[tokio::test]
async fn a_node_that_was_paused_rejoins_under_a_new_id_and_keeps_its_sockets() {
    paused_and_back(Some(SHORT_LIVES), None).await;
}

#[tokio::test]
async fn twenty_seconds_of_pause_under_default_settings_cost_nothing_but_time() {
    paused_and_back(None, Some(Duration::from_secs(14))).await;
}

/// A node that reaches Redis through a proxy, beside one that needs none.
async fn behind_a_proxy() -> (Cluster, Proxy) {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.address()).await;
    let direct = NodeOptions { config: Some(SHORT_LIVES.to_owned()), ..NodeOptions::default() };
    let proxied = NodeOptions { redis: Some(format!("redis://{}", proxy.address())), ..direct.clone() };
    let mut cluster = Cluster::start_on(redis, 1, direct).await;
    cluster.nodes.push(Node::start(proxied).await);
    (cluster, proxy)
}

async fn cut_off_and_back(cut: impl Fn(&Proxy), mend: impl Fn(&Proxy)) {
    let (cluster, proxy) = behind_a_proxy().await;
    let clients = Clients::of(&cluster.nodes[1]).await;
    let pusher = cluster.nodes[0].api();
    push_numbers(&pusher, 0..5).await;
    clients.have(5).await;

    let old = cluster.nodes[1].id().to_owned();
    cut(&proxy);
    let lonely = cluster.nodes[1].api();
    settled(PATIENCE, "the node that cannot reach Redis is unready", async || {
        let ready = lonely.get("/readyz").await;
        if ready.status == 503 { Ok(()) } else { Err(ready.text) }
    })
    .await;
    assert_eq!(lonely.get("/healthz").await.status, 200, "restarting it would help nobody");
    forgotten(&cluster.redis, &old).await;
    push_numbers(&pusher, 5..15).await;
    clients.have(5).await;

    mend(&proxy);
    clients.have(15).await;
    cluster.nodes[1].ready(PATIENCE).await;
    renamed(&pusher, &old).await;
    lonely.push_to("ann", 15).await;
    clients.have(16).await;
    assert_eq!(lonely.metric("postrider_fencings_total").await, 1.0);
}

#[tokio::test]
async fn a_node_behind_a_silent_network_rejoins_when_it_is_over() {
    cut_off_and_back(|proxy| proxy.set_both(Mode::Blackhole), |proxy| proxy.set_both(Mode::Pass)).await;
}

#[tokio::test]
async fn a_node_whose_connections_are_reset_rejoins_when_they_hold_again() {
    let cut = |proxy: &Proxy| {
        proxy.refuse(true);
        proxy.reset();
    };
    cut_off_and_back(cut, |proxy| proxy.refuse(false)).await;
}

#[tokio::test]
async fn when_every_node_stood_still_together_nobody_is_declared_dead() {
    let options = NodeOptions { config: Some(SHORT_LIVES.to_owned()), ..NodeOptions::default() };
    let mut cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let clients = Clients::of(&cluster.nodes[1]).await;
    let pusher = cluster.nodes[0].api();
    push_numbers(&pusher, 0..5).await;
    clients.have(5).await;
    let before = listed(&pusher).await;
    // Longer than both have beaten without error must not count as beating.
    sleep(Duration::from_secs(3)).await;

    // As a machine does that is suspended, or moved to another host.
    cluster.nodes.iter_mut().for_each(Node::pause);
    sleep(Duration::from_secs(4)).await;
    cluster.nodes[0].resume();
    // One wakes earlier: the other is late by no fault of its own.
    sleep(Duration::from_millis(1_000)).await;
    cluster.nodes[1].resume();
    cluster.nodes[1].ready(PATIENCE).await;
    cluster.nodes[0].ready(PATIENCE).await;
    push_numbers(&pusher, 5..10).await;
    clients.have(10).await;
    assert_eq!(listed(&pusher).await, before);
    for node in &cluster.nodes {
        assert_eq!(node.api().metric("postrider_fencings_total").await, 0.0);
        assert_eq!(node.api().metric("postrider_reclaims_total").await, 0.0);
    }
}
