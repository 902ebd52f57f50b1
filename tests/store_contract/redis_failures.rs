//! What only a Redis can do to its users: die, stall, forget, fill up, be
//! demoted; and what the store leaves in it.

use std::sync::Arc;
use std::time::Duration;

use postrider::protocol::{NodeId, Position};
use postrider::store::{Ack, Append, Error, GapReason, Join, Limits, Settled, Start, Store, redis};
use tokio::time::Instant;

use crate::redis_server::RedisServer;
use crate::support::*;

pub(crate) const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];
/// Between "at once" and "after a deadline", on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(1_000);

pub(crate) async fn open(server: &RedisServer) -> Arc<redis::Store> {
    open_with(server, Duration::from_secs(2)).await
}

async fn open_with(server: &RedisServer, command_timeout: Duration) -> Arc<redis::Store> {
    let options = redis::Options { url: server.url(), command_timeout, ..Default::default() };
    Arc::new(redis::Store::connect(options, Limits::default()).await.expect("connected"))
}

async fn until_connected(store: &redis::Store) {
    until("a connection", async || store.is_connected().then_some(())).await;
}

async fn until_disconnected(store: &redis::Store) {
    until("the loss to be noticed", async || (!store.is_connected()).then_some(())).await;
}

#[tokio::test]
async fn a_killed_redis_with_its_file_keeps_every_message_and_makes_no_gap() {
    let mut server = RedisServer::start_with(DURABLE);
    let store = open(&server).await;
    let alice = channel("alice");
    let old = push_many(&*store, &alice, 5).await;
    server.crash_and_start();
    until_reachable(&*store).await;
    let new = push(&*store, &alice, 6).await.position.expect("durable");
    assert_eq!(new.seq, 6);
    assert_ne!(new.epoch, old);
    let page = read_after(&*store, &alice, old, 3).await;
    assert_eq!((page.gap, seqs(&page)), (None, vec![4, 5, 6]));
    assert_eq!(inspect(&*store, &alice).await.ledger.accepted, 6);
}

#[tokio::test]
async fn a_flushed_redis_resets_every_position() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let alice = channel("alice");
    let old = push_many(&*store, &alice, 3).await;
    assert_eq!(server.ask("FLUSHALL"), "+OK");
    let given = Position::new(old, 3);
    let page = read(&*store, &alice, Start::After(given)).await;
    assert_eq!((page.head, page.gap), (None, gap(Some(given), None, GapReason::Reset)));
    let new = push(&*store, &alice, "\"new\"").await.position.expect("durable");
    assert_eq!(new.seq, 1);
    assert_ne!(new.epoch, old);
    let page = read(&*store, &alice, Start::After(given)).await;
    let to = Position::new(new.epoch, 0);
    assert_eq!(page.gap, gap(Some(given), Some(to), GapReason::Reset));
    assert_eq!(texts(&page), ["\"new\""]);
}

#[tokio::test]
async fn a_killed_redis_is_noticed_by_an_idle_store_and_found_again() {
    let mut server = RedisServer::start_with(DURABLE);
    let store = open(&server).await;
    let alice = channel("alice");
    push(&*store, &alice, 1).await;
    server.kill();
    until_disconnected(&store).await;
    for _ in 0..3 {
        let asked = Instant::now();
        let refused = store.append(message(&alice, 2)).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    }
    let batch = store.append_batch(vec![message(&alice, 2), message(&alice, 3)]).await;
    assert!(batch.iter().all(|result| matches!(result, Err(Error::Unavailable(_)))), "{batch:?}");
    server.start_again();
    until_connected(&store).await;
    assert_eq!(push(&*store, &alice, 2).await.position.expect("durable").seq, 2);
}

#[tokio::test]
async fn a_stalled_redis_times_out_and_a_retry_makes_no_second_message() {
    let server = RedisServer::start();
    let store = open_with(&server, Duration::from_millis(200)).await;
    let alice = channel("alice");
    push(&*store, &alice, 1).await;
    let attempt = || Append { idempotency: idempotency(1, 1), ..message(&alice, 2) };
    server.signal("STOP");
    let stalled = store.append(attempt()).await;
    assert!(matches!(stalled, Err(Error::Timeout { after_ms: 200, .. })), "{stalled:?}");
    let asked = Instant::now();
    let refused = store.append(attempt()).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(asked.elapsed() < AT_ONCE);
    server.signal("CONT");
    let answer = until("the store to recover", async || store.append(attempt()).await.ok()).await;
    assert_eq!(answer.position.expect("durable").seq, 2);
    assert_eq!(inspect(&*store, &alice).await.ledger.accepted, 2, "what timed out ran late, or never");
}

