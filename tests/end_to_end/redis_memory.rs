//! Redis without memory: refused where it would evict, survived where it is full.

use serde_json::{Value, json};

use crate::harness::{
    Answer, Api, Cluster, Device, PATIENCE, RedisOptions, RedisServer, run_command, settled,
};

async fn configure(redis: &RedisServer, name: &str, value: &str) {
    let mut connection = redis.connection().await;
    let () = redis::cmd("CONFIG")
        .arg("SET")
        .arg(name)
        .arg(value)
        .query_async(&mut connection)
        .await
        .expect("CONFIG SET is answered");
}

#[tokio::test]
async fn every_policy_that_evicts_is_refused_at_the_start_with_what_to_set() {
    let redis = RedisServer::start().await;
    configure(&redis, "maxmemory", "64mb").await;
    let serve = ["serve", "--listen", "127.0.0.1:0", "--redis", &redis.url()];
    for policy in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        configure(&redis, "maxmemory-policy", policy).await;
        let (code, said) = run_command(&serve, &[]).await;
        assert_eq!(code, Some(1), "{policy}: {said}");
        assert!(said.contains(policy) && said.contains("maxmemory-policy noeviction"), "{said}");
    }
}

/// Pushes until Redis is full; that answer.
async fn fill(api: &Api, accepted: &mut Vec<u64>) -> Answer {
    let padding = "x".repeat(32 * 1024);
    for n in 0..900 {
        let answer = api.push(&json!({"to": "user:ann", "data": {"n": n, "padding": padding}})).await;
        if answer.status != 202 {
            return answer;
        }
        accepted.push(n);
    }
    panic!("900 messages of 32 KiB fit into 12 MiB");
}

fn numbers_of(values: &[Value]) -> Vec<u64> {
    values.iter().map(|data| data["n"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn a_full_redis_means_507_with_the_reason_and_nothing_accepted_is_lost() {
    let args = ["--maxmemory", "12mb", "--maxmemory-policy", "noeviction"].map(str::to_owned).to_vec();
    let cluster = Cluster::start_on(
        RedisServer::start_with(RedisOptions { args, ..RedisOptions::default() }).await,
        2,
        Default::default(),
    )
    .await;
    let live = Device::connect(cluster.nodes[1].envelope("ann").device("phone").acknowledging()).await;
    let api = cluster.nodes[0].api();
    let mut accepted = Vec::new();
    let refused = fill(&api, &mut accepted).await;
    assert_eq!(refused.status, 507, "{}", refused.text);
    assert!(refused.header("retry-after").is_some(), "it does not say when to come back");
    let problem = refused.json();
    assert_eq!(problem["code"], "store_out_of_memory");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("maxmemory")), "{problem}");

    // Everything but accepting goes on: heartbeats, sessions, acknowledgements, replay.
    live.wait_messages(accepted.len()).await;
    let late = Device::connect(cluster.nodes[0].envelope("ann").device("tablet").query("from=oldest")).await;
    late.wait_messages(accepted.len()).await;
    assert_eq!(numbers_of(&live.payloads()), accepted);
    assert_eq!(numbers_of(&late.payloads()), accepted);
    settled(PATIENCE, "the phone's cursor is at the head", async || {
        let channel = api.get("/v1/channels/user:ann").await.expect(200);
        let head = &channel["head"];
        let cursors = channel["cursors"].as_array().expect("a list");
        if cursors.iter().any(|cursor| cursor["device"] == "phone" && cursor["pos"] == *head) {
            Ok(())
        } else {
            Err(channel)
        }
    })
    .await;
    for node in &cluster.nodes {
        node.ready(PATIENCE).await;
        assert_eq!(node.api().metric("postrider_fencings_total").await, 0.0);
    }

    configure(&cluster.redis, "maxmemory", "64mb").await;
    settled(PATIENCE, "pushes are accepted again", async || {
        let answer = api.push(&json!({"to": "user:ann", "data": {"n": 1_000}})).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.text) }
    })
    .await;
    let count = accepted.len() + 1;
    live.wait_messages(count).await;
    late.wait_messages(count).await;
    assert_eq!(numbers_of(&live.payloads()).last(), Some(&1_000));
}
