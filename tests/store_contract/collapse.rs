//! Collapse keys.

use postrider::protocol::Channel;
use postrider::store::{Append, Limits, Settled, Start};

use crate::backend::Backend;
use crate::support::*;

fn keyed(channel: &Channel, key: &str, data: u64) -> Append {
    Append { collapse_key: Some(key.into()), ..message(channel, data) }
}

pub(crate) async fn a_newer_message_replaces_the_one_of_its_key(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let mut settled = Settled::default();
    for (key, n) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
        settled += store.append(keyed(&alice, key, n)).await.expect("appended").settled;
    }
    push(&*store, &alice, 5).await;
    store.append(keyed(&channel("bob"), "a", 1)).await.expect("appended");

    assert_eq!(seqs(&read(&*store, &alice, Start::Oldest).await), [2, 4, 5]);
    assert_eq!(settled, Settled { collapsed: 2, ..Settled::default() });
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.ledger.collapsed, info.waiting_counted, info.mailbox_messages), (2, 3, 3));
}

pub(crate) async fn what_was_received_stays_received_when_replaced(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let first = store.append(keyed(&alice, "a", 1)).await.expect("appended");
    let epoch = first.position.expect("durable").epoch;
    store.acknowledge(&[received(&alice, None, epoch, 1)]).await.expect("acknowledged");
    let second = store.append(keyed(&alice, "a", 2)).await.expect("appended");
    assert_eq!(second.settled, Settled::default());
    assert_eq!(seqs(&read(&*store, &alice, Start::Oldest).await), [2], "it is replaced all the same");
    let ledger = inspect(&*store, &alice).await.ledger;
    assert_eq!((ledger.received, ledger.collapsed), (1, 0));
}

pub(crate) async fn a_message_that_expired_first_is_not_collapsed(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let short = store.append(Append { ttl_ms: 30, ..keyed(&alice, "a", 1) }).await.expect("appended");
    push(&*store, &alice, 2).await;
    clock_passes(&*store, short.expires_at_ms).await;
    let page = read(&*store, &alice, Start::Oldest).await;
    assert_eq!(page.settled, Settled { expired: 1, ..Settled::default() });
    let next = store.append(keyed(&alice, "a", 3)).await.expect("appended");
    assert_eq!(next.settled, Settled::default());
    let ledger = inspect(&*store, &alice).await.ledger;
    assert_eq!((ledger.expired, ledger.collapsed), (1, 0));
}

pub(crate) async fn a_message_that_was_trimmed_first_is_not_collapsed(backend: &dyn Backend) {
    let store = backend.open(Limits { mailbox_messages_max: 20, ..Limits::default() }).await;
    let alice = channel("alice");
    store.append(keyed(&alice, "a", 1)).await.expect("appended");
    push_many(&*store, &alice, 30).await;
    let next = store.append(keyed(&alice, "a", 2)).await.expect("appended");
    assert_eq!(next.settled.collapsed, 0);
    assert_eq!(inspect(&*store, &alice).await.ledger.collapsed, 0);
}

pub(crate) async fn a_mailbox_of_one_key_never_fills(backend: &dyn Backend) {
    let store = backend.open(Limits { mailbox_messages_max: 20, ..Limits::default() }).await;
    let alice = channel("alice");
    for n in 1..=60 {
        store.append(keyed(&alice, "temperature", n)).await.expect("appended");
    }
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.mailbox_messages, info.floor, info.ledger.collapsed), (1, 0, 59));
    assert_eq!(info.ledger.dropped.total(), 0);
}
