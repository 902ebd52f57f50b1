//! Server-sent events: the same promises as over a socket.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    Cluster, Device, EventStream, Listen, Node, NodeOptions, PATIENCE, RedisServer, eventually, settled,
    until,
};

fn numbers(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(Value::from).collect()
}

async fn push(cluster: &Cluster, node: usize, range: std::ops::Range<u64>) {
    for n in range {
        cluster.nodes[node].api().push_to("ann", n).await;
    }
}

async fn configured(config: &str) -> Node {
    Node::start(NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() }).await
}

/// The part of an id that is the position in the user's own channel.
fn own(id: &str) -> &str {
    id.split('~').next().unwrap_or_default()
}

async fn cursor(node: &Node, device: &str) -> Option<String> {
    let channel = node.api().get("/v1/channels/user:ann").await.expect(200);
    let cursors = channel["cursors"].as_array().expect("cursors").clone();
    cursors.iter().find(|cursor| cursor["device"] == device)?["pos"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_stream_is_greeted_and_gets_each_message_in_order_with_the_id_to_resume_from() {
    let cluster = Cluster::start(2).await;
    let stream = cluster.nodes[0].listen("ann").device("tv").header("x-request-id", "tea-7").greeted().await;
    assert_eq!(stream.status(), 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-request-id", "tea-7"),
    ] {
        assert_eq!(stream.header(name), Some(value), "{name}");
    }
    assert!(stream.header("date").is_some_and(|date| date.ends_with("gmt")));
    assert!(stream.retry().is_some_and(|retry| (500..3_000).contains(&retry)), "{:?}", stream.retry());
    let hello = stream.events()[0].json();
    assert_eq!((&hello["user"], &hello["device"]), (&json!("ann"), &json!("tv")));

    let api = cluster.nodes[1].api();
    let pushed = api.push_to("ann", json!("grüße\n☕")).await;
    let laid_out = b"{\"to\": \"user:ann\", \"data\": {\n  \"a\": [1,\r\n 2]}}".to_vec();
    api.send(Method::POST, "/v1/push", &[], Some(laid_out)).await.expect("an answer").expect(202);
    assert_eq!(stream.wait_messages(2).await, [json!("grüße\n☕"), json!({"a": [1, 2]})]);
    let message = stream.wait_event("message", PATIENCE).await;
    assert_eq!(json!(own(&message.id)), pushed["pos"]);
    assert_eq!(message.json()["id"], pushed["id"]);
    api.push(&json!({"to": "user:ann", "data": "now", "ttl": 0})).await.expect(202);
    stream.wait_messages(3).await;
    let ids: Vec<_> = stream.events().into_iter().map(|event| event.id).collect();
    assert_eq!(ids[2], ids[3], "an ephemeral message has no position");
}

#[tokio::test]
async fn after_kill_9_a_stream_goes_on_elsewhere_without_loss_or_repeat() {
    let mut cluster = Cluster::start(3).await;
    let mut got = Vec::new();
    let mut stream = cluster.nodes[0].listen("ann").greeted().await;
    push(&cluster, 1, 0..20).await;
    stream.wait_messages(20).await;
    cluster.nodes[0].kill();
    stream.wait_end().await;
    push(&cluster, 1, 20..30).await;
    got.extend(stream.payloads());
    stream = cluster.nodes[2].listen("ann").behind(&stream.last_id()).greeted().await;
    assert_eq!(stream.events()[0].json()["resumed"], true);
    push(&cluster, 1, 30..40).await;
    got.extend(stream.wait_messages(20).await);
    assert_eq!(got, numbers(0..40));
    assert!(stream.events().iter().all(|event| event.kind != "gap"));
}

#[tokio::test]
async fn the_header_is_the_later_word_and_a_stream_that_had_nothing_goes_on_from_its_hello() {
    let cluster = Cluster::start(2).await;
    let ask = |node: usize| cluster.nodes[node].listen("ann").query("from=now");
    // Nothing was ever sent: what comes while the client is away must come.
    let first = ask(0).greeted().await;
    let id = first.last_id();
    drop(first);
    push(&cluster, 0, 0..2).await;
    let second = ask(1).behind(&id).greeted().await;
    assert_eq!(second.wait_messages(2).await, numbers(0..2));
    drop(second);
    let fresh = ask(1).greeted().await;
    let id = fresh.last_id();
    drop(fresh);
    push(&cluster, 0, 2..3).await;
    let third = ask(0).behind(&id).greeted().await;
    push(&cluster, 0, 3..4).await;
    assert_eq!(third.wait_messages(2).await, numbers(2..4));
}

#[tokio::test]
async fn what_was_lost_is_told_once_and_lies_behind_the_next_id() {
    let node = configured("mailbox_messages_max = 5\n").await;
    let stream = node.listen("ann").greeted().await;
    node.api().push_to("ann", 0).await;
    stream.wait_messages(1).await;
    let id = stream.last_id();
    drop(stream);
    for n in 1..20 {
        node.api().push_to("ann", n).await;
    }
    let stream = node.listen("ann").behind(&id).greeted().await;
    assert_eq!(stream.wait_messages(5).await, numbers(15..20));
    let gap = stream.wait_event("gap", PATIENCE).await;
    assert_eq!((&gap.json()["reason"], &gap.json()["to"]), (&json!("trimmed"), &json!(own(&gap.id))));
    assert_eq!(stream.events()[0].json()["resumed"], false);
    drop(stream);
    let stream = node.listen("ann").behind(&gap.id).greeted().await;
    assert_eq!(stream.wait_messages(5).await, numbers(15..20));
    assert!(stream.events().iter().all(|event| event.kind != "gap"), "a loss is told once");
}

#[tokio::test]
async fn written_is_not_received_until_the_device_says_so() {
    let cluster = Cluster::start(2).await;
    push(&cluster, 0, 0..3).await;
    let stream = cluster.nodes[0].listen("ann").device("tv").greeted().await;
    stream.wait_messages(3).await;
    let received = async || {
        let channel = cluster.nodes[1].api().get("/v1/channels/user:ann").await.expect(200);
        channel["ledger"]["received"].clone()
    };
    // By a reconnect that names the last event, to any node.
    let id = stream.last_id();
    let begun = cursor(&cluster.nodes[1], "tv")
        .await
        .and_then(|position| position.split('.').nth(1).map(str::to_owned));
    assert_eq!((received().await, begun.as_deref()), (json!(0), Some("0")));
    drop(stream);
    let again = cluster.nodes[1].listen("ann").device("tv").greeted().await;
    assert_eq!(again.wait_messages(3).await, numbers(0..3), "it did not say that it has them");
    drop(again);
    let resumed = cluster.nodes[1].listen("ann").device("tv").behind(&id).greeted().await;
    eventually(PATIENCE, "the last event's id is an acknowledgement", async || received().await == 3).await;
    assert_eq!(cursor(&cluster.nodes[0], "tv").await.as_deref(), Some(own(&id)));

    // By a request of its own, to any node.
    push(&cluster, 0, 3..5).await;
    assert_eq!(resumed.wait_messages(2).await, numbers(3..5));
    let (api, id) = (cluster.nodes[0].api(), resumed.last_id());
    let ack = json!({"positions": {"user:ann": own(&id)}}).to_string();
    let answer = api
        .send(Method::POST, "/v1/events/acks?device=tv&token=ann", &[], Some(ack.into_bytes()))
        .await
        .expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.text);
    eventually(PATIENCE, "the request is an acknowledgement", async || received().await == 5).await;
}

#[tokio::test]
async fn where_delivery_began_is_not_what_was_received() {
    let node = Node::start(NodeOptions::default()).await;
    node.api().push_to("ann", "never seen").await;
    let stream = node.listen("ann").device("tv").query("from=now").greeted().await;
    let id = stream.last_id();
    drop(stream);
    let stream = node.listen("ann").device("tv").behind(&id).greeted().await;
    node.api().push(&json!({"to": "user:bob", "data": 1})).await.expect(202);
    // An acknowledgement of another channel is written later than one of this would be.
    let bob = node.listen("bob").greeted().await;
    bob.wait_messages(1).await;
    settled(PATIENCE, "bob's is counted", async || {
        let channel = node.api().get("/v1/channels/user:bob").await.expect(200);
        if channel["ledger"]["received"] == 1 { Ok(()) } else { Err(channel) }
    })
    .await;
    let ledger = node.api().get("/v1/channels/user:ann").await.expect(200)["ledger"].clone();
    assert_eq!((&ledger["received"], &ledger["waiting"]), (&json!(0), &json!(1)));
    drop(stream);
}

#[tokio::test]
async fn acknowledgements_are_checked() {
    let node = Node::start(NodeOptions::default()).await;
    let api = node.api();
    let ack = async |query: &str, body: &str| {
        let path = format!("/v1/events/acks{query}");
        let answer =
            api.send(Method::POST, &path, &[], Some(body.as_bytes().to_vec())).await.expect("an answer");
        let code = if answer.text.is_empty() {
            String::new()
        } else {
            answer.json()["code"].as_str().expect("a code").to_owned()
        };
        (answer.status, code)
    };
    let own = r#"{"positions": {"user:ann": "0000000000000001.1"}}"#;
    let foreign = r#"{"positions": {"user:bob": "0000000000000001.1"}}"#;
    for (query, body, status, code) in [
        ("?device=tv", own, 401, "invalid_token"),
        ("?token=ann", own, 422, "invalid_parameter"),
        ("?token=ann&device=%20", own, 422, "invalid_parameter"),
        ("?token=ann&device=tv", foreign, 422, "invalid_channel"),
        ("?token=ann&device=tv", r#"{"positions": {}}"#, 422, "invalid_channels"),
        ("?token=ann&device=tv", r#"{"positions": {"user:ann": "7"}}"#, 422, "invalid_body"),
        ("?token=ann&device=tv", "{", 400, "invalid_json"),
    ] {
        assert_eq!(ack(query, body).await, (status, code.to_owned()), "{query} {body}");
    }
}

#[tokio::test]
async fn what_a_reconnect_cannot_help_is_refused_with_a_status() {
    let node = Node::start(NodeOptions::default()).await;
    let foreign = [("origin", "https://evil.example")];
    for (listen, status, code) in [
        (Listen::anonymous(node.address()), 401, "invalid_token"),
        (Listen::anonymous(node.address()).query("token=%01"), 401, "invalid_token"),
        (node.listen("ann").header(foreign[0].0, foreign[0].1), 403, "origin"),
        (node.listen("ann").device("a%20b"), 422, "invalid_parameter"),
        (node.listen("ann").query("from=then"), 422, "invalid_parameter"),
        (node.listen("ann").query("resume=1"), 422, "invalid_parameter"),
        (node.listen("ann").query("pos=7"), 422, "invalid_parameter"),
        (node.listen("ann").behind("seven"), 422, "invalid_parameter"),
    ] {
        let answer = listen.header("connection", "close").connect().await;
        let problem: Value = serde_json::from_str(&answer.wait_end().await).expect("a problem");
        assert_eq!((answer.status(), &problem["code"]), (status, &json!(code)), "{problem}");
    }
    let refused = async |reason| {
        node.api().metric(&format!("postrider_connects_refused_total{{reason=\"{reason}\"}}")).await
    };
    assert_eq!(
        (refused("token").await, refused("origin").await, refused("handshake").await),
        (2.0, 1.0, 5.0)
    );
}

#[tokio::test]
async fn a_full_node_sends_streams_back_for_later_and_counts_them_with_sockets() {
    let node = configured("connections_max = 2\n").await;
    let socket = Device::connect(node.envelope("ann")).await;
    let stream = node.listen("ann").greeted().await;
    let turned_away = node.listen("ann").connect().await;
    turned_away.wait_end().await;
    assert_eq!((turned_away.status(), turned_away.events()[0].json()["code"].clone()), (200, json!(1013)));
    assert!(turned_away.retry().is_some_and(|retry| retry >= 1_000));
    let page = node.api().get("/metrics").await.text;
    for series in [
        "postrider_sessions{dialect=\"envelope\"} 1",
        "postrider_sessions{dialect=\"events\"} 1",
        "postrider_connects_total{dialect=\"events\"} 1",
        "postrider_connects_refused_total{reason=\"limit\"} 1",
    ] {
        assert!(page.lines().any(|line| line == series), "{series} is not in {page}");
    }
    drop(stream);
    settled(PATIENCE, "a place is free again", async || {
        let stream = node.listen("ann").connect().await;
        until(PATIENCE, "it begins", async || stream.events().first().cloned())
            .await
            .kind
            .eq("hello")
            .then_some(())
            .ok_or(())
    })
    .await;
    drop(socket);
}

#[tokio::test]
async fn a_node_that_drains_tells_its_streams_and_ends_them() {
    let options = NodeOptions {
        config: Some("drain_delay_ms = 0\ndrain_window_ms = 500\ndrain_deadline_ms = 5000\n".to_owned()),
        ..NodeOptions::default()
    };
    let mut cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let stream = cluster.nodes[0].listen("ann").greeted().await;
    push(&cluster, 1, 0..1).await;
    stream.wait_messages(1).await;
    cluster.nodes[0].terminate();
    stream.wait_end().await;
    let kinds: Vec<_> = stream.events().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["hello", "message", "drain", "close"]);
    assert_eq!(stream.events()[3].json()["code"], 1012);
    assert!(cluster.nodes[0].exit(PATIENCE).await.success());
    push(&cluster, 1, 1..2).await;
    let resumed = cluster.nodes[1].listen("ann").behind(&stream.last_id()).greeted().await;
    assert_eq!(resumed.wait_messages(1).await, numbers(1..2));
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_ended_as_slow_and_loses_nothing() {
    let node = configured("outbox_messages_max = 16\nsocket_send_buffer_bytes = 4096\n").await;
    let stream = node.listen("ann").receive_buffer(4096).greeted().await;
    stream.stop_reading();
    let api = node.api();
    let mut sent = 0;
    while api.metric("postrider_closes_total{code=\"slow\"}").await == 0.0 {
        assert!(sent < 900, "it is not ended");
        api.push_to("ann", json!({"n": sent, "padding": "x".repeat(8 * 1024)})).await;
        sent += 1;
    }
    stream.go_on_reading();
    stream.wait_end().await;
    let seen = stream.payloads().len();
    assert!(seen < sent, "it missed nothing");
    let resumed = node.listen("ann").behind(&stream.last_id()).greeted().await;
    let rest = resumed.wait_messages(sent - seen).await;
    let all: Vec<_> = stream.payloads().into_iter().chain(rest).map(|data| data["n"].clone()).collect();
    assert_eq!(all, numbers(0..sent as u64));
}

#[tokio::test]
async fn a_connection_that_was_used_before_becomes_a_stream_and_one_that_is_blocked_does_not() {
    let node = configured("ping_interval_seconds = 1\n").await;
    let ask = node.listen("ann").request();
    let mut kept = TcpStream::connect(node.address()).await.expect("connects");
    kept.write_all(format!("GET /healthz HTTP/1.1\r\nhost: n\r\n\r\n{ask}").as_bytes())
        .await
        .expect("written");
    let read = async |stream: &mut TcpStream, until: &str| {
        let mut text = String::new();
        let mut chunk = [0; 4096];
        while !text.contains(until) {
            let len = tokio::time::timeout(PATIENCE, stream.read(&mut chunk))
                .await
                .expect("in time")
                .expect("read");
            assert!(len > 0, "it ended after {text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..len]));
        }
        text
    };
    let text = read(&mut kept, "event: hello").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/json"), "{text}");
    // What is sent behind the request is nobody's.
    kept.write_all(b"GET /healthz HTTP/1.1\r\n\r\n\x81\x80").await.expect("written");
    node.api().push_to("ann", 1).await;
    read(&mut kept, "\"data\":1}").await;
    // Silence is broken by comments.
    read(&mut kept, "\n:\n\n").await;

    let old = Listen::new(node.address(), "ann").request().replace("HTTP/1.1", "HTTP/1.0");
    let mut stream = TcpStream::connect(node.address()).await.expect("connects");
    stream.write_all(old.as_bytes()).await.expect("written");
    read(&mut stream, "event: hello").await;
}

#[tokio::test]
async fn sessions_of_both_kinds_see_the_same_and_an_operator_can_end_a_stream() {
    let cluster = Cluster::start(2).await;
    let stream = cluster.nodes[0].listen("ann").greeted().await;
    let socket = Device::connect(cluster.nodes[0].envelope("ann")).await;
    push(&cluster, 1, 0..50).await;
    socket.wait_messages(50).await;
    assert_eq!(stream.wait_messages(50).await, numbers(0..50));
    assert_eq!(socket.payloads(), numbers(0..50));
    let envelopes: Vec<_> = stream
        .events()
        .into_iter()
        .filter(|event| event.kind == "message")
        .map(|event| event.json())
        .collect();
    assert_eq!(envelopes, socket.frames_of("message"), "the data are the envelopes");
    let sessions = cluster.nodes[1].api().get("/v1/channels/user:ann/sessions").await.expect(200);
    let listed = sessions["sessions"].as_array().expect("sessions").clone();
    let events = listed.iter().find(|session| session["dialect"] == "events").expect("the stream is listed");
    let path = format!("/v1/channels/user:ann/sessions/{}", events["id"].as_str().expect("an id"));
    cluster.nodes[1].api().delete(&path).await.expect(200);
    stream.wait_end().await;
    assert_eq!(stream.events().last().expect("events").json()["code"], 4000);
    assert_eq!(socket.socket().closed(), None);
}

/// Streams that hang up while they are being set up leave nothing behind.
#[tokio::test]
async fn clients_that_vanish_at_once_leave_no_session() {
    let node = Node::start(NodeOptions::default()).await;
    let streams: Vec<EventStream> =
        futures_util::future::join_all((0..50).map(|n| node.listen(&format!("u{n}")).connect())).await;
    drop(streams);
    settled(Duration::from_secs(10), "all are gone", async || {
        let open = node.api().metric("postrider_sessions{dialect=\"events\"}").await;
        if open == 0.0 { Ok(()) } else { Err(open) }
    })
    .await;
    assert_eq!(node.api().metric("postrider_connects_total{dialect=\"events\"}").await, 50.0);
}

/// Found in review: with more topics than an id tells of, `hello` brought an id that the node refused.
#[tokio::test]
async fn a_stream_has_no_more_topics_than_it_can_come_back_to() {
    let node = configured("session_topics_max = 1000\n").await;
    let topics: Vec<_> = (0..300).map(|n| format!("topic=t{n}")).collect();
    let ask = || node.listen("ann").query(&topics.join("&"));
    let stream = ask().greeted().await;
    assert_eq!(stream.events()[0].json()["limits"]["topics_max"], 254);
    let refused = stream.wait_event("error", PATIENCE).await.json();
    assert_eq!(refused["code"], "too_many_topics");
    assert_eq!(refused["topics"], json!((254..300).map(|n| format!("t{n}")).collect::<Vec<_>>()));
    let id = stream.last_id();
    drop(stream);
    node.api().push(&json!({"to": ["topic:t0", "topic:t253", "all"], "data": "hi"})).await.expect(202);
    let stream = ask().behind(&id).connect().await;
    assert_eq!(stream.status(), 200);
    assert_eq!(stream.wait_messages(3).await.len(), 3);
    assert_eq!(stream.wait_event("hello", PATIENCE).await.json()["resumed"], true);
}

/// The request of one that comes back is longer by the id: a stream began whose browser then gave up on a 431.
#[tokio::test]
async fn a_stream_whose_address_leaves_no_room_to_come_back_is_refused_at_once() {
    let node = configured("session_topics_max = 1000\n").await;
    let ask = |count: usize| {
        let topics: Vec<_> = (0..count).map(|n| format!("topic={n:0>50}")).collect();
        node.listen("ann").query(&topics.join("&"))
    };
    for count in [254, 230, 200, 180] {
        let stream = ask(count).connect().await;
        if stream.status() == 200 {
            stream.wait_event("hello", PATIENCE).await;
            assert_eq!(ask(count).behind(&stream.last_id()).connect().await.status(), 200, "{count}");
        } else {
            let refused: Value = serde_json::from_str(&stream.wait_end().await).expect("a problem document");
            assert_eq!((stream.status(), &refused["code"]), (422, &json!("invalid_parameter")), "{count}");
            assert!(count > 180, "{refused}");
        }
    }
}
