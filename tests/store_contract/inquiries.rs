//! What is told of messages and channels, and what takes them away.

use postrider::protocol::status::{DeviceState, DropReason, MessageState};
use postrider::protocol::{Channel, MessageId, NodeId, Position};
use postrider::store::{
    Append, DEPARTURES_MAX, DEVICES_MAX, Found, GapReason, Join, Limits, Recent, Settled, Start, Store, Why,
};

use crate::backend::Backend;
use crate::support::*;

async fn find(store: &dyn Store, channel: &Channel, id: MessageId) -> Option<Found> {
    store.find(channel, id, None).await.expect("looked for")
}

async fn recent(store: &dyn Store, channel: &Channel, before: Option<u64>, limit: usize) -> Recent {
    store.recent(channel, before, limit).await.expect("listed")
}

/// A message's fate at each device, by name.
fn fates(found: &Found) -> Vec<(String, DeviceState)> {
    let at = |device: &postrider::store::Progress| {
        Some((device.device.to_string(), found.message.at(device, 0)?.state))
    };
    found.devices.iter().filter_map(at).collect()
}

fn states(recent: &Recent) -> Vec<(u64, MessageState)> {
    recent.messages.iter().map(|message| (message.position.seq, message.state().0)).collect()
}

pub(crate) async fn a_message_is_found_by_its_id_with_and_without_its_position(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    push_many(&*store, &alice, 300).await;
    let appended = push(&*store, &alice, "\"me\"").await;
    push_many(&*store, &alice, 300).await;
    let position = appended.position.expect("durable");
    let wrong = Position::new(position.epoch, 7);
    let unknown = Position::new(postrider::protocol::Epoch::random(), position.seq);
    for near in [None, Some(position), Some(wrong), Some(unknown)] {
        let found = store.find(&alice, appended.id, near).await.expect("looked for").expect("found");
        assert_eq!((found.message.id, found.message.position), (appended.id, position), "{near:?}");
        assert_eq!(found.message.accepted_at_us, appended.accepted_at_us);
        assert_eq!(found.message.expires_at_ms, appended.expires_at_ms);
        assert_eq!(found.message.state(), (MessageState::Waiting, None));
    }
    for (channel, id) in [(&alice, MessageId::generate()), (&channel("bob"), appended.id)] {
        assert_eq!(store.find(channel, id, Some(position)).await.expect("looked for"), None);
        assert_eq!(find(&*store, channel, id).await, None);
    }
}

pub(crate) async fn an_id_whose_time_says_nothing_is_found_all_the_same(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    for bits in [0, 1, u128::MAX] {
        let id = MessageId::from_bits(bits);
        push_many(&*store, &alice, 150).await;
        let own = Append { id, ..message(&alice, 1) };
        let position = store.append(own).await.expect("appended").position.expect("durable");
        push_many(&*store, &alice, 150).await;
        assert_eq!(find(&*store, &alice, id).await.expect("found").message.position, position);
    }
}

