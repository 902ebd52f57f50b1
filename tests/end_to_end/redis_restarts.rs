//! Redis is killed and comes back: what it kept goes on as if nothing had been.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::harness::{
    Api, Cluster, Device, Node, NodeOptions, PATIENCE, Persistence, RedisOptions, RedisServer, settled,
};
use crate::traces::{SHORT_LIVES, numbers, push_numbers};

/// Longer than the heartbeats of [`SHORT_LIVES`] live, grace included.
const AWAY: Duration = Duration::from_secs(4);

async fn cluster() -> Cluster {
    let persistent = RedisOptions { persistence: Persistence::Always, ..RedisOptions::default() };
    let options = NodeOptions { config: Some(SHORT_LIVES.to_owned()), ..NodeOptions::default() };
    Cluster::start_on(RedisServer::start_with(persistent).await, 3, options).await
}

/// Processor time a process has used, by the kernel's account.
fn processor_time(node: &Node) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).expect("our child runs");
    let fields: Vec<_> = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

async fn push_again(api: &Api, n: u32) {
    settled(PATIENCE, "a push is accepted again", async || {
        let body = json!({"to": "user:ann", "data": n});
        let answer = api.push_once(&body, &format!("key-{n}")).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.text) }
    })
    .await;
}

#[tokio::test]
async fn away_for_longer_than_a_heartbeat_nobody_is_declared_dead_and_nobody_runs_hot() {
    let mut cluster = cluster().await;
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let plain = cluster.nodes[2].plain("ann").device("tv").connect().await;
    let pusher = cluster.nodes[0].api();
    push_numbers(&pusher, 0..20).await;
    phone.wait_messages(20).await;
    let ids = cluster.redis.node_streams().await.into_iter().map(|stream| stream.key).collect::<Vec<_>>();

    let before: Vec<_> =
        cluster.nodes.iter().map(|node| (processor_time(node), node.log_text().len())).collect();
    cluster.redis.kill();
    let killed = Instant::now();
    sleep(AWAY).await;
    for (node, (used, _)) in cluster.nodes.iter().zip(&before) {
        let used = processor_time(node) - *used;
        assert!(used < AWAY / 4, "{used:?} of processor time in {:?} without Redis", killed.elapsed());
    }
    cluster.redis.restart().await;
    push_again(&pusher, 20).await;
    for node in &cluster.nodes {
        node.ready(PATIENCE).await;
    }
    push_numbers(&pusher, 21..30).await;
    phone.wait_messages(30).await;
    assert_eq!(phone.payloads(), numbers(0..30));
    assert!(phone.frames_of("gap").is_empty(), "nothing was lost, but a gap was told");
    assert_eq!(plain.wait_texts(30).await, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());

    // Time enough for a survivor that has forgotten how long Redis was away.
    sleep(Duration::from_secs(4)).await;
    let streams = cluster.redis.node_streams().await;
    assert_eq!(
        streams.iter().map(|stream| stream.key.clone()).collect::<Vec<_>>(),
        ids,
        "groups and ids are the old ones"
    );
    for (node, (_, logged)) in cluster.nodes.iter().zip(&before) {
        assert_eq!(node.api().metric("postrider_fencings_total").await, 0.0);
        assert_eq!(node.api().metric("postrider_reclaims_total").await, 0.0);
        let log = node.log_text();
        let lines = log[*logged..].lines().count();
        assert!(lines < 60, "{lines} lines about one absence of Redis:\n{log}");
    }
    settled(PATIENCE, "the streams are read and acknowledged as before", async || {
        let streams = cluster.redis.node_streams().await;
        if streams.iter().all(|stream| stream.length == 0 && stream.pending == 0) {
            Ok(())
        } else {
            Err(streams)
        }
    })
    .await;
}

#[tokio::test]
async fn a_device_that_was_away_meanwhile_resumes_across_the_restart_without_a_gap() {
    let mut cluster = cluster().await;
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let pusher = cluster.nodes[0].api();
    push_numbers(&pusher, 0..5).await;
    phone.wait_messages(5).await;
    let position = phone.last_position("user:ann").expect("a position");
    phone.cut().await;
    push_numbers(&pusher, 5..10).await;
    for n in 10..13 {
        cluster.redis.kill();
        cluster.redis.restart().await;
        push_again(&pusher, n).await;
    }
    let phone =
        Device::resume(cluster.nodes[2].envelope("ann").device("phone"), &[("user:ann", &position)]).await;
    phone.wait_messages(8).await;
    assert_eq!(phone.payloads(), numbers(5..13));
    assert!(phone.frames_of("gap").is_empty());
    assert_eq!(phone.hello().await["resumed"], true);
}

#[tokio::test]
async fn a_node_that_dies_while_redis_is_away_is_inherited_when_it_is_back() {
    let mut cluster = cluster().await;
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let pusher = cluster.nodes[0].api();
    push_numbers(&pusher, 0..5).await;
    phone.wait_messages(5).await;
    let position = phone.last_position("user:ann").expect("a position");
    cluster.redis.kill();
    cluster.nodes[1].kill();
    let dead = cluster.nodes[1].id().to_owned();
    sleep(Duration::from_secs(3)).await;
    cluster.redis.restart().await;
    push_again(&pusher, 5).await;
    let phone =
        Device::resume(cluster.nodes[2].envelope("ann").device("phone"), &[("user:ann", &position)]).await;
    crate::traces::forgotten(&cluster.redis, &dead).await;
    push_numbers(&pusher, 6..7).await;
    phone.wait_messages(2).await;
    assert_eq!(phone.payloads(), numbers(5..7));
}
