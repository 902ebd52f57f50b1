//! Who else talks to a cluster: a webhook's receiver, and a proxy in front.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::harness::PATIENCE;

/// A webhook receiver that takes one request, fails the next, and refuses the third.
pub(super) async fn moody_receiver() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let task = tokio::spawn(async move {
        for n in 0_usize.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let status = ["204 No Content", "500 Internal Server Error", "410 Gone"][n % 3];
            tokio::spawn(async move {
                // The whole of it fits into one read: what matters is the answer.
                let mut request = [0; 16 * 1024];
                drop(stream.read(&mut request).await);
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                drop(stream.write_all(answer.as_bytes()).await);
            });
        }
    });
    (format!("http://{address}/"), task)
}

/// Sends bytes from the address that is trusted as a proxy, and reads until the end.
pub(super) async fn from_the_proxy(node: SocketAddr, bytes: &str) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("all of 127.0.0.0/8 is loopback");
    let mut stream = socket.connect(node).await.expect("the node listens");
    stream.write_all(bytes.as_bytes()).await.expect("the node reads");
    let mut answer = Vec::new();
    // A connection that is refused ends with a reset.
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the node ends it"));
}
