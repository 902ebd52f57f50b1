//! Messages that are not kept.

use postrider::protocol::{Channel, NodeId};
use postrider::store::{Ack, Append, Limits, Settled, Start};

use crate::backend::Backend;
use crate::support::*;

fn ephemeral(channel: &Channel) -> Append {
    Append { ttl_ms: 0, ..message(channel, 1) }
}

fn report(channel: &Channel, received: u32, dropped: u32) -> Ack {
    Ack::Ephemeral { channel: channel.clone(), received, dropped }
}

pub(crate) async fn it_takes_no_position_and_is_not_kept(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 2).await;
    store.join(&join(NodeId::generate(), &alice, 1)).await.expect("joined");
    let appended = store.append(ephemeral(&alice)).await.expect("appended");
    assert_eq!(appended.position, None);
    assert!(appended.expires_at_ms.abs_diff(appended.accepted_at_us / 1_000) <= 1);
    assert_eq!(appended.routes.len(), 1);
    assert_eq!(push(&*store, &alice, 3).await.position.expect("durable").seq, 3, "numbers stay dense");
    assert_eq!(seqs(&read_after(&*store, &alice, epoch, 0).await), [1, 2, 3]);
    assert_eq!(inspect(&*store, &alice).await.waiting_counted, 4);
}

pub(crate) async fn without_a_route_it_is_dropped_at_once(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let appended = store.append(ephemeral(&alice)).await.expect("appended");
    assert_eq!(appended.settled, Settled { dropped_no_session: 1, ..Settled::default() });
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.ledger.accepted, info.ledger.dropped.no_session, info.waiting_counted), (1, 1, 0));
    assert_eq!((info.head, info.mailbox_messages), (None, 0));
    assert!(read(&*store, &alice, Start::Oldest).await.messages.is_empty());
}

pub(crate) async fn its_fate_is_what_the_node_reports(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    store.join(&join(NodeId::generate(), &alice, 1)).await.expect("joined");
    for _ in 0..5 {
        assert_eq!(store.append(ephemeral(&alice)).await.expect("appended").settled, Settled::default());
    }
    assert_eq!(inspect(&*store, &alice).await.waiting_counted, 5);
    let settled =
        store.acknowledge(&[report(&alice, 2, 1), report(&alice, 1, 0)]).await.expect("acknowledged");
    assert_eq!(settled, Settled { received: 3, dropped_no_session: 1, ..Settled::default() });
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.ledger.received, info.ledger.dropped.no_session, info.waiting_counted), (3, 1, 1));
}

pub(crate) async fn more_reports_than_messages_are_ignored(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (alice, ghost) = (channel("alice"), channel("ghost"));
    store.join(&join(NodeId::generate(), &alice, 1)).await.expect("joined");
    for _ in 0..3 {
        store.append(ephemeral(&alice)).await.expect("appended");
    }
    let settled =
        store.acknowledge(&[report(&alice, 2, 2), report(&alice, 4, 4)]).await.expect("acknowledged");
    assert_eq!(settled.received + settled.dropped_no_session, 3);
    let ledger = inspect(&*store, &alice).await.ledger;
    assert_eq!((ledger.received, ledger.dropped.no_session), (settled.received, settled.dropped_no_session));
    let settled = store.acknowledge(&[report(&ghost, 1, 1)]).await.expect("acknowledged");
    assert_eq!(settled, Settled::default());
    assert_eq!(inspect(&*store, &ghost).await.ledger.accepted, 0);
}
