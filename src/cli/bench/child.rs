//! Processes that a run starts, and that end with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::cli::output::Failure;

/// How often something that should happen soon is looked for.
const LOOK: Duration = Duration::from_millis(10);
/// How long a process may take to leave once it was asked to.
const LEAVING_MAX: Duration = Duration::from_secs(5);
/// So much of a log is shown of a process that failed.
const LOG_LINES: usize = 5;

/// A process of ours.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command that writes what it has to say into `log`.
    pub(super) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::Failed(format!("failed to start {name}: {error}"));
        let file = File::create(log).map_err(failed)?;
        let also = file.try_clone().map_err(failed)?;
        let child = command.stdin(Stdio::null()).stdout(also).stderr(file).spawn().map_err(failed)?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Looks until there is something to see, or the process ends, or it takes
    /// too long.
    pub(super) fn await_some<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        loop {
            if let Some(seen) = look(self) {
                return Ok(seen);
            }
            let ended = matches!(self.child.try_wait(), Ok(Some(_)) | Err(_));
            if ended || begun.elapsed() > within {
                let how = if ended { "ended" } else { "took too long" };
                let log = self.log();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
                return Err(Failure::Failed(format!("{} {how} before it {what}:\n  {tail}", self.name)));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Asks it to leave; [`Drop`] waits for it.
    pub(super) fn ask_to_leave(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Failing means that it has gone already.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.ask_to_leave();
        let begun = Instant::now();
        while begun.elapsed() < LEAVING_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
