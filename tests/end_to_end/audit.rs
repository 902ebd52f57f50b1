//! The operator can prove that nothing accepted is unaccounted for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::harness::{Api, Cluster, Device, PATIENCE, RedisServer, run_command, settled};

async fn audit(redis: &RedisServer, more: &[&str]) -> (Option<i32>, String) {
    let url = redis.url();
    let args: Vec<_> = ["audit", "--redis", &url].into_iter().chain(more.iter().copied()).collect();
    run_command(&args, &[]).await
}

async fn totals(redis: &RedisServer) -> Value {
    let (code, said) = audit(redis, &["--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let found: Value = serde_json::from_str(said.trim()).expect("one line of JSON");
    assert_eq!(found["clean"], true);
    found
}

/// Pushes of every kind until told to stop; how many were accepted.
async fn sender(apis: Vec<Api>, seed: u64, stop: Arc<AtomicBool>, accepted: Arc<AtomicU64>) {
    let mut n = seed;
    while !stop.load(Ordering::Relaxed) {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let roll = n >> 40;
        let mut body = json!({"to": format!("user:user{}", roll % 12), "data": n});
        match roll % 7 {
            0 => body["ttl"] = json!(0),
            1 => body["ttl"] = json!(1),
            2 | 3 => body["collapse_key"] = json!(format!("key{}", roll % 3)),
            _ => {}
        }
        let api = &apis[(roll % apis.len() as u64) as usize];
        if api.push(&body).await.status == 202 {
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_adds_up_while_everything_moves_and_when_all_is_quiet() {
    let mut cluster = Cluster::start(3).await;
    let apis: Vec<_> = cluster.nodes[..2].iter().map(|node| node.api()).collect();
    let mut devices = Vec::new();
    for user in 0..6 {
        let dial = cluster.nodes[user % 3].envelope(&format!("user{user}")).device("phone").acknowledging();
        devices.push(Device::connect(dial).await);
    }
    let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let senders: Vec<_> =
        (0..4).map(|seed| tokio::spawn(sender(apis.clone(), seed, stop.clone(), accepted.clone()))).collect();
    let mut round = 0;
    while round < 6 || accepted.load(Ordering::Relaxed) < 400 {
        let (code, said) = audit(&cluster.redis, &[]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("in every channel"), "{said}");
        if round == 2 {
            cluster.nodes[2].kill();
        }
        round += 1;
    }
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.expect("a sender does not fail");
    }
    let found = settled(PATIENCE, "acknowledgements are written and short lives are over", async || {
        let found = totals(&cluster.redis).await;
        let moved = found["totals"]["received"] != 0 && found["totals"]["expired"] != 0;
        if moved { Ok(found) } else { Err(found) }
    })
    .await;
    let sum = |names: &[&str]| {
        names.iter().map(|name| found["totals"][name].as_u64().expect("a number")).sum::<u64>()
    };
    let dropped: u64 = found["totals"]["dropped"]
        .as_object()
        .expect("reasons")
        .values()
        .map(|count| count.as_u64().expect("a number"))
        .sum();
    assert_eq!(found["channels"], 12);
    assert_eq!(sum(&["accepted"]), accepted.load(Ordering::Relaxed));
    assert_eq!(
        sum(&["accepted"]),
        sum(&["received", "waiting", "expired", "collapsed"]) + dropped,
        "{found}"
    );
    assert!(
        sum(&["collapsed"]) > 0 && dropped > 0 && sum(&["received"]) > 0 && sum(&["waiting"]) > 0,
        "{found}"
    );
}

#[tokio::test]
async fn what_was_taken_away_behind_its_back_is_named_with_both_numbers() {
    let cluster = Cluster::start(1).await;
    let api = cluster.nodes[0].api();
    for n in 0..5 {
        api.push_to("ann", n).await;
        api.push_to("bob", n).await;
    }
    let mut redis = cluster.redis.connection().await;
    let deleted: u32 = redis::cmd("XDEL")
        .arg("postrider:b:{user:ann}")
        .arg("3-0")
        .query_async(&mut redis)
        .await
        .expect("XDEL is answered");
    assert_eq!(deleted, 1);

    let (code, said) = audit(&cluster.redis, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("user:ann: 5 must be waiting") && said.contains("4 counted"), "{said}");
    assert!(!said.contains("user:bob"), "{said}");
    let (code, said) = audit(&cluster.redis, &["--json"]).await;
    assert_eq!(code, Some(1), "{said}");
    let found: Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    let difference = &found["differences"][0];
    assert_eq!(
        (&found["clean"], &found["differing"], &difference["channel"]),
        (&json!(false), &json!(1), &json!("user:ann"))
    );
    assert_eq!((&difference["waiting_by_counts"], &difference["counted"]["waiting"]), (&json!(5), &json!(4)));
    assert_eq!(audit(&cluster.redis, &["--channel", "user:bob"]).await.0, Some(0));
    assert_eq!(audit(&cluster.redis, &["--channel", "user:ann"]).await.0, Some(1));
}

#[tokio::test]
async fn every_fate_is_counted_under_its_own_name() {
    let cluster = Cluster::start(1).await;
    let api = cluster.nodes[0].api();
    let push = async |extra: Value| {
        let mut body = json!({"to": "user:ann", "data": 1});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        api.push(&body).await.expect(202);
    };
    push(json!({"ttl": 0})).await;
    push(json!({"ttl": 1})).await;
    push(json!({"collapse_key": "score"})).await;
    push(json!({"collapse_key": "score"})).await;
    push(json!({})).await;
    settled(PATIENCE, "one of each kind", async || {
        let found = totals(&cluster.redis).await["totals"].clone();
        let expected = json!({
            "accepted": 5, "received": 0, "waiting": 2, "expired": 1, "collapsed": 1,
            "dropped": {"mailbox_full": 0, "no_session": 1, "unreported": 0, "withdrawn": 0},
        });
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
    let phone = Device::connect(cluster.nodes[0].envelope("ann").device("phone").acknowledging()).await;
    phone.wait_messages(2).await;
    settled(PATIENCE, "what waited was received", async || {
        let found = totals(&cluster.redis).await["totals"].clone();
        if found["received"] == 2 && found["waiting"] == 0 { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test]
async fn it_says_what_it_needs_and_what_it_could_not_reach() {
    let (code, said) = run_command(&["audit"], &[]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--redis"), "{said}");
    let mut redis = RedisServer::start().await;
    redis.kill();
    let (code, said) = audit(&redis, &[]).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&redis.address().to_string()), "{said}");
    let (code, said) = run_command(&["audit", "--redis", "nonsense"], &[]).await;
    assert_eq!(code, Some(64), "{said}");
}