pub(crate) async fn what_left_is_remembered_with_its_reason(backend: &dyn Backend) {
    let store = backend.open(Limits { mailbox_messages_max: 20, ..Limits::default() }).await;
    let alice = channel("alice");
    let keyed = |key: &str, n| Append { collapse_key: Some(key.into()), ..message(&alice, n) };
    let trimmed = push(&*store, &alice, 1).await;
    let collapsed = store.append(keyed("a", 2)).await.expect("appended");
    let short = store.append(Append { ttl_ms: 40, ..message(&alice, 3) }).await.expect("appended");
    let received_first = store.append(keyed("b", 4)).await.expect("appended");
    let epoch = trimmed.position.expect("durable").epoch;
    store.append(keyed("a", 5)).await.expect("appended");
    clock_passes(&*store, short.expires_at_ms).await;
    let expired = find(&*store, &alice, short.id).await.expect("remembered");
    assert_eq!(expired.settled, Settled { expired: 1, ..Settled::default() }, "whoever looks settles");
    store.acknowledge(&[received(&alice, None, epoch, 4)]).await.expect("acknowledged");
    store.append(keyed("b", 6)).await.expect("appended");
    push_many(&*store, &alice, 30).await;
    let withdrawn = push(&*store, &alice, 9).await;
    store.withdraw(&alice, withdrawn.id, None).await.expect("withdrawn").expect("there");

    let expected = [
        // It was received by then, and only lost to whoever had it not.
        (trimmed.id, Why::Trimmed, MessageState::Received, None),
        (collapsed.id, Why::Collapsed, MessageState::Collapsed, None),
        (short.id, Why::Expired, MessageState::Expired, None),
        (received_first.id, Why::Collapsed, MessageState::Received, None),
        (withdrawn.id, Why::Withdrawn, MessageState::Dropped, Some(DropReason::Withdrawn)),
    ];
    for (id, why, state, reason) in expected {
        let message = find(&*store, &alice, id).await.expect("remembered").message;
        let left = message.left.expect("it is gone");
        assert_eq!((left.why, message.state()), (why, (state, reason)), "{message:?}");
        assert!(left.at_ms * 1_000 + 999 >= message.accepted_at_us && message.data.is_none());
    }
    let page = recent(&*store, &alice, None, 100).await;
    let full = |m: &&postrider::store::Traced| m.state().1 == Some(DropReason::MailboxFull);
    assert!(page.messages.iter().filter(full).count() > 5, "{page:?}");
    inspect(&*store, &alice).await;
}

pub(crate) async fn every_device_has_a_fate_of_its_own(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    for name in ["laptop", "phone"] {
        let start = Start::Cursor(Some(device(name)));
        let join = Join { start, ..join(NodeId::generate(), &alice, 1) };
        store.join(&join).await.expect("joined");
    }
    let first = push(&*store, &alice, 1).await;
    let second = push(&*store, &alice, 2).await;
    let epoch = first.position.expect("durable").epoch;
    let own = |fates: [DeviceState; 2]| {
        ["laptop", "phone"].map(str::to_owned).into_iter().zip(fates).collect::<Vec<_>>()
    };
    let found = find(&*store, &alice, first.id).await.expect("found");
    assert_eq!(fates(&found), own([DeviceState::Waiting; 2]));
    store.acknowledge(&[received(&alice, Some(&device("phone")), epoch, 1)]).await.expect("acknowledged");
    let found = find(&*store, &alice, first.id).await.expect("found");
    assert_eq!(fates(&found), own([DeviceState::Waiting, DeviceState::Acknowledged]));
    assert_eq!(found.message.state().0, MessageState::Received);
    let phone = &found.devices[1];
    let fate = found.message.at(phone, 0).expect("meant for it");
    assert_eq!((fate.acknowledged_at_ms, fate.acknowledged_before_ms), (Some(phone.at_ms), None));
    let found = find(&*store, &alice, second.id).await.expect("found");
    assert_eq!(fates(&found), own([DeviceState::Waiting; 2]));
    store.withdraw(&alice, first.id, None).await.expect("withdrawn").expect("there");
    let found = find(&*store, &alice, first.id).await.expect("remembered");
    assert_eq!(fates(&found), own([DeviceState::Dropped, DeviceState::Acknowledged]));
}

pub(crate) async fn of_very_many_devices_some_are_told_of(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let pushed = push(&*store, &alice, 1).await;
    let epoch = pushed.position.expect("durable").epoch;
    let count = DEVICES_MAX + 100;
    let devices: Vec<_> = (0..count).map(|n| device(&format!("d{n}"))).collect();
    let acks: Vec<_> = devices.iter().map(|device| received(&alice, Some(device), epoch, 1)).collect();
    for some in acks.chunks(50) {
        store.acknowledge(some).await.expect("acknowledged");
    }
    let found = find(&*store, &alice, pushed.id).await.expect("found");
    assert!(found.more_devices || found.devices.len() == count, "{} of {count}", found.devices.len());
    assert!(found.devices.len() >= DEVICES_MAX / 2, "{}", found.devices.len());
    assert_eq!(found.message.state().0, MessageState::Received);
}

