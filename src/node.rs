//! The composition root: builds, spawns, stops.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

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
    let _listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    shutdown.draining().cancelled().await;
    Ok(())
}
