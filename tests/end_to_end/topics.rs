//! Topics and everyone: one message for many users, by the same promises.

use serde_json::{Value, json};

use crate::harness::{Api, Cluster, Device, Node, NodeOptions, PATIENCE, eventually, settled};

fn numbers(range: std::ops::Range<u32>) -> Vec<Value> {
    range.map(|n| json!(n)).collect()
}

async fn push(api: &Api, to: &str, data: impl Into<Value>) -> Value {
    api.push(&json!({"to": to, "data": data.into()})).await.expect(202)
}

/// Waits until the directory counts so many sessions of a channel: a plain client
/// is not told when its session has begun.
async fn wait_sessions(api: &Api, channel: &str, count: u64) {
    settled(PATIENCE, "the sessions are there", async || {
        let answer = api.get(&format!("/v1/channels/{channel}")).await.expect(200);
        if answer["sessions"] == count { Ok(()) } else { Err(answer) }
    })
    .await;
}

async fn subscribe(device: &Device, topics: &[&str]) -> Value {
    let before = device.frames_of("subscribed").len();
    device.socket().send_json(&json!({"type": "subscribe", "topics": topics}));
    crate::harness::until(PATIENCE, "the topics are subscribed to", async || {
        device.frames_of("subscribed").get(before).cloned()
    })
    .await
}

#[tokio::test]
async fn one_push_reaches_a_topic_a_user_and_everyone_on_every_node_in_order() {
    let cluster = Cluster::start(3).await;
    let [a, b, c] = &cluster.nodes[..] else { unreachable!("three nodes were started") };
    let plain = a.plain("ann").query("topic=orders.42").connect().await;
    let asked = Device::connect(b.envelope("bob").query("topic=orders.42&topic=news")).await;
    let later = Device::connect(c.envelope("cid")).await;
    let other = c.plain("dan").connect().await;
    let subscribed = subscribe(&later, &["orders.42", "topic:news"]).await;
    assert_eq!(subscribed["topics"], json!(["orders.42", "news"]), "{subscribed}");
    let api = a.api();
    wait_sessions(&api, "topic:orders.42", 3).await;
    wait_sessions(&api, "all", 4).await;

    let mut expected = Vec::new();
    for n in 0..30 {
        let to = json!(["topic:orders.42", "user:dan", "all", "topic:news"]);
        let results = cluster.nodes[n % 3].api().push(&json!({"to": to, "data": n})).await.expect(202);
        let told = |at: usize| (results[at]["nodes"].as_u64(), results[at]["sessions"].as_u64());
        assert_eq!((told(0), told(2), told(3)), ((Some(3), Some(3)), (Some(3), Some(4)), (Some(2), Some(2))));
        expected.push(json!(n));
    }
    // Order holds within a channel; between channels there is none.
    for device in [&asked, &later] {
        device.wait_messages(90).await;
        for channel in ["topic:orders.42", "topic:news", "all"] {
            let of = device.messages().into_iter().filter(|message| message.channel == channel);
            assert_eq!(of.map(|message| message.data).collect::<Vec<_>>(), expected, "{channel}");
        }
    }
    let twice = |texts: Vec<String>| {
        let mut numbers: Vec<u32> = texts.iter().map(|text| text.parse().expect("a number")).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..30).flat_map(|n| [n, n]).collect::<Vec<_>>());
    };
    twice(plain.wait_texts(60).await);
    twice(other.wait_texts(60).await);
    assert_eq!((plain.count(), other.count(), asked.messages().len()), (60, 60, 90));
}

