//! Looking at processes from outside.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Cluster, Node};
use crate::load::Load;
use crate::verdict::{NodeSample, Sample};

/// Ticks of the kernel's account, in a second.
const TICKS: f64 = 100.0;

/// A node as it is now.
pub(crate) async fn look(node: &Node) -> NodeSample {
    let api = node.api();
    let page = api.get("/metrics").await.text;
    // Of all series of that name.
    let metric = |name: &str| {
        let of_name = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        page.lines().filter(|line| of_name(line)).filter_map(value).sum::<f64>() as u64
    };
    let process = format!("/proc/{}", node.pid());
    let status = std::fs::read_to_string(format!("{process}/status")).expect("our child runs");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    NodeSample {
        memory_kib: memory.trim().trim_end_matches(" kB").parse().expect("a number"),
        files: std::fs::read_dir(format!("{process}/fd")).expect("our child runs").count() as u64,
        tasks: metric("postrider_tasks"),
        sessions: metric("postrider_sessions"),
    }
}

/// What lies between samples.
pub(crate) struct Watch {
    processes: Vec<u32>,
    ticks: u64,
    at: Instant,
}

impl Watch {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let mut processes: Vec<_> = cluster.nodes.iter().map(Node::pid).collect();
        processes.extend([cluster.redis.pid(), std::process::id()]);
        Self { ticks: ticks(&processes), processes, at: Instant::now() }
    }

    pub(crate) async fn sample(&mut self, cluster: &Cluster, load: &Load) -> Sample {
        let (ticks, now) = (ticks(&self.processes), Instant::now());
        let used = (ticks - self.ticks) as f64 / TICKS;
        let there = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        let processor = used / (now - self.at).as_secs_f64() / there;
        (self.ticks, self.at) = (ticks, now);
        let mut nodes = Vec::new();
        for node in &cluster.nodes {
            nodes.push(look(node).await);
        }
        let latencies = load.take_latencies();
        Sample {
            nodes,
            p99: Duration::from_micros(latencies.value_at_quantile(0.99)),
            max: Duration::from_micros(latencies.max()),
            delivered: latencies.len(),
            processor,
        }
    }
}

/// Processor time of processes, by the kernel's account.
fn ticks(processes: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<_> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        // Fields 14 and 15 of proc(5).
        let number =
            |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
        number(11) + number(12)
    };
    processes.iter().map(of).sum()
}
