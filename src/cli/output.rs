//! What a client command writes, and how it fails.

use std::io::{self, Write};

use super::Exit;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command cannot be carried out as it was given.
    Usage(String),
    /// The server, or this machine, refused.
    Failed(String),
    /// No server answered.
    Unreachable(String),
    /// Whoever read our output has gone: not a failure to tell anyone of.
    Closed,
}

/// Runs a command, tells of its failure on stderr, and says how it ended.
pub(super) fn exit_of(command: impl FnOnce() -> Result<(), Failure>) -> Exit {
    let (exit, text) = match command() {
        Ok(()) | Err(Failure::Closed) => return Exit::Done,
        Err(Failure::Usage(text)) => (Exit::Usage, text),
        Err(Failure::Failed(text)) => (Exit::Failed, text),
        Err(Failure::Unreachable(text)) => (Exit::Unreachable, text),
    };
    say(&text);
    exit
}

/// A line for people on stderr. Unlike `eprintln`, it bears a closed pipe.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "postrider: {text}");
}

/// Lines of results. Tests collect them.
pub(super) struct Lines<'a>(&'a mut dyn Write);

impl<'a> Lines<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self(out)
    }

    /// Writes one line, which a reader has when this returns.
    pub(super) fn put(&mut self, line: &str) -> Result<(), Failure> {
        let written = self.0.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.0.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Failed(format!("failed to write the output: {error}")),
        })
    }
}

/// JSON text on one line: between its tokens a line break is as good as a space,
/// and within a string it cannot stand.
pub(super) fn one_line(json: &str) -> String {
    json.trim().replace(['\n', '\r'], " ")
}

/// `1 node`, `2 nodes`.
pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
