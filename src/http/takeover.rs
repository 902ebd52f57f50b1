//! Taking a connection over from the HTTP server, as a session does.
//!
//! A WebSocket is taken over behind the answer that switches protocols, an event
//! stream in place of an answer: its head is the first thing the session writes.
//! Either way the socket changes hands once the server has let go of it, so that
//! two never wait for one socket.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What begins with the socket and what the client has sent ahead.
type Begin = Box<dyn FnOnce(TcpStream, Bytes) + Send>;

/// One connection's, shared by whoever serves it and its requests.
#[derive(Clone, Default)]
pub(super) struct Takeover {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    begin: Mutex<Option<Begin>>,
    /// The connection has asked for something.
    asked: AtomicBool,
    /// The request under way is not going to be answered.
    instead: AtomicBool,
    /// The socket did not take all of the answers before.
    blocked: AtomicBool,
}

impl Takeover {
    /// The connection is `begin`'s once this request's answer is written.
    pub(super) fn behind_answer(&self, begin: impl FnOnce(TcpStream, Bytes) + Send + 'static) {
        *self.inner.begin.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(begin));
    }

    /// The connection is `begin`'s now. The request is never answered: whoever
    /// serves it is dropped while it waits here.
    pub(super) async fn instead_of_answer(
        &self,
        begin: impl FnOnce(TcpStream, Bytes) + Send + 'static,
    ) -> Infallible {
        self.behind_answer(begin);
        self.inner.instead.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    /// Whether earlier answers on this connection are still on their way: what a
    /// client brings about that pipelines requests and does not read.
    pub(super) fn is_blocked(&self) -> bool {
        self.inner.blocked.load(Ordering::Relaxed)
    }

    /// A request has come.
    pub(super) fn note_request(&self) {
        self.inner.asked.store(true, Ordering::Relaxed);
    }

    /// Whether a request has ever come.
    pub(super) fn was_asked(&self) -> bool {
        self.inner.asked.load(Ordering::Relaxed)
    }

    /// Whether a request is not going to be answered: looked at after each poll
    /// of the connection, which its requests are polled with.
    pub(super) fn is_instead(&self) -> bool {
        self.inner.instead.load(Ordering::Relaxed)
    }

    /// What the connection is for now.
    pub(super) fn take(&self) -> Option<Begin> {
        self.inner.begin.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A socket that knows whether it took what it was given.
pub(super) struct Watched<S> {
    stream: S,
    takeover: Takeover,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, takeover: Takeover) -> Self {
        Self { stream, takeover }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    fn note(&self, wrote: &Poll<io::Result<usize>>, len: usize) {
        let all = matches!(wrote, Poll::Ready(Ok(wrote)) if *wrote == len);
        self.takeover.inner.blocked.store(!all, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(&wrote, buf.len());
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(&wrote, bufs.iter().map(|buf| buf.len()).sum());
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
