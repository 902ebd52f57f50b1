//! One connection of a listener, from handshake to close.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes, handshake::client::Request};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use super::progress::{Event, Progress, View};
use crate::cli::api::refusal;
use crate::cli::output::{Failure, Lines, say};
use crate::config::Secret;
use crate::protocol::frame::SUBPROTOCOL;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// By how much a heartbeat may be late.
const HEARTBEAT_SLACK: Duration = Duration::from_secs(10);
/// An ack waits this long for more to acknowledge.
const ACK_DELAY: Duration = Duration::from_millis(250);
/// No message of ours is larger.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Everything asked for was received, or the user has had enough.
    Done,
    /// The server closed.
    Closed(u16, String),
    /// The node asked to be left, and was.
    Moved,
    /// The connection broke.
    Lost(String),
    /// It never came to be.
    Unreachable(String),
    /// The server refused the handshake.
    Refused {
        /// Whether the same handshake can succeed later.
        transient: bool,
        /// What to tell.
        text: String,
    },
}

/// Where and as whom to connect.
pub(super) struct Door<'a> {
    /// The WebSocket address, query included.
    pub(super) url: Url,
    pub(super) token: &'a Secret,
    pub(super) view: View,
    /// Send a resume frame first.
    pub(super) resume: bool,
}

/// What outlives a connection.
pub(super) struct Listener<'a, 'out> {
    pub(super) progress: &'a mut Progress,
    pub(super) lines: &'a mut Lines<'out>,
    /// Messages still asked for; none: without end.
    pub(super) remaining: &'a mut Option<u64>,
    /// Whether any connection came to be.
    pub(super) connected: &'a mut bool,
}

type Socket = WebSocketStream<TcpStream>;

/// Connects, prints what comes until it ends or `stop` does.
pub(super) async fn run(
    door: &Door<'_>,
    listener: &mut Listener<'_, '_>,
    stop: impl Future<Output = ()>,
) -> Result<End, Failure> {
    tokio::pin!(stop);
    let mut socket = tokio::select! {
        opened = open(door) => match opened {
            Ok(socket) => socket,
            Err(end) => return Ok(end),
        },
        () = &mut stop => return Ok(End::Done),
    };
    *listener.connected = true;
    if door.view == View::Plain {
        say("connected");
    }
    let end = converse(door, &mut socket, listener, stop).await;
    if matches!(end, Ok(End::Done | End::Moved) | Err(Failure::Closed)) {
        // What was printed is acknowledged, so that nobody gets it again.
        leave(&mut socket, listener.progress.ack()).await;
    }
    end
}

async fn open(door: &Door<'_>) -> Result<Socket, End> {
    let unreachable = |why: String| End::Unreachable(format!("failed to reach {}: {why}", origin(&door.url)));
    let host = door.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = door.url.port_or_known_default().unwrap_or(80);
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), port))).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("it did not answer in time".to_owned())),
    };
    // Acks are small, and matter soon; without it they are only later.
    let _ = stream.set_nodelay(true);
    let request = request(door).map_err(|text| End::Refused { transient: false, text })?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .read_buffer_size(16 << 10);
    match timeout(HANDSHAKE_TIMEOUT, client_async_with_config(request, stream, Some(config))).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(WsError::Http(response))) => {
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let status = reqwest::StatusCode::from_u16(response.status().as_u16()).unwrap_or_default();
            let body = response.body().as_deref().unwrap_or_default();
            Err(End::Refused {
                transient: status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS,
                text: refusal(status, body, retry_after),
            })
        }
        Ok(Err(WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)))) => Err(End::Refused {
            transient: false,
            text: format!("{} does not speak {SUBPROTOCOL}: is it a postrider node?", origin(&door.url)),
        }),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable("it did not answer the handshake in time".to_owned())),
    }
}

