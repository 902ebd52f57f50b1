//! Delivery over the embedded store: what cannot be seen from outside.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::held::{Held, Live};
use super::order::Accepted;
use super::order::Touched;
use super::*;
use crate::protocol::frame::{Dialect, HelloLimits, Outgoing};
use crate::protocol::{Channel, Epoch, Grant, Message, MessageId, Position, SessionId};
use crate::session::pipe::{Client, Received, pipe};
use crate::session::{self, Hold, Identity, Run, Session, Token};
use crate::store::faulty::{self, Faults};
use crate::store::{EntryId, Join, Limits, Start, Store as _, StreamEntry, memory};

async fn start() -> Delivery {
    start_on(Arc::new(memory::Store::new(Limits::default()))).await
}

pub(super) async fn start_on(store: Arc<dyn Store>) -> Delivery {
    let (metrics, tasks, stop) = (Metrics::new("0", "memory"), TaskTracker::new(), CancellationToken::new());
    Delivery::start(Options::default(), store, info(), metrics, tasks, stop).await.expect("starts")
}

/// A delivery, and how to make its store fail from now on.
pub(super) async fn start_with_faults() -> (Delivery, impl Fn(Faults)) {
    let store = faulty::Store::new(Arc::new(memory::Store::new(Limits::default())), 1, Faults::default());
    (start_on(Arc::new(store.clone())).await, move |faults| store.set(faults))
}

pub(super) fn info() -> NodeInfo {
    NodeInfo::default()
}

pub(super) fn alice() -> Channel {
    Channel::user("alice").expect("valid")
}

/// Alice's message at `seq` of epoch 1, accepted in a distant future.
pub(super) fn message(seq: u64) -> Arc<Outgoing> {
    message_at(Position::new(Epoch::from_bits(1), seq))
}

pub(super) fn message_at(position: Position) -> Arc<Outgoing> {
    Arc::new(Outgoing::new(Message {
        id: MessageId::generate(),
        channel: alice(),
        position: Some(position),
        accepted_at_us: u64::MAX / 2,
        expires_at_ms: u64::MAX,
        data: Bytes::from_static(b"1"),
        trace: None,
        accountable: false,
    }))
}

/// A session of alice's that is attached, its run and its client.
async fn attach(delivery: &Delivery, options: session::Options) -> (Arc<Session>, Run, Client) {
    attach_to(delivery, Arc::new(options), alice(), Start::Now).await
}

/// A session of alice's on one channel.
pub(super) async fn attach_to(
    delivery: &Delivery,
    options: Arc<session::Options>,
    channel: Channel,
    start: Start,
) -> (Arc<Session>, Run, Client) {
    let (near, far) = pipe(1 << 16);
    let (events, metrics) = (delivery.events(), &delivery.inner.metrics);
    let session =
        Session::new(SessionId::generate(), Dialect::Plain, Box::new(near), options, events, metrics);
    let run = session.clone().run(Bytes::new());
    session.identify(Identity { user: alice(), device: None, topics: Grant::default() });
    let opening = Opening {
        session: session.clone(),
        subscriptions: vec![(channel, start)],
        asked: Asked::default(),
        issued_at_ms: None,
        heartbeat: Duration::from_secs(25),
        limits: HelloLimits::default(),
    };
    delivery.open(opening).await.expect("opens");
    (session, run, Client::new(far))
}

/// Ends a session's run when it is dropped, as a task on another thread may
/// at any time.
struct EndsRun(Mutex<Option<Run>>);

impl Hold for EndsRun {}

