//! `postrider listen`: a device in a terminal.
//!
//! What a good client does is done by [`crate::client`]; here its events become
//! lines. A connection that breaks is told on stderr and made again; only what
//! the server says is final ends it.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

use super::Target;
use super::api::refusal;
use super::output::{Failure, Lines, one_line, say};
use super::utc::utc;
use crate::client::{self, Client, Event, Gap, Message, Options, Trouble};
use crate::config::Environment;
use crate::protocol::{Channel, ChannelError, Device, Position};
use crate::shutdown::Signals;

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
        let mut client = Client::new(self.options(environment)?);
        let end = self.print(&mut client, &mut Lines::new(out), stop).await;
        // What was printed is acknowledged, so that nobody gets it again.
        match end {
            Ok(()) => client.close().await,
            Err(_) => client.leave().await,
        }
        end
    }

    async fn print(
        &self,
        client: &mut Client,
        lines: &mut Lines<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        tokio::pin!(stop);
        let (mut remaining, mut opened) = (self.count, false);
        loop {
            let event = tokio::select! {
                event = client.next() => event.map_err(failure)?,
                () = &mut stop => return Ok(()),
            };
            let Some(event) = event else {
                say("the server closed the connection in order");
                return Ok(());
            };
            let line = match event {
                Event::Opened => {
                    opened = true;
                    if self.plain {
                        say("connected");
                    }
                    continue;
                }
                Event::Connected(session) => {
                    let resumed = if session.resumed { ", resumed" } else { "" };
                    say(&format!("connected to node {} as user {}{resumed}", session.node, session.user));
                    continue;
                }
                Event::Complaint { code, message } => {
                    say(&format!("the server says: {message} [code {code}]"));
                    continue;
                }
                Event::Gap(gap) => {
                    lines.put(&self.gap(&gap))?;
                    continue;
                }
                Event::Disconnected { trouble, retry_in } => {
                    if !opened {
                        at_first(&trouble)?;
                    }
                    say(&format!("{}; reconnecting in {:.1} s", text_of(&trouble), retry_in.as_secs_f64()));
                    continue;
                }
                Event::Message(message) => self.line(&message),
                Event::Payload(payload) => payload,
            };
            lines.put(&line)?;
            remaining = remaining.map(|number| number.saturating_sub(1));
            if remaining == Some(0) {
                return Ok(());
            }
        }
    }

    fn line(&self, message: &Message) -> String {
        if self.json {
            return one_line(&message.frame);
        }
        let position = message.position.map_or_else(|| "ephemeral".to_owned(), |at| at.to_string());
        let data = one_line(message.data.get());
        format!("{} {} {position} {data}", utc(message.accepted_at_ms), message.channel)
    }

    fn gap(&self, gap: &Gap) -> String {
        if self.json {
            return one_line(&gap.frame);
        }
        let of = |position: Option<Position>| position.map_or_else(|| "?".to_owned(), |at| at.to_string());
        let Gap { channel, from, to, reason, .. } = gap;
        format!("gap {channel}: messages after {} up to {} are lost ({reason})", of(*from), of(*to))
    }

    fn options(&self, environment: &Environment) -> Result<Options, Failure> {
        let token = self.user.as_deref().or(self.token.as_deref());
        let server = self.target.client(None, token, environment)?;
        let Some(token) = server.token else {
            let text = "say whose messages: --user NAME, or --token TOKEN (or POSTRIDER_TOKEN) where the server \
                        authenticates";
            return Err(Failure::Usage(text.to_owned()));
        };
        let from = match (self.from, self.pos) {
            (Some(From::Now), _) => client::From::Now,
            (Some(From::Oldest), _) => client::From::Oldest,
            (None, Some(position)) => client::From::Behind(position),
            (None, None) => client::From::Received,
        };
        let mut options = Options::new(server.url).token(token.expose()).from(from);
        if let Some(device) = &self.device {
            options = options.device(device.as_str());
        }
        for topic in &self.topics {
            options = options.topic(topic);
        }
        Ok(if self.plain { options.plain() } else { options })
    }
}

/// Who was never reached may be somebody else than was meant.
fn at_first(trouble: &Trouble) -> Result<(), Failure> {
    match trouble {
        Trouble::Unreachable(text) => Err(Failure::Unreachable(format!(
            "{text}; is a node running there? 'postrider serve' starts one, --url names another"
        ))),
        Trouble::Refused { .. } => Err(Failure::Failed(text_of(trouble))),
        _ => Ok(()),
    }
}

fn failure(error: client::Error) -> Failure {
    match error {
        client::Error::Final(trouble) => Failure::Failed(text_of(&trouble)),
        client::Error::NoFrame(why) => Failure::Failed(format!("cannot read a frame of the server: {why}")),
    }
}

/// For a terminal: what the server says must not steer it.
fn text_of(trouble: &Trouble) -> String {
    let text = match trouble {
        Trouble::Refused { status, retry_after, body } => {
            let status = reqwest::StatusCode::from_u16(*status).unwrap_or_default();
            refusal(status, body, retry_after.as_deref())
        }
        trouble => trouble.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The name of a topic, with its kind or without.
fn topic(text: &str) -> Result<String, ChannelError> {
    Ok(Channel::topic(text)?.topic_name().unwrap_or_default().to_owned())
}