#[tokio::test]
async fn a_device_goes_on_in_all_its_channels_on_another_node_after_its_own_was_killed() {
    let mut cluster = Cluster::start(3).await;
    let api = cluster.nodes[1].api();
    let channels = ["user:ann", "topic:orders.42", "all"];
    let dial = cluster.nodes[0].envelope("ann").query("topic=orders.42");
    let device = Device::connect(dial).await;
    let hello = device.hello().await;
    // Where users meet it has a position from the start, though nothing was ever sent.
    let beginning = json!("0000000000000000.0");
    assert_eq!(
        (&hello["positions"]["all"], &hello["positions"]["topic:orders.42"]),
        (&beginning, &beginning)
    );
    for n in 0..5 {
        push(&api, "topic:orders.42", n).await;
    }
    device.wait_messages(5).await;
    let seen = device.last_position("topic:orders.42").expect("a position");
    cluster.nodes[0].kill();
    for n in 5..10 {
        for channel in channels {
            push(&api, channel, n).await;
        }
    }
    let socket = cluster.nodes[2].envelope("ann").query("resume=1").connect().await;
    let positions = json!({"topic:orders.42": seen, "all": beginning});
    socket.send_json(&json!({"type": "resume", "positions": positions, "topics": ["orders.42"]}));
    let device = Device::over(socket).await;
    assert_eq!(device.hello().await["resumed"], true);
    device.wait_messages(15).await;
    for channel in channels {
        push(&api, channel, 10).await;
    }
    device.wait_messages(18).await;
    for channel in channels {
        let of = device.messages().into_iter().filter(|message| message.channel == channel);
        assert_eq!(of.map(|message| message.data).collect::<Vec<_>>(), numbers(5..11), "{channel}");
    }
    assert!(device.frames_of("gap").is_empty());
}

#[tokio::test]
async fn a_named_device_comes_back_to_where_it_was_in_each_channel_and_a_newcomer_begins_now() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let channels = ["topic:news", "all"];
    for channel in channels {
        push(&api, channel, "before anyone").await;
    }
    let phone = || cluster.nodes[0].plain("ann").device("phone").query("topic=news");
    let first = phone().connect().await;
    wait_sessions(&api, "topic:news", 1).await;
    wait_sessions(&api, "all", 1).await;
    for channel in channels {
        push(&api, channel, "seen").await;
    }
    assert_eq!(first.wait_texts(2).await, ["seen", "seen"]);
    let cursors = async || {
        let mut cursors = Vec::new();
        for channel in channels {
            let channel = api.get(&format!("/v1/channels/{channel}")).await.expect(200);
            cursors.push((channel["cursors"][0].clone(), channel["head"].clone()));
        }
        cursors
    };
    eventually(PATIENCE, "the phone's cursors are at the end", async || {
        cursors().await.iter().all(|(cursor, head)| cursor["device"] == "ann/phone" && cursor["pos"] == *head)
    })
    .await;
    first.close().await;
    for channel in channels {
        push(&api, channel, "missed").await;
    }
    // Another user's phone is another device.
    let other = cluster.nodes[1].plain("bob").device("phone").query("topic=news").connect().await;
    let nameless = cluster.nodes[1].plain("ann").query("topic=news").connect().await;
    let again = phone().connect().await;
    assert_eq!(again.wait_texts(2).await, ["missed", "missed"]);
    wait_sessions(&api, "topic:news", 3).await;
    for channel in channels {
        push(&api, channel, "now").await;
    }
    assert_eq!(again.wait_texts(4).await[2..], ["now", "now"]);
    assert_eq!(other.wait_texts(2).await, ["now", "now"]);
    assert_eq!(nameless.wait_texts(2).await, ["now", "now"]);
    let oldest = cluster.nodes[1].plain("eve").query("topic=news&from=oldest").connect().await;
    assert_eq!(oldest.wait_texts(8).await[..4], ["before anyone", "seen", "missed", "now"]);
}

#[tokio::test]
async fn what_a_topics_mailbox_lost_is_told_with_a_gap() {
    let options =
        NodeOptions { config: Some("mailbox_messages_max = 20\n".to_owned()), ..NodeOptions::default() };
    let node = Node::start(options).await;
    let api = node.api();
    let device = Device::connect(node.envelope("ann").query("topic=news")).await;
    push(&api, "topic:news", 0).await;
    device.wait_messages(1).await;
    let seen = device.last_position("topic:news").expect("a position");
    device.socket().send_json(&json!({"type": "unsubscribe", "topics": ["news"]}));
    device.wait_frame("unsubscribed", PATIENCE).await;
    for n in 1..50 {
        push(&api, "topic:news", n).await;
    }
    let positions = json!({"topic:news": seen});
    device.socket().send_json(&json!({"type": "subscribe", "topics": ["news"], "positions": positions}));
    let gap = device.wait_frame("gap", PATIENCE).await;
    assert_eq!(
        (&gap["channel"], &gap["from"], &gap["reason"]),
        (&json!("topic:news"), &json!(seen), &json!("trimmed"))
    );
    assert_eq!(device.wait_frame("subscribed", PATIENCE).await["resumed"], false);
    assert_eq!(device.wait_messages(21).await.last().expect("messages").data, 49);
}

