//! What a server says of itself when a connection is opened.

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Value};
use sha1::{Digest, Sha1};

use super::ConnectError;

/// The oldest version that has what is used (script flags, `EXPIRE` options).
const VERSION_MIN: (u64, u64) = (7, 0);

/// The parts of `INFO` that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    version: Option<String>,
    run_id: Option<String>,
    replication_id: String,
    promoted: bool,
    replica: bool,
    memory_bytes_max: u64,
    memory_policy: Option<String>,
    append_only: Option<bool>,
}

impl Facts {
    /// Asks. A server that does not permit `INFO` has no facts.
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, String> {
        let mut info = Cmd::new();
        info.arg("INFO");
        match connection.send_packed_command(&info).await.map_err(|error| error.to_string())? {
            Value::BulkString(text) => Ok(Self::parse(&String::from_utf8_lossy(&text))),
            Value::VerbatimString { text, .. } => Ok(Self::parse(&text)),
            Value::ServerError(error) if error.code() == "NOPERM" => Ok(Self::default()),
            Value::ServerError(error) => Err(error.to_string()),
            _ => Err("INFO was answered with something else".into()),
        }
    }

    fn parse(info: &str) -> Self {
        let mut facts = Self::default();
        for (field, value) in info.lines().filter_map(|line| line.trim_end().split_once(':')) {
            match field {
                "redis_version" => facts.version = Some(value.into()),
                "run_id" => facts.run_id = Some(value.into()),
                "master_replid" => facts.replication_id = value.into(),
                "master_replid2" => facts.promoted = value.bytes().any(|digit| digit != b'0'),
                "role" => facts.replica = value == "slave",
                "maxmemory" => facts.memory_bytes_max = value.parse().unwrap_or(0),
                "maxmemory_policy" => facts.memory_policy = Some(value.into()),
                "aof_enabled" => facts.append_only = Some(value == "1"),
                _ => {}
            }
        }
        facts
    }

    pub(super) fn run_id(&self) -> Option<&str> {
        self.run_id.as_deref()
    }

    pub(super) fn replication_id(&self) -> &str {
        &self.replication_id
    }

    /// Whether it was a replica that was made a master.
    pub(super) fn was_promoted(&self) -> bool {
        self.promoted
    }

    /// The life of data that nobody noted one beside: nodes of earlier releases
    /// take the same.
    pub(super) fn first_life(&self) -> [u8; 8] {
        let mut life = [0; 8];
        life.copy_from_slice(&Sha1::digest(self.run_id.as_deref().unwrap_or_default())[..8]);
        life
    }

    pub(super) fn is_replica(&self) -> bool {
        self.replica
    }

    /// Refuses a server that cannot keep the promises, and warns of one that
    /// keeps them only in part.
    pub(super) fn check(&self, address: &str) -> Result<(), ConnectError> {
        let Some(version) = &self.version else {
            tracing::warn!(
                "redis does not permit INFO: its version and eviction policy are not checked, and its restarts \
                 are not noticed; allow it with `ACL SETUSER ... +info`"
            );
            return Ok(());
        };
        let mut numbers = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < VERSION_MIN {
            return Err(ConnectError::TooOld { address: address.into(), version: version.clone() });
        }
        match &self.memory_policy {
            Some(policy) if self.memory_bytes_max > 0 && policy != "noeviction" => {
                return Err(ConnectError::Evicts { address: address.into(), policy: policy.clone() });
            }
            Some(_) => {}
            None => tracing::warn!("redis does not tell its maxmemory-policy: make sure it is noeviction"),
        }
        if self.append_only == Some(false) {
            tracing::warn!(
                "redis runs without append-only file: a restart loses what it accepted since its last snapshot; \
                 set `appendonly yes`"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Memory\r\nmaxmemory:100\r\n\
                        maxmemory_policy:noeviction\r\nrole:master\r\naof_enabled:1\r\n";

    #[test]
    fn a_sound_server_is_accepted() {
        let facts = Facts::parse(INFO);
        assert_eq!(facts.check("here"), Ok(()));
        assert!(!facts.is_replica());
        assert_ne!(facts.first_life(), Facts::parse(&INFO.replace("abc", "abd")).first_life());
    }

    #[test]
    fn an_old_server_is_refused() {
        for version in ["6.2.14", "5.0.0", "nonsense"] {
            let refused = Facts::parse(&INFO.replace("7.0.15", version)).check("here");
            assert!(matches!(refused, Err(ConnectError::TooOld { .. })), "{version}: {refused:?}");
        }
        assert_eq!(Facts::parse(&INFO.replace("7.0.15", "10.1.0")).check("here"), Ok(()));
    }

    #[test]
    fn a_server_that_evicts_is_refused_only_if_it_has_a_limit() {
        let evicts = INFO.replace("noeviction", "allkeys-lru");
        let refused = Facts::parse(&evicts).check("here").expect_err("refused").to_string();
        assert!(
            refused.contains("'allkeys-lru'") && refused.contains("maxmemory-policy noeviction"),
            "{refused}"
        );
        assert_eq!(Facts::parse(&evicts.replace("maxmemory:100", "maxmemory:0")).check("here"), Ok(()));
    }
}
