//! Readers of node streams whose Redis dies or whose caller gives up.

use std::time::Duration;

use postrider::store::{Consumer, EntryAcks, Store};
use tokio::time::Instant;

use crate::redis_failures::{DURABLE, open};
use crate::redis_server::RedisServer;
use crate::support::*;

/// Reads until there is something; errors are waited out.
async fn next(consumer: &mut dyn Consumer, acks: EntryAcks) -> Vec<String> {
    let mut acks = Some(acks);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline, "waited in vain for an entry");
        match consumer.next(acks.take().unwrap_or_default(), 10).await {
            Ok(entries) if entries.is_empty() => {}
            Ok(entries) => {
                return entries.iter().map(|e| String::from_utf8_lossy(&e.payload).into_owned()).collect();
            }
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_reader_outlives_a_killed_redis_and_skips_nothing() {
    let mut server = RedisServer::start_with(DURABLE);
    let store = open(&server).await;
    let node = enrolled(&*store).await;
    let mut consumer = store.consume(node).await.expect("opened");
    for n in 0..3 {
        store.send(node, n.to_string().into()).await.expect("sent");
    }
    let entries = consumer.next(EntryAcks::default(), 10).await.expect("read");
    assert_eq!(entries.len(), 3);
    let waiting = tokio::spawn(async move {
        let acks = EntryAcks { ids: vec![entries[1].id], trim_below: None };
        (next(&mut *consumer, acks).await, consumer)
    });
    server.crash_and_start();
    until_reachable(&*store).await;
    let (again, mut consumer) = waiting.await.expect("read");
    assert_eq!(again, ["0", "2"], "read and not acknowledged");
    until("an entry to be sent", async || store.send(node, "3".into()).await.ok()).await;
    assert_eq!(next(&mut *consumer, EntryAcks::default()).await, ["3"]);
}

#[tokio::test]
async fn a_reader_whose_caller_gave_up_skips_nothing() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let node = enrolled(&*store).await;
    let mut consumer = store.consume(node).await.expect("opened");
    let number = |text: &[u8]| String::from_utf8_lossy(text).parse::<u64>().expect("a number");
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..20_u64 {
        let reading = consumer.next(EntryAcks::default(), 10);
        let reading = tokio::time::timeout(Duration::from_millis(n % 4), reading);
        let sending = async { store.send(node, n.to_string().into()).await.expect("sent") };
        let (read, _) = tokio::join!(reading, sending);
        if let Ok(read) = read {
            seen.extend(read.expect("read").iter().map(|entry| number(&entry.payload)));
        }
    }
    while seen.len() < 20 {
        let part = next(&mut *consumer, EntryAcks::default()).await;
        seen.extend(part.iter().map(|text| number(text.as_bytes())));
    }
}

#[tokio::test]
async fn a_reader_acknowledges_what_was_trimmed_while_pending() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let node = enrolled(&*store).await;
    for n in 0..3 {
        store.send(node, n.to_string().into()).await.expect("sent");
    }
    let mut consumer = store.consume(node).await.expect("opened");
    let entries = consumer.next(EntryAcks::default(), 10).await.expect("read");
    let trim = EntryAcks { ids: Vec::new(), trim_below: Some(entries[1].id) };
    store.ack_entries(node, &trim).await.expect("trimmed");
    let mut consumer = store.consume(node).await.expect("opened");
    assert_eq!(next(&mut *consumer, EntryAcks::default()).await, ["1", "2"]);
    until("the trimmed entry to be acknowledged", async || {
        consumer.next(EntryAcks::default(), 10).await.expect("read");
        (store.stream_stats(node).await.expect("stats").pending == 2).then_some(())
    })
    .await;
}
