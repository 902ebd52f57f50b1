//! `postrider audit`: proves the ledger, channel by channel.
//!
//! The one client command that reads the store itself: the proof should not
//! have to trust a node. One script tells a channel's counts and what waits in
//! it, so that traffic while it runs makes no difference appear; what differs
//! all the same is looked at again before it is reported.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::flags::StoreFlags;
use super::output::{Failure, Lines, count, exit_of, say};
use super::{Exit, block_on};
use crate::config::{Config, Environment};
use crate::node;
use crate::protocol::Channel;
use crate::store::{ChannelInfo, Dropped, Error, Store};

/// Channels asked about at once: enough to keep the way to Redis busy, few
/// enough that nodes do not notice.
const ASKED_AT_ONCE: usize = 16;
/// Looks at a channel that differs before it is reported.
const LOOKS: u32 = 3;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Tries of a call that the store did not answer.
const TRIES_MAX: u32 = 8;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Differences listed; the rest is only counted.
const LISTED_MAX: usize = 1_000;

const NO_REDIS: &str = "there is nothing to audit without --redis: what the memory store holds is in its node's \
                        process, where nothing else can read it, and is gone when that ends; the counters of \
                        that node are on its /metrics";

const EXAMPLES: &str = "\
Examples:
  postrider audit --redis redis://127.0.0.1:6379
  postrider audit --config /etc/postrider.toml --json | jq .totals
  postrider audit --redis redis://127.0.0.1:6379 --channel user:alice

In every channel, accepted = received + waiting + expired + collapsed + dropped must hold, 'waiting' counted
message by message. 'received' is by at least one device. Dropped, by reason: mailbox_full (trimmed before any
device received it), no_session (ttl 0, nobody there), unreported (ttl 0, and its node died with it),
withdrawn (taken back before any device received it).
It may run at any time, beside any traffic. It reads Redis, not a node.

Exit codes: 0 it adds up, 1 it does not, 2 not understood, 64 the configuration was refused, 69 Redis was not
reached.";

/// Prove that every accepted message is accounted for.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Audit {
    #[command(flatten)]
    store: StoreFlags,
    /// Only this channel: user:NAME, topic:NAME or all.
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<Channel>,
    /// Print the result as JSON, on one line.
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) fn run(self, environment: &Environment) -> Exit {
        let Self { store, channel, json } = self;
        let config = match Config::load(&store.inputs(environment)) {
            Ok(config) => config,
            Err(problems) => {
                say(&problems.to_string());
                return Exit::Configuration;
            }
        };
        if config.redis.is_none() {
            return exit_of(|| Err(Failure::Usage(NO_REDIS.to_owned())));
        }
        exit_of(|| {
            block_on(async {
                let store = node::open_store(&config)
                    .await
                    .map_err(|error| Failure::Unreachable(format!("failed to {error}")))?;
                let result = audit(&*store, channel).await?;
                result.tell(json, &mut io::stdout())
            })
        })
    }
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    clean: bool,
    channels: u64,
    totals: Counts,
    differing: u64,
    differences: Vec<Difference>,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Counts {
    accepted: u64,
    received: u64,
    waiting: u64,
    expired: u64,
    collapsed: u64,
    dropped: Dropped,
}

