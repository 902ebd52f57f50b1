//! `postrider bench`: a load generator made to be believed.
//!
//! One thread drives every connection over raw TCP (`engine`), so that what it
//! costs itself is small beside what it measures; that cost is in the report.
//!
//! | part | does |
//! |---|---|
//! | `options`, `names`, `payload`, `request`, `frame`, `envelope`, `signer` | what is sent, and how it is read back |
//! | `cluster`, `child`, `usage`, `holders`, `hold` | the processes that are measured, and what they cost |
//! | `receiver(s)`, `publisher`, `load`, `engine`, `timer` | the connections |
//! | `tally`, `timing` | what arrived, against what was sent, and when |
//! | `run`, `report`, `figures`, `progress` | one run, and what is told of it |
//!
//! - Every payload carries its number and the moment it was due; whatever is
//!   lost, repeated, late, misrouted or changed is counted, and any of it makes
//!   the exit code 1.
//! - With `--rate` the moments are fixed in advance, and latency counts from
//!   them: a server that stalls cannot hide it by being asked less.
//! - It refuses to know how nodes work: it speaks HTTP and WebSocket, and looks
//!   at processes from outside.
//!
//! docs/PERFORMANCE.md says how figures were made, and how to make them again.

mod child;
mod cluster;
mod engine;
mod envelope;
mod figures;
mod frame;
mod hold;
mod holders;
mod load;
mod names;
mod options;
mod payload;
mod progress;
mod publisher;
mod receiver;
mod receivers;
mod report;
mod request;
mod run;
mod signer;
mod tally;
mod timer;
mod timing;
mod usage;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::output::{Failure, Lines, say};
use crate::config::Environment;
use crate::shutdown::Signals;
use engine::Stop;
use options::Options;
use run::Run;

const EXAMPLES: &str = "\
Examples:
  What a message costs from node A to a socket on node B, and how long it takes:
    postrider bench unicast --repeat 3
    postrider bench unicast --rate 1000 --repeat 3
  One user on 2,000 sockets; a topic that 2,000 users follow:
    postrider bench fanout --rate 20
    postrider bench fanout --topic --rate 20
  Connections: how fast they are taken, and what 10,000 of them weigh:
    postrider bench connect --sockets 10000
    postrider bench idle --sockets 10000 --seconds 60
  A hundred messages in a request; clients that come and go, resuming:
    postrider bench batch
    postrider bench mixed --rate 2000 --churn 200
  Growth with nodes and with idle connections:
    postrider bench unicast --nodes 32
    postrider bench unicast --nodes 4 --idle 50000
  Nodes that run already, with the processes to measure:
    postrider bench unicast --node http://127.0.0.1:8081 --node http://127.0.0.1:8082 \\
      --pid 'node A=4711' --pid 'node B=4712' --pid redis=4713

Exit codes: 0 measured and nothing lost, 1 failed, or something was lost, repeated, out of order or changed.";

/// Measure nodes: cost per message, latency, memory; and check that every message arrives, once, in order.
///
/// Starts two nodes and a private redis-server, or measures nodes that are given. Figures are of this
/// machine while it does nothing else: what others did meanwhile is reported too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Bench {
    #[command(flatten)]
    options: Options,
}

impl Bench {
    pub(super) fn run(&self, environment: &Environment) -> Result<(), Failure> {
        let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
        let setup = self.options.setup(environment)?;
        if self.options.is_hold() {
            return hold::hold(&setup, &self.options);
        }
        let stop = watch_signals()?;
        let run = Run::new(setup, files)?;
        let (mut runs, mut faults) = (Vec::new(), Vec::new());
        for number in 1..=run.setup.repeat {
            let (figures, fault) = run.once(number, &stop)?;
            runs.push(figures);
            faults.extend(fault);
        }
        let median = figures::median(&runs);
        let conditions = report::conditions(&run.setup);
        let mut stdout = io::stdout();
        let mut lines = Lines::new(&mut stdout);
        if self.options.json {
            lines.put(&figures::json(run.setup.workload.name(), &conditions, &runs, &median))?;
        } else {
            lines.put(&report::headline(&run.setup))?;
            figures::table(&runs, &median).iter().try_for_each(|line| lines.put(line))?;
        }
        match faults.as_slice() {
            [] => Ok(()),
            faults => Err(Failure::Failed(faults.join("; "))),
        }
    }
}

/// The first signal ends the run in order, so that no process is left behind.
fn watch_signals() -> Result<Stop, Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("failed to watch for signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let watched = runtime.block_on(async { io::Result::Ok(Signals::install()?.next().await) });
            match watched {
                Ok(_) => flag.store(true, Ordering::Relaxed),
                Err(error) => say(&format!("signals are not watched: {error}")),
            }
        })
        .map_err(failed)?;
    Ok(stop)
}
