//! Idle connections held by processes of their own: beyond the files that one
//! process may open, or so that their cost is not this one's.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::names::Names;
use super::usage;
use crate::cli::output::Failure;

/// Connections in one process.
const EACH_MAX: usize = 15_000;
/// Their users' numbers begin here, so that they are nobody else's.
const FIRST_USER: u32 = 5_000_000;
/// Their source addresses are some of these, others in each run: ports that an
/// earlier run's connections wait in are not free. Sockets of the run itself
/// have those below.
const SOURCES: std::ops::Range<u16> = 100..60_000;

/// Processes that hold connections until they are dropped.
#[derive(Debug, Default)]
pub(super) struct Holders(Vec<Child>);

impl Holders {
    /// Starts them, and returns when all their connections are open.
    pub(super) fn start(
        connections: usize,
        nodes: &[SocketAddr],
        names: &Names,
        jwt_secret_file: Option<&std::path::Path>,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::Failed(format!("failed to hold connections: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut holders = Self::default();
        let first_source = rand::random_range(SOURCES);
        let mut begun = 0;
        while begun < connections {
            let count = EACH_MAX.min(connections - begun);
            let source = first_source + u16::try_from(holders.0.len()).unwrap_or(u16::MAX);
            let mut command = Command::new(&program);
            command.args(["bench", "hold", "--sockets", &count.to_string(), "--names", names.prefix()]);
            command.args(["--first-user", &(FIRST_USER as usize + begun).to_string()]);
            command.args(["--source", &source.to_string()]);
            for node in nodes {
                command.args(["--node", &format!("http://{node}")]);
            }
            if let Some(file) = jwt_secret_file {
                command.arg("--jwt-secret-file").arg(file);
            }
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let child = command.spawn().map_err(failed)?;
            holders.0.push(child);
            begun += count;
        }
        for child in &mut holders.0 {
            let mut line = String::new();
            let stdout = child.stdout.take().expect("it was asked for");
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
            if !line.starts_with("open") {
                return Err(Failure::Failed("a process that should hold connections could not".into()));
            }
        }
        Ok(holders)
    }

    pub(super) fn cpu_ns(&self) -> u64 {
        self.0.iter().filter_map(|child| usage::cpu_ns(child.id())).sum()
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
