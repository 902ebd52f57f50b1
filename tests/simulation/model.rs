//! What was pushed, what was heard, and what must be true of both.

use std::collections::{HashMap, HashSet};

use postrider::protocol::{Channel, Position};

use crate::plan::{Flavour, Kind};

/// A number for each push.
pub(crate) type PushId = usize;

/// One push, over all its tries.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) user: usize,
    /// When it was tried first.
    pub(crate) begun: u64,
    /// When a try was answered, and with which position.
    pub(crate) accepted: Option<(u64, Option<Position>)>,
    /// Whether everyone must get it: it neither expires soon, nor is
    /// ephemeral, nor may be collapsed.
    pub(crate) lasting: bool,
    pub(crate) ephemeral: bool,
    /// The store lost it.
    pub(crate) excused: bool,
}

/// What a client heard and saw.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) user: usize,
    pub(crate) kind: Kind,
    /// From when on it is owed everything.
    owed_since: Option<u64>,
    /// The store lost something since it began to connect, its place perhaps.
    forgotten: bool,
    /// When its present session was attached.
    session_since: Option<u64>,
    /// It has read a `hello`.
    greeted: bool,
    /// The position that its first `hello` named.
    first: Option<Position>,
    heard: HashMap<PushId, u32>,
    /// By session: what was shown, in order.
    sessions: Vec<Vec<PushId>>,
    gaps: Vec<HeardGap>,
}

#[derive(Debug, Clone)]
pub(crate) struct HeardGap {
    pub(crate) from: Option<Position>,
    pub(crate) to: Option<Position>,
    pub(crate) reason: String,
}

/// The whole of it.
#[derive(Debug)]
pub(crate) struct Model {
    flavour: Flavour,
    pub(crate) channels: Vec<Channel>,
    clock: u64,
    pub(crate) pushes: Vec<Push>,
    by_payload: HashMap<String, PushId>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) violations: Vec<String>,
    /// How often the store forgot something.
    pub(crate) losses: u64,
}

impl Model {
    pub(crate) fn new(flavour: Flavour, users: &[Vec<Kind>], channels: &[Channel]) -> Self {
        let listener = |user, kind: &Kind| Listener {
            user,
            kind: kind.clone(),
            owed_since: None,
            forgotten: false,
            session_since: None,
            greeted: false,
            first: None,
            heard: HashMap::new(),
            sessions: Vec::new(),
            gaps: Vec::new(),
        };
        Self {
            flavour,
            channels: channels.to_vec(),
            clock: 0,
            pushes: Vec::new(),
            by_payload: HashMap::new(),
            listeners: users
                .iter()
                .enumerate()
                .flat_map(|(user, kinds)| kinds.iter().map(move |kind| listener(user, kind)))
                .collect(),
            violations: Vec::new(),
            losses: 0,
        }
    }

    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(crate) fn violation(&mut self, text: String) {
        if self.violations.len() < 20 {
            self.violations.push(text);
        }
    }

    /// A moment that later ones are compared with.
    pub(crate) fn moment(&mut self) -> u64 {
        self.now()
    }

    pub(crate) fn begin_push(&mut self, user: usize, lasting: bool, ephemeral: bool) -> (PushId, String) {
        let id = self.pushes.len();
        let payload = format!("to user{user}: {id}");
        let begun = self.now();
        self.pushes.push(Push { user, begun, accepted: None, lasting, ephemeral, excused: false });
        self.by_payload.insert(payload.clone(), id);
        (id, payload)
    }

    pub(crate) fn push_accepted(&mut self, id: PushId, position: Option<Position>) {
        let now = self.now();
        self.pushes[id].accepted = Some((now, position));
    }

    /// The store forgot what it was told since `moment`.
    pub(crate) fn store_forgot(&mut self, moment: u64) {
        self.losses += 1;
        for listener in &mut self.listeners {
            // So it did its device, perhaps.
            if matches!(listener.kind, Kind::Device(_)) {
                (listener.owed_since, listener.forgotten) = (None, true);
            }
        }
        for push in &mut self.pushes {
            // One that is being answered now may have been taken before.
            if push.accepted.is_none_or(|(at, _)| at >= moment) {
                push.excused = true;
            }
        }
    }

    pub(crate) fn connected(&mut self, listener: usize) {
        let listener = &mut self.listeners[listener];
        listener.sessions.push(Vec::new());
        (listener.session_since, listener.forgotten) = (None, false);
    }

    /// Its session is attached: from here on it is owed everything, if anybody
    /// will know it again. Who has no name is known by the position it brings,
    /// and has none before it has read `hello`.
    pub(crate) fn attached(&mut self, listener: usize) {
        let now = self.now();
        let listener = &mut self.listeners[listener];
        if !listener.forgotten && (listener.kind != Kind::Envelope(None) || listener.greeted) {
            listener.owed_since.get_or_insert(now);
        }
        listener.session_since = Some(now);
    }

    pub(crate) fn greeted(&mut self, listener: usize, position: Option<Position>) {
        let now = self.now();
        let listener = &mut self.listeners[listener];
        listener.greeted = true;
        if listener.session_since.is_some() {
            listener.owed_since.get_or_insert(now);
        }
        if listener.first.is_none() && listener.heard.is_empty() {
            listener.first = position;
        }
    }

