//! A node that leaves, or is stormed, makes no storm elsewhere.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::harness::{Cluster, Device, Node, NodeOptions, PATIENCE, RedisServer, Refused, Socket, settled};

async fn node(config: &str) -> Node {
    Node::start(NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() }).await
}

#[tokio::test]
async fn a_drain_closes_sessions_one_by_one_in_no_order_over_its_window() {
    let window = Duration::from_secs(3);
    let config = "drain_delay_ms = 0\ndrain_window_ms = 3000\ndrain_deadline_ms = 15000\n";
    let options = NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() };
    let mut cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let mut sockets = Vec::new();
    for n in 0..60 {
        sockets.push(cluster.nodes[0].plain(&format!("user{n}")).connect().await);
    }
    let mut devices = Vec::new();
    for n in 0..10 {
        devices.push(Device::connect(cluster.nodes[0].envelope(&format!("device{n}"))).await);
    }
    let begun = Instant::now();
    cluster.nodes[0].terminate();
    let closed_at = |socket: Socket| async move {
        assert_eq!(socket.wait_closed(PATIENCE).await.code, Some(1012));
        begun.elapsed()
    };
    let times: Vec<Duration> = join_all(sockets.into_iter().map(closed_at)).await;
    let sorted = {
        let mut sorted = times.clone();
        sorted.sort();
        sorted
    };
    // Of 60 at random moments in 3 s: the chance of a false alarm is below one in a million.
    assert!(sorted[59] - sorted[0] > window / 2, "all within {:?}", sorted[59] - sorted[0]);
    let busiest = sorted
        .iter()
        .map(|from| sorted.iter().filter(|at| *at >= from && **at < *from + window / 10).count())
        .max();
    assert!(busiest < Some(24), "{busiest:?} of 60 closed within a tenth of the window: {sorted:?}");
    assert_ne!(times, sorted, "in the order in which they came, a storm would only be later");

    // Who understands it was told when to come, each another time.
    let mut told = Vec::new();
    for device in &devices {
        told.push(
            device.wait_frame("drain", PATIENCE).await["reconnect_after_ms"].as_u64().expect("a number"),
        );
    }
    told.sort_unstable();
    told.dedup();
    assert!(told.len() > 5, "{told:?}");
    assert!(cluster.nodes[0].exit(PATIENCE).await.success());
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_as_overloaded_however_fast_they_come() {
    let node = node("connections_max = 10\n").await;
    let dial = |n: usize| node.plain(&format!("user{n}")).connect();
    let sockets = join_all((0..40).map(dial)).await;
    settled(PATIENCE, "all but ten are turned away", async || {
        let closed = sockets.iter().filter(|socket| socket.closed().is_some()).count();
        if closed == 30 { Ok(()) } else { Err(closed) }
    })
    .await;
    for closed in sockets.iter().filter_map(Socket::closed) {
        assert_eq!(closed.code, Some(1013), "{closed:?}");
        assert!(!closed.reason.is_empty(), "it does not say why");
    }
    assert_eq!(node.api().metric("postrider_sessions{dialect=\"plain\"}").await, 10.0);
    // A place that is free is given away.
    let stays = sockets.into_iter().find(|socket| socket.closed().is_none()).expect("ten stayed");
    stays.close().await;
    settled(PATIENCE, "one more may come", async || {
        let socket = node.plain("late").connect().await;
        node.api().push_to("late", "welcome").await;
        settled(PATIENCE, "it is let in or turned away", async || {
            if socket.count() > 0 || socket.closed().is_some() { Ok(()) } else { Err(()) }
        })
        .await;
        socket.closed().map_or(Ok(()), Err)
    })
    .await;
}

#[tokio::test]
async fn sockets_that_never_say_who_they_are_count_as_well() {
    let node = node("connections_max = 5\n").await;
    let anonymous = || {
        crate::harness::Dial::anonymous(node.address()).header("sec-websocket-protocol", "postrider.v1+json")
    };
    let sockets = join_all((0..20).map(|_| anonymous().connect())).await;
    settled(PATIENCE, "all but five are turned away", async || {
        let closed: Vec<_> = sockets.iter().filter_map(Socket::closed).collect();
        if closed.iter().filter(|closed| closed.code == Some(1013)).count() == 15 {
            Ok(())
        } else {
            Err(closed)
        }
    })
    .await;
}

#[tokio::test]
async fn handshakes_beyond_the_rate_are_told_when_to_come_back() {
    let node = node("handshakes_per_second_max = 5\n").await;
    let tries = join_all((0..30).map(|n| node.plain(&format!("user{n}")).try_connect())).await;
    let (mut welcome, mut delays) = (0, Vec::new());
    for outcome in &tries {
        match outcome {
            Ok(_) => welcome += 1,
            Err(Refused::Status(503, answer)) => {
                let after = answer.headers().get("retry-after").expect("it says when to come back");
                delays.push(after.to_str().expect("text").parse::<u32>().expect("seconds"));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((5..20).contains(&welcome), "{welcome} of 30 at 5 in a second");
    assert!(delays.iter().all(|delay| (1..=5).contains(delay)), "{delays:?}");
    delays.sort_unstable();
    delays.dedup();
    assert!(delays.len() > 1, "all are told to come back at the same time");
    let refused = node.api().metric("postrider_connects_refused_total{reason=\"rate\"}").await;
    assert_eq!(refused, 30.0 - f64::from(welcome));
    settled(PATIENCE, "a moment later there is room", async || {
        node.plain("late").try_connect().await.map(drop).map_err(|refused| format!("{refused:?}"))
    })
    .await;
}
