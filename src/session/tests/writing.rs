//! Order, partial writes, backpressure, tokens, room.

use super::*;

#[tokio::test(start_paused = true)]
async fn messages_are_written_at_once_on_the_callers_thread() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    let held = Held::default();
    assert_eq!(rig.push(1, Some(&held.token())), Queued::First);
    assert_eq!(rig.client.try_next(), Some(text(1)), "no task has run yet");
    assert_eq!(rig.log.all(), vec![Told::Written(vec![1])]);
    assert_eq!(held.count(), 0, "the token is given back when the frame is written");
    assert_eq!(rig.session.outbox_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_shares_one_write_and_one_report() {
    let mut rig = Rig::new(Dialect::Plain, AMPLE);
    let queued: Vec<_> = (1..=3).map(|seq| rig.session.queue(&outgoing(seq), None)).collect();
    assert_eq!(queued, vec![Queued::First, Queued::Already, Queued::Already]);
    assert_eq!(rig.client.try_next(), None, "queueing writes nothing");
    rig.session.flush();
    assert_eq!(rig.log.all(), vec![Told::Written(vec![1, 2, 3])]);
    for seq in 1..=3 {
        assert_eq!(rig.client.try_next(), Some(text(seq)));
    }
}

#[tokio::test(start_paused = true)]
async fn frames_written_in_part_are_continued_in_order() {
    let mut rig = Rig::new(Dialect::Plain, 7);
    for seq in 100..200 {
        assert_ne!(rig.push(seq, None), Queued::Closed);
    }
    assert!(rig.session.outbox_bytes() > 0);
    assert_ne!(rig.gauged_bytes(), "0");
    for seq in 100..200 {
        assert_eq!(rig.client.next().await, text(seq));
    }
    eventually(|| rig.session.outbox_bytes() == 0).await;
    assert_eq!(rig.log.seqs_written(), (100..200).collect::<Vec<_>>());
    assert_eq!(rig.gauged_bytes(), "0");
}

#[tokio::test(start_paused = true)]
async fn more_than_one_flush_may_write_is_left_to_the_task() {
    let mut rig = Rig::with(
        Dialect::Plain,
        AMPLE,
        Options { outbox_messages_max: 10_000, ..Options::default() },
        Bytes::new(),
    );
    for seq in 0..5_000 {
        assert_ne!(rig.session.queue(&outgoing(seq), None), Queued::Closed);
    }
    rig.session.flush();
    assert!(rig.log.seqs_written().len() < 5_000);
    for seq in 0..5_000 {
        assert_eq!(rig.client.next().await, text(seq));
    }
    assert_eq!(rig.log.seqs_written(), (0..5_000).collect::<Vec<_>>());
}

#[test]
fn concurrent_flushes_keep_the_order_and_report_in_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut rig = {
        let _context = runtime.enter();
        Rig::with(
            Dialect::Plain,
            AMPLE,
            Options { outbox_messages_max: usize::MAX, ..Options::default() },
            Bytes::new(),
        )
    };
    let next = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let queued = {
                        let mut next = next.lock().expect("no panic while held");
                        *next += 1;
                        rig.session.queue(&outgoing(*next), None)
                    };
                    if queued == Queued::First {
                        rig.session.flush();
                    }
                }
            });
        }
    });
    let expected: Vec<u64> = (1..=8_000).collect();
    runtime.block_on(async {
        for seq in &expected {
            assert_eq!(rig.client.next().await, text(*seq));
        }
    });
    assert_eq!(rig.log.seqs_written(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_does_not_read_is_closed_as_slow_and_gives_all_tokens_back() {
    let rig =
        Rig::with(Dialect::Plain, 8, Options { outbox_messages_max: 10, ..Options::default() }, Bytes::new());
    let held = Held::default();
    let queued: Vec<_> = (1..=20).map(|seq| rig.push(seq, Some(&held.token()))).collect();
    assert!(queued.iter().filter(|queued| **queued != Queued::Closed).count() >= 10);
    assert_eq!(queued.last(), Some(&Queued::Closed));
    assert!(rig.session.is_closing());
    assert_eq!(held.count(), 0);
    assert_eq!(rig.session.outbox_bytes(), 0);
    rig.task.await.expect("ends");
    assert_eq!(rig.log.endings(), vec![Ending::Ours(CloseCode::SLOW)]);
    assert_eq!(rig.metrics.render().matches("postrider_outbox_bytes 0").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_outbox_is_bounded_in_bytes_but_takes_any_single_frame() {
    let options = Options { outbox_bytes_max: 100, ..Options::default() };
    let mut rig = Rig::with(Dialect::Plain, 50, options, Bytes::new());
    let long = outgoing_of(1, format!("\"{}\"", "x".repeat(300)));
    assert_eq!(rig.session.queue(&long, None), Queued::First);
    rig.session.flush();
    assert_eq!(rig.client.next().await, Received::Text("x".repeat(300)));
    eventually(|| rig.session.outbox_bytes() == 0).await;
    assert_eq!(rig.session.queue(&long, None), Queued::First);
    assert_eq!(rig.session.queue(&outgoing(2), None), Queued::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_batch_longer_than_the_outbox_is_not_slow_if_the_socket_takes_it() {
    let options = Options { outbox_messages_max: 2, ..Options::default() };
    let mut rig = Rig::with(Dialect::Plain, AMPLE, options, Bytes::new());
    for seq in 1..=100 {
        assert_ne!(rig.session.queue(&outgoing(seq), None), Queued::Closed);
    }
    rig.session.flush();
    for seq in 1..=100 {
        assert_eq!(rig.client.next().await, text(seq));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_paced_so_that_it_never_overflows() {
    let options = Options { outbox_messages_max: 1, ..Options::default() };
    let mut rig = Rig::with(Dialect::Plain, 4, options, Bytes::new());
    let session = Arc::clone(&rig.session);
    let replay = tokio::spawn(async move {
        for seq in 10..60 {
            session.room_for(&outgoing(seq)).await;
            assert_ne!(session.queue(&outgoing(seq), None), Queued::Closed);
        }
        session.flush();
    });
    for seq in 10..60 {
        assert_eq!(rig.client.next().await, text(seq));
    }
    replay.await.expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_frame_gives_its_token_back_after_a_second_and_is_written_later() {
    let mut rig = Rig::new(Dialect::Plain, 4);
    let held = Held::default();
    let started = tokio::time::Instant::now();
    for seq in 10..20 {
        assert_ne!(rig.push(seq, Some(&held.token())), Queued::Closed);
    }
    assert_eq!(held.count(), 9, "one frame fitted");
    eventually(|| held.count() == 0).await;
    let waited = started.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_millis(1_300)).contains(&waited), "{waited:?}");
    assert_eq!(rig.push(20, Some(&held.token())), Queued::Already);
    assert_eq!(held.count(), 0, "while it is behind, frames hold nothing");
    for seq in 10..=20 {
        assert_eq!(rig.client.next().await, text(seq));
    }
    eventually(|| rig.log.seqs_written().len() == 11).await;
    let token = held.token();
    assert_eq!(rig.session.queue(&outgoing(21), Some(&token)), Queued::First);
    drop(token);
    assert_eq!(held.count(), 1, "having caught up, frames hold their tokens again");
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_nothing_for_too_long_is_cut() {
    let rig = Rig::new(Dialect::Plain, 4);
    let started = tokio::time::Instant::now();
    for seq in 10..20 {
        assert_ne!(rig.push(seq, None), Queued::Closed);
    }
    rig.task.await.expect("ends");
    let waited = started.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_millis(10_300)).contains(&waited), "{waited:?}");
    assert_eq!(rig.log.endings(), vec![Ending::Ours(CloseCode::SLOW)]);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_trickles_is_not_cut() {
    let mut rig = Rig::new(Dialect::Envelope, 8);
    let long = outgoing_of(1, format!("\"{}\"", "x".repeat(200)));
    assert_eq!(rig.session.queue(&long, None), Queued::First);
    rig.session.flush();
    let mut waits = 0;
    let received = loop {
        tokio::time::sleep(Duration::from_secs(6)).await;
        waits += 1;
        rig.client.text(r#"{"type":"pong"}"#).await;
        assert!(!rig.session.is_closing());
        if let Some(received) = rig.client.try_next() {
            break received;
        }
    };
    assert!(matches!(received, Received::Text(text) if text.contains("xxx")));
    assert!(waits > 10, "a byte now and then is progress");
}

#[tokio::test(start_paused = true)]
async fn room_comes_back_at_half_of_the_limits() {
    let options = Options { outbox_messages_max: 10, ..Options::default() };
    let mut rig = Rig::with(Dialect::Plain, 4, options, Bytes::new());
    rig.session.room().await;
    for seq in 10..20 {
        assert_ne!(rig.push(seq, None), Queued::Closed);
    }
    let session = Arc::clone(&rig.session);
    let room = tokio::spawn(async move { session.room().await });
    quiesce().await;
    assert!(!room.is_finished(), "nine frames wait");
    for seq in 10..14 {
        assert_eq!(rig.client.next().await, text(seq));
    }
    room.await.expect("resolves");
}

#[tokio::test(start_paused = true)]
async fn room_resolves_when_the_session_closes() {
    let rig =
        Rig::with(Dialect::Plain, 4, Options { outbox_messages_max: 2, ..Options::default() }, Bytes::new());
    for seq in 10..12 {
        assert_ne!(rig.push(seq, None), Queued::Closed);
    }
    assert_ne!(rig.session.queue(&outgoing(12), None), Queued::Closed);
    let session = Arc::clone(&rig.session);
    let room = tokio::spawn(async move { session.room().await });
    quiesce().await;
    assert!(!room.is_finished());
    rig.session.close(CloseCode::RESTART, "");
    room.await.expect("resolves");
}
