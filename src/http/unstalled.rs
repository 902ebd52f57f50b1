//! A connection that gives up on a peer that asks and does not read.
//!
//! Whoever reads an answer slowly costs a connection and the answer's memory;
//! whoever takes no byte of it for long costs them for ever. Sessions watch over
//! their own writes, and get the bare connection with their upgrade.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a peer may take no byte of an answer: the limit that sessions have.
pub(super) const STALL_MAX: Duration = Duration::from_secs(10);

/// Fails a write that has made no progress for [`STALL_MAX`].
#[derive(Debug)]
pub(super) struct Unstalled<T> {
    inner: T,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Unstalled<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, stalled: None }
    }

    pub(super) fn into_inner(self) -> T {
        self.inner
    }

    fn judge<R>(&mut self, written: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_MAX)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Unstalled<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Unstalled<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_who_takes_a_byte_is_not() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut near = Unstalled::new(near);
        let slow = tokio::spawn(async move {
            for _ in 0..4 {
                sleep(STALL_MAX - Duration::from_secs(1)).await;
                far.read_u8().await.expect("written");
            }
            far
        });
        near.write_all(&[0; 12]).await.expect("one byte in nine seconds is slow, and no more");
        let far = slow.await.expect("no panic");
        let started = tokio::time::Instant::now();
        let error = near.write_all(&[0; 1]).await.expect_err("nobody reads");
        assert_eq!(
            (error.kind(), started.elapsed().as_secs()),
            (io::ErrorKind::TimedOut, STALL_MAX.as_secs())
        );
        drop(far);
    }
}