#[tokio::test]
async fn a_demoted_redis_is_given_up_until_it_is_a_master_again() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let alice = channel("alice");
    push(&*store, &alice, 1).await;
    assert_eq!(server.ask("REPLICAOF 127.0.0.1 1"), "+OK");
    let refused = store.append(message(&alice, 2)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(!store.is_connected());
    let options = redis::Options { url: server.url(), ..Default::default() };
    let error = redis::Store::connect(options, Limits::default()).await.expect_err("refused");
    assert!(error.to_string().contains("replica"), "{error}");
    assert_eq!(server.ask("REPLICAOF NO ONE"), "+OK");
    until_connected(&store).await;
    assert_eq!(push(&*store, &alice, 2).await.position.expect("durable").seq, 2);
}

/// Lets a server follow another one until it has what that has.
async fn follow(replica: &RedisServer, master: &RedisServer) {
    assert_eq!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", master.port())), "+OK");
    let has_all = async || (master.ask("WAIT 1 1000") == ":1").then_some(());
    until("the replica to have what its master has", has_all).await;
}

/// The same process, and its data went back: what it accepted alone is gone.
#[tokio::test]
async fn a_master_that_was_a_replica_in_between_gives_no_position_out_twice() {
    let settings = ["--appendonly", "no", "--repl-diskless-sync-delay", "0"];
    let (server, other) = (RedisServer::start_with(&settings), RedisServer::start_with(&settings));
    let store = open(&server).await;
    let alice = channel("alice");
    let epoch = push_many(&*store, &alice, 3).await;
    follow(&other, &server).await;
    assert_eq!(other.ask("REPLICAOF NO ONE"), "+OK");
    for n in [4, 5] {
        assert_eq!(push(&*store, &alice, n).await.position, Some(Position::new(epoch, n)), "alone");
    }
    follow(&server, &other).await;
    let refused = store.append(message(&alice, 0)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(server.ask("REPLICAOF NO ONE"), "+OK");
    until_connected(&store).await;
    let new = push(&*store, &alice, 6).await.position.expect("durable");
    assert!(new.seq == 4 && new.epoch != epoch, "{new}");
    let page = read_after(&*store, &alice, epoch, 5).await;
    let (from, to) = (Position::new(epoch, 5), Position::new(new.epoch, 3));
    assert_eq!((page.gap, texts(&page)), (gap(Some(from), Some(to), GapReason::Reset), vec!["6".to_owned()]));
}

async fn connection(server: &RedisServer) -> ::redis::aio::MultiplexedConnection {
    let client = ::redis::Client::open(server.url()).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("connected")
}

/// What is noted of the life of the data.
async fn life(server: &RedisServer) -> Vec<u8> {
    let mut connection = connection(server).await;
    ::redis::cmd("GET").arg("postrider:life").query_async(&mut connection).await.expect("answered")
}

/// Nodes that connected before and after would else renew each other's epochs.
#[tokio::test]
async fn all_stores_agree_which_life_the_data_is_in() {
    let settings = ["--appendonly", "no", "--repl-diskless-sync-delay", "0"];
    let (server, other) = (RedisServer::start_with(&settings), RedisServer::start_with(&settings));
    let first = open(&server).await;
    let (alice, node) = (channel("alice"), enrolled(&*first).await);
    let epoch = push_many(&*first, &alice, 3).await;
    // Its first replica gives a master another replication id.
    follow(&other, &server).await;
    let second = open(&server).await;
    assert_eq!(push(&*second, &alice, 4).await.position, Some(Position::new(epoch, 4)));
    // Another life that only the second knows of, until the first one beats.
    assert_eq!(server.ask("SET postrider:life else"), "+OK");
    let third = open(&server).await;
    let renewed = push(&*third, &alice, 5).await.position.expect("durable").epoch;
    assert_ne!(renewed, epoch);
    first.beat(node, &node_info()).await.expect("beaten");
    until_connected(&first).await;
    assert_eq!(push(&*first, &alice, 6).await.position, Some(Position::new(renewed, 6)));
    // Where all is gone, the data is in no other life than before.
    let noted = life(&server).await;
    assert_eq!(server.ask("FLUSHALL"), "+OK");
    let node = enrolled(&*first).await;
    first.beat(node, &node_info()).await.expect("beaten");
    assert!(first.is_connected());
    assert_eq!(life(&server).await, noted);
}

#[tokio::test]
async fn a_full_redis_refuses_pushes_and_nothing_else() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let (alice, bob) = (channel("alice"), channel("bob"));
    let node = enrolled(&*store).await;
    let epoch = push_many(&*store, &alice, 3).await;
    assert_eq!(server.ask("CONFIG SET maxmemory 1"), "+OK");
    let idempotent = Append { idempotency: idempotency(1, 1), ..message(&alice, 4) };
    let ephemeral = Append { ttl_ms: 0, ..message(&alice, 4) };
    for append in [message(&alice, 4), message(&bob, 1), idempotent, ephemeral] {
        let refused = store.append(append).await;
        assert!(matches!(refused, Err(Error::OutOfMemory)), "{refused:?}");
    }
    assert!(!store.beat(node, &node_info()).await.expect("beaten").fenced);
    let joining = Join { start: Start::Oldest, ..join(node, &alice, 1) };
    assert_eq!(seqs(&store.join(&joining).await.expect("joined")), [1, 2, 3]);
    let settled = store.acknowledge(&[received(&alice, Some(&device("phone")), epoch, 2)]).await;
    assert_eq!(settled.expect("acknowledged"), Settled { received: 2, ..Settled::default() });
    store.leave(node, &alice, 2, 0).await.expect("left");
    assert_eq!(inspect(&*store, &alice).await.ledger.accepted, 3, "the refused pushes did nothing");
    assert_eq!(server.ask("CONFIG SET maxmemory 0"), "+OK");
    assert_eq!(push(&*store, &alice, 4).await.position, Some(Position::new(epoch, 4)));
}

