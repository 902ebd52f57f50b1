//! Epochs: what a restarted store, or one that came back older, makes of
//! positions given out before.

use postrider::protocol::Position;
use postrider::store::{GapReason, Limits, Settled, Start};

use crate::backend::Backend;
use crate::support::*;

pub(crate) async fn a_restart_renews_the_epoch_and_numbers_go_on(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let old = push_many(&*store, &alice, 3).await;
    backend.restart().await;
    until_reachable(&*store).await;
    let page = read_after(&*store, &alice, old, 2).await;
    assert_eq!((seqs(&page), page.gap), (vec![3], None), "before anything is appended");

    let new = push(&*store, &alice, 4).await.position.expect("durable");
    assert_ne!(new.epoch, old);
    assert_eq!(new.seq, 4);
    assert_eq!(push(&*store, &alice, 5).await.position, Some(Position::new(new.epoch, 5)));
    let page = read_after(&*store, &alice, old, 2).await;
    assert_eq!((page.gap, page.after, page.head), (None, 2, Some(Position::new(new.epoch, 5))));
    let positions: Vec<_> = page.messages.iter().map(|m| m.position.expect("durable").seq).collect();
    assert_eq!(positions, [3, 4, 5]);
    assert_eq!(read_after(&*store, &alice, old, 3).await.gap, None, "the end itself was seen");
    let page = read_after(&*store, &alice, old, 4).await;
    let (from, to) = (Position::new(old, 4), Position::new(new.epoch, 3));
    assert_eq!(page.gap, gap(Some(from), Some(to), GapReason::Reset));
    assert_eq!(seqs(&page), [4, 5], "the 4 of now is another message than the 4 that was lost");
}

pub(crate) async fn who_saw_more_than_came_back_is_told(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (alice, bob) = (channel("alice"), channel("bob"));
    let a = push_many(&*store, &alice, 3).await;
    let b = push_many(&*store, &bob, 3).await;
    backend.save().await;
    push_many(&*store, &alice, 2).await;
    push_many(&*store, &bob, 2).await;
    backend.lose().await;
    until_reachable(&*store).await;

    // A reader comes first.
    let given = Position::new(a, 5);
    let page = read(&*store, &alice, Start::After(given)).await;
    let head = page.head.expect("known");
    assert_eq!((page.gap, head.seq), (gap(Some(given), Some(head), GapReason::Reset), 3));
    let next = push(&*store, &alice, 4).await.position.expect("durable");
    assert_eq!(next.seq, 4);
    assert_ne!(next.epoch, a);

    // A sender comes first.
    let next = push(&*store, &bob, 4).await.position.expect("durable");
    assert_eq!(next.seq, 4);
    assert_ne!(next.epoch, b);
    let page = read_after(&*store, &bob, b, 5).await;
    assert_eq!(
        page.gap,
        gap(Some(Position::new(b, 5)), Some(Position::new(next.epoch, 3)), GapReason::Reset)
    );
    assert_eq!(texts(&page), ["4"]);
    let page = read_after(&*store, &bob, b, 3).await;
    assert_eq!((page.gap, texts(&page)), (None, vec!["4".into()]), "who saw only what is left lost nothing");
}

pub(crate) async fn acks_and_cursors_outlive_their_epoch(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let old = push_many(&*store, &alice, 5).await;
    let phone = device("phone");
    store.acknowledge(&[received(&alice, Some(&phone), old, 2)]).await.expect("acknowledged");
    backend.restart().await;
    until_reachable(&*store).await;
    push(&*store, &alice, 6).await;

    let page = read(&*store, &alice, Start::Cursor(Some(phone.clone()))).await;
    assert_eq!((seqs(&page), page.gap), (vec![3, 4, 5, 6], None));
    let late = store.acknowledge(&[received(&alice, Some(&phone), old, 4)]).await.expect("acknowledged");
    assert_eq!(late, Settled { received: 2, ..Settled::default() });
    let ahead = store.acknowledge(&[received(&alice, Some(&phone), old, 6)]).await.expect("acknowledged");
    assert_eq!(ahead, Settled::default(), "the 6 of that epoch was lost; the 6 of now is not it");
    assert_eq!(inspect(&*store, &alice).await.watermark, 4);
}

pub(crate) async fn a_long_lineage_forgets_its_oldest_epochs(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let first = push_many(&*store, &alice, 3).await;
    let mut epoch = first;
    let mut epochs = Vec::new();
    // Each claim ahead of the head renews the epoch of a store that was restarted.
    for _ in 0..17 {
        epochs.push(epoch);
        backend.restart().await;
        until_reachable(&*store).await;
        epoch = read_after(&*store, &alice, epoch, 9).await.head.expect("known").epoch;
    }
    let page = read_after(&*store, &alice, first, 3).await;
    let to = Position::new(epoch, 0);
    assert_eq!(page.gap, gap(Some(Position::new(first, 3)), Some(to), GapReason::Reset));
    assert_eq!(seqs(&page), [1, 2, 3], "everything kept is sent again");
    for known in &epochs[1..] {
        let page = read_after(&*store, &alice, *known, 3).await;
        assert_eq!((page.gap, page.after), (None, 3));
    }
}
