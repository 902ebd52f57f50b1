//! Event streams: sessions that are only written to.

use super::super::Wire;
use super::super::pipe::Pipe;
use super::*;
use crate::protocol::frame::ServerFrame;

/// A stream whose task and wheel are running, and the client's end of its pipe.
struct Stream {
    session: Arc<Session>,
    pipe: Pipe,
    log: Arc<Log>,
    task: JoinHandle<()>,
    _wheel: DropGuard,
}

impl Stream {
    fn new(capacity: usize) -> Self {
        let (near, pipe) = pipe(capacity);
        let (log, metrics) = (Arc::new(Log::default()), Metrics::new("0", "none"));
        let events: Arc<dyn Events> = Arc::<Log>::clone(&log);
        let options = Arc::new(Options::default());
        let session = Session::new(late_ping(), Dialect::Events, Box::new(near), options, events, &metrics);
        let (wheel, cancel) = (Wheel::new(), CancellationToken::new());
        wheel.add(&session);
        tokio::spawn(wheel.run(cancel.clone()));
        let task = tokio::spawn(Arc::clone(&session).run(Bytes::new()));
        Self { session, pipe, log, task, _wheel: cancel.drop_guard() }
    }

    fn push(&self, outgoing: &Arc<Outgoing>) {
        if self.session.queue(outgoing, None) == Queued::First {
            self.session.flush();
        }
    }

    /// What was written since the last look.
    fn text(&self) -> String {
        let mut bytes = vec![0; AMPLE];
        let len = self.pipe.try_read(&mut bytes).unwrap_or(0);
        String::from_utf8(bytes[..len].to_vec()).expect("UTF-8")
    }

    /// The ids and types of what was written since the last look.
    fn outline(&self) -> Vec<String> {
        let text = self.text();
        let told = |line: &&str| line.starts_with("id:") || line.starts_with("event:");
        text.lines().filter(told).map(str::to_owned).collect()
    }
}

fn at(seq: u64) -> Option<Position> {
    Some(Position::new(Epoch::from_bits(1), seq))
}

fn topic() -> Channel {
    "topic:news".parse().expect("valid")
}

fn of_topic(seq: u64) -> Arc<Outgoing> {
    let message = outgoing(seq).message().clone();
    Arc::new(Outgoing::new(Message { channel: topic(), ..message }))
}

#[tokio::test(start_paused = true)]
async fn each_message_is_preceded_by_the_id_that_resumes_behind_it() {
    let stream = Stream::new(AMPLE);
    stream.session.follow(vec![(alice(), at(4))]);
    stream.session.tell(&ServerFrame::Ping);
    stream.push(&outgoing(5));
    let ephemeral = Message { position: None, ..outgoing(9).message().clone() };
    stream.push(&Arc::new(Outgoing::new(ephemeral)));
    stream.session.tell(&ServerFrame::Gap { channel: &alice(), from: at(5), to: at(8), reason: "trimmed" });
    assert_eq!(
        stream.outline(),
        [
            "event: ping",
            "id: 0000000000000001.5",
            "event: message",
            // It has no position: the client keeps the id it has.
            "event: message",
            "id: 0000000000000001.8",
            "event: gap",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_id_holds_the_positions_of_every_channel() {
    let stream = Stream::new(AMPLE);
    stream.session.follow(vec![(alice(), at(4)), (topic(), None)]);
    stream.push(&of_topic(1));
    stream.push(&outgoing(5));
    let outline = stream.outline();
    let ids: Vec<_> = outline
        .iter()
        .filter_map(|line| line.strip_prefix("id: "))
        .map(|id| id.parse::<crate::protocol::event_id::EventId>().expect("an id"))
        .collect();
    let own: Vec<_> = ids.iter().map(|id| (id.own().position, id.own().received)).collect();
    assert_eq!(own, [(at(4), false), (at(5), true)], "where it began, it received nothing");
    assert!(ids.iter().all(|id| id.of(&topic()).is_some_and(|mark| mark.position == at(1))));
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_kept_alive_by_comments_and_asked_nothing() {
    let stream = Stream::new(AMPLE);
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    assert!(!stream.session.is_closing());
    let text = stream.text();
    assert!(text.len() > 300 * 3 && text.replace(":\n\n", "").is_empty(), "{text:?}");
}

#[tokio::test(start_paused = true)]
async fn a_close_is_the_last_event_and_the_streams_end() {
    let stream = Stream::new(AMPLE);
    stream.push(&outgoing(1));
    stream.session.close(CloseCode::RESTART, "this node restarts");
    let text = stream.text();
    let end = "event: close\ndata: {\"type\":\"close\",\"code\":1012,\"reason\":\"this node restarts\"}\n\n";
    assert!(text.ends_with(end), "{text}");
    assert_eq!(stream.pipe.try_read(&mut [0; 8]).ok(), Some(0), "nothing more will come");
    // A client that keeps its side open is not waited for.
    stream.task.await.expect("ends");
    assert_eq!(stream.log.endings(), [Ending::Ours(CloseCode::RESTART)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_client_sends_is_thrown_away_and_its_leaving_is_no_fault() {
    let stream = Stream::new(AMPLE);
    let request = b"GET / HTTP/1.1\r\n\r\n\x88\x82";
    stream.pipe.try_write_vectored(&[std::io::IoSlice::new(request)]).expect("room");
    quiesce().await;
    stream.push(&outgoing(1));
    assert_eq!(stream.outline(), ["event: message"]);
    stream.pipe.shutdown();
    stream.task.await.expect("ends");
    assert_eq!(stream.log.endings(), [Ending::Peers(CloseCode::NORMAL)]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stands_still_is_closed_as_slow_and_a_cut_event_is_not_mended() {
    let stream = Stream::new(40);
    stream.session.follow(vec![(alice(), at(0))]);
    for seq in 1..=3 {
        stream.push(&outgoing(seq));
    }
    let closed = stream.log.clone();
    eventually(|| !closed.endings().is_empty()).await;
    assert_eq!(stream.log.endings(), [Ending::Ours(CloseCode::SLOW)]);
    let text = stream.text();
    assert!(!text.contains("\n\n"), "no event is complete, so none is dispatched: {text}");
}
