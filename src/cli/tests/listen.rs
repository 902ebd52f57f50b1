use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::server::{Peer, bind, nowhere};
use super::{parse, text};
use crate::cli::Command;
use crate::cli::output::Failure;
use crate::config::Environment;

type Ended = (String, Result<(), Failure>);

/// Runs `listen` until it ends by itself.
async fn listen(line: &[&str], url: &str) -> Ended {
    let environment = Environment::of([("POSTRIDER_URL", url)]);
    let Command::Listen(listen) = parse(&[&["listen"], line].concat()) else { panic!("listen") };
    let mut out = Vec::new();
    let result = listen.follow(&environment, &mut out, std::future::pending()).await;
    (text(out), result)
}

fn listening(line: &[&str], url: &str) -> JoinHandle<Ended> {
    let (line, url): (Vec<String>, String) =
        (line.iter().map(|word| (*word).to_owned()).collect(), url.to_owned());
    let local = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        runtime.block_on(listen(&line, &url))
    };
    tokio::task::spawn_blocking(local)
}

fn hello(seq: u64) -> String {
    format!(
        r#"{{"type":"hello","node":"N1","user":"alice","resumed":false,"heartbeat_ms":25000,
        "positions":{{"user:alice":"0000000000000001.{seq}"}}}}"#
    )
}

fn message(seq: u64) -> String {
    format!(
        r#"{{"type":"message","id":"x","channel":"user:alice","pos":"0000000000000001.{seq}","ts":0,"data":{seq}}}"#
    )
}

