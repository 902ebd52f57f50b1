//! A connection that became a session: what it occupies, and the two log lines
//! that it leaves.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::protocol::Device;
use crate::session::{Ending, Run, Session};

use super::addresses::Place;
use super::{App, ClientAddress};

/// Who is at the other end, and what the connection occupies while it lives.
pub(super) struct Visitor {
    pub(super) client: ClientAddress,
    pub(super) place: Option<OwnedSemaphorePermit>,
    pub(super) _address: Place,
}

impl Visitor {
    pub(super) fn came(&self, session: &Session) {
        let Whose { user, device } = Whose::of(session);
        let dialect = session.dialect().label();
        let (session, client) = (session.id(), self.client);
        tracing::info!(%session, %client, user, device, dialect, "connected");
    }

    fn left(&self, session: &Session, since: Instant) {
        let Whose { user, device } = Whose::of(session);
        let ending = session.ending();
        let (by, code) = match ending {
            Ending::Ours(code) => ("node", code.get()),
            Ending::Peers(code) => ("client", code.get()),
            // RFC 6455's number for a connection that broke; never on the wire.
            Ending::Lost => ("nobody", 1006),
        };
        let (seconds, messages) = (since.elapsed().as_secs_f64(), session.messages_written());
        let (session, client, reason) = (session.id(), self.client, ending.label());
        tracing::info!(%session, %client, user, device, by, code, reason, seconds, messages, "disconnected");
    }
}

/// Whose session it is, as log lines say it.
struct Whose<'a> {
    user: Option<&'a str>,
    device: Option<&'a str>,
}

impl<'a> Whose<'a> {
    fn of(session: &'a Session) -> Self {
        let identity = session.identity();
        let device = identity.and_then(|identity| identity.device.as_ref()).map(Device::as_str);
        Self { user: identity.and_then(|identity| identity.user.user_name()), device }
    }
}

/// A session's whole task: it keeps the visitor's place until the session is over.
pub(super) async fn visits(app: App, visitor: Visitor, session: Arc<Session>, mut run: Run) {
    let since = Instant::now();
    // Awaited in place: moved, it would take its room twice for as long as it runs.
    (&mut run).await;
    drop(run);
    app.inner.expiries.forget(session.id());
    visitor.left(&session, since);
}
