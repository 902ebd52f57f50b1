//! Tickets serve once, and a logout is remembered.

use std::time::Duration;

use bytes::Bytes;
use postrider::store::{Join, Limits, Standing, Start};

use crate::backend::Backend;
use crate::support::*;

pub(crate) async fn a_ticket_serves_once_whoever_comes(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let ticket = [7; 32];
    store.keep_ticket(&ticket, Bytes::from_static(b"ann"), LONG_MS).await.expect("kept");
    assert_eq!(store.take_ticket(&[8; 32]).await.expect("looked for"), None);
    let takers = (0..8).map(|_| store.take_ticket(&ticket));
    let taken = futures_util::future::join_all(takers).await;
    let taken: Vec<_> = taken.into_iter().filter_map(|taken| taken.expect("looked for")).collect();
    assert_eq!(taken, [Bytes::from_static(b"ann")]);
    assert_eq!(store.take_ticket(&ticket).await.expect("looked for"), None);
}

pub(crate) async fn a_ticket_is_worth_nothing_after_its_time(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    // Of many, so that each look does not use up what it looks for.
    for n in 0..200 {
        store.keep_ticket(&[n; 32], Bytes::from_static(b"x"), 50).await.expect("kept");
    }
    let mut n = 0;
    while store.take_ticket(&[n; 32]).await.expect("looked for").is_some() {
        n += 1;
        assert!(n < 200, "none of them ends");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn a_logout_is_remembered_for_its_time_and_never_goes_back(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (ann, bob) = (channel("ann"), channel("bob"));
    assert_eq!(store.standing(&ann).await.expect("read"), Standing::default());
    let first = store.log_out(&ann, LONG_MS).await.expect("noted");
    let again = store.log_out(&ann, LONG_MS).await.expect("noted");
    assert!(again >= first && first > 1_500_000_000_000, "{first} {again}");
    assert_eq!(store.standing(&ann).await.expect("read").logged_out_at_ms, Some(again));
    assert_eq!(store.standing(&bob).await.expect("read").logged_out_at_ms, None);
    store.log_out(&bob, 50).await.expect("noted");
    let mut left = 1_000;
    while store.standing(&bob).await.expect("read").logged_out_at_ms.is_some() {
        left -= 1;
        assert!(left > 0, "it is remembered for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn a_users_standing_tells_where_they_are(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (ann, node) = (channel("ann"), enrolled(&*store).await);
    let join = Join { node, channel: ann.clone(), generation: 1, sessions: 3, start: Start::Now, limit: 10 };
    store.join(&join).await.expect("joined");
    let standing = store.standing(&ann).await.expect("read");
    assert_eq!(standing.routes, store.routes(&ann).await.expect("read"));
    assert_eq!(standing.routes.iter().map(|route| route.sessions).collect::<Vec<_>>(), [3]);
}
