//! The loop that drives every connection of this process, on one thread.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Poll, Registry, Token};

use super::load::Load;
use super::receiver::{Desk, End, Turn};
use super::receivers::Receivers;
use super::tally::Tally;
use super::timer::Timer;
use super::timing::Clock;
use crate::cli::output::Failure;

/// Read at once from any connection.
const BUFFER_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
/// How often what is not urgent is looked at.
const TICK_NS: u64 = 100_000_000;
/// How often envelope clients acknowledge.
const ACKNOWLEDGE_NS: u64 = 250_000_000;
/// How long a socket that was turned away waits before it tries again.
const RETRY_NS: u64 = 1_000_000_000;
const TIMER: Token = Token(usize::MAX - 1);
/// Pushing connections have tokens from here on, sockets below.
pub(super) const FIRST_PUBLISHER: usize = 1 << 40;

/// Set when the user has had enough.
pub(super) type Stop = Arc<AtomicBool>;

/// Sockets that leave and come back while pushes go on.
#[derive(Debug)]
struct Churn {
    interval_ns: u64,
    next_ns: u64,
    next: usize,
    politely: bool,
}

/// Sockets, pushing connections, and the account of what they saw.
pub(super) struct Engine {
    poll: Poll,
    events: Events,
    timer: Timer,
    pub(super) clock: Clock,
    buffer: Vec<u8>,
    pub(super) receivers: Receivers,
    pub(super) load: Load,
    pub(super) tally: Tally,
    stop: Stop,
    churn: Option<Churn>,
    /// Whether a socket that ends by itself is connected again.
    pub(super) rejoining: bool,
    /// Sockets to connect, and when at the earliest.
    joining: VecDeque<(usize, u64)>,
    connecting: usize,
    connecting_max: usize,
    ticked_ns: u64,
    acknowledged_ns: u64,
    /// Ends that nobody here asked for, by what they were.
    pub(super) ends: BTreeMap<String, u64>,
    pub(super) reconnects: u64,
}

impl Engine {
    pub(super) fn new(
        receivers: Receivers,
        load: Load,
        tally: Tally,
        connecting_max: usize,
        stop: Stop,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            timer,
            clock: Clock::start(),
            buffer: vec![0; BUFFER_BYTES],
            receivers,
            load,
            tally,
            stop,
            churn: None,
            rejoining: true,
            joining: VecDeque::new(),
            connecting: 0,
            connecting_max,
            ticked_ns: 0,
            acknowledged_ns: 0,
            ends: BTreeMap::new(),
            reconnects: 0,
        })
    }

    /// Lets sockets leave and come back, so many in a second.
    pub(super) fn churn(&mut self, per_second: f64) {
        let interval_ns = (1e9 / per_second) as u64;
        let next_ns = self.clock.now_ns() + interval_ns;
        self.churn = Some(Churn { interval_ns, next_ns, next: 0, politely: false });
    }

    pub(super) fn end_churn(&mut self) {
        self.churn = None;
    }

    /// Every socket is to be connected.
    pub(super) fn join_all(&mut self) {
        self.joining.extend((0..self.receivers.len()).map(|index| (index, 0)));
    }

    /// Whether every socket receives.
    pub(super) fn all_joined(&self) -> bool {
        self.receivers.open() == self.receivers.len()
    }

    pub(super) fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }

    /// Drives everything until then, or until `done` says so.
    pub(super) fn run(&mut self, until_ns: u64, mut done: impl FnMut(&Self) -> bool) -> Result<(), Failure> {
        let broken = |error: io::Error| Failure::Failed(format!("failed to wait for sockets: {error}"));
        loop {
            let now_ns = self.clock.now_ns();
            self.pump(now_ns).map_err(broken)?;
            if now_ns >= until_ns || done(self) {
                return Ok(());
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Failure::Failed("stopped before the end: nothing is reported".into()));
            }
            let until_ns = until_ns.min(self.ticked_ns + TICK_NS);
            self.wait(until_ns.saturating_sub(now_ns)).map_err(broken)?;
        }
    }

    fn wait(&mut self, at_most_ns: u64) -> io::Result<()> {
        let due = [self.load.next_due_ns(), self.churn.as_ref().map(|churn| churn.next_ns)];
        // The poll's own timeout has milliseconds only.
        self.timer.set(due.into_iter().flatten().min(), self.clock.now_ns())?;
        let at_most = Duration::from_nanos(at_most_ns).max(Duration::from_millis(1));
        match self.poll.poll(&mut self.events, Some(at_most)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }?;
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let readable = event.is_readable() || event.is_read_closed() || event.is_error();
            match event.token() {
                TIMER => {}
                Token(at) if at >= FIRST_PUBLISHER => {
                    let at = at - FIRST_PUBLISHER;
                    self.load.ready(at, readable, &mut self.buffer, &mut self.tally, self.clock);
                }
                Token(index) => self.ready(index, readable),
            }
        }
        self.events = events;
        Ok(())
    }

    fn ready(&mut self, index: usize, readable: bool) {
        let client = self.receivers.client();
        let joining = self.receivers.is_joining(index);
        let mut desk = Desk { buffer: &mut self.buffer, tally: &mut self.tally, clock: self.clock, client };
        match self.receivers.ready(index, readable, &mut desk) {
            Turn::Nothing => {}
            Turn::Opened => {
                self.connecting -= 1;
                let begun_ns = self.receivers.begun_ns(index);
                self.tally.timing.joined(begun_ns, self.clock.now_ns());
            }
            Turn::Ended(end) => self.ended(index, end, joining),
        }
    }

    fn ended(&mut self, index: usize, end: End, joining: bool) {
        let text = match end {
            End::Lost(why) => why,
            End::Refused(status) => format!("handshake answered {status}"),
            End::Closed(code) => format!("closed with {code}"),
        };
        *self.ends.entry(text).or_default() += 1;
        if joining {
            self.connecting -= 1;
        }
        if joining || self.rejoining {
            self.joining.push_back((index, self.clock.now_ns() + RETRY_NS));
        }
    }

    fn pump(&mut self, now_ns: u64) -> io::Result<()> {
        self.load.pump(now_ns, &mut self.tally);
        self.turn_over(now_ns);
        while self.connecting < self.connecting_max {
            let Some((index, _)) = self.joining.pop_front_if(|(_, at_ns)| *at_ns <= now_ns) else { break };
            self.receivers.begin(index, self.poll.registry(), now_ns)?;
            self.connecting += 1;
        }
        if now_ns >= self.ticked_ns + TICK_NS {
            self.ticked_ns = now_ns;
            self.load.tick(now_ns, self.poll.registry(), &mut self.tally);
        }
        if now_ns >= self.acknowledged_ns + ACKNOWLEDGE_NS {
            self.acknowledged_ns = now_ns;
            self.receivers.acknowledge();
        }
        Ok(())
    }

    /// Sends away the sockets whose time it is; they come back at once.
    fn turn_over(&mut self, now_ns: u64) {
        let Some(churn) = &mut self.churn else { return };
        while churn.next_ns <= now_ns {
            churn.next_ns += churn.interval_ns;
            churn.politely = !churn.politely;
            let index = churn.next;
            churn.next = (churn.next + 1) % self.receivers.len();
            if self.receivers.leave(index, churn.politely) {
                self.reconnects += 1;
                self.joining.push_back((index, 0));
            }
        }
    }
}
