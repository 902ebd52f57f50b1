//! Declaring a node dead and inheriting what it left.

use std::sync::Arc;

use postrider::protocol::NodeId;
use postrider::store::{Burial, EntryAcks, EntryId, Error, Limits, Sent, Store, redis};

use crate::backend::Backend;
use crate::redis_server::RedisServer;
use crate::support::*;

fn quick() -> Limits {
    Limits { heartbeat_ttl_ms: 60, heartbeat_grace_ms: 20, ..Limits::default() }
}

/// Waits until `dead` is fenced by `by`.
async fn fenced(store: &dyn Store, dead: NodeId, by: NodeId) {
    until("the lease", async || store.fence(dead, by).await.expect("asked").then_some(())).await;
}

pub(crate) async fn a_beating_node_cannot_be_fenced(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (node, survivor) = (enrolled(&*store).await, enrolled(&*store).await);
    assert!(!store.fence(node, survivor).await.expect("asked"));
    assert!(!store.fence(NodeId::generate(), survivor).await.expect("asked"), "nor one that never was");
    assert!(!store.beat(node, &node_info()).await.expect("beaten").fenced);
}

pub(crate) async fn a_fenced_node_finds_out_wherever_it_turns(backend: &dyn Backend) {
    let store = backend.open(quick()).await;
    let (dead, survivor) = (enrolled(&*store).await, enrolled(&*store).await);
    let mut consumer = store.consume(dead).await.expect("opened");
    store.send(dead, "1".into()).await.expect("sent");
    let read = until("the entry", async || {
        let entries = consumer.next(EntryAcks::default(), 10).await.expect("read");
        entries.first().map(|entry| entry.id)
    })
    .await;
    fenced(&*store, dead, survivor).await;

    assert!(store.beat(dead, &node_info()).await.expect("beaten").fenced);
    let acks = EntryAcks { ids: vec![read], trim_below: Some(read.successor()) };
    let next = consumer.next(acks, 10).await;
    assert!(matches!(next, Err(Error::Fenced)), "{next:?}");
    let next = consumer.next(EntryAcks::default(), 10).await;
    assert!(matches!(next, Err(Error::Fenced)), "and stays so: {next:?}");
    let live: Vec<_> = store.nodes().await.expect("nodes").iter().map(|record| record.id).collect();
    assert!(!live.contains(&dead), "its beat did not resurrect it");
}

pub(crate) async fn exactly_one_survivor_gets_the_lease(backend: &dyn Backend) {
    let store = backend.open(quick()).await;
    let dead = enrolled(&*store).await;
    clock_passes(&*store, clock_ms(&*store).await + 80).await;
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let store = Arc::clone(&store);
        attempts.spawn(async move {
            let survivor = NodeId::generate();
            (survivor, store.fence(dead, survivor).await.expect("asked"))
        });
    }
    let attempts = attempts.join_all().await;
    let winners: Vec<_> = attempts.iter().filter(|(_, won)| *won).collect();
    assert_eq!(winners.len(), 1);
    assert!(store.fence(dead, winners[0].0).await.expect("asked"), "the holder renews it");
    assert!(!store.fence(dead, NodeId::generate()).await.expect("asked"));
}

pub(crate) async fn a_survivor_inherits_read_and_unread_entries_oldest_first(backend: &dyn Backend) {
    let store = backend.open(quick()).await;
    let (dead, survivor) = (enrolled(&*store).await, NodeId::generate());
    for n in 0..6 {
        store.send(dead, n.to_string().into()).await.expect("sent");
    }
    let mut consumer = store.consume(dead).await.expect("opened");
    let read = consumer.next(EntryAcks::default(), 3).await.expect("read");
    store.ack_entries(dead, &crate::streams::done(&read[..1])).await.expect("acknowledged");
    fenced(&*store, dead, survivor).await;
    let late = store.send(dead, "6".into()).await.expect("sent");
    assert_eq!(late, Sent::Stored { capped: false }, "the stream stays until it is drained");

    let mut inherited = Vec::new();
    loop {
        let entries = store.orphans(dead, 2).await.expect("orphans");
        if entries.is_empty() {
            break;
        }
        assert!(entries.len() <= 2);
        let burial = store.bury(dead, survivor).await.expect("asked");
        assert_eq!(burial, Burial::Refused, "not while entries are left");
        let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
        store.discard(dead, survivor, &ids).await.expect("discarded");
        inherited
            .extend(entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.payload).into_owned()));
    }
    assert_eq!(inherited, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(store.bury(dead, survivor).await.expect("buried"), Burial::Done);
}

