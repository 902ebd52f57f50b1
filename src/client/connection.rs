//! The client itself: when to dial, which address, what follows an end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::backoff::{Backoff, Then};
use super::conversation::{Met, Open};
use super::event::{Error, Event, Trouble};
use super::link::Link;
use super::options::{From, Options};
use super::progress::{Message, Progress};
use crate::protocol::close::CloseCode;
use crate::protocol::{Channel, Position};

/// What a client is doing.
enum Phase {
    /// Nothing, until then.
    Waiting(Instant),
    /// Kept here, so that whoever drops [`Client::next`] does not begin it anew.
    Dialling(Pin<Box<dyn Future<Output = Dialled> + Send>>),
    Open(Box<Open>),
    Over,
}

/// What came of a dial.
struct Dialled {
    /// Good for the next one, too, whatever came of this.
    token: Option<String>,
    link: Result<Link, Trouble>,
}

/// A connection that keeps itself up. See the [module](super).
pub struct Client {
    options: Options,
    /// The channels of its topics.
    wanted: BTreeSet<Channel>,
    progress: Progress,
    backoff: Backoff,
    phase: Phase,
    /// Which of the addresses is next.
    turn: usize,
    token: Option<String>,
    /// The token was got in answer to a refusal, and nothing accepted it since.
    renewed: bool,
    /// Delivery began once: where to begin is no question any more.
    begun: bool,
    /// To be told first: whoever asked for it did not wait.
    untold: Option<Event>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that dials when it is first asked for an event.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            wanted: options.topics.iter().filter_map(|topic| Channel::topic(topic).ok()).collect(),
            progress: Progress::new(options.positions.clone()),
            options,
            backoff: Backoff::default(),
            phase: Phase::Waiting(Instant::now()),
            turn: 0,
            token: None,
            renewed: false,
            begun: false,
            untold: None,
        }
    }

    /// Where the next connection would go on, by channel. Who keeps them can go
    /// on there in another process ([`Options::positions`]).
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<String, Position> {
        self.progress.positions()
    }

    /// The next event; none when the server has closed the session in order
    /// (1000). Unless acknowledgements are manual, what was given before counts as
    /// handled from here on.
    ///
    /// # Errors
    /// When no reconnect can help.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        if !self.options.manual_acks {
            self.progress.handled();
        }
        if let Some(event) = self.untold.take() {
            return Ok(Some(event));
        }
        let met = loop {
            match &mut self.phase {
                Phase::Over => return Ok(None),
                Phase::Waiting(until) => {
                    sleep_until(*until).await;
                    self.phase = Phase::Dialling(Box::pin(self.dial()));
                }
                Phase::Dialling(dialling) => {
                    let dialled = dialling.await;
                    break self.dialled(dialled).map_err(Met::Trouble);
                }
                Phase::Open(open) => break open.converse(&mut self.progress, self.options.plain).await,
            }
        };
        match met {
            Ok(event) => {
                if matches!(event, Event::Connected(_)) {
                    (self.renewed, self.begun) = (false, true);
                }
                Ok(Some(event))
            }
            Err(Met::NoFrame(why)) => {
                self.phase = Phase::Over;
                Err(Error::NoFrame(why))
            }
            Err(Met::Trouble(trouble)) => self.after(trouble).await,
        }
    }

    /// The same as a [`Stream`], which ends after an error, or when the server has
    /// closed the session in order. For programs that leave acknowledging to the
    /// client.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Error>> {
        stream::try_unfold(self, async |mut client| Ok(client.next().await?.map(|event| (event, client))))
    }

    /// Acknowledges a message and all before it in its channel, with the next
    /// event that is asked for. Only where [`Options::manual_acks`] was chosen is
    /// there a need to.
    pub fn acknowledge(&mut self, message: &Message) {
        self.progress.acknowledge(message);
    }

    /// Leaves, with everything acknowledged that was given, or, where
    /// acknowledgements are manual, that was acknowledged.
    pub async fn close(mut self) {
        if !self.options.manual_acks {
            self.progress.handled();
        }
        self.leave().await;
    }

    /// Leaves without counting the last message as handled.
    pub async fn leave(mut self) {
        if let Phase::Open(open) = std::mem::replace(&mut self.phase, Phase::Over) {
            open.link.leave(self.progress.ack()).await;
        }
    }

    fn dial(&self) -> impl Future<Output = Dialled> + Send + use<> {
        let plain = self.options.plain;
        let resume = if plain { None } else { self.progress.resume(&self.wanted) };
        let (url, known) = (self.address(resume.is_some()), self.token.clone());
        let asked = known.is_none().then(|| (self.options.provider)(self.renewed));
        async move {
            let token = match asked {
                Some(asked) => asked.await,
                None => Ok(known.unwrap_or_default()),
            };
            match token {
                Ok(token) => {
                    let link = Link::open(&url, &token, plain, resume.as_deref()).await;
                    Dialled { token: Some(token), link }
                }
                Err(why) => Dialled { token: None, link: Err(Trouble::Tokenless(why)) },
            }
        }
    }

    fn dialled(&mut self, Dialled { token, link }: Dialled) -> Result<Event, Trouble> {
        let plain = self.options.plain;
        self.token = token;
        self.phase = Phase::Open(Box::new(Open::new(link?, plain)));
        self.begun |= plain;
        Ok(Event::Opened)
    }

    fn address(&self, resumes: bool) -> Url {
        let urls = &self.options.urls;
        let mut url = urls[self.turn % urls.len()].clone();
        url.set_path(&format!("{}/v1/ws", url.path().trim_end_matches('/')));
        // From one special scheme to another, which is always allowed.
        let _ = url.set_scheme("ws");
        let mut query: Vec<(&str, String)> = Vec::new();
        if let Some(device) = &self.options.device {
            query.push(("device", device.clone()));
        }
        query.extend(self.options.topics.iter().map(|topic| ("topic", topic.clone())));
        match (self.begun, self.options.from) {
            (false, From::Now) => query.push(("from", "now".to_owned())),
            (false, From::Oldest) => query.push(("from", "oldest".to_owned())),
            (false, From::Behind(position)) => query.push(("pos", position.to_string())),
            _ => {}
        }
        if resumes {
            query.push(("resume", "1".to_owned()));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// What follows an end.
    async fn after(&mut self, trouble: Trouble) -> Result<Option<Event>, Error> {
        let ended = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Open(open) => Some(open),
            Phase::Waiting(_) | Phase::Dialling(_) | Phase::Over => None,
        };
        let trouble = self.told_of_size(trouble, ended.as_deref());
        let mut then = trouble.then();
        if trouble.refuses_token() && self.options.renews && !self.renewed {
            (self.token, self.renewed, then) = (None, true, Then::Now);
        }
        match then {
            Then::End => return Ok(None),
            Then::StayAway => return Err(Error::Final(trouble)),
            Then::BackOff | Then::Now => {}
        }
        let lived = ended.as_ref().map_or(Duration::ZERO, |open| open.since.elapsed());
        let retry_in = self.backoff.next(then, lived).max(trouble.retry_after().unwrap_or_default());
        self.phase = Phase::Waiting(Instant::now() + retry_in);
        self.turn = self.turn.wrapping_add(1);
        let moved = trouble == Trouble::Moved;
        self.untold = Some(Event::Disconnected { trouble, retry_in });
        if let Some(open) = ended.filter(|_| moved) {
            open.link.leave(self.progress.ack()).await;
        }
        Ok(self.untold.take())
    }

    /// The same trouble; where too much was asked for, with what to do about it.
    fn told_of_size(&self, trouble: Trouble, ended: Option<&Open>) -> Trouble {
        let topics = self.wanted.len();
        match trouble {
            Trouble::Refused { status: 414 | 431, .. } if topics > 0 => Trouble::Impossible(format!(
                "the names of {topics} topics do not fit into an address that the server takes: listen to fewer"
            )),
            Trouble::Closed { code, .. }
                if code == CloseCode::TOO_BIG.get() && ended.is_some_and(|open| !open.greeted) =>
            {
                Trouble::Impossible(format!(
                    "the positions of {topics} topics do not fit into a frame that the server takes: listen to fewer, \
                     or raise its frame_bytes_max"
                ))
            }
            trouble => trouble,
        }
    }
}
