//! Where log lines go: stderr, for people or as JSON, through one filter.
//!
//! Knows nothing of ours. Payloads, tokens and secrets are never handed to it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people; coloured on a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

/// Begins logging. A second call in one process (tests) changes nothing.
///
/// `filter` was validated with the configuration; one that is not valid after
/// all falls back to `info`, since a node without logs helps nobody.
pub fn init(format: Format, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    let begun = match format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).try_init().is_ok(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).try_init().is_ok(),
    };
    if !begun {
        tracing::debug!("logging was begun before");
    }
}
