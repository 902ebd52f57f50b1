//! What an operator sees: complete from the start, well formed, and moving.

use std::io::Write;
use std::process::{Command, Stdio};

use postrider::metrics::{DEFINITIONS, Definition, Kind};
use serde_json::json;

use crate::harness::{Cluster, Device, Node, NodeOptions, PATIENCE, settled};
use crate::tools;

/// The series that a definition must show, without their values.
fn series_of(definition: &Definition) -> Vec<String> {
    let labels: Vec<String> = match definition.label {
        Some((label, values)) => values.iter().map(|value| format!("{{{label}=\"{value}\"}}")).collect(),
        None => vec![String::new()],
    };
    let suffixes: &[&str] = if definition.kind == Kind::Histogram { &["_count", "_sum"] } else { &[""] };
    let series = |suffix| labels.iter().map(move |label| format!("{}{suffix}{label}", definition.name));
    suffixes.iter().flat_map(series).collect()
}

#[tokio::test]
async fn everything_declared_is_there_from_the_start_and_counters_are_at_zero() {
    let cluster = Cluster::start(1).await;
    let memory = Node::start(NodeOptions::default()).await;
    for (store, api) in [("redis", cluster.nodes[0].api()), ("memory", memory.api())] {
        let answer = api.get("/metrics").await;
        assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
        let values: Vec<_> = answer.text.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        for definition in DEFINITIONS {
            for series in series_of(definition) {
                let value = values.iter().find(|(name, _)| *name == series).map(|(_, value)| *value);
                let value = value.unwrap_or_else(|| panic!("{series} is missing ({store})"));
                // Time passes, and these very requests are answered.
                let moves = definition.kind == Kind::SecondsCounter || series.contains("2xx");
                if definition.kind.is_counter() && !moves {
                    assert_eq!(value, "0", "{series} ({store})");
                }
            }
        }
        let build = answer.text.lines().find(|line| line.starts_with("postrider_build_info{"));
        let build = build.expect("the build is named");
        assert!(build.contains(&format!("store=\"{store}\"")) && build.contains("version=\""), "{build}");
    }
}

/// What a scrape costs must not depend on how many are connected.
#[tokio::test]
async fn the_page_does_not_grow_with_sessions() {
    let cluster = Cluster::start(1).await;
    let (node, api) = (&cluster.nodes[0], cluster.nodes[0].api());
    let series = async || {
        let page = api.get("/metrics").await.text;
        page.lines().filter(|line| !line.starts_with('#')).count()
    };
    let before = series().await;
    let dials = (0..200).map(|n| node.plain(&format!("user{n}")).device("phone").connect());
    let _sockets = futures_util::future::join_all(dials).await;
    settled(PATIENCE, "200 sessions are counted", async || {
        let sessions = api.sessions().await;
        if sessions == 200.0 { Ok(()) } else { Err(sessions) }
    })
    .await;
    assert_eq!(series().await, before);
}

#[tokio::test]
async fn prometheus_own_checker_finds_nothing_to_say() {
    let cluster = Cluster::start(2).await;
    let device = Device::connect(cluster.nodes[1].envelope("ann").acknowledging()).await;
    cluster.nodes[0].api().push_to("ann", 1).await;
    device.wait_messages(1).await;
    for node in &cluster.nodes {
        let page = node.api().get("/metrics").await.text;
        let mut check = Command::new(tools::program("promtool"))
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool starts");
        check.stdin.take().expect("it is piped").write_all(page.as_bytes()).expect("promtool reads");
        let output = check.wait_with_output().expect("promtool ends");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}

#[tokio::test]
async fn what_happens_is_counted() {
    let cluster = Cluster::start(2).await;
    let (a, b) = (cluster.nodes[0].api(), cluster.nodes[1].api());
    let device = Device::connect(cluster.nodes[1].envelope("zebulon").device("phone").acknowledging()).await;
    let _plain = cluster.nodes[1].plain("zebulon").connect().await;
    a.wait_sessions("zebulon", 2).await;
    for n in 0..10 {
        a.push_to("zebulon", n).await;
    }
    a.push(&json!({"to": "nobody", "data": 1})).await.expect(422);
    device.wait_messages(10).await;
    let expected = [
        (&a, "postrider_pushes_total{result=\"accepted\"}", 10.0),
        (&a, "postrider_pushes_total{result=\"invalid\"}", 1.0),
        (&a, "postrider_push_nodes_count", 10.0),
        (&a, "postrider_push_nodes_sum", 10.0),
        (&a, "postrider_ledger_messages_total{class=\"accepted\"}", 10.0),
        (&b, "postrider_ledger_messages_total{class=\"received\"}", 10.0),
        (&b, "postrider_messages_written_total", 20.0),
        (&b, "postrider_message_sessions_sum", 20.0),
        (&b, "postrider_accept_to_write_seconds_count", 20.0),
        (&b, "postrider_accept_to_ack_seconds_count", 10.0),
        (&b, "postrider_sessions{dialect=\"plain\"}", 1.0),
        (&b, "postrider_sessions{dialect=\"envelope\"}", 1.0),
        (&b, "postrider_channels_held", 2.0),
        (&b, "postrider_connects_total{dialect=\"plain\"}", 1.0),
        (&b, "postrider_connects_total{dialect=\"envelope\"}", 1.0),
        (&b, "postrider_resumes_total{outcome=\"fresh\"}", 2.0),
        (&b, "postrider_ready", 1.0),
        (&b, "postrider_draining", 0.0),
        (&b, "postrider_stream_pending_entries", 0.0),
        (&b, "postrider_outbox_bytes", 0.0),
    ];
    for (api, series, wanted) in expected {
        settled(PATIENCE, &format!("{series} is {wanted}"), async || {
            let page = api.get("/metrics").await.text;
            let value = page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
            if value == Some(wanted) { Ok(()) } else { Err(value) }
        })
        .await;
    }
    assert!(!b.get("/metrics").await.text.contains("zebulon"), "a user's name is in the metrics");
}
