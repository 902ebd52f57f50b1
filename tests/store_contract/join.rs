//! Joining, leaving, and the directory.

use std::sync::Arc;

use postrider::protocol::{NodeId, Position};
use postrider::store::{GapReason, Join, Limits, Route, Start, Store};

use crate::backend::Backend;
use crate::support::*;

async fn routes(store: &dyn Store, channel: &postrider::protocol::Channel) -> Vec<Route> {
    let mut routes = store.routes(channel).await.expect("routes");
    routes.sort_by_key(|route| route.node);
    routes
}

pub(crate) async fn who_joins_is_routed_to_until_it_leaves(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let mut nodes = [NodeId::generate(), NodeId::generate()];
    nodes.sort();
    for node in nodes {
        store.join(&Join { sessions: 3, ..join(node, &alice, 7) }).await.expect("joined");
    }
    let expected = nodes.map(|node| Route { node, generation: 7, sessions: 3 });
    let mut pushed = push(&*store, &alice, 1).await.routes;
    pushed.sort_by_key(|route| route.node);
    assert_eq!(pushed, expected);
    assert_eq!(routes(&*store, &alice).await, expected);
    assert_eq!(inspect(&*store, &alice).await.routes, expected);
    assert_eq!(routes(&*store, &channel("bob")).await, []);

    store.leave(nodes[0], &alice, 8, 0).await.expect("left");
    assert_eq!(push(&*store, &alice, 2).await.routes, expected[1..]);
    store.leave(nodes[1], &alice, 8, 0).await.expect("left");
    assert_eq!(push(&*store, &alice, 3).await.routes, []);
}

pub(crate) async fn a_late_leave_does_not_undo_a_newer_join(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let node = NodeId::generate();
    store.join(&join(node, &alice, 5)).await.expect("joined");
    store.leave(node, &alice, 4, 0).await.expect("ignored");
    assert_eq!(routes(&*store, &alice).await, [Route { node, generation: 5, sessions: 1 }]);
    store.leave(node, &alice, 4, 9).await.expect("ignored");
    assert_eq!(routes(&*store, &alice).await, [Route { node, generation: 5, sessions: 1 }]);
    store.leave(node, &alice, 5, 0).await.expect("left");
    assert_eq!(routes(&*store, &alice).await, []);
}

pub(crate) async fn a_late_join_does_not_undo_a_newer_one(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let node = NodeId::generate();
    store.join(&Join { sessions: 2, ..join(node, &alice, 5) }).await.expect("joined");
    store.join(&Join { sessions: 9, ..join(node, &alice, 4) }).await.expect("ignored");
    assert_eq!(routes(&*store, &alice).await, [Route { node, generation: 5, sessions: 2 }]);
    store.join(&Join { sessions: 3, ..join(node, &alice, 6) }).await.expect("joined");
    assert_eq!(routes(&*store, &alice).await, [Route { node, generation: 6, sessions: 3 }]);
}

pub(crate) async fn leaving_with_sessions_left_sets_their_number(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let node = NodeId::generate();
    store.join(&Join { sessions: 4, ..join(node, &alice, 1) }).await.expect("joined");
    store.leave(node, &alice, 2, 3).await.expect("left");
    assert_eq!(routes(&*store, &alice).await, [Route { node, generation: 2, sessions: 3 }]);
}

pub(crate) async fn joining_reads_like_read(backend: &dyn Backend) {
    let store = backend.open(Limits { mailbox_messages_max: 20, ..Limits::default() }).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 50).await;
    let node = NodeId::generate();
    let phone = device("phone");
    store.acknowledge(&[received(&alice, Some(&phone), epoch, 45)]).await.expect("acknowledged");
    let starts = [
        Start::Now,
        Start::Oldest,
        Start::Cursor(None),
        Start::Cursor(Some(phone)),
        Start::Cursor(Some(device("new"))),
        Start::After(Position::new(epoch, 2)),
        Start::After(Position::new(epoch, 48)),
    ];
    for (generation, start) in (1..).zip(starts) {
        let joined = Join { start: start.clone(), limit: 3, ..join(node, &alice, generation) };
        let joined = store.join(&joined).await.expect("joined");
        let read = store.read(&alice, &start, 3).await.expect("read");
        assert_eq!(joined, read, "{start:?}");
    }
    let lost = Join { start: Start::After(Position::new(epoch, 2)), ..join(node, &alice, 99) };
    let gap = store.join(&lost).await.expect("joined").gap.expect("trimmed");
    assert_eq!(gap.reason, GapReason::Trimmed);
}

