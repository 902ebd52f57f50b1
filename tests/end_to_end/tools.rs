//! Programs of others that tests use.

use std::path::PathBuf;

use crate::harness::find_program;

/// Where it is.
///
/// # Panics
/// When it is missing, with what to do about it.
pub(crate) fn program(name: &str) -> PathBuf {
    let package = match name {
        "promtool" | "prometheus" => "prometheus",
        "node" => "nodejs",
        other => other,
    };
    find_program(name).unwrap_or_else(|| {
        panic!(
            "{name} is not installed: run ./scripts/test, which installs it, or `apt-get install {package}`"
        )
    })
}
