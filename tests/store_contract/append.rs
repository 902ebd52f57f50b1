//! Appending and reading back.

use std::collections::HashSet;
use std::sync::Arc;

use postrider::protocol::{Channel, Epoch, Position};
use postrider::store::{Append, Appended, Error, GapReason, Limits, Start, Store};

use crate::backend::Backend;
use crate::support::*;

pub(crate) async fn positions_start_at_one_and_are_dense(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let mut positions = Vec::new();
    for n in 1..=5 {
        positions.push(push(&*store, &alice, n).await.position.expect("durable"));
    }
    let epoch = positions[0].epoch;
    assert_eq!(positions, (1..=5).map(|seq| Position::new(epoch, seq)).collect::<Vec<_>>());
    let page = read(&*store, &alice, Start::Oldest).await;
    assert_eq!(page.head, Some(Position::new(epoch, 5)));
    assert_eq!(texts(&page), ["1", "2", "3", "4", "5"]);

    let other = push(&*store, &channel("bob"), 1).await.position.expect("durable");
    assert_eq!(other.seq, 1);
    assert_ne!(other.epoch, epoch, "every channel has its own epoch");
}

pub(crate) async fn a_message_comes_back_as_it_was_pushed(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let data = format!("{{\"text\":\"ünï\\u0000\\r\\n\", \"pad\": \"{}\"}}", "x".repeat(64 * 1024));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let append = Append { trace: Some(trace.into()), ttl_ms: 5_000, ..message(&alice, &data) };
    let appended = store.append(append.clone()).await.expect("appended");
    assert_eq!(appended.id, append.id);
    assert!(!appended.repeated);
    assert!(appended.routes.is_empty());
    let now_ms = clock_ms(&*store).await;
    assert!(appended.accepted_at_us / 1_000 <= now_ms);
    assert!(appended.accepted_at_us / 1_000 + 60_000 > now_ms, "accepted just now");
    assert!(appended.expires_at_ms.abs_diff(appended.accepted_at_us / 1_000 + 5_000) <= 1);

    let page = read(&*store, &alice, Start::Oldest).await;
    let [read] = page.messages.as_slice() else { panic!("one message: {page:?}") };
    assert_eq!(read.id, append.id);
    assert_eq!(read.channel, alice);
    assert_eq!(read.position, appended.position);
    assert_eq!(read.accepted_at_us, appended.accepted_at_us);
    assert_eq!(read.expires_at_ms, appended.expires_at_ms);
    assert_eq!(read.data, data.as_bytes());
    assert_eq!(read.trace.as_deref(), Some(trace));
}

pub(crate) async fn odd_but_valid_channels_do_not_meet(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let names =
        ["user:a", "topic:a", "all", "user:{a}", "user:a}", "user:{", "user:{}b", "user:a:b", "user:é*?[x]"];
    for name in names {
        push(&*store, &name.parse().expect("valid"), format!("\"{name}\"")).await;
    }
    for name in names {
        let page = read(&*store, &name.parse().expect("valid"), Start::Oldest).await;
        assert_eq!(texts(&page), [format!("\"{name}\"")]);
    }
}

pub(crate) async fn pages_end_at_the_limit_and_say_so(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 5).await;

    let page = store.read(&alice, &Start::Oldest, 2).await.expect("read");
    assert_eq!((seqs(&page), page.after, page.complete), (vec![1, 2], 0, false));
    let page = store.read(&alice, &Start::After(Position::new(epoch, 2)), 2).await.expect("read");
    assert_eq!((seqs(&page), page.after, page.complete), (vec![3, 4], 2, false));
    let page = store.read(&alice, &Start::After(Position::new(epoch, 4)), 2).await.expect("read");
    assert_eq!((seqs(&page), page.after, page.complete), (vec![5], 4, true));
    let page = store.read(&alice, &Start::Oldest, 5).await.expect("read");
    assert!(page.complete, "exactly as many as the limit leaves nothing behind");
    assert_eq!(seqs(&page).len(), 5);
    let page = read_after(&*store, &alice, epoch, 5).await;
    assert_eq!((seqs(&page), page.after, page.complete, page.gap), (vec![], 5, true, None));
}

pub(crate) async fn reading_an_unknown_channel_creates_nothing(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let ghost = channel("ghost");
    for start in [Start::Now, Start::Oldest, Start::Cursor(None), Start::Cursor(Some(device("phone")))] {
        let page = read(&*store, &ghost, start).await;
        assert_eq!((page.head, page.after, page.gap, page.complete), (None, 0, None, true));
        assert!(page.messages.is_empty());
    }
    let given = Position::new(Epoch::random(), 5);
    let page = read(&*store, &ghost, Start::After(given)).await;
    assert_eq!(page.gap, gap(Some(given), None, GapReason::Reset), "what it stood for is lost");
    let page = read_after(&*store, &ghost, Epoch::random(), 0).await;
    assert_eq!(page.gap, None, "nothing was seen, so nothing was lost");
    assert_eq!(store.heads(std::slice::from_ref(&ghost)).await.expect("heads"), [None]);
    assert_eq!(all_channels(&*store).await, HashSet::new());
}

pub(crate) async fn every_channel_is_listed(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let expected: HashSet<_> = (0..500).map(|n| channel(&format!("u{n}"))).collect();
    for result in store.append_batch(expected.iter().map(|channel| message(channel, 1)).collect()).await {
        result.expect("appended");
    }
    assert_eq!(all_channels(&*store).await, expected);
}

