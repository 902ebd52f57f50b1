//! What was sent, what was answered, what arrived: and whether that is right.
//!
//! | a message | every client that names itself |
//! |---|---|
//! | kept | has it |
//! | collapsible | has it, or a later one of its key was accepted |
//! | brief (a short TTL) | may have it |
//! | ephemeral | may have it, once |
//!
//! Whatever was not accepted may arrive, once, if it was tried. In any one
//! connection the numbers of a channel ascend. A client that resumes by position
//! has each number once over its whole life, and is never told of a gap.
//!
//! Every client hears one user or topic, and what is sent to everyone. A plain
//! device is not owed the latter: nothing tells when it began to listen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;
use tokio::time::Instant;

use crate::senders::ALL;

/// Complaints that are kept: the first ones tell the story.
const COMPLAINTS_MAX: usize = 40;

/// What a message asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A TTL longer than the test.
    Kept,
    /// The same with one of a few collapse keys.
    Collapsible(u8),
    /// A TTL of a second.
    Brief,
    /// A TTL of zero.
    Ephemeral,
}

/// How a client takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// Envelopes, a device name, and its last position when it comes back.
    Resuming,
    /// Envelopes and a device name; the node remembers where it was.
    Named,
    /// Server-sent events and a device name, and the last id when it comes back.
    Events,
    /// Bare payloads and a device name.
    PlainDevice,
    /// Bare payloads and nothing else.
    Nameless,
}

impl Client {
    /// Whether it says where it was.
    pub fn resumes(self) -> bool {
        matches!(self, Self::Resuming | Self::Events)
    }
}

#[derive(Debug)]
struct Sent {
    user: usize,
    sender: usize,
    kind: Kind,
    position: Option<u64>,
    accepted: bool,
    at: Instant,
}

/// One arrival.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    n: usize,
    connection: u32,
}

/// A client's life.
#[derive(Debug)]
struct Life {
    client: Client,
    user: usize,
    arrivals: Vec<Arrival>,
    seen: HashSet<usize>,
    /// The last number of each channel: in this connection, or in all.
    last: HashMap<usize, u64>,
    connection: u32,
}

impl Life {
    fn hears(&self, channel: usize) -> bool {
        channel == self.user || channel == ALL
    }

    fn is_owed(&self, channel: usize) -> bool {
        match self.client {
            Client::Nameless => false,
            Client::PlainDevice => channel == self.user,
            Client::Resuming | Client::Named | Client::Events => self.hears(channel),
        }
    }
}

/// Counts for the report.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Messages tried.
    pub sent: usize,
    /// Answered 202.
    pub accepted: usize,
    /// Tries that were answered with an error or not at all.
    pub failed_tries: usize,
    /// Arrivals at all clients.
    pub arrivals: usize,
    /// Arrivals of what that client had already: at-least-once clients.
    pub again: usize,
    /// Kept messages that nameless clients did not see.
    pub nameless_missed: usize,
    /// Connections made.
    pub connections: usize,
    /// Not accepted, arrived nevertheless.
    pub unanswered_arrived: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, accepted, failed_tries, arrivals, again, .. } = self;
        let Self { nameless_missed, connections, unanswered_arrived, .. } = self;
        write!(
            f,
            "{sent} sent, {accepted} accepted after {failed_tries} failed tries, {arrivals} arrivals ({again} again, at \
             clients without position), {nameless_missed} missed by nameless clients, {unanswered_arrived} arrived \
             unanswered, {connections} connections"
        )
    }
}

#[derive(Debug, Default)]
struct State {
    sent: Vec<Sent>,
    lives: Vec<Life>,
    /// By user and number: which message.
    numbered: HashMap<(usize, u64), usize>,
    complaints: Vec<String>,
    complained: usize,
    failed_tries: usize,
}

/// Everything known; shared by senders and receivers.
#[derive(Debug)]
pub struct Model {
    state: Mutex<State>,
    begun: Instant,
}

impl Model {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self { state: Mutex::default(), begun: Instant::now() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Something is wrong.
    pub fn complain(&self, text: impl AsRef<str>) {
        let at = self.begun.elapsed().as_secs_f64();
        self.state().complain(format!("{at:7.3} s  {}", text.as_ref()));
    }

    /// What is wrong, and how much of it.
    pub fn complaints(&self) -> (Vec<String>, usize) {
        let state = self.state();
        (state.complaints.clone(), state.complained)
    }

