//! What values must be to one another.

use std::time::Duration;

use super::layers::Origin;
use super::problem::Problem;
use super::table::Config;
use super::value::{AuthMode, RedisUrl};

impl Config {
    /// Where a setting's value came from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.effective().into_iter().find(|one| one.key == key).map_or(Origin::Default, |one| one.origin)
    }

    pub(super) fn about(&self, key: &str, value: impl ToString, text: impl Into<String>) -> Problem {
        Problem { name: self.origin(key).name(key), value: Some(value.to_string()), text: text.into() }
    }

    /// Everything about which two settings disagree.
    pub(super) fn disagreements(&self) -> Vec<Problem> {
        let mut problems = self.about_auth();
        problems.extend(self.about_time());
        problems.extend(self.about_tls());
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            let text = "needs trusted_proxies, the addresses whose PROXY headers are believed";
            problems.push(self.about("proxy_protocol", "on", text));
        }
        if self.webhook_url.is_some()
            && self.webhook_secret.is_none()
            && self.origin("webhook_secret") == Origin::Default
        {
            let text = "needs a secret that signs its requests: set POSTRIDER_WEBHOOK_SECRET or \
                        POSTRIDER_WEBHOOK_SECRET_FILE=/run/secrets/webhook_secret";
            problems.push(self.about("webhook_url", self.webhook_url.clone().unwrap_or_default(), text));
        }
        if self.outbox_bytes_max < self.body_bytes_max {
            problems.push(self.about(
                "outbox_bytes_max",
                self.outbox_bytes_max,
                format!("must hold the largest message: at least body_bytes_max, {}", self.body_bytes_max),
            ));
        }
        problems
    }

    fn about_tls(&self) -> Vec<Problem> {
        let files = [
            ("redis_tls_ca_file", &self.redis_tls_ca_file),
            ("redis_tls_cert_file", &self.redis_tls_cert_file),
            ("redis_tls_key_file", &self.redis_tls_key_file),
        ];
        let mut problems = Vec::new();
        if !self.redis.as_ref().is_some_and(RedisUrl::is_encrypted) {
            let text = "needs a redis over TLS: set --redis rediss://HOST:PORT, or remove it";
            let set = files.iter().filter_map(|(key, file)| Some((key, file.as_ref()?)));
            problems.extend(set.map(|(key, file)| self.about(key, file, text)));
        }
        let pair = [(&files[1], &files[2]), (&files[2], &files[1])];
        for ((key, file), (other, missing)) in pair {
            if let (Some(file), None) = (file, missing) {
                problems.push(self.about(key, file, format!("needs {other}, its other half")));
            }
        }
        problems
    }

    fn about_time(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, key: &str, value: u128, text: String| {
            if !holds {
                problems.push(self.about(key, value, text));
            }
        };
        let third = self.heartbeat_ttl / 3;
        require(
            self.heartbeat_interval <= third,
            "heartbeat_interval_ms",
            self.heartbeat_interval.as_millis(),
            format!(
                "must be at most a third of heartbeat_ttl_ms, {}, so that a late beat is no death",
                third.as_millis()
            ),
        );
        require(
            self.ttl_default <= self.ttl_max,
            "ttl_default_seconds",
            self.ttl_default.as_secs().into(),
            format!("must be at most ttl_max_seconds, {}", self.ttl_max.as_secs()),
        );
        require(
            self.channel_retention >= self.ttl_max,
            "channel_retention_seconds",
            self.channel_retention.as_secs().into(),
            format!(
                "must be at least ttl_max_seconds, {}: a channel outlives its messages",
                self.ttl_max.as_secs()
            ),
        );
        let drained: Duration = self.drain_delay + self.drain_window;
        require(
            self.drain_deadline >= drained,
            "drain_deadline_ms",
            self.drain_deadline.as_millis(),
            format!("must be at least drain_delay_ms plus drain_window_ms, {}", drained.as_millis()),
        );
        problems
    }

    /// What is allowed but probably not meant.
    pub(super) fn doubts(&self, open_files: Option<u64>) -> Vec<String> {
        let mut doubts = Vec::new();
        if let Some(open_files) = open_files
            && self.connections_max as u64 > open_files
        {
            doubts.push(format!(
                "connections_max is {} but this process may open only {open_files} files: raise the limit \
                 (ulimit -n, LimitNOFILE) to at least {}",
                self.connections_max,
                self.connections_max as u64 / 4 * 5
            ));
        }
        let keys = self.jwt_secret.is_some() || self.jwt_public_key.is_some() || self.jwks_url.is_some();
        if self.auth == AuthMode::None && keys {
            doubts.push(
                "keys for users' tokens are set but auth is none: nobody's token is checked".to_owned(),
            );
        }
        doubts
    }
}