/// A channel that does not add up.
#[derive(Debug, Serialize)]
struct Difference {
    channel: Channel,
    /// What must wait if the counts are right; none if it could not be read.
    waiting_by_counts: Option<i64>,
    /// What was counted, `waiting` one by one.
    counted: Option<Counts>,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One channel's part.
type Part = Result<ChannelInfo, Difference>;

impl Counts {
    fn of(info: &ChannelInfo) -> Self {
        let ledger = &info.ledger;
        Self {
            accepted: ledger.accepted,
            received: ledger.received,
            waiting: info.waiting_counted,
            expired: ledger.expired,
            collapsed: ledger.collapsed,
            dropped: ledger.dropped,
        }
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.received += other.received;
        self.waiting += other.waiting;
        self.expired += other.expired;
        self.collapsed += other.collapsed;
        self.dropped += other.dropped;
    }
}

/// Audits one channel, or all that the store knows.
pub(super) async fn audit(store: &dyn Store, channel: Option<Channel>) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    if let Some(channel) = channel {
        findings.take(look(store, channel).await?);
        return Ok(findings.finished());
    }
    let mut seen = Seen::default();
    let mut progress_at = Instant::now() + PROGRESS_EVERY;
    let mut cursor = 0;
    loop {
        let (next, channels) = trying(async || store.channels(cursor).await).await?.map_err(unreachable)?;
        let fresh: Vec<_> = channels.into_iter().filter(|channel| seen.first_time(channel)).collect();
        let mut parts = futures_util::stream::iter(fresh)
            .map(|channel| look(store, channel))
            .buffer_unordered(ASKED_AT_ONCE);
        while let Some(part) = parts.next().await {
            findings.take(part?);
            if Instant::now() >= progress_at {
                progress_at = Instant::now() + PROGRESS_EVERY;
                say(&format!("{} so far", count(findings.channels, "channel")));
            }
        }
        if next == 0 {
            return Ok(findings.finished());
        }
        cursor = next;
    }
}

/// Which channels were audited: a listing may repeat some. Only hashes are
/// kept, wide enough that no two of them meet.
#[derive(Default)]
struct Seen {
    hashers: [RandomState; 2],
    hashes: HashSet<[u64; 2]>,
}

impl Seen {
    fn first_time(&mut self, channel: &Channel) -> bool {
        let [one, other] = &self.hashers;
        self.hashes.insert([one.hash_one(channel), other.hash_one(channel)])
    }
}

