//! Node streams and their consumers.

use std::sync::Arc;

use postrider::protocol::NodeId;
use postrider::store::{Consumer, EntryAcks, Error, Limits, Sent, Store, StreamEntry};

use crate::backend::Backend;
use crate::support::*;

/// Acknowledges all of these and trims behind the last.
pub(crate) fn done(entries: &[StreamEntry]) -> EntryAcks {
    EntryAcks {
        ids: entries.iter().map(|entry| entry.id).collect(),
        trim_below: entries.last().map(|entry| entry.id.successor()),
    }
}

async fn send(store: &dyn Store, node: NodeId, payloads: std::ops::Range<u32>) {
    for n in payloads {
        assert_eq!(
            store.send(node, n.to_string().into()).await.expect("sent"),
            Sent::Stored { capped: false }
        );
    }
}

fn payloads(entries: &[StreamEntry]) -> Vec<u32> {
    entries.iter().map(|e| String::from_utf8_lossy(&e.payload).parse().expect("a number")).collect()
}

/// Reads until there is something.
async fn next(consumer: &mut dyn Consumer, acks: EntryAcks, entries_max: usize) -> Vec<StreamEntry> {
    let mut acks = Some(acks);
    // Each empty read waits a while.
    for _ in 0..20 {
        let entries = consumer.next(acks.take().unwrap_or_default(), entries_max).await.expect("read");
        if !entries.is_empty() {
            return entries;
        }
    }
    panic!("nothing arrives");
}

pub(crate) async fn entries_arrive_in_order_and_unaltered(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let node = enrolled(&*store).await;
    let binary = bytes::Bytes::from((0..=255).collect::<Vec<u8>>());
    store.send(node, binary.clone()).await.expect("sent");
    send(&*store, node, 0..20).await;
    let mut consumer = store.consume(node).await.expect("opened");
    let mut entries = Vec::new();
    while entries.len() < 21 {
        let part = next(&mut *consumer, EntryAcks::default(), 7).await;
        assert!(part.len() <= 7);
        entries.extend(part);
    }
    assert_eq!(entries[0].payload, binary);
    assert_eq!(payloads(&entries[1..]), (0..20).collect::<Vec<_>>());
    assert!(entries.is_sorted_by(|a, b| a.id < b.id));
}

pub(crate) async fn a_stream_that_is_not_there_is_not_made(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let ghost = NodeId::generate();
    assert_eq!(store.send(ghost, "1".into()).await.expect("asked"), Sent::NoStream);
    assert_eq!(store.stream_stats(ghost).await.expect("stats").length, 0);
    let fenced = match store.consume(ghost).await {
        Ok(mut consumer) => consumer.next(EntryAcks::default(), 1).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(fenced, Err(Error::Fenced)), "{fenced:?}");
}

pub(crate) async fn lag_pending_and_length_tell_how_a_stream_stands(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let node = enrolled(&*store).await;
    send(&*store, node, 0..10).await;
    let stand = async || {
        let stats = store.stream_stats(node).await.expect("stats");
        (stats.length, stats.lag, stats.pending)
    };
    assert_eq!(stand().await, (10, 10, 0));
    let mut consumer = store.consume(node).await.expect("opened");
    let entries = next(&mut *consumer, EntryAcks::default(), 6).await;
    assert_eq!(stand().await, (10, 4, 6));
    until("the pending entries to age", async || {
        (store.stream_stats(node).await.expect("stats").oldest_pending_ms >= 20).then_some(())
    })
    .await;

    let acks = EntryAcks { ids: vec![entries[4].id, entries[1].id], trim_below: None };
    store.ack_entries(node, &acks).await.expect("acknowledged");
    assert_eq!(stand().await, (10, 4, 4));
    let rest = next(&mut *consumer, done(&entries), 10).await;
    assert_eq!(payloads(&rest), [6, 7, 8, 9]);
    assert_eq!(stand().await, (4, 0, 4), "acknowledged in the trip that read");
    store.ack_entries(node, &done(&rest)).await.expect("acknowledged");
    assert_eq!(stand().await, (0, 0, 0));
    assert_eq!(store.stream_stats(node).await.expect("stats").oldest_pending_ms, 0);
}