pub(crate) async fn a_device_that_came_later_is_not_asked_about(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let first = push(&*store, &alice, 1).await;
    let epoch = first.position.expect("durable").epoch;
    store.acknowledge(&[received(&alice, Some(&device("phone")), epoch, 1)]).await.expect("acknowledged");
    let start = Start::Cursor(Some(device("tablet")));
    store.join(&Join { start, ..join(NodeId::generate(), &alice, 1) }).await.expect("joined");
    let second = push(&*store, &alice, 2).await;
    let devices = [("phone", 2), ("tablet", 2), ("watch", 2)];
    for (name, seq) in devices {
        store.acknowledge(&[received(&alice, Some(&device(name)), epoch, seq)]).await.expect("acknowledged");
    }
    let at = |found: Option<Found>| fates(&found.expect("found"));
    let acknowledged = |name: &str| (name.to_owned(), DeviceState::Acknowledged);
    assert_eq!(at(find(&*store, &alice, first.id).await), [acknowledged("phone")]);
    let both = [acknowledged("phone"), acknowledged("tablet")];
    assert_eq!(at(find(&*store, &alice, second.id).await), both, "the watch was heard of only afterwards");
}

pub(crate) async fn a_withdrawn_message_is_shown_to_nobody_and_counted_once(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let mut ids = Vec::new();
    for n in 1..=3 {
        let keyed = Append { collapse_key: Some(n.to_string().into()), ..message(&alice, n) };
        ids.push(store.append(keyed).await.expect("appended"));
    }
    let epoch = ids[0].position.expect("durable").epoch;
    store.acknowledge(&[received(&alice, Some(&device("phone")), epoch, 1)]).await.expect("acknowledged");
    let withdraw = async |at: usize| {
        store.withdraw(&alice, ids[at].id, ids[at].position).await.expect("withdrawn").expect("known")
    };
    let taken = withdraw(1).await;
    assert!(taken.withdrawn);
    assert_eq!(taken.settled, Settled { dropped_withdrawn: 1, ..Settled::default() });
    assert_eq!(taken.message.state(), (MessageState::Dropped, Some(DropReason::Withdrawn)));
    let again = withdraw(1).await;
    assert_eq!((again.withdrawn, again.settled), (false, Settled::default()));
    let late = withdraw(0).await;
    assert_eq!((late.withdrawn, late.message.state().0), (true, MessageState::Received));
    assert_eq!(late.settled, Settled::default(), "it stays received");
    assert_eq!(store.withdraw(&alice, MessageId::generate(), None).await.expect("asked"), None);

    let page = read(&*store, &alice, Start::Oldest).await;
    assert_eq!((seqs(&page), page.gap), (vec![3], None), "a hole is no gap");
    let key = Append { collapse_key: Some("2".into()), ..message(&alice, 4) };
    assert_eq!(
        store.append(key).await.expect("appended").settled.collapsed,
        0,
        "there is nothing to replace"
    );
    let settled = store.acknowledge(&[received(&alice, None, epoch, 4)]).await.expect("acknowledged");
    assert_eq!(settled.received, 2, "what was withdrawn is not received");
    let ledger = inspect(&*store, &alice).await.ledger;
    assert_eq!((ledger.accepted, ledger.received, ledger.dropped.withdrawn), (4, 3, 1));
}

pub(crate) async fn withdrawing_the_last_message_leaves_a_mailbox_that_works(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    for n in 1..=3 {
        let only = push(&*store, &alice, n).await;
        store.withdraw(&alice, only.id, None).await.expect("withdrawn").expect("there");
        let info = inspect(&*store, &alice).await;
        assert_eq!((info.mailbox_messages, info.ledger.dropped.withdrawn), (0, n));
    }
    // With lives of different lengths the mailbox is kept in another way.
    let mixed = [LONG_MS, 5_000, LONG_MS];
    let mut ids = Vec::new();
    for ttl_ms in mixed {
        ids.push(store.append(Append { ttl_ms, ..message(&alice, 1) }).await.expect("appended").id);
    }
    for id in ids {
        assert!(store.withdraw(&alice, id, None).await.expect("withdrawn").expect("there").withdrawn);
    }
    assert_eq!(push(&*store, &alice, 7).await.position.expect("durable").seq, 7);
    assert_eq!(seqs(&read(&*store, &alice, Start::Oldest).await), [7]);
    inspect(&*store, &alice).await;
}