/// The address without its query, which may hold the token.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn request(door: &Door<'_>) -> Result<Request, String> {
    let mut url = door.url.clone();
    let bearer = HeaderValue::from_str(&format!("Bearer {}", door.token.expose()));
    if bearer.is_err() {
        // A name that headers cannot hold.
        url.query_pairs_mut().append_pair("token", door.token.expose());
    }
    let mut request = url.as_str().into_client_request().map_err(|error| error.to_string())?;
    if let Ok(mut bearer) = bearer {
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    if door.view != View::Plain {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(request)
}

async fn converse(
    door: &Door<'_>,
    socket: &mut Socket,
    listener: &mut Listener<'_, '_>,
    mut stop: impl Future<Output = ()> + Unpin,
) -> Result<End, Failure> {
    if door.resume
        && let Err(error) = socket.send(Message::text(listener.progress.resume())).await
    {
        return Ok(End::Lost(error.to_string()));
    }
    // Until the hello says how often the server is heard.
    let mut patience = (door.view != View::Plain).then_some(HANDSHAKE_TIMEOUT);
    let mut heard = Instant::now();
    let mut leave_at: Option<Instant> = None;
    let mut ack_at: Option<Instant> = None;
    loop {
        let frame = tokio::select! {
            biased;
            () = &mut stop => return Ok(End::Done),
            () = at(ack_at) => {
                ack_at = None;
                if let Some(ack) = listener.progress.ack()
                    && let Err(error) = socket.send(Message::text(ack)).await
                {
                    return Ok(End::Lost(error.to_string()));
                }
                continue;
            }
            frame = socket.next() => frame,
            () = at(leave_at) => return Ok(End::Moved),
            () = at(patience.map(|patience| heard + patience)) => {
                return Ok(End::Lost("the server has gone silent".to_owned()));
            }
        };
        heard = Instant::now();
        let text = match received(frame) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(end) => return Ok(end),
        };
        let event = listener.progress.take(&text);
        match event.map_err(|error| Failure::Failed(format!("cannot read a frame of the server: {error}")))? {
            Event::Ready { text, heartbeat } => {
                say(&text);
                patience = Some(heartbeat + HEARTBEAT_SLACK);
            }
            Event::Message(line) => {
                listener.lines.put(&line)?;
                if counted(listener.remaining) {
                    return Ok(End::Done);
                }
            }
            Event::Note(line) => listener.lines.put(&line)?,
            Event::Aside(text) => say(&text),
            Event::Ping => {
                if let Err(error) = socket.send(Message::text(r#"{"type":"pong"}"#)).await {
                    return Ok(End::Lost(error.to_string()));
                }
            }
            Event::Drain(after) => leave_at = Some(heard + after),
            Event::Nothing => {}
        }
        if listener.progress.owes_ack() && ack_at.is_none() {
            ack_at = Some(Instant::now() + ACK_DELAY);
        }
    }
}

/// Counts a message; whether it was the last one asked for.
fn counted(remaining: &mut Option<u64>) -> bool {
    match remaining {
        Some(number) => {
            *number = number.saturating_sub(1);
            *number == 0
        }
        None => false,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The text of a frame, or how the connection ended.
fn received(frame: Option<Result<Message, WsError>>) -> Result<Option<Utf8Bytes>, End> {
    match frame {
        Some(Ok(Message::Text(text))) => Ok(Some(text)),
        Some(Ok(Message::Close(Some(frame)))) => {
            Err(End::Closed(frame.code.into(), frame.reason.to_string()))
        }
        Some(Ok(Message::Close(None))) | None => Err(End::Lost("it was closed without a code".to_owned())),
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(End::Lost(error.to_string())),
    }
}

/// Says a last ack and goodbye, and hears the server out for a moment: closing
/// with unread bytes would reset the connection and could lose the ack.
async fn leave(socket: &mut Socket, ack: Option<String>) {
    let goodbye = async {
        if let Some(ack) = ack {
            socket.feed(Message::text(ack)).await?;
        }
        let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
        socket.close(Some(frame)).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<_, WsError>(())
    };
    let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
}
