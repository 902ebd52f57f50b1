//! The suite's own words: short ways to say what every test says.

use std::fmt::Display;
use std::time::Duration;

use postrider::protocol::{Channel, Device, Epoch, MessageId, NodeId, Position};
use postrider::store::{
    Ack, Append, Appended, ChannelInfo, Error, Gap, GapReason, Idempotency, Join, NodeInfo, Page, Start,
    Store,
};

/// Long enough that nothing expires within a test.
pub(crate) const LONG_MS: u64 = 600_000;
/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn channel(name: &str) -> Channel {
    Channel::user(name).expect("valid name")
}

pub(crate) fn device(name: &str) -> Device {
    name.parse().expect("valid device")
}

/// A message with a fresh id; change what matters by struct update.
pub(crate) fn message(channel: &Channel, data: impl Display) -> Append {
    Append {
        id: MessageId::generate(),
        channel: channel.clone(),
        data: data.to_string().into(),
        ttl_ms: LONG_MS,
        collapse_key: None,
        idempotency: None,
        trace: None,
    }
}

/// An idempotency key; `body` stands for the request's body.
pub(crate) fn idempotency(key: u8, body: u8) -> Option<Idempotency> {
    Some(Idempotency { key: [key; 16], fingerprint: [body; 8] })
}

pub(crate) async fn push(store: &dyn Store, channel: &Channel, data: impl Display) -> Appended {
    store.append(message(channel, data)).await.expect("appended")
}

/// Pushes `1`, `2`, … `count`; returns the epoch.
pub(crate) async fn push_many(store: &dyn Store, channel: &Channel, count: u64) -> Epoch {
    let appends = (1..=count).map(|n| message(channel, n)).collect();
    let results = store.append_batch(appends).await;
    let answers: Vec<_> = results.into_iter().map(|result| result.expect("appended")).collect();
    answers[0].position.expect("durable").epoch
}

pub(crate) async fn read(store: &dyn Store, channel: &Channel, start: Start) -> Page {
    store.read(channel, &start, 10_000).await.expect("read")
}

/// Reads behind `epoch.seq`.
pub(crate) async fn read_after(store: &dyn Store, channel: &Channel, epoch: Epoch, seq: u64) -> Page {
    read(store, channel, Start::After(Position::new(epoch, seq))).await
}

/// The sequence numbers of a page.
pub(crate) fn seqs(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|message| message.position.expect("durable").seq).collect()
}

/// The payloads of a page.
pub(crate) fn texts(page: &Page) -> Vec<String> {
    page.messages.iter().map(|message| String::from_utf8_lossy(&message.data).into_owned()).collect()
}

pub(crate) fn gap(from: Option<Position>, to: Option<Position>, reason: GapReason) -> Option<Gap> {
    Some(Gap { from, to, reason })
}

pub(crate) fn received(channel: &Channel, device: Option<&Device>, epoch: Epoch, seq: u64) -> Ack {
    Ack::Received { channel: channel.clone(), device: device.cloned(), position: Position::new(epoch, seq) }
}

pub(crate) fn join(node: NodeId, channel: &Channel, generation: u64) -> Join {
    Join { node, channel: channel.clone(), generation, sessions: 1, start: Start::Now, limit: 100 }
}

pub(crate) fn node_info() -> NodeInfo {
    NodeInfo {
        address: "127.0.0.1:8080".into(),
        version: "0.1.0".into(),
        started_at_ms: 1,
        sessions: 0,
        draining: false,
    }
}

pub(crate) async fn enrolled(store: &dyn Store) -> NodeId {
    let node = NodeId::generate();
    store.enrol(node, &node_info()).await.expect("enrolled");
    node
}

/// What is known of a channel, once the ledger's sum was checked.
pub(crate) async fn inspect(store: &dyn Store, channel: &Channel) -> ChannelInfo {
    let info = store.inspect(channel).await.expect("inspected");
    assert_eq!(
        i64::try_from(info.waiting_counted).expect("small"),
        info.ledger.waiting(),
        "accepted = received + waiting + expired + collapsed + dropped: {info:?}"
    );
    info
}

/// The store's clock in milliseconds.
pub(crate) async fn clock_ms(store: &dyn Store) -> u64 {
    let channel: Channel = "topic:clock".parse().expect("valid channel");
    let tick = Append { ttl_ms: 0, ..message(&channel, 0) };
    store.append(tick).await.expect("appended").accepted_at_us / 1_000
}

/// Waits until the store's clock shows more than `ms`.
pub(crate) async fn clock_passes(store: &dyn Store, ms: u64) {
    until("the store's clock to go on", async || (clock_ms(store).await > ms).then_some(())).await;
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Waits until the store answers again after a restart.
pub(crate) async fn until_reachable(store: &dyn Store) {
    let channel = channel("nobody");
    until("the store to be back", async || match store.read(&channel, &Start::Now, 1).await {
        Ok(_) => Some(()),
        Err(error) if error.is_transient() => None,
        Err(Error::Refused { .. }) => None,
        Err(error) => panic!("unexpected: {error}"),
    })
    .await;
}
