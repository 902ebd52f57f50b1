//! The load generator measures real nodes and accounts for every message.

use serde_json::Value;

use crate::harness::{Cluster, RedisServer, run_command};

/// The figures of a short run, which must have lost nothing.
async fn figures(args: &[&str]) -> Value {
    let short = ["--seconds", "1", "--warm-up", "0.2", "--json"];
    let (code, said) = run_command(&[&["bench"], args, &short].concat(), &[]).await;
    assert_eq!(code, Some(0), "{said}");
    let line = said.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
    let report: Value = serde_json::from_str(line).expect("JSON");
    let figures = report["median"].clone();
    for fault in ["lost", "repeated", "out_of_order", "misrouted", "gaps", "refused", "ends"] {
        assert!(figures.get(fault).is_none_or(|count| *count == 0), "{fault}: {figures}");
    }
    figures
}

fn number(figures: &Value, key: &str) -> f64 {
    figures[key].as_f64().unwrap_or_else(|| panic!("{key} is a figure of {figures}"))
}

#[tokio::test]
async fn unicast_across_nodes_it_started_is_measured_whole() {
    let figures = figures(&["unicast", "--sockets", "40", "--publishers", "4", "--rate", "100"]).await;
    let rate = number(&figures, "deliveries_per_second");
    assert!((60.0..=140.0).contains(&rate), "a hundred in a second are delivered, and no others: {rate}");
    assert!(number(&figures, "delivery_ms.p50") <= number(&figures, "delivery_ms.max"));
    for process in ["node_a", "node_b", "redis", "bench"] {
        assert!(number(&figures, &format!("cpu_us_per_delivery.{process}")) > 0.0, "{process}");
    }
}

#[tokio::test]
async fn clients_that_leave_and_resume_elsewhere_miss_nothing() {
    let figures = figures(&["mixed", "--sockets", "30", "--rate", "100", "--churn", "20"]).await;
    assert!(number(&figures, "reconnects") >= 10.0);
}

#[tokio::test]
async fn every_socket_of_a_user_sees_one_order() {
    let figures = figures(&["fanout", "--sockets", "30"]).await;
    assert_eq!(number(&figures, "orders_that_differ"), 0.0);
    assert!(number(&figures, "delivered") >= 30.0);
}

#[tokio::test]
async fn every_socket_that_follows_a_topic_sees_one_order() {
    for client in ["plain", "envelope"] {
        let figures = figures(&["fanout", "--topic", "--sockets", "30", "--client", client]).await;
        assert_eq!(number(&figures, "orders_that_differ"), 0.0, "{client}");
        assert!(number(&figures, "delivered") >= 30.0, "{client}");
    }
}

#[tokio::test]
async fn nodes_that_run_already_are_measured_by_their_process_ids() {
    let cluster = Cluster::start(2).await;
    let (near, far) = (cluster.nodes[0].url(), cluster.nodes[1].url());
    let pid = format!("node B={}", std::process::id());
    let args = ["batch", "--sockets", "20", "--batch", "10", "--node", &near, "--node", &far, "--pid", &pid];
    assert!(number(&figures(&args).await, "cpu_us_per_message.node_b") > 0.0);
}

#[tokio::test]
async fn a_redis_that_runs_already_serves_nodes_that_are_started() {
    let redis = RedisServer::start().await;
    let figures = figures(&[
        "unicast",
        "--redis",
        &redis.url(),
        "--sockets",
        "20",
        "--publishers",
        "2",
        "--rate",
        "50",
    ])
    .await;
    assert!(number(&figures, "delivered") >= 20.0);
}

#[tokio::test]
async fn connections_are_weighed() {
    let figures = figures(&["connect", "--sockets", "50", "--memory"]).await;
    assert!(number(&figures, "connects_per_second") > 0.0);
    assert!(figures.get("rss_kib_per_connection.node_a").is_some(), "{figures}");
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused_with_what_to_do() {
    for (args, word) in [
        (&["bench", "unicast", "--memory", "--nodes", "2"][..], "Redis"),
        (&["bench", "unicast", "--payload-bytes", "10"], "--payload-bytes"),
        (&["bench", "connect", "--sockets", "9000000", "--memory"], "open files"),
        (&["bench", "mixed", "--client", "plain"], "envelope"),
        (&["bench", "unicast", "--node", "http://127.0.0.1:1", "--pid", "redis"], "NAME=PID"),
    ] {
        let (code, said) = run_command(args, &[]).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(word), "{said}");
    }
}
