//! The effective configuration as a file that could be used again.

use std::fmt::Write;

use super::table::{Config, settings};

impl Config {
    /// The configuration as TOML, each value with its source; secrets redacted.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = format!("# The effective configuration of postrider {}.\n", env!("CARGO_PKG_VERSION"));
        let mut section = "";
        for (setting, effective) in settings().iter().zip(self.effective()) {
            if setting.section != section {
                section = setting.section;
                let _ = writeln!(out, "\n# {section}");
            }
            let _ = match effective.value {
                Some(value) => writeln!(out, "{} = {value}  # {}", effective.key, effective.origin),
                None => writeln!(out, "# {} is not set", effective.key),
            };
        }
        out
    }
}
