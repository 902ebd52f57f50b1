//! How one kind of setting is read, checked, shown.
//!
//! A rule says what it wants in words that complete "must be …"; whoever
//! applies it adds the setting's name, the value, and an example.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Value as Toml;

use super::value::{AuthMode, REDACTED, RedisUrl, Secret, redact_url};
use crate::logging::Format;

/// A value as it was given, before it means anything.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    /// Of a flag or variable: a text that may stand for any type.
    Word(String),
    /// Of the file: typed already.
    Toml(Toml),
}

impl Raw {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Word(text) | Self::Toml(Toml::String(text)) => Some(text),
            Self::Toml(_) => None,
        }
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Self::Word(text) => text.parse().ok(),
            Self::Toml(Toml::Integer(number)) => Some(*number),
            Self::Toml(_) => None,
        }
    }

    /// As a problem repeats it, before redaction.
    pub(super) fn given(&self) -> String {
        match self {
            Self::Word(text) | Self::Toml(Toml::String(text)) => text.clone(),
            Self::Toml(value) => value.to_string(),
        }
    }
}

/// One kind of setting.
pub(super) trait Rule {
    /// What a valid value becomes.
    type Value;

    /// Reads a value; the error says what it must be.
    fn read(&self, raw: &Raw) -> Result<Self::Value, String>;

    /// The value for `--print-config`; none when it is not set.
    fn show(&self, value: &Self::Value) -> Option<Toml>;

    /// A value that could not be read, as it may be repeated.
    fn repeat(&self, given: &str) -> String {
        given.chars().take(200).collect()
    }

    /// Whether it may come from a file of its own.
    fn secret(&self) -> bool {
        false
    }
}

/// A setting that may be absent.
pub(super) struct Maybe<R>(pub(super) R);

impl<R: Rule> Rule for Maybe<R> {
    type Value = Option<R::Value>;

    fn read(&self, raw: &Raw) -> Result<Self::Value, String> {
        self.0.read(raw).map(Some)
    }

    fn show(&self, value: &Self::Value) -> Option<Toml> {
        value.as_ref().and_then(|value| self.0.show(value))
    }

    fn repeat(&self, given: &str) -> String {
        self.0.repeat(given)
    }

    fn secret(&self) -> bool {
        self.0.secret()
    }
}

/// A number, and what it counts.
pub(super) struct Count(pub(super) &'static str, pub(super) RangeInclusive<u64>);

impl Count {
    fn number(&self, raw: &Raw) -> Result<u64, String> {
        let Self(unit, range) = self;
        raw.integer()
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                format!("must be a whole number of {unit} from {} to {}", range.start(), range.end())
            })
    }
}

fn show_number(number: u128) -> Option<Toml> {
    Some(Toml::Integer(i64::try_from(number).unwrap_or(i64::MAX)))
}

impl Rule for Count {
    type Value = usize;

    fn read(&self, raw: &Raw) -> Result<usize, String> {
        // Bounds are far below 2^32, the smallest usize this builds for.
        self.number(raw).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    fn show(&self, value: &usize) -> Option<Toml> {
        show_number(*value as u128)
    }
}

/// A span of time in milliseconds.
pub(super) struct Millis(pub(super) RangeInclusive<u64>);

impl Rule for Millis {
    type Value = Duration;

    fn read(&self, raw: &Raw) -> Result<Duration, String> {
        Count("milliseconds", self.0.clone()).number(raw).map(Duration::from_millis)
    }

    fn show(&self, value: &Duration) -> Option<Toml> {
        show_number(value.as_millis())
    }
}

/// A span of time in seconds.
pub(super) struct Seconds(pub(super) RangeInclusive<u64>);

impl Rule for Seconds {
    type Value = Duration;

    fn read(&self, raw: &Raw) -> Result<Duration, String> {
        Count("seconds", self.0.clone()).number(raw).map(Duration::from_secs)
    }

    fn show(&self, value: &Duration) -> Option<Toml> {
        show_number(value.as_secs().into())
    }
}

/// An IP address and port to listen on.
pub(super) struct Listen;

impl Rule for Listen {
    type Value = SocketAddr;

    fn read(&self, raw: &Raw) -> Result<SocketAddr, String> {
        raw.text()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| "must be an IP address and a port".to_owned())
    }

    fn show(&self, value: &SocketAddr) -> Option<Toml> {
        Some(Toml::String(value.to_string()))
    }
}