#[tokio::test]
async fn unsubscribing_ends_delivery_and_subscribing_again_begins_where_asked() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[1].api();
    let device = Device::connect(cluster.nodes[0].envelope("ann")).await;
    let subscribed = subscribe(&device, &["news"]).await;
    assert_eq!((&subscribed["topics"], &subscribed["resumed"]), (&json!(["news"]), &json!(false)));
    push(&api, "topic:news", "first").await;
    device.wait_messages(1).await;
    let again = subscribe(&device, &["news"]).await;
    assert_eq!((&again["topics"], &again["positions"]), (&json!(["news"]), &json!({})), "it listens already");

    device.socket().send_json(&json!({"type": "unsubscribe", "topics": ["news", "never.subscribed"]}));
    device.wait_frame("unsubscribed", PATIENCE).await;
    wait_sessions(&api, "topic:news", 0).await;
    let answer = push(&api, "topic:news", "unheard").await;
    assert_eq!((&answer["nodes"], &answer["sessions"]), (&json!(0), &json!(0)));
    push(&api, "user:ann", "heard").await;
    device.wait_messages(2).await;
    // Without a position, now; from the oldest, everything.
    subscribe(&device, &["news"]).await;
    push(&api, "topic:news", "live").await;
    device.wait_messages(3).await;
    assert_eq!(device.payloads(), ["first", "heard", "live"]);
    device.socket().send_json(&json!({"type": "unsubscribe", "topics": ["news"]}));
    device.socket().send_json(&json!({"type": "subscribe", "topics": ["news"], "from": "oldest"}));
    device.wait_messages(6).await;
    assert_eq!(device.payloads()[3..], ["first", "unheard", "live"]);
}

#[tokio::test]
async fn a_session_may_ask_for_topics_before_it_is_greeted() {
    let cluster = Cluster::start(1).await;
    let socket = cluster.nodes[0].envelope("ann").connect().await;
    socket.send_json(&json!({"type": "subscribe", "topics": ["news"]}));
    let device = Device::over(socket).await;
    device.wait_frame("subscribed", PATIENCE).await;
    assert_eq!(device.frames()[0]["type"], "hello");
    push(&cluster.nodes[0].api(), "topic:news", "hello").await;
    device.wait_messages(1).await;
}

fn token(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key)
        .expect("a token without special wishes")
}

const SECRET: &str = "a secret of more than thirty-two bytes";
const KEY: &str = "key-of-the-backend";

