//! What a run is asked to do, checked and completed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::cluster::{self, Meeting, Watched};
use super::payload;
use super::receivers::{Audience, Client};
use crate::cli::Sender;
use crate::cli::output::{Failure, say};
use crate::config::{self, Environment, Secret};

/// Files of this process that are no sockets.
pub(super) const SPARE_FILES: u64 = 500;
/// Names have this many digits.
const USERS_MAX: usize = 9_999_999;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// A user for each socket on node B; pushes through node A.
    Unicast,
    /// One user (or a topic) with many sockets on nodes A and B; pushes through node A.
    Fanout,
    /// Connections that do nothing: memory, and what keeping them costs.
    Idle,
    /// Connects as many and as fast as the nodes take them.
    Connect,
    /// As unicast, by POST /v1/push/batch.
    Batch,
    /// Sockets leave and come back on another node, resuming, under pushes.
    Mixed,
    /// A helper that holds idle connections for another bench.
    #[value(hide = true)]
    Hold,
}

impl Workload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Fanout => "fanout",
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Batch => "batch",
            Self::Mixed => "mixed",
            Self::Hold => "hold",
        }
    }

    pub(super) fn pushes(self) -> bool {
        matches!(self, Self::Unicast | Self::Fanout | Self::Batch | Self::Mixed)
    }

    /// Sockets, pushing connections, nodes and window unless asked otherwise.
    fn defaults(self) -> (usize, usize, usize, u64) {
        match self {
            Self::Unicast => (1_000, 32, 2, 4_096),
            Self::Fanout => (2_000, 4, 2, 16),
            Self::Idle | Self::Connect | Self::Hold => (10_000, 0, 1, 0),
            Self::Batch => (1_000, 4, 2, 4_096),
            Self::Mixed => (1_000, 16, 2, 1_024),
        }
    }
}

/// The options as given.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to measure.
    workload: Workload,
    /// Sockets to connect [default: 1000; fanout 2000; idle and connect 10000].
    #[arg(long, value_name = "N")]
    sockets: Option<usize>,
    /// Connections that push, each one request at a time [default: unicast 32, fanout and batch 4, mixed 16].
    #[arg(long, value_name = "N")]
    publishers: Option<usize>,
    /// Messages pushed in a second, at moments fixed in advance; without it as many as are answered.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Without --rate: messages that may be accepted and not delivered [default: 4096; fanout 16, mixed 1024].
    #[arg(long, value_name = "N")]
    window: Option<u64>,
    /// Bytes of each payload.
    #[arg(long, value_name = "N", default_value_t = 128)]
    payload_bytes: usize,
    /// Messages in one request of the batch workload.
    #[arg(long, value_name = "N", default_value_t = 100)]
    batch: usize,
    /// Sockets that leave and come back in a second, in the mixed workload.
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    churn: f64,
    /// In the fanout workload: a topic that every socket follows, each as a user of its own.
    #[arg(long)]
    topic: bool,
    /// What kind of client the sockets are [default: plain; mixed envelope].
    #[arg(long, value_name = "KIND")]
    client: Option<Client>,
    /// The pushes' TTL in seconds [default: the node's].
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Further connections on all nodes that receive nothing, held by processes of their own.
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle: usize,
    /// Connects under way at once.
    #[arg(long, value_name = "N", default_value_t = 128)]
    connecting: usize,
    /// How long to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// How long to run before measuring.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    warm_up: f64,
    /// How long to wait at the end for what has not arrived.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    settle: f64,
    /// Runs, each with fresh nodes; their medians are what counts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: usize,
    /// Nodes to start [default: 2; idle and connect 1].
    #[arg(long, value_name = "N", conflicts_with = "node")]
    nodes: Option<usize>,
    /// Let the nodes meet in this Redis instead of a private redis-server.
    #[arg(long, value_name = "URL", conflicts_with_all = ["node", "memory"])]
    redis: Option<String>,
    /// Push the bare payload to this path and the user's name, as other servers take it; they get the
    /// handshake `GET /v1/ws` with the user's name as the cookie `token`.
    #[arg(long, value_name = "PATH", requires = "node")]
    push_path: Option<String>,
    /// The private redis-server's append-only file, and when it is synced.
    #[arg(long, value_name = "WHEN", default_value = "off", value_parser = ["off", "no", "everysec", "always"])]
    appendfsync: String,
    /// One node that keeps everything in its own memory.
    #[arg(long, conflicts_with = "node")]
    memory: bool,
    /// A further argument for the nodes that are started, like --serve-arg=--outbox-messages-max=4096.
    #[arg(long = "serve-arg", value_name = "ARG", allow_hyphen_values = true, conflicts_with = "node")]
    serve_args: Vec<String>,
    /// A node that runs already: pushes go through the first, sockets to the second (or the only) one.
    #[arg(long, value_name = "URL")]
    node: Vec<String>,
    /// A process to measure beside those that are started, like --pid 'node A=4711' or --pid redis=4712.
    #[arg(long, value_name = "NAME=PID")]
    pid: Vec<String>,
    #[command(flatten)]
    sender: Sender,
    /// A file with the secret that given nodes check tokens with; without it a token is a name.
    #[arg(long, value_name = "FILE", requires = "node")]
    pub(super) jwt_secret_file: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[arg(long, hide = true)]
    pub(super) names: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    pub(super) first_user: u32,
    #[arg(long, hide = true)]
    pub(super) source: Option<u16>,
}

