//! A device goes on where it was, on whichever node it comes back.

use serde_json::{Value, json};

use crate::harness::{Api, Cluster, Device, Dial, PATIENCE};

async fn push_numbers(api: &Api, numbers: std::ops::Range<u32>) {
    for n in numbers {
        api.push_to("ann", n).await;
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Value> {
    range.map(|n| json!(n)).collect()
}

/// A device that saw 0..5 on the first node and is gone, and where it was.
async fn seen_five(cluster: &Cluster) -> String {
    let device = Device::connect(cluster.nodes[0].envelope("ann").device("phone")).await;
    push_numbers(&cluster.nodes[1].api(), 0..5).await;
    device.wait_messages(5).await;
    let position = device.last_position("user:ann").expect("a position");
    device.cut().await;
    position
}

/// It gets 5..10 from its mailbox and 10..12 live, each once, and nothing was lost.
async fn goes_on(cluster: &Cluster, device: Device) {
    device.wait_messages(5).await;
    push_numbers(&cluster.nodes[2].api(), 10..12).await;
    device.wait_messages(7).await;
    assert_eq!(device.payloads(), numbers(5..12));
    assert!(device.frames_of("gap").is_empty());
    let hello = device.hello().await;
    assert_eq!((&hello["resumed"], &hello["user"]), (&json!(true), &json!("ann")));
}

#[tokio::test]
async fn by_a_resume_frame_on_another_node() {
    let cluster = Cluster::start(3).await;
    let position = seen_five(&cluster).await;
    push_numbers(&cluster.nodes[1].api(), 5..10).await;
    let device = Device::resume(cluster.nodes[1].envelope("ann"), &[("user:ann", &position)]).await;
    goes_on(&cluster, device).await;
}

#[tokio::test]
async fn by_the_position_in_the_address() {
    let cluster = Cluster::start(3).await;
    let position = seen_five(&cluster).await;
    push_numbers(&cluster.nodes[1].api(), 5..10).await;
    let dial = cluster.nodes[2].envelope("ann").query(&format!("pos={position}"));
    goes_on(&cluster, Device::connect(dial).await).await;

    let plain = cluster.nodes[1].plain("ann").query(&format!("pos={position}")).connect().await;
    assert_eq!(plain.wait_texts(7).await, (5..12).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn by_the_first_frame_that_brings_the_token() {
    let cluster = Cluster::start(3).await;
    let position = seen_five(&cluster).await;
    push_numbers(&cluster.nodes[1].api(), 5..10).await;
    let dial = Dial::anonymous(cluster.nodes[1].address());
    let socket = dial.header("sec-websocket-protocol", "postrider.v1+json").connect().await;
    socket.send_json(&json!({"type": "auth", "token": "ann", "positions": {"user:ann": position}}));
    goes_on(&cluster, Device::over(socket).await).await;
}

#[tokio::test]
async fn after_its_node_was_killed_with_messages_on_their_way() {
    let mut cluster = Cluster::start(3).await;
    let position = seen_five(&cluster).await;
    // A second session keeps the dead node in the directory: these are routed to nowhere.
    let _bait = Device::connect(cluster.nodes[0].envelope("ann").device("tablet")).await;
    cluster.nodes[0].kill();
    push_numbers(&cluster.nodes[1].api(), 5..10).await;
    let device = Device::resume(cluster.nodes[2].envelope("ann"), &[("user:ann", &position)]).await;
    goes_on(&cluster, device).await;
}

#[tokio::test]
async fn by_its_acknowledgement_when_it_gives_no_position() {
    let cluster = Cluster::start(3).await;
    let device = Device::connect(cluster.nodes[0].envelope("ann").device("phone")).await;
    push_numbers(&cluster.nodes[1].api(), 0..5).await;
    let messages = device.wait_messages(5).await;
    let acknowledged = messages[2].position.clone().expect("a position");
    device.acknowledge("user:ann", &acknowledged);
    // A close in order hands over what was acknowledged just before.
    device.close().await;
    let api = cluster.nodes[1].api();
    crate::harness::eventually(PATIENCE, "the cursor is where the device acknowledged", async || {
        api.get("/v1/channels/user:ann").await.expect(200)["cursors"][0]["pos"] == acknowledged.as_str()
    })
    .await;
    let device = Device::connect(cluster.nodes[2].envelope("ann").device("phone")).await;
    device.wait_messages(2).await;
    push_numbers(&api, 5..6).await;
    device.wait_messages(3).await;
    assert_eq!(device.payloads(), numbers(3..6));
}

#[tokio::test]
async fn a_position_from_nowhere_is_answered_with_a_gap() {
    let cluster = Cluster::start(1).await;
    push_numbers(&cluster.nodes[0].api(), 0..2).await;
    let unknown = "00000000deadbeef.7";
    let device = Device::resume(cluster.nodes[0].envelope("ann"), &[("user:ann", unknown)]).await;
    let gap = device.wait_frame("gap", PATIENCE).await;
    assert_eq!((&gap["from"], &gap["reason"]), (&json!(unknown), &json!("reset")));
    assert_eq!(device.hello().await["resumed"], false);
    device.wait_messages(2).await;
    assert_eq!(device.payloads(), numbers(0..2));
}
