//! What the contract suite cannot see: what is freed, and when it is full.

use std::time::Duration;

use super::*;
use crate::protocol::MessageId;
use crate::store::Store as _;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn channel(name: impl std::fmt::Display) -> Channel {
    format!("user:{name}").parse().expect("valid")
}

fn message(channel: &Channel, data: Bytes, ttl_ms: u64) -> Append {
    Append {
        id: MessageId::generate(),
        channel: channel.clone(),
        data,
        ttl_ms,
        collapse_key: None,
        idempotency: None,
        trace: None,
    }
}

async fn push(store: &Store, channel: &Channel, ttl_ms: u64) -> Appended {
    store.append(message(channel, "1".into(), ttl_ms)).await.expect("appended")
}

fn bytes(store: &Store) -> usize {
    store.shared.shards.bytes()
}

/// Touches every shard, and leaves nothing behind.
async fn pass_by(store: &Store) {
    for n in 0..2_000 {
        store.read(&channel(format!("passer-by-{n}")), &Start::Now, 1).await.expect("read");
    }
}

fn info() -> NodeInfo {
    NodeInfo {
        address: String::new(),
        version: String::new(),
        started_at_ms: 0,
        sessions: 0,
        draining: false,
    }
}

#[tokio::test(start_paused = true)]
async fn what_expired_or_idled_is_freed_in_passing() {
    let store = Store::new(Limits::default());
    for n in 0..100 {
        push(&store, &channel(n), 60_000).await;
    }
    let full = bytes(&store);
    tokio::time::advance(Duration::from_secs(61)).await;
    pass_by(&store).await;
    let expired = bytes(&store);
    assert!(expired < full, "{expired} of {full} bytes");
    let known = store.heads(&[channel(5)]).await.expect("heads")[0];
    assert!(known.is_some(), "the channel itself is still known");
    assert_eq!(store.inspect(&channel(5)).await.expect("inspected").ledger.expired, 1);

    tokio::time::advance(29 * DAY).await;
    push(&store, &channel(7), 60_000).await;
    tokio::time::advance(2 * DAY).await;
    pass_by(&store).await;
    assert_eq!(store.heads(&[channel(5), channel(7)]).await.expect("heads")[0], None);
    assert!(store.heads(&[channel(7)]).await.expect("heads")[0].is_some(), "it was touched");
    tokio::time::advance(30 * DAY).await;
    pass_by(&store).await;
    assert_eq!(bytes(&store), 0, "everything that was counted is counted off again");
}

