//! The servers.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::protocol::frame::SUBPROTOCOL;

/// A server that answers one request and hands it out as it came.
pub(super) struct Canned {
    pub(super) url: String,
    request: JoinHandle<String>,
}

impl Canned {
    /// `head` is the status and any header lines.
    pub(super) async fn answering(head: &str, body: &str) -> Self {
        let answer =
            format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let (listener, url) = bind().await;
        let request = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let request = read_request(&mut stream).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("written");
            request
        });
        Self { url, request }
    }

    pub(super) async fn request(self) -> String {
        self.request.await.expect("served")
    }
}

/// A listener on a free port, and its address.
pub(super) async fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, url)
}

/// An address at which nobody listens: bound for as long as the process lives,
/// so that nobody else does.
pub(super) fn nowhere() -> String {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    let address = socket.local_addr().expect("bound").as_socket().expect("of the internet");
    std::mem::forget(socket);
    format!("http://{address}")
}

async fn read_request(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(text);
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// One device's connection, seen from the server.
pub(super) struct Peer {
    pub(super) socket: WebSocketStream<TcpStream>,
    /// The handshake's path, query and headers.
    pub(super) handshake: String,
}

impl Peer {
    pub(super) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut handshake = String::new();
        #[expect(clippy::result_large_err, reason = "the library's signature")]
        let socket = accept_hdr_async(stream, |request: &Request, mut response: Response| {
            handshake = format!("{} {:?}", request.uri(), request.headers());
            if request.headers().contains_key("sec-websocket-protocol") {
                let protocol = SUBPROTOCOL.parse().expect("a header value");
                response.headers_mut().insert("sec-websocket-protocol", protocol);
            }
            Ok(response)
        })
        .await
        .expect("a handshake");
        Self { socket, handshake }
    }

    pub(super) async fn send(&mut self, text: &str) {
        use futures_util::SinkExt;
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    /// The next text frame.
    pub(super) async fn receive(&mut self) -> String {
        use futures_util::StreamExt;
        loop {
            match self.socket.next().await.expect("open").expect("a frame") {
                Message::Text(text) => return text.to_string(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Every frame up to the client's close, and the code of that.
    pub(super) async fn until_closed(mut self) -> (Vec<String>, Option<u16>) {
        use futures_util::StreamExt;
        let (mut frames, mut code) = (Vec::new(), None);
        while let Some(Ok(message)) = self.socket.next().await {
            match message {
                Message::Text(text) => frames.push(text.to_string()),
                Message::Close(frame) => code = frame.map(|frame| frame.code.into()),
                _ => {}
            }
        }
        (frames, code)
    }

    pub(super) async fn close(mut self, code: u16, reason: &'static str) {
        use futures_util::StreamExt;
        use tokio_tungstenite::tungstenite::Utf8Bytes;
        use tokio_tungstenite::tungstenite::protocol::CloseFrame;
        let frame = CloseFrame { code: code.into(), reason: Utf8Bytes::from_static(reason) };
        self.socket.close(Some(frame)).await.expect("closing");
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}
