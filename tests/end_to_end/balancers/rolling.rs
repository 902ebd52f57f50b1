//! A deploy at noon: every node is replaced, one after the other, under load,
//! behind every balancer at once. And a node that just dies.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::balancer::{Balancer, Kind};
use super::receiver::{Story, receive};
use super::sender::{LAST, Senders};
use crate::harness::{Cluster, Node, NodeOptions, PATIENCE, RedisServer, Socket, settled};
use crate::traces::SHORT_LIVES;

/// Devices behind each balancer.
const DEVICES: usize = 30;
/// Devices that come behind each balancer once all nodes are new.
const NEWCOMERS: usize = 15;
/// Long enough for balancers to notice that a node is unready: their checks
/// come every second, and two must fail.
const DELAY: Duration = Duration::from_millis(2_500);
/// Twice as long as a busy machine may stand still without all coming at once.
const WINDOW: Duration = Duration::from_millis(4_000);
/// A whole roll, on a machine that runs other tests.
const LONG: Duration = Duration::from_secs(130);

/// A cluster behind every balancer, with devices and senders behind each.
struct Stage {
    cluster: Cluster,
    balancers: Vec<Balancer>,
    devices: Vec<Vec<JoinHandle<Story>>>,
    senders: Vec<Senders>,
}

impl Stage {
    /// Nodes with settings further to the stage's own. `keyless`: whether a
    /// third of the users is pushed to without keys.
    async fn start(settings: &str, keyless: bool) -> Self {
        let config = format!(
            "{settings}trusted_proxies = [\"127.0.0.1\"]\ndrain_delay_ms = {}\ndrain_window_ms = {}\n\
             drain_deadline_ms = 20000\n",
            DELAY.as_millis(),
            WINDOW.as_millis()
        );
        let options = NodeOptions { config: Some(config), ..NodeOptions::default() };
        let cluster = Cluster::start_on(RedisServer::start().await, 3, options).await;
        let nodes = [0, 1, 2].map(|n| cluster.nodes[n].address());
        let balancers = join_all(Kind::all().into_iter().map(|kind| Balancer::start(kind, nodes))).await;
        let (mut devices, mut senders) = (Vec::new(), Vec::new());
        for balancer in &balancers {
            let users: Vec<_> = (0..DEVICES).map(|n| format!("{:?}-{n}", balancer.kind)).collect();
            devices.push(users.iter().map(|user| receive(balancer, user)).collect());
            senders.push(Senders::start(&balancer.api(), &users, keyless));
        }
        let stage = Self { cluster, balancers, devices, senders };
        let total = stage.total();
        let spread = spread(&stage.cluster, total).await;
        assert!(spread.iter().all(|one| *one >= total as u64 / 5), "uneven to begin with: {spread:?}");
        stage
    }

    fn total(&self) -> usize {
        DEVICES * self.balancers.len()
    }

    /// Devices that come behind each balancer.
    async fn newcomers(&self) -> Vec<Socket> {
        let mut sockets = Vec::new();
        for balancer in &self.balancers {
            for n in 0..NEWCOMERS {
                sockets.push(balancer.plain(&format!("new-{:?}-{n}", balancer.kind)).connect().await);
            }
        }
        sockets
    }

    /// Stops the senders, and compares what each device lived through with what it was sent.
    async fn end(self) -> Vec<Story> {
        let all_sent = join_all(self.senders.into_iter().map(Senders::stop)).await;
        let mut all = Vec::new();
        for ((balancer, devices), sent) in self.balancers.iter().zip(self.devices).zip(all_sent) {
            let kind = balancer.kind;
            let stories = timeout(LONG, join_all(devices)).await;
            let stories = stories.unwrap_or_else(|_| panic!("{kind:?}: a device does not have everything"));
            for (story, sent) in stories.into_iter().zip(sent) {
                let story = story.expect("no panic");
                let expected: Vec<_> = (0..sent).map(Value::from).chain([json!(LAST)]).collect();
                assert_eq!(story.payloads, expected, "{kind:?}: each once, in order");
                assert_eq!((story.gaps, &story.refused), (0, &Vec::new()), "{kind:?}");
                all.push(story);
            }
        }
        all
    }
}

/// Sessions of each node, as the cluster lists them, in the order of its nodes.
async fn spread(cluster: &Cluster, total: usize) -> Vec<u64> {
    settled(PATIENCE, "the nodes together hold every session", async || {
        let listed = cluster.nodes[0].api().get("/v1/nodes").await.expect(200);
        let sessions = |node: &Node| {
            let mut listed = listed["nodes"].as_array()?.iter();
            listed.find(|one| one["address"] == node.address().to_string())?["sessions"].as_u64()
        };
        let all: Vec<u64> = cluster.nodes.iter().map(|node| sessions(node).unwrap_or(0)).collect();
        if all.iter().sum::<u64>() == total as u64 { Ok(all) } else { Err(listed) }
    })
    .await
}

