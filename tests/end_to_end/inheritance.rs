//! What a dead node still owed is taken over, once, by whoever is left.

use std::time::Duration;

use futures_util::future::join_all;
use redis::AsyncCommands;
use serde_json::json;

use crate::harness::{
    Cluster, Device, Mode, Node, NodeOptions, PATIENCE, Proxy, RedisServer, eventually, settled, until,
};
use crate::traces::{SHORT_LIVES, forgotten, lease_of, numbers, push_numbers, stream_of, traces};

fn short_lives() -> NodeOptions {
    NodeOptions { config: Some(SHORT_LIVES.to_owned()), ..NodeOptions::default() }
}

async fn sum(nodes: &[&Node], series: &str) -> f64 {
    join_all(nodes.iter().map(|node| async { node.api().metric(series).await })).await.iter().sum()
}

#[tokio::test]
async fn a_survivor_inherits_the_stream_of_a_killed_node_and_leaves_no_trace_of_it() {
    let mut cluster = Cluster::start_on(RedisServer::start().await, 3, short_lives()).await;
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let tablet = Device::connect(cluster.nodes[2].envelope("ann").device("tablet")).await;
    let pusher = cluster.nodes[0].api();
    push_numbers(&pusher, 0..5).await;
    phone.wait_messages(5).await;
    let position = phone.last_position("user:ann").expect("a position");

    // Frozen first, so that what follows is in its stream, unread, when it dies.
    cluster.nodes[1].pause();
    push_numbers(&pusher, 5..105).await;
    let dead = cluster.nodes[1].id().to_owned();
    let mut redis = cluster.redis.connection().await;
    eventually(PATIENCE, "its stream holds what nobody read", async || {
        redis.xlen::<_, u64>(stream_of(&dead)).await.is_ok_and(|length| length > 0)
    })
    .await;
    cluster.nodes[1].kill();
    let phone =
        Device::resume(cluster.nodes[0].envelope("ann").device("phone"), &[("user:ann", &position)]).await;
    forgotten(&cluster.redis, &dead).await;

    let survivors = [&cluster.nodes[0], &cluster.nodes[2]];
    settled(PATIENCE, "one survivor tells of one inheritance", async || {
        let inherited = sum(&survivors, "postrider_reclaims_total").await;
        if inherited == 1.0 { Ok(()) } else { Err(inherited) }
    })
    .await;
    assert!(sum(&survivors, "postrider_reroutes_total").await >= 100.0, "it handed on what the stream held");
    // What was handed on has been shown before: the mailboxes were faster.
    push_numbers(&pusher, 105..106).await;
    phone.wait_messages(101).await;
    tablet.wait_messages(106).await;
    assert_eq!(phone.payloads(), numbers(5..106));
    assert_eq!(tablet.payloads(), numbers(0..106));
    assert!(phone.frames_of("gap").is_empty() && tablet.frames_of("gap").is_empty());
    assert_eq!(sum(&survivors, "postrider_fencings_total").await, 0.0);
}

#[tokio::test]
async fn when_the_heir_is_killed_in_the_middle_another_one_goes_on() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.address()).await;
    let options = NodeOptions { redis: Some(format!("redis://{}", proxy.address())), ..short_lives() };
    let mut cluster = Cluster::start_on(redis, 4, options).await;
    let dead = cluster.nodes[3].id().to_owned();
    let holders: Vec<_> =
        join_all((0..300).map(|user| cluster.nodes[3].plain(&format!("user{user}")).connect())).await;
    let _phone = Device::connect(cluster.nodes[3].envelope("ann").device("phone")).await;
    cluster.nodes[3].pause();
    let pusher = cluster.nodes[0].api();
    push_numbers(&pusher, 0..100).await;
    join_all((0..300).map(|user| {
        let pusher = pusher.clone();
        async move { pusher.push_to(&format!("user{user}"), "waits").await }
    }))
    .await;
    let mut connection = cluster.redis.connection().await;
    eventually(PATIENCE, "its stream holds several steps of work", async || {
        connection.xlen::<_, u64>(stream_of(&dead)).await.is_ok_and(|length| length > 64)
    })
    .await;

    // Every trip takes long enough to be caught in the middle.
    proxy.set(crate::harness::Direction::ToServer, Mode::Delay(Duration::from_millis(60)));
    cluster.nodes[3].kill();
    drop(holders);
    let heir: String = until(PATIENCE, "a survivor has the lease", async || {
        connection.get::<_, Option<String>>(lease_of(&dead)).await.ok().flatten()
    })
    .await;
    let heir = cluster.nodes.iter().position(|node| node.id() == heir).expect("a survivor");
    let heir_id = cluster.nodes[heir].id().to_owned();
    cluster.nodes[heir].kill();
    assert!(!traces(&cluster.redis, &dead).await.is_empty(), "it was killed too late to show anything");
    proxy.set_both(Mode::Pass);

    let [first, second] = [0, 1, 2].into_iter().filter(|at| *at != heir).collect::<Vec<_>>()[..] else {
        unreachable!("two of three are left")
    };
    let phone =
        Device::connect(cluster.nodes[first].envelope("ann").device("phone").query("from=oldest")).await;
    forgotten(&cluster.redis, &dead).await;
    forgotten(&cluster.redis, &heir_id).await;
    let api = cluster.nodes[second].api();
    push_numbers(&api, 100..101).await;
    phone.wait_messages(101).await;
    assert_eq!(phone.payloads(), numbers(0..101));
    let survivors = [&cluster.nodes[first], &cluster.nodes[second]];
    settled(PATIENCE, "both deaths were inherited once", async || {
        let inherited = sum(&survivors, "postrider_reclaims_total").await;
        if inherited == 2.0 { Ok(()) } else { Err(inherited) }
    })
    .await;
    // Whoever lost a device to the dead node gets it all on any other.
    let user = cluster.nodes[second].plain("user7").connect().await;
    assert_eq!(user.wait_texts(1).await, ["waits"]);
}

#[tokio::test]
async fn a_sender_that_meets_a_missing_stream_takes_its_node_off_the_directory() {
    // Nobody is given up in this test: what is cleaned up, the sender cleans up.
    let config = "heartbeat_ttl_ms = 120000\n";
    let options = NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() };
    let mut cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let gone = cluster.nodes[1].id().to_owned();
    cluster.nodes[1].pause();
    let mut redis = cluster.redis.connection().await;
    let () = redis.del(stream_of(&gone)).await.expect("DEL is answered");

    let pusher = cluster.nodes[0].api();
    let answer = pusher.push_to("ann", 0).await;
    assert_eq!(answer["nodes"], 1, "at this moment the directory still names it: {answer}");
    settled(PATIENCE, "the sender took the node off the directory", async || {
        // The node is not given up, so only the directory can take it off this list.
        let channel = pusher.get("/v1/channels/user:ann").await.expect(200);
        if channel["nodes"] == json!([]) { Ok(()) } else { Err(channel) }
    })
    .await;
    assert_eq!(pusher.metric("postrider_entries_sent_total{outcome=\"no_stream\"}").await, 1.0);
    let answer = pusher.push_to("ann", 1).await;
    assert_eq!(answer["nodes"], json!(0));

    // The node itself learns of it by its next read, and its socket gets what it missed.
    cluster.nodes[1].resume();
    phone.wait_messages(2).await;
    push_numbers(&pusher, 2..3).await;
    phone.wait_messages(3).await;
    assert_eq!(phone.payloads(), numbers(0..3));
    assert_eq!(cluster.nodes[1].api().metric("postrider_fencings_total").await, 1.0);
}
