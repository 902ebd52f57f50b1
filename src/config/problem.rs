//! What is wrong with a configuration: all of it, each line to be acted on.

use std::fmt;

use super::layers::Origin;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The flag, variable or file key, as the operator typed it.
    pub name: String,
    /// The value given, redacted if it may be secret; none when there is none.
    pub value: Option<String>,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} '{}' {}", self.name, value.escape_debug(), self.text),
            None => write!(f, "{} {}", self.name, self.text),
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(problems) = self;
        let noun = if problems.len() == 1 { "problem" } else { "problems" };
        write!(f, "configuration refused, {} {noun}:", problems.len())?;
        problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// A setting with a good value, written the way its origin is written.
pub(super) fn example(origin: &Origin, key: &str, value: &str) -> String {
    match origin {
        Origin::Variable(name) => format!("{name}={value}"),
        Origin::File { .. } => format!("{key} = {}", toml_of(value)),
        Origin::Flag(name) => format!("{name} {value}"),
        Origin::Default => format!("{} {value}", super::flag_of(key)),
    }
}

fn toml_of(example: &str) -> String {
    if example.parse::<i64>().is_ok() {
        return example.to_owned();
    }
    toml::Value::String(example.to_owned()).to_string()
}