#[tokio::test]
async fn a_redis_that_evicts_is_refused_with_the_remedy() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let options = || redis::Options { url: server.url(), ..Default::default() };
    let error = redis::Store::connect(options(), Limits::default()).await.expect_err("refused");
    assert!(matches!(error, redis::ConnectError::Evicts { .. }), "{error:?}");
    assert!(error.to_string().contains("maxmemory-policy noeviction"), "{error}");
    assert_eq!(server.ask("CONFIG SET maxmemory-policy noeviction"), "+OK");
    redis::Store::connect(options(), Limits::default()).await.expect("connected");
}

#[tokio::test]
async fn a_password_is_sent_and_its_absence_explained() {
    let server = RedisServer::start_with(&[
        "--user", "default", "off", "--user", "post", "on", ">s3cret", "~*", "+@all",
    ]);
    let url = server.url().replace("redis://", "redis://post:s3cret@");
    let options = redis::Options { url, ..Default::default() };
    let store = redis::Store::connect(options, Limits::default()).await.expect("connected");
    push(&store, &channel("alice"), 1).await;
    assert!(!format!("{store:?}").contains("s3cret"));
    let url = server.url();
    let error = redis::Store::connect(redis::Options { url, ..Default::default() }, Limits::default()).await;
    let error = error.expect_err("refused").to_string();
    assert!(error.contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_facts_can_still_push() {
    let server = RedisServer::start_with(&["--user", "blind", "on", ">s3cret", "~*", "+@all", "-info"]);
    let url = server.url().replace("redis://", "redis://blind:s3cret@");
    let options = redis::Options { url, ..Default::default() };
    let store = redis::Store::connect(options, Limits::default()).await.expect("connected");
    push_many(&store, &channel("alice"), 2).await;
}

#[tokio::test]
async fn limits_of_nothing_and_without_end_are_survived() {
    let server = RedisServer::start();
    let nothing =
        Limits { idempotency_window_ms: 0, channel_retention_ms: 0, cursors_max: 0, ..Limits::default() };
    let endless = Limits {
        mailbox_messages_max: usize::MAX,
        idempotency_window_ms: u64::MAX,
        channel_retention_ms: u64::MAX,
        heartbeat_ttl_ms: u64::MAX,
        heartbeat_grace_ms: u64::MAX,
        lease_ttl_ms: u64::MAX,
        stream_entries_max: usize::MAX,
        cursors_max: usize::MAX,
    };
    for (prefix, limits, ttl_ms) in [("nothing", nothing, 1_000), ("endless", endless, u64::MAX)] {
        let options = redis::Options { url: server.url(), prefix: prefix.into(), ..Default::default() };
        let store = redis::Store::connect(options, limits).await.expect("connected");
        let alice = channel("alice");
        for n in 1..=3 {
            let append = Append { ttl_ms, idempotency: idempotency(n, n), ..message(&alice, n) };
            let position = store.append(append).await.expect("appended").position.expect("durable");
            assert_eq!(position.seq, u64::from(n), "meta lives as long as the mailbox");
        }
        let node = enrolled(&store).await;
        store.send(node, "1".into()).await.expect("sent");
        assert!(!store.beat(node, &node_info()).await.expect("beaten").fenced);
        assert_eq!(store.orphans(node, usize::MAX).await.expect("read").len(), 1);
        let page = store.read(&alice, &Start::Oldest, usize::MAX).await.expect("read");
        assert_eq!(seqs(&page), [1, 2, 3]);
    }
}

#[tokio::test]
async fn scripts_that_were_flushed_are_loaded_again() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let alice = channel("alice");
    assert_eq!(server.ask("SCRIPT FLUSH"), "+OK");
    let results = store.append_batch(vec![message(&alice, 1), message(&alice, 2)]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(server.ask("SCRIPT FLUSH"), "+OK");
    let joining = Join { start: Start::Oldest, ..join(NodeId::generate(), &alice, 1) };
    assert_eq!(seqs(&store.join(&joining).await.expect("joined")), [1, 2]);
}

#[tokio::test]
async fn a_mailbox_that_somebody_deleted_is_settled_by_the_next_push() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let alice = channel("alice");
    push_many(&*store, &alice, 3).await;
    assert_eq!(server.ask("DEL postrider:b:{user:alice}"), ":1");
    let appended = push(&*store, &alice, 4).await;
    assert_eq!(appended.settled, Settled { expired: 3, ..Settled::default() });
    assert_eq!(seqs(&read(&*store, &alice, Start::Oldest).await), [4]);
    assert_eq!(inspect(&*store, &alice).await.waiting_counted, 1);
}

/// Every key of a server.
async fn keys(server: &RedisServer) -> Vec<String> {
    let mut connection = connection(server).await;
    ::redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("listed")
}

/// A channel that is pushed to now and then never loses the hash that they are in.
#[tokio::test]
async fn collapse_keys_of_a_mailbox_that_expired_as_a_whole_go_with_it() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let alice = channel("alice");
    for n in 0..3 {
        let append =
            Append { ttl_ms: 50, collapse_key: Some(format!("order-{n}").into()), ..message(&alice, n) };
        store.append(append).await.expect("appended");
        assert_eq!(server.ask("HLEN postrider:k:{user:alice}"), ":1", "push {n}");
        let is_gone = async || (server.ask("EXISTS postrider:b:{user:alice}") == ":0").then_some(());
        until("the mailbox to expire", is_gone).await;
    }
    assert_eq!(inspect(&*store, &alice).await.ledger.expired, 3);
    assert_eq!(server.ask("EXISTS postrider:k:{user:alice}"), ":0");
}

