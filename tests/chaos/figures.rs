//! What is counted of a plain load.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// A push and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Push {
    /// Its number.
    pub n: usize,
    /// To which client.
    pub to: usize,
    /// The answer; 0 when there was none.
    pub status: u16,
    /// When that came.
    pub at: Instant,
}

impl Push {
    /// Whether it must arrive.
    pub fn accepted(&self) -> bool {
        self.status == 202
    }
}

/// One client's account.
#[derive(Debug, Default)]
pub struct Account {
    /// What came, and when.
    pub arrivals: Vec<(usize, Instant)>,
    /// When each connection stood.
    pub connected: Vec<Instant>,
}

impl Account {
    /// Whether a message came.
    pub fn has(&self, n: usize) -> bool {
        self.arrivals.iter().any(|(known, _)| *known == n)
    }
}

/// The result.
#[derive(Debug, Default)]
pub struct Figures {
    /// Answered 202.
    pub accepted: usize,
    /// Answered otherwise, or not.
    pub refused: usize,
    /// Accepted, and never came.
    pub lost: usize,
    /// Came again.
    pub again: usize,
    /// Refusals that came this long after the trouble was over, or before it.
    pub refused_outside: Vec<Duration>,
    /// By client that missed something: from the blow to its first message on
    /// its new connection.
    pub after_blow: Vec<Duration>,
    /// From when that connection stood to that message.
    pub after_connect: Vec<Duration>,
    /// From when the last message missed was accepted to that message.
    pub after_missed: Vec<Duration>,
    /// From acceptance to arrival, of all that came.
    pub latency: Vec<Duration>,
}

impl Figures {
    /// Counts.
    pub fn count(pushes: &[Push], accounts: &[Account], struck_at: Instant, over_at: Instant) -> Self {
        let mut figures = Self::default();
        let mut owed: Vec<Vec<&Push>> = vec![Vec::new(); accounts.len()];
        for push in pushes {
            if push.accepted() {
                figures.accepted += 1;
                owed[push.to].push(push);
            } else {
                figures.refused += 1;
                if push.at < struck_at {
                    figures.refused_outside.push(Duration::ZERO);
                } else if push.at > over_at {
                    figures.refused_outside.push(push.at - over_at);
                }
            }
        }
        for (account, owed) in accounts.iter().zip(&owed) {
            figures.account(account, owed, struck_at);
        }
        figures
    }

    fn account(&mut self, account: &Account, owed: &[&Push], struck_at: Instant) {
        let mut seen = HashSet::new();
        self.again += account.arrivals.iter().filter(|(n, _)| !seen.insert(*n)).count();
        let first = |n: usize| account.arrivals.iter().find(|(known, _)| *known == n).map(|(_, at)| *at);
        self.lost += owed.iter().filter(|push| first(push.n).is_none()).count();
        let latency = |push: &&&Push| Some(first(push.n)?.saturating_duration_since(push.at));
        self.latency.extend(owed.iter().filter_map(|push| latency(&push)));
        let Some(back_at) = account.connected.iter().copied().find(|at| *at > struck_at) else { return };
        // Accepted before it was back, and not here before that.
        let missed =
            owed.iter().filter(|push| push.at < back_at && first(push.n).is_none_or(|at| at > back_at));
        let Some(last_missed) = missed.map(|push| push.at).max() else { return };
        let elsewhere = account.arrivals.iter().map(|(_, at)| *at).find(|at| *at > back_at);
        if let Some(elsewhere) = elsewhere {
            self.after_blow.push(elsewhere - struck_at);
            self.after_connect.push(elsewhere - back_at);
            self.after_missed.push(elsewhere.saturating_duration_since(last_missed));
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, refused, lost, again, refused_outside, .. } = self;
        write!(f, "{accepted} accepted, {refused} refused")?;
        if let Some(late) = refused_outside.iter().max() {
            write!(f, " ({} outside the trouble, at most {late:.0?} after it)", refused_outside.len())?;
        }
        writeln!(f, ", {lost} lost, {again} again")?;
        let rows = [
            ("blow to first message elsewhere", &self.after_blow),
            ("connected to first message elsewhere", &self.after_connect),
            ("last message missed to first message elsewhere", &self.after_missed),
            ("accepted to arrived", &self.latency),
        ];
        for (what, values) in rows {
            let mut values = values.clone();
            values.sort_unstable();
            if let (Some(last), Some(middle)) = (values.last(), values.get(values.len() / 2)) {
                writeln!(f, "  {what}: p50 {middle:.1?}, max {last:.1?} ({} of them)", values.len())?;
            }
        }
        Ok(())
    }
}
