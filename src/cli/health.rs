//! `postrider health`: for whatever restarts containers.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use reqwest::Method;

use super::Target;
use super::api::Api;
use super::output::{Failure, Lines};
use crate::config::{Client, Environment};

const TIMEOUT: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  postrider health
  postrider health --ready --url http://127.0.0.1:8081
  HEALTHCHECK CMD [\"postrider\", \"health\"]        in a Dockerfile

Exit codes: 0 healthy, 1 not, also when no server was reached.";

/// Ask a node whether it is alive.
///
/// Alive is the process alone: a node whose Redis is away is alive, since restarting it would only cost its
/// sessions. --ready also asks for Redis and against draining, as a load balancer does.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Health {
    /// Ask whether it is ready for traffic.
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    target: Target,
}

impl Health {
    pub(super) async fn run(&self, environment: &Environment) -> Result<(), Failure> {
        self.ask(environment, &mut io::stdout()).await
    }

    /// [`Self::run`] with its output anywhere.
    pub(super) async fn ask(&self, environment: &Environment, out: &mut dyn Write) -> Result<(), Failure> {
        self.probe(environment, out).await.map_err(|failure| match failure {
            // Container engines reserve other codes than 0 and 1.
            Failure::Unreachable(text) | Failure::Usage(text) => Failure::Failed(text),
            other => other,
        })
    }

    async fn probe(&self, environment: &Environment, out: &mut dyn Write) -> Result<(), Failure> {
        let client = self.target.client(None, None, environment)?;
        // It needs no key, so it sends none.
        let api = Api::new(&Client { api_key: None, ..client }, TIMEOUT)?;
        let path = if self.ready { "/readyz" } else { "/healthz" };
        let answer = api.ask(api.request(Method::GET, path)).await?;
        let status: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        Lines::new(out).put(status["status"].as_str().unwrap_or("ok"))
    }
}