#[tokio::test]
async fn a_token_says_which_topics_and_what_it_does_not_allow_is_told() {
    let env = [("POSTRIDER_AUTH", "jwt"), ("POSTRIDER_JWT_SECRET", SECRET), ("POSTRIDER_API_KEY", KEY)];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let node = Node::start(NodeOptions { env, ..NodeOptions::default() }).await;
    let api = node.api().with_key(KEY);
    let allowed = token(&json!({"sub": "ann", "topics": ["orders.*", "news"]}));
    let device = Device::connect(node.envelope(&allowed).query("topic=orders.42&topic=secret")).await;
    let refused = device.wait_frame("error", PATIENCE).await;
    assert_eq!((&refused["code"], &refused["topics"]), (&json!("topic_not_allowed"), &json!(["secret"])));
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("'topics'")), "{refused}");
    let wanted = ["news", "newspaper", "orders.", "orders.*", "a b", "all", "user:bob"];
    assert_eq!(subscribe(&device, &wanted).await["topics"], json!(["news"]));
    let errors = device.frames_of("error");
    let told = |code: &str| {
        let of = errors[1..].iter().filter(|error| error["code"] == code);
        of.flat_map(|error| error["topics"].as_array().expect("a list").clone()).collect::<Vec<_>>()
    };
    assert_eq!(told("topic_not_allowed"), ["newspaper", "orders.", "all", "user:bob"]);
    assert_eq!(told("invalid_topic"), ["orders.*", "a b"]);
    for (channel, data) in
        [("topic:secret", 1), ("topic:newspaper", 2), ("user:bob", 3), ("topic:orders.42", 4)]
    {
        push(&api, channel, data).await;
    }
    assert_eq!(device.wait_messages(1).await[0].data, 4);
    assert!(api.metric(r#"postrider_subscriptions_refused_total{reason="not_allowed"}"#).await >= 5.0);

    // A plain client can only be told by its close.
    let closed = node.plain(&allowed).query("topic=secret").connect().await.wait_closed(PATIENCE).await;
    assert_eq!(closed.code, Some(4404), "{closed:?}");
    let closed = node.plain(&allowed).query("topic=a%20b").connect().await.wait_closed(PATIENCE).await;
    assert_eq!(closed.code, Some(4002), "{closed:?}");
    let none = token(&json!({"sub": "bob"}));
    let closed = node.plain(&none).query("topic=news").connect().await.wait_closed(PATIENCE).await;
    assert_eq!(closed.code, Some(4404), "{closed:?}");
    let wrong = token(&json!({"sub": "bob", "topics": ["orders.4*"]}));
    let closed = node.plain(&wrong).connect().await.wait_closed(PATIENCE).await;
    assert_eq!(closed.code, Some(4403), "{closed:?}");
}

#[tokio::test]
async fn a_session_gets_as_many_topics_as_the_setting_says_and_not_one_more() {
    let options =
        NodeOptions { config: Some("session_topics_max = 3\n".to_owned()), ..NodeOptions::default() };
    let node = Node::start(options).await;
    let device = Device::connect(node.envelope("ann").query("topic=a")).await;
    assert_eq!(device.hello().await["limits"]["topics_max"], 3);
    assert_eq!(subscribe(&device, &["b", "c"]).await["topics"], json!(["b", "c"]));
    device.socket().send_json(&json!({"type": "subscribe", "topics": ["d"]}));
    let refused = device.wait_frame("error", PATIENCE).await;
    assert_eq!((&refused["code"], &refused["topics"]), (&json!("too_many_topics"), &json!(["d"])));
    assert_eq!(node.api().metric(r#"postrider_subscriptions_refused_total{reason="limit"}"#).await, 1.0);
    // One given up makes room for another.
    device.socket().send_json(&json!({"type": "unsubscribe", "topics": ["a"]}));
    assert_eq!(subscribe(&device, &["d"]).await["topics"], json!(["d"]));
    let many = node.plain("ann").query("topic=a&topic=b&topic=c&topic=d");
    assert_eq!(many.connect().await.wait_closed(PATIENCE).await.code, Some(4002));
}

#[tokio::test]
async fn a_topic_is_asked_about_and_closed_like_a_user() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let ann = cluster.nodes[0].envelope("ann").device("phone").query("topic=news");
    let (ann, bob) =
        (Device::connect(ann).await, cluster.nodes[1].plain("bob").query("topic=news").connect().await);
    let bystander = cluster.nodes[1].plain("cid").connect().await;
    wait_sessions(&api, "topic:news", 2).await;
    let message = push(&api, "topic:news", "hi").await;
    let position = ann.wait_messages(1).await[0].position.clone().expect("a position");
    ann.acknowledge("topic:news", &position);
    bob.wait_texts(1).await;
    let path = format!("/v1/messages/{}?channel=topic:news", message["id"].as_str().expect("an id"));
    eventually(PATIENCE, "the message is acknowledged by the named device", async || {
        let fate = api.get(&path).await.expect(200);
        fate["state"] == "received"
            && fate["devices"].as_array().is_some_and(|devices| {
                devices.len() == 1
                    && devices[0]["device"] == "ann/phone"
                    && devices[0]["state"] == "acknowledged"
            })
    })
    .await;
    let body = json!({"channels": ["topic:news", "all", "topic:none"]}).to_string().into_bytes();
    let presence = api.send(reqwest::Method::POST, "/v1/presence", &[], Some(body)).await.expect("an answer");
    let presence = presence.expect(200);
    let online: Vec<_> =
        presence["channels"].as_array().expect("a list").iter().map(|c| c["online"].clone()).collect();
    assert_eq!(online, [true, true, false]);
    let sessions = api.get("/v1/channels/topic:news/sessions").await.expect(200);
    let mut users: Vec<_> =
        sessions["sessions"].as_array().expect("a list").iter().map(|s| s["user"].clone()).collect();
    users.sort_by_key(ToString::to_string);
    assert_eq!(users, ["user:ann", "user:bob"]);
    api.delete("/v1/channels/topic:news/sessions").await.expect(202);
    assert_eq!(ann.wait_closed(PATIENCE).await.code, Some(4000));
    assert_eq!(bob.wait_closed(PATIENCE).await.code, Some(4000));
    push(&api, "all", "still here").await;
    assert_eq!(bystander.wait_texts(1).await, ["still here"]);
    api.delete("/v1/channels/topic:news").await.expect(200);
    assert_eq!(api.get("/v1/channels/topic:news").await.expect(200)["head"], json!(null));
}

/// Sockets that cost the test no more than a descriptor and what they are sent.
mod crowd {
    use std::net::SocketAddr;

    use futures_util::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// Connects to a node and listens to a topic.
    pub(super) async fn join(address: SocketAddr, user: usize, topic: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("the node listens");
        let request = format!(
            "GET /v1/ws?topic={topic} HTTP/1.1\r\nhost: {address}\r\ncookie: token=user{user}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream
    }

    /// Reads the next frame that is no ping.
    async fn frame(stream: &mut TcpStream) -> Vec<u8> {
        loop {
            let mut head = [0; 2];
            stream.read_exact(&mut head).await.expect("a frame");
            let mut frame = vec![0; usize::from(head[1])];
            stream.read_exact(&mut frame).await.expect("the rest of it");
            if head[0] != 0x89 {
                return frame;
            }
        }
    }

    /// Each reads one short text.
    pub(super) async fn each_reads(crowd: &mut [TcpStream], text: &str) {
        let reads = futures_util::stream::iter(crowd).for_each_concurrent(256, |stream| async move {
            assert_eq!(frame(stream).await, text.as_bytes());
        });
        tokio::time::timeout(crate::harness::PATIENCE, reads).await.expect("everyone has it in time");
    }
}

/// As many as leave time for other tests; `delivery` tries it with ten thousand
/// sessions that need no sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_costs_one_entry_a_node_however_many_listen() {
    use futures_util::StreamExt;
    const SUBSCRIBERS: usize = 600;
    let config = "ping_interval_seconds = 3600\npong_timeout_seconds = 3600\n".to_owned();
    let options = NodeOptions { config: Some(config), ..NodeOptions::default() };
    let cluster = Cluster::start_on(crate::harness::RedisServer::start().await, 3, options).await;
    let addresses: Vec<_> = cluster.nodes.iter().map(Node::address).collect();
    let joins = futures_util::stream::iter(0..SUBSCRIBERS)
        .map(|n| crowd::join(addresses[n % 3], n % 100, "market"))
        .buffer_unordered(256);
    let mut crowd: Vec<_> = joins.collect().await;
    let api = cluster.nodes[0].api();
    wait_sessions(&api, "topic:market", SUBSCRIBERS as u64).await;

    let stored = r#"postrider_entries_sent_total{outcome="stored"}"#;
    let appends = async || {
        let mut redis = cluster.redis.connection().await;
        let info: String =
            redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await.expect("Redis answers");
        let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_xadd:calls=")?.split(',').next());
        calls.map_or(0, |calls| calls.parse::<u64>().expect("a number"))
    };
    let before = (api.metric(stored).await, appends().await);
    // A message may be read before its sender has heard that the stream has it.
    let since = async |entries, calls| {
        eventually(PATIENCE, "what was stored is counted", async || {
            api.metric(stored).await - before.0 >= entries
        })
        .await;
        assert_eq!((api.metric(stored).await - before.0, appends().await - before.1), (entries, calls));
    };
    let answer = push(&api, "topic:market", "open").await;
    assert_eq!((&answer["nodes"], &answer["sessions"]), (&json!(3), &json!(SUBSCRIBERS)));
    crowd::each_reads(&mut crowd, "open").await;
    // One in each node's stream, and one in the mailbox.
    since(3.0, 4).await;
    // And nothing else on the way: what comes next is the next.
    push(&api, "topic:market", "closed").await;
    crowd::each_reads(&mut crowd, "closed").await;
    since(6.0, 8).await;
}
