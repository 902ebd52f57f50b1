//! One socket: dialled with a token, and left in order.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use super::event::Trouble;
use crate::protocol::frame::SUBPROTOCOL;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// No message of ours is larger.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A socket that was opened.
pub(super) struct Link {
    socket: WebSocketStream<TcpStream>,
}

impl Link {
    /// Dials an address, query included, and says there what is to be said first.
    pub(super) async fn open(
        url: &Url,
        token: &str,
        plain: bool,
        first: Option<&str>,
    ) -> Result<Self, Trouble> {
        let mut link = Self::shake_hands(url, token, plain).await?;
        if let Some(first) = first {
            link.send(first).await?;
        }
        Ok(link)
    }

    async fn shake_hands(url: &Url, token: &str, plain: bool) -> Result<Self, Trouble> {
        let unreachable =
            |why: String| Trouble::Unreachable(format!("failed to reach {}: {why}", origin(url)));
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable("it did not answer in time".to_owned())),
        };
        // Acks are small, and matter soon; without it they are only later.
        let _ = stream.set_nodelay(true);
        let request = request(url, token, plain).map_err(Trouble::Impossible)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .read_buffer_size(16 << 10);
        match timeout(HANDSHAKE_TIMEOUT, client_async_with_config(request, stream, Some(config))).await {
            Ok(Ok((socket, _))) => Ok(Self { socket }),
            Ok(Err(WsError::Http(response))) => {
                let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                Err(Trouble::Refused {
                    status: response.status().as_u16(),
                    retry_after: retry_after.map(str::to_owned),
                    body: response.into_body().unwrap_or_default(),
                })
            }
            Ok(Err(WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)))) => {
                let text = format!("{} does not speak {SUBPROTOCOL}: is it a postrider node?", origin(url));
                Err(Trouble::Impossible(text))
            }
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable("it did not answer the handshake in time".to_owned())),
        }
    }

    pub(super) async fn send(&mut self, text: &str) -> Result<(), Trouble> {
        self.socket.send(Message::text(text)).await.map_err(|error| Trouble::Lost(error.to_string()))
    }

    /// The next text; nothing for a frame that says nothing to us.
    pub(super) async fn receive(&mut self) -> Result<Option<Utf8Bytes>, Trouble> {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => Ok(Some(text)),
            Some(Ok(Message::Close(Some(frame)))) => {
                Err(Trouble::Closed { code: frame.code.into(), reason: frame.reason.to_string() })
            }
            Some(Ok(Message::Close(None))) | None => {
                Err(Trouble::Lost("it was closed without a code".to_owned()))
            }
            Some(Ok(_)) => Ok(None),
            Some(Err(error)) => Err(Trouble::Lost(error.to_string())),
        }
    }

    /// Says a last ack and goodbye, and hears the server out for a moment: closing
    /// with unread bytes would reset the connection and could lose the ack.
    pub(super) async fn leave(mut self, ack: Option<String>) {
        let goodbye = async {
            if let Some(ack) = ack {
                self.socket.feed(Message::text(ack)).await?;
            }
            let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
            self.socket.close(Some(frame)).await?;
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok::<_, WsError>(())
        };
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}

/// The address without its query, which may hold the token.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn request(url: &Url, token: &str, plain: bool) -> Result<Request, String> {
    let mut url = url.clone();
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
    if bearer.is_err() {
        // A name that headers cannot hold.
        url.query_pairs_mut().append_pair("token", token);
    }
    let mut request = url.as_str().into_client_request().map_err(|error| error.to_string())?;
    if let Ok(mut bearer) = bearer {
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    if !plain {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(request)
}
