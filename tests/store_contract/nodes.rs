//! Heartbeats and the registry.

use postrider::protocol::NodeId;
use postrider::store::{Limits, NodeInfo};

use crate::backend::Backend;
use crate::support::*;

pub(crate) async fn an_enrolled_node_is_live_and_says_what_it_is(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    assert_eq!(store.nodes().await.expect("nodes"), []);
    let node = enrolled(&*store).await;
    let nodes = store.nodes().await.expect("nodes");
    assert_eq!((nodes.len(), nodes[0].id, &nodes[0].info), (1, node, &node_info()));
    assert!(nodes[0].beat_age_ms < 3_000);

    let busy = NodeInfo { sessions: 12, draining: true, address: "host:1 \"é\"".into(), ..node_info() };
    let beat = store.beat(node, &busy).await.expect("beaten");
    assert!(!beat.fenced);
    assert_eq!(beat.suspects, []);
    assert!(beat.now_us / 1_000 <= clock_ms(&*store).await);
    assert_eq!(store.nodes().await.expect("nodes")[0].info, busy);
}

pub(crate) async fn who_stops_beating_is_suspected_until_it_beats_again(backend: &dyn Backend) {
    let limits = Limits { heartbeat_ttl_ms: 100, heartbeat_grace_ms: 50, ..Limits::default() };
    let store = backend.open(limits).await;
    let (silent, beating) = (enrolled(&*store).await, enrolled(&*store).await);
    until("the silent node to be suspected", async || {
        let beat = store.beat(beating, &node_info()).await.expect("beaten");
        assert!(!beat.fenced);
        assert!(!beat.suspects.contains(&beating), "nobody suspects itself");
        beat.suspects.contains(&silent).then_some(())
    })
    .await;
    let live: Vec<_> = store.nodes().await.expect("nodes").iter().map(|record| record.id).collect();
    assert!(!live.contains(&silent));

    assert!(!store.beat(silent, &node_info()).await.expect("beaten").fenced, "nobody declared it dead");
    until("it to be live, and nobody suspect", async || {
        store.beat(silent, &node_info()).await.expect("beaten");
        let beat = store.beat(beating, &node_info()).await.expect("beaten");
        let live = store.nodes().await.expect("nodes");
        (live.iter().any(|record| record.id == silent) && beat.suspects.is_empty()).then_some(())
    })
    .await;
}

pub(crate) async fn a_node_that_never_enrolled_is_fenced(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    assert!(store.beat(NodeId::generate(), &node_info()).await.expect("beaten").fenced);
    assert_eq!(store.nodes().await.expect("nodes"), []);
}

pub(crate) async fn a_node_retires_once_its_stream_is_empty_and_its_channels_left(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let node = enrolled(&*store).await;
    let alice = channel("alice");
    store.send(node, "1".into()).await.expect("sent");
    assert!(!store.retire(node).await.expect("asked"), "an entry is left");
    assert!(!store.beat(node, &node_info()).await.expect("beaten").fenced, "it goes on until it may go");

    let mut consumer = store.consume(node).await.expect("opened");
    let entries = consumer.next(Default::default(), 10).await.expect("read");
    assert!(!store.retire(node).await.expect("asked"), "an unacknowledged entry is left");
    store.ack_entries(node, &crate::streams::done(&entries)).await.expect("acknowledged");
    store.join(&join(node, &alice, 1)).await.expect("joined");
    assert!(!store.retire(node).await.expect("asked"), "a channel is left");
    store.leave(node, &alice, 2, 0).await.expect("left");

    assert!(store.retire(node).await.expect("retired"));
    assert_eq!(store.nodes().await.expect("nodes"), []);
    assert_eq!(store.send(node, "2".into()).await.expect("asked"), postrider::store::Sent::NoStream);
    let other = enrolled(&*store).await;
    assert_eq!(store.beat(other, &node_info()).await.expect("beaten").suspects, [], "it leaves no trace");
}
