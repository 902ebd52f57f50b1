//! A client of server-sent events that remembers everything it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{PATIENCE, until};

/// An event stream about to be asked for.
#[derive(Debug, Clone)]
pub struct Listen {
    address: SocketAddr,
    query: Vec<String>,
    headers: Vec<String>,
    receive_buffer: Option<u32>,
}

/// One event that was dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its type.
    pub kind: String,
    /// The last id there was when it came.
    pub id: String,
    /// Its data.
    pub data: String,
}

impl Event {
    /// Its data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {}", self.data))
    }
}

impl Listen {
    /// A client with its token in a cookie.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self::anonymous(address).header("cookie", &format!("token={token}"))
    }

    /// A client without a token.
    pub fn anonymous(address: SocketAddr) -> Self {
        Self { address, query: Vec::new(), headers: Vec::new(), receive_buffer: None }
    }

    /// Another address: that of a proxy.
    pub fn through(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// A part of the query.
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
        self.headers.push(format!("{name}: {value}\r\n"));
        self
    }

    /// What a browser sends that reconnects.
    pub fn behind(self, id: &str) -> Self {
        self.header("last-event-id", id)
    }

    /// Lets the kernel take in only little that is not read.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The request as it is on the wire.
    pub fn request(&self) -> String {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query.join("&")) };
        let headers = self.headers.concat();
        format!(
            "GET /v1/events{query} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n{headers}\r\n",
            self.address
        )
    }

    /// Connects and waits for the head of the answer, whatever it is.
    pub async fn connect(self) -> EventStream {
        self.try_connect().await.expect("the node answers")
    }

    /// The same with a node that may be gone.
    pub async fn try_connect(self) -> std::io::Result<EventStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let mut stream = socket.connect(self.address).await?;
        stream.write_all(self.request().as_bytes()).await?;
        EventStream::over(stream).await
    }

    /// Connects and waits for `hello`.
    pub async fn greeted(self) -> EventStream {
        let stream = self.connect().await;
        stream.wait_event("hello", PATIENCE).await;
        stream
    }
}

#[derive(Debug, Default)]
struct Record {
    events: Vec<Event>,
    comments: usize,
    retry: Option<u64>,
    /// The rest of the answer, when it is no stream.
    body: Vec<u8>,
    ended: bool,
}

/// A stream that was answered.
#[derive(Debug)]
pub struct EventStream {
    head: String,
    record: Arc<Mutex<Record>>,
    reading: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl EventStream {
    async fn over(mut stream: TcpStream) -> std::io::Result<Self> {
        let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
        let end = loop {
            if let Some(at) = text.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read(&mut chunk).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                len => text.extend_from_slice(&chunk[..len]),
            }
        };
        let rest = text.split_off(end);
        let head = String::from_utf8_lossy(&text).to_lowercase();
        let record = Arc::new(Mutex::new(Record::default()));
        let (reading, is_reading) = watch::channel(true);
        let parser = Parser { record: Arc::clone(&record), ..Parser::default() };
        let task = tokio::spawn(read(stream, rest, parser, is_reading));
        Ok(Self { head, record, reading, task })
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| *known == name).map(|(_, value)| value).next()
    }

    fn record<T>(&self, of: impl FnOnce(&Record) -> T) -> T {
        of(&self.record.lock().expect("readers do not panic"))
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Event> {
        self.record(|record| record.events.clone())
    }

    /// The events behind the first so many.
    pub fn events_from(&self, first: usize) -> Vec<Event> {
        self.record(|record| record.events.get(first..).unwrap_or_default().to_vec())
    }

    /// Comments so far.
    pub fn comments(&self) -> usize {
        self.record(|record| record.comments)
    }

    /// The reconnection time that was told.
    pub fn retry(&self) -> Option<u64> {
        self.record(|record| record.retry)
    }

    /// What a browser would send back.
    pub fn last_id(&self) -> String {
        self.events().last().map(|event| event.id.clone()).unwrap_or_default()
    }

    /// The payloads of all messages so far.
    pub fn payloads(&self) -> Vec<Value> {
        let messages = self.events().into_iter().filter(|event| event.kind == "message");
        messages.map(|event| event.json()["data"].clone()).collect()
    }

    /// Whether the stream has ended.
    pub fn is_over(&self) -> bool {
        self.record(|record| record.ended)
    }

    /// The first event of a type.
    pub async fn wait_event(&self, kind: &str, within: Duration) -> Event {
        until(within, &format!("the event '{kind}' comes"), async || {
            self.events().into_iter().find(|event| event.kind == kind)
        })
        .await
    }

    /// Waits for so many messages; all payloads.
    pub async fn wait_messages(&self, count: usize) -> Vec<Value> {
        until(PATIENCE, &format!("a stream has {count} messages"), async || {
            let payloads = self.payloads();
            assert!(payloads.len() >= count || !self.is_over(), "it ended after {:?}", self.events());
            (payloads.len() >= count).then_some(payloads)
        })
        .await
    }

    /// Waits for the end of the answer; what it was, when it is no stream.
    pub async fn wait_end(&self) -> String {
        until(PATIENCE, "the stream ends", async || self.is_over().then_some(())).await;
        self.record(|record| String::from_utf8_lossy(&record.body).into_owned())
    }

    /// Stops reading: a client that hangs.
    pub fn stop_reading(&self) {
        self.reading.send_replace(false);
    }

    /// Reads on.
    pub fn go_on_reading(&self) {
        self.reading.send_replace(true);
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(mut stream: TcpStream, rest: Vec<u8>, mut parser: Parser, mut reading: watch::Receiver<bool>) {
    parser.take(&rest);
    let mut chunk = vec![0; 16 * 1024];
    loop {
        if reading.wait_for(|reading| *reading).await.is_err() {
            return;
        }
        tokio::select! {
            read = stream.read(&mut chunk) => match read {
                Ok(0) | Err(_) => break,
                Ok(len) => parser.take(&chunk[..len]),
            },
            changed = reading.changed() => if changed.is_err() { return },
        }
    }
    parser.record.lock().expect("readers do not panic").ended = true;
}

/// The standard's parser, of streams whose lines end in a line feed.
#[derive(Default)]
struct Parser {
    record: Arc<Mutex<Record>>,
    line: Vec<u8>,
    kind: String,
    data: Vec<String>,
    id: String,
}

impl Parser {
    fn take(&mut self, bytes: &[u8]) {
        self.record.lock().expect("readers do not panic").body.extend_from_slice(bytes);
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut self.line)).expect("UTF-8");
            self.take_line(&line);
        }
    }

    fn take_line(&mut self, line: &str) {
        let mut record = self.record.lock().expect("readers do not panic");
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let kind = std::mem::take(&mut self.kind);
                let data = std::mem::take(&mut self.data);
                if !data.is_empty() {
                    let kind = if kind.is_empty() { "message".to_owned() } else { kind };
                    record.events.push(Event { kind, id: self.id.clone(), data: data.join("\n") });
                }
            }
            "" => record.comments += 1,
            "event" => value.clone_into(&mut self.kind),
            "data" => self.data.push(value.to_owned()),
            "id" => value.clone_into(&mut self.id),
            "retry" => record.retry = value.parse().ok(),
            _ => {}
        }
    }
}
