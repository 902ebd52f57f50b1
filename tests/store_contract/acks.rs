//! Cursors, the watermark, and what counts as received.

use postrider::protocol::{Epoch, NodeId, Position};
use postrider::store::{Append, Cursor, DEVICES_MAX, GapReason, Join, Limits, Settled, Start};

use crate::backend::Backend;
use crate::support::*;

fn only_received(received: u64) -> Settled {
    Settled { received, ..Settled::default() }
}

pub(crate) async fn received_means_by_at_least_one_device(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 5).await;
    let (phone, laptop) = (device("phone"), device("laptop"));
    let ack = async |device, seq| {
        store.acknowledge(&[received(&alice, Some(device), epoch, seq)]).await.expect("acknowledged")
    };
    assert_eq!(ack(&phone, 3).await, only_received(3));
    assert_eq!(ack(&laptop, 2).await, only_received(0), "the second device receives nothing new");
    assert_eq!(ack(&laptop, 4).await, only_received(1));
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.watermark, info.ledger.received, info.waiting_counted), (4, 4, 1));
    let cursors: Vec<_> = info.cursors.iter().map(|c| (c.device.clone(), c.position)).collect();
    assert_eq!(cursors, [(laptop, Position::new(epoch, 4)), (phone, Position::new(epoch, 3))], "by name");
}

pub(crate) async fn cursors_never_go_back(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 5).await;
    let phone = device("phone");
    let before = clock_ms(&*store).await;
    for seq in [2, 4, 3] {
        store.acknowledge(&[received(&alice, Some(&phone), epoch, seq)]).await.expect("acknowledged");
    }
    let info = inspect(&*store, &alice).await;
    let [Cursor { position, at_ms, .. }] = info.cursors.as_slice() else { panic!("one cursor: {info:?}") };
    assert_eq!((*position, info.watermark), (Position::new(epoch, 4), 4));
    assert!((before..=clock_ms(&*store).await).contains(at_ms));
}

pub(crate) async fn a_nameless_session_moves_only_the_watermark(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 5).await;
    let settled = store.acknowledge(&[received(&alice, None, epoch, 2)]).await.expect("acknowledged");
    assert_eq!(settled, only_received(2));
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.watermark, info.cursors.len()), (2, 0));
    assert_eq!(seqs(&read(&*store, &alice, Start::Cursor(None)).await), [3, 4, 5]);
}

pub(crate) async fn a_device_goes_on_where_it_was_and_a_new_one_behind_the_watermark(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 5).await;
    let (phone, laptop) = (device("phone"), device("laptop"));
    let acks = [received(&alice, Some(&phone), epoch, 1), received(&alice, Some(&laptop), epoch, 4)];
    store.acknowledge(&acks).await.expect("acknowledged");
    let page = read(&*store, &alice, Start::Cursor(Some(phone))).await;
    assert_eq!((seqs(&page), page.after, page.gap), (vec![2, 3, 4, 5], 1, None));
    let page = read(&*store, &alice, Start::Cursor(Some(device("tablet")))).await;
    assert_eq!((seqs(&page), page.after, page.gap), (vec![5], 4, None));
    let page = read(&*store, &alice, Start::Cursor(None)).await;
    assert_eq!((seqs(&page), page.after), (vec![5], 4));
}

pub(crate) async fn claims_the_store_cannot_understand_are_ignored(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (alice, ghost) = (channel("alice"), channel("ghost"));
    let epoch = push_many(&*store, &alice, 3).await;
    let phone = device("phone");
    let acks = [
        received(&alice, Some(&phone), epoch, 4),
        received(&alice, Some(&phone), Epoch::random(), 2),
        received(&ghost, Some(&phone), epoch, 1),
    ];
    assert_eq!(store.acknowledge(&acks).await.expect("acknowledged"), Settled::default());
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.watermark, info.cursors.len(), info.waiting_counted), (0, 0, 3));
    assert_eq!(inspect(&*store, &ghost).await.cursors, []);
    assert_eq!(store.heads(&[ghost]).await.expect("heads"), [None]);
    assert_eq!(store.acknowledge(&[]).await.expect("acknowledged"), Settled::default());
}

