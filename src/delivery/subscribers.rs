//! The sessions of one held channel.
//!
//! A user's channel has a few, a topic's or everyone's may have as many as the
//! node has sessions: those are found through an index, which small ones do
//! without.

use std::collections::HashMap;

use crate::protocol::SessionId;

use super::order::Subscriber;

/// Beyond so many they are indexed.
const PLAIN_MAX: usize = 32;

/// In no order; each session once.
#[derive(Default)]
pub(super) struct Subscribers {
    list: Vec<Subscriber>,
    /// Where in `list` each is.
    #[expect(clippy::box_collection, reason = "nearly every channel does without, and pays a word for it")]
    index: Option<Box<HashMap<SessionId, u32>>>,
}

impl Subscribers {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn push(&mut self, subscriber: Subscriber) {
        let (session, at) = (subscriber.session.id(), self.list.len());
        if self.list.is_empty() {
            // Nearly every channel is a user's with one session.
            self.list.reserve_exact(1);
        }
        self.list.push(subscriber);
        if let Some(index) = &mut self.index {
            index.insert(session, at as u32);
        } else if self.list.len() > PLAIN_MAX {
            self.index = Some(Box::new((0..).zip(&self.list).map(|(at, s)| (s.session.id(), at)).collect()));
        }
    }

    /// Takes a session out; says whether it was there.
    pub(super) fn remove(&mut self, session: SessionId) -> bool {
        let Some(at) = self.place_of(session) else { return false };
        self.list.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.remove(&session);
            if let Some(moved) = self.list.get(at) {
                index.insert(moved.session.id(), at as u32);
            }
            // Well below the other limit, so that one who comes and goes costs nothing.
            if self.list.len() < PLAIN_MAX / 2 {
                self.index = None;
                self.list.shrink_to_fit();
            }
        }
        true
    }

    pub(super) fn get(&self, session: SessionId) -> Option<&Subscriber> {
        self.place_of(session).map(|at| &self.list[at])
    }

    pub(super) fn get_mut(&mut self, session: SessionId) -> Option<&mut Subscriber> {
        self.place_of(session).map(|at| &mut self.list[at])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscriber> {
        self.list.iter()
    }

    pub(super) fn live_mut(&mut self) -> impl Iterator<Item = &mut Subscriber> {
        self.list.iter_mut().filter(|subscriber| subscriber.live)
    }

    fn place_of(&self, session: SessionId) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&session).map(|at| *at as usize),
            None => self.list.iter().position(|subscriber| subscriber.session.id() == session),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::tests::session;
    use super::*;

    /// A plain list beside it is the model.
    #[tokio::test]
    async fn sessions_are_found_whether_few_or_many() {
        let mut subscribers = Subscribers::default();
        let mut model = Vec::new();
        for n in 0..200_u64 {
            let session = session();
            model.push(session.id());
            subscribers.push(Subscriber { session, ticket: n, sent: None, live: true, since_us: 0 });
        }
        let stranger = session().id();
        let mut expect = model.clone();
        expect.sort_unstable();
        for (n, gone) in model.iter().enumerate().rev().step_by(2).chain(model.iter().enumerate().step_by(2))
        {
            assert!(!subscribers.remove(stranger));
            assert!(subscribers.remove(*gone), "{n}");
            assert!(!subscribers.remove(*gone), "{n}");
            expect.retain(|id| id != gone);
            let mut listed: Vec<_> = subscribers.iter().map(|subscriber| subscriber.session.id()).collect();
            listed.sort_unstable();
            assert!(listed == expect && listed.len() == subscribers.len(), "{n}");
            for id in &expect {
                assert_eq!(subscribers.get(*id).map(|found| found.session.id()), Some(*id));
            }
            if expect.len() == 10 {
                assert!(subscribers.index.is_none());
                // And many again.
                for _ in 0..60 {
                    let session = session();
                    expect.push(session.id());
                    subscribers.push(Subscriber { session, ticket: 0, sent: None, live: true, since_us: 0 });
                }
                expect.sort_unstable();
                assert!(subscribers.index.is_some());
            }
        }
    }
}
