//! The `postrider` program: everything is in the library.

use std::process::ExitCode;

// Messages and sessions are many small things of a few sizes that one thread
// makes and another drops.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postrider::cli::run(std::env::args_os(), &postrider::config::Environment::of_process())
}
