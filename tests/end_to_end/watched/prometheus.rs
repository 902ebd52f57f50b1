//! A real Prometheus with the project's own configuration.

use std::net::SocketAddr;
use std::process::Command;

use reqwest::Url;
use serde_json::Value;
use tempfile::TempDir;

use super::dashboard::read;
use crate::harness::{PATIENCE, Process, free_port, settled};
use crate::tools;

pub(super) struct Prometheus {
    _process: Process,
    _folder: TempDir,
    base: String,
}

impl Prometheus {
    /// With `prometheus.yml`, its addresses replaced by these, and quicker.
    pub(super) async fn start(targets: &[SocketAddr]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut config = read("prometheus.yml")
            .replace("_interval: 5s", "_interval: 500ms")
            .replace("scrape_timeout: 4s", "scrape_timeout: 500ms");
        for (port, target) in (8081..).zip(targets) {
            config = config.replace(&format!("127.0.0.1:{port}"), &target.to_string());
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

    pub(super) async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url =
            Url::parse_with_params(&format!("{}{path}", self.base), parameters).expect("a valid address");
        let text = reqwest::get(url).await.expect("prometheus answers").text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The values of a query's series now, those that are numbers.
    pub(super) async fn numbers(&self, query: &str) -> Vec<f64> {
        let answer = self.get("/api/v1/query", &[("query", query)]).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let series = answer["data"]["result"].as_array().expect("a list of series");
        let value = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
        series.iter().filter_map(value).filter(|number| number.is_finite()).collect()
    }

    /// Every number that a query came to since it was started.
    pub(super) async fn numbers_so_far(&self, query: &str) -> Vec<f64> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        // Beyond now, so that the last scrape is within.
        let (from, to) = ((now.as_secs() - 300).to_string(), (now.as_secs() + 2).to_string());
        // Twice as often as is scraped: what was there for one scrape is seen.
        let parameters = [("query", query), ("start", &from), ("end", &to), ("step", "0.25")];
        let answer = self.get("/api/v1/query_range", &parameters).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let series = answer["data"]["result"].as_array().expect("a list of series");
        let samples = series.iter().flat_map(|one| one["values"].as_array().into_iter().flatten());
        let value = |sample: &Value| sample[1].as_str().and_then(|text| text.parse::<f64>().ok());
        samples.filter_map(value).filter(|number| number.is_finite()).collect()
    }
}