/// A storm's story: a phone was written a message and cut off before it could
/// confirm it, a laptop received it, and the phone began behind it afterwards.
pub(crate) async fn a_device_comes_back_to_where_it_first_joined(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let node = NodeId::generate();
    for (name, before) in [("alice", 0), ("bob", 3)] {
        let user = channel(name);
        if before > 0 {
            let epoch = push_many(&*store, &user, before).await;
            store.acknowledge(&[received(&user, None, epoch, before)]).await.expect("acknowledged");
        }
        let joining = Join { start: Start::Cursor(Some(device("phone"))), ..join(node, &user, 1) };
        let page = store.join(&joining).await.expect("joined");
        assert_eq!((page.after, page.gap), (before, None), "{name}");
        // Its place is kept although nobody holds the channel any more.
        store.leave(node, &user, 1, 0).await.expect("left");
        let epoch = push_many(&*store, &user, 2).await;
        let laptop = device("laptop");
        store.acknowledge(&[received(&user, Some(&laptop), epoch, before + 2)]).await.expect("acknowledged");

        let again = store.join(&Join { generation: 2, ..joining.clone() }).await.expect("joined");
        assert_eq!((again.gap, seqs(&again)), (None, vec![before + 1, before + 2]), "{name}");
        // One that never joined begins behind what anyone received, as ever.
        let page = read(&*store, &user, Start::Cursor(Some(device("tablet")))).await;
        assert!(page.messages.is_empty(), "{name}: {page:?}");
        store
            .acknowledge(&[received(&user, Some(&device("phone")), epoch, before + 1)])
            .await
            .expect("acknowledged");
        let later = store.join(&Join { generation: 3, ..joining }).await.expect("joined");
        assert_eq!((later.gap, seqs(&later)), (None, vec![before + 2]), "{name}");
    }
}

pub(crate) async fn where_users_meet_a_newcomer_begins_now_and_comes_back_to_there(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let node = NodeId::generate();
    for (name, before) in [("orders.1", 0), ("orders.2", 3)] {
        let topic = postrider::protocol::Channel::topic(name).expect("valid");
        if before > 0 {
            // Nobody received them, and they are not for who comes later either.
            push_many(&*store, &topic, before).await;
        }
        let phone = device("phone").within(&topic, &channel("alice"));
        let joining = Join { start: Start::CursorOrNow(phone.clone()), ..join(node, &topic, 1) };
        let page = store.join(&joining).await.expect("joined");
        assert_eq!((page.after, page.gap, seqs(&page)), (before, None, vec![]), "{name}");
        store.leave(node, &topic, 1, 0).await.expect("left");
        let epoch = push_many(&*store, &topic, 2).await;
        let again = store.join(&Join { generation: 2, ..joining.clone() }).await.expect("joined");
        assert_eq!((again.gap, seqs(&again)), (None, vec![before + 1, before + 2]), "{name}");
        store.acknowledge(&[received(&topic, Some(&phone), epoch, before + 1)]).await.expect("acknowledged");
        let later = store.join(&Join { generation: 3, ..joining }).await.expect("joined");
        assert_eq!((later.gap, seqs(&later)), (None, vec![before + 2]), "{name}");
        // A device of the same name of another user is another one.
        let other = device("phone").within(&topic, &channel("bob"));
        let page = read(&*store, &topic, Start::CursorOrNow(other)).await;
        assert_eq!(page.after, before + 2, "{name}");
        let cursors: Vec<_> = inspect(&*store, &topic).await.cursors.into_iter().map(|c| c.device).collect();
        assert_eq!(cursors, [phone], "{name}");
    }
}

pub(crate) async fn joining_an_unknown_channel_makes_only_a_route(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let node = NodeId::generate();
    let page = store.join(&join(node, &alice, 1)).await.expect("joined");
    assert_eq!((page.head, page.after, page.gap, page.complete), (None, 0, None, true));
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.head, info.routes.len()), (None, 1));
    assert!(crate::append::all_channels(&*store).await.is_empty());
    let appended = push(&*store, &alice, 1).await;
    assert_eq!(appended.routes.len(), 1);
    assert_eq!(appended.position.expect("durable").seq, 1);
}

pub(crate) async fn a_push_beside_a_join_is_seen_by_route_or_page(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    for round in 0..60 {
        let channel = channel(&format!("u{round}"));
        let node = NodeId::generate();
        let joining = {
            let store = Arc::clone(&store);
            let join = Join { start: Start::Oldest, ..join(node, &channel, 1) };
            tokio::spawn(async move { store.join(&join).await.expect("joined") })
        };
        let pushing = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { push(&*store, &channel, 1).await })
        };
        let (page, appended) = (joining.await.expect("joined"), pushing.await.expect("pushed"));
        let routed = appended.routes.iter().any(|route| route.node == node);
        assert!(routed || seqs(&page) == [1], "round {round}: neither {appended:?} nor {page:?}");
    }
}