/// A text that a function accepts.
pub(super) struct Text(pub(super) fn(&str) -> Result<(), String>);

impl Rule for Text {
    type Value = String;

    fn read(&self, raw: &Raw) -> Result<String, String> {
        let text = raw.text().ok_or_else(|| "must be a text".to_owned())?;
        (self.0)(text).map(|()| text.to_owned())
    }

    fn show(&self, value: &String) -> Option<Toml> {
        Some(Toml::String(value.clone()))
    }
}

/// Comma-separated texts, each of which a function accepts and normalises.
pub(super) struct Texts(pub(super) fn(&str) -> Result<String, String>);

impl Rule for Texts {
    type Value = Vec<String>;

    fn read(&self, raw: &Raw) -> Result<Vec<String>, String> {
        let parts: Vec<&str> = match raw {
            Raw::Word(text) => text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
            Raw::Toml(Toml::Array(values)) => values
                .iter()
                .map(Toml::as_str)
                .collect::<Option<_>>()
                .ok_or_else(|| "must be a list of texts".to_owned())?,
            Raw::Toml(_) => return Err("must be a list of texts".to_owned()),
        };
        parts.into_iter().map(self.0).collect()
    }

    fn show(&self, value: &Vec<String>) -> Option<Toml> {
        Some(Toml::Array(value.iter().cloned().map(Toml::String).collect()))
    }
}

/// One of a few words.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Rule for Choice<T> {
    type Value = T;

    fn read(&self, raw: &Raw) -> Result<T, String> {
        let found = raw.text().and_then(|text| self.0.iter().find(|(word, _)| *word == text));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = self.0.iter().map(|(word, _)| format!("'{word}'")).collect();
            format!("must be {}", words.join(" or "))
        })
    }

    fn show(&self, value: &T) -> Option<Toml> {
        let (word, _) = self.0.iter().find(|(_, of)| of == value)?;
        Some(Toml::String((*word).to_owned()))
    }
}

/// The words of [`AuthMode`].
pub(super) const AUTH: Choice<AuthMode> = Choice(&[("none", AuthMode::None), ("jwt", AuthMode::Jwt)]);
/// The words of [`Format`].
pub(super) const LOG_FORMAT: Choice<Format> = Choice(&[("human", Format::Human), ("json", Format::Json)]);

/// The words of a switch.
pub(super) const SWITCH: Choice<bool> = Choice(&[("off", false), ("on", true)]);

/// A text that is never shown, of a least length.
pub(super) struct Hidden {
    pub(super) wants: &'static str,
    pub(super) accepts: fn(&str) -> bool,
}

impl Rule for Hidden {
    type Value = Secret;

    fn read(&self, raw: &Raw) -> Result<Secret, String> {
        let text = raw.text().filter(|text| (self.accepts)(text)).ok_or(self.wants)?;
        Ok(Secret::new(text.to_owned()))
    }

    fn show(&self, _: &Secret) -> Option<Toml> {
        Some(Toml::String(REDACTED.to_owned()))
    }

    fn repeat(&self, given: &str) -> String {
        // The length is what is wrong most often, and tells nothing else.
        format!("{REDACTED}, {} bytes", given.len())
    }

    fn secret(&self) -> bool {
        true
    }
}

/// What a mistake could put a secret into: a value that could not be read is
/// not repeated.
pub(super) struct Discreet<R>(pub(super) R);

impl<R: Rule> Rule for Discreet<R> {
    type Value = R::Value;

    fn read(&self, raw: &Raw) -> Result<Self::Value, String> {
        self.0.read(raw)
    }

    fn show(&self, value: &Self::Value) -> Option<Toml> {
        self.0.show(value)
    }

    fn repeat(&self, given: &str) -> String {
        format!("{REDACTED}, {} bytes", given.len())
    }
}

/// The address of a Redis.
pub(super) struct Redis;

impl Rule for Redis {
    type Value = RedisUrl;

    fn read(&self, raw: &Raw) -> Result<RedisUrl, String> {
        RedisUrl::parse(raw.text().ok_or_else(|| "must be a text".to_owned())?)
    }

    fn show(&self, value: &RedisUrl) -> Option<Toml> {
        Some(Toml::String(value.redacted()))
    }

    fn repeat(&self, given: &str) -> String {
        redact_url(given)
    }

    fn secret(&self) -> bool {
        true
    }
}