pub(crate) async fn acks_of_many_channels_are_settled_together(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let mut acks = Vec::new();
    for n in 1..=20 {
        let channel = channel(&format!("u{n}"));
        let epoch = push_many(&*store, &channel, n).await;
        acks.push(received(&channel, Some(&device("phone")), epoch, n));
    }
    assert_eq!(store.acknowledge(&acks).await.expect("acknowledged"), only_received((1..=20).sum()));
}

pub(crate) async fn holes_are_not_received(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let keyed = |n: u64| Append { collapse_key: Some("k".into()), ..message(&alice, n) };
    let epoch = push_many(&*store, &alice, 2).await;
    store.append(keyed(3)).await.expect("appended");
    push(&*store, &alice, 4).await;
    store.append(keyed(5)).await.expect("appended");
    push(&*store, &alice, 6).await;
    let ack =
        async |seq| store.acknowledge(&[received(&alice, None, epoch, seq)]).await.expect("acknowledged");
    assert_eq!(ack(1).await, only_received(1));
    assert_eq!(ack(4).await, only_received(2), "2 and 4: 3 was collapsed");
    assert_eq!(ack(6).await, only_received(2));
    let ledger = inspect(&*store, &alice).await.ledger;
    assert_eq!((ledger.accepted, ledger.received, ledger.collapsed), (6, 5, 1));
}

pub(crate) async fn a_claim_comes_too_late_for_what_expired_or_was_trimmed(backend: &dyn Backend) {
    let store = backend.open(Limits { mailbox_messages_max: 20, ..Limits::default() }).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 40).await;
    let short = Append { ttl_ms: 30, ..message(&alice, 41) };
    let short = store.append(short).await.expect("appended");
    let floor = inspect(&*store, &alice).await.floor;
    clock_passes(&*store, short.expires_at_ms).await;
    let settled = store.acknowledge(&[received(&alice, None, epoch, 41)]).await.expect("acknowledged");
    assert_eq!(settled, Settled { received: 40 - floor, expired: 1, ..Settled::default() });
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.watermark, info.waiting_counted), (41, 0));
    assert_eq!(info.ledger.dropped.mailbox_full, floor);
}

pub(crate) async fn a_device_whose_cursor_was_trimmed_over_is_told(backend: &dyn Backend) {
    let store = backend.open(Limits { mailbox_messages_max: 20, ..Limits::default() }).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 5).await;
    let phone = device("phone");
    store.acknowledge(&[received(&alice, Some(&phone), epoch, 4)]).await.expect("acknowledged");
    push_many(&*store, &alice, 60).await;
    let floor = inspect(&*store, &alice).await.floor;
    let expected = gap(Some(Position::new(epoch, 4)), Some(Position::new(epoch, floor)), GapReason::Trimmed);
    for start in [Start::Cursor(Some(phone)), Start::Cursor(None)] {
        let page = read(&*store, &alice, start).await;
        assert_eq!((page.gap, page.after), (expected, floor));
    }
}

