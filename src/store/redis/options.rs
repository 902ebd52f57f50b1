//! How to reach Redis, and why it could not be used.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ::redis::{ConnectionInfo, IntoConnectionInfo};

/// How to reach Redis. Neither `Debug` nor an error shows the URL's password.
#[derive(Clone)]
pub struct Options {
    /// `redis://[user[:password]@]host[:port][/database]`, or `rediss://` for TLS.
    pub url: String,
    /// What TLS needs.
    pub tls: TlsFiles,
    /// What every key begins with, so that installations can share a Redis.
    pub prefix: String,
    /// How long a command may take. Longer than a Redis that forks or writes to
    /// a slow disk stalls, shorter than a sender waits.
    pub command_timeout: Duration,
    /// How long opening a connection may take, its first questions included.
    pub connect_timeout: Duration,
}

/// Certificates, as PEM files that are read anew for every connection: renewed
/// ones are used from the next on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may have signed the server's certificate; none: whoever the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to the server.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".into(),
            tls: TlsFiles::default(),
            prefix: "postrider".into(),
            command_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
        }
    }
}

impl Options {
    /// Host, port and database, without user and password.
    #[must_use]
    pub fn address(&self) -> String {
        match self.connection_info() {
            Ok(info) => format!("{}/{}", info.addr(), info.redis_settings().db()),
            Err(_) => "(not a redis URL)".into(),
        }
    }

    pub(super) fn connection_info(&self) -> Result<ConnectionInfo, ConnectError> {
        self.url
            .as_str()
            .into_connection_info()
            // The library's words can quote the URL, password and all.
            .map_err(|error| ConnectError::InvalidUrl(error.category().to_owned()))
    }

    pub(super) fn check_prefix(&self) -> Result<(), ConnectError> {
        // Braces would move the hash tag, and the listing of channels globs.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.chars().all(plain) {
            return Err(ConnectError::InvalidPrefix(self.prefix.chars().take(64).collect()));
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("address", &self.address())
            .field("tls", &self.tls)
            .field("prefix", &self.prefix)
            .field("command_timeout", &self.command_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

/// Why Redis cannot be used. The text follows "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none.
    #[error("read the redis URL ({0}): it looks like redis://:password@redis.example:6379/0")]
    InvalidUrl(String),
    /// The prefix holds characters that keys cannot begin with.
    #[error("use '{0}' as key prefix: it is 1 to 64 of A-Z a-z 0-9 . _ - :, like 'postrider'")]
    InvalidPrefix(String),
    /// No connection, or it does not serve.
    #[error("use redis at {address}: {detail}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What happened.
        detail: String,
    },
    /// The server lacks commands that are needed.
    #[error("use redis at {address}: version {version} is too old, 7.0 or later is needed")]
    TooOld {
        /// Host and port.
        address: String,
        /// What the server says it is.
        version: String,
    },
    /// The server would throw away what was accepted.
    #[error(
        "use redis at {address}: under maxmemory-policy '{policy}' it evicts accepted messages when memory \
         is short; set `maxmemory-policy noeviction` (pushes are then refused instead), or give postrider a \
         redis of its own"
    )]
    Evicts {
        /// Host and port.
        address: String,
        /// The policy that is set.
        policy: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        for url in ["redis://user:s3cret@10.0.0.1:6380/2", "redis://:s3cret@h:bad", "s3cret"] {
            let options = Options { url: url.into(), ..Options::default() };
            assert!(!format!("{options:?}").contains("s3cret"), "{options:?}");
            if let Err(error) = options.connection_info() {
                assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
            }
        }
        let options = Options { url: "redis://user:s3cret@10.0.0.1:6380/2".into(), ..Options::default() };
        assert_eq!(options.address(), "10.0.0.1:6380/2");
    }

    #[test]
    fn a_prefix_that_would_move_the_hash_tag_is_refused() {
        for prefix in ["", "a{b", "a}b", "a*", "a b", &"x".repeat(65)] {
            let options = Options { prefix: prefix.into(), ..Options::default() };
            assert!(options.check_prefix().is_err(), "{prefix}");
        }
        assert_eq!(Options::default().check_prefix(), Ok(()));
    }
}
