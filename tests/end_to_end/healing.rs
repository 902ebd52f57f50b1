//! A lost notification costs seconds, not a message.

use std::time::Duration;

use redis::AsyncCommands;

use crate::harness::{Cluster, Device, PATIENCE, eventually};
use crate::traces::{numbers, push_numbers, stream_of};

/// Two comparisons of a quiet channel with its mailbox, and room for a busy machine.
const SECONDS: Duration = Duration::from_secs(10);

#[tokio::test]
async fn entries_that_vanish_from_a_node_stream_are_found_in_the_mailbox_within_seconds() {
    let mut cluster = Cluster::start(2).await;
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let plain = cluster.nodes[1].plain("ann").connect().await;
    let pusher = cluster.nodes[0].api();
    push_numbers(&pusher, 0..2).await;
    phone.wait_messages(2).await;

    // Frozen for less than a heartbeat, so that it has not read what is taken away.
    cluster.nodes[1].pause();
    push_numbers(&pusher, 2..7).await;
    let stream = stream_of(cluster.nodes[1].id());
    let mut redis = cluster.redis.connection().await;
    eventually(PATIENCE, "the entries are there", async || {
        redis.xlen::<_, u64>(&stream).await.is_ok_and(|length| length > 0)
    })
    .await;
    let pushed = pusher.metric("postrider_entries_sent_total{outcome=\"stored\"}").await;
    assert!(pushed >= 1.0);
    let trimmed: u64 = redis::cmd("XTRIM")
        .arg(&stream)
        .arg("MAXLEN")
        .arg(0)
        .query_async(&mut redis)
        .await
        .expect("XTRIM is answered");
    assert!(trimmed > 0);
    cluster.nodes[1].resume();

    phone.wait_messages_within(7, SECONDS).await;
    assert_eq!(phone.payloads(), numbers(0..7));
    assert_eq!(plain.wait_texts(7).await, (0..7).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(phone.frames_of("gap").is_empty(), "nothing was lost");
    let holder = cluster.nodes[1].api();
    assert!(holder.metric("postrider_heals_total").await >= 1.0);
    assert_eq!(holder.metric("postrider_fencings_total").await, 0.0);
}

#[tokio::test]
async fn a_message_whose_sender_was_killed_before_it_was_routed_is_found_in_the_mailbox() {
    let mut cluster = Cluster::start(2).await;
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let api = cluster.nodes[0].api();
    push_numbers(&api, 0..1).await;
    phone.wait_messages(1).await;
    // Whether the kill comes before or behind the routing of the last ones is
    // left to chance; that all which is in the mailbox arrives is not.
    let flood = tokio::spawn(async move {
        for n in 1..10_000_u32 {
            let body = serde_json::json!({"to": "user:ann", "data": n});
            if api.try_push(&body, None).await.is_err() {
                return;
            }
        }
    });
    phone.wait_messages(50).await;
    cluster.nodes[0].kill();
    flood.await.expect("it does not panic");
    let head = cluster.nodes[1].api().get("/v1/channels/user:ann").await.expect(200)["head"].clone();
    eventually(SECONDS, "the last message of the mailbox arrives", async || {
        phone.last_position("user:ann").is_some_and(|position| head == position.as_str())
    })
    .await;
    let count = u32::try_from(phone.payloads().len()).expect("few");
    assert_eq!(phone.payloads(), numbers(0..count));
}
