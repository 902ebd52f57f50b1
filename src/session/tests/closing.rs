//! Both directions of the close handshake, and every way to end without one.

use super::super::pipe::frame;
use super::*;

#[tokio::test(start_paused = true)]
async fn our_close_follows_what_waits_and_waits_for_the_peers() {
    let mut rig = Rig::new(Dialect::Plain, 4);
    let held = Held::default();
    for seq in 10..13 {
        assert_ne!(rig.push(seq, Some(&held.token())), Queued::Closed);
    }
    rig.session.close(CloseCode::RESTART, "back soon");
    rig.session.close(CloseCode::SLOW, "a second close changes nothing");
    assert_eq!(rig.push(13, Some(&held.token())), Queued::Closed);
    for seq in 10..13 {
        assert_eq!(rig.client.next().await, text(seq));
    }
    assert_eq!(rig.client.next().await, Received::Close(1012, "back soon".to_owned()));
    assert_eq!(held.count(), 0);
    quiesce().await;
    assert!(!rig.task.is_finished(), "the peer has not agreed yet");
    rig.client.close(1012, "").await;
    assert_eq!(rig.client.next().await, Received::End);
    rig.task.await.expect("ends");
    assert_eq!(rig.log.endings(), vec![Ending::Ours(CloseCode::RESTART)]);
    assert_eq!(rig.log.seqs_written(), vec![10, 11, 12]);
}

#[tokio::test(start_paused = true)]
async fn acks_are_still_heard_until_the_peer_closes() {
    let mut rig = Rig::new(Dialect::Envelope, AMPLE);
    rig.session.close(CloseCode::RESTART, "");
    rig.client.text(r#"{"type":"ack","positions":{}}"#).await;
    rig.client.close(1012, "").await;
    assert_eq!(rig.client.next().await, Received::Close(1012, String::new()));
    rig.task.await.expect("ends");
    assert!(matches!(
        rig.log.all()[..],
        [Told::Frame(ClientFrame::Ack { .. }), Told::Closed(Ending::Ours(CloseCode::RESTART))]
    ));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_agrees_is_cut_at_the_timeout() {
    let rig = Rig::new(Dialect::Plain, AMPLE);
    quiesce().await;
    let started = tokio::time::Instant::now();
    rig.session.close(CloseCode::DISCONNECTED, "");
    rig.task.await.expect("ends");
    let waited = started.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_millis(2_300)).contains(&waited), "{waited:?}");
    assert_eq!(rig.log.endings(), vec![Ending::Ours(CloseCode::DISCONNECTED)]);
}

#[tokio::test(start_paused = true)]
async fn a_close_of_a_session_that_is_far_behind_does_not_wait_for_it() {
    let rig = Rig::new(Dialect::Plain, 4);
    let held = Held::default();
    for seq in 10..20 {
        assert_ne!(rig.push(seq, Some(&held.token())), Queued::Closed);
    }
    eventually(|| held.count() == 0).await;
    rig.session.close(CloseCode::RESTART, "");
    quiesce().await;
    assert!(rig.task.is_finished());
    assert_eq!(rig.log.endings(), vec![Ending::Ours(CloseCode::RESTART)]);
}

#[tokio::test(start_paused = true)]
async fn the_peers_close_is_answered_with_its_code() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    rig.client.close(3001, "done").await;
    assert_eq!(rig.client.next().await, Received::Close(3001, String::new()));
    assert_eq!(rig.client.next().await, Received::End);
    rig.task.await.expect("ends");
    let code = CloseCode::from_peer(3001).expect("allowed");
    assert_eq!(rig.log.endings(), vec![Ending::Peers(code)]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_close_counts_as_normal() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    rig.client.bytes(&frame(0x8, b"")).await;
    assert_eq!(rig.client.next().await, Received::Close(1000, String::new()));
    rig.task.await.expect("ends");
    assert_eq!(rig.log.endings(), vec![Ending::Peers(CloseCode::NORMAL)]);
}

#[tokio::test(start_paused = true)]
async fn when_the_peer_closes_the_frame_in_progress_is_finished_and_the_rest_given_up() {
    let mut rig = Rig::new(Dialect::Plain, 6);
    let held = Held::default();
    for seq in 10..20 {
        assert_ne!(rig.push(seq, Some(&held.token())), Queued::Closed);
    }
    // The pipe holds a frame and a half: its second one is in progress.
    rig.client.close(1000, "").await;
    eventually(|| rig.session.is_closing()).await;
    assert_eq!(rig.client.next().await, text(10));
    assert_eq!(rig.client.next().await, text(11));
    assert_eq!(rig.client.next().await, Received::Close(1000, String::new()));
    rig.task.await.expect("ends");
    assert_eq!(held.count(), 0);
    assert_eq!(rig.log.seqs_written(), vec![10, 11]);
}

