//! The harness itself: trouble that is not really made proves nothing.

use std::net::SocketAddr;
use std::time::Duration;

use redis::AsyncCommands;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::harness::{Direction, Mode, PATIENCE, Persistence, Proxy, RedisOptions, RedisServer, eventually};

/// A server that sends back what it is sent, and closes when its peer does.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                drop(tokio::io::copy(&mut from, &mut to).await);
                drop(to.write_all(b"bye").await);
            });
        }
    });
    address
}

async fn dial(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("the proxy accepts")
}

async fn exchange(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).await.expect("the proxy takes bytes");
    let mut answer = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    answer
}

#[tokio::test]
async fn a_proxy_passes_bytes_and_both_endings() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = dial(&proxy).await;
    assert_eq!(exchange(&mut stream, b"hello").await, b"hello");
    stream.shutdown().await.expect("open");
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("in time").expect("an orderly end");
    assert_eq!(rest, b"bye");
    eventually(PATIENCE, "the connection is forgotten", async || proxy.connections() == 0).await;
}

#[tokio::test]
async fn a_blackhole_holds_bytes_and_gives_them_back_in_order() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = dial(&proxy).await;
    exchange(&mut stream, b"warm").await;
    proxy.set(Direction::ToClient, Mode::Blackhole);
    stream.write_all(b"one two").await.expect("open");
    let mut answer = [0; 7];
    let early = timeout(Duration::from_millis(200), stream.read(&mut answer)).await;
    assert!(early.is_err(), "bytes came through a blackhole: {early:?}");
    proxy.set(Direction::ToClient, Mode::Pass);
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("in time").expect("held bytes");
    assert_eq!(&answer, b"one two");
}

#[tokio::test]
async fn a_delay_is_served_in_full_and_only_in_its_direction() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = dial(&proxy).await;
    exchange(&mut stream, b"warm").await;
    proxy.set(Direction::ToServer, Mode::Delay(Duration::from_millis(150)));
    let start = Instant::now();
    exchange(&mut stream, b"late").await;
    assert!(start.elapsed() >= Duration::from_millis(150), "too early: {:?}", start.elapsed());
    proxy.set_both(Mode::Pass);
    assert_eq!(exchange(&mut stream, b"fast").await, b"fast");
}

#[tokio::test]
async fn a_reset_is_felt_as_one_and_refusal_lasts_until_it_is_lifted() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = dial(&proxy).await;
    exchange(&mut stream, b"warm").await;
    proxy.refuse(true);
    proxy.reset();
    let error = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("in time").expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut refused = dial(&proxy).await;
    let outcome = timeout(PATIENCE, refused.read(&mut [0; 1])).await.expect("in time");
    assert!(outcome.is_err(), "a refused connection said {outcome:?}");
    proxy.refuse(false);
    assert_eq!(exchange(&mut dial(&proxy).await, b"again").await, b"again");
}

#[tokio::test]
async fn a_half_close_ends_one_direction_and_leaves_the_other() {
    let proxy = Proxy::start(echo().await).await;
    let mut stream = dial(&proxy).await;
    exchange(&mut stream, b"warm").await;
    proxy.half_close(Direction::ToServer);
    // The server saw the end and said so, in the direction that is left.
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("in time").expect("an orderly end");
    assert_eq!(rest, b"bye");
}

#[tokio::test]
async fn a_redis_with_an_append_only_file_survives_a_kill() {
    let options = RedisOptions { persistence: Persistence::Always, ..RedisOptions::default() };
    let mut server = RedisServer::start_with(options).await;
    let () = server.connection().await.set("kept", 1).await.expect("SET is answered");
    let before = server.address();
    server.kill();
    server.restart().await;
    assert_eq!(server.address(), before);
    let kept: Option<u8> = server.connection().await.get("kept").await.expect("GET is answered");
    assert_eq!(kept, Some(1));
    assert_eq!(server.keys_without_expiry().await, [("kept".to_owned(), "string".to_owned())]);
}
