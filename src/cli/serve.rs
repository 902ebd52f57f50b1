//! `postrider serve`: configuration, logging, a node, an exit code.

use std::io;

use clap::Args;
use tokio::runtime;

use super::Exit;
use super::flags::Flags;
use super::output::{self, Lines, say};
use crate::config::{Config, Environment, Inputs};
use crate::shutdown::{Shutdown, Signals};
use crate::{logging, node};

const EXAMPLES: &str = "\
Examples:
  One node that keeps everything in memory:
    postrider serve
  Nodes of one cluster on one machine:
    postrider serve --listen 127.0.0.1:8081 --redis redis://127.0.0.1:6379
    postrider serve --listen 127.0.0.1:8082 --redis redis://127.0.0.1:6379
  Open to others:
    export POSTRIDER_JWT_SECRET=$(openssl rand -hex 32) POSTRIDER_API_KEY=$(openssl rand -hex 16)
    postrider serve --listen 0.0.0.0:8080 --redis redis://10.0.0.5:6379 --auth jwt
  What it would run with, and where each value comes from:
    postrider serve --config postrider.toml --print-config

SIGTERM and SIGINT drain the node: sessions are asked to go elsewhere, and it exits with 0.
A second signal ends it at once. 'serve --help' lists every setting, 'serve -h' the main ones.";

/// Serve a node: accept pushes, deliver to WebSockets.
///
/// Settings come from flags, else POSTRIDER_ variables, else the file, else defaults. Anything unknown or
/// wrong among them is refused at start, all at once, with exit code 64.
#[derive(Debug, Default, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: Flags,
    /// Print the effective settings as TOML, secrets redacted, each with where it comes from, and exit.
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    pub(super) fn inputs(self, environment: &Environment, open_files: Option<u64>) -> Inputs {
        self.flags.inputs(environment, open_files)
    }

    pub(super) fn run(self, environment: &Environment) -> Exit {
        let open_files = raise_open_files();
        let print_config = self.print_config;
        let config = match Config::load(&self.inputs(environment, open_files)) {
            Ok(config) => config,
            Err(problems) => {
                say(&problems.to_string());
                return Exit::Configuration;
            }
        };
        if print_config {
            return output::exit_of(|| Lines::new(&mut io::stdout()).put(config.to_toml().trim_end()));
        }
        logging::init(config.log_format, &config.log);
        for warning in config.warnings(open_files) {
            tracing::warn!("{warning}");
        }
        let runtime = match runtime::Builder::new_multi_thread()
            .worker_threads(config.worker_threads)
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!("failed to start the runtime: {error}");
                return Exit::Failed;
            }
        };
        let exit = runtime.block_on(serve(config));
        // After a second signal nothing is waited for; otherwise nothing is left.
        runtime.shutdown_background();
        exit
    }
}

async fn serve(config: Config) -> Exit {
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("failed to watch for signals: {error}");
            return Exit::Failed;
        }
    };
    let shutdown = Shutdown::new();
    let node = Box::pin(node::run(config, shutdown.clone()));
    tokio::select! {
        result = node => match result {
            Ok(()) => Exit::Done,
            Err(error) => {
                tracing::error!("failed to {error}");
                Exit::Failed
            }
        },
        code = signals.govern(&shutdown) => {
            tracing::warn!("second signal: exiting at once");
            Exit::Signal(code)
        }
    }
}

/// Every session is an open file: takes what the system allows, and says how many.
fn raise_open_files() -> Option<u64> {
    rlimit::increase_nofile_limit(u64::MAX).ok()
}
