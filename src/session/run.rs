//! The session's task: reads, answers, and goes on with writes that stalled.
//!
//! A hand-written future, because there is one per connection and an idle one
//! should cost a few hundred bytes.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use super::state::Phase;
use super::{Ending, Session};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{ClientFrame, Dialect, ServerFrame};
use crate::protocol::ws::{self, Decoder, Event};

/// Read at once, shared by all sessions of a thread.
const READ_BYTES: usize = 16 * 1024;
/// Reads before other tasks get their turn.
const READS_PER_POLL_MAX: usize = 8;
/// Over what time frames are counted.
const PACE_OVER: Duration = Duration::from_secs(1);

/// The parser's complaint may quote what it complains of.
const ERROR_BYTES_MAX: usize = 200;

thread_local! {
    /// Taken while in use, so that nested use allocates instead of panicking.
    static READ_BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A session's task; see [`Session::run`].
#[must_use = "a session does nothing until its run is polled"]
pub struct Run {
    session: Arc<Session>,
    decoder: Decoder,
    /// What was read and not looked at yet.
    leftover: Bytes,
    pace: Pace,
}

/// How many frames a client may still send.
struct Pace {
    left: u32,
    /// Since when they are counted.
    since: Instant,
    /// Until when nothing is read, if all were sent.
    pause: Option<Pin<Box<Sleep>>>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Future for Run {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let run = self.get_mut();
        {
            // Before anything is looked at: whoever changes it afterwards wakes us.
            let mut state = run.session.lock();
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        if run.is_unpaced(cx) {
            if !run.leftover.is_empty() {
                let leftover = std::mem::take(&mut run.leftover);
                run.take_in(&leftover);
            }
            run.read(cx);
        }
        run.write(cx);
        if run.session.lock().phase == Phase::Gone { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let session = &self.session;
        session.with_state(|state, after| {
            state.cut(Ending::Lost, &*session.wire, after);
            state.run_ended = true;
            state.tell_closed(after);
        });
    }
}

impl Run {
    pub(super) fn new(session: Arc<Session>, leftover: Bytes) -> Self {
        let decoder = Decoder::new(session.options.frame_bytes_max);
        // Even empty it would keep what it was cut from: kilobytes, as long as the session.
        let leftover = if leftover.is_empty() { Bytes::new() } else { leftover };
        let pace = Pace { left: session.options.frames_per_second_max, since: Instant::now(), pause: None };
        Self { session, decoder, leftover, pace }
    }

    /// Whether the client may send more now; if not, this task is woken in time.
    fn is_unpaced(&mut self, cx: &mut Context<'_>) -> bool {
        if self.pace.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_pending()) {
            return false;
        }
        if self.pace.pause.take().is_some() {
            (self.pace.left, self.pace.since) = (self.session.options.frames_per_second_max, Instant::now());
        }
        true
    }

    /// Counts a frame, or says that it has to wait.
    fn take_pace(&mut self) -> bool {
        let pace = &mut self.pace;
        if pace.left == 0 {
            // The clock is only looked at when all were sent.
            let next = pace.since + PACE_OVER;
            let now = Instant::now();
            if now < next {
                pace.pause = Some(Box::pin(sleep_until(next)));
                self.session.frames_paced.increment(1);
                return false;
            }
            (pace.left, pace.since) = (self.session.options.frames_per_second_max, now);
        }
        pace.left -= 1;
        true
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        for _ in 0..READS_PER_POLL_MAX {
            if self.session.lock().phase == Phase::Gone {
                return;
            }
            if self.pace.pause.is_some() {
                // It was not asked for its time yet, which leaves our waker there.
                cx.waker().wake_by_ref();
                return;
            }
            match self.session.wire.poll_read_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return self.lost(),
            }
            let mut buffer = READ_BUFFER.take().unwrap_or_else(|| vec![0; READ_BYTES].into_boxed_slice());
            match self.session.wire.try_read(&mut buffer) {
                Ok(0) => self.ended(),
                Ok(len) => self.take_in(&buffer[..len]),
                // Readiness was stale; asking again leaves our waker there.
                Err(error) if is_passing(&error) => {}
                Err(_) => self.lost(),
            }
            READ_BUFFER.set(Some(buffer));
        }
        cx.waker().wake_by_ref();
    }

    fn write(&self, cx: &mut Context<'_>) {
        if !self.session.lock().blocked {
            return;
        }
        match self.session.wire.poll_write_ready(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                // If it blocks again it wakes this task, which then waits here
                // with the readiness that was found stale cleared.
                self.session.flush();
            }
            Poll::Ready(Err(_)) => self.lost(),
        }
    }

    /// The connection is over; if a close had been agreed on, that was the reason.
    fn lost(&self) {
        let session = &self.session;
        session.with_state(|state, after| state.cut(Ending::Lost, &*session.wire, after));
    }

    /// The peer will send no more: how the reader of an event stream leaves.
    fn ended(&self) {
        let session = &self.session;
        let ending = match session.dialect() {
            Dialect::Events => Ending::Peers(CloseCode::NORMAL),
            Dialect::Plain | Dialect::Envelope => Ending::Lost,
        };
        session.with_state(|state, after| state.cut(ending, &*session.wire, after));
    }

    fn take_in(&mut self, mut bytes: &[u8]) {
        self.session.heard.store(true, Ordering::Relaxed);
        while !self.session.lock().deaf {
            if !bytes.is_empty() && !self.take_pace() {
                self.leftover = Bytes::copy_from_slice(bytes);
                return;
            }
            match self.decoder.decode(&mut bytes) {
                Ok(Some(event)) => self.handle(event),
                Ok(None) => return,
                Err(violation) => {
                    self.session.lock().deaf = true;
                    self.session.close_with(violation.code, violation.reason, true);
                }
            }
        }
    }

    fn handle(&self, event: Event) {
        let session = &self.session;
        match event {
            Event::Text(text) => self.handle_text(&text),
            Event::Ping(payload) => session.send(ws::encode_pong(&payload)),
            Event::Pong(payload) => self.handle_pong(&payload),
            Event::Close(code, _) => {
                let code = code.unwrap_or(CloseCode::NORMAL);
                session.with_state(|state, after| {
                    let timeout = session.options.close_timeout;
                    let answer = ws::encode_close(code, "");
                    state.close(Ending::Peers(code), answer, false, timeout, after);
                    state.peer_closed(&*session.wire, after);
                });
                session.flush();
            }
        }
    }

    fn handle_text(&self, text: &[u8]) {
        let session = &self.session;
        let envelope = session.dialect() == Dialect::Envelope;
        if !envelope && session.identity().is_some() {
            // A bare socket has nothing to say to us.
            return;
        }
        match ClientFrame::decode(text) {
            Ok(ClientFrame::Pong | ClientFrame::Unknown) => {}
            Ok(frame) if envelope || matches!(frame, ClientFrame::Auth { .. }) => {
                session.events.frame(session, frame);
            }
            Err(error) if envelope => {
                let message = format!("not an envelope: {error}");
                let message = &message[..message.floor_char_boundary(ERROR_BYTES_MAX)];
                session.send(ServerFrame::Error { code: "bad_frame", message, topics: &[] }.encode());
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn handle_pong(&self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        let session = &self.session;
        let confirmed = session.with_state(|state, _| {
            let known = number <= state.pings;
            state.confirm.as_mut().filter(|_| known).and_then(|confirm| confirm.pong(number))
        });
        let Some(confirmed) = confirmed else { return };
        for (channel, position) in &confirmed {
            session.events.confirmed(session, channel, *position);
        }
        // Asks for the next confirmation, now or when it is due.
        session.flush();
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