    /// A message is about to be tried; its number.
    pub fn sending(&self, user: usize, sender: usize, kind: Kind) -> usize {
        let mut state = self.state();
        let at = Instant::now();
        state.sent.push(Sent { user, sender, kind, position: None, accepted: false, at });
        state.sent.len() - 1
    }

    /// A try failed.
    pub fn failed(&self) {
        self.state().failed_tries += 1;
    }

    /// A push was answered 202.
    pub fn accepted(&self, n: usize, answer: &Value) {
        let mut state = self.state();
        let position = answer["pos"].as_str().and_then(number_of);
        let kind = state.sent[n].kind;
        if position.is_none() != (kind == Kind::Ephemeral) {
            state.complain(format!("message {n} ({kind:?}) was answered {answer}"));
        }
        state.sent[n].accepted = true;
        if let Some(position) = position {
            state.place(n, position, "the answer to its push");
        }
    }

    /// A client comes to life; its number.
    pub fn born(&self, client: Client, user: usize) -> usize {
        let mut state = self.state();
        let (arrivals, seen) = (Vec::new(), HashSet::new());
        state.lives.push(Life { client, user, arrivals, seen, last: HashMap::new(), connection: 0 });
        state.lives.len() - 1
    }

    /// A client connected again.
    pub fn connected(&self, life: usize) {
        let life = &mut self.state().lives[life];
        life.connection += 1;
        if !life.client.resumes() {
            life.last.clear();
        }
    }

    /// A client got a payload, with a position if it speaks envelopes.
    pub fn arrived(&self, life: usize, payload: &Value, position: Option<&str>) {
        let at = self.begun.elapsed().as_secs_f64();
        let mut state = self.state();
        if let Err(complaint) = state.arrived(life, payload, position) {
            let Life { client, user, connection, .. } = state.lives[life];
            let who = format!("client {life} ({client:?} of user {user}, connection {connection})");
            state.complain(format!("{at:7.3} s  {who}: {complaint}"));
        }
    }

    /// How many messages clients still miss, and an example.
    pub fn missing(&self) -> (usize, Option<String>) {
        let state = self.state();
        let missing = state.missing();
        let example = missing.first().map(|(life, n)| state.describe_miss(*life, *n));
        (missing.len(), example)
    }

    /// Everything that can only be said at the end.
    pub fn judge(&self) {
        let mut state = self.state();
        let missing = state.missing();
        for (life, n) in missing {
            let text = state.describe_miss(life, n);
            state.complain(text);
        }
        let mut of_sender: BTreeMap<usize, (usize, u64)> = BTreeMap::new();
        let placed: Vec<_> = state
            .sent
            .iter()
            .enumerate()
            .filter(|(_, sent)| sent.accepted)
            .filter_map(|(n, sent)| Some((n, sent.sender, sent.position?)))
            .collect();
        for (n, sender, position) in placed {
            if let Some((earlier, before)) = of_sender.insert(sender, (n, position))
                && before >= position
            {
                state.complain(format!(
                    "sender {sender} sent {n} after {earlier} was accepted, but it is number {position} and not above {before}"
                ));
            }
        }
    }

    /// Kept messages of a user that a device must have received, and positions taken at least.
    pub fn of_user(&self, user: usize) -> UserCounts {
        let state = self.state();
        let mut counts = UserCounts::default();
        for sent in state.sent.iter().filter(|sent| sent.user == user) {
            counts.tried += 1;
            counts.accepted += u64::from(sent.accepted);
            counts.kept += u64::from(sent.accepted && sent.kind == Kind::Kept);
            counts.ephemeral += u64::from(sent.kind == Kind::Ephemeral);
            counts.highest = counts.highest.max(sent.position.unwrap_or(0));
        }
        counts
    }

    /// The figures.
    pub fn counts(&self) -> Counts {
        let state = self.state();
        let mut counts = Counts {
            sent: state.sent.len(),
            accepted: state.sent.iter().filter(|sent| sent.accepted).count(),
            failed_tries: state.failed_tries,
            ..Counts::default()
        };
        let mut unanswered = HashSet::new();
        for life in &state.lives {
            counts.arrivals += life.arrivals.len();
            counts.again += life.arrivals.len() - life.seen.len();
            counts.connections += life.connection as usize;
            unanswered.extend(life.seen.iter().copied().filter(|n| !state.sent[*n].accepted));
            if life.client == Client::Nameless {
                let due = |(n, sent): &(usize, &Sent)| {
                    sent.accepted
                        && sent.user == life.user
                        && sent.kind == Kind::Kept
                        && !life.seen.contains(n)
                };
                counts.nameless_missed += state.sent.iter().enumerate().filter(due).count();
            }
        }
        counts.unanswered_arrived = unanswered.len();
        counts
    }
}

/// What one user was sent.
#[derive(Debug, Default, Clone, Copy)]
pub struct UserCounts {
    /// Messages tried.
    pub tried: u64,
    /// Answered 202.
    pub accepted: u64,
    /// Of these, kept ones.
    pub kept: u64,
    /// Ephemeral ones tried.
    pub ephemeral: u64,
    /// The highest number known.
    pub highest: u64,
}

impl State {
    fn complain(&mut self, text: String) {
        self.complained += 1;
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(text);
        }
    }

