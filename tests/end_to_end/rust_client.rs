//! The client that programs in Rust use, and `postrider listen` with them.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use postrider::client::{Client, Error, Event, From, Options, Trouble};
use postrider::protocol::Position;
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{Api, Cluster, Mode, Node, NodeOptions, PATIENCE, Proxy, RedisServer, settled};

fn options(node: &Node) -> Options {
    Options::new(node.url().parse().expect("an address"))
}

async fn next(client: &mut Client) -> Result<Option<Event>, Error> {
    timeout(PATIENCE, client.next()).await.expect("an event in time")
}

/// The payloads of the next so many messages, whatever happens between them.
async fn messages(client: &mut Client, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        match next(client).await.expect("it goes on").expect("it is not over") {
            Event::Message(message) => numbers.push(message.data.get().parse().expect("a number")),
            Event::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
    }
    numbers
}

/// The first trouble that is told.
async fn trouble(client: &mut Client) -> Trouble {
    loop {
        if let Event::Disconnected { trouble, .. } = next(client).await.expect("it goes on").expect("more") {
            return trouble;
        }
    }
}

async fn wait_cursor(api: &Api, device: &str, position: &str) {
    settled(PATIENCE, "what was handled is acknowledged", async || {
        let channel = api.get("/v1/channels/user:ann").await.expect(200);
        let cursors = channel["cursors"].as_array().expect("cursors").clone();
        let there = cursors.iter().any(|cursor| cursor["device"] == device && cursor["pos"] == position);
        if there { Ok(()) } else { Err(channel) }
    })
    .await;
}

#[tokio::test]
async fn a_client_whose_node_was_killed_goes_on_elsewhere_and_acknowledges() {
    let mut cluster = Cluster::start(2).await;
    let elsewhere = cluster.nodes[1].url().parse().expect("an address");
    let mut client = Client::new(options(&cluster.nodes[0]).or(elsewhere).token("ann").device("server"));
    let pusher = cluster.nodes[1].api();
    for n in 0..10 {
        pusher.push_to("ann", n).await;
    }
    assert_eq!(messages(&mut client, 10).await, (0..10).collect::<Vec<_>>());
    cluster.nodes[0].kill();
    for n in 10..20 {
        pusher.push_to("ann", n).await;
    }
    let trouble = trouble(&mut client).await;
    assert!(matches!(trouble, Trouble::Lost(_)), "{trouble}");
    assert_eq!(messages(&mut client, 10).await, (10..20).collect::<Vec<_>>());
    for n in 20..25 {
        pusher.push_to("ann", n).await;
    }
    assert_eq!(messages(&mut client, 5).await, (20..25).collect::<Vec<_>>());
    let (last, positions) = (client.positions()["user:ann"].to_string(), client.positions().clone());
    client.close().await;
    wait_cursor(&pusher, "server", &last).await;

    // Another process goes on where this one was, whoever it says it is.
    pusher.push_to("ann", 25).await;
    let node = options(&cluster.nodes[1]).token("ann");
    let mut events = pin!(Client::new(node.positions(positions)).into_stream());
    let first = async {
        loop {
            if let Event::Message(message) = events.next().await.expect("more").expect("it goes on") {
                break message.data.get().to_owned();
            }
        }
    };
    assert_eq!(timeout(PATIENCE, first).await.expect("a message in time"), "25");
}

