//! Where a client goes, as whom, and where it begins.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use url::Url;

use crate::protocol::Position;

/// A token, or why there is none.
pub(super) type Token = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// Gives tokens; told whether the last one was refused.
pub(super) type Provider = Box<dyn Fn(bool) -> Token + Send + Sync>;

/// Where to begin without a position: behind what the device received last,
/// unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum From {
    /// Behind what this device (without a name: any of the user's) received.
    #[default]
    Received,
    /// With what comes from now on.
    Now,
    /// With everything that is kept.
    Oldest,
    /// Behind this position of the user's own channel.
    Behind(Position),
}

/// What a [`Client`](super::Client) is made of.
pub struct Options {
    /// At least one.
    pub(super) urls: Vec<Url>,
    pub(super) provider: Provider,
    /// Whether another token may come of another question.
    pub(super) renews: bool,
    pub(super) device: Option<String>,
    pub(super) topics: Vec<String>,
    pub(super) from: From,
    pub(super) positions: BTreeMap<String, Position>,
    pub(super) manual_acks: bool,
    pub(super) plain: bool,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("urls", &self.urls.iter().map(Url::as_str).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Options {
    /// A client of the node, or of the load balancer, at `http://HOST:PORT`.
    #[must_use]
    pub fn new(url: Url) -> Self {
        let provider: Provider = Box::new(|_| Box::pin(std::future::ready(Ok(String::new()))));
        Self {
            urls: vec![url],
            provider,
            renews: false,
            device: None,
            topics: Vec::new(),
            from: From::default(),
            positions: BTreeMap::new(),
            manual_acks: false,
            plain: false,
        }
    }

    /// One more address. They are taken in turns: whenever a connection ends, the
    /// next one goes to the next.
    #[must_use]
    pub fn or(mut self, url: Url) -> Self {
        self.urls.push(url);
        self
    }

    /// The user's token. When it is refused, that is the end.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.provider = Box::new(move |_| Box::pin(std::future::ready(Ok(token.clone()))));
        self.renews = false;
        self
    }

    /// Where tokens come from: asked before the first connection and, told so,
    /// after a refusal. A refusal of a token that was got in answer to one is the
    /// end; an error is tried again later.
    #[must_use]
    pub fn token_provider<F, T>(mut self, provider: F) -> Self
    where
        F: Fn(bool) -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, String>> + Send + 'static,
    {
        self.provider = Box::new(move |refused| Box::pin(provider(refused)));
        self.renews = true;
        self
    }

    /// A name for this device, that you choose and keep: the server remembers
    /// what it acknowledged.
    #[must_use]
    pub fn device(mut self, name: impl Into<String>) -> Self {
        self.device = Some(name.into());
        self
    }

    /// A topic to listen to besides what is sent to the user and to everyone; may
    /// be given several times.
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topics.push(name.into());
        self
    }

    /// Where to begin. Said once: later the positions know better.
    #[must_use]
    pub fn from(mut self, from: From) -> Self {
        self.from = from;
        self
    }

    /// Go on behind these positions, kept from [`Client::positions`](super::Client::positions).
    #[must_use]
    pub fn positions(mut self, positions: BTreeMap<String, Position>) -> Self {
        self.positions = positions;
        self
    }

    /// Acknowledge only what [`Client::acknowledge`](super::Client::acknowledge) names.
    /// What was given and not acknowledged comes again to a client without positions.
    #[must_use]
    pub fn manual_acks(mut self) -> Self {
        self.manual_acks = true;
        self
    }

    /// Speak no subprotocol: payloads as they are, no acknowledgements, no resume.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }
}
