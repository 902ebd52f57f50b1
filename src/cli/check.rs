//! `postrider config check`: whether `serve` would start with it.

use std::io;

use clap::{Args, Subcommand};

use super::Exit;
use super::flags::Flags;
use super::output::{self, Lines, say};
use crate::config::{self, Environment};

const EXAMPLES: &str = "\
Examples:
  postrider config check --config /etc/postrider.toml
  POSTRIDER_TTL_MAX_SECONDS=week postrider config check

Prints 'ok', or every problem on stderr with exit code 64.";

/// Look at a configuration without serving.
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Tell whether 'postrider serve' would start with these flags, variables and file.
    #[command(after_help = EXAMPLES)]
    Check(Flags),
}

impl Config {
    pub(super) fn run(self, environment: &Environment) -> Exit {
        let What::Check(flags) = self.what;
        let open_files = rlimit::Resource::NOFILE.get_hard().ok();
        match config::Config::load(&flags.inputs(environment, open_files)) {
            Ok(config) => {
                for warning in config.warnings(open_files) {
                    say(&format!("warning: {warning}"));
                }
                output::exit_of(|| Lines::new(&mut io::stdout()).put("ok"))
            }
            Err(problems) => {
                say(&problems.to_string());
                Exit::Configuration
            }
        }
    }
}