#[tokio::test(start_paused = true)]
async fn a_violation_is_named_and_what_follows_is_thrown_away() {
    let mut rig = Rig::new(Dialect::Envelope, AMPLE);
    rig.client.bytes(b"\x81\x02hi").await;
    rig.client.text(r#"{"type":"ack","positions":{}}"#).await;
    assert!(matches!(rig.client.next().await, Received::Close(1002, reason) if reason.contains("masked")));
    assert_eq!(rig.client.next().await, Received::End);
    quiesce().await;
    assert!(!rig.task.is_finished(), "closing over unread bytes would reset the connection");
    rig.client.hang_up();
    rig.task.await.expect("ends");
    assert_eq!(rig.log.all(), vec![Told::Closed(Ending::Ours(CloseCode::PROTOCOL))]);
}

#[tokio::test(start_paused = true)]
async fn a_frame_above_the_limit_closes_with_1009() {
    let options = Options { frame_bytes_max: 64, ..Options::default() };
    let mut rig = Rig::with(Dialect::Envelope, AMPLE, options, Bytes::new());
    rig.client.text(&"x".repeat(65)).await;
    assert!(matches!(rig.client.next().await, Received::Close(1009, _)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_lost_and_gives_its_tokens_back() {
    let rig = Rig::new(Dialect::Plain, 4);
    let held = Held::default();
    for seq in 10..20 {
        assert_ne!(rig.push(seq, Some(&held.token())), Queued::Closed);
    }
    drop(rig.client);
    rig.task.await.expect("ends");
    assert_eq!(held.count(), 0);
    assert_eq!(rig.log.endings(), vec![Ending::Lost]);
    assert_eq!(rig.session.queue(&outgoing(20), None), Queued::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_close_is_a_loss() {
    let rig = Rig::new(Dialect::Plain, AMPLE);
    rig.client.hang_up();
    rig.task.await.expect("ends");
    assert_eq!(rig.log.endings(), vec![Ending::Lost]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_ends_the_session_once() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    quiesce().await;
    rig.task.abort();
    assert!(rig.task.await.expect_err("aborted").is_cancelled());
    assert_eq!(rig.log.endings(), vec![Ending::Lost]);
    assert_eq!(rig.client.next().await, Received::End);
    rig.session.close(CloseCode::RESTART, "too late");
    assert_eq!(rig.session.tick(tokio::time::Instant::now()), None);
    assert_eq!(rig.log.endings().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_never_polled_still_ends_the_session() {
    let Parts { session, log, .. } = Parts::new(Dialect::Plain, AMPLE, Options::default());
    drop(session.run(Bytes::new()));
    assert_eq!(log.endings(), vec![Ending::Lost]);
}

/// Ends the session's run from inside a report, as an abort on another thread would.
struct EndsInReport {
    log: Log,
    run: Mutex<Option<Run>>,
}

impl Events for EndsInReport {
    fn written(&self, session: &Arc<Session>, messages: &[Arc<Outgoing>]) {
        drop(self.run.lock().expect("no panic while held").take());
        self.log.written(session, messages);
    }

    fn confirmed(&self, _: &Arc<Session>, _: &Channel, _: Position) {}

    fn frame(&self, _: &Arc<Session>, _: ClientFrame) {}

    fn closed(&self, session: &Arc<Session>, ending: Ending) {
        self.log.closed(session, ending);
    }
}

#[tokio::test(start_paused = true)]
async fn closed_is_told_after_a_report_that_is_under_way() {
    let (near, _far) = pipe(AMPLE);
    let events = Arc::new(EndsInReport { log: Log::default(), run: Mutex::new(None) });
    let session = Session::new(
        SessionId::generate(),
        Dialect::Plain,
        Box::new(near),
        Arc::new(Options::default()),
        Arc::<EndsInReport>::clone(&events) as Arc<dyn Events>,
        &Metrics::new("0", "none"),
    );
    *events.run.lock().expect("no panic while held") = Some(Arc::clone(&session).run(Bytes::new()));
    assert_eq!(session.queue(&outgoing(1), None), Queued::First);
    session.flush();
    assert_eq!(events.log.all(), vec![Told::Written(vec![1]), Told::Closed(Ending::Lost)]);
}