pub(crate) async fn a_waiting_consumer_is_woken_and_an_idle_one_returns_empty(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let node = enrolled(&*store).await;
    let mut consumer = store.consume(node).await.expect("opened");
    assert_eq!(consumer.next(EntryAcks::default(), 10).await.expect("read"), []);
    let waiting = tokio::spawn(async move { next(&mut *consumer, EntryAcks::default(), 10).await });
    send(&*store, node, 7..8).await;
    assert_eq!(payloads(&waiting.await.expect("woken")), [7]);
}

pub(crate) async fn a_new_consumer_begins_with_what_was_read_and_not_acknowledged(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let node = enrolled(&*store).await;
    send(&*store, node, 0..6).await;
    let mut consumer = store.consume(node).await.expect("opened");
    let entries = next(&mut *consumer, EntryAcks::default(), 4).await;
    store
        .ack_entries(node, &EntryAcks { ids: vec![entries[1].id], trim_below: None })
        .await
        .expect("acknowledged");
    drop(consumer);

    let mut consumer = store.consume(node).await.expect("opened");
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(payloads(&next(&mut *consumer, EntryAcks::default(), 2).await));
    }
    assert_eq!(seen, [0, 2, 3, 4, 5], "in order, what is new behind what is pending");
}

pub(crate) async fn enrolling_again_keeps_the_stream(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let node = enrolled(&*store).await;
    send(&*store, node, 0..2).await;
    store.enrol(node, &node_info()).await.expect("a retry after a timeout");
    let mut consumer = store.consume(node).await.expect("opened");
    assert_eq!(payloads(&next(&mut *consumer, EntryAcks::default(), 10).await), [0, 1]);
}

pub(crate) async fn an_overlong_stream_loses_its_oldest_and_says_so(backend: &dyn Backend) {
    let cap = 200;
    let store = backend.open(Limits { stream_entries_max: cap, ..Limits::default() }).await;
    let node = enrolled(&*store).await;
    send(&*store, node, 0..cap as u32 - 1).await;
    let mut last = Sent::NoStream;
    for n in cap as u32 - 1..1_000 {
        last = store.send(node, n.to_string().into()).await.expect("sent");
    }
    assert_eq!(last, Sent::Stored { capped: true });
    let length = store.stream_stats(node).await.expect("stats").length;
    assert!((cap as u64..=2 * cap as u64).contains(&length), "about the cap: {length}");
    let mut consumer = store.consume(node).await.expect("opened");
    let mut seen = Vec::new();
    while seen.len() < length as usize {
        seen.extend(payloads(&next(&mut *consumer, EntryAcks::default(), 1_000).await));
    }
    assert_eq!(seen, (1_000 - length as u32..1_000).collect::<Vec<_>>(), "the newest are left, in order");
}

pub(crate) async fn entries_of_many_senders_all_arrive_once(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let node = enrolled(&*store).await;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let store = Arc::clone(&store);
        senders.spawn(async move { send(&*store, node, sender * 50..(sender + 1) * 50).await });
    }
    let mut consumer = store.consume(node).await.expect("opened");
    let (mut seen, mut acks) = (Vec::new(), EntryAcks::default());
    while seen.len() < 200 {
        let entries = next(&mut *consumer, std::mem::take(&mut acks), 16).await;
        seen.extend(payloads(&entries));
        acks = done(&entries);
    }
    senders.join_all().await;
    for sender in 0..4 {
        let own: Vec<_> = seen.iter().filter(|n| **n / 50 == sender).copied().collect();
        assert_eq!(own, (sender * 50..(sender + 1) * 50).collect::<Vec<_>>(), "each sender's order is kept");
    }
}
