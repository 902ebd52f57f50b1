//! `postrider bench` where it cannot measure.

use clap::Args;

use super::output::Failure;
use crate::config::Environment;

/// Measure nodes (on Linux only).
#[derive(Debug, Args)]
pub(super) struct Bench {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _anything: Vec<String>,
}

impl Bench {
    pub(super) fn run(&self, _: &Environment) -> Result<(), Failure> {
        Err(Failure::Failed(
            "bench runs on Linux only: what processes cost is read from /proc, and timers come from the kernel"
                .to_owned(),
        ))
    }
}
