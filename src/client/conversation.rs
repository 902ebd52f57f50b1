//! Talking with a node over one link: heartbeats, acknowledgements, its wish to be left.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::event::{Event, Trouble};
use super::link::{HANDSHAKE_TIMEOUT, Link};
use super::progress::{Progress, Taken};

/// By how much a heartbeat may be late.
const HEARTBEAT_SLACK: Duration = Duration::from_secs(10);
/// An ack waits this long for more to acknowledge.
const ACK_DELAY: Duration = Duration::from_millis(250);

/// What came instead of an event.
pub(super) enum Met {
    Trouble(Trouble),
    NoFrame(String),
}

impl From<Trouble> for Met {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// A connection that stands.
pub(super) struct Open {
    pub(super) link: Link,
    pub(super) since: Instant,
    heard: Instant,
    /// Silence that is borne; of a plain server any.
    patience: Option<Duration>,
    leave_at: Option<Instant>,
    ack_at: Option<Instant>,
    owes_pong: bool,
    /// The session is set up.
    pub(super) greeted: bool,
}

impl Open {
    pub(super) fn new(link: Link, plain: bool) -> Self {
        let now = Instant::now();
        // Until the hello says how often the server is heard.
        let patience = (!plain).then_some(HANDSHAKE_TIMEOUT);
        Self {
            link,
            since: now,
            heard: now,
            patience,
            leave_at: None,
            ack_at: None,
            owes_pong: false,
            greeted: false,
        }
    }

    /// Talks with the node until there is something to tell. May be dropped while
    /// it waits: what was read was told, and what was to be sent still is.
    pub(super) async fn converse(&mut self, progress: &mut Progress, plain: bool) -> Result<Event, Met> {
        loop {
            if self.owes_pong {
                self.link.send(r#"{"type":"pong"}"#).await?;
                self.owes_pong = false;
            }
            if self.greeted && progress.owes_ack() && self.ack_at.is_none() {
                self.ack_at = Some(Instant::now() + ACK_DELAY);
            }
            let text = tokio::select! {
                biased;
                () = at(self.ack_at) => {
                    // Whoever drops us in the middle has it sent again.
                    if let Some(ack) = progress.ack() {
                        self.link.send(&ack).await?;
                    }
                    progress.told();
                    self.ack_at = None;
                    continue;
                }
                text = self.link.receive() => text?,
                () = at(self.leave_at) => return Err(Trouble::Moved.into()),
                () = at(self.patience.map(|patience| self.heard + patience)) => {
                    return Err(Trouble::Lost("the server has gone silent".to_owned()).into());
                }
            };
            self.heard = Instant::now();
            let Some(text) = text else { continue };
            if plain {
                return Ok(Event::Payload(text.to_string()));
            }
            match progress.take(&text).map_err(|error| Met::NoFrame(error.to_string()))? {
                Taken::Ready(session, heartbeat) => {
                    self.patience = Some(heartbeat + HEARTBEAT_SLACK);
                    self.greeted = true;
                    return Ok(Event::Connected(session));
                }
                Taken::Message(message) => return Ok(Event::Message(message)),
                Taken::Gap(gap) => return Ok(Event::Gap(gap)),
                Taken::Complaint(code, message) => return Ok(Event::Complaint { code, message }),
                Taken::Ping => self.owes_pong = true,
                Taken::Drain(after) => self.leave_at = Some(self.heard + after),
                Taken::Nothing => {}
            }
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
