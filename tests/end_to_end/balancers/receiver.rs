//! A device behind a balancer that comes back whenever its socket is closed.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::balancer::Balancer;
use super::sender::LAST;
use crate::harness::Device;

/// How often it looks at its socket.
const GLANCE: Duration = Duration::from_millis(10);
/// After which its story so far says what it lacks.
const PATIENCE_MAX: Duration = Duration::from_secs(120);
/// Between attempts that were refused.
const PAUSE: Duration = Duration::from_millis(200);

/// What it lived through.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Every payload in order, over all of its connections.
    pub(super) payloads: Vec<Value>,
    /// When each of its connections began.
    pub(super) connected: Vec<Instant>,
    /// How each of them but the last ended.
    pub(super) closes: Vec<Option<u16>>,
    /// Answers that were no connection.
    pub(super) refused: Vec<String>,
    /// Frames that said something was lost.
    pub(super) gaps: usize,
}

/// Receives until [`LAST`], going on where it was after each end.
pub(super) fn receive(balancer: &Balancer, user: &str) -> JoinHandle<Story> {
    let (dial, channel) = (balancer.envelope(user).acknowledging(), format!("user:{user}"));
    tokio::spawn(async move {
        let mut story = Story::default();
        let mut position: Option<String> = None;
        let until = Instant::now() + PATIENCE_MAX;
        while Instant::now() < until {
            let dial = position.iter().fold(dial.clone(), |dial, at| dial.query(&format!("pos={at}")));
            let socket = match dial.try_connect().await {
                Ok(socket) => socket,
                Err(refused) => {
                    story.refused.push(format!("{refused:?}"));
                    sleep(PAUSE).await;
                    continue;
                }
            };
            story.connected.push(Instant::now());
            let mut seen = 0;
            let closed = loop {
                if let Some(closed) = socket.closed() {
                    break Some(closed);
                }
                if Instant::now() > until {
                    break None;
                }
                // Another frame, such as a ping, may come behind it.
                if seen < socket.count() {
                    seen = socket.count();
                    if socket.texts().iter().rev().take(3).any(|text| text.contains(LAST)) {
                        break None;
                    }
                }
                sleep(GLANCE).await;
            };
            let device = Device::of(socket);
            story.payloads.extend(device.payloads());
            story.gaps += device.frames_of("gap").len();
            position = device.last_position(&channel).or(position);
            match closed {
                Some(closed) => story.closes.push(closed.code),
                None => return story,
            }
            // The last message and the end may come together.
            if story.payloads.last().is_some_and(|last| last == LAST) {
                return story;
            }
        }
        story
    })
}
