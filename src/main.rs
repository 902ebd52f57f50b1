//! The `postrider` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    postrider::cli::run(std::env::args_os(), &postrider::config::Environment::of_process())
}