pub(crate) async fn routes_of_a_gone_node_are_dropped_whatever_their_generation(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let channels: Vec<_> = (0..5).map(|n| channel(&format!("u{n}"))).collect();
    let (gone, stays) = (NodeId::generate(), NodeId::generate());
    for channel in &channels {
        store.join(&join(gone, channel, 1_000)).await.expect("joined");
        store.join(&join(stays, channel, 1)).await.expect("joined");
    }
    store.drop_routes(gone, &channels[..4]).await.expect("dropped");
    for channel in &channels[..4] {
        let left: Vec<_> = routes(&*store, channel).await.iter().map(|route| route.node).collect();
        assert_eq!(left, [stays]);
    }
    assert_eq!(routes(&*store, &channels[4]).await.len(), 2);
}

/// Whatever state their channels are in, and whoever else comes in the same trip.
pub(crate) async fn many_join_in_one_trip(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let [new, read, waiting, twice] = ["new", "read", "waiting", "twice"].map(channel);
    let (here, there) = (NodeId::generate(), NodeId::generate());
    let epoch = push_many(&*store, &read, 3).await;
    store.acknowledge(&[received(&read, None, epoch, 3)]).await.expect("acknowledged");
    let waits = push_many(&*store, &waiting, 2).await;
    let nameless =
        |node, channel, generation| Join { start: Start::Cursor(None), ..join(node, channel, generation) };
    let joins = vec![
        nameless(here, &new, 1),
        nameless(here, &read, 2),
        nameless(here, &waiting, 3),
        nameless(here, &twice, 4),
        Join { sessions: 2, ..nameless(here, &twice, 5) },
        nameless(there, &read, 6),
        Join { start: Start::Oldest, ..join(here, &read, 7) },
    ];
    let pages: Vec<_> = store.join_batch(joins).await.into_iter().map(|page| page.expect("joined")).collect();
    let told: Vec<_> = pages.iter().map(|page| (page.head, page.after, seqs(page))).collect();
    let at = |epoch, seq| Some(Position::new(epoch, seq));
    let expected = [
        (None, 0, vec![]),
        (at(epoch, 3), 3, vec![]),
        (at(waits, 2), 0, vec![1, 2]),
        (None, 0, vec![]),
        (None, 0, vec![]),
        (at(epoch, 3), 3, vec![]),
        (at(epoch, 3), 0, vec![1, 2, 3]),
    ];
    assert_eq!(told, expected);
    assert!(pages.iter().all(|page| page.gap.is_none() && page.complete));

    let line = |node, generation, sessions| Route { node, generation, sessions };
    assert_eq!(routes(&*store, &new).await, [line(here, 1, 1)]);
    assert_eq!(routes(&*store, &twice).await, [line(here, 5, 2)]);
    let mut both = [line(here, 7, 1), line(there, 6, 1)];
    both.sort_by_key(|route| route.node);
    assert_eq!(routes(&*store, &read).await, both);
    let mut indexed = store.orphaned_channels(here, 10).await.expect("listed");
    indexed.sort();
    assert_eq!(indexed, [new, read.clone(), twice, waiting]);
    assert_eq!(store.orphaned_channels(there, 10).await.expect("listed"), [read]);
    assert!(store.join_batch(Vec::new()).await.is_empty());
}

/// Leaving takes two trips, and so does joining where a page is wanted.
pub(crate) async fn a_line_that_is_written_while_an_older_one_leaves_is_found_when_its_node_dies(
    backend: &dyn Backend,
) {
    let store = backend.open(Limits::default()).await;
    let (alice, node) = (channel("alice"), NodeId::generate());
    for round in 0..50 {
        let (older, newer) = (round * 2 + 1, round * 2 + 2);
        store.join(&join(node, &alice, older)).await.expect("joined");
        let newer = join(node, &alice, newer);
        let (left, joined) = tokio::join!(store.leave(node, &alice, older, 0), store.join(&newer));
        left.expect("left");
        joined.expect("joined");
        assert_eq!(routes(&*store, &alice).await.len(), 1);
        let indexed = store.orphaned_channels(node, 10).await.expect("listed");
        assert_eq!(indexed, std::slice::from_ref(&alice), "round {round}");
    }
}
