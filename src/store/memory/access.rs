//! Tickets, and who was logged out.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;

use crate::protocol::Channel;
use crate::store::{Access, Error, Standing, TicketHash};

use super::Store;
use super::shards::lock;

/// Beyond so many of a kind, those whose time is over are looked for first, and
/// if there are none nothing is taken.
const KEPT_MAX: usize = 100_000;

/// What is kept of access, each with the time when it is forgotten.
#[derive(Debug, Default)]
pub(super) struct Kept {
    tickets: HashMap<TicketHash, (u64, Bytes)>,
    logouts: HashMap<Channel, (u64, u64)>,
}

fn make_room<K: std::hash::Hash + Eq, V>(kept: &mut HashMap<K, (u64, V)>, now_ms: u64) -> Result<(), Error> {
    if kept.len() >= KEPT_MAX {
        kept.retain(|_, (until_ms, _)| *until_ms > now_ms);
    }
    if kept.len() < KEPT_MAX { Ok(()) } else { Err(Error::OutOfMemory) }
}

impl Store {
    fn access<T>(&self, change: impl FnOnce(&mut Kept, u64) -> T) -> T {
        let now_ms = self.shared.shards.clock.now().ms();
        change(&mut lock(&self.shared.access), now_ms)
    }
}

#[async_trait]
impl Access for Store {
    async fn keep_ticket(&self, ticket: &TicketHash, grant: Bytes, ttl_ms: u64) -> Result<(), Error> {
        self.access(|kept, now_ms| {
            make_room(&mut kept.tickets, now_ms)?;
            kept.tickets.insert(*ticket, (now_ms + ttl_ms, grant));
            Ok(())
        })
    }

    async fn take_ticket(&self, ticket: &TicketHash) -> Result<Option<Bytes>, Error> {
        Ok(self.access(|kept, now_ms| {
            let (until_ms, grant) = kept.tickets.remove(ticket)?;
            (until_ms > now_ms).then_some(grant)
        }))
    }

    async fn log_out(&self, user: &Channel, remember_ms: u64) -> Result<u64, Error> {
        self.access(|kept, now_ms| {
            if !kept.logouts.contains_key(user) {
                make_room(&mut kept.logouts, now_ms)?;
            }
            kept.logouts.insert(user.clone(), (now_ms + remember_ms, now_ms));
            Ok(now_ms)
        })
    }

    async fn standing(&self, user: &Channel) -> Result<Standing, Error> {
        let logged_out_at_ms = self.access(|kept, now_ms| {
            kept.logouts.get(user).filter(|(until_ms, _)| *until_ms > now_ms).map(|(_, at_ms)| *at_ms)
        });
        let routes = self.shared.shards.look(user, |state| state.routes().to_vec()).unwrap_or_default();
        Ok(Standing { logged_out_at_ms, routes })
    }
}
