//! Configuration: flags above environment above file above defaults.
//!
//! Each setting is one entry of `table.rs`; from it come its field of
//! [`Config`], its flag, its `POSTRIDER_…` variable, its key in the TOML file,
//! its line in `--help` and in `--print-config`.
//!
//! - A configuration is accepted whole or refused whole: unknown keys,
//!   unknown `POSTRIDER_` variables, bad values and settings that contradict
//!   each other are all collected into one [`Problems`].
//! - Secrets are [`Secret`]s or [`RedisUrl`]s from the moment they are read:
//!   neither `Debug` nor a problem nor `--print-config` shows them.
//! - Nothing else reads the environment, and this reads it once, through an
//!   [`Environment`] that tests replace.

mod accept;
mod auth;
mod check;
mod client;
mod environment;
mod layers;
mod print;
mod problem;
mod rule;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use client::{Client, ClientError};
pub use environment::Environment;
pub use problem::{Problem, Problems};
pub(crate) use settings::Setting;
pub use table::Config;
pub(crate) use table::settings;
pub use value::{AuthMode, REDACTED, RedisUrl, Secret};

use crate::store;

/// What every variable of ours begins with.
const VARIABLE_PREFIX: &str = "POSTRIDER_";
/// Variables that only the client commands read.
const CLIENT_KEYS: &[&str] = &["url", "token", "token_file"];

/// Everything that configuration is made of.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Flags by file key, as given.
    pub flags: BTreeMap<String, String>,
    /// `--config`.
    pub config_file: Option<PathBuf>,
    /// The variables.
    pub environment: Environment,
    /// How many files this process may open, if it is known.
    pub open_files: Option<u64>,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(inputs: &Inputs) -> Result<Self, Problems> {
        let mut layers = layers::Layers::read(inputs);
        let config = Self::take(&mut layers);
        let mut problems = layers.problems;
        problems.extend(config.disagreements());
        if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
    }

    /// What is allowed but probably not meant, to be logged at start.
    #[must_use]
    pub fn warnings(&self, open_files: Option<u64>) -> Vec<String> {
        self.doubts(open_files)
    }

    /// The store's limits.
    #[must_use]
    pub fn limits(&self) -> store::Limits {
        let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        store::Limits {
            mailbox_messages_max: self.mailbox_messages_max,
            idempotency_window_ms: ms(self.idempotency_window),
            channel_retention_ms: ms(self.channel_retention),
            heartbeat_ttl_ms: ms(self.heartbeat_ttl),
            heartbeat_grace_ms: ms(self.heartbeat_grace),
            stream_entries_max: self.stream_entries_max,
            cursors_max: self.channel_cursors_max,
            ..store::Limits::default()
        }
    }

    /// What TLS towards Redis needs.
    #[must_use]
    pub fn redis_tls(&self) -> store::redis::TlsFiles {
        let path = |text: &Option<String>| text.as_ref().map(PathBuf::from);
        store::redis::TlsFiles {
            ca: path(&self.redis_tls_ca_file),
            cert: path(&self.redis_tls_cert_file),
            key: path(&self.redis_tls_key_file),
        }
    }
}

/// The flag of a file key.
pub(crate) fn flag_of(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// The variable of a file key.
pub(crate) fn variable_of(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase())
}

/// A file's text, unless it is larger than anything meant to be read here.
fn read_capped(path: &Path, bytes_max: u64) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > bytes_max { Err(format!("it is above {bytes_max} bytes")) } else { Ok(text) }
}

/// The known word that a mistyped one most likely stands for.
fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, word) = known.map(|word| (distance(typed, word), word)).min()?;
    (distance <= (typed.len() / 3).clamp(1, 4)).then_some(word)
}

/// Edits (insert, delete, replace, swap neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(table[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    table[a.len()][b.len()]
}
