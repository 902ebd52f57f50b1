//! Each fault alone, and all of them twice.

use super::*;
use crate::protocol::{Channel, MessageId, NodeId};
use crate::store::{Append, EntryAcks, Limits, NodeInfo, Sent, Start, Store as _, memory};

fn faulty(faults: Faults) -> (memory::Store, Store) {
    let inner = memory::Store::new(Limits::default());
    let store = Store::new(Arc::new(inner.clone()), 1, faults);
    (inner, store)
}

fn alice() -> Channel {
    Channel::user("alice").expect("valid")
}

fn message() -> Append {
    Append {
        id: MessageId::generate(),
        channel: alice(),
        data: "1".into(),
        ttl_ms: 60_000,
        collapse_key: None,
        idempotency: None,
        trace: None,
    }
}

async fn kept(store: &memory::Store) -> u64 {
    store.inspect(&alice()).await.expect("inspected").mailbox_messages
}

async fn enrolled(store: &memory::Store) -> NodeId {
    let node = NodeId::generate();
    let info = NodeInfo::default();
    store.enrol(node, &info).await.expect("enrolled");
    node
}

#[tokio::test(start_paused = true)]
async fn without_faults_nothing_takes_time() {
    let (inner, store) = faulty(Faults::default());
    let start = Instant::now();
    store.append(message()).await.expect("appended");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(kept(&inner).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_has_no_effect() {
    let (inner, store) = faulty(Faults { refused: 1.0, ..Faults::default() });
    let refused = store.append(message()).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(kept(&inner).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_call_times_out_without_effect_and_an_unanswered_one_with() {
    let (inner, store) = faulty(Faults { lost: 1.0, ..Faults::default() });
    let start = Instant::now();
    let lost = store.append_batch(vec![message(), message()]).await;
    assert!(matches!(lost.as_slice(), [Err(Error::Timeout { after_ms: 500, .. }), Err(_)]), "{lost:?}");
    assert!(start.elapsed() >= Duration::from_millis(500));
    assert_eq!(kept(&inner).await, 0);

    store.set(Faults { unanswered: 1.0, ..Faults::default() });
    let unanswered = store.append(message()).await;
    assert!(matches!(unanswered, Err(Error::Timeout { .. })), "{unanswered:?}");
    assert_eq!(kept(&inner).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_call_takes_effect_after_its_caller_gave_up() {
    let (inner, store) = faulty(Faults { late: 1.0, ..Faults::default() });
    store.append(message()).await.expect_err("timed out");
    assert_eq!(kept(&inner).await, 0);
    store.set(Faults::default());
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(kept(&inner).await, 0);
    let page = store.read(&alice(), &Start::Oldest, 10).await.expect("read");
    assert_eq!(page.messages.len(), 1, "it came before this read");
}

#[tokio::test(start_paused = true)]
async fn delays_are_no_failures() {
    let (inner, store) = faulty(Faults { delayed: 1.0, ..Faults::default() });
    let start = Instant::now();
    for _ in 0..50 {
        store.append(message()).await.expect("appended");
    }
    assert_eq!(kept(&inner).await, 50);
    let per_call = start.elapsed() / 50;
    assert!((Duration::from_millis(5)..Duration::from_millis(45)).contains(&per_call), "{per_call:?}");
}

#[tokio::test(start_paused = true)]
async fn entries_vanish_or_arrive_twice() {
    let (inner, store) = faulty(Faults { vanished: 1.0, ..Faults::default() });
    let node = enrolled(&inner).await;
    assert_eq!(store.send(node, "1".into()).await.expect("confirmed"), Sent::Stored { capped: false });
    assert_eq!(inner.stream_stats(node).await.expect("stats").length, 0);
    store.set(Faults { doubled: 1.0, ..Faults::default() });
    store.send(node, "1".into()).await.expect("confirmed");
    assert_eq!(inner.stream_stats(node).await.expect("stats").length, 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_read_in_vain_it_reads_again() {
    let (inner, store) = faulty(Faults::default());
    let node = enrolled(&inner).await;
    for n in 0..4 {
        store.send(node, n.to_string().into()).await.expect("sent");
    }
    let mut consumer = store.consume(node).await.expect("opened");
    let first = consumer.next(EntryAcks::default(), 1).await.expect("read");
    store.set(Faults { unanswered: 1.0, ..Faults::default() });
    consumer.next(EntryAcks::default(), 2).await.expect_err("timed out");
    assert_eq!(inner.stream_stats(node).await.expect("stats").pending, 3, "read, and nobody heard it");
    store.set(Faults::default());
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(consumer.next(EntryAcks::default(), 10).await.expect("read"));
    }
    assert_eq!(seen[0], first[0], "nothing was acknowledged, so all of it comes again");
    assert!(seen.is_sorted_by(|a, b| a.id < b.id));
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_reaches_nothing_while_others_do() {
    let (inner, store) = faulty(Faults::default());
    let other = Store::new(Arc::new(inner.clone()), 2, Faults::default());
    let node = enrolled(&inner).await;
    let mut consumer = store.consume(node).await.expect("opened");
    let waiting = tokio::spawn(async move {
        let read = consumer.next(EntryAcks::default(), 10).await;
        (consumer, read)
    });
    tokio::task::yield_now().await;
    store.set(Faults { cut: true, ..Faults::default() });
    other.send(node, "1".into()).await.expect("sent");
    let (mut consumer, read) = waiting.await.expect("ran");
    assert!(read.is_err_and(|error| error.is_transient()), "the answer does not get through any more");
    for _ in 0..10 {
        let failed = store.append(message()).await.expect_err("cut off");
        assert!(failed.is_transient());
    }
    assert_eq!(kept(&inner).await, 0);
    store.set(Faults::default());
    assert_eq!(consumer.next(EntryAcks::default(), 10).await.expect("read").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_has_the_same_fates() {
    let faults = Faults { refused: 0.3, lost: 0.2, unanswered: 0.2, delayed: 0.5, ..Faults::default() };
    let mut histories = Vec::new();
    for _ in 0..2 {
        let (_, store) = faulty(faults.clone());
        let start = Instant::now();
        let mut history = Vec::new();
        for _ in 0..40 {
            let error = store.append(message()).await.err().map(|error| error.to_string());
            history.push((error, start.elapsed()));
        }
        histories.push(history);
    }
    assert_eq!(histories[0], histories[1]);
    let failures = histories[0].iter().filter(|(error, _)| error.is_some()).count();
    assert!((15..40).contains(&failures), "{failures} of 40");
}
