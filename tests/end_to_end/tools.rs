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
    // Not every user's PATH has the folder of servers.
    let servers = || Some(PathBuf::from("/usr/sbin").join(name)).filter(|file| file.is_file());
    find_program(name).or_else(servers).unwrap_or_else(|| {
        panic!(
            "{name} is not installed: run ./scripts/test, which installs it, or `apt-get install {package}`"
        )
    })
}
