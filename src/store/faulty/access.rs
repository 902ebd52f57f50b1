//! Who gets in, asked through the faults.

use async_trait::async_trait;
use bytes::Bytes;

use super::Store;
use crate::protocol::Channel;
use crate::store::{Access, Error, Standing, TicketHash};

#[async_trait]
impl Access for Store {
    async fn keep_ticket(&self, ticket: &TicketHash, grant: Bytes, ttl_ms: u64) -> Result<(), Error> {
        let ticket = *ticket;
        self.call(
            "keep a ticket",
            move |store| async move { store.keep_ticket(&ticket, grant, ttl_ms).await },
        )
        .await
    }

    async fn take_ticket(&self, ticket: &TicketHash) -> Result<Option<Bytes>, Error> {
        let ticket = *ticket;
        self.call("take a ticket", move |store| async move { store.take_ticket(&ticket).await }).await
    }

    async fn log_out(&self, user: &Channel, remember_ms: u64) -> Result<u64, Error> {
        let user = user.clone();
        self.call("note a logout", move |store| async move { store.log_out(&user, remember_ms).await }).await
    }

    async fn standing(&self, user: &Channel) -> Result<Standing, Error> {
        let user = user.clone();
        self.call("read a user's standing", move |store| async move { store.standing(&user).await }).await
    }
}