fn ack(seq: u64) -> String {
    format!(r#"{{"positions":{{"user:alice":"0000000000000001.{seq}"}},"type":"ack"}}"#)
}

#[tokio::test]
async fn messages_are_printed_acknowledged_and_counted() {
    let (listener, url) = bind().await;
    let client = listening(&["--user", "alice", "--device", "tv", "--from", "oldest", "--count", "2"], &url);
    let mut peer = Peer::accept(&listener).await;
    assert!(peer.handshake.starts_with("/v1/ws?device=tv&from=oldest "), "{}", peer.handshake);
    assert!(peer.handshake.contains("postrider.v1+json"), "{}", peer.handshake);
    peer.send(&hello(0)).await;
    peer.send(r#"{"type":"ping"}"#).await;
    assert_eq!(peer.receive().await, r#"{"type":"pong"}"#);
    peer.send(&message(1)).await;
    assert_eq!(peer.receive().await, ack(1));
    peer.send(&message(2)).await;
    assert_eq!(peer.until_closed().await, (vec![ack(2)], Some(1000)));
    let (out, result) = client.await.expect("ended");
    assert!(result.is_ok());
    let line = |seq| format!("1970-01-01T00:00:00.000Z user:alice 0000000000000001.{seq} {seq}\n");
    assert_eq!(out, line(1) + &line(2));
}

#[tokio::test]
async fn a_restarting_node_is_left_and_the_next_resumes_without_repeats() {
    let (listener, url) = bind().await;
    let client = listening(&["--user", "alice", "--json", "--from", "now", "--count", "2"], &url);
    let mut peer = Peer::accept(&listener).await;
    peer.send(&hello(4)).await;
    peer.send(&message(5)).await;
    assert_eq!(peer.receive().await, ack(5));
    peer.close(1012, "restart").await;

    let mut peer = Peer::accept(&listener).await;
    // 'now' was then: asking for it again would skip what came in between.
    assert!(peer.handshake.starts_with("/v1/ws?resume=1 "), "{}", peer.handshake);
    let resume = r#"{"positions":{"user:alice":"0000000000000001.5"},"type":"resume"}"#;
    assert_eq!(peer.receive().await, resume);
    peer.send(&hello(5)).await;
    peer.send(&message(5)).await;
    peer.send(r#"{"type":"gap","channel":"user:alice","from":"0000000000000001.5","to":"0000000000000001.6","reason":"trimmed"}"#).await;
    peer.send(&message(7)).await;
    assert_eq!(peer.until_closed().await.0, vec![ack(7)]);
    let (out, result) = client.await.expect("ended");
    assert!(result.is_ok());
    let kinds: Vec<bool> = out.lines().map(|line| line.contains(r#""type":"gap""#)).collect();
    assert_eq!(kinds, [false, true, false], "{out}");
}

#[tokio::test]
async fn a_node_that_drains_is_left_when_it_says() {
    let (listener, url) = bind().await;
    let client = listening(&["--user", "alice", "--count", "1"], &url);
    let mut peer = Peer::accept(&listener).await;
    peer.send(&hello(0)).await;
    peer.send(r#"{"type":"drain","reconnect_after_ms":1}"#).await;
    assert_eq!(peer.until_closed().await, (vec![], Some(1000)));
    let mut peer = Peer::accept(&listener).await;
    peer.send(&hello(0)).await;
    peer.send(&message(1)).await;
    peer.until_closed().await;
    assert!(client.await.expect("ended").1.is_ok());
}

#[tokio::test]
async fn a_refused_token_ends_it_with_the_reason() {
    let (listener, url) = bind().await;
    let client = listening(&["--token", "stale"], &url);
    let peer = Peer::accept(&listener).await;
    assert!(!peer.handshake.contains("token="), "the token is in the address: {}", peer.handshake);
    peer.close(4403, "the token has expired: get a new one and reconnect").await;
    let (_, result) = client.await.expect("ended");
    let Err(Failure::Failed(text)) = result else { panic!("{result:?}") };
    assert!(text.contains("get a new one") && text.contains("4403") && !text.contains("stale"), "{text}");
}

#[tokio::test]
async fn a_plain_listener_offers_nothing_and_prints_bare_payloads() {
    let (listener, url) = bind().await;
    let client = listening(&["--user", "zoë alice", "--plain", "--count", "2"], &url);
    let mut peer = Peer::accept(&listener).await;
    assert!(!peer.handshake.contains("sec-websocket-protocol"), "{}", peer.handshake);
    peer.send("hi there").await;
    peer.send("{\"type\":\"ping\"}").await;
    assert_eq!(peer.until_closed().await, (vec![], Some(1000)));
    let (out, result) = client.await.expect("ended");
    assert!(result.is_ok());
    assert_eq!(out, "hi there\n{\"type\":\"ping\"}\n");
}

#[tokio::test]
async fn nobody_there_at_first_is_unreachable_and_a_refusal_is_a_failure() {
    let (_, result) = listen(&["--user", "a"], &nowhere()).await;
    assert!(matches!(result, Err(Failure::Unreachable(_))), "{result:?}");

    let (listener, url) = bind().await;
    let client = listening(&["--user", "a"], &url);
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut request = [0; 4096];
    assert!(stream.read(&mut request).await.expect("a request") > 0);
    let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 3\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.expect("written");
    let (_, result) = client.await.expect("ended");
    assert!(matches!(result, Err(Failure::Failed(text)) if text.contains("503") && text.contains("in 3 s")));
}

#[tokio::test]
async fn a_server_without_the_subprotocol_is_told_apart() {
    let (listener, url) = bind().await;
    let client = listening(&["--user", "a"], &url);
    let (stream, _) = listener.accept().await.expect("a client");
    let accepted = tokio_tungstenite::accept_async(stream).await;
    let (_, result) = client.await.expect("ended");
    drop(accepted);
    assert!(matches!(&result, Err(Failure::Failed(text)) if text.contains("does not speak")), "{result:?}");
}

#[tokio::test]
async fn whose_messages_must_be_said() {
    let (_, result) = listen(&[], "http://127.0.0.1:1").await;
    assert!(matches!(result, Err(Failure::Usage(text)) if text.contains("--user NAME")));
}

/// A pipe whose reader has gone.
struct Gone;

impl io::Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_leaves_ends_it_quietly_and_stopping_says_goodbye() {
    let (listener, url) = bind().await;
    let environment = Environment::of([("POSTRIDER_URL", url.as_str())]);
    let Command::Listen(listen) = parse(&["listen", "--user", "alice"]) else { panic!("listen") };
    let serve = async {
        let mut peer = Peer::accept(&listener).await;
        peer.send(&hello(0)).await;
        peer.send(&message(1)).await;
        peer.until_closed().await.1
    };
    let mut gone = Gone;
    let (result, code) = tokio::join!(listen.follow(&environment, &mut gone, std::future::pending()), serve);
    assert!(matches!(result, Err(Failure::Closed)), "{result:?}");
    assert_eq!(code, Some(1000));

    let mut out = Vec::new();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serve = async {
        let mut peer = Peer::accept(&listener).await;
        peer.send(&hello(0)).await;
        peer.send(&message(1)).await;
        assert_eq!(peer.receive().await, ack(1));
        stop.send(()).expect("listening");
        peer.until_closed().await.1
    };
    let stopped = async {
        let _ = stopped.await;
    };
    let (result, code) = tokio::join!(listen.follow(&environment, &mut out, stopped), serve);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(code, Some(1000));
}
