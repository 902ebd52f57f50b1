//! Redis loses everything, or comes back older than it was: whoever is
//! concerned is told, and no position ever means two messages.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{
    Api, Cluster, Device, NodeOptions, PATIENCE, Persistence, RedisOptions, RedisServer, settled,
};
use crate::traces::SHORT_LIVES;

/// Positions given out so far, each with its message.
#[derive(Default)]
struct Positions(HashMap<String, u32>);

impl Positions {
    /// Pushes a number until it is accepted, and checks that its position is new.
    async fn push(&mut self, api: &Api, n: u32) {
        let answer = settled(PATIENCE, "a push is accepted", async || {
            let answer = api.push(&json!({"to": "user:ann", "data": n})).await;
            if answer.status == 202 { Ok(answer.json()) } else { Err(answer.text) }
        })
        .await;
        let position = answer["pos"].as_str().expect("a position").to_owned();
        let before = self.0.insert(position.clone(), n);
        assert_eq!(before, None, "position {position} of {n} was given out before");
    }

    async fn push_all(&mut self, api: &Api, numbers: std::ops::Range<u32>) {
        for n in numbers {
            self.push(api, n).await;
        }
    }
}

async fn cluster(redis: RedisServer) -> Cluster {
    let options = NodeOptions { config: Some(SHORT_LIVES.to_owned()), ..NodeOptions::default() };
    Cluster::start_on(redis, 2, options).await
}

/// The frames of a device that tell of messages: numbers, and "gap" with its reason.
fn story(device: &Device) -> Vec<Value> {
    let told = |frame: Value| match frame["type"].as_str() {
        Some("message") => Some(frame["data"].clone()),
        Some("gap") => Some(json!({"gap": frame["reason"]})),
        _ => None,
    };
    device.frames().into_iter().filter_map(told).collect()
}

async fn tells(device: &Device, expected: Vec<Value>) {
    settled(PATIENCE, "a device was told the whole story", async || {
        let story = story(device);
        if story == expected { Ok(()) } else { Err(story) }
    })
    .await;
}

fn with_gap(before: std::ops::Range<u32>, after: std::ops::Range<u32>) -> Vec<Value> {
    before.map(Value::from).chain([json!({"gap": "reset"})]).chain(after.map(Value::from)).collect()
}

#[tokio::test]
async fn after_a_flush_live_and_returning_devices_are_told_and_go_on() {
    let cluster = cluster(RedisServer::start().await).await;
    let (mut positions, pusher) = (Positions::default(), cluster.nodes[0].api());
    let live = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let away = Device::connect(cluster.nodes[0].envelope("ann").device("tablet")).await;
    positions.push_all(&pusher, 0..5).await;
    live.wait_messages(5).await;
    away.wait_messages(5).await;
    let position = away.last_position("user:ann").expect("a position");
    away.cut().await;

    let mut redis = cluster.redis.connection().await;
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.expect("FLUSHALL is answered");
    positions.push_all(&pusher, 5..8).await;
    tells(&live, with_gap(0..5, 5..8)).await;
    let back =
        Device::resume(cluster.nodes[1].envelope("ann").device("tablet"), &[("user:ann", &position)]).await;
    tells(&back, with_gap(0..0, 5..8)).await;
    assert_eq!(back.hello().await["resumed"], false);
    positions.push_all(&pusher, 8..10).await;
    tells(&live, with_gap(0..5, 5..10)).await;
    tells(&back, with_gap(0..0, 5..10)).await;
    for node in &cluster.nodes {
        node.ready(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_quiet_channel_that_was_flushed_is_told_of_within_seconds() {
    let cluster = cluster(RedisServer::start().await).await;
    let (mut positions, pusher) = (Positions::default(), cluster.nodes[0].api());
    let live = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    positions.push_all(&pusher, 0..5).await;
    live.wait_messages(5).await;
    let mut redis = cluster.redis.connection().await;
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.expect("FLUSHALL is answered");
    tells(&live, with_gap(0..5, 0..0)).await;
    positions.push_all(&pusher, 5..8).await;
    tells(&live, with_gap(0..5, 5..8)).await;
}

/// Kills Redis once it holds 0..5 on disk and 0..10 in memory, and starts it
/// from the disk of then.
async fn restored(snapshot: bool) -> (Cluster, Positions, Device) {
    let persistence = if snapshot { Persistence::Nothing } else { Persistence::Always };
    let redis = RedisServer::start_with(RedisOptions { persistence, ..RedisOptions::default() }).await;
    let mut cluster = cluster(redis).await;
    let (mut positions, pusher) = (Positions::default(), cluster.nodes[0].api());
    let live = Device::connect(cluster.nodes[1].envelope("ann").device("phone").acknowledging()).await;
    positions.push_all(&pusher, 0..5).await;
    live.wait_messages(5).await;
    let (files, copy) =
        (cluster.redis.folder().join("appendonlydir"), tempfile::tempdir().expect("a folder"));
    if snapshot {
        let mut redis = cluster.redis.connection().await;
        let () = redis::cmd("SAVE").query_async(&mut redis).await.expect("SAVE is answered");
    } else {
        copy_files(&files, copy.path());
    }
    positions.push_all(&pusher, 5..10).await;
    live.wait_messages(10).await;
    cluster.redis.kill();
    if !snapshot {
        std::fs::remove_dir_all(&files).expect("the files of a dead server go");
        std::fs::create_dir(&files).expect("their folder comes again");
        copy_files(copy.path(), &files);
    }
    cluster.redis.restart().await;
    (cluster, positions, live)
}

fn copy_files(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).expect("a folder") {
        let file = file.expect("an entry");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

async fn older_state_is_told(snapshot: bool) {
    let (cluster, mut positions, live) = restored(snapshot).await;
    let pusher = cluster.nodes[0].api();
    let position = live.last_position("user:ann").expect("a position");
    positions.push_all(&pusher, 10..15).await;
    tells(&live, with_gap(0..10, 10..15)).await;
    // Who comes back with a position that Redis has never heard of is told as well.
    let back =
        Device::resume(cluster.nodes[0].envelope("ann").device("tablet"), &[("user:ann", &position)]).await;
    tells(&back, with_gap(0..0, 10..15)).await;
    // A device that Redis remembers at 5 gets what it kept and what came since.
    let remembered =
        Device::connect(cluster.nodes[0].envelope("ann").device("laptop").query("from=oldest")).await;
    tells(&remembered, (0..5).chain(10..15).map(Value::from).collect()).await;
    for node in &cluster.nodes {
        node.ready(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_redis_restored_from_an_older_snapshot_is_noticed() {
    older_state_is_told(true).await;
}

#[tokio::test]
async fn a_redis_restored_from_an_older_append_only_file_is_noticed() {
    older_state_is_told(false).await;
}

#[tokio::test]
async fn a_quiet_channel_of_which_redis_knows_less_than_was_seen_is_told_of_within_seconds() {
    let (cluster, mut positions, live) = restored(true).await;
    tells(&live, with_gap(0..10, 0..0)).await;
    positions.push_all(&cluster.nodes[0].api(), 10..12).await;
    tells(&live, with_gap(0..10, 10..12)).await;
}
