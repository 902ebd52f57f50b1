//! What a session needs of a connection.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::net::TcpStream;

/// A connection that never blocks: a `TcpStream`, or one end of a
/// [`pipe`](super::pipe::pipe) in tests.
///
/// Any thread may write; only the session's own task reads and waits.
pub trait Wire: Send + Sync + 'static {
    /// Reads what is there; 0 means that the peer will send no more.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, else what ended the connection.
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes as much of the buffers as the connection takes at once.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing, else what ended the connection.
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Waits until reading makes sense.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Waits until writing makes sense.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Tells the peer that nothing more will come.
    fn shutdown(&self);
}

impl Wire for TcpStream {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        TcpStream::try_read(self, buf)
    }

    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            // `send` costs the kernel less than a `writev` of one buffer, and going
            // there past what the runtime notes of a socket costs us less: with
            // thousands of sockets that is in no cache.
            [one] => match SockRef::from(self).send(one) {
                // The runtime has to note it, or nobody would wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => TcpStream::try_write(self, one),
                sent => sent,
            },
            _ => TcpStream::try_write_vectored(self, bufs),
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TcpStream::poll_read_ready(self, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        TcpStream::poll_write_ready(self, cx)
    }

    fn shutdown(&self) {
        // Fails only when the peer has gone already, which is as good.
        let _ = SockRef::from(self).shutdown(std::net::Shutdown::Write);
    }
}