pub(crate) async fn recent_messages_come_newest_first_page_by_page(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    assert_eq!(recent(&*store, &alice, None, 5).await.messages, []);
    push_many(&*store, &alice, 30).await;
    let ids: Vec<_> = recent(&*store, &alice, None, 30).await.messages.iter().map(|m| m.id).collect();
    // The thirtieth, the twentieth and the tenth.
    for at in [0, 10, 20] {
        store.withdraw(&alice, ids[at], None).await.expect("withdrawn").expect("there");
    }
    let (mut before, mut listed) = (None, Vec::new());
    loop {
        let page = recent(&*store, &alice, before, 7).await;
        assert!(page.messages.len() <= 7);
        for message in &page.messages {
            assert_eq!(message.data.is_some(), message.left.is_none(), "payloads while they are kept");
        }
        listed.extend(states(&page));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let class = |seq: u64| if seq.is_multiple_of(10) { MessageState::Dropped } else { MessageState::Waiting };
    assert_eq!(listed, (1..=30).rev().map(|seq| (seq, class(seq))).collect::<Vec<_>>());
    // Only so many departures are remembered.
    let bob = channel("bob");
    for n in 0..DEPARTURES_MAX + 44 {
        let keyed = Append { collapse_key: Some("k".into()), ..message(&bob, n) };
        store.append(keyed).await.expect("appended");
    }
    let all = recent(&*store, &bob, None, 10_000).await;
    assert_eq!(all.messages.len() as u64, DEPARTURES_MAX + 1);
    assert_eq!(all.next, None);
}

pub(crate) async fn a_page_of_large_messages_ends_early(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let large = "x".repeat(100_000);
    for _ in 0..25 {
        push(&*store, &alice, format!("\"{large}\"")).await;
    }
    let (mut before, mut listed) = (None, Vec::new());
    loop {
        let page = recent(&*store, &alice, before, 100).await;
        assert!(!page.messages.is_empty());
        listed.extend(page.messages.iter().map(|message| message.position.seq));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(listed, (1..=25).rev().collect::<Vec<_>>());
}

pub(crate) async fn an_erased_channel_forgets_all_and_never_reuses_a_position(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let node = NodeId::generate();
    let start = Start::Cursor(Some(device("phone")));
    store.join(&Join { start: start.clone(), ..join(node, &alice, 1) }).await.expect("joined");
    let epoch = push_many(&*store, &alice, 5).await;
    store.acknowledge(&[received(&alice, Some(&device("phone")), epoch, 3)]).await.expect("acknowledged");
    let keyed = Append { collapse_key: Some("k".into()), ..message(&alice, 6) };
    let last = store.append(keyed).await.expect("appended");

    let erased = store.erase(&alice).await.expect("erased");
    assert_eq!((erased.messages, erased.devices), (6, 1));
    let info = inspect(&*store, &alice).await;
    assert_eq!((info.head, info.mailbox_messages, info.ledger.accepted), (None, 0, 0));
    assert_eq!((info.cursors.len(), info.routes.len()), (0, 1), "where sessions are is no memory");
    assert_eq!(find(&*store, &alice, last.id).await, None);
    let late = store.acknowledge(&[received(&alice, Some(&device("phone")), epoch, 4)]).await;
    assert_eq!(late.expect("acknowledged"), Settled::default());
    assert_eq!(inspect(&*store, &alice).await.cursors, [], "a late acknowledgement brings nothing back");

    let next = push(&*store, &alice, 1).await;
    let position = next.position.expect("durable");
    assert_ne!(position.epoch, epoch);
    assert_eq!(next.routes.len(), 1);
    let page = read_after(&*store, &alice, epoch, 6).await;
    assert_eq!(page.gap.map(|gap| gap.reason), Some(GapReason::Reset), "who was there before is told");
    assert_eq!(texts(&page), ["1"]);
    store.leave(node, &alice, 2, 0).await.expect("left");
    assert_eq!(store.erase(&alice).await.expect("erased").messages, 1);
    assert_eq!(store.erase(&alice).await.expect("erased").messages, 0);
    assert_eq!(store.heads(std::slice::from_ref(&alice)).await.expect("heads"), [None]);
}

pub(crate) async fn presence_is_of_live_nodes_only(backend: &dyn Backend) {
    let limits = Limits { heartbeat_ttl_ms: 300, ..Limits::default() };
    let store = backend.open(limits).await;
    let (live, silent) = (enrolled(&*store).await, enrolled(&*store).await);
    let (alice, bob, nobody) = (channel("alice"), channel("bob"), channel("nobody"));
    for (node, channel) in [(live, &alice), (silent, &alice), (silent, &bob), (NodeId::generate(), &bob)] {
        store.join(&join(node, channel, 1)).await.expect("joined");
    }
    let channels = [nobody, alice.clone(), bob, alice];
    until("the silent node's heartbeat to lapse", async || {
        store.beat(live, &node_info()).await.expect("beaten");
        let presence = store.presence(&channels).await.expect("asked");
        let nodes: Vec<Vec<NodeId>> =
            presence.iter().map(|routes| routes.iter().map(|route| route.node).collect()).collect();
        assert_eq!((nodes.len(), nodes[0].len()), (4, 0));
        assert!(nodes[1].contains(&live) && nodes[1] == nodes[3]);
        (nodes == [vec![], vec![live], vec![], vec![live]]).then_some(())
    })
    .await;
    store.leave(live, &channels[1], 2, 0).await.expect("left");
    assert_eq!(store.presence(&channels).await.expect("asked"), vec![vec![]; 4]);
    assert_eq!(store.presence(&[]).await.expect("asked"), Vec::<Vec<_>>::new());
}

pub(crate) async fn answers_are_kept_by_question_and_node(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (question, other) = (MessageId::generate(), MessageId::generate());
    assert_eq!(store.answers(question).await.expect("asked"), []);
    let (a, b) = (NodeId::generate(), NodeId::generate());
    let answers = [(question, a, "1"), (question, b, "2"), (other, a, "3"), (question, a, "4")];
    for (question, node, text) in answers {
        store.answer(question, node, text.into()).await.expect("answered");
    }
    let mut given = store.answers(question).await.expect("asked");
    given.sort();
    let mut expected = [(a, "4".into()), (b, "2".into())];
    expected.sort();
    assert_eq!(given, expected);
}

pub(crate) async fn a_turn_is_news_to_one_caller(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let alice = channel("alice");
    let turn = async |online| store.turn(&alice, online).await.expect("noted");
    assert!(!turn(true).await, "nobody is there");
    let (a, b) = (NodeId::generate(), NodeId::generate());
    store.join(&join(a, &alice, 1)).await.expect("joined");
    assert_eq!([turn(true).await, turn(true).await], [true, false]);
    store.join(&join(b, &alice, 1)).await.expect("joined");
    store.leave(a, &alice, 2, 0).await.expect("left");
    assert_eq!([turn(false).await, turn(true).await], [false, false], "another node has it");
    store.drop_routes(b, std::slice::from_ref(&alice)).await.expect("dropped");
    assert_eq!([turn(false).await, turn(false).await, turn(true).await], [true, false, false]);
    push(&*store, &alice, 1).await;
    store.join(&join(a, &alice, 3)).await.expect("joined");
    assert_eq!([turn(true).await, turn(false).await], [true, false]);
}

pub(crate) async fn watermarks_tell_what_was_received(backend: &dyn Backend) {
    let store = backend.open(Limits::default()).await;
    let (alice, bob) = (channel("alice"), channel("bob"));
    let epoch = push_many(&*store, &alice, 3).await;
    let channels = [bob, alice.clone()];
    let watermark = async || store.watermarks(&channels).await.expect("asked");
    assert_eq!(watermark().await, [None, Some(Position::new(epoch, 0))]);
    store.acknowledge(&[received(&alice, None, epoch, 2)]).await.expect("acknowledged");
    assert_eq!(watermark().await, [None, Some(Position::new(epoch, 2))]);
}
