//! Whether a session that has entered the directory may stay: its user was not
//! logged out since it was let in, and does not have too many.
//!
//! Asked after the directory was written and before anything is shown, so that of
//! a session and whoever logs its user out at the same time one sees the other,
//! and so that sessions which come at the same time on several nodes see each
//! other.

use std::sync::Arc;

use crate::protocol::Channel;
use crate::session::Session;
use crate::store::{self, Route};

use super::{Delivery, OpenError};

impl Delivery {
    /// `issued_at_ms`: when what let it in was issued; none where nobody is asked
    /// who they are.
    pub(super) async fn may_stay(
        &self,
        session: &Arc<Session>,
        issued_at_ms: Option<u64>,
    ) -> Result<(), OpenError> {
        let sessions_max = self.inner.options.sessions_per_user_max;
        let Some(identity) = session.identity() else { return Ok(()) };
        if issued_at_ms.is_none() && sessions_max.is_none() {
            return Ok(());
        }
        let user = &identity.user;
        let standing = self.inner.store.standing(user).await.map_err(|error| self.noted(error))?;
        if let (Some(issued_at_ms), Some(logged_out_at_ms)) = (issued_at_ms, standing.logged_out_at_ms)
            && issued_at_ms <= logged_out_at_ms
        {
            return Err(OpenError::LoggedOut);
        }
        match sessions_max {
            Some(max) if self.too_many(user, standing.routes, max).await? => Err(OpenError::TooMany),
            _ => Ok(()),
        }
    }

    async fn too_many(&self, user: &Channel, routes: Vec<Route>, max: usize) -> Result<bool, store::Error> {
        let (here, held) = (self.node(), self.inner.registry.get(user));
        // Of this node it is known better than the directory, which lags behind.
        let local = held.map_or(0, |held| held.with_sessions(|sessions| sessions)) as usize;
        let count = |routes: &[Route]| {
            let elsewhere = routes.iter().filter(|route| route.node != here);
            local + elsewhere.map(|route| route.sessions as usize).sum::<usize>()
        };
        if count(&routes) <= max {
            return Ok(false);
        }
        // Only now: the dead count until their streams are taken over.
        let live = self.inner.store.presence(std::slice::from_ref(user)).await;
        let live = live.map_err(|error| self.noted(error))?.pop().unwrap_or_default();
        Ok(count(&live) > max)
    }

    /// Whether what was issued then is worth nothing since a logout.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn is_logged_out(&self, user: &Channel, issued_at_ms: u64) -> Result<bool, store::Error> {
        let standing = self.inner.store.standing(user).await.map_err(|error| self.noted(error))?;
        Ok(standing.logged_out_at_ms.is_some_and(|at_ms| issued_at_ms <= at_ms))
    }
}
