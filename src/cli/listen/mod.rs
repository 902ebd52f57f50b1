//! `postrider listen`: a device in a terminal.
//!
//! It does what a good client does: acknowledges what it has printed, resumes
//! by position, obeys the ranges of close codes, backs off with full jitter.
//! A connection that breaks is told on stderr and made again; only what the
//! server says is final ends it.

mod backoff;
mod connection;
mod progress;

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use tokio::time::{Instant, sleep};
use url::Url;

use super::Target;
use super::api::endpoint;
use super::output::{Failure, Lines, say};
use crate::config::{Client, Environment, Secret};
use crate::protocol::{Channel, ChannelError, Device, Position};
use crate::shutdown::Signals;
use backoff::{Backoff, Then, after_close};
use connection::{Door, End, Listener};
use progress::{Progress, View};

const EXAMPLES: &str = "\
Examples:
  postrider listen --user alice
  postrider listen --user alice --device laptop       only what this device has not seen
  postrider listen --user alice --from oldest --json | jq .data
  postrider listen --user alice --from now --count 1  waits for the next message
  postrider listen --user alice --topic orders.42 --topic news
  postrider listen --user alice --plain               what 'new WebSocket(url)' would get
  POSTRIDER_TOKEN=$JWT postrider listen --url http://10.0.0.5:8080

A line is: time, channel, position, data. Exit codes: 0 after --count messages or Ctrl-C, 1 refused,
2 not understood, 69 no server reached at first. Later it reconnects, for as long as it takes.";

/// Receive what is sent to a user, as one of their devices.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Listen {
    /// Whose messages, where the server has no authentication.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    user: Option<String>,
    /// The user's token [variable POSTRIDER_TOKEN or POSTRIDER_TOKEN_FILE].
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// A name for this device, under which the server remembers how far it has come.
    #[arg(long, value_name = "NAME")]
    device: Option<Device>,
    /// A topic to listen to besides what is sent to the user and to everyone; may be given several times.
    #[arg(long = "topic", value_name = "NAME", value_parser = topic)]
    topics: Vec<String>,
    /// Where to begin instead of behind what was received before.
    #[arg(long, value_enum, conflicts_with = "pos")]
    from: Option<From>,
    /// Begin behind this position of the user's own channel.
    #[arg(long, value_name = "POSITION")]
    pos: Option<Position>,
    /// Speak no subprotocol: bare payloads, no acknowledgements, no resume.
    #[arg(long)]
    plain: bool,
    /// Exit after this many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    target: Target,
    /// Print the frames as JSON, one on a line.
    #[arg(long, conflicts_with = "plain")]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// Only what comes from now on.
    Now,
    /// Everything that is kept.
    Oldest,
}

impl Listen {
    pub(super) async fn run(&self, environment: &Environment) -> Result<(), Failure> {
        let mut signals = Signals::install()
            .map_err(|error| Failure::Failed(format!("failed to watch for signals: {error}")))?;
        let stop = async move {
            signals.next().await;
        };
        Box::pin(self.follow(environment, &mut io::stdout(), stop)).await
    }

    /// [`Self::run`] with its output anywhere and any other reason to stop.
    pub(super) async fn follow(
        &self,
        environment: &Environment,
        out: &mut dyn Write,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        tokio::pin!(stop);
        let (client, token) = self.client(environment)?;
        let mut progress = Progress::new(self.view());
        let mut lines = Lines::new(out);
        let (mut remaining, mut connected) = (self.count, false);
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            let door = self.door(&client, &token, &progress, connected);
            let mut listener = Listener {
                progress: &mut progress,
                lines: &mut lines,
                remaining: &mut remaining,
                connected: &mut connected,
            };
            let end = connection::run(&door, &mut listener, &mut stop).await?;
            let Some((then, text)) = verdict(end, connected)? else { return Ok(()) };
            let wait = backoff.next(then, begun.elapsed());
            say(&format!("{text}; reconnecting in {:.1} s", wait.as_secs_f64()));
            tokio::select! {
                () = sleep(wait) => {}
                () = &mut stop => return Ok(()),
            }
        }
    }

    fn view(&self) -> View {
        match (self.plain, self.json) {
            (true, _) => View::Plain,
            (_, true) => View::Json,
            _ => View::Lines,
        }
    }

    fn client(&self, environment: &Environment) -> Result<(Client, Secret), Failure> {
        let token = self.user.as_deref().or(self.token.as_deref());
        let client = self.target.client(None, token, environment)?;
        let Some(token) = client.token.clone() else {
            let text = "say whose messages: --user NAME, or --token TOKEN (or POSTRIDER_TOKEN) where the server \
                        authenticates";
            return Err(Failure::Usage(text.to_owned()));
        };
        Ok((client, token))
    }

    /// Where to begin is said once; later the positions know better.
    fn door<'a>(&self, client: &Client, token: &'a Secret, progress: &Progress, again: bool) -> Door<'a> {
        let view = self.view();
        let resume = view != View::Plain && again && progress.can_resume();
        let mut url = websocket(&client.url);
        let mut query: Vec<(&str, String)> = Vec::new();
        if let Some(device) = &self.device {
            query.push(("device", device.to_string()));
        }
        query.extend(self.topics.iter().map(|topic| ("topic", topic.clone())));
        match (again, self.from, self.pos) {
            (false, Some(From::Now), _) => query.push(("from", "now".to_owned())),
            (false, Some(From::Oldest), _) => query.push(("from", "oldest".to_owned())),
            (false, None, Some(position)) => query.push(("pos", position.to_string())),
            _ => {}
        }
        if resume {
            query.push(("resume", "1".to_owned()));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Door { url, token, view, resume }
    }
}

/// The name of a topic, with its kind or without.
fn topic(text: &str) -> Result<String, ChannelError> {
    Ok(Channel::topic(text)?.topic_name().unwrap_or_default().to_owned())
}

fn websocket(base: &Url) -> Url {
    let mut url = endpoint(base, "/v1/ws");
    // From one special scheme to another, which is always allowed.
    let _ = url.set_scheme("ws");
    url
}

/// Whether to come back and why; nothing when it is over.
fn verdict(end: End, connected: bool) -> Result<Option<(Then, String)>, Failure> {
    match end {
        End::Done => Ok(None),
        End::Moved => Ok(Some((Then::Now, "the node is leaving".to_owned()))),
        End::Lost(why) => Ok(Some((Then::BackOff, format!("the connection broke: {why}")))),
        End::Unreachable(text) if connected => Ok(Some((Then::BackOff, text))),
        End::Unreachable(text) => Err(Failure::Unreachable(format!(
            "{text}; is a node running there? 'postrider serve' starts one, --url names another"
        ))),
        End::Refused { transient: true, text } if connected => Ok(Some((Then::BackOff, text))),
        End::Refused { text, .. } => Err(Failure::Failed(text)),
        End::Closed(code, reason) => {
            let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let text = format!("the server closed the connection: {reason} ({code})");
            match after_close(code) {
                Then::End => {
                    say(&text);
                    Ok(None)
                }
                Then::StayAway => Err(Failure::Failed(text)),
                then => Ok(Some((then, text))),
            }
        }
    }
}
