//! The command line: serve a node, and do from a shell what the API does.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed: the server refused, the node could not run, or the ledger does not add up; the message says what to do |
//! | 2 | the command was not understood |
//! | 64 | the configuration was refused |
//! | 69 | no server was reached |
//! | 128 + n | a second signal n ended the node at once |
//!
//! The client commands know only the public API: HTTP and WebSocket; `audit`
//! alone reads the store, since a proof should not trust a node. Results go
//! to stdout, everything else to stderr. A reader that closes the pipe ends a
//! command quietly.

mod api;
mod audit;
#[cfg(target_os = "linux")]
mod bench;
#[cfg(not(target_os = "linux"))]
#[path = "bench_elsewhere.rs"]
mod bench;
mod check;
mod flags;
mod health;
mod key;
mod listen;
mod nodes;
mod output;
mod push;
mod serve;
#[cfg(test)]
mod tests;
mod utc;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Client, Environment};
use output::Failure;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done,
    Failed,
    Usage,
    Configuration,
    Unreachable,
    Signal(u8),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            // EX_USAGE and EX_UNAVAILABLE of sysexits.
            Self::Configuration => 64,
            Self::Unreachable => 69,
            Self::Signal(code) => code,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  postrider                                    one node in memory on 127.0.0.1:8080
  postrider serve --redis redis://127.0.0.1:6379 --listen 127.0.0.1:8081
  postrider listen --user alice                in another terminal
  postrider push --to user:alice 'hello'       in a third

'postrider COMMAND --help' tells more of each.";

#[derive(Debug, Parser)]
#[command(name = "postrider", version, after_help = EXAMPLES, max_term_width = 100)]
/// Delivers messages to people's devices: durable, in order, each once.
///
/// Without a command it serves one node in memory on 127.0.0.1:8080.
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Config(check::Config),
    Push(push::Push),
    Listen(listen::Listen),
    Nodes(nodes::Nodes),
    Health(health::Health),
    Key(key::Key),
    Bench(Box<bench::Bench>),
    Audit(audit::Audit),
}

/// Which node a client command talks to.
#[derive(Debug, Args)]
struct Target {
    /// The node's address [variable POSTRIDER_URL; default: http:// and what POSTRIDER_LISTEN says, else
    /// 127.0.0.1:8080].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// What a sender presents.
#[derive(Debug, Args)]
struct Sender {
    /// The API key, where the server asks for one [variable POSTRIDER_API_KEY or POSTRIDER_API_KEY_FILE].
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
}

impl Target {
    fn client(
        &self,
        api_key: Option<&str>,
        token: Option<&str>,
        environment: &Environment,
    ) -> Result<Client, Failure> {
        Client::new(self.url.as_deref(), api_key, token, environment)
            .map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// Runs the command of a command line; the result is the process's exit code.
pub fn run(line: impl IntoIterator<Item = OsString>, environment: &Environment) -> ExitCode {
    let line = match Line::try_parse_from(line) {
        Ok(line) => line,
        Err(error) => {
            // Help goes to stdout, complaints to stderr; a closed pipe is nobody's problem.
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return exit.code().into();
        }
    };
    let exit = match line.command.unwrap_or_else(|| Command::Serve(serve::Serve::default())) {
        Command::Serve(serve) => serve.run(environment),
        Command::Config(config) => config.run(environment),
        Command::Push(push) => output::exit_of(|| block_on(push.run(environment))),
        Command::Listen(listen) => output::exit_of(|| block_on(listen.run(environment))),
        Command::Nodes(nodes) => output::exit_of(|| block_on(nodes.run(environment))),
        Command::Health(health) => output::exit_of(|| block_on(health.run(environment))),
        Command::Key(key) => output::exit_of(|| key.run()),
        Command::Bench(bench) => output::exit_of(|| bench.run(environment)),
        Command::Audit(audit) => audit.run(environment),
    };
    exit.code().into()
}

/// A client command needs no more than this thread.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("failed to start: {error}")))?;
    let result = runtime.block_on(command);
    // A name look-up that hangs in its thread must not keep the process.
    runtime.shutdown_background();
    result
}