impl Drop for EndsRun {
    fn drop(&mut self) {
        drop(self.0.lock().expect("no panic while held").take());
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_done_when_its_frames_are_written_and_not_when_it_is_read() {
    let delivery = start().await;
    let (_session, _run, _client) = attach(&delivery, session::Options::default()).await;
    let held = delivery.inner.registry.get(&alice()).expect("held");
    let (mut touched, token): (_, Token) = (Touched::default(), Arc::new(EndsRun(Mutex::new(None))));
    held.accept(&message(1), &token, &mut touched, 8);
    assert_eq!(Arc::strong_count(&token), 2, "the frame that waits holds it as well");
    touched.flush();
    assert_eq!(Arc::strong_count(&token), 1);
}

#[tokio::test]
async fn what_comes_while_the_first_session_reads_is_read_before_it_follows_live() {
    let (held, session, at) =
        (Held::new(alice()), held::tests::session(), |seq| message(seq).message().position);
    held.add(&session, 0, || 1);
    let (mut touched, token): (_, Token) = (Touched::default(), Arc::new(EndsRun(Mutex::new(None))));
    assert_eq!(held.accept(&message(3), &token, &mut touched, 8), Accepted::Early);
    assert_eq!(held.go_live(session.id(), 1, at(2)), Live::ReadOn);
    assert_eq!(held.go_live(session.id(), 1, at(3)), Live::Yes);
    assert_eq!(held.accept(&message(4), &token, &mut touched, 8), Accepted::Shown(1));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_its_channel_is_locked_waits_for_nobody() {
    let delivery = start().await;
    let options = session::Options { outbox_messages_max: 1, ..session::Options::default() };
    let (session, run, _client) = attach(&delivery, options).await;
    let held = delivery.inner.registry.get(&alice()).expect("held");
    let (mut touched, token): (_, Token) = (Touched::default(), Arc::new(EndsRun(Mutex::new(Some(run)))));
    held.accept(&message(1), &token, &mut touched, 8);
    drop(token);
    // The outbox is full: the first is written under the lock, and the run ends meanwhile.
    let token: Token = Arc::new(EndsRun(Mutex::new(None)));
    held.accept(&message(2), &token, &mut touched, 8);
    while delivery.is_attached(session.id()) {
        tokio::task::yield_now().await;
    }
    assert!(held.sessions().is_empty());
}

pub(super) fn kept(channel: &Channel, data: String) -> store::Append {
    store::Append {
        id: MessageId::generate(),
        channel: channel.clone(),
        data: Bytes::from(data),
        ttl_ms: 60_000,
        collapse_key: None,
        idempotency: None,
        trace: None,
    }
}

/// A fill that brought more than an outbox holds closed sessions as slow that
/// had read everything they were given.
#[tokio::test(start_paused = true)]
async fn a_fill_larger_than_an_outbox_closes_nobody_who_reads() {
    let delivery = start().await;
    let options = session::Options { outbox_bytes_max: 20_000, ..session::Options::default() };
    let (session, run, mut client) = attach(&delivery, options).await;
    let run = tokio::spawn(run);
    // Straight into the mailbox, as if every notification were lost.
    for n in 0..60 {
        let append = kept(&alice(), format!("\"{n} {}\"", "x".repeat(5_000)));
        delivery.inner.store.append(append).await.expect("accepted");
    }
    let held = delivery.inner.registry.get(&alice()).expect("held");
    delivery.fill(&held, true);
    for n in 0..60 {
        let Received::Text(text) = client.next().await else { panic!("closed after {n} messages") };
        assert_eq!(text.split(' ').next(), Some(n.to_string().as_str()));
    }
    assert!(!session.is_closing());
    // And it follows live again.
    let last = kept(&alice(), "\"the end\"".into());
    delivery.push(last).await.expect("accepted");
    let Received::Text(text) = client.next().await else { panic!("closed") };
    assert_eq!(text, "the end");
    run.abort();
}

/// Healing would close the rest of it, much later.
#[tokio::test(start_paused = true)]
async fn a_hole_larger_than_a_page_is_filled_at_once() {
    let delivery = start().await;
    let (_session, run, mut client) = attach(&delivery, session::Options::default()).await;
    let run = tokio::spawn(run);
    let messages = 2 * delivery.inner.options.page_messages_max + 1;
    for n in 0..messages {
        delivery.inner.store.append(kept(&alice(), n.to_string())).await.expect("accepted");
    }
    delivery.fill(&delivery.inner.registry.get(&alice()).expect("held"), true);
    let all = async {
        for n in 0..messages {
            assert!(matches!(client.next().await, Received::Text(text) if text == n.to_string()));
        }
    };
    tokio::time::timeout(Duration::from_secs(1), all).await.expect("at once");
    run.abort();
}

/// An entry that is read again because the connection broke under it (nobody
/// knows whether the first answer arrived) brought its ephemeral messages twice.
#[tokio::test(start_paused = true)]
async fn what_is_ephemeral_in_an_entry_that_is_read_again_comes_once() {
    let delivery = start().await;
    let (_session, run, mut client) = attach(&delivery, session::Options::default()).await;
    let run = tokio::spawn(run);
    let payload = crate::protocol::entry::encode([&ephemeral()].into_iter());
    let entry = || StreamEntry { id: EntryId { ms: 1, n: 1 }, payload: payload.clone() };
    delivery.dispatch(vec![entry()], EntryId::default());
    delivery.dispatch(vec![entry()], EntryId { ms: 1, n: 1 });
    delivery.push(kept(&alice(), "\"the end\"".into())).await.expect("accepted");
    assert_eq!(until_the_end(&mut client).await, ["now", "the end"]);
    run.abort();
}

pub(super) fn ephemeral() -> Message {
    Message {
        id: MessageId::generate(),
        channel: alice(),
        position: None,
        accepted_at_us: u64::MAX,
        expires_at_ms: 0,
        data: Bytes::from_static(b"\"now\""),
        trace: None,
        accountable: false,
    }
}

/// Texts, up to one that says "the end".
pub(super) async fn until_the_end(client: &mut Client) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != "the end") {
        let Received::Text(text) = client.next().await else { panic!("closed after {texts:?}") };
        texts.push(text);
    }
    texts
}

/// The connection broke under the entry that an ephemeral message was in. It
/// had arrived; the sender could not know, sent it again, and it came twice.
#[tokio::test(start_paused = true)]
async fn what_is_ephemeral_in_an_entry_that_nobody_confirmed_is_sent_once() {
    let shared = memory::Store::new(Limits::default());
    let network = faulty::Store::new(Arc::new(shared.clone()), 1, Faults::default());
    let (sender, receiver) =
        (start_on(Arc::new(network.clone())).await, start_on(Arc::new(shared.clone())).await);
    let (_session, run, mut client) = attach(&receiver, session::Options::default()).await;
    let run = tokio::spawn(run);
    for (ttl_ms, data) in [(0, "\"now\""), (60_000, "\"later\"")] {
        sender.push(store::Append { ttl_ms, ..kept(&alice(), data.into()) }).await.expect("accepted");
    }
    // Both are on their way in one entry: nothing has waited since.
    network.set(Faults { unanswered: 1.0, ..Faults::default() });
    tokio::time::sleep(Duration::from_secs(3)).await;
    network.set(Faults::default());
    tokio::time::sleep(Duration::from_secs(3)).await;
    sender.push(kept(&alice(), "\"the end\"".into())).await.expect("accepted");
    assert_eq!(until_the_end(&mut client).await, ["now", "later", "the end"]);
    tokio::time::sleep(2 * Options::default().cursor_flush).await;
    let ledger = shared.inspect(&alice()).await.expect("inspected").ledger;
    assert_eq!((ledger.accepted, ledger.received), (3, 3));
    run.abort();
}

/// What a dead node never read is handed on to where its users are now. Where
/// they were before, they had their own copy of what is ephemeral.
#[tokio::test(start_paused = true)]
async fn what_is_ephemeral_in_the_stream_of_a_dead_node_dies_with_it() {
    let store = memory::Store::new(Limits::default());
    let survivor = start_on(Arc::new(store.clone())).await;
    let dead = crate::protocol::NodeId::generate();
    store.enrol(dead, &info()).await.expect("enrolled");
    let join = Join { node: dead, channel: alice(), generation: 1, sessions: 1, start: Start::Now, limit: 1 };
    store.join(&join).await.expect("joined");
    let (_session, run, mut client) = attach(&survivor, session::Options::default()).await;
    let run = tokio::spawn(run);
    for (ttl_ms, data) in [(0, "\"now\""), (60_000, "\"later\"")] {
        survivor.push(store::Append { ttl_ms, ..kept(&alice(), data.into()) }).await.expect("accepted");
    }
    let stream_length = async || store.stream_stats(dead).await.expect("answered").length;
    while stream_length().await == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while stream_length().await > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    survivor.push(kept(&alice(), "\"the end\"".into())).await.expect("accepted");
    assert_eq!(until_the_end(&mut client).await, ["now", "later", "the end"]);
    // It was the dead node that had to account for it.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let ledger = store.inspect(&alice()).await.expect("inspected").ledger;
    assert_eq!((ledger.accepted, ledger.dropped.unreported), (3, 1));
    run.abort();
}

/// Both hold the channel, so an heir who did not know better would hand each what
/// it found at the other.
#[tokio::test(start_paused = true)]
async fn what_the_dead_left_is_not_handed_to_others_that_died_with_them() {
    let store = memory::Store::new(Limits::default());
    let survivor = start_on(Arc::new(store.clone())).await;
    let dead = [crate::protocol::NodeId::generate(), crate::protocol::NodeId::generate()];
    for node in dead {
        store.enrol(node, &info()).await.expect("enrolled");
        let join = Join { node, channel: alice(), generation: 1, sessions: 1, start: Start::Now, limit: 1 };
        store.join(&join).await.expect("joined");
    }
    let (_session, run, mut client) = attach(&survivor, session::Options::default()).await;
    let run = tokio::spawn(run);
    survivor.push(kept(&alice(), "\"once\"".into())).await.expect("accepted");
    while !store.routes(&alice()).await.expect("answered").iter().all(|route| !dead.contains(&route.node)) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One from each, to the survivor.
    let page = survivor.inner.metrics.render();
    assert!(page.lines().any(|line| line == "postrider_reroutes_total 2"), "{page}");
    survivor.push(kept(&alice(), "\"the end\"".into())).await.expect("accepted");
    assert_eq!(until_the_end(&mut client).await, ["once", "the end"]);
    run.abort();
}
