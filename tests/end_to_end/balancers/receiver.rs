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
        loop {
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
            let closed = loop {
                if let Some(closed) = socket.closed() {
                    break Some(closed);
                }
                if socket.last_text().is_some_and(|text| text.contains(LAST)) {
                    break None;
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
        }
    })
}