/// The nodes of a run.
#[derive(Debug, Clone)]
pub(super) enum Nodes {
    Given(Vec<SocketAddr>),
    Start { count: usize, meeting: Meeting, args: Vec<String> },
}

/// A run, complete.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) workload: Workload,
    pub(super) sockets: usize,
    pub(super) publishers: usize,
    /// Messages in a second; none: saturated.
    pub(super) rate: Option<f64>,
    pub(super) window: u64,
    pub(super) payload_bytes: usize,
    pub(super) batch: Option<usize>,
    pub(super) churn: Option<f64>,
    pub(super) audience: Audience,
    pub(super) client: Client,
    pub(super) ttl: Option<u64>,
    pub(super) idle: usize,
    pub(super) connecting: usize,
    pub(super) seconds: f64,
    pub(super) warm_up: f64,
    pub(super) settle: f64,
    pub(super) repeat: usize,
    pub(super) nodes: Nodes,
    pub(super) watched: Vec<Watched>,
    pub(super) api_key: Option<String>,
    pub(super) push_path: Option<String>,
    pub(super) jwt_secret_file: Option<PathBuf>,
}

impl Options {
    pub(super) fn is_hold(&self) -> bool {
        self.workload == Workload::Hold
    }

    /// Checks and completes the options.
    pub(super) fn setup(&self, environment: &Environment) -> Result<Setup, Failure> {
        self.check()?;
        let workload = self.workload;
        let (sockets, publishers, nodes, window) = workload.defaults();
        let (nodes, api_key) =
            if self.node.is_empty() { (self.to_start(nodes)?, None) } else { self.given(environment)? };
        let sockets = self.sockets.unwrap_or(sockets);
        let mixed = workload == Workload::Mixed;
        Ok(Setup {
            workload,
            sockets,
            publishers: self.publishers.unwrap_or(publishers).min(sockets.max(1)),
            rate: self.rate,
            window: self.window.unwrap_or(window),
            payload_bytes: self.payload_bytes,
            batch: (workload == Workload::Batch).then_some(self.batch),
            churn: mixed.then_some(self.churn),
            audience: self.audience(),
            client: self.client.unwrap_or(if mixed { Client::Envelope } else { Client::Plain }),
            ttl: self.ttl,
            idle: self.idle,
            connecting: self.connecting,
            seconds: self.seconds,
            warm_up: self.warm_up,
            settle: self.settle,
            repeat: self.repeat,
            nodes,
            watched: self.watched()?,
            api_key: api_key.map(|key| key.expose().to_owned()),
            push_path: self.push_path.clone(),
            jwt_secret_file: self.jwt_secret_file.clone(),
        })
    }

