//! `postrider key`: API keys and the entries that nodes know them by.

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};

use super::output::{Failure, Lines};
use crate::http::auth::ApiKey;

/// 256 bits: nobody guesses them, so a plain hash keeps them.
const KEY_BYTES: usize = 32;
const INPUT_BYTES_MAX: u64 = 8 * 1_024;

const NEW_EXAMPLES: &str = "\
Examples:
  postrider key new --name backend --scope push --scope read
  postrider key new --name orders --scope push=topic:orders.* --scope push=user:*
  postrider key new --name grafana --scope read --json

The key is printed once and kept nowhere; nodes get the entry, which does not reveal it. To replace a key, list the
entries of both under the same name until every sender has the new one.";

const ENTRY_EXAMPLES: &str = "\
Examples:
  printf %s \"$KEY\" | postrider key entry --name backend --scope push
  postrider key entry --name backend --scope push </run/secrets/key";

/// Make API keys.
#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key, and the entry to list in 'api_keys'.
    #[command(after_help = NEW_EXAMPLES)]
    New(New),
    /// Print the entry of a key that you have, which is read from standard input.
    #[command(after_help = ENTRY_EXAMPLES)]
    Entry(Owner),
}

/// Whose key it is, and what it allows.
#[derive(Debug, Args)]
struct Owner {
    /// What the sender is called: in logs, and for telling apart idempotency keys and rates.
    #[arg(long)]
    name: String,
    /// What it allows: push, push=PATTERN, read, tickets, admin; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,
}

#[derive(Debug, Args)]
struct New {
    #[command(flatten)]
    owner: Owner,
    /// Print both as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Owner {
    fn entry(&self, key: &str) -> Result<String, Failure> {
        ApiKey::entry(&self.name, key, &self.scopes.join(" "))
            .map_err(|error| Failure::Usage(format!("the entry {error}")))
    }
}

impl Key {
    pub(super) fn run(&self) -> Result<(), Failure> {
        self.answer(&mut io::stdin(), &mut io::stdout())
    }

    /// [`Self::run`] with input and output anywhere.
    pub(super) fn answer(&self, input: &mut dyn Read, out: &mut dyn Write) -> Result<(), Failure> {
        let mut lines = Lines::new(out);
        match &self.command {
            Command::New(New { owner, json }) => {
                let key = format!("pr_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; KEY_BYTES]>()));
                let entry = owner.entry(&key)?;
                if *json {
                    return lines.put(&serde_json::json!({"key": key, "entry": entry}).to_string());
                }
                lines.put(&format!("key    {key}"))?;
                lines.put(&format!("entry  {entry}"))
            }
            Command::Entry(owner) => {
                let mut key = String::new();
                let read = input.take(INPUT_BYTES_MAX).read_to_string(&mut key);
                read.map_err(|error| Failure::Failed(format!("failed to read the key: {error}")))?;
                let key = key.trim_end_matches(['\r', '\n']);
                if key.len() < 16 {
                    let text = "the key has fewer than 16 characters, so its hash could be guessed: use 'postrider key new'";
                    return Err(Failure::Usage(text.to_owned()));
                }
                lines.put(&owner.entry(key)?)
            }
        }
    }
}