pub(crate) async fn now_begins_behind_the_last_message(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 3).await;
    let page = read(&*store, &alice, Start::Now).await;
    assert_eq!((page.after, page.gap, page.complete), (3, None, true));
    assert!(page.messages.is_empty());
    push(&*store, &alice, 4).await;
    assert_eq!(seqs(&read_after(&*store, &alice, epoch, page.after).await), [4]);
}

pub(crate) async fn heads_come_in_input_order(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (alice, bob, ghost) = (channel("alice"), channel("bob"), channel("ghost"));
    let a = push_many(&*store, &alice, 3).await;
    let b = push_many(&*store, &bob, 2).await;
    let heads = store.heads(&[bob, ghost, alice]).await.expect("heads");
    assert_eq!(heads, [Some(Position::new(b, 2)), None, Some(Position::new(a, 3))]);
    assert_eq!(store.heads(&[]).await.expect("heads"), []);
}

pub(crate) async fn a_batch_answers_in_input_order(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (alice, bob) = (channel("alice"), channel("bob"));
    let keyed = |body| Append { idempotency: idempotency(1, body), ..message(&bob, "1") };
    let appends =
        vec![message(&alice, 1), keyed(1), keyed(2), message(&alice, 2), keyed(1), message(&bob, 2)];
    let ids: Vec<_> = appends.iter().map(|append| append.id).collect();
    let results = store.append_batch(appends).await;
    let [a1, b1, mismatch, a2, repeat, b2] = results.as_slice() else { panic!("six results: {results:?}") };
    let seq = |result: &Result<Appended, _>| {
        let appended = result.as_ref().expect("appended");
        (appended.id, appended.position.expect("durable").seq)
    };
    assert_eq!([seq(a1), seq(b1), seq(a2), seq(b2)], [(ids[0], 1), (ids[1], 1), (ids[3], 2), (ids[5], 2)]);
    assert!(matches!(mismatch, Err(Error::IdempotencyMismatch)));
    assert_eq!(seq(repeat), (ids[1], 1));
    assert!(store.append_batch(Vec::new()).await.is_empty());
}

pub(crate) async fn concurrent_appends_are_dense_and_ascending(backend: &dyn Backend) {
    const TASKS: u64 = 8;
    const EACH: u64 = 40;
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, alice) = (Arc::clone(&store), alice.clone());
        tasks.spawn(async move {
            let mut own = Vec::new();
            for n in 0..EACH {
                let appended = push(&*store, &alice, format!("\"{task}.{n}\"")).await;
                own.push((appended.position.expect("durable"), appended.id));
            }
            assert!(
                own.is_sorted_by_key(|(position, _)| position.seq),
                "one sender's order is kept: {own:?}"
            );
            own
        });
    }
    let mut all = tasks.join_all().await.concat();
    all.sort_by_key(|(position, _)| position.seq);
    let epoch = all[0].0.epoch;
    let positions: Vec<_> = all.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, (1..=TASKS * EACH).map(|seq| Position::new(epoch, seq)).collect::<Vec<_>>());

    let page = read(&*store, &alice, Start::Oldest).await;
    let kept: Vec<_> = page.messages.iter().map(|m| (m.position.expect("durable"), m.id)).collect();
    assert_eq!(kept, all, "the mailbox holds each message under the position it was given");
    assert!(page.messages.is_sorted_by_key(|m| m.accepted_at_us), "time goes with position");
}

/// Every channel that the store lists.
pub(crate) async fn all_channels(store: &dyn Store) -> HashSet<Channel> {
    let mut found = HashSet::new();
    let mut cursor = 0;
    loop {
        let (next, channels) = store.channels(cursor).await.expect("listed");
        found.extend(channels);
        if next == 0 {
            return found;
        }
        cursor = next;
    }
}

/// Plain messages go another way than those with a key, and may not overtake them.
pub(crate) async fn a_batch_keeps_the_order_of_each_channel(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (alice, bob) = (channel("alice"), channel("bob"));
    push_many(&*store, &alice, 1).await;
    let collapsing = |n| Append { collapse_key: Some("k".into()), ..message(&alice, n) };
    let short = |n| Append { ttl_ms: LONG_MS / 2, ..message(&alice, n) };
    let appends = vec![
        message(&alice, 2),
        message(&bob, 1),
        collapsing(3),
        message(&alice, 4),
        short(5),
        message(&bob, 2),
        message(&alice, 6),
    ];
    for result in store.append_batch(appends).await {
        result.expect("appended");
    }
    assert_eq!(texts(&read(&*store, &alice, Start::Oldest).await), ["1", "2", "3", "4", "5", "6"]);
    // Now that it expires in another order than it came in.
    let appends = (7..=9).map(|n| message(&alice, n)).collect();
    let results = store.append_batch(appends).await;
    let seqs: Vec<_> =
        results.into_iter().map(|one| one.expect("appended").position.expect("durable").seq).collect();
    assert_eq!(seqs, [7, 8, 9]);
    assert_eq!(texts(&read(&*store, &bob, Start::Oldest).await), ["1", "2"]);
    inspect(&*store, &alice).await;
}

/// More than go in one call: what is left of the first call comes before the second.
pub(crate) async fn a_large_batch_keeps_the_order_of_a_channel_whatever_its_messages_ttls(
    backend: &dyn Backend,
) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    push_many(&*store, &alice, 1).await;
    let ttl_ms = |n| if n == 2 { LONG_MS / 2 } else { LONG_MS };
    let appends = (2..=150).map(|n| Append { ttl_ms: ttl_ms(n), ..message(&alice, n) }).collect();
    let results = store.append_batch(appends).await;
    let seqs: Vec<_> =
        results.into_iter().map(|one| one.expect("appended").position.expect("durable").seq).collect();
    assert_eq!(seqs, (2..=150).collect::<Vec<_>>());
}
