//! A device that does not read is closed, and loses nothing by it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Api, Cluster, Device, NodeOptions, PATIENCE, RedisServer, settled};

const CONFIG: &str = "outbox_messages_max = 64\nsocket_send_buffer_bytes = 4096\n";

/// Pushes of 8 KiB, numbered, until `enough` says so; how many there were.
async fn flood(api: &Api, from: usize, mut enough: impl AsyncFnMut() -> bool) -> usize {
    let padding = "x".repeat(8 * 1024);
    for n in from..from + 900 {
        if n.is_multiple_of(16) && enough().await {
            return n;
        }
        api.push_to("ann", json!({"n": n, "padding": padding})).await;
    }
    panic!("900 messages of 8 KiB were not enough");
}

async fn slow_closes(api: &Api) -> Option<f64> {
    let page = api.get("/metrics").await.text;
    let line = page.lines().find_map(|line| line.strip_prefix("postrider_closes_total{code=\"slow\"} "))?;
    line.parse().ok()
}

fn numbers_of(values: &[Value]) -> Vec<u64> {
    values.iter().map(|data| data["n"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn a_slow_session_is_closed_and_its_mailbox_keeps_its_messages() {
    let options = NodeOptions { config: Some(CONFIG.to_owned()), ..NodeOptions::default() };
    let cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let holder = cluster.nodes[0].api();
    let pusher = cluster.nodes[1].api();
    let quick = Device::connect(cluster.nodes[0].envelope("ann").device("tablet").acknowledging()).await;
    let slow = cluster.nodes[0].envelope("ann").device("phone").receive_buffer(4096);
    let slow = Device::connect(slow).await;
    slow.socket().stop_reading();

    let sent = flood(&pusher, 0, async || slow_closes(&holder).await == Some(1.0)).await;
    slow.socket().go_on_reading();
    let closed = slow.wait_closed(PATIENCE).await;
    // A frame cut in the middle leaves no room for a close frame; then the connection just ends.
    assert!(matches!(closed.code, Some(4101) | None), "{closed:?}");
    let seen = numbers_of(&slow.payloads());
    assert!(seen.len() < sent, "it did not miss anything");

    // On another node, from where it was: the rest, each once, in order.
    let resumed = match slow.last_position("user:ann") {
        Some(position) => {
            Device::resume(cluster.nodes[1].envelope("ann").device("phone"), &[("user:ann", &position)]).await
        }
        None => Device::connect(cluster.nodes[1].envelope("ann").device("phone").query("from=oldest")).await,
    };
    let rest = sent - seen.len();
    resumed.wait_messages_within(rest, PATIENCE).await;
    let all: Vec<_> = seen.into_iter().chain(numbers_of(&resumed.payloads())).collect();
    assert_eq!(all, (0..sent as u64).collect::<Vec<_>>());
    assert!(resumed.frames_of("gap").is_empty());

    // The other device of the same user, on the same node, was not held up.
    quick.wait_messages(sent).await;
    assert_eq!(numbers_of(&quick.payloads()), (0..sent as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stalled_session_holds_up_no_acknowledgement_for_long() {
    let cluster = Cluster::start(2).await;
    let stalled = cluster.nodes[0].plain("ann").receive_buffer(4096).connect().await;
    stalled.stop_reading();
    let api = cluster.nodes[1].api();
    let padding = "x".repeat(32 * 1024);
    // More than the kernel takes for this socket, less than its outbox does.
    for n in 0..20 {
        api.push_to("ann", format!("{n} {padding}")).await;
    }
    settled(Duration::from_secs(8), "the entries are acknowledged although the frames wait", async || {
        let streams = cluster.redis.node_streams().await;
        let idle = streams.iter().all(|stream| stream.length == 0 && stream.pending == 0);
        if idle { Ok(()) } else { Err(streams) }
    })
    .await;
    stalled.go_on_reading();
    let texts = stalled.wait_texts(20).await;
    let first_words: Vec<_> =
        texts.iter().map(|text| text.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(first_words, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}
