//! The end of a run: everything that must be true once nothing goes wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postrider::protocol::{Channel, NodeId, Position};
use postrider::store::{Start, Store as _};
use tokio::time::{Instant, sleep};

use crate::faults::{DEADLINE, LATE_MAX};
use crate::model::Model;
use crate::world::World;

/// A lost notification, a lost node and a lost lease one after the other.
const HEALED_AFTER_MAX: Duration = Duration::from_secs(40);
/// How often conditions are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Ephemeral messages of which nobody reported are written off after a minute.
const REPORTS_OVER: Duration = Duration::from_secs(61);

impl World {
    pub(crate) async fn check(self: &Arc<Self>) {
        self.wait("delivery", async |world: &Self| world.undelivered()).await;
        self.note("everything is delivered");
        // What was given up may happen so late, under ids that are gone; who
        // pushes next takes it away.
        sleep(DEADLINE + LATE_MAX).await;
        self.push_to_all().await;
        self.wait("delivery of a last message", async |world: &Self| world.undelivered()).await;
        self.wait("the dead to be gone", async |world: &Self| world.remains().await).await;
        self.wait("the directory to be right", async |world: &Self| world.misdirected().await).await;
        self.wait("node streams to be empty", async |world: &Self| world.unread().await).await;
        self.wait("receipt", async |world: &Self| world.unreceived().await).await;
        let positions = self.positions().await;
        self.model(|model| model.check_order(&positions));
        self.note("all is well; the nodes leave");
        self.go_home();
        for node in self.nodes() {
            let id = node.delivery.node();
            if !node.drain(Duration::from_millis(100), Duration::from_secs(20)).await {
                self.model(|model| model.violation(format!("node {id} could not hand its stream over")));
            }
        }
        self.wait("nothing to be left of the nodes", async |world: &Self| world.remains().await).await;
        sleep(REPORTS_OVER).await;
        if let Some(text) = self.misled(false).await {
            self.model(|model| model.violation(text));
        }
    }

    /// Waits until `wrong` finds nothing.
    async fn wait(&self, what: &str, wrong: impl AsyncFn(&Self) -> Option<String>) {
        let until = Instant::now() + HEALED_AFTER_MAX;
        loop {
            let Some(text) = wrong(self).await else { return };
            if Instant::now() >= until {
                self.note(format!("waited in vain for {what}"));
                return self.model(|model| model.violation(text));
            }
            sleep(LOOK).await;
        }
    }

    fn undelivered(&self) -> Option<String> {
        let missing = self.model(|model| model.missing());
        (!missing.is_empty()).then(|| {
            let describe = |(at, pushes): &(usize, Vec<usize>)| {
                self.model(|model| {
                    let first: Vec<_> = pushes.iter().take(3).map(|id| (id, &model.pushes[*id])).collect();
                    format!("client {at} {:?} never got {pushes:?}: {first:?}", model.listeners[*at].kind)
                })
            };
            missing.iter().map(describe).collect::<Vec<_>>().join("\n")
        })
    }

    fn live(&self) -> Vec<NodeId> {
        self.nodes().iter().filter(|node| node.is_open()).map(|node| node.delivery.node()).collect()
    }

    fn channels(&self) -> Vec<Channel> {
        self.model(|model| model.channels.clone())
    }

    /// What is left of nodes that are gone.
    async fn remains(&self) -> Option<String> {
        let live = self.live();
        let registered = self.store.nodes().await.expect("the store answers");
        if let Some(zombie) = registered.iter().find(|record| !live.contains(&record.id)) {
            return Some(format!("{} beats and is no node", zombie.id));
        }
        if let Some(missing) = live.iter().find(|id| !registered.iter().any(|record| record.id == **id)) {
            return Some(format!("{missing} does not beat"));
        }
        let enrolled = self.enrolled.lock().expect("no panic while held").clone();
        for gone in enrolled.into_iter().filter(|id| !live.contains(id)) {
            let channels = self.store.orphaned_channels(gone, 10).await.expect("the store answers");
            if !channels.is_empty() {
                return Some(format!("{gone} is gone and holds {channels:?}"));
            }
            let stats = self.store.stream_stats(gone).await.expect("the store answers");
            if stats.length > 0 {
                return Some(format!("{gone} is gone and has a stream: {stats:?}"));
            }
        }
        None
    }

    /// The directory says who is where.
    async fn misdirected(&self) -> Option<String> {
        let nodes = self.nodes();
        for channel in self.channels() {
            let info = self.store.inspect(&channel).await.expect("the store answers");
            for route in &info.routes {
                let Some(node) = nodes.iter().find(|node| node.delivery.node() == route.node) else {
                    return Some(format!("{channel} is said to be on {}, which is no node", route.node));
                };
                let sessions = node.sessions_of(&channel);
                if sessions != route.sessions {
                    return Some(format!("{} is said to have {route:?}, has {sessions}", route.node));
                }
            }
            for node in nodes.iter().filter(|node| node.sessions_of(&channel) > 0) {
                if !info.routes.iter().any(|route| route.node == node.delivery.node()) {
                    return Some(format!("{channel} is on {} and not said to be", node.delivery.node()));
                }
            }
        }
        None
    }

    async fn unread(&self) -> Option<String> {
        for id in self.live() {
            let stats = self.store.stream_stats(id).await.expect("the store answers");
            if stats.length + stats.pending > 0 {
                return Some(format!("the stream of {id} is not empty: {stats:?}"));
            }
        }
        None
    }

    async fn unreceived(&self) -> Option<String> {
        self.misled(true).await
    }

    /// The ledger adds up, and nothing that lasts waits for somebody who is there.
    async fn misled(&self, ephemeral_may_wait: bool) -> Option<String> {
        for channel in self.channels() {
            let info = self.store.inspect(&channel).await.expect("the store answers");
            let waiting = info.ledger.waiting();
            if waiting != i64::try_from(info.waiting_counted).expect("a few") {
                let text = format!("{channel}: the ledger says {waiting} wait, {} do", info.waiting_counted);
                self.model(|model| model.violation(text));
            }
            let head = info.head.map_or(0, |head| head.seq);
            let waits = if ephemeral_may_wait { info.watermark < head } else { waiting > 0 };
            if waits {
                return Some(format!("{channel}: messages wait although somebody is there: {info:?}"));
            }
        }
        None
    }

    /// The position of every message that is kept.
    async fn positions(&self) -> HashMap<String, Position> {
        let mut positions = HashMap::new();
        for channel in self.channels() {
            let page =
                self.store.read(&channel, &Start::Oldest, usize::MAX).await.expect("the store answers");
            for message in page.messages {
                let payload: String = serde_json::from_slice(&message.data).expect("we push strings");
                if !self.model(|model: &mut Model| model.is_known(&payload)) {
                    self.model(|model| model.violation(format!("{payload:?} is kept and was never pushed")));
                }
                positions.extend(message.position.map(|position| (payload, position)));
            }
        }
        positions
    }
}
