//! Every query, asked of a real Prometheus that scraped a real cluster while
//! everything happened to it.

use std::collections::BTreeSet;

use postrider::metrics::{DEFINITIONS, Kind};
use serde_json::Value;

use super::dashboard::{every_query, rules};
use super::prometheus::Prometheus;
use super::troubles::Stage;
use crate::harness::{Cluster, Node, PATIENCE, settled};

/// Values of labels that do not move here, and where they do, or why they do not.
const ELSEWHERE: &[(&str, &str)] = &[
    ("pushes_total/unauthorized", "needs --auth jwt: auth.rs"),
    ("pushes_total/limited", "limits.rs"),
    ("pushes_total/out_of_memory", "redis_memory.rs"),
    ("pushes_total/failed", "an answer of Redis that nothing here expects"),
    ("ledger_messages_total/dropped_unreported", "a node dies with an ephemeral message: audit.rs"),
    ("ledger_audits_total/failed", "Redis is away just then: it may move"),
    ("entries_sent_total/no_stream", "a push between a burial and its node's directory: it may move"),
    ("entries_sent_total/overflow", "8,192 messages wait for one node"),
    ("entries_sent_total/failed", "a node stays out of reach for eight tries"),
    ("gaps_told_total/reset", "redis_reset.rs"),
    ("connects_refused_total/draining", "drain.rs"),
    ("connects_refused_total/limit", "hostile_clients.rs"),
    ("connects_refused_total/rate", "hostile_clients.rs"),
    ("connects_refused_total/store", "redis_away.rs"),
    ("closes_total/", "one name for each code: the sessions' own tests, and whoever is named for it"),
    ("store_errors_total/timeout", "redis_away.rs"),
    ("store_errors_total/out_of_memory", "redis_memory.rs"),
    ("store_errors_total/fenced", "a call of the node that was fenced: it may move"),
    ("store_errors_total/other", "an answer of Redis that nothing here expects"),
    ("webhooks_dropped_total/", "not_followed, given_up, stopped: webhooks.rs"),
    ("http_answers_total/3xx", "nothing redirects"),
    ("connects_refused_total/address", "limits.rs"),
    ("connects_refused_total/user", "limits.rs"),
    ("connects_refused_total/auth", "needs --auth jwt: tokens.rs"),
    ("requests_limited_total/", "one name for each limit: limits.rs"),
    ("frames_paced_total", "limits.rs"),
    ("subscriptions_refused_total/", "topics.rs"),
    ("jwks_fetches_total/", "needs --auth jwt: tokens.rs"),
    ("auth_hook_questions_total/", "needs --auth jwt: tokens.rs"),
    ("asks_total/unanswered", "it moves when the node stands still long enough to be asked"),
];

/// Alerts whose threshold is passed here; the others need minutes, or more of it.
const ALERTS_THAT_COME_UP: &[&str] = &[
    "PostriderFencings",
    "PostriderLedgerDiffers",
    "PostriderMailboxesFull",
    "PostriderNodeDown",
    "PostriderReclaims",
    "PostriderWebhooksDropped",
];

/// Panels that may be at zero all the time, since nothing that they show is sure to happen.
const MAY_BE_ZERO: &[&str] =
    &["connections: Requests limited", "connections: Sessions held back", "connections: Keys and questions"];

/// As the dashboards' variables make it.
fn asked(query: &str) -> String {
    query
        // Longer than a node stands still here, and is not scraped.
        .replace("$__rate_interval", "20s")
        .replace("\"$job\"", "\"postrider\"")
        .replace("\"$instance\"", "\".+\"")
}

