//! A timer that wakes the loop to the microsecond, which a poll's timeout of
//! whole milliseconds does not.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// One timer; setting it anew replaces what it was set to.
#[derive(Debug)]
pub(super) struct Timer {
    fd: OwnedFd,
    set: Option<u64>,
}

impl Timer {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd, set: None })
    }

    /// Wakes at a moment, by whatever clock `now_ns` is read from.
    pub(super) fn set(&mut self, at_ns: Option<u64>, now_ns: u64) -> io::Result<()> {
        if at_ns == self.set && at_ns.is_none_or(|at_ns| at_ns > now_ns) {
            return Ok(());
        }
        self.set = at_ns;
        // Zero would switch it off.
        let in_ns = at_ns.map_or(0, |at_ns| at_ns.saturating_sub(now_ns).max(1));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value =
            Timespec { tv_sec: (in_ns / 1_000_000_000) as i64, tv_nsec: (in_ns % 1_000_000_000) as i64 };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}
