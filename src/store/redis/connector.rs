//! How connections to Redis are opened: addresses, keepalive, TLS, deadlines.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, PushInfo};
use tokio::time::timeout;

use super::server::Facts;
use super::{ConnectError, Options, TlsFiles, tls};

/// Commands that wait for the socket: enough to keep it busy, few enough that
/// what is queued is answered within the deadline.
const QUEUE_COMMANDS: usize = 1_024;
/// Bytes gathered into one write: a larger write costs less per command.
const WRITE_BYTES: usize = 64 * 1_024;
/// Shorter than two beats, since without probes a dead peer looks like a slow one.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(2);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_PROBES: u32 = 3;
/// How long sent bytes may stay unacknowledged before the kernel gives up.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(4);

/// Opens connections; cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    info: ConnectionInfo,
    tls: Option<TlsFiles>,
    connect_timeout: Duration,
    pub(super) command_timeout: Duration,
    pub(super) address: Arc<str>,
}

impl Connector {
    pub(super) fn new(options: &Options) -> Result<Self, ConnectError> {
        let info = options.connection_info()?;
        let encrypted = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(UNACKNOWLEDGED_MAX);
        // Only the newer protocol tells of a lost connection while nobody asks.
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        Ok(Self {
            info: info.set_tcp_settings(tcp).set_redis_settings(redis),
            tls: encrypted.then(|| options.tls.clone()),
            connect_timeout: options.connect_timeout,
            command_timeout: options.command_timeout,
            address: options.address().into(),
        })
    }

    /// Opens a connection and asks the server who it is.
    pub(super) async fn open(
        &self,
        on_push: impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static,
    ) -> Result<(MultiplexedConnection, Facts), String> {
        // Deadlines are set around calls, where they also cover the queue.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(on_push)
            .set_pipeline_buffer_size(QUEUE_COMMANDS)
            .set_write_backpressure_boundary(WRITE_BYTES);
        let open = async {
            let client = match &self.tls {
                Some(files) => tls::client(self.info.clone(), files).await?,
                None => Client::open(self.info.clone()).map_err(|error| error.to_string())?,
            };
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map_err(|error| self.explain(&error.to_string()))?;
            let facts = Facts::ask(&mut connection).await.map_err(|why| self.explain(&why))?;
            if facts.is_replica() {
                return Err("it is a replica, which takes no writes".to_owned());
            }
            Ok((connection, facts))
        };
        let unanswered = || {
            // A server in the clear waits for more of what it takes for a command.
            let tls = if self.tls.is_some() { "; does it speak TLS on this port?" } else { "" };
            Err(format!("no answer within {} ms{tls}", self.connect_timeout.as_millis()))
        };
        timeout(self.connect_timeout, open).await.unwrap_or_else(|_| unanswered())
    }

    /// What the library says of a connection that did not come about, and what to do.
    fn explain(&self, why: &str) -> String {
        if self.tls.is_some() { tls::explain(why) } else { why.to_owned() }
    }
}
