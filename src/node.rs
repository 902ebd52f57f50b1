//! The composition root: builds, spawns, stops.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::config::Config;
use crate::shutdown::Shutdown;

/// Why a node could not run. The text follows "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs a node until `shutdown` drains it.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let address = config.listen;
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    tracing::info!(address = %listener.local_addr().map_err(failed)?, "listening");
    shutdown.draining().cancelled().await;
    sleep(config.drain_delay).await;
    shutdown.finish(config.drain_deadline.saturating_sub(config.drain_delay)).await;
    Ok(())
}