pub(crate) async fn a_buried_node_leaves_nothing(backend: &dyn Backend) {
    let store = backend.open(quick()).await;
    let (dead, survivor) = (enrolled(&*store).await, enrolled(&*store).await);
    let channels: Vec<_> = (0..5).map(|n| channel(&format!("u{n}"))).collect();
    for channel in &channels {
        store.join(&join(dead, channel, 1)).await.expect("joined");
    }
    store.leave(dead, &channels[4], 2, 0).await.expect("left");
    fenced(&*store, dead, survivor).await;

    let mut inherited = Vec::new();
    loop {
        let part = store.orphaned_channels(dead, 3).await.expect("channels");
        if part.is_empty() {
            break;
        }
        assert!(part.len() <= 3);
        let burial = store.bury(dead, survivor).await.expect("asked");
        assert_eq!(burial, Burial::Refused, "not while channels are left");
        store.drop_routes(dead, &part).await.expect("dropped");
        inherited.extend(part);
    }
    inherited.sort();
    assert_eq!(inherited, channels[..4]);
    assert_eq!(store.routes(&channels[0]).await.expect("routes"), []);

    assert_eq!(store.bury(dead, survivor).await.expect("buried"), Burial::Done);
    assert_eq!(store.send(dead, "1".into()).await.expect("asked"), Sent::NoStream);
    assert!(store.beat(dead, &node_info()).await.expect("beaten").fenced);
    assert!(!store.fence(dead, survivor).await.expect("asked"), "there is nothing to take any more");
    assert_eq!(store.orphans(dead, 10).await.expect("orphans"), []);
    let suspects = store.beat(survivor, &node_info()).await.expect("beaten").suspects;
    assert!(!suspects.contains(&dead));
}

pub(crate) async fn a_lapsed_lease_passes_on_and_its_old_holder_is_refused(backend: &dyn Backend) {
    let store = backend.open(Limits { lease_ttl_ms: 80, ..quick() }).await;
    let (dead, first, second) = (enrolled(&*store).await, NodeId::generate(), NodeId::generate());
    store.send(dead, "1".into()).await.expect("sent");
    fenced(&*store, dead, first).await;
    let entry = store.orphans(dead, 1).await.expect("orphans")[0].id;
    fenced(&*store, dead, second).await;

    let refused = store.discard(dead, first, &[entry]).await;
    assert!(matches!(refused, Err(Error::Fenced)), "{refused:?}");
    assert_eq!(store.bury(dead, first).await.expect("asked"), Burial::Refused);
    assert_eq!(store.orphans(dead, 10).await.expect("orphans").len(), 1, "nothing was deleted");
    until("the new holder to finish", async || {
        let held = store.fence(dead, second).await.expect("asked");
        (held && store.discard(dead, second, &[entry]).await.is_ok()).then_some(())
    })
    .await;
    until("the grave", async || {
        let held = store.fence(dead, second).await.expect("asked");
        (held && store.bury(dead, second).await.expect("asked") == Burial::Done).then_some(())
    })
    .await;
}

pub(crate) async fn a_paused_node_stays_fenced_although_the_lease_lapsed_half_way(backend: &dyn Backend) {
    let store = backend.open(Limits { lease_ttl_ms: 40, ..quick() }).await;
    let (paused, survivor, other) = (enrolled(&*store).await, NodeId::generate(), NodeId::generate());
    let mut consumer = store.consume(paused).await.expect("opened");
    store.send(paused, "1".into()).await.expect("sent");
    fenced(&*store, paused, survivor).await;
    clock_passes(&*store, clock_ms(&*store).await + 60).await;
    assert!(store.beat(paused, &node_info()).await.expect("beaten").fenced);
    let next = consumer.next(EntryAcks::default(), 10).await;
    assert!(matches!(next, Err(Error::Fenced)), "{next:?}");
    fenced(&*store, paused, other).await;
}

pub(crate) async fn discarding_renews_the_lease(backend: &dyn Backend) {
    let store = backend.open(Limits { lease_ttl_ms: 1_000, ..quick() }).await;
    let (dead, survivor, rival) = (enrolled(&*store).await, NodeId::generate(), NodeId::generate());
    fenced(&*store, dead, survivor).await;
    let start = clock_ms(&*store).await;
    while clock_ms(&*store).await < start + 1_500 {
        store.discard(dead, survivor, &[EntryId::default()]).await.expect("renewed");
        assert!(!store.fence(dead, rival).await.expect("asked"));
        clock_passes(&*store, clock_ms(&*store).await + 5).await;
    }
}

/// Stream and registry are in different slots, so between two calls of the one
/// who buries a node another survivor finds it in the registry still.
#[tokio::test]
async fn of_two_that_bury_a_node_one_inherited_it() {
    let server = RedisServer::start();
    let options = redis::Options { url: server.url(), ..Default::default() };
    let store = redis::Store::connect(options, quick()).await.expect("connected");
    let (dead, heir, late) = (enrolled(&store).await, NodeId::generate(), enrolled(&store).await);
    fenced(&store, dead, heir).await;
    assert_eq!(store.bury(dead, heir).await.expect("buried"), Burial::Done);
    assert_eq!(server.ask(&format!("ZADD postrider:nodes 1 {dead}")), ":1", "as if not yet taken off");
    fenced(&store, dead, late).await;
    assert_eq!(store.bury(dead, late).await.expect("asked"), Burial::Already);
    assert!(server.ask(&format!("ZSCORE postrider:nodes {dead}")).starts_with("$-1"), "and is gone then");
}