#[tokio::test(start_paused = true)]
async fn what_housekeeping_expired_is_told_to_the_next_caller_once() {
    let store = Store::new(Limits::default());
    let alice = channel("alice");
    push(&store, &alice, 1_000).await;
    tokio::time::advance(Duration::from_secs(61)).await;
    pass_by(&store).await;
    assert_eq!(push(&store, &alice, 1_000).await.settled, Settled { expired: 1, ..Settled::default() });
    assert_eq!(push(&store, &alice, 1_000).await.settled, Settled::default());
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_a_node_holds_is_kept_however_quiet() {
    let store = Store::new(Limits::default());
    let alice = channel("alice");
    let first = push(&store, &alice, 1_000).await.position.expect("durable");
    let node = NodeId::generate();
    let join = Join { node, channel: alice.clone(), generation: 1, sessions: 1, start: Start::Now, limit: 1 };
    store.join(&join).await.expect("joined");
    tokio::time::advance(400 * DAY).await;
    pass_by(&store).await;
    let next = push(&store, &alice, 1_000).await;
    assert_eq!(next.position, Some(Position::new(first.epoch, 2)));
    assert_eq!(next.routes.len(), 1);

    store.leave(node, &alice, 1, 0).await.expect("left");
    tokio::time::advance(400 * DAY).await;
    pass_by(&store).await;
    assert_eq!(bytes(&store), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_until_something_expires() {
    let store = Store::with_options(Limits::default(), Options { bytes_max: 100_000 });
    let big = || Bytes::from(vec![b'1'; 10_000]);
    let mut kept = 0;
    let refused = loop {
        match store.append(message(&channel(kept), big(), 60_000)).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::OutOfMemory), "{refused}");
    assert!((8..10).contains(&kept), "{kept} messages of 10,000 bytes in 100,000");
    assert!(bytes(&store) <= 100_000);
    let ghost = channel("ghost");
    store.append(message(&ghost, big(), 60_000)).await.expect_err("full");
    assert_eq!(store.inspect(&ghost).await.expect("inspected").ledger.accepted, 0, "refused is not accepted");

    // Nobody touches the channels whose messages expire.
    tokio::time::advance(Duration::from_secs(61)).await;
    store.append(message(&channel("late"), big(), 60_000)).await.expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn node_streams_count_towards_the_cap() {
    let store = Store::with_options(Limits::default(), Options { bytes_max: 100_000 });
    let node = NodeId::generate();
    store.enrol(node, &info()).await.expect("enrolled");
    store.send(node, vec![0; 90_000].into()).await.expect("sent");
    let refused = store.send(node, vec![0; 20_000].into()).await;
    assert!(matches!(refused, Err(Error::OutOfMemory)), "{refused:?}");
    let mut consumer = store.consume(node).await.expect("opened");
    let entry = consumer.next(EntryAcks::default(), 1).await.expect("read")[0].id;
    let acks = EntryAcks { ids: vec![entry], trim_below: Some(entry.successor()) };
    store.ack_entries(node, &acks).await.expect("acknowledged");
    assert_eq!(bytes(&store), 0);
    store.send(node, vec![0; 20_000].into()).await.expect("there is room again");
}

#[tokio::test(start_paused = true)]
async fn ephemeral_messages_nobody_reports_on_are_counted_dropped_after_a_minute() {
    let store = Store::new(Limits::default());
    let alice = channel("alice");
    let join = Join {
        node: NodeId::generate(),
        channel: alice.clone(),
        generation: 1,
        sessions: 1,
        start: Start::Now,
        limit: 1,
    };
    store.join(&join).await.expect("joined");
    push(&store, &alice, 0).await;
    push(&store, &alice, 0).await;
    store
        .acknowledge(&[Ack::Ephemeral { channel: alice.clone(), received: 1, dropped: 0 }])
        .await
        .expect("acknowledged");
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(store.inspect(&alice).await.expect("inspected").waiting_counted, 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    let info = store.inspect(&alice).await.expect("inspected");
    assert_eq!((info.waiting_counted, info.ledger.waiting(), info.ledger.dropped.unreported), (0, 0, 1));
    let late = Ack::Ephemeral { channel: alice.clone(), received: 1, dropped: 0 };
    let settled = store.acknowledge(&[late]).await.expect("acknowledged");
    assert_eq!(settled, Settled { dropped_unreported: 1, ..Settled::default() }, "too late to be received");
}

#[tokio::test(start_paused = true)]
async fn clones_share_everything_and_a_restart_loses_what_was_not_copied() {
    let store = Store::new(Limits::default());
    let alice = channel("alice");
    let node = NodeId::generate();
    store.enrol(node, &info()).await.expect("enrolled");
    push(&store.clone(), &alice, 60_000).await;
    let (copy, counted) = (store.copy(), bytes(&store));
    push(&store, &alice, 60_000).await;
    store.send(node, "1".into()).await.expect("sent");
    store.restart(&copy);
    assert_eq!(bytes(&store), counted);
    assert_eq!(store.heads(&[alice]).await.expect("heads")[0].expect("known").seq, 1);
    assert_eq!(store.stream_stats(node).await.expect("stats").length, 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_reader_lets_others_run() {
    let store = Store::new(Limits::default());
    let node = NodeId::generate();
    store.enrol(node, &info()).await.expect("enrolled");
    let mut consumer = store.consume(node).await.expect("opened");
    let (told, mut hears) = tokio::sync::oneshot::channel();
    tokio::spawn(async move { told.send(()) });
    for round in 0.. {
        assert!(round < 10_000, "the other task never ran");
        store.send(node, "1".into()).await.expect("sent");
        consumer.next(EntryAcks::default(), 1).await.expect("read");
        if hears.try_recv().is_ok() {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn limits_without_end_are_limits_too() {
    let limits = Limits {
        mailbox_messages_max: usize::MAX,
        idempotency_window_ms: u64::MAX,
        channel_retention_ms: u64::MAX,
        heartbeat_ttl_ms: u64::MAX,
        heartbeat_grace_ms: u64::MAX,
        lease_ttl_ms: u64::MAX,
        stream_entries_max: usize::MAX,
        cursors_max: usize::MAX,
    };
    let store = Store::new(limits);
    let (alice, node) = (channel("alice"), NodeId::generate());
    let keyed = Append {
        idempotency: Some(crate::store::Idempotency { key: [1; 16], fingerprint: [1; 8] }),
        ..message(&alice, "1".into(), u64::MAX)
    };
    assert_eq!(store.append(keyed).await.expect("appended").expires_at_ms, u64::MAX);
    store.enrol(node, &info()).await.expect("enrolled");
    store.send(node, "1".into()).await.expect("sent");
    assert!(!store.beat(node, &info()).await.expect("beaten").fenced);
    pass_by(&store).await;
    assert_eq!(store.inspect(&alice).await.expect("inspected").mailbox_messages, 1);
}
