//! The process's environment: the only place that reads it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::problem::Problem;
use super::table::KEYS;
use super::{CLIENT_KEYS, VARIABLE_PREFIX, nearest, variable_of};

/// A snapshot of variables, so that tests bring their own.
#[derive(Clone, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

// Values may be secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// Variables of the caller's own.
    #[must_use]
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The variable of a key, if it is set and is text.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let name = variable_of(key);
        self.0
            .iter()
            .find(|(known, _)| known.to_str() == Some(name.as_str()))
            .and_then(|(_, value)| value.to_str())
    }
}

/// The settings among the variables, by file key; what begins like ours and is
/// none of ours is a problem.
pub(super) fn settings(environment: &Environment, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for (name, value) in &environment.0 {
        let Some(name) = name.to_str() else { continue };
        let Some(suffix) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
        let problem = |text: String| Problem { name: name.to_owned(), value: None, text };
        if is_service_link(suffix, value, environment) {
            continue;
        }
        let key = suffix.to_ascii_lowercase();
        if suffix != key.to_ascii_uppercase() || !known(&key) {
            problems.push(problem(hint(suffix)));
            continue;
        }
        match value.to_str() {
            Some(value) => drop(settings.insert(key, value.to_owned())),
            None => problems.push(problem("must be UTF-8".to_owned())),
        }
    }
    settings
}

fn known(key: &str) -> bool {
    let of_secret = |stem| KEYS.iter().any(|(known, secret)| *known == stem && secret());
    key == "config"
        || CLIENT_KEYS.contains(&key)
        || KEYS.iter().any(|(known, _)| *known == key)
        || key.strip_suffix("_file").is_some_and(of_secret)
}

fn hint(suffix: &str) -> String {
    let keys = KEYS.iter().map(|(key, _)| *key).chain(CLIENT_KEYS.iter().copied()).chain(["config"]);
    match nearest(&suffix.to_ascii_lowercase(), keys) {
        Some(near) => format!("is no variable of ours: did you mean {}?", variable_of(near)),
        None => "is no variable of ours: 'postrider serve --help' lists them".to_owned(),
    }
}

/// Kubernetes sets such variables in every pod beside a Service named
/// `postrider` or `postrider-…`; refusing them would refuse to start there. They
/// are told from what somebody meant for us (`POSTRIDER_PORT=9000`) by their
/// values, or by each other.
fn is_service_link(suffix: &str, value: &OsStr, environment: &Environment) -> bool {
    let parts: Vec<&str> = suffix.split('_').collect();
    let of_port = |part: &[&str]| {
        let number = !part[1].is_empty() && part[1].bytes().all(|b| b.is_ascii_digit());
        part[0] == "PORT" && number && matches!(part[2], "TCP" | "UDP" | "SCTP")
    };
    if parts.windows(3).any(of_port) {
        return true;
    }
    let set = |service: &[&str], last: &str| {
        let name = format!("{VARIABLE_PREFIX}{}", [service, &["SERVICE", last]].concat().join("_"));
        environment.0.iter().any(|(known, _)| known.to_str() == Some(name.as_str()))
    };
    let host = matches!(&parts[..], [service @ .., "SERVICE", "HOST"] if set(service, "PORT"));
    let address = || {
        let value = value.to_str().unwrap_or_default();
        ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
    };
    // Behind it comes the port's name, if it has one.
    let port = |(at, part): (usize, &[&str])| part == ["SERVICE", "PORT"] && set(&parts[..at], "HOST");
    host || (parts.last() == Some(&"PORT") && address()) || parts.windows(2).enumerate().any(port)
}
