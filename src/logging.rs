//! Where log lines go: stderr, for people or as JSON, through one filter.
//!
//! Knows nothing of ours. Payloads, tokens and secrets are never handed to it.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

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
    let filter = filter.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let begun = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().is_ok();
    if !begun {
        tracing::debug!("logging was begun before");
    }
}