#[tokio::test]
async fn acknowledging_by_hand_is_all_that_moves_the_cursor_and_topics_are_resumed_too() {
    let mut cluster = Cluster::start(2).await;
    let elsewhere = cluster.nodes[1].url().parse().expect("an address");
    let options = options(&cluster.nodes[0]).or(elsewhere).token("ann").device("worker").topic("news");
    let mut client = Client::new(options.manual_acks());
    while !matches!(next(&mut client).await, Ok(Some(Event::Connected(_)))) {}
    let pusher = cluster.nodes[1].api();
    let news = async |n: u64| pusher.push(&json!({"to": "topic:news", "data": n})).await.expect(202);
    pusher.push_to("ann", 0).await;
    news(1).await;
    let mut seen = BTreeMap::new();
    while seen.len() < 2 {
        if let Event::Message(message) = next(&mut client).await.expect("it goes on").expect("more") {
            seen.insert(message.channel.clone(), message);
        }
    }
    client.acknowledge(&seen["user:ann"]);
    cluster.nodes[0].kill();
    news(2).await;
    news(3).await;
    assert_eq!(messages(&mut client, 2).await, [2, 3], "neither again what was given nor what was not");
    let position = seen["user:ann"].position.expect("a position").to_string();
    client.close().await;
    wait_cursor(&pusher, "worker", &position).await;
    settled(PATIENCE, "nothing of the topic is acknowledged", async || {
        let channel = pusher.get("/v1/channels/topic:news").await.expect(200);
        let moved = channel["cursors"]
            .as_array()
            .is_some_and(|cursors| cursors.iter().any(|cursor| cursor["pos"] == channel["head"]));
        if moved { Err(channel) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_drains_is_left_when_it_says_and_nothing_is_missed() {
    let config = "drain_delay_ms = 500\ndrain_window_ms = 1000\ndrain_deadline_ms = 10000\n";
    let node = NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() };
    let mut cluster = Cluster::start_on(RedisServer::start().await, 2, node).await;
    let elsewhere = cluster.nodes[1].url().parse().expect("an address");
    let mut client = Client::new(options(&cluster.nodes[0]).or(elsewhere).token("ann").device("server"));
    let pusher = cluster.nodes[1].api();
    pusher.push_to("ann", 0).await;
    assert_eq!(messages(&mut client, 1).await, [0]);
    cluster.nodes[0].terminate();
    let pushing = async {
        for n in 1..=40 {
            pusher.push_to("ann", n).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (mut numbers, mut troubles) = (Vec::<u64>::new(), Vec::new());
    let following = async {
        while numbers.len() < 40 {
            match next(&mut client).await.expect("it goes on").expect("more") {
                Event::Message(message) => numbers.push(message.data.get().parse().expect("a number")),
                Event::Disconnected { trouble, retry_in } => troubles.push((trouble, retry_in)),
                Event::Gap(gap) => panic!("{gap:?}"),
                _ => {}
            }
        }
    };
    tokio::join!(pushing, following);
    assert_eq!(numbers, (1..=40).collect::<Vec<u64>>());
    assert!(
        matches!(troubles[..], [(Trouble::Moved, Duration::ZERO)]),
        "left once, and back at once: {troubles:?}"
    );
    assert!(cluster.nodes[0].exit(PATIENCE).await.success(), "a drain ends with exit code 0");
}

#[tokio::test]
async fn a_token_is_asked_for_once_more_when_it_was_refused_and_an_operators_close_is_the_end() {
    let node = Node::start(NodeOptions::default()).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let provider = move |refused: bool| {
        counter.fetch_add(1, Ordering::Relaxed);
        // Without authentication a token is a name, and this is none.
        std::future::ready(Ok(if refused { "ann".to_owned() } else { "\u{1}".to_owned() }))
    };
    let mut client = Client::new(options(&node).token_provider(provider).from(From::Now));
    loop {
        match next(&mut client).await.expect("it goes on").expect("more") {
            Event::Connected(session) => break assert_eq!(session.user, "ann"),
            Event::Disconnected { trouble, .. } => {
                assert!(matches!(trouble, Trouble::Closed { code: 4403, .. }), "{trouble}");
            }
            _ => {}
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    node.api().wait_sessions("ann", 1).await;
    assert_eq!(node.api().delete("/v1/channels/user:ann/sessions").await.status, 202);
    let end = next(&mut client).await;
    assert!(matches!(end, Err(Error::Final(Trouble::Closed { code: 4000, .. }))), "{end:?}");

    let mut stranger = Client::new(options(&node).token("\u{1}"));
    let end = loop {
        match next(&mut stranger).await {
            Ok(Some(Event::Opened)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Err(Error::Final(Trouble::Closed { code: 4403, .. }))), "{end:?}");
}

/// Found in review: a `select!` whose other branch came more often than a dial takes began it anew each time.
#[tokio::test]
async fn a_dial_that_is_dropped_while_it_waits_goes_on_where_it_was() {
    let node = Node::start(NodeOptions::default()).await;
    let network = Proxy::start(node.address()).await;
    network.set_both(Mode::Delay(Duration::from_millis(60)));
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let provider = move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Ok("ann".to_owned())
        }
    };
    let options = Options::new(format!("http://{}", network.address()).parse().expect("an address"));
    let mut client = Client::new(options.token_provider(provider));
    let connecting = async {
        loop {
            tokio::select! {
                biased;
                event = client.next() => match event.expect("it goes on").expect("more") {
                    Event::Opened => {}
                    Event::Connected(session) => break assert_eq!(session.user, "ann"),
                    other => panic!("{other:?}"),
                },
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    };
    timeout(PATIENCE, connecting).await.expect("connected in time");
    assert_eq!((asked.load(Ordering::Relaxed), network.connections()), (1, 1));
}

/// Found in review: positions of channels that are not wanted filled the first frame until the node refused it.
#[tokio::test]
async fn only_positions_of_what_is_wanted_are_told_and_what_cannot_be_told_is_an_error_that_says_what_to_do()
{
    let config = "session_topics_max = 1000\nframe_bytes_max = 2048\n";
    let node = Node::start(NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() }).await;
    let position = node.api().push_to("ann", 1).await["pos"].as_str().expect("a position").to_owned();
    let position: Position = position.parse().expect("a position");
    let of_topics = (0..1_000).map(|n| (format!("topic:t{n}"), position));
    let positions: BTreeMap<_, _> = of_topics.chain([("user:ann".to_owned(), position)]).collect();
    let ask = || options(&node).token("ann").positions(positions.clone());
    let mut client = Client::new(ask().topic("news"));
    while !matches!(next(&mut client).await.expect("it goes on").expect("more"), Event::Connected(_)) {}
    node.api().push_to("ann", 2).await;
    assert_eq!(messages(&mut client, 1).await, [2]);
    assert_eq!(client.positions().len(), 1_003, "they are kept all the same: another process may want them");

    let end = async |topics: Vec<String>| {
        let mut client = Client::new(topics.into_iter().fold(ask(), Options::topic));
        loop {
            match next(&mut client).await {
                Ok(Some(Event::Opened)) => {}
                Err(Error::Final(Trouble::Impossible(text))) => break text,
                other => panic!("{other:?}"),
            }
        }
    };
    let many = end((0..100).map(|n| format!("t{n}")).collect()).await;
    assert!(many.contains("100 topics") && many.contains("frame_bytes_max"), "{many}");
    let long = end((0..100).map(|n| format!("{n}{}", "x".repeat(190))).collect()).await;
    assert!(long.contains("100 topics") && long.contains("listen to fewer"), "{long}");
}
