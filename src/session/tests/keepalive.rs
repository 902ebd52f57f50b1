//! Pings, confirmations, and what the session hears.

use std::collections::BTreeMap;

use super::super::pipe::frame;
use super::*;

#[tokio::test(start_paused = true)]
async fn what_came_behind_the_handshake_is_read_first() {
    let leftover = frame(0x1, br#"{"type":"subscribe","topics":["a"]}"#);
    let rig = Rig::with(Dialect::Envelope, AMPLE, Options::default(), leftover.into());
    rig.client.text(r#"{"type":"unsubscribe","topics":["a"]}"#).await;
    eventually(|| rig.log.all().len() == 2).await;
    let topics = vec!["a".to_owned()];
    assert_eq!(
        rig.log.all(),
        vec![
            Told::Frame(ClientFrame::Subscribe {
                topics: topics.clone(),
                positions: BTreeMap::new(),
                from: None
            }),
            Told::Frame(ClientFrame::Unsubscribe { topics })
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn text_that_is_no_envelope_is_answered_and_the_session_goes_on() {
    let mut rig = Rig::new(Dialect::Envelope, AMPLE);
    rig.client.text("hello").await;
    let Received::Text(answer) = rig.client.next().await else { panic!("an answer") };
    assert!(answer.starts_with(r#"{"type":"error","code":"bad_frame""#), "{answer}");
    rig.client.text(r#"{"type":"wave"}"#).await;
    rig.client.text(r#"{"type":"resume","positions":{}}"#).await;
    eventually(|| !rig.log.all().is_empty()).await;
    assert!(
        matches!(rig.log.all()[..], [Told::Frame(ClientFrame::Resume { .. })]),
        "unknown types are ignored"
    );
}

#[tokio::test(start_paused = true)]
async fn a_plain_client_may_only_authenticate() {
    let rig = Rig::new(Dialect::Plain, AMPLE);
    rig.client.text("hello").await;
    rig.client.text(r#"{"type":"ack","positions":{}}"#).await;
    rig.client.text(r#"{"type":"auth","token":"t"}"#).await;
    eventually(|| !rig.log.all().is_empty()).await;
    rig.identify(None);
    rig.client.text(r#"{"type":"auth","token":"u"}"#).await;
    rig.client.close(1000, "").await;
    rig.task.await.expect("ends");
    let auth = ClientFrame::Auth { token: "t".to_owned(), positions: BTreeMap::new(), topics: Vec::new() };
    assert_eq!(rig.log.all(), vec![Told::Frame(auth), Told::Closed(Ending::Peers(CloseCode::NORMAL))]);
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    rig.client.ping(b"there?").await;
    assert_eq!(rig.client.next().await, Received::Pong(b"there?".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_pings_and_never_reads_is_closed_as_slow() {
    let options = Options { outbox_messages_max: 50, ..Options::default() };
    let rig = Rig::with(Dialect::Plain, 64, options, Bytes::new());
    let client = rig.client;
    let flood = tokio::spawn(async move {
        loop {
            client.ping(b"there?").await;
        }
    });
    rig.task.await.expect("ends");
    flood.abort();
    assert_eq!(rig.log.endings(), vec![Ending::Ours(CloseCode::SLOW)]);
}

#[tokio::test(start_paused = true)]
async fn an_envelope_client_is_pinged_by_envelope_and_lives_by_any_frame() {
    let mut rig = Rig::new(Dialect::Envelope, AMPLE);
    for _ in 0..10 {
        assert_eq!(rig.client.next().await, Received::Text(r#"{"type":"ping"}"#.to_owned()));
        rig.client.text(r#"{"type":"wave"}"#).await;
    }
    assert!(!rig.session.is_closing());
    assert_eq!(rig.log.all(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn a_plain_client_is_pinged_at_the_interval_and_lives_by_its_pong() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    let mut last: Option<tokio::time::Instant> = None;
    for _ in 0..5 {
        let Received::Ping(payload) = rig.client.next().await else { panic!("a ping") };
        let waited = last.replace(tokio::time::Instant::now()).map(|last| last.elapsed());
        if let Some(waited) = waited {
            assert!((24_800..25_300).contains(&waited.as_millis()), "{waited:?}");
        }
        rig.client.pong(&payload).await;
    }
    assert!(!rig.session.is_closing());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_as_unresponsive_ten_seconds_after_the_ping() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    assert!(matches!(rig.client.next().await, Received::Ping(_)));
    let pinged_at = tokio::time::Instant::now();
    assert!(matches!(rig.client.next().await, Received::Close(4102, _)));
    let waited = pinged_at.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_millis(10_300)).contains(&waited), "{waited:?}");
    rig.task.await.expect("ends");
    assert_eq!(rig.log.endings(), vec![Ending::Ours(CloseCode::UNRESPONSIVE)]);
}

/// A process that is stopped wakes up with every timer overdue and the peers'
/// answers unread: here the wheel is asked before the session's task is.
#[tokio::test(start_paused = true)]
async fn a_node_that_stood_still_reads_before_it_calls_anyone_silent() {
    let parts = Parts::new(Dialect::Plain, AMPLE, Options::default());
    let (session, mut client) = (parts.session, parts.client);
    let (wheel, cancel) = (Wheel::new(), CancellationToken::new());
    wheel.add(&session);
    tokio::spawn(wheel.run(cancel.clone()));
    let Received::Ping(payload) = client.next().await else { panic!("a ping") };
    client.pong(&payload).await;
    tokio::time::advance(Duration::from_secs(40)).await;
    quiesce().await;
    tokio::spawn(Arc::clone(&session).run(Bytes::new()));
    assert!(matches!(client.next().await, Received::Ping(_)), "not a close");
    assert!(!session.is_closing());
    cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_named_plain_device_confirms_by_pong_what_was_written_before_the_ping() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    rig.identify(Some("phone"));
    assert_eq!(rig.session.queue(&outgoing(1), None), Queued::First);
    assert_eq!(rig.session.queue(&outgoing(2), None), Queued::Already);
    rig.session.flush();
    assert_eq!(rig.client.try_next(), Some(text(1)));
    assert_eq!(rig.client.try_next(), Some(text(2)));
    let Some(Received::Ping(first)) = rig.client.try_next() else { panic!("a ping behind the messages") };
    assert_eq!(rig.push(3, None), Queued::First);
    assert_eq!(rig.client.try_next(), Some(text(3)));
    assert_eq!(rig.client.try_next(), None, "one ping is outstanding at a time");
    assert_eq!(rig.log.seqs_confirmed(), Vec::<u64>::new(), "written is not received");
    let asked_at = tokio::time::Instant::now();
    rig.client.pong(&first).await;
    eventually(|| rig.log.seqs_confirmed() == [2]).await;
    let Received::Ping(second) = rig.client.next().await else { panic!("the next ping") };
    let waited = asked_at.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_millis(500)).contains(&waited), "{waited:?}");
    rig.client.pong(&second).await;
    eventually(|| rig.log.seqs_confirmed() == [2, 3]).await;
    let confirmed_at = tokio::time::Instant::now();
    assert!(matches!(rig.client.next().await, Received::Ping(_)), "the heartbeat");
    assert!(confirmed_at.elapsed() > Duration::from_secs(20), "nothing is left to confirm");
}

#[tokio::test(start_paused = true)]
async fn pongs_that_nobody_asked_for_confirm_nothing() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    rig.identify(Some("phone"));
    assert_eq!(rig.push(1, None), Queued::First);
    rig.client.pong(b"").await;
    rig.client.pong(&u64::MAX.to_be_bytes()).await;
    rig.client.pong(&0u64.to_be_bytes()).await;
    rig.client.ping(b"marker").await;
    while rig.client.next().await != Received::Pong(b"marker".to_vec()) {}
    assert_eq!(rig.log.seqs_confirmed(), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_lost_by_the_peer_is_made_up_for_by_a_later_pong() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    rig.identify(Some("phone"));
    assert_eq!(rig.push(1, None), Queued::First);
    assert_eq!(rig.client.next().await, text(1));
    assert!(matches!(rig.client.next().await, Received::Ping(_)), "left unanswered");
    let Received::Ping(heartbeat) = rig.client.next().await else { panic!("the heartbeat") };
    rig.client.pong(&heartbeat).await;
    eventually(|| rig.log.seqs_confirmed() == [1]).await;
}

#[tokio::test(start_paused = true)]
async fn sessions_without_a_device_or_with_envelopes_pay_for_no_confirmation() {
    for (dialect, device) in [(Dialect::Plain, None), (Dialect::Envelope, Some("phone"))] {
        let mut rig = Rig::new(dialect, AMPLE);
        rig.identify(device);
        assert_eq!(rig.push(1, None), Queued::First);
        assert!(matches!(rig.client.try_next(), Some(Received::Text(_))));
        assert_eq!(rig.client.try_next(), None);
    }
}
