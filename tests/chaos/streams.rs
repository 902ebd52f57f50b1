//! Devices that listen to event streams: what they had last, they say when they
//! come back, and some of them say it between.

use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::{Event, EventStream, Listen};
use crate::receivers::{Device, End, OPEN_MAX, SILENCE_MAX};
use crate::senders::{name, topic};

/// How often what has come is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often a device that acknowledges by itself does so.
const ACKNOWLEDGE: Duration = Duration::from_millis(500);
/// How long an acknowledgement waits for its answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

impl Device {
    /// One stream from beginning to end, if it comes to be.
    pub async fn follow(&mut self, stop: &CancellationToken) -> Option<End> {
        let stream = timeout(OPEN_MAX, self.ask().try_connect()).await.ok()?.ok()?;
        match stream.status() {
            200 => {}
            500..=599 | 429 => return None,
            status => {
                self.receiver
                    .model
                    .complain(format!("the stream of client {} was answered {status}", self.life));
                return None;
            }
        }
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (leave_at, mut acknowledged_at) = (self.leave_at(), Instant::now());
        let (mut taken, mut greeted, mut heard, mut heard_at) = (0, false, (0, 0), Instant::now());
        loop {
            // Looked at before the events: what came until the end is taken, too.
            let over = stream.is_over();
            for event in stream.events_from(taken) {
                taken += 1;
                greeted |= self.event(&event);
            }
            let sounds = (taken, stream.comments());
            if sounds != heard {
                (heard, heard_at) = (sounds, Instant::now());
            }
            if over || heard_at.elapsed() > SILENCE_MAX || Instant::now() > leave_at {
                return greeted.then_some(End::Lost);
            }
            if self.life.is_multiple_of(2) && acknowledged_at.elapsed() > ACKNOWLEDGE {
                acknowledged_at = Instant::now();
                self.post_acks().await;
            }
            tokio::select! {
                () = stop.cancelled() => return self.finish(&stream, taken).await,
                _ = ticks.tick() => {}
            }
        }
    }

    async fn finish(&mut self, stream: &EventStream, taken: usize) -> Option<End> {
        for event in stream.events_from(taken) {
            self.event(&event);
        }
        self.post_acks().await;
        Some(End::Stopped)
    }

    fn ask(&mut self) -> Listen {
        let (addresses, number) = (&self.receiver.addresses, self.receiver.user);
        let address = addresses[self.rng.random_range(0..addresses.len())];
        let mut listen = Listen::new(address, &name(number)).device(&format!("d{}", self.life));
        if let Some(topic) = topic(number) {
            listen = listen.query(&format!("topic={topic}"));
        }
        if self.last_id.is_empty() { listen } else { listen.behind(&self.last_id) }
    }

    /// Takes an event; whether it was the greeting.
    fn event(&mut self, event: &Event) -> bool {
        // One that was refused is told nothing but that, and keeps its place.
        if !event.id.is_empty() {
            event.id.clone_into(&mut self.last_id);
        }
        let frame = event.json();
        match &*event.kind {
            "hello" => {
                self.greeted(&frame);
                self.connected();
                return true;
            }
            "message" => self.message(&frame),
            "close" => {
                let code = frame["code"].as_u64().and_then(|code| u16::try_from(code).ok());
                self.closed(code.unwrap_or(1005), &frame.to_string());
            }
            "drain" => {}
            kind => {
                let text = format!("client {} at {:?} was told {kind}: {frame}", self.life, self.positions);
                self.receiver.model.complain(text);
            }
        }
        false
    }

    /// Tells any node what was received. What is not heard is told with the next
    /// event's id, or with the next of these.
    async fn post_acks(&mut self) {
        let Some(positions) = self.take_unacknowledged() else { return };
        let addresses = &self.receiver.addresses;
        let address = addresses[self.rng.random_range(0..addresses.len())];
        let (user, device) = (name(self.receiver.user), self.life);
        let url = format!("http://{address}/v1/events/acks?device=d{device}");
        let body = json!({"positions": positions}).to_string();
        let request = self.http.post(url).header("cookie", format!("token={user}"));
        let request = request.header("content-type", "application/json").body(body);
        let Ok(Ok(answer)) = timeout(ANSWER_MAX, request.send()).await else { return };
        let status = answer.status().as_u16();
        if status != 204 && status < 500 {
            let said: Value = answer.json().await.unwrap_or_default();
            self.receiver.model.complain(format!("an ack of client {device} was answered {status}: {said}"));
        }
    }
}