    pub(crate) fn heard(&mut self, at: usize, payload: &str) {
        let known = self.by_payload.get(payload).copied();
        let Some(id) = known.filter(|id| self.pushes[*id].user == self.listeners[at].user) else {
            return self.violation(format!("client {at} heard what was never pushed to it: {payload:?}"));
        };
        let listener = &mut self.listeners[at];
        let count = listener.heard.entry(id).or_default();
        *count += 1;
        let session = listener.sessions.last_mut().expect("it is connected");
        let twice_here = session.contains(&id);
        // Who resumes by position, and what is sent at most once.
        let once = self.pushes[id].ephemeral || matches!(listener.kind, Kind::Envelope(_));
        let twice_ever = *count > 1 && once;
        session.push(id);
        if self.flavour != Flavour::Loses && (twice_here || twice_ever) {
            let push = &self.pushes[id];
            self.violation(format!(
                "client {at} heard push {id} twice (in one session: {twice_here}): {push:?}"
            ));
        }
    }

    pub(crate) fn heard_gap(&mut self, at: usize, gap: HeardGap) {
        let excused = match self.flavour {
            Flavour::Steady | Flavour::Restarts => false,
            Flavour::Loses => gap.reason == "reset" && self.losses > 0,
            Flavour::Trims => gap.reason == "trimmed",
        };
        if !excused {
            self.violation(format!("client {at} was told of a gap although nothing was lost: {gap:?}"));
        }
        let listener = &mut self.listeners[at];
        listener.gaps.push(gap);
        let resets: Vec<_> = listener.gaps.iter().filter(|gap| gap.reason == "reset").collect();
        if resets.len() as u64 > self.losses {
            let text = format!(
                "client {at} {:?} was told of {} losses more often: {resets:?}",
                listener.kind, self.losses
            );
            self.violation(text);
        }
    }

    /// What a client is owed and has not got.
    fn missing_of(&self, listener: &Listener) -> Vec<PushId> {
        let since = match listener.kind {
            Kind::Nameless => listener.session_since,
            Kind::Envelope(_) | Kind::Device(_) => listener.owed_since,
        };
        let is_owed = |push: &Push| {
            let behind_first = match (push.accepted.and_then(|(_, position)| position), listener.first) {
                (Some(_), Some(Position::BEGINNING)) => true,
                (Some(position), Some(first)) => position.epoch == first.epoch && position.seq > first.seq,
                _ => false,
            };
            push.user == listener.user
                && push.lasting
                && !push.excused
                && push.accepted.is_some()
                && (behind_first || since.is_some_and(|since| push.begun > since))
        };
        let told = |push: &Push| {
            let position = push.accepted.and_then(|(_, position)| position);
            position.is_some_and(|position| listener.gaps.iter().any(|gap| gap.covers(position)))
        };
        let plain_may_lose = self.flavour == Flavour::Trims && !matches!(listener.kind, Kind::Envelope(_));
        let owed = self.pushes.iter().enumerate().filter(|(_, push)| is_owed(push) && !plain_may_lose);
        owed.filter(|(id, push)| !listener.heard.contains_key(id) && !told(push)).map(|(id, _)| id).collect()
    }

    /// What anyone is owed and has not got: clients with pushes.
    pub(crate) fn missing(&self) -> Vec<(usize, Vec<PushId>)> {
        let missing = self.listeners.iter().map(|listener| self.missing_of(listener)).enumerate();
        missing.filter(|(_, missing)| !missing.is_empty()).collect()
    }

    /// Every session showed what it showed in the order of `positions`.
    pub(crate) fn check_order(&mut self, positions: &HashMap<String, Position>) {
        if self.flavour == Flavour::Loses {
            return;
        }
        let position = |id: &PushId| {
            let push = &self.pushes[*id];
            let payload = format!("to user{}: {id}", push.user);
            push.accepted.and_then(|(_, position)| position).or_else(|| positions.get(&payload).copied())
        };
        let mut violations = Vec::new();
        for (at, listener) in self.listeners.iter().enumerate() {
            for session in &listener.sessions {
                let seqs: Vec<_> = session.iter().filter_map(|id| Some((position(id)?.seq, id))).collect();
                if let Some(pair) = seqs.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
                    violations.push(format!("client {at} heard {pair:?} in the wrong order"));
                }
            }
        }
        violations.into_iter().for_each(|text| self.violation(text));
    }

    /// Nobody was handed what nobody holds: pushes by payload.
    pub(crate) fn is_known(&self, payload: &str) -> bool {
        self.by_payload.contains_key(payload)
    }

    /// Counts for the report.
    pub(crate) fn counts(&self) -> String {
        let accepted = self.pushes.iter().filter(|push| push.accepted.is_some()).count();
        let heard: usize = self.listeners.iter().map(|listener| listener.heard.len()).sum();
        let sessions: usize = self.listeners.iter().map(|listener| listener.sessions.len()).sum();
        let gaps: usize = self.listeners.iter().map(|listener| listener.gaps.len()).sum();
        let distinct: HashSet<_> = self.listeners.iter().flat_map(|listener| listener.heard.keys()).collect();
        format!(
            "{} pushed, {accepted} accepted, {} heard by somebody, {heard} in all, {sessions} sessions, {gaps} gaps",
            self.pushes.len(),
            distinct.len(),
        )
    }
}

impl HeardGap {
    fn covers(&self, position: Position) -> bool {
        let Some(to) = self.to else { return false };
        // Unknown from: nothing had been seen.
        let behind = self.from.is_none_or(|from| from.epoch != position.epoch || position.seq > from.seq);
        behind && to.epoch == position.epoch && position.seq <= to.seq
    }
}
