//! Two nodes and a Redis under churn, slow clients and hostile traffic at once,
//! for as long as asked: does anything grow, or slow down, or go missing?
//!
//! `scripts/soak` runs it with a release build. What it judges by is tested here
//! in every run of the suite.

#![expect(clippy::print_stdout, reason = "a soak prints its table")]

#[path = "../harness/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared: each test binary uses a part of it")]
mod harness;

mod load;
mod verdict;
mod watch;

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use harness::{Cluster, NodeOptions, Persistence, RedisOptions, RedisServer, run_command};
use load::Load;
use verdict::{NodeSample, Quiet, Sample};
use watch::{Watch, look};

/// The harness waits for the line that says where a node listens.
const CONFIG: &str = "log = \"warn,postrider::node=info\"\nhandshakes_per_second_max = 5000\n";
/// How long what is left of connections may take to go: the longest timeout of a
/// request, and some.
const LEAVING: Duration = Duration::from_secs(60);
/// Rows of the table.
const ROWS: usize = 15;

fn asked<T: std::str::FromStr>(variable: &str, otherwise: T) -> T {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by scripts/soak, for minutes"]
async fn soaked_as_asked() {
    let lasting = Duration::from_secs(60) * asked("SOAK_MINUTES", 1);
    let processor = asked("SOAK_CPU_PERCENT", 60.0) / 100.0;
    let persistence = Persistence::EverySecond;
    let redis = RedisServer::start_with(RedisOptions { persistence, ..RedisOptions::default() }).await;
    let options = NodeOptions { config: Some(CONFIG.to_owned()), ..NodeOptions::default() };
    let cluster = Cluster::start_on(redis, 2, options).await;
    for node in &cluster.nodes {
        prefer(node.pid());
    }
    let mut before = Vec::new();
    for node in &cluster.nodes {
        // Once for what the first look makes, such as buffers and threads.
        look(node).await;
        before.push(look(node).await);
    }
    let load = Load::start(cluster.nodes.iter().map(harness::Node::address).collect());
    let samples = soak(&cluster, &load, lasting, processor).await;
    let tally = load.stop().await;
    let after = left_alone(&cluster, &before).await;
    let quiet: Vec<_> =
        before.into_iter().zip(after).map(|(before, after)| Quiet { before, after }).collect();

    print_table(&samples);
    for (node, Quiet { before, after }) in quiet.iter().enumerate() {
        println!("node {node}: before {before:?}, and when all had left {after:?}");
    }
    println!("{tally}");
    let mut complaints = verdict::complaints(&samples, &quiet);
    complaints.extend(tally.complaints());
    let (code, said) = run_command(&["audit", "--redis", &cluster.redis.url(), "--json"], &[]).await;
    let found: Value =
        said.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    println!("audit: {} channels, {}", found["channels"], found["totals"]);
    if code != Some(0) {
        complaints.push(format!("the audit ended with {code:?}: {said}"));
    }
    assert!(complaints.is_empty(), "the soak failed:\n  {}", complaints.join("\n  "));
    println!("nothing grew, nothing slowed down, nothing is missing");
}

/// Lets a node go before whatever else this machine does, if that may be asked.
fn prefer(pid: u32) {
    let asked = std::process::Command::new("renice").args(["-n", "-5", "-p", &pid.to_string()]).output();
    if !asked.is_ok_and(|answer| answer.status.success()) {
        println!("process {pid} shares the processors like any other");
    }
}

/// Samples behind the warm-up, in which the pace is found that uses as much of
/// the processors as was asked for.
async fn soak(cluster: &Cluster, load: &Load, lasting: Duration, processor: f64) -> Vec<Sample> {
    let every = (lasting / 120).clamp(Duration::from_secs(2), Duration::from_secs(10));
    let (started, warm_up) = (Instant::now(), lasting / 5);
    let mut watch = Watch::new(cluster);
    let mut samples = Vec::new();
    while started.elapsed() < lasting {
        sleep(every).await;
        let sample = watch.sample(cluster, load).await;
        if started.elapsed() < warm_up {
            // Towards the goal, in steps that the load can follow.
            load.change_pace((processor / sample.processor.max(0.01)).clamp(0.7, 1.4));
        } else {
            samples.push(sample);
        }
    }
    samples
}

/// What the nodes hold when everybody has left them.
async fn left_alone(cluster: &Cluster, before: &[NodeSample]) -> Vec<NodeSample> {
    let started = Instant::now();
    loop {
        let mut after = Vec::new();
        for node in &cluster.nodes {
            after.push(look(node).await);
        }
        let back = after.iter().zip(before).all(|(after, before)| {
            after.sessions == 0 && after.files <= before.files && after.tasks <= before.tasks
        });
        if back || started.elapsed() > LEAVING {
            return after;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

fn print_table(samples: &[Sample]) {
    println!("| part | memory MiB | files | tasks | sessions | delivered | p99 ms | max ms | processors % |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for (part, samples) in samples.chunks(samples.len().div_ceil(ROWS).max(1)).enumerate() {
        let last = &samples[samples.len() - 1];
        let each =
            |what: fn(&NodeSample) -> String| last.nodes.iter().map(what).collect::<Vec<_>>().join(" / ");
        let mean = |what: fn(&Sample) -> f64| samples.iter().map(what).sum::<f64>() / samples.len() as f64;
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.1} | {:.0} | {:.0} |",
            part + 1,
            each(|node| format!("{:.1}", node.memory_kib as f64 / 1_024.0)),
            each(|node| node.files.to_string()),
            each(|node| node.tasks.to_string()),
            each(|node| node.sessions.to_string()),
            samples.iter().map(|sample| sample.delivered).sum::<u64>(),
            mean(|sample| sample.p99.as_secs_f64() * 1e3),
            samples.iter().map(|sample| sample.max.as_secs_f64() * 1e3).fold(0.0, f64::max),
            mean(|sample| sample.processor * 100.0),
        );
    }
}
