//! One run: nodes that share a store, clients, senders, disasters, and the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::protocol::{Channel, NodeId};
use postrider::store::{Limits, Store, memory};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::Receiver;
use crate::faults::{Faults, Rates};
use crate::model::Model;
use crate::node::Node;
use crate::plan::{Event, Plan};
use crate::sender::Sender;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Things go wrong.
    Chaos,
    /// Nothing goes wrong any more.
    Healing,
    /// Everybody goes home.
    Over,
}

/// Everything of one run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) store: memory::Store,
    begun: Instant,
    phase: watch::Sender<Phase>,
    slots: Mutex<Vec<Option<Arc<Node>>>>,
    model: Mutex<Model>,
    /// Every id that any node ever enrolled under.
    pub(crate) enrolled: Arc<Mutex<Vec<NodeId>>>,
    log: Mutex<Vec<String>>,
    rng: Mutex<StdRng>,
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) counts: String,
    pub(crate) log: Vec<String>,
    pub(crate) simulated: Duration,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        let limits = Limits { mailbox_messages_max: plan.mailbox_messages_max, ..Limits::default() };
        Arc::new(Self {
            store: memory::Store::new(limits),
            begun: Instant::now(),
            phase: watch::Sender::new(Phase::Chaos),
            slots: Mutex::new(vec![None; plan.nodes]),
            model: Mutex::new(Model::new(plan.flavour, &plan.users, &plan.channels)),
            enrolled: Arc::default(),
            log: Mutex::default(),
            rng: Mutex::new(StdRng::seed_from_u64(plan.seed ^ 0x5eed)),
            plan,
        })
    }

    pub(crate) fn model<T>(&self, f: impl FnOnce(&mut Model) -> T) -> T {
        f(&mut self.model.lock().expect("no panic while held"))
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        let line = format!("{:7.3} s  {}", self.begun.elapsed().as_secs_f64(), text.into());
        self.log.lock().expect("no panic while held").push(line);
    }

    fn draw_seed(&self) -> u64 {
        self.rng.lock().expect("no panic while held").random()
    }

    /// The nodes that are up, by slot.
    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        self.slots.lock().expect("no panic while held").iter().flatten().cloned().collect()
    }

    fn slot(&self, slot: usize) -> Option<Arc<Node>> {
        self.slots.lock().expect("no panic while held")[slot].clone()
    }

    /// What a load balancer does.
    pub(crate) fn pick(&self, rng: &mut StdRng) -> Option<Arc<Node>> {
        let nodes: Vec<_> = self.nodes().into_iter().filter(|node| node.is_open()).collect();
        nodes.choose(rng).cloned()
    }

    /// Runs it all.
    pub(crate) async fn run(self: &Arc<Self>) -> Outcome {
        for slot in 0..self.plan.nodes {
            self.start_node(slot).await;
        }
        self.start_clients();
        let senders: Vec<_> = (0..self.plan.senders)
            .map(|_| {
                let rng = StdRng::seed_from_u64(self.draw_seed());
                tokio::spawn(Sender { world: self.clone(), rng }.run())
            })
            .collect();
        let disasters = tokio::spawn(self.clone().disasters());
        sleep(self.plan.chaos).await;
        self.note("healing begins");
        self.phase.send_replace(Phase::Healing);
        // Every disaster ends, and every node that has to comes back.
        disasters.await.expect("disasters do not panic");
        for node in self.nodes() {
            node.faults.freeze(false);
            node.faults.cut_off(false);
            node.faults.set_rates(Rates { latency_max: self.plan.rates.latency_max, ..Rates::default() });
        }
        for sender in senders {
            if tokio::time::timeout(Duration::from_secs(60), sender).await.is_err() {
                self.model(|model| {
                    model.violation("a push is not accepted although nothing is wrong".into())
                });
            }
        }
        self.note("every push is answered");
        self.check().await;
        self.note("over");
        let log = std::mem::take(&mut *self.log.lock().expect("no panic while held"));
        self.model(|model| Outcome {
            violations: std::mem::take(&mut model.violations),
            counts: model.counts(),
            log,
            simulated: self.begun.elapsed(),
        })
    }

    pub(crate) fn go_home(&self) {
        self.phase.send_replace(Phase::Over);
    }

    fn start_clients(self: &Arc<Self>) {
        let clients: Vec<_> = self.model(|model| {
            let clients = model.listeners.iter().enumerate();
            clients
                .map(|(at, listener)| (at, model.channels[listener.user].clone(), listener.kind.clone()))
                .collect()
        });
        for (at, channel, kind) in clients {
            let rng = StdRng::seed_from_u64(self.draw_seed());
            let world = self.clone();
            // Those of a topic, or of everyone's channel, are a user each.
            let user = match channel.user_name() {
                Some(_) => channel.clone(),
                None => Channel::user(&format!("listener{at}")).expect("valid"),
            };
            let receiver = Receiver { world, rng, at, user, channel, kind, position: None };
            tokio::spawn(receiver.run());
        }
    }

    async fn start_node(self: &Arc<Self>, slot: usize) {
        let rates = match self.phase() {
            Phase::Chaos => self.plan.rates,
            Phase::Healing | Phase::Over => {
                Rates { latency_max: self.plan.rates.latency_max, ..Rates::default() }
            }
        };
        let node = Node::start(
            Arc::new(self.store.clone()) as Arc<dyn Store>,
            Arc::new(Faults::new(self.draw_seed(), rates)),
            self.enrolled.clone(),
            self.plan.session.clone(),
            self.plan.socket_bytes,
        )
        .await;
        self.note(format!("slot {slot}: node {} is up", node.delivery.node()));
        self.slots.lock().expect("no panic while held")[slot] = Some(node);
    }

    /// Lets everything happen that is planned; returns when all of it is over.
    async fn disasters(self: Arc<Self>) {
        let mut under_way = Vec::new();
        let mut copies = vec![(Instant::now(), 0, self.store.copy())];
        let empty = self.store.copy();
        for (at, event) in &self.plan.events {
            let at = self.begun + *at;
            // Copies of the store, as it would save itself.
            while self.plan.flavour.restarts()
                && copies.last().is_some_and(|(taken, ..)| *taken + COPY_PERIOD < at)
            {
                sleep_until(copies.last().expect("one at least").0 + COPY_PERIOD).await;
                copies.push((Instant::now(), self.model(Model::moment), self.store.copy()));
            }
            sleep_until(at).await;
            self.note(format!("{event:?}"));
            match *event {
                Event::Restart(Duration::ZERO) => self.store.restart(&self.store.copy()),
                Event::Restart(age) => {
                    let oldest = Instant::now() - age;
                    let copy = copies.iter().rev().find(|(taken, ..)| *taken <= oldest).unwrap_or(&copies[0]);
                    self.store.restart(&copy.2);
                    self.model(|model| model.store_forgot(copy.1));
                }
                Event::Flush => {
                    self.store.restart(&empty);
                    self.model(|model| model.store_forgot(0));
                }
                event => under_way.push(tokio::spawn(self.clone().disaster(event))),
            }
        }
        futures_util::future::join_all(under_way).await;
    }

    async fn disaster(self: Arc<Self>, event: Event) {
        match event {
            Event::Kill(slot, back) => {
                let Some(node) = self.take(slot) else { return };
                node.kill();
                sleep(back).await;
                self.start_node(slot).await;
            }
            Event::Drain(slot, back) => {
                let Some(node) = self.take(slot) else { return };
                node.drain(Duration::from_millis(500), Duration::from_secs(4)).await;
                sleep(back).await;
                self.start_node(slot).await;
            }
            Event::Freeze(slot, long) => {
                let Some(node) = self.slot(slot) else { return };
                node.faults.freeze(true);
                sleep(long).await;
                node.faults.freeze(false);
            }
            Event::CutOff(slot, long) => {
                let Some(node) = self.slot(slot) else { return };
                node.faults.cut_off(true);
                sleep(long).await;
                node.faults.cut_off(false);
            }
            Event::StoreAway(long) => {
                let nodes = self.nodes();
                nodes.iter().for_each(|node| node.faults.cut_off(true));
                sleep(long).await;
                nodes.iter().for_each(|node| node.faults.cut_off(false));
            }
            Event::Sockets(slot) => {
                if let Some(node) = self.slot(slot) {
                    node.break_sockets();
                }
            }
            Event::Restart(_) | Event::Flush => unreachable!("they take no time"),
        }
    }

    fn take(&self, slot: usize) -> Option<Arc<Node>> {
        self.slots.lock().expect("no panic while held")[slot].take()
    }
}

/// How often a copy of the store is made.
const COPY_PERIOD: Duration = Duration::from_secs(1);
