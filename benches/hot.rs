//! Criterion benches of what every message passes through.

mod rig;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postrider::metrics::Metrics;
use postrider::protocol::frame::{ClientFrame, Dialect, Outgoing};
use postrider::protocol::rest::PushBody;
use postrider::protocol::ws::Decoder;
use postrider::protocol::{Channel, Epoch, Message, MessageId, Position, entry};
use postrider::session::pipe;
use rig::{PAYLOAD, Rig};

/// Messages in the entries that are measured.
const ENTRY_MESSAGES: u64 = 32;

fn message(seq: u64) -> Message {
    Message {
        id: MessageId::generate(),
        channel: Channel::user("user-00042").expect("a name"),
        position: Some(Position::new(Epoch::from_bits(7), seq)),
        accepted_at_us: 1_700_000_000_000_000,
        expires_at_ms: 1_700_003_600_000,
        data: Bytes::from_static(PAYLOAD),
        trace: None,
        accountable: false,
    }
}

fn entries(criterion: &mut Criterion) {
    let messages: Vec<Message> = (1..=ENTRY_MESSAGES).map(message).collect();
    let encoded = entry::encode(messages.iter());
    let mut group = criterion.benchmark_group("entry");
    group.throughput(Throughput::Elements(ENTRY_MESSAGES));
    group.bench_function("encode", |bencher| bencher.iter(|| entry::encode(black_box(&messages).iter())));
    group.bench_function("decode", |bencher| bencher.iter(|| entry::decode(black_box(&encoded).clone())));
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for (name, dialect) in [("plain", Dialect::Plain), ("envelope", Dialect::Envelope)] {
        let message = message(1);
        group.bench_function(name, |bencher| {
            bencher.iter(|| Outgoing::new(black_box(&message).clone()).frame(dialect).len());
        });
    }
    group.finish();
}

fn websocket(criterion: &mut Criterion) {
    let ack = br#"{"type":"ack","positions":{"user:alice":"0000000000000007.42"}}"#;
    let bytes = pipe::frame(0x1, ack);
    let mut group = criterion.benchmark_group("client");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut decoder = Decoder::new(65_536);
    group.bench_function("decode frame", |bencher| {
        bencher.iter(|| decoder.decode(&mut black_box(bytes.as_slice())));
    });
    group.bench_function("parse ack", |bencher| bencher.iter(|| ClientFrame::decode(black_box(ack))));
    group.finish();
}

fn pushes(criterion: &mut Criterion) {
    let data = std::str::from_utf8(PAYLOAD).expect("text");
    let body = format!(r#"{{"to":"user:user-00042","data":{data},"ttl":60}}"#);
    criterion.bench_function("push body", |bencher| {
        bencher.iter(|| serde_json::from_slice::<PushBody>(black_box(body.as_bytes())));
    });
}

fn delivery(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("delivery");
    for (name, users, sessions_each, at_once) in
        [("unicast", 100, 1, 1), ("batch of 100", 100, 1, 100), ("fan-out to 200", 1, 200, 1)]
    {
        let mut rig = runtime.block_on(Rig::start(users, sessions_each));
        group.throughput(Throughput::Elements((at_once * sessions_each) as u64));
        group.bench_function(name, |bencher| bencher.iter(|| runtime.block_on(rig.deliver(at_once))));
    }
    group.finish();
}

/// The page that Prometheus scrapes: a node's numbers are as many whatever it does.
fn metrics_page(criterion: &mut Criterion) {
    let metrics = Metrics::new("0", "redis");
    metrics.sessions.with("plain").set(50_000.0);
    criterion.bench_function("metrics page", |bencher| bencher.iter(|| black_box(&metrics).render().len()));
}

criterion_group!(hot, entries, frames, websocket, pushes, delivery, metrics_page);
criterion_main!(hot);
