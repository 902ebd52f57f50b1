//! Sockets through balancers: kept alive while idle, and known by their own address.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::future::join_all;
use postrider::config::{Config, Inputs};
use serde_json::Value;

use super::balancer::{Balancer, Kind, deployed};
use crate::harness::{Device, Node, NodeOptions, PATIENCE, settled};

/// Where each file says how long an idle socket is kept.
const IDLE: [(&str, &[&str]); 4] = [
    ("nginx/postrider.conf", &["proxy_read_timeout 60s", "proxy_send_timeout 60s"]),
    ("haproxy/haproxy.cfg", &["timeout tunnel 60s", "timeout client 60s"]),
    ("haproxy/haproxy-tcp.cfg", &["timeout client 60s", "timeout server 60s"]),
    ("envoy/envoy.yaml", &["stream_idle_timeout: 60s"]),
];

/// The lines that limit idle sockets, and the same with three seconds.
fn three_seconds(kind: Kind) -> Vec<(&'static str, &'static str)> {
    match kind {
        Kind::Nginx => vec![("proxy_read_timeout 60s", "proxy_read_timeout 3s")],
        Kind::Haproxy => vec![("timeout tunnel 60s", "timeout tunnel 3s")],
        Kind::HaproxyTcp => {
            vec![("timeout client 60s", "timeout client 3s"), ("timeout server 60s", "timeout server 3s")]
        }
        Kind::Envoy => vec![("stream_idle_timeout: 60s", "stream_idle_timeout: 3s")],
    }
}

async fn node(config: &str) -> Node {
    Node::start(NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() }).await
}

#[tokio::test]
async fn no_balancer_passes_on_who_asks_for_metrics() {
    let node = node("").await;
    let each = Kind::all().into_iter().map(async |kind| {
        let balancer = Balancer::start(kind, [node.address(); 3]).await;
        for path in ["/metrics", "/metrics/"] {
            assert_eq!(balancer.api().get(path).await.status, 404, "{kind:?} {path}");
        }
        assert_eq!(balancer.api().get("/healthz").await.status, 200, "{kind:?}");
    });
    join_all(each).await;
}

#[tokio::test]
async fn pings_keep_idle_sockets_alive_and_nothing_else_does() {
    let lively = node("ping_interval_seconds = 1\n").await;
    let silent = node("ping_interval_seconds = 3600\n").await;
    let each = Kind::all().into_iter().map(async |kind| {
        let edits = three_seconds(kind);
        let kept = Balancer::start_edited(kind, [lively.address(); 3], &edits).await;
        let cut = Balancer::start_edited(kind, [silent.address(); 3], &edits).await;
        let plain = kept.plain("ann").connect().await;
        let device = Device::connect(kept.envelope("bob").acknowledging()).await;
        let forgotten = cut.plain("cem").connect().await;
        let closed = forgotten.wait_closed(PATIENCE).await;
        assert_eq!(closed.code, None, "{kind:?} cut it, not the node");
        // Eight seconds, more than twice the limit.
        settled(PATIENCE, "both are pinged on", async || {
            let pings = (plain.pings(), device.frames_of("ping").len());
            if pings.0 >= 8 && pings.1 >= 8 { Ok(()) } else { Err((pings, plain.closed())) }
        })
        .await;
        assert_eq!((plain.closed(), device.socket().closed()), (None, None), "{kind:?}");
    });
    join_all(each).await;
}

#[test]
fn the_default_ping_interval_is_well_within_every_configured_limit() {
    let config = Config::load(&Inputs::default()).expect("the defaults are valid");
    for (file, limits) in IDLE {
        for limit in limits {
            assert!(deployed(file).contains(limit), "{file} does not say '{limit}'");
        }
    }
    // One ping may be lost on the way: the next one is in time.
    assert!(config.ping_interval * 2 < Duration::from_secs(60), "{:?}", config.ping_interval);
}

/// The addresses from which sockets came, as the node's log has them.
async fn clients(node: &Node, count: usize) -> Vec<Value> {
    settled(PATIENCE, "each connection leaves a line", async || {
        let log = node.log_text();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let came: Vec<_> =
            lines.filter(|line| line["message"] == "connected").map(|line| line["client"].clone()).collect();
        if came.len() >= count { Ok(came) } else { Err(log) }
    })
    .await
}

#[tokio::test]
async fn a_client_is_known_by_its_address_behind_a_trusted_balancer_only() {
    let client = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let trusting = node("trusted_proxies = [\"127.0.0.1\"]\n").await;
    let wary = node("").await;
    let config = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = \"on\"\n".to_owned();
    let options = NodeOptions { config: Some(config), ..NodeOptions::default() };
    // It answers nobody on this machine but who begins with a header.
    let with_header = Node::start_unready(options).await;
    let mut fronts = Vec::new();
    for kind in Kind::all() {
        fronts.push((Balancer::start(kind, [trusting.address(); 3]).await, &trusting, "127.0.0.9"));
        fronts.push((Balancer::start(kind, [wary.address(); 3]).await, &wary, "127.0.0.1"));
    }
    let tcp = Balancer::start(Kind::HaproxyTcp, [with_header.address(); 3]).await;
    fronts.push((tcp, &with_header, "127.0.0.9"));
    let mut seen = std::collections::HashMap::<&str, usize>::new();
    for (balancer, node, expected) in &fronts {
        // What the client claims itself is never believed.
        let dial = balancer.envelope("ann").from(client).header("x-forwarded-for", "198.51.100.66");
        let _device = Device::connect(dial).await;
        let before = seen.entry(node.id()).or_default();
        *before += 1;
        assert_eq!(clients(node, *before).await[*before - 1], *expected, "{:?}", balancer.kind);
    }
}
