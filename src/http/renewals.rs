//! Fresh tokens of a running session.
//!
//! A client may send them as fast as frames, and each may cost a signature, a
//! question to the application and one to the store. So one is looked at at a
//! time, and of those that come meanwhile only the newest: it says all that the
//! others would have said.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::delivery::OpenError;
use crate::protocol::close::CloseCode;
use crate::protocol::frame::ServerFrame;
use crate::session::Session;

use super::App;
use super::auth::AuthError;

/// What a session wants to go on with.
#[derive(Default)]
pub(super) struct Renewals(Mutex<State>);

#[derive(Default)]
struct State {
    /// Somebody asks for the next one until there is none.
    under_way: bool,
    newest: Option<String>,
}

impl Renewals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a token in place of what waits; whether the caller has to take it on.
    pub(super) fn put(&self, token: String) -> bool {
        let mut state = self.state();
        state.newest = Some(token);
        !std::mem::replace(&mut state.under_way, true)
    }

    /// What waits; when that is nothing, the next one has to be taken on anew.
    pub(super) fn next(&self) -> Option<String> {
        let mut state = self.state();
        let newest = state.newest.take();
        state.under_way = newest.is_some();
        newest
    }
}

impl App {
    /// Lets a session go on with a fresh token, if it is one of the same user.
    pub(super) async fn renew(&self, session: &Arc<Session>, token: &str) {
        let Some(identity) = session.identity() else { return };
        let fresh = match self.inner.gate.token(token, None).await {
            Ok(fresh) => fresh,
            Err(error) => {
                // The one that it has may last until a better one comes.
                let code = if error.is_passing() { "auth_unavailable" } else { "token" };
                return refuse(session, code, error);
            }
        };
        let same_device = fresh.device.is_none() || fresh.device == identity.device;
        if fresh.user != identity.user || !same_device {
            return session.close(CloseCode::TOKEN, &AuthError::OtherUser.to_string());
        }
        let issued_at_ms = fresh.issued_at_ms.unwrap_or(0);
        match self.inner.delivery.is_logged_out(&fresh.user, issued_at_ms).await {
            Ok(true) => self.turn_away(session, &OpenError::LoggedOut),
            Ok(false) => {
                self.inner.delivery.grant(session, fresh.topics);
                self.inner.expiries.set(session, fresh.expires_at);
            }
            Err(_) => refuse(session, "auth_unavailable", AuthError::StoreAway),
        }
    }
}

fn refuse(session: &Arc<Session>, code: &str, error: AuthError) {
    session.send(ServerFrame::Error { code, message: &error.to_string(), topics: &[] }.encode());
}