    /// Notes a message's number, which must always be the same and only its own.
    fn place(&mut self, n: usize, number: u64, by: &str) {
        let user = self.sent[n].user;
        match self.sent[n].position {
            Some(known) if known != number => {
                self.complain(format!("message {n} has number {known}, and {number} by {by}"));
            }
            _ => self.sent[n].position = Some(number),
        }
        if let Some(other) = self.numbered.insert((user, number), n).filter(|other| *other != n) {
            self.complain(format!("number {number} of user {user} means both {other} and {n} (by {by})"));
        }
    }

    fn arrived(&mut self, life: usize, payload: &Value, position: Option<&str>) -> Result<(), String> {
        let n = payload["n"].as_u64().map_or(usize::MAX, |n| n as usize);
        let Some(sent) = self.sent.get(n).filter(|sent| self.lives[life].hears(sent.user)) else {
            return Err(format!("got what nobody sent it: {payload}"));
        };
        let (kind, channel) = (sent.kind, sent.user);
        if position.is_some() && kind == Kind::Ephemeral {
            return Err(format!("message {n} is ephemeral and has the position {position:?}"));
        }
        if let Some(position) = position {
            let number = number_of(position).ok_or_else(|| format!("no position: {position}"))?;
            self.place(n, number, "its envelope");
        }
        // A plain client is told no positions; by the end most are known from others.
        let number = self.sent[n].position;
        let life = &mut self.lives[life];
        let connection = life.connection;
        life.arrivals.push(Arrival { n, connection });
        let again = !life.seen.insert(n);
        if again && (kind == Kind::Ephemeral || life.client.resumes()) {
            return Err(format!("got message {n} ({kind:?}, number {number:?}) a second time"));
        }
        if let Some(number) = number {
            let before = life.last.insert(channel, number).unwrap_or(0);
            if number <= before {
                return Err(format!("got message {n} (number {number}) after number {before}"));
            }
        }
        Ok(())
    }

    /// Clients and the messages they should have and have not.
    fn missing(&self) -> Vec<(usize, usize)> {
        let mut latest: HashMap<(usize, u8), u64> = HashMap::new();
        for sent in &self.sent {
            if let (Kind::Collapsible(key), Some(number)) = (sent.kind, sent.position) {
                let slot = latest.entry((sent.user, key)).or_default();
                *slot = number.max(*slot);
            }
        }
        let owed = |sent: &Sent| match sent.kind {
            Kind::Kept => sent.accepted,
            Kind::Collapsible(key) => {
                sent.accepted && sent.position.is_some_and(|number| latest[&(sent.user, key)] == number)
            }
            Kind::Brief | Kind::Ephemeral => false,
        };
        let mut missing = Vec::new();
        for (n, sent) in self.sent.iter().enumerate().filter(|(_, sent)| owed(sent)) {
            for (at, life) in self.lives.iter().enumerate() {
                if life.is_owed(sent.user) && !life.seen.contains(&n) {
                    missing.push((at, n));
                }
            }
        }
        missing
    }

    fn describe_miss(&self, life: usize, n: usize) -> String {
        let (sent, who) = (&self.sent[n], &self.lives[life]);
        let later =
            who.arrivals.iter().filter(|arrival| arrival.n > n).map(|arrival| arrival.connection).min();
        format!(
            "client {life} ({:?} of user {}, now at connection {}) misses message {n} ({:?}, number {:?}, sent {:.3} s \
             before now); the first later one came in connection {later:?}",
            who.client,
            who.user,
            who.connection,
            sent.kind,
            sent.position,
            sent.at.elapsed().as_secs_f64(),
        )
    }
}

/// The sequence number of a position: numbers go on across epochs as long as
/// nothing is lost.
pub fn number_of(position: &str) -> Option<u64> {
    position.rsplit_once('.')?.1.parse().ok()
}
