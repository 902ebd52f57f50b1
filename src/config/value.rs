//! Values that need a type of their own: secrets and choices.

use std::fmt;

/// A value that must not be shown: `Debug` redacts it and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What stands where a secret would.
pub const REDACTED: &str = "[redacted]";

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, to be handed to whatever checks or sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// The address of a Redis; what stands before its `@` is shown redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Accepts `redis://[user:password@]host[:port][/database]`, and `rediss://`
    /// for TLS.
    ///
    /// # Errors
    /// What an address must look like; the text itself is not repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|_| FORM.to_owned())?;
        // A fragment could ask the library not to verify certificates.
        if !matches!(url.scheme(), "redis" | "rediss")
            || url.host_str().is_none_or(str::is_empty)
            || url.fragment().is_some()
        {
            return Err(FORM.to_owned());
        }
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() && database.parse::<u32>().is_err() {
            return Err("must name its database by number".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole address, password included, for whatever connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is spoken to over TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.starts_with("rediss:")
    }

    /// The address as it may be shown.
    #[must_use]
    pub fn redacted(&self) -> String {
        redact_url(&self.0)
    }
}

const FORM: &str = "must look like redis://[user:password@]host[:port][/database], or rediss:// for TLS";

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// Hides whatever could be a password in something meant to be a URL, also when
/// it is none: then only a plain `host:port` is worth showing.
pub(super) fn redact_url(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let plain = |text: &str| {
        let (host, database) = text.split_once('/').unwrap_or((text, ""));
        let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
            && port.bytes().chain(database.bytes()).all(|b| b.is_ascii_digit())
    };
    // The last '@', since a password that was not percent-encoded may hold one.
    match rest.rsplit_once('@') {
        Some((_, host)) if plain(host) => format!("{scheme}{REDACTED}@{host}"),
        None if plain(rest) => format!("{scheme}{rest}"),
        _ if rest.is_empty() => scheme,
        _ => format!("{scheme}{REDACTED}"),
    }
}

/// Who may connect and send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Anyone: a token is the name of its user. For loopback only.
    None,
    /// Users by HS256 token, senders by API key.
    Jwt,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_address_is_shown_without_its_password() {
        let url = RedisUrl::parse("redis://app:s3cr3t@10.0.0.5:6380/2").expect("valid");
        assert_eq!(format!("{url:?}"), "redis://[redacted]@10.0.0.5:6380/2");
        assert_eq!(url.expose(), "redis://app:s3cr3t@10.0.0.5:6380/2");
        assert_eq!(redact_url("redis://localhost:6379"), "redis://localhost:6379");
    }

    #[test]
    fn what_is_no_address_never_shows_a_password() {
        for text in [
            "redis://:s3cr3t@",
            "redis://:s3c@r3t/#s3cr3t@host",
            "redis://u:s3cr3t:host",
            "s3cr3t@host",
            ":s3cr3t",
            "redis//u:s3cr3t",
            "redis://h?password=s3cr3t",
        ] {
            assert!(!redact_url(text).contains("s3c"), "{text} -> {}", redact_url(text));
        }
        assert_eq!(redact_url("localhost:6379"), "localhost:6379");
    }

    #[test]
    fn other_addresses_are_refused_with_the_form() {
        for text in [
            "",
            "localhost:6379",
            "http://h",
            "redis://",
            "redisss://h",
            "redis://h/one",
            "rediss://h#insecure",
        ] {
            assert!(RedisUrl::parse(text).is_err(), "{text}");
        }
        for text in
            ["redis://h", "redis://h:1", "redis://h/0", "redis://:p%40@[::1]:6379/15", "rediss://h:6380"]
        {
            assert!(RedisUrl::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_in_its_debug_text() {
        assert_eq!(format!("{:?}", Some(Secret::new("hush".into()))), "Some([redacted])");
    }
}
