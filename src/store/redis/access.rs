//! Tickets, and who was logged out.

use ::redis::{Cmd, Pipeline, Value};
use async_trait::async_trait;
use bytes::Bytes;

use crate::protocol::Channel;
use crate::store::{Access, Error, Standing, TicketHash};

use super::Store;
use super::scripts::Script;
use super::{meta, reply};

#[async_trait]
impl Access for Store {
    async fn keep_ticket(&self, ticket: &TicketHash, grant: Bytes, ttl_ms: u64) -> Result<(), Error> {
        let conn = self.link.current()?;
        let mut command = Cmd::new();
        command.arg("SET").arg(self.keys.ticket(ticket)).arg(&grant[..]).arg("PX").arg(ttl_ms.max(1));
        self.link.call_one(&conn, "keep a ticket", command).await.map(|_| ())
    }

    async fn take_ticket(&self, ticket: &TicketHash) -> Result<Option<Bytes>, Error> {
        const WHAT: &str = "take a ticket";
        let conn = self.link.current()?;
        let mut command = Script::Take.call(1);
        command.arg(self.keys.ticket(ticket));
        match self.link.call_one(&conn, WHAT, command).await? {
            Value::Nil => Ok(None),
            value => Ok(Some(reply::bytes(WHAT, value)?.into())),
        }
    }

    async fn log_out(&self, user: &Channel, remember_ms: u64) -> Result<u64, Error> {
        const WHAT: &str = "note a logout";
        let conn = self.link.current()?;
        let mut command = Script::Logout.call(1);
        command.arg(self.keys.logout(user)).arg(remember_ms.max(1));
        reply::number(WHAT, &self.link.call_one(&conn, WHAT, command).await?)
    }

    async fn standing(&self, user: &Channel) -> Result<Standing, Error> {
        const WHAT: &str = "read a user's standing";
        let conn = self.link.current()?;
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("GET").arg(self.keys.logout(user));
        pipeline.cmd("GET").arg(self.keys.meta(user));
        let mut replies = self.link.call_all(&conn, WHAT, &pipeline).await?.into_iter();
        let logged_out_at_ms = match replies.next().unwrap_or_default() {
            Value::Nil => None,
            value => Some(reply::number(WHAT, &value)?),
        };
        Ok(Standing { logged_out_at_ms, routes: meta::routes(replies.next().unwrap_or_default())? })
    }
}
