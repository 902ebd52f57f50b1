//! `postrider nodes`: who is in the cluster.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde::Deserialize;

use super::api::Api;
use super::output::{Failure, Lines, one_line};
use super::{Sender, Target};
use crate::config::Environment;

const TIMEOUT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  postrider nodes
  postrider nodes --url http://10.0.0.5:8080 --json | jq -r '.nodes[].address'";

/// List the live nodes of the cluster.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Nodes {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    sender: Sender,
    /// Print the server's answer as JSON, on one line.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Answer {
    nodes: Vec<Node>,
}

/// As much as a line shows; what an older or newer node leaves out is blank.
#[derive(Deserialize)]
struct Node {
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    sessions: u64,
    #[serde(default)]
    draining: bool,
    #[serde(default)]
    heartbeat_age_ms: u64,
}

impl Nodes {
    pub(super) async fn run(&self, environment: &Environment) -> Result<(), Failure> {
        self.list(environment, &mut io::stdout()).await
    }

    /// [`Self::run`] with its output anywhere.
    pub(super) async fn list(&self, environment: &Environment, out: &mut dyn Write) -> Result<(), Failure> {
        let client = self.target.client(self.sender.api_key.as_deref(), None, environment)?;
        let api = Api::new(&client, TIMEOUT)?;
        let answer = api.ask(api.request(Method::GET, "/v1/nodes")).await?;
        let mut lines = Lines::new(out);
        if self.json {
            return lines.put(&one_line(&answer));
        }
        let answer: Answer = serde_json::from_str(&answer).map_err(|_| {
            Failure::Failed("the answer lists no nodes: is this a postrider node?".to_owned())
        })?;
        table(&answer.nodes).iter().try_for_each(|line| lines.put(line))
    }
}

/// Lines whose columns stand below each other.
fn table(nodes: &[Node]) -> Vec<String> {
    let head = ["NODE", "ADDRESS", "VERSION", "STARTED", "SESSIONS", "HEARTBEAT", "STATE"];
    let rows: Vec<[String; 7]> = std::iter::once(head.map(str::to_owned))
        .chain(nodes.iter().map(|node| {
            [
                node.id.clone(),
                node.address.clone(),
                node.version.clone(),
                node.started_at.clone(),
                node.sessions.to_string(),
                format!("{} ms ago", node.heartbeat_age_ms),
                if node.draining { "draining" } else { "serving" }.to_owned(),
            ]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}
