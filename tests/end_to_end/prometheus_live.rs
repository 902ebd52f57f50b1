//! A real Prometheus, with the project's own configuration, scrapes real nodes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Url;
use serde_json::Value;
use tempfile::TempDir;

use crate::dashboards::dashboard_queries;
use crate::harness::{Cluster, Device, PATIENCE, Process, free_port, settled};
use crate::tools;

struct Prometheus {
    _process: Process,
    _folder: TempDir,
    base: String,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the file is there")
}

impl Prometheus {
    /// With the project's `prometheus.yml`, its addresses replaced by the cluster's.
    async fn start(cluster: &Cluster) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut config = read("prometheus.yml").replace("_interval: 5s", "_interval: 1s");
        for (port, node) in (8081..).zip(&cluster.nodes) {
            config = config.replace(&format!("127.0.0.1:{port}"), &node.address().to_string());
        }
        std::fs::write(folder.path().join("prometheus.yml"), config).expect("the folder is ours");
        std::fs::write(folder.path().join("prometheus.rules.yml"), read("prometheus.rules.yml"))
            .expect("the folder is ours");
        let port = free_port();
        let mut command = Command::new(tools::program("prometheus"));
        command
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::start("prometheus", &mut command, &folder.path().join("prometheus.log"));
        let base = format!("http://127.0.0.1:{port}");
        let ready = format!("{base}/-/ready");
        settled(PATIENCE, "prometheus is ready", async || match reqwest::get(&ready).await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            other => Err(other.map(|answer| answer.status())),
        })
        .await;
        Self { _process: process, _folder: folder, base }
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url =
            Url::parse_with_params(&format!("{}{path}", self.base), parameters).expect("a valid address");
        let text = reqwest::get(url).await.expect("prometheus answers").text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The values of a query's series, those that are numbers.
    async fn numbers(&self, query: &str) -> Result<Vec<f64>, Value> {
        let answer = self.get("/api/v1/query", &[("query", query)]).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let series = answer["data"]["result"].as_array().expect("a list of series");
        let value = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
        let numbers: Vec<f64> = series.iter().filter_map(value).filter(|number| number.is_finite()).collect();
        if numbers.is_empty() { Err(answer) } else { Ok(numbers) }
    }
}

/// Users on every node, some acknowledging, and pushes that never stop.
async fn load(cluster: &Cluster) -> (Vec<Device>, tokio::task::JoinHandle<()>) {
    let mut devices = Vec::new();
    for (i, node) in cluster.nodes.iter().cycle().take(12).enumerate() {
        devices
            .push(Device::connect(node.envelope(&format!("user{i}")).device("phone").acknowledging()).await);
    }
    let apis: Vec<_> = cluster.nodes.iter().map(|node| node.api()).collect();
    let task = tokio::spawn(async move {
        for n in 0_usize.. {
            apis[n % 3].push_to(&format!("user{}", n % 11), n).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    (devices, task)
}

#[test]
fn prometheus_accepts_the_configuration_and_the_rules() {
    for (what, file) in [("config", "prometheus.yml"), ("rules", "prometheus.rules.yml")] {
        let output = Command::new(tools::program("promtool"))
            .args(["check", what])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
            .output()
            .expect("promtool starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_returns_data_under_load() {
    let cluster = Cluster::start(3).await;
    let (_devices, pushing) = load(&cluster).await;
    let prometheus = Prometheus::start(&cluster).await;
    settled(PATIENCE, "three nodes are scraped", async || {
        let up = prometheus.numbers("up{job=\"postrider\"} == 1").await?;
        if up.len() == 3 { Ok(()) } else { Err(Value::from(up)) }
    })
    .await;
    for (title, query) in dashboard_queries() {
        let query = query
            .replace("$__rate_interval", "6s")
            .replace("\"$job\"", "\"postrider\"")
            .replace("\"$instance\"", "\".+\"");
        settled(PATIENCE, &format!("'{title}' has data: {query}"), async || prometheus.numbers(&query).await)
            .await;
    }
    let accepted = prometheus.numbers("sum(rate(postrider_pushes_total{result=\"accepted\"}[6s]))").await;
    assert!(accepted.as_ref().is_ok_and(|rate| rate[0] > 1.0), "{accepted:?}");
    settled(PATIENCE, "every rule is evaluated without error", async || {
        let rules = prometheus.get("/api/v1/rules", &[]).await;
        let groups = rules["data"]["groups"].as_array().expect("a list of groups");
        let healthy = |group: &Value| {
            group["rules"].as_array().is_some_and(|rules| rules.iter().all(|rule| rule["health"] == "ok"))
        };
        if groups.len() == 2 && groups.iter().all(healthy) { Ok(()) } else { Err(rules) }
    })
    .await;
    pushing.abort();
}
