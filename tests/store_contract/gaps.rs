//! What a reader is told was lost, and what it is not told.

use postrider::protocol::{Epoch, Position};
use postrider::store::{Append, GapReason, Limits, Start};

use crate::backend::Backend;
use crate::support::*;

fn small_mailbox() -> Limits {
    Limits { mailbox_messages_max: 20, ..Limits::default() }
}

pub(crate) async fn a_full_mailbox_drops_its_oldest_and_tells(backend: &dyn Backend) {
    let store = backend.open(small_mailbox()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 50).await;
    let info = inspect(&*store, &alice).await;
    assert!((20..=21).contains(&info.mailbox_messages), "{info:?}");
    let floor = info.floor;
    assert_eq!(floor, 50 - info.mailbox_messages);
    assert_eq!(info.ledger.dropped.mailbox_full, floor);

    let page = read_after(&*store, &alice, epoch, 3).await;
    let (from, to) = (Position::new(epoch, 3), Position::new(epoch, floor));
    assert_eq!(page.gap, gap(Some(from), Some(to), GapReason::Trimmed));
    assert_eq!(page.after, floor);
    assert_eq!(seqs(&page), (floor + 1..=50).collect::<Vec<_>>());

    let page = read(&*store, &alice, Start::Cursor(None)).await;
    assert_eq!(page.gap, gap(Some(Position::new(epoch, 0)), Some(to), GapReason::Trimmed));
    assert_eq!(page.after, floor);
    let page = read_after(&*store, &alice, epoch, floor).await;
    assert_eq!((page.gap, page.after), (None, floor), "nothing behind the floor was lost");
}

/// Who had connected before anything was pushed, and came back when the first
/// messages were trimmed, began at the oldest and was told of no loss.
pub(crate) async fn who_was_there_before_the_first_message_is_told_like_anyone(backend: &dyn Backend) {
    let store = backend.open(small_mailbox()).await;
    let alice = channel("alice");
    let beginning = Start::After(Position::BEGINNING);
    let page = read(&*store, &alice, beginning.clone()).await;
    assert_eq!((page.head, page.gap), (None, None));
    let epoch = push_many(&*store, &alice, 3).await;
    store.acknowledge(&[received(&alice, Some(&device("other")), epoch, 3)]).await.expect("acknowledged");
    let page = read(&*store, &alice, beginning.clone()).await;
    assert_eq!((page.gap, seqs(&page)), (None, vec![1, 2, 3]), "whatever others received");
    push_many(&*store, &alice, 50).await;
    let floor = inspect(&*store, &alice).await.floor;
    let page = read(&*store, &alice, beginning).await;
    let to = Position::new(epoch, floor);
    assert_eq!(page.gap, gap(Some(Position::BEGINNING), Some(to), GapReason::Trimmed));
}

pub(crate) async fn oldest_and_now_never_see_a_gap(backend: &dyn Backend) {
    let store = backend.open(small_mailbox()).await;
    let alice = channel("alice");
    push_many(&*store, &alice, 50).await;
    let floor = inspect(&*store, &alice).await.floor;
    let page = read(&*store, &alice, Start::Oldest).await;
    assert_eq!((page.gap, page.after, seqs(&page)[0]), (None, floor, floor + 1));
    let page = read(&*store, &alice, Start::Now).await;
    assert_eq!((page.gap, page.after), (None, 50));
}

pub(crate) async fn append_tells_what_the_trim_dropped(backend: &dyn Backend) {
    let store = backend.open(small_mailbox()).await;
    let alice = channel("alice");
    let mut dropped = 0;
    for n in 0..30 {
        dropped += push(&*store, &alice, n).await.settled.dropped_mailbox_full;
    }
    let info = inspect(&*store, &alice).await;
    assert!(dropped > 0);
    assert_eq!(info.ledger.dropped.mailbox_full, dropped);
}

pub(crate) async fn an_unknown_epoch_is_a_reset_that_loses_nothing_kept(backend: &dyn Backend) {
    let store = backend.open(small_mailbox()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 3).await;
    let given = Position::new(Epoch::random(), 2);
    let page = read(&*store, &alice, Start::After(given)).await;
    assert_eq!(page.gap, gap(Some(given), Some(Position::new(epoch, 0)), GapReason::Reset));
    assert_eq!(seqs(&page), [1, 2, 3]);

    push_many(&*store, &alice, 47).await;
    let floor = inspect(&*store, &alice).await.floor;
    let page = read(&*store, &alice, Start::After(given)).await;
    let to = Position::new(epoch, floor);
    assert_eq!(page.gap, gap(Some(given), Some(to), GapReason::Reset), "one gap covers both losses");
    assert_eq!(page.after, floor);
}

/// Anybody may claim anything, of channels that are shared, too.
pub(crate) async fn a_position_that_was_never_given_out_changes_nothing_for_others(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 3).await;
    let (head, given) = (Position::new(epoch, 3), Position::new(epoch, 7));
    for _ in 0..20 {
        let page = read(&*store, &alice, Start::After(given)).await;
        assert_eq!(page.gap, gap(Some(given), Some(head), GapReason::Reset));
        assert_eq!((page.head, page.after, seqs(&page)), (Some(head), 3, vec![]));
    }
    let page = read_after(&*store, &alice, epoch, 2).await;
    assert_eq!((page.gap, seqs(&page)), (None, vec![3]));
    assert_eq!(push(&*store, &alice, 4).await.position, Some(Position::new(epoch, 4)));
}

pub(crate) async fn a_position_ahead_of_a_store_that_was_restarted_is_a_reset_and_renews_the_epoch(
    backend: &dyn Backend,
) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 3).await;
    backend.restart().await;
    until_reachable(&*store).await;
    let given = Position::new(epoch, 7);
    let page = read(&*store, &alice, Start::After(given)).await;
    let head = page.head.expect("known");
    assert_ne!(head.epoch, epoch, "or 4 to 7 would be given out a second time");
    assert_eq!(head.seq, 3);
    assert_eq!(page.gap, gap(Some(given), Some(head), GapReason::Reset));
    assert_eq!((page.after, seqs(&page), page.complete), (3, vec![], true));

    assert_eq!(push(&*store, &alice, 4).await.position, Some(Position::new(head.epoch, 4)));
    let page = read_after(&*store, &alice, epoch, 2).await;
    assert_eq!((page.gap, seqs(&page)), (None, vec![3, 4]), "what was really seen stays valid");
    let page = read(&*store, &alice, Start::After(given)).await;
    let end = Position::new(head.epoch, 3);
    assert_eq!(page.gap, gap(Some(given), Some(end), GapReason::Reset), "the claim stays wrong");
    assert_eq!(seqs(&page), [4]);
}

pub(crate) async fn expired_and_collapsed_holes_are_no_gap(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let keyed = |n: u64| Append { collapse_key: Some("k".into()), ..message(&alice, n) };
    let first = store.append(keyed(1)).await.expect("appended");
    let short = Append { ttl_ms: 30, ..message(&alice, 2) };
    let short = store.append(short).await.expect("appended");
    store.append(keyed(3)).await.expect("appended");
    clock_passes(&*store, short.expires_at_ms).await;
    let page = read_after(&*store, &alice, first.position.expect("durable").epoch, 0).await;
    assert_eq!((page.gap, seqs(&page), page.complete), (None, vec![3], true));
}
