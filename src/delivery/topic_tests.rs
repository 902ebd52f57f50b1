//! A topic of many sessions: what it costs.

use std::sync::Arc;

use super::Delivery;
use super::tests::{attach_to, kept, start_on};
use crate::protocol::Channel;
use crate::session::Options;
use crate::session::pipe::Received;
use crate::store::{Limits, Start, Store, memory};

/// Entries that a node has put into node streams.
fn stored(delivery: &Delivery) -> u64 {
    let page = delivery.inner.metrics.render();
    let mut lines = page.lines();
    let line = lines.find_map(|line| line.strip_prefix("postrider_entries_sent_total{outcome=\"stored\"} "));
    line.expect("the metric is there").parse().expect("a number")
}

#[tokio::test(start_paused = true)]
async fn a_topic_with_ten_thousand_subscribers_on_three_nodes_costs_three_entries() {
    const SUBSCRIBERS: usize = 10_000;
    let store: Arc<dyn Store> = Arc::new(memory::Store::new(Limits::default()));
    let nodes = [start_on(store.clone()).await, start_on(store.clone()).await, start_on(store.clone()).await];
    let (topic, options) = (Channel::topic("market").expect("valid"), Arc::new(Options::default()));
    let mut crowd = Vec::with_capacity(SUBSCRIBERS);
    for n in 0..SUBSCRIBERS {
        crowd.push(attach_to(&nodes[n % 3], options.clone(), topic.clone(), Start::Now).await);
    }
    // The count follows a linger later, corrected once for all who came.
    tokio::time::sleep(super::Options::default().linger * 2).await;
    for (entries, text) in [(3, "open"), (6, "closed")] {
        let pushed = nodes[0].push(kept(&topic, format!("\"{text}\""))).await.expect("accepted");
        assert_eq!((pushed.nodes, pushed.sessions), (3, 10_000));
        for (_, _, client) in &mut crowd {
            assert_eq!(client.next().await, Received::Text(text.to_owned()));
        }
        assert_eq!(nodes.iter().map(stored).sum::<u64>(), entries);
    }
}