/// Looks at a channel, again if it differs.
async fn look(store: &dyn Store, channel: Channel) -> Result<Part, Failure> {
    let mut looks = 1;
    loop {
        let info = match trying(async || store.inspect(&channel).await).await? {
            Ok(info) => info,
            Err(error) => {
                let error = Some(format!("failed to {error}"));
                return Ok(Err(Difference { channel, waiting_by_counts: None, counted: None, error }));
            }
        };
        if info.adds_up() {
            return Ok(Ok(info));
        }
        if looks == LOOKS {
            let counted = Some(Counts::of(&info));
            let waiting_by_counts = Some(info.ledger.waiting());
            return Ok(Err(Difference { channel, waiting_by_counts, counted, error: None }));
        }
        looks += 1;
        sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Tries a call until the store answers; its answer may still be an error.
async fn trying<T>(mut call: impl AsyncFnMut() -> Result<T, Error>) -> Result<Result<T, Error>, Failure> {
    let mut tries = 1;
    loop {
        match call().await {
            Err(error) if error.is_transient() && tries == TRIES_MAX => return Err(unreachable(error)),
            Err(error) if error.is_transient() => tries += 1,
            answer => return Ok(answer),
        }
        sleep(TRY_AGAIN_AFTER).await;
    }
}

fn unreachable(error: Error) -> Failure {
    Failure::Unreachable(format!("failed to {error}"))
}

impl Findings {
    fn take(&mut self, part: Part) {
        self.channels += 1;
        match part {
            Ok(info) => self.totals.add(&Counts::of(&info)),
            Err(difference) => {
                if let Some(counted) = &difference.counted {
                    self.totals.add(counted);
                }
                self.differing += 1;
                if self.differences.len() < LISTED_MAX {
                    self.differences.push(difference);
                }
            }
        }
    }

    fn finished(mut self) -> Self {
        self.clean = self.differing == 0;
        self.differences.sort_by(|a, b| a.channel.as_str().cmp(b.channel.as_str()));
        self
    }

    /// Prints it; a failure when it does not add up.
    pub(super) fn tell(&self, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
        let mut lines = Lines::new(out);
        if json {
            let text = serde_json::to_string(self)
                .map_err(|error| Failure::Failed(format!("failed to write JSON: {error}")))?;
            lines.put(&text)?;
        } else {
            self.text().iter().try_for_each(|line| lines.put(line))?;
        }
        if self.clean {
            return Ok(());
        }
        let channels = count(self.differing, "channel");
        Err(Failure::Failed(format!("the ledger does not add up in {channels} of {}", self.channels)))
    }

    fn text(&self) -> Vec<String> {
        let Counts { accepted, received, waiting, expired, collapsed, dropped } = &self.totals;
        let Dropped { mailbox_full, no_session, unreported, withdrawn } = dropped;
        let mut lines = vec![
            format!("channels   {:>12}", self.channels),
            format!("accepted   {accepted:>12}"),
            format!("received   {received:>12}"),
            format!("waiting    {waiting:>12}"),
            format!("expired    {expired:>12}"),
            format!("collapsed  {collapsed:>12}"),
            format!(
                "dropped    {:>12}  mailbox_full {mailbox_full}, no_session {no_session}, \
                 unreported {unreported}, withdrawn {withdrawn}",
                dropped.total()
            ),
        ];
        lines.extend(self.differences.iter().map(Difference::text));
        let unlisted = self.differing - self.differences.len() as u64;
        if unlisted > 0 {
            lines.push(format!("and {} more", count(unlisted, "channel")));
        }
        if self.clean {
            lines.push(
                "in every channel: accepted = received + waiting + expired + collapsed + dropped".to_owned(),
            );
        }
        lines
    }
}

impl Difference {
    fn text(&self) -> String {
        match (self.waiting_by_counts, &self.counted) {
            (Some(by_counts), Some(counted)) => {
                let Counts { accepted, received, waiting, expired, collapsed, dropped } = counted;
                let dropped = dropped.total();
                format!(
                    "DIFFERS    {}: {by_counts} must be waiting (accepted {accepted} - received {received} - \
                     expired {expired} - collapsed {collapsed} - dropped {dropped}), {waiting} counted",
                    self.channel
                )
            }
            _ => {
                let why = self.error.as_deref().unwrap_or("no reason known");
                format!("DIFFERS    {}: it could not be read: {why}", self.channel)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::MessageId;
    use crate::store::{Append, Limits, memory};

    fn append(channel: &Channel, ttl_ms: u64) -> Append {
        Append {
            id: MessageId::generate(),
            channel: channel.clone(),
            data: "1".into(),
            ttl_ms,
            collapse_key: None,
            idempotency: None,
            trace: None,
        }
    }

    #[tokio::test]
    async fn what_adds_up_is_summed_over_all_channels() {
        let store = memory::Store::new(Limits::default());
        for (user, ttl_ms) in [("ann", 60_000), ("ann", 60_000), ("bob", 60_000), ("bob", 0)] {
            let channel = Channel::user(user).expect("valid");
            store.append(append(&channel, ttl_ms)).await.expect("accepted");
        }
        let findings = audit(&store, None).await.expect("audited");
        let mut out = Vec::new();
        assert!(findings.tell(true, &mut out).is_ok());
        let told: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!((&told["clean"], &told["channels"]), (&true.into(), &2.into()));
        assert_eq!((&told["totals"]["accepted"], &told["totals"]["waiting"]), (&4.into(), &3.into()));
        assert_eq!(told["totals"]["dropped"]["no_session"], 1);

        let only = audit(&store, Some(Channel::user("ann").expect("valid"))).await.expect("audited");
        assert_eq!((only.channels, only.totals.accepted), (1, 2));
    }

    #[test]
    fn what_differs_is_named_with_both_numbers_and_fails() {
        let counted = Counts { accepted: 5, received: 1, waiting: 3, ..Counts::default() };
        let channel = Channel::user("ann").expect("valid");
        let mut findings = Findings::default();
        findings.take(Err(Difference {
            channel,
            waiting_by_counts: Some(4),
            counted: Some(counted),
            error: None,
        }));
        let findings = findings.finished();
        let mut out = Vec::new();
        assert!(matches!(findings.tell(false, &mut out), Err(Failure::Failed(_))));
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.contains("user:ann: 4 must be waiting") && text.contains("3 counted"), "{text}");
        assert!(!text.contains("in every channel"), "{text}");
    }
}