/// The retention of the channel is short, that of a directory's line is a day.
#[tokio::test]
async fn a_line_that_is_written_again_keeps_its_channel() {
    let server = RedisServer::start();
    let options = redis::Options { url: server.url(), ..Default::default() };
    let limits = Limits { channel_retention_ms: 60_000, ..Limits::default() };
    let store = redis::Store::connect(options, limits).await.expect("connected");
    let node = enrolled(&store).await;
    push(&store, &channel("known"), 1).await;
    for name in ["known", "unknown"] {
        let start = Start::Cursor(Some(device("phone")));
        store.join(&Join { start, ..join(node, &channel(name), 1) }).await.expect("joined");
        let meta = format!("postrider:m:{{user:{name}}}");
        assert_eq!(server.ask(&format!("PEXPIRE {meta} 30000")), ":1");
        let cursors = format!("postrider:c:{{user:{name}}}");
        assert_eq!(server.ask(&format!("PEXPIRE {cursors} 30000")), ":1");
        store.leave(node, &channel(name), 2, 1).await.expect("written");
        for key in [meta, cursors] {
            let left_ms: u64 = server.ask(&format!("PTTL {key}"))[1..].parse().expect("a number");
            assert!(left_ms > 50_000, "{key} is forgotten in {left_ms} ms");
        }
    }
}

