//! The queue, and the task that sends what is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::Span;
use super::span::attributes;

/// Spans that may wait: some seconds of what a busy node's senders want traced.
const QUEUE_MAX: usize = 8_192;
/// Spans in one request.
const BATCH_MAX: usize = 512;
/// How long spans gather.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often a batch is tried. Spans go on gathering meanwhile.
const TRIES_MAX: u32 = 3;
/// The longest pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a node that ends goes on handing over what it has.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between two complaints about a collector.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Where spans go, and whose they are.
#[derive(Debug, Clone)]
pub struct Options {
    /// The collector; `/v1/traces` is appended.
    pub url: Url,
    /// Which process this is, among those of the same name.
    pub instance: String,
    /// Its version.
    pub version: &'static str,
}

/// Takes spans, and sends them.
#[derive(Debug, Clone)]
pub struct Spans {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

impl Spans {
    /// Starts the task under `tasks`; it ends soon after `stop`.
    ///
    /// # Errors
    /// When this machine cannot make requests.
    pub fn start(
        options: &Options,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let mut url = options.url.clone();
        url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let exporter = Exporter {
            http,
            url,
            options: options.clone(),
            dropped: Arc::clone(&dropped),
            complained: None,
            stop: stop.clone(),
        };
        tasks.spawn(exporter.run(queue));
        Ok(Self { queue: sender, dropped })
    }

    /// Hands over a span, or drops it.
    pub fn record(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Exporter {
    http: reqwest::Client,
    url: Url,
    options: Options,
    dropped: Arc<AtomicU64>,
    complained: Option<Instant>,
    stop: CancellationToken,
}

impl Exporter {
    async fn run(mut self, mut queue: mpsc::Receiver<Span>) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = queue.recv_many(&mut batch, 1) => if count == 0 { return },
                () = self.stop.cancelled() => break,
            }
            let stop = self.stop.clone();
            let _ = timeout(GATHER, stop.run_until_cancelled(fill(&mut queue, &mut batch))).await;
            self.hand_over(&mut batch).await;
        }
        queue.close();
        let farewell = async {
            while !batch.is_empty() || queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
                self.hand_over(&mut batch).await;
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }

    /// Sends a batch, or drops it.
    async fn hand_over(&mut self, batch: &mut Vec<Span>) {
        let body = body(&self.options, batch).to_string();
        for tries in 1..=TRIES_MAX {
            match self.send(body.clone()).await {
                Ok(()) => return batch.clear(),
                Err(problem) if tries == TRIES_MAX || self.stop.is_cancelled() => {
                    self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    self.complain(&problem);
                    break;
                }
                Err(_) => {
                    let pause = PAUSE.mul_f64(f64::from(2_u32.pow(tries - 1)) * rand::random::<f64>());
                    self.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
            }
        }
        batch.clear();
    }

    async fn send(&self, body: String) -> Result<(), String> {
        let request = self.http.post(self.url.clone()).header("content-type", "application/json").body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status())),
            Err(error) => Err(error.without_url().to_string()),
        }
    }

    /// Once a minute at most: what is wrong, and how many spans that has cost.
    fn complain(&mut self, problem: &str) {
        let now = Instant::now();
        if self.complained.is_none_or(|at| now.duration_since(at) >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            tracing::warn!(dropped, problem, "spans did not reach the collector; is otlp_url right?");
        }
    }
}

/// Until the batch is full.
async fn fill(queue: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    while batch.len() < BATCH_MAX {
        if queue.recv_many(batch, BATCH_MAX - batch.len()).await == 0 {
            return;
        }
    }
}

fn body(options: &Options, spans: &[Span]) -> Value {
    let resource = [
        ("service.name", "postrider"),
        ("service.version", options.version),
        ("service.instance.id", options.instance.as_str()),
    ];
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes(resource.into_iter())},
        "scopeSpans": [{
            "scope": {"name": "postrider", "version": options.version},
            "spans": spans.iter().map(Span::json).collect::<Vec<_>>(),
        }],
    }]})
}
