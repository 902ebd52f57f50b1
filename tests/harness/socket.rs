//! A WebSocket client that remembers everything it was sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Response};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{PATIENCE, eventually, until};

/// How the other side ended the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The close code; none when the connection just broke.
    pub code: Option<u16>,
    /// The reason given.
    pub reason: String,
}

/// An upgrade that was answered with something else.
#[derive(Debug)]
pub enum Refused {
    /// By an HTTP answer.
    Status(u16, Box<Response<Option<Vec<u8>>>>),
    /// By no HTTP answer at all.
    Lost(String),
}

/// A connection about to be made.
#[derive(Debug, Clone)]
pub struct Dial {
    address: SocketAddr,
    path: String,
    query: Vec<String>,
    headers: Vec<(String, String)>,
    receive_buffer: Option<u32>,
    from: Option<IpAddr>,
    acknowledges: bool,
}

impl Dial {
    /// A client that offers no subprotocol; its token comes in a cookie.
    pub fn plain(address: SocketAddr, token: &str) -> Self {
        Self::anonymous(address).header("cookie", &format!("token={token}"))
    }

    /// A client that asks for envelopes; its token comes in a cookie.
    pub fn envelope(address: SocketAddr, token: &str) -> Self {
        Self::plain(address, token).header("sec-websocket-protocol", postrider::protocol::frame::SUBPROTOCOL)
    }

    /// A client without a token.
    pub fn anonymous(address: SocketAddr) -> Self {
        Self {
            address,
            path: "/v1/ws".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            receive_buffer: None,
            from: None,
            acknowledges: false,
        }
    }

    /// Another path than `/v1/ws`.
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Another address: that of a proxy.
    pub fn through(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// A part of the query, such as `from=now`.
    pub fn query(mut self, pair: &str) -> Self {
        self.query.push(pair.to_owned());
        self
    }

    /// Names the device.
    pub fn device(self, name: &str) -> Self {
        self.query(&format!("device={name}"))
    }

    /// A header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets the kernel take in only little that is not read.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Comes from this address of the machine's own.
    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// Acknowledges every envelope as soon as it is there.
    pub fn acknowledging(mut self) -> Self {
        self.acknowledges = true;
        self
    }

    /// Connects.
    ///
    /// # Panics
    /// When the upgrade is refused.
    pub async fn connect(self) -> Socket {
        let path = self.path.clone();
        self.try_connect().await.unwrap_or_else(|refused| panic!("{path} was refused: {refused:?}"))
    }

    /// Connects, or says how that was refused.
    pub async fn try_connect(self) -> Result<Socket, Refused> {
        let acknowledges = self.acknowledges;
        Ok(Socket::over(self.open().await?, acknowledges))
    }

    /// Connects and leaves the reading to the caller.
    pub async fn open(self) -> Result<WebSocketStream<TcpStream>, Refused> {
        let lost = |error: &dyn std::fmt::Display| Refused::Lost(error.to_string());
        let socket = TcpSocket::new_v4().map_err(|error| lost(&error))?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).map_err(|error| lost(&error))?;
        }
        if let Some(address) = self.from {
            socket.bind(SocketAddr::new(address, 0)).map_err(|error| lost(&error))?;
        }
        let stream = socket.connect(self.address).await.map_err(|error| lost(&error))?;
        stream.set_nodelay(true).map_err(|error| lost(&error))?;
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query.join("&")) };
        let mut request = format!("ws://{}{}{query}", self.address, self.path)
            .into_client_request()
            .expect("tests ask for valid addresses");
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().expect("tests send valid header names");
            let value: HeaderValue = value.parse().expect("tests send valid header values");
            request.headers_mut().append(name, value);
        }
        let handshake = tokio_tungstenite::client_async(request, stream);
        match tokio::time::timeout(PATIENCE, handshake).await {
            Ok(Ok((stream, _))) => Ok(stream),
            Ok(Err(Error::Http(response))) => Err(Refused::Status(response.status().as_u16(), response)),
            Ok(Err(error)) => Err(lost(&error)),
            Err(_) => Err(lost(&"no answer to the upgrade")),
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    texts: Vec<String>,
    pings: usize,
    closed: Option<Closed>,
}

enum Order {
    Send(Message),
    Close,
}

/// A connected client.
#[derive(Debug)]
pub struct Socket {
    record: Arc<Mutex<Record>>,
    orders: mpsc::UnboundedSender<Order>,
    reading: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Socket {
    fn over(stream: WebSocketStream<TcpStream>, acknowledges: bool) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let (orders, received_orders) = mpsc::unbounded_channel();
        let (reading, is_reading) = watch::channel(true);
        let client = Client { stream, record: Arc::clone(&record), acknowledges };
        let task = tokio::spawn(client.run(received_orders, is_reading));
        Self { record, orders, reading, task }
    }