#[tokio::test]
async fn every_key_expires_but_the_registry_and_the_streams_of_nodes() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let alice = channel("alice");
    let node = enrolled(&*store).await;
    store.join(&join(node, &channel("silent"), 1)).await.expect("joined");
    store.join(&join(node, &alice, 1)).await.expect("joined");
    for n in 0..4 {
        let ttl_ms = if n % 2 == 0 { LONG_MS } else { LONG_MS / 2 };
        let append = Append { ttl_ms, collapse_key: Some("k".into()), ..message(&alice, n) };
        store.append(append).await.expect("appended");
        store
            .append(Append { ttl_ms, idempotency: idempotency(n, n), ..message(&alice, n) })
            .await
            .expect("appended");
    }
    store
        .append(Append { ttl_ms: 0, idempotency: idempotency(9, 9), ..message(&alice, 0) })
        .await
        .expect("appended");
    store.append(Append { ttl_ms: 0, ..message(&channel("fleeting"), 0) }).await.expect("appended");
    let head = store.heads(std::slice::from_ref(&alice)).await.expect("heads")[0].expect("known");
    store
        .acknowledge(&[received(&alice, Some(&device("phone")), head.epoch, 2)])
        .await
        .expect("acknowledged");
    // A lineage: the data is in another life.
    assert_eq!(server.ask("SET postrider:life else"), "+OK");
    push(&*open(&server).await, &alice, 0).await;
    store.send(node, "1".into()).await.expect("sent");
    store.beat(node, &node_info()).await.expect("beaten");
    let dead = NodeId::generate();
    let short = redis::Options { url: server.url(), ..Default::default() };
    let quick = Limits { heartbeat_ttl_ms: 1, ..Limits::default() };
    let other = redis::Store::connect(short, quick).await.expect("connected");
    other.enrol(dead, &node_info()).await.expect("enrolled");
    until("the lease", async || other.fence(dead, node).await.expect("asked").then_some(())).await;

    let keys = keys(&server).await;
    for letter in ["m", "b", "k", "x", "e", "c", "i", "h", "l", "d", "q"] {
        assert!(
            keys.iter().any(|key| key.starts_with(&format!("postrider:{letter}:"))),
            "no {letter} in {keys:?}"
        );
    }
    let mut connection = connection(&server).await;
    for key in keys {
        let ttl: i64 = ::redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.expect("asked");
        let exempt = matches!(&*key, "postrider:nodes" | "postrider:life") || key.starts_with("postrider:q:");
        assert_eq!(ttl < 0, exempt, "{key} expires in {ttl} ms");
    }
}

/// A storm's story: a node that stood still was buried, and then its last join
/// arrived.
#[tokio::test]
async fn the_index_of_a_buried_node_that_joins_late_is_gone_soon() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let (alive, buried) = (enrolled(&*store).await, NodeId::generate());
    for (generation, node) in (1..).zip([alive, buried]) {
        store.join(&join(node, &channel("alice"), generation)).await.expect("joined");
    }
    let ttl = |node: NodeId| {
        let answer = server.ask(&format!("PTTL postrider:d:{{{node}}}"));
        answer.trim_start_matches(':').parse::<i64>().expect("a number")
    };
    assert!((1..=10_000).contains(&ttl(buried)), "{}", ttl(buried));
    assert!(ttl(alive) > 60_000, "{}", ttl(alive));
}

#[tokio::test]
async fn a_dropped_store_leaves_no_connection() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let consumer = store.consume(enrolled(&*store).await).await.expect("opened");
    assert!(connected(&server).await > 1);
    drop((store, consumer));
    until("the connections to be closed", async || (connected(&server).await == 1).then_some(())).await;
}

/// Connections to a server, the one that asks included.
async fn connected(server: &RedisServer) -> usize {
    let mut connection = connection(server).await;
    let list: String = ::redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.expect("listed");
    list.lines().count()
}

#[tokio::test]
async fn ephemeral_reports_of_an_unknown_channel_change_nothing() {
    let server = RedisServer::start();
    let store = open(&server).await;
    let report = Ack::Ephemeral { channel: channel("ghost"), received: 1, dropped: 1 };
    assert_eq!(store.acknowledge(&[report]).await.expect("acknowledged"), Settled::default());
    assert_eq!(keys(&server).await, ["postrider:life"], "which every store notes");
}