/// Whoever may name devices could name as many as there are names.
pub(crate) async fn the_cursors_of_a_channel_are_bounded_and_the_stalest_go(backend: &dyn Backend) {
    let store = backend.open(Limits { cursors_max: 20, ..Limits::default() }).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 40).await;
    let named = |n: u64| device(&format!("d{n}"));
    let receive = async |n: u64, seq: u64| {
        let acks = [received(&alice, Some(&named(n)), epoch, seq)];
        store.acknowledge(&acks).await.expect("acknowledged");
        let now = clock_ms(&*store).await;
        clock_passes(&*store, now).await;
    };
    for n in 1..=20 {
        receive(n, n).await;
    }
    // It was the stalest, and is the freshest now.
    receive(1, 30).await;
    let kept = async || -> Vec<_> {
        let cursors = inspect(&*store, &alice).await.cursors;
        let mut kept: Vec<u64> =
            cursors.iter().map(|cursor| cursor.device.as_str()[1..].parse().expect("a number")).collect();
        kept.sort_unstable();
        kept
    };
    assert_eq!(kept().await, (1..=20).collect::<Vec<_>>());
    receive(21, 21).await;
    let expected: Vec<_> = [1].into_iter().chain(4..=21).collect();
    assert_eq!(kept().await, expected, "one too many, and a twentieth more");
    // Who joins counts as well.
    for n in 22..=23 {
        let start = Start::Cursor(Some(named(n)));
        store.join(&Join { start, ..join(NodeId::generate(), &alice, 1) }).await.expect("joined");
        let now = clock_ms(&*store).await;
        clock_passes(&*store, now).await;
    }
    let expected: Vec<_> = [1].into_iter().chain(6..=23).collect();
    assert_eq!(kept().await, expected);
    // Whoever was forgotten begins like a new device, and nothing is counted twice.
    let page = read(&*store, &alice, Start::Cursor(Some(named(2)))).await;
    assert_eq!((page.after, page.gap), (30, None));
    assert_eq!(inspect(&*store, &alice).await.ledger.received, 30);
}

pub(crate) async fn of_very_many_devices_some_are_told(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 1).await;
    for (devices, more) in [(DEVICES_MAX, false), (DEVICES_MAX + 1, true)] {
        let named: Vec<_> = (0..devices).map(|n| device(&format!("d{n}"))).collect();
        let acks: Vec<_> = named.iter().map(|device| received(&alice, Some(device), epoch, 1)).collect();
        store.acknowledge(&acks).await.expect("acknowledged");
        let info = inspect(&*store, &alice).await;
        assert_eq!(info.more_cursors, more, "{devices}");
        // About as many: a hash is told in the steps that it has.
        assert!((DEVICES_MAX / 2..=DEVICES_MAX * 2).contains(&info.cursors.len()), "{}", info.cursors.len());
    }
}

/// Names of devices cost nothing, in channels that are shared, too.
pub(crate) async fn a_user_of_many_devices_crowds_out_nobody_else(backend: &dyn Backend) {
    let store = backend.open(Limits { cursors_max: 200, ..Limits::default() }).await;
    let all = "all".parse().expect("valid");
    let epoch = push_many(&*store, &all, 3).await;
    let named = |user: &str, n: u64| device(&format!("d{n}")).within(&all, &channel(user));
    let receive = async |user: &str, n: u64| {
        let acks = [received(&all, Some(&named(user, n)), epoch, 1)];
        store.acknowledge(&acks).await.expect("acknowledged");
    };
    let users: Vec<_> = (0..100).map(|n| format!("user{n}")).collect();
    for user in &users {
        receive(user, 1).await;
    }
    let now = clock_ms(&*store).await;
    clock_passes(&*store, now).await;
    // Who is forgotten begins anew behind what somebody received.
    store.acknowledge(&[received(&all, None, epoch, 3)]).await.expect("acknowledged");
    let is_kept =
        async |user: &str, n| read(&*store, &all, Start::Cursor(Some(named(user, n)))).await.after == 1;
    for devices in [101, 500] {
        for n in devices - 101..devices {
            receive("mallory", n).await;
        }
        for user in &users {
            assert!(is_kept(user, 1).await, "{user} lost its place to {devices} devices");
        }
    }
    // The last that was one too many made room for as many as a user is left.
    let mut kept = 0;
    for n in 0..500 {
        kept += u64::from(is_kept("mallory", n).await);
    }
    assert!((50..=100).contains(&kept), "{kept} devices of one user");
}