    fn look<T>(&self, at: impl FnOnce(&Record) -> T) -> T {
        at(&self.record.lock().expect("the client does not panic"))
    }

    /// Every text received so far, in order.
    pub fn texts(&self) -> Vec<String> {
        self.look(|record| record.texts.clone())
    }

    /// How many texts were received so far.
    pub fn count(&self) -> usize {
        self.look(|record| record.texts.len())
    }

    /// How many pings were received so far.
    pub fn pings(&self) -> usize {
        self.look(|record| record.pings)
    }

    /// How the connection ended, if it did.
    pub fn closed(&self) -> Option<Closed> {
        self.look(|record| record.closed.clone())
    }

    /// Waits for at least so many texts, and returns all.
    pub async fn wait_texts(&self, count: usize) -> Vec<String> {
        self.wait_texts_within(count, PATIENCE).await
    }

    /// The same with a time of its own.
    pub async fn wait_texts_within(&self, count: usize, within: Duration) -> Vec<String> {
        let what = format!("a client has {count} texts");
        eventually(within, &what, async || self.count() >= count || self.closed().is_some()).await;
        let texts = self.texts();
        assert!(texts.len() >= count, "{:?} after {} texts of {count}", self.closed(), texts.len());
        texts
    }

    /// Waits for the other side to end the connection.
    pub async fn wait_closed(&self, within: Duration) -> Closed {
        until(within, "a client's connection is closed", async || self.closed()).await
    }

    /// Sends a text.
    pub fn send(&self, text: impl Into<String>) {
        self.order(Order::Send(Message::text(text.into())));
    }

    /// Sends an envelope.
    pub fn send_json(&self, frame: &Value) {
        self.send(frame.to_string());
    }

    fn order(&self, order: Order) {
        // After the connection ended there is nobody to send to: its end is on record.
        drop(self.orders.send(order));
    }

    /// Stops reading, pongs included: a device that hangs.
    pub fn stop_reading(&self) {
        self.reading.send_replace(false);
    }

    /// Reads on.
    pub fn go_on_reading(&self) {
        self.reading.send_replace(true);
    }

    /// Closes in order and waits for the answer.
    pub async fn close(self) -> Vec<String> {
        self.order(Order::Close);
        self.wait_closed(PATIENCE).await;
        self.texts()
    }

    /// Drops the connection without a word, and returns what had come.
    pub async fn cut(mut self) -> Vec<String> {
        self.task.abort();
        // Only then is the socket surely gone.
        drop((&mut self.task).await);
        self.texts()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Client {
    stream: WebSocketStream<TcpStream>,
    record: Arc<Mutex<Record>>,
    acknowledges: bool,
}

impl Client {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, mut reading: watch::Receiver<bool>) {
        loop {
            let is_reading = *reading.borrow_and_update();
            tokio::select! {
                incoming = self.stream.next(), if is_reading => {
                    if let Some(closed) = self.take(incoming).await {
                        self.record.lock().expect("readers do not panic").closed = Some(closed);
                        return;
                    }
                }
                order = orders.recv() => {
                    let sent = match order {
                        Some(Order::Send(message)) => self.stream.send(message).await,
                        Some(Order::Close) => self.stream.close(None).await,
                        None => return,
                    };
                    // What failed to go out fails to come in as well, and is recorded there.
                    drop(sent);
                }
                changed = reading.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Records what came; returns how the connection ended once it has.
    async fn take(&mut self, incoming: Option<Result<Message, Error>>) -> Option<Closed> {
        match incoming {
            Some(Ok(Message::Text(text))) => {
                let answer = self.acknowledges.then(|| answer_to(&text)).flatten();
                self.record.lock().expect("readers do not panic").texts.push(text.to_string());
                if let Some(answer) = answer {
                    drop(self.stream.send(Message::text(answer.to_string())).await);
                }
                None
            }
            Some(Ok(Message::Ping(_))) => {
                self.record.lock().expect("readers do not panic").pings += 1;
                // The library has queued the pong; it goes out with a flush.
                drop(self.stream.flush().now_or_never());
                None
            }
            Some(Ok(Message::Close(frame))) => {
                drop(self.stream.flush().await);
                let (code, reason) = frame
                    .map_or((1005, String::new()), |frame| (u16::from(frame.code), frame.reason.to_string()));
                Some(Closed { code: Some(code), reason })
            }
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(Closed { code: None, reason: error.to_string() }),
            None => Some(Closed { code: None, reason: "end of stream".to_owned() }),
        }
    }
}

fn answer_to(text: &str) -> Option<Value> {
    let frame: Value = serde_json::from_str(text).ok()?;
    match frame.get("type")?.as_str()? {
        "ping" => Some(json!({"type": "pong"})),
        "message" => {
            let (channel, position) = (frame.get("channel")?.as_str()?, frame.get("pos")?);
            Some(json!({"type": "ack", "positions": {channel: position}}))
        }
        _ => None,
    }
}
