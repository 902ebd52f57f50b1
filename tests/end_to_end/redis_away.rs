//! While Redis is away nobody is told that something was accepted.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{
    Api, Cluster, Device, NodeOptions, PATIENCE, Persistence, RedisOptions, RedisServer, run_command, settled,
};

/// Pushes until one is refused; returns that answer's problem and what was accepted before.
async fn push_until_refused(api: &Api, accepted: &mut Vec<u64>, next: &mut u64) -> Value {
    loop {
        let n = *next;
        *next += 1;
        let answer = api.push(&json!({"to": "user:ann", "data": n})).await;
        if answer.status == 202 {
            accepted.push(n);
            continue;
        }
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let after = answer.header("retry-after").expect("a 503 says when to come back");
        assert!(after.parse::<u32>().is_ok_and(|seconds| seconds > 0), "Retry-After: {after}");
        return answer.json();
    }
}

async fn wait_accepting(api: &Api, accepted: &mut Vec<u64>, next: &mut u64) {
    settled(PATIENCE, "pushes are accepted again", async || {
        let n = *next;
        *next += 1;
        let answer = api.push(&json!({"to": "user:ann", "data": n})).await;
        if answer.status == 202 {
            accepted.push(n);
            return Ok(());
        }
        Err(answer.text)
    })
    .await;
}

/// Everything accepted arrived once and in order; of the rest at most once.
async fn nothing_accepted_is_missing(device: &Device, accepted: &[u64]) {
    let last = json!(accepted.last());
    settled(PATIENCE, "the last accepted message arrives", async || {
        let payloads = device.payloads();
        if payloads.contains(&last) { Ok(()) } else { Err(payloads) }
    })
    .await;
    let received: Vec<u64> = device.payloads().iter().map(|data| data.as_u64().expect("a number")).collect();
    let distinct: HashSet<_> = received.iter().copied().collect();
    assert_eq!(distinct.len(), received.len(), "something came twice: {received:?}");
    let missing: Vec<_> = accepted.iter().filter(|n| !distinct.contains(n)).collect();
    assert!(missing.is_empty(), "accepted and not delivered: {missing:?}");
    assert!(received.is_sorted(), "out of order: {received:?}");
    assert!(device.frames_of("gap").is_empty(), "nothing was lost, but a gap was told");
}

#[tokio::test]
async fn a_frozen_redis_means_503_with_retry_after_and_an_unready_but_healthy_node() {
    let mut cluster = Cluster::start(2).await;
    let device = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let api = cluster.nodes[0].api();
    let (mut accepted, mut next) = (Vec::new(), 0);
    wait_accepting(&api, &mut accepted, &mut next).await;

    cluster.redis.pause();
    let problem = push_until_refused(&api, &mut accepted, &mut next).await;
    assert_eq!(problem["status"], 503);
    settled(PATIENCE, "the node is unready", async || {
        let ready = api.get("/readyz").await;
        if ready.status == 503 { Ok(()) } else { Err(ready.text) }
    })
    .await;
    assert_eq!(api.get("/readyz").await.json()["status"], "not_ready");
    assert_eq!(api.get("/healthz").await.expect(200), json!({"status": "ok"}));

    cluster.redis.resume();
    for node in &cluster.nodes {
        node.ready(PATIENCE).await;
    }
    wait_accepting(&api, &mut accepted, &mut next).await;
    nothing_accepted_is_missing(&device, &accepted).await;
    assert_eq!(device.socket().closed(), None, "the socket outlives its store's absence");
}

#[tokio::test]
async fn a_redis_killed_and_restarted_loses_nothing_that_was_accepted() {
    let persistent = RedisOptions { persistence: Persistence::Always, ..RedisOptions::default() };
    let redis = RedisServer::start_with(persistent).await;
    let mut cluster = Cluster::start_on(redis, 2, NodeOptions::default()).await;
    let device = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let api = cluster.nodes[0].api();
    let (mut accepted, mut next) = (Vec::new(), 0);
    for _ in 0..3 {
        for _ in 0..20 {
            wait_accepting(&api, &mut accepted, &mut next).await;
        }
        cluster.redis.kill();
        push_until_refused(&api, &mut accepted, &mut next).await;
        cluster.redis.restart().await;
        wait_accepting(&api, &mut accepted, &mut next).await;
    }
    nothing_accepted_is_missing(&device, &accepted).await;
}

#[tokio::test]
async fn a_node_that_cannot_reach_redis_at_its_start_says_so_and_ends() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--redis", &redis.url()];
    let (code, said) = run_command(&serve, &[]).await;
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {said}");
    assert!(said.contains(&redis.address().to_string()), "it does not say what it could not reach: {said}");
}

#[tokio::test]
async fn a_redis_that_would_evict_what_was_accepted_is_refused() {
    let args = ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"].map(str::to_owned).to_vec();
    let redis = RedisServer::start_with(RedisOptions { args, ..RedisOptions::default() }).await;
    let serve = ["serve", "--listen", "127.0.0.1:0", "--redis", &redis.url()];
    let (code, said) = run_command(&serve, &[]).await;
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {said}");
    assert!(said.contains("noeviction"), "it does not say what to set: {said}");
}
