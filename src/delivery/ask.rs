//! Asking the nodes that hold a channel about its sessions.
//!
//! Sessions are known to their own node alone, which costs nothing while nobody
//! asks. A question goes into the node streams like a message, its answer into
//! the store. A node that does not answer in time (it stands still, or died a
//! moment ago) is named, never left out silently.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::protocol::close::CloseCode;
use crate::protocol::entry::{self, Question, Wish};
use crate::protocol::status::SessionAnswer;
use crate::protocol::{Channel, MessageId, NodeId, SessionId};
use crate::store::{self, Sent};

use super::Delivery;

/// How long nodes may take to answer: a node answers within its read of the
/// stream, which is milliseconds, unless it stands still.
const WITHIN: Duration = Duration::from_millis(1_500);
/// The first pause between two looks for answers; it doubles up to the second.
const LOOK_MIN: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(50);
/// Sessions that one node tells of at most.
const SESSIONS_MAX: usize = 1_000;

/// The live sessions of a channel.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// By id.
    pub sessions: Vec<SessionAnswer>,
    /// Whether a node has more than it told of.
    pub more: bool,
    /// Nodes that did not answer in time.
    pub unanswered: Vec<NodeId>,
}

/// What became of closing a session.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// Whether a node had it and closed it.
    pub closed: bool,
    /// Nodes that did not answer in time.
    pub unanswered: Vec<NodeId>,
}

/// What a node answers; fields that a question does not want stay empty.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Answer {
    sessions: Vec<SessionAnswer>,
    more: bool,
    closed: bool,
}

impl Delivery {
    /// The sessions of a channel on every live node.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn sessions_of(&self, channel: &Channel) -> Result<Sessions, store::Error> {
        let (answers, unanswered) = self.ask(channel, Wish::List).await?;
        let mut all = Sessions { unanswered, ..Sessions::default() };
        for answer in answers {
            all.sessions.extend(answer.sessions);
            all.more |= answer.more;
        }
        all.sessions.sort_by_key(|session| session.id);
        Ok(all)
    }

    /// Closes one session of a channel, wherever it is.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn close_session(
        &self,
        channel: &Channel,
        session: SessionId,
    ) -> Result<Closing, store::Error> {
        let (answers, unanswered) = self.ask(channel, Wish::Close(session)).await?;
        Ok(Closing { closed: answers.iter().any(|answer| answer.closed), unanswered })
    }

    async fn ask(&self, channel: &Channel, wish: Wish) -> Result<(Vec<Answer>, Vec<NodeId>), store::Error> {
        let store = &self.inner.store;
        let question = Question { id: MessageId::generate(), channel: channel.clone(), wish };
        let here = self.node();
        let mut answers = Vec::new();
        let mut open = Vec::new();
        let routes =
            store.presence(std::slice::from_ref(channel)).await.map_err(|error| self.noted(error))?;
        for route in routes.into_iter().flatten() {
            if route.node == here {
                answers.push(self.answer_here(&question));
                continue;
            }
            match store.send(route.node, entry::encode_question(&question)).await {
                Ok(Sent::Stored { .. }) => open.push(route.node),
                Ok(Sent::NoStream) => {}
                Err(error) => return Err(self.noted(error)),
            }
        }
        let until = Instant::now() + WITHIN;
        let mut pause = LOOK_MIN;
        while !open.is_empty() && Instant::now() < until {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
            let given = store.answers(question.id).await.map_err(|error| self.noted(error))?;
            for (node, answer) in given.iter().filter(|(node, _)| open.contains(node)) {
                match serde_json::from_slice(answer) {
                    Ok(answer) => answers.push(answer),
                    Err(error) => tracing::warn!(%node, %error, "a node's answer could not be read"),
                }
            }
            open.retain(|node| given.iter().all(|(answered, _)| answered != node));
        }
        let count = |outcome, nodes: usize| self.inner.metrics.asks.with(outcome).increment(nodes as u64);
        count("answered", answers.len());
        count("unanswered", open.len());
        Ok((answers, open))
    }

    /// Answers another node's question, in a task of its own.
    pub(super) fn answer_question(&self, question: Question) {
        let delivery = self.clone();
        self.inner.tasks.spawn(async move {
            let answer = delivery.answer_here(&question);
            let answer: Bytes = serde_json::to_vec(&answer).expect("texts and numbers").into();
            let store = &delivery.inner.store;
            if let Err(error) = store.answer(question.id, delivery.node(), answer).await {
                delivery.noted(error);
            }
        });
    }

    fn answer_here(&self, question: &Question) -> Answer {
        let Some(held) = self.inner.registry.get(&question.channel) else { return Answer::default() };
        match question.wish {
            Wish::List => {
                let (sessions, more) = held.describe(self.node(), SESSIONS_MAX);
                Answer { sessions, more, closed: false }
            }
            Wish::Close(id) => {
                let session = held.sessions().into_iter().find(|session| session.id() == id);
                if let Some(session) = &session {
                    session.close(CloseCode::DISCONNECTED, "disconnected by the application");
                }
                Answer { closed: session.is_some(), ..Answer::default() }
            }
        }
    }
}
