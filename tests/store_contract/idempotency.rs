//! Retries that do no harm.

use std::sync::Arc;

use postrider::protocol::{MessageId, NodeId};
use postrider::store::{Append, Appended, Error, Limits, Start};

use crate::backend::Backend;
use crate::support::*;

/// The part of an answer that a retry must repeat.
fn answer(appended: &Appended) -> (MessageId, Option<postrider::protocol::Position>, u64, u64) {
    (appended.id, appended.position, appended.accepted_at_us, appended.expires_at_ms)
}

pub(crate) async fn a_retry_gets_the_first_answer_and_the_routes_of_now(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let attempt = || Append { idempotency: idempotency(1, 1), ..message(&alice, 1) };
    let first = store.append(attempt()).await.expect("appended");
    push(&*store, &alice, 2).await;
    let node = NodeId::generate();
    store.join(&join(node, &alice, 1)).await.expect("joined");

    let second = store.append(attempt()).await.expect("appended");
    assert!(!first.repeated);
    assert!(second.repeated);
    assert_eq!(answer(&second), answer(&first));
    assert_eq!(second.routes.iter().map(|route| route.node).collect::<Vec<_>>(), [node]);
    assert_eq!(seqs(&read(&*store, &alice, Start::Oldest).await), [1, 2]);
    assert_eq!(inspect(&*store, &alice).await.ledger.accepted, 2);
}

pub(crate) async fn another_body_under_the_same_key_is_refused(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    store.append(Append { idempotency: idempotency(1, 1), ..message(&alice, 1) }).await.expect("appended");
    let other = store.append(Append { idempotency: idempotency(1, 2), ..message(&alice, 2) }).await;
    assert!(matches!(other, Err(Error::IdempotencyMismatch)), "{other:?}");
    assert_eq!(inspect(&*store, &alice).await.ledger.accepted, 1);
}

pub(crate) async fn keys_hold_per_channel(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    for name in ["alice", "bob"] {
        let push = Append { idempotency: idempotency(1, 1), ..message(&channel(name), 1) };
        assert!(!store.append(push).await.expect("appended").repeated);
    }
    let alice = channel("alice");
    let push = Append { idempotency: idempotency(2, 1), ..message(&alice, 1) };
    assert!(!store.append(push).await.expect("appended").repeated, "another key is another message");
}

pub(crate) async fn an_ephemeral_retry_is_not_counted_twice(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let attempt = || Append { ttl_ms: 0, idempotency: idempotency(1, 1), ..message(&alice, 1) };
    let first = store.append(attempt()).await.expect("appended");
    let second = store.append(attempt()).await.expect("appended");
    assert_eq!((second.repeated, answer(&second)), (true, answer(&first)));
    assert_eq!(second.settled, Default::default());
    assert_eq!(inspect(&*store, &alice).await.ledger.accepted, 1);
}

pub(crate) async fn a_key_is_forgotten_after_its_window(backend: &dyn Backend) {
    let store = backend.open(Limits { idempotency_window_ms: 40, ..Limits::default() }).await;
    let alice = channel("alice");
    let attempt = || Append { idempotency: idempotency(1, 1), ..message(&alice, 1) };
    let first = store.append(attempt()).await.expect("appended");
    let fresh = until("the key to be forgotten", async || {
        let appended = store.append(attempt()).await.expect("appended");
        (!appended.repeated).then_some(appended)
    })
    .await;
    assert_ne!(fresh.id, first.id);
    assert_eq!(fresh.position.expect("durable").seq, 2);
    assert!(fresh.accepted_at_us / 1_000 >= first.accepted_at_us / 1_000 + 40);
}

pub(crate) async fn concurrent_retries_make_one_message(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = Arc::clone(&store);
        let attempt = Append { idempotency: idempotency(1, 1), ..message(&alice, 1) };
        tasks.spawn(async move { store.append(attempt).await.expect("appended") });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|appended| !appended.repeated).count(), 1);
    assert!(answers.iter().all(|appended| answer(appended) == answer(&answers[0])));
    assert_eq!(seqs(&read(&*store, &alice, Start::Oldest).await), [1]);
}
