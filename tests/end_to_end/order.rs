//! One total order for each user, the same on all devices, under load.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use postrider::protocol::Position;
use serde_json::Value;

use crate::harness::{Api, Cluster, PATIENCE, Socket, settled};

const MESSAGES: usize = 10_000;
const SENDERS: usize = 8;
const USERS: usize = 200;

/// What a sender was told about one message.
struct Accepted {
    user: usize,
    position: Position,
    payload: String,
}

/// Sends its share, each message after the answer to the one before.
async fn send(sender: usize, apis: Vec<Api>) -> Vec<Accepted> {
    let mut accepted = Vec::new();
    for n in 0..MESSAGES / SENDERS {
        // Strides that share no factor with the number of users: senders keep meeting.
        let user = (n * 7 + sender * 31) % USERS;
        let payload = format!("{sender}:{n}");
        let answer = apis[(n + sender) % apis.len()].push_to(&format!("user{user}"), payload.as_str()).await;
        let position = answer["pos"].as_str().expect("a position").parse().expect("a valid one");
        accepted.push(Accepted { user, position, payload });
    }
    accepted
}

/// The order each user's devices must see, from the positions that senders were given.
fn orders(accepted: Vec<Accepted>) -> HashMap<usize, Vec<String>> {
    let mut by_user: HashMap<usize, Vec<Accepted>> = HashMap::new();
    for one in accepted {
        by_user.entry(one.user).or_default().push(one);
    }
    let order = |(user, mut messages): (usize, Vec<Accepted>)| {
        messages.sort_by_key(|message| message.position.seq);
        let seqs: Vec<_> = messages.iter().map(|message| message.position.seq).collect();
        assert_eq!(seqs, (1..=messages.len() as u64).collect::<Vec<_>>(), "positions of user{user}");
        (user, messages.into_iter().map(|message| message.payload).collect())
    };
    by_user.into_iter().map(order).collect()
}

fn payload_of(text: &str) -> Option<String> {
    let Ok(frame) = serde_json::from_str::<Value>(text) else { return Some(text.to_owned()) };
    (frame["type"] == "message").then(|| frame["data"].as_str().expect("a string").to_owned())
}

async fn connect_everyone(cluster: &Cluster) -> Vec<Vec<Socket>> {
    let mut devices = Vec::new();
    for user in 0..USERS {
        let user = format!("user{user}");
        devices.push(vec![
            cluster.nodes[0].plain(&user).connect().await,
            cluster.nodes[1].plain(&user).device("tablet").connect().await,
            cluster.nodes[2].envelope(&user).device("phone").acknowledging().connect().await,
        ]);
    }
    devices
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_senders_through_three_nodes_give_each_user_one_order_on_all_devices() {
    let cluster = Cluster::start(3).await;
    let devices = connect_everyone(&cluster).await;
    let apis: Vec<_> = cluster.nodes.iter().map(|node| node.api()).collect();
    let senders = (0..SENDERS).map(|sender| tokio::spawn(send(sender, apis.clone())));
    let accepted: Vec<_> =
        join_all(senders).await.into_iter().flat_map(|sent| sent.expect("a sender does not fail")).collect();
    assert_eq!(accepted.len(), MESSAGES);

    let orders = orders(accepted);
    assert_eq!(orders.len(), USERS);
    // What comes behind shows that nothing comes twice.
    for user in 0..USERS {
        apis[user % 3].push_to(&format!("user{user}"), "the end").await;
    }
    for (user, sockets) in devices.iter().enumerate() {
        let mut expected = orders[&user].clone();
        expected.push("the end".to_owned());
        for (device, socket) in sockets.iter().enumerate() {
            settled(PATIENCE, &format!("device {device} of user{user} has everything"), async || {
                let texts = socket.texts();
                let last = texts.iter().rev().find_map(|text| payload_of(text));
                if last.as_deref() == Some("the end") {
                    Ok(())
                } else {
                    Err((texts.len(), texts.last().cloned(), socket.closed()))
                }
            })
            .await;
            let payloads: Vec<_> = socket.texts().iter().filter_map(|text| payload_of(text)).collect();
            assert_eq!(payloads, expected, "device {device} of user{user}");
        }
    }
    nothing_is_left_behind(&cluster, devices).await;
}

/// Streams empty, nothing pending, and no key for ever but the live streams, the registry and
/// the life of the data.
async fn nothing_is_left_behind(cluster: &Cluster, devices: Vec<Vec<Socket>>) {
    settled(PATIENCE, "every node stream is empty and acknowledged", async || {
        let streams = cluster.redis.node_streams().await;
        let idle = streams.iter().all(|stream| stream.length == 0 && stream.pending == 0);
        if streams.len() == 3 && idle { Ok(()) } else { Err(streams) }
    })
    .await;
    drop(devices);
    let within = Duration::from_secs(40);
    settled(
        within,
        "keys without expiry are three node streams, the registry and the life of the data",
        async || {
            let keys = cluster.redis.keys_without_expiry().await;
            let streams = keys.iter().filter(|(_, kind)| kind == "stream").count();
            if keys.len() == 5 && streams == 3 { Ok(()) } else { Err(keys) }
        },
    )
    .await;
}