/// Replaces each node. When each was told to go, and when it was back.
async fn roll(cluster: &mut Cluster) -> Vec<(Instant, Instant)> {
    let mut times = Vec::new();
    for node in &mut cluster.nodes {
        let begun = Instant::now();
        node.terminate();
        assert!(node.exit(LONG).await.success(), "a drain ends with exit code 0");
        node.restart().await;
        times.push((begun, Instant::now()));
    }
    times
}

/// The devices that a node sent away came to the others, and not all at once.
fn paced(stories: &[Story], begun: Instant, back: Instant) {
    let connects = stories.iter().flat_map(|story| story.connected.iter().skip(1));
    let mut times: Vec<Duration> =
        connects.filter(|at| (begun..back).contains(*at)).map(|at| *at - begun).collect();
    times.sort_unstable();
    assert!(times.len() >= DEVICES / 2, "only {times:?} came back");
    let [first, last] = [times[0], times[times.len() - 1]];
    assert!(first >= DELAY, "sent away before balancers could notice: {first:?}");
    // Of thirty at random moments: the chance of a false alarm is below one in a million. A machine
    // that stands still for a second lets a quarter of them come together.
    assert!(last - first > WINDOW / 2, "all of {times:?} within half the window");
    let quarter =
        |from: &Duration| times.iter().filter(|at| (*from..*from + WINDOW / 4).contains(*at)).count();
    let busiest = times.iter().map(quarter).max().unwrap_or(0);
    assert!(busiest <= times.len() * 3 / 4, "{busiest} of {times:?} within a quarter of the window");
}

#[tokio::test]
async fn nodes_are_replaced_one_by_one_under_load_and_nothing_is_lost_or_refused() {
    let mut stage = Stage::start("", true).await;
    let total = stage.total();
    let times = roll(&mut stage.cluster).await;
    // Whoever was sent away is on the other two; the last node is empty until somebody comes.
    let rolled = spread(&stage.cluster, total).await;
    assert!(rolled.iter().all(|one| *one <= total as u64 * 2 / 3), "one holds most: {rolled:?}");
    // A balancer may take some seconds to notice that the last node is back.
    let even = async || {
        let guests = stage.newcomers().await;
        let after = spread(&stage.cluster, total + guests.len()).await;
        drop(guests);
        spread(&stage.cluster, total).await;
        if after.iter().all(|one| *one >= total as u64 / 5) { Ok(()) } else { Err(after) }
    };
    settled(PATIENCE, "newcomers make it even again", even).await;

    let stories = stage.end().await;
    for story in &stories {
        assert!(story.closes.iter().all(|code| *code == Some(1012)), "{:?}", story.closes);
    }
    for (begun, back) in times {
        paced(&stories, begun, back);
    }
}

#[tokio::test]
async fn a_node_dies_under_load_and_no_push_with_a_key_is_refused() {
    let mut stage = Stage::start(SHORT_LIVES, false).await;
    stage.cluster.nodes[1].kill();
    spread_over_two(&stage).await;
    stage.cluster.nodes[1].restart().await;
    let stories = stage.end().await;
    let moved = stories.iter().filter(|story| !story.closes.is_empty()).count();
    assert!(moved >= DEVICES / 5, "only {moved} devices were on the node that died");
}

/// Waits until the other two hold all devices.
async fn spread_over_two(stage: &Stage) {
    settled(PATIENCE, "all devices are on the other nodes", async || {
        let held = join_all([0, 2].map(|n| {
            let api = stage.cluster.nodes[n].api();
            async move { api.sessions().await }
        }))
        .await;
        if held.iter().sum::<f64>() >= stage.total() as f64 { Ok(()) } else { Err(held) }
    })
    .await;
}

/// A balancer that knows of no ready node must not answer for them: they say what
/// is wrong, and are ready again before a check says so.
#[tokio::test]
async fn when_no_node_is_ready_senders_hear_from_a_node_what_is_wrong() {
    let mut cluster = Cluster::start(3).await;
    let nodes = [0, 1, 2].map(|n| cluster.nodes[n].address());
    let balancers = join_all(Kind::all().into_iter().map(|kind| Balancer::start(kind, nodes))).await;
    cluster.redis.kill();
    // Checks come every second, and two must fail.
    let until = Instant::now() + DELAY * 2;
    for n in 0_u32.. {
        if Instant::now() > until {
            return;
        }
        for balancer in &balancers {
            let key = format!("key-{n}");
            let body = json!({"to": "user:ann", "data": n});
            let answer = balancer.api().try_push(&body, (n % 2 == 0).then_some(&*key)).await;
            let answer = answer.expect("the balancer answers").expect(503);
            assert_eq!(answer["code"], "store_unavailable", "{:?}: {answer}", balancer.kind);
        }
    }
}