/// The expression without its thresholds: what it looks at.
fn without_thresholds(expr: &str) -> String {
    let mut words = expr.split(' ').peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let number = words.peek().is_some_and(|next| next.trim_end_matches(')').parse::<f64>().is_ok());
        if matches!(word, ">" | "==") && number {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

async fn everything_happens(stage: &mut Stage, prometheus: &Prometheus) {
    stage.load().await;
    settled(PATIENCE, "three nodes are scraped", async || {
        let up = prometheus.numbers("up == 1").await;
        if up.len() == 3 { Ok(()) } else { Err(up) }
    })
    .await;
    stage.senders().await;
    stage.visitors().await;
    let slow = stage.a_slow_device().await;
    seen(prometheus, "postrider_outbox_bytes > 0").await;
    stage.a_slow_close(slow).await;
    stage.a_ledger_that_differs().await;
    stage.a_slow_line().await;
    stage.a_loss().await;
    stage.a_bad_line().await;
    seen(prometheus, "postrider_ready == 0").await;
    stage.a_good_line().await;
    stage.a_pause().await;
    // The heir may be the one to die next.
    seen(prometheus, "postrider_reroutes_total > 0").await;
    stage.a_death().await;
    stage.a_departure();
    seen(prometheus, "postrider_draining == 1").await;
    seen(prometheus, "up == 0").await;
}

/// Waits until a scrape shows it.
async fn seen(prometheus: &Prometheus, query: &str) {
    settled(PATIENCE, &format!("prometheus sees {query}"), async || {
        let numbers = prometheus.numbers(query).await;
        if numbers.is_empty() { Err(()) } else { Ok(()) }
    })
    .await;
}

/// Every metric, and every value of its label, was scraped; those that never were above zero.
async fn never_moved(prometheus: &Prometheus) -> BTreeSet<String> {
    let mut still = BTreeSet::new();
    for definition in DEFINITIONS {
        let suffix = if definition.kind == Kind::Histogram { "_count" } else { "" };
        let (label, values) = definition.label.unwrap_or(("job", &["postrider"]));
        for value in values {
            let query =
                format!("max (max_over_time ({}{suffix}{{{label}=\"{value}\"}}[5m]))", definition.name);
            let highest = prometheus.numbers(&query).await;
            assert!(!highest.is_empty(), "{query} was never scraped");
            if highest[0] <= 0.0 {
                still.insert(format!("{}/{value}", definition.name.trim_start_matches("postrider_")));
            }
        }
    }
    still
}

/// Without anything happening: each query is one that Prometheus takes.
#[tokio::test]
async fn prometheus_scrapes_three_nodes_and_takes_every_query_and_rule() {
    let cluster = Cluster::start(3).await;
    let addresses: Vec<_> = cluster.nodes.iter().map(Node::address).collect();
    let prometheus = Prometheus::start(&addresses).await;
    settled(PATIENCE, "three nodes are scraped", async || {
        let up = prometheus.numbers("up == 1").await;
        if up.len() == 3 { Ok(()) } else { Err(up) }
    })
    .await;
    for query in every_query() {
        prometheus.numbers(&asked(&query.expr)).await;
    }
    every_rule_is_healthy(&prometheus).await;
}

#[tokio::test]
async fn every_metric_moves_and_every_query_has_data_when_everything_happens() {
    let mut stage = Stage::start().await;
    let addresses: Vec<_> = stage.nodes.iter().map(|node| node.address()).collect();
    let prometheus = Prometheus::start(&addresses).await;
    everything_happens(&mut stage, &prometheus).await;

    let still = never_moved(&prometheus).await;
    let told = |series: &String| ELSEWHERE.iter().any(|(known, _)| series.starts_with(known));
    let untold: Vec<_> = still.iter().filter(|series| !told(series)).collect();
    assert!(untold.is_empty(), "these never moved: {untold:?}");

    let mut wanting = Vec::new();
    for query in every_query() {
        let numbers = prometheus.numbers_so_far(&asked(&query.expr)).await;
        if numbers.is_empty() {
            wanting.push(format!("{} has no data: {}", query.of, query.expr));
        } else if !MAY_BE_ZERO.contains(&&*query.of) && numbers.iter().all(|number| *number == 0.0) {
            wanting.push(format!("{} is 0: {}", query.of, query.expr));
        }
    }
    assert!(wanting.is_empty(), "{wanting:#?}");

    let mut came_up = BTreeSet::new();
    for rule in rules() {
        let looks_at = without_thresholds(&rule.expr);
        if rule.name != "PostriderNotScraped" {
            let numbers = prometheus.numbers_so_far(&looks_at).await;
            assert!(!numbers.is_empty(), "{} has no data: {looks_at}", rule.name);
        }
        if rule.is_alert && !prometheus.numbers_so_far(&rule.expr).await.is_empty() {
            came_up.insert(rule.name);
        }
    }
    for alert in ALERTS_THAT_COME_UP {
        assert!(came_up.contains(*alert), "{alert} did not come up, only {came_up:?}");
    }
    every_rule_is_healthy(&prometheus).await;
}

async fn every_rule_is_healthy(prometheus: &Prometheus) {
    settled(PATIENCE, "every rule is evaluated without error", async || {
        let rules = prometheus.get("/api/v1/rules", &[]).await;
        let groups = rules["data"]["groups"].as_array().expect("a list of groups");
        let healthy = |group: &Value| {
            group["rules"].as_array().is_some_and(|rules| rules.iter().all(|rule| rule["health"] == "ok"))
        };
        if !groups.is_empty() && groups.iter().all(healthy) { Ok(()) } else { Err(rules) }
    })
    .await;
}

#[test]
fn thresholds_are_taken_off() {
    assert_eq!(without_thresholds("a / b > 0.8 and on (job) c"), "a / b and on (job) c");
    assert_eq!(without_thresholds("up{job=~\"x\"} == 0"), "up{job=~\"x\"}");
}
