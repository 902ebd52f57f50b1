//! Time to live, and what the ledger says when it is over.

use postrider::protocol::Epoch;
use postrider::store::{Append, Limits, Settled, Start, Store};

use crate::backend::Backend;
use crate::support::*;

/// Pushes messages with these lifetimes; returns the epoch and the last expiry.
async fn push_with_ttls(
    store: &dyn Store,
    channel: &postrider::protocol::Channel,
    ttls_ms: &[u64],
) -> (Epoch, Vec<u64>) {
    let appends = ttls_ms.iter().map(|ttl_ms| Append { ttl_ms: *ttl_ms, ..message(channel, ttl_ms) });
    let results = store.append_batch(appends.collect()).await;
    let answers: Vec<_> = results.into_iter().map(|result| result.expect("appended")).collect();
    let epoch = answers[0].position.expect("durable").epoch;
    (epoch, answers.iter().map(|appended| appended.expires_at_ms).collect())
}

pub(crate) async fn an_expired_message_is_gone_and_counted_once(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let (epoch, expiries) = push_with_ttls(&*store, &alice, &[40, LONG_MS]).await;
    clock_passes(&*store, expiries[0]).await;
    let page = read_after(&*store, &alice, epoch, 0).await;
    assert_eq!((seqs(&page), page.gap, page.complete), (vec![2], None, true));
    assert_eq!(page.settled, Settled { expired: 1, ..Settled::default() });
    assert_eq!(page.head.expect("known").seq, 2);
    let again = read_after(&*store, &alice, epoch, 0).await;
    assert_eq!(again.settled, Settled::default());
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.ledger.expired, info.waiting_counted, info.mailbox_messages), (1, 1, 1));
    assert_eq!(info.floor, 0, "expiry does not raise the floor");
}

pub(crate) async fn a_short_life_behind_a_long_one_ends_on_time(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let (epoch, expiries) = push_with_ttls(&*store, &alice, &[LONG_MS, 40, LONG_MS, 80, LONG_MS]).await;
    clock_passes(&*store, expiries[1]).await;
    let mut expired = read_after(&*store, &alice, epoch, 0).await.settled.expired;
    clock_passes(&*store, expiries[3]).await;
    let page = read_after(&*store, &alice, epoch, 0).await;
    expired += page.settled.expired;
    assert_eq!((seqs(&page), expired), (vec![1, 3, 5], 2));
    assert_eq!(inspect(&*store, &alice).await.ledger.expired, 2);
}

pub(crate) async fn what_was_received_does_not_expire(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let (epoch, expiries) = push_with_ttls(&*store, &alice, &[1_000, 1_000, 1_000]).await;
    store.acknowledge(&[received(&alice, None, epoch, 2)]).await.expect("acknowledged");
    clock_passes(&*store, expiries[2]).await;
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.ledger.received, info.ledger.expired, info.waiting_counted), (2, 1, 0));
    assert_eq!(info.mailbox_messages, 0);
}

pub(crate) async fn a_mailbox_that_expired_as_a_whole_is_settled_by_whoever_comes(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let names = ["append", "read", "acknowledge", "inspect"].map(channel);
    let mut last = 0;
    let mut epochs = Vec::new();
    for channel in &names {
        let (epoch, expiries) = push_with_ttls(&*store, channel, &[50, 50, 50]).await;
        epochs.push(epoch);
        last = expiries[2];
        store.acknowledge(&[received(channel, None, epoch, 1)]).await.expect("acknowledged");
    }
    // The key of a mailbox outlives its last message by a quarter and a second.
    clock_passes(&*store, last + 1_200).await;
    let mut expired = push(&*store, &names[0], 4).await.settled.expired;
    expired += read(&*store, &names[0], Start::Oldest).await.settled.expired;
    assert_eq!(expired, 2, "by the append or, at the latest, by the next read");
    let page = read_after(&*store, &names[1], epochs[1], 0).await;
    assert_eq!((seqs(&page), page.gap, page.settled.expired), (vec![], None, 2));
    let late = store.acknowledge(&[received(&names[2], None, epochs[2], 3)]).await.expect("acknowledged");
    assert_eq!(late, Settled { expired: 2, ..Settled::default() }, "too late to be received");
    for channel in &names {
        let ledger = inspect(&*store, channel).await.ledger;
        assert_eq!((ledger.received, ledger.expired), (1, 2), "{channel}");
    }
    assert_eq!(push(&*store, &names[3], 4).await.position.expect("durable").seq, 4, "numbers go on");
    assert_eq!(seqs(&read(&*store, &names[3], Start::Oldest).await), [4]);
}

pub(crate) async fn an_untouched_channel_is_forgotten_after_its_retention(backend: &dyn Backend) {
    let store = backend.open(Limits { channel_retention_ms: 300, ..Limits::default() }).await;
    let alice = channel("alice");
    let (epoch, _) = push_with_ttls(&*store, &alice, &[50]).await;
    until("the channel to be forgotten", async || {
        let heads = store.heads(std::slice::from_ref(&alice)).await.expect("heads");
        heads[0].is_none().then_some(())
    })
    .await;
    let page = read_after(&*store, &alice, epoch, 1).await;
    assert_eq!((page.head, page.after), (None, 0));
    assert!(page.gap.is_some(), "the position means nothing any more");
    let renewed = push(&*store, &alice, 1).await.position.expect("durable");
    assert_eq!(renewed.seq, 1);
    assert_ne!(renewed.epoch, epoch);
    assert_eq!(inspect(&*store, &alice).await.ledger.accepted, 1);
}
