//! The same over real sockets, under the real clock, and what a session weighs.

use std::io::IoSlice;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::pipe::frame;
use super::*;

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
    (near.expect("accepted").0, far.expect("connected"))
}

fn start(near: TcpStream, dialect: Dialect) -> (Arc<Session>, Arc<Log>, JoinHandle<()>, DropGuard) {
    let log = Arc::new(Log::default());
    let session = Session::new(
        SessionId::generate(),
        dialect,
        Box::new(near),
        Arc::new(Options { outbox_messages_max: 1 << 20, outbox_bytes_max: 1 << 28, ..Options::default() }),
        Arc::<Log>::clone(&log) as Arc<dyn Events>,
        &Metrics::new("0", "none"),
    );
    let (wheel, cancel) = (Wheel::new(), CancellationToken::new());
    wheel.add(&session);
    tokio::spawn(wheel.run(cancel.clone()));
    let task = tokio::spawn(Arc::clone(&session).run(Bytes::new()));
    (session, log, task, cancel.drop_guard())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_socket_buffers_arrives_whole_and_in_order() {
    let (near, mut far) = connected().await;
    let (session, log, task, _wheel) = start(near, Dialect::Plain);
    const COUNT: u64 = 400;
    let data = |seq: u64| format!("{seq:05}{}", "x".repeat(60_000));
    for seq in 0..COUNT {
        if session.queue(&outgoing_of(seq, format!("\"{}\"", data(seq))), None) == Queued::First {
            session.flush();
        }
    }
    assert!(session.outbox_bytes() > 0, "24 MB do not fit into a socket's buffers");
    let mut payload = vec![0; 60_005];
    for seq in 0..COUNT {
        let mut header = [0; 4];
        far.read_exact(&mut header).await.expect("a header");
        assert_eq!(header, [0x81, 126, 0xea, 0x65]);
        far.read_exact(&mut payload).await.expect("a payload");
        assert!(payload == data(seq).as_bytes(), "message {seq} is damaged");
    }
    eventually(|| log.seqs_written().len() as u64 == COUNT).await;
    assert_eq!(log.seqs_written(), (0..COUNT).collect::<Vec<_>>());
    far.write_all(&frame(0x8, &1000u16.to_be_bytes())).await.expect("written");
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.expect("an orderly end");
    assert_eq!(rest, [0x88, 2, 0x03, 0xe8]);
    task.await.expect("ends");
    assert_eq!(log.endings(), vec![Ending::Peers(CloseCode::NORMAL)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_violation_in_the_middle_of_an_upload_is_told_before_the_end() {
    let (near, far) = connected().await;
    let (_session, log, task, _wheel) = start(near, Dialect::Envelope);
    let (mut read, mut write) = far.into_split();
    let upload = tokio::spawn(async move {
        let mut bytes = frame(0x1, &[b'x'; 100_000]);
        bytes.resize(4 << 20, 0);
        // May fail: nobody promised to read it.
        let _ = write.write_all(&bytes).await;
    });
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.expect("an orderly end, no reset");
    assert_eq!(received[2..4], 1009u16.to_be_bytes());
    upload.await.expect("ends");
    drop(read);
    task.await.expect("ends");
    assert_eq!(log.endings(), vec![Ending::Ours(CloseCode::TOO_BIG)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_resets_is_lost() {
    let (near, far) = connected().await;
    let (session, log, task, _wheel) = start(near, Dialect::Plain);
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).expect("set");
    drop(far);
    task.await.expect("ends");
    assert!(session.is_closing());
    assert_eq!(log.endings(), vec![Ending::Lost]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_is_small() {
    let (near, far) = connected().await;
    let (session, _log, _task, _wheel) = start(near, Dialect::Plain);
    let run = Arc::clone(&session).run(Bytes::new());
    assert!(size_of_val(&run) <= 256, "run: {} bytes", size_of_val(&run));
    assert!(size_of::<Session>() <= 640, "session: {} bytes", size_of::<Session>());
    drop((run, far));
}

#[test]
fn wires_write_slices_in_one_call() {
    let (near, far) = pipe(AMPLE);
    let parts = [IoSlice::new(b"one"), IoSlice::new(b"two")];
    assert_eq!(near.try_write_vectored(&parts).expect("room"), 6);
    let mut buf = [0; 8];
    assert_eq!(far.try_read(&mut buf).expect("bytes"), 6);
    assert_eq!(&buf[..6], b"onetwo");
}