    fn audience(&self) -> Audience {
        match self.workload {
            Workload::Fanout if self.topic => Audience::Topic,
            Workload::Fanout => Audience::OneUser,
            _ => Audience::Each,
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let refuse = |wrong: bool, text: String| if wrong { Err(Failure::Usage(text)) } else { Ok(()) };
        let positive = |number: f64| number.is_finite() && number > 0.0;
        let zero = [self.sockets, self.publishers, self.nodes].contains(&Some(0));
        refuse(
            zero || self.repeat == 0 || self.batch == 0 || self.connecting == 0 || self.window == Some(0),
            "a number of things to use must be above zero".to_owned(),
        )?;
        refuse(
            !positive(self.seconds)
                || !positive(self.settle)
                || !self.warm_up.is_finite()
                || self.warm_up < 0.0,
            "--seconds and --settle must be above zero, --warm-up at least zero".to_owned(),
        )?;
        refuse(
            self.rate.is_some_and(|rate| !positive(rate)) || !positive(self.churn),
            "--rate and --churn must be above zero: so many in a second".to_owned(),
        )?;
        let least = payload::BYTES_MIN;
        refuse(
            self.payload_bytes < least,
            format!("--payload-bytes must be at least {least}, to hold numbers"),
        )?;
        let users = self.sockets.unwrap_or(0) + self.idle + self.first_user as usize;
        refuse(users > USERS_MAX, format!("--sockets and --idle must be at most {USERS_MAX} together"))?;
        refuse(
            self.push_path.is_some() && !matches!(self.workload, Workload::Unicast | Workload::Fanout),
            "--push-path goes with unicast and fanout".to_owned(),
        )?;
        refuse(
            self.topic && (self.workload != Workload::Fanout || self.push_path.is_some()),
            "--topic goes with fanout, and not with --push-path".to_owned(),
        )?;
        refuse(
            self.workload == Workload::Mixed && self.client.is_some_and(|client| client != Client::Envelope),
            "mixed resumes where it was, which takes --client envelope".to_owned(),
        )
    }

    fn to_start(&self, nodes: usize) -> Result<Nodes, Failure> {
        let meeting = match &self.redis {
            _ if self.memory => Meeting::Memory,
            Some(url) => Meeting::Redis(url.clone()),
            None if cluster::is_installed("redis-server") => {
                Meeting::PrivateRedis { appendfsync: self.appendfsync.clone() }
            }
            None => {
                say("there is no redis-server here: measuring one node that keeps everything in its memory");
                Meeting::Memory
            }
        };
        let alone = matches!(meeting, Meeting::Memory);
        if alone && self.nodes.is_some_and(|nodes| nodes > 1) {
            return Err(Failure::Usage("--nodes above 1 needs a Redis in which they meet".to_owned()));
        }
        let count = if alone { 1 } else { self.nodes.unwrap_or(nodes) };
        Ok(Nodes::Start { count, meeting, args: self.serve_args.clone() })
    }

    fn given(&self, environment: &Environment) -> Result<(Nodes, Option<Secret>), Failure> {
        let (mut nodes, mut api_key) = (Vec::new(), None);
        for url in &self.node {
            let client = config::Client::new(Some(url), self.sender.api_key.as_deref(), None, environment)
                .map_err(|error| Failure::Usage(error.to_string().replace("--url", "--node")))?;
            let host = client.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
            nodes.push(cluster::resolve(host, client.url.port_or_known_default().unwrap_or(80))?);
            api_key = client.api_key;
        }
        Ok((Nodes::Given(nodes), api_key))
    }

    fn watched(&self) -> Result<Vec<Watched>, Failure> {
        let parse = |text: &String| {
            let (name, pid) = text.split_once('=')?;
            Some(Watched { name: name.to_owned(), pid: pid.parse().ok()? })
        };
        let all = self.pid.iter().map(|text| {
            parse(text).ok_or_else(|| {
                Failure::Usage(format!("--pid must be NAME=PID, like redis=4712, and not {text}"))
            })
        });
        all.collect()
    }
}
