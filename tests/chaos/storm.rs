//! One storm from its beginning to its judgement.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::aftermath;
use crate::harness::PATIENCE;
use crate::model::{Client, Model};
use crate::receivers::Receiver;
use crate::schedule::{self, Event};
use crate::senders::{ALL, CHANNELS, Sender, USERS};
use crate::stage::Stage;

const SENDERS_OF_USER: usize = 2;
/// Each user's devices.
const DEVICES: [Client; 7] = [
    Client::Resuming,
    Client::Resuming,
    Client::Named,
    Client::PlainDevice,
    Client::PlainDevice,
    Client::Events,
    Client::Nameless,
];
/// Those of each topic: a session that begins now must have been heard to begin,
/// which a plain device is not.
const LISTENERS: [Client; 7] = [
    Client::Resuming,
    Client::Resuming,
    Client::Named,
    Client::Named,
    Client::Events,
    Client::Nameless,
    Client::Nameless,
];
/// About a hundred pushes a second in all.
const INTERVAL: Duration = Duration::from_millis(240);
/// What is sent to everyone is as many deliveries as there are clients.
const INTERVAL_OF_ALL: Duration = Duration::from_millis(1_000);
/// How long everything may take to arrive once nothing goes wrong any more.
const CALM_MAX: Duration = Duration::from_secs(30);

/// Runs one storm and prints seed, schedule and counts.
///
/// # Panics
/// When any promise was broken.
pub async fn run(seed: u64, length: Duration) {
    let events = schedule::draw(seed, length);
    println!("chaos: seed {seed}, {length:?}, {} troubles", events.len());
    for event in &events {
        println!("  {event}");
    }
    let stage = Stage::start().await;
    let model = Arc::new(Model::new());
    let (quiet, closing) = (CancellationToken::new(), CancellationToken::new());
    let mut receivers = start_receivers(&stage, &model, seed, &closing).await;
    let mut senders = start_senders(&stage, &model, seed, &quiet);
    let begun = Instant::now();
    rage(&stage, &events, begun, length).await;

    stage.all_ready().await;
    quiet.cancel();
    while let Some(sender) = senders.join_next().await {
        sender.expect("a sender does not panic");
    }
    let calm = Instant::now();
    let missing = arrival(&model).await;
    println!("  everything had arrived {:.1} s after the last push", calm.elapsed().as_secs_f64());
    if missing == 0 {
        let redis = stage.redis().lock().await;
        let store = aftermath::open(&redis).await;
        aftermath::check_nodes(&redis, &store, &model).await;
        join_all(
            (0..CHANNELS)
                .map(|user| sender(&stage, &model, seed, CHANNELS * SENDERS_OF_USER + user).last_word()),
        )
        .await;
        arrival(&model).await;
        aftermath::check_channels(&store, &model, CHANNELS).await;
        aftermath::audit(&redis, &model, CHANNELS).await;
    }
    closing.cancel();
    while let Some(receiver) = receivers.join_next().await {
        receiver.expect("a receiver does not panic");
    }
    model.judge();
    verdict(&stage, &model, seed, events.len()).await;
}

async fn start_receivers(
    stage: &Stage,
    model: &Arc<Model>,
    seed: u64,
    closing: &CancellationToken,
) -> JoinSet<()> {
    let mut receivers = JoinSet::new();
    let connected = Arc::new(Semaphore::new(0));
    for user in 0..ALL {
        let clients = if user < USERS { DEVICES } else { LISTENERS };
        for (at, client) in clients.into_iter().enumerate() {
            let receiver = Receiver {
                model: Arc::clone(model),
                client,
                user,
                addresses: stage.addresses(),
                seed,
                restless: at % 2 == 1,
            };
            receivers.spawn(receiver.run(closing.clone(), Arc::clone(&connected)));
        }
    }
    let all = u32::try_from(receivers.len()).expect("few");
    let permits = tokio::time::timeout(PATIENCE, connected.acquire_many(all)).await;
    drop(permits.expect("every client connects while all is well").expect("the semaphore stays open"));
    receivers
}

fn start_senders(stage: &Stage, model: &Arc<Model>, seed: u64, quiet: &CancellationToken) -> JoinSet<()> {
    let mut senders = JoinSet::new();
    for number in 0..CHANNELS * SENDERS_OF_USER {
        senders.spawn(sender(stage, model, seed, number).run(quiet.clone()));
    }
    senders
}

fn sender(stage: &Stage, model: &Arc<Model>, seed: u64, number: usize) -> Sender {
    let (model, addresses) = (Arc::clone(model), stage.addresses());
    let user = number % CHANNELS;
    let interval = if user == ALL { INTERVAL_OF_ALL } else { INTERVAL };
    Sender { model, number, user, addresses, seed, interval }
}

/// Lets the troubles come, each at its time, and waits until all are over.
async fn rage(stage: &Stage, events: &[Event], begun: Instant, length: Duration) {
    let troubles = events.iter().map(|event| async move {
        sleep_until(begun + event.at).await;
        stage.suffer(event.trouble).await;
    });
    join_all(troubles).await;
    sleep_until(begun + length).await;
}

/// Waits until nobody misses anything; how much is missing when patience ends.
async fn arrival(model: &Model) -> usize {
    let deadline = Instant::now() + CALM_MAX;
    loop {
        let (missing, _) = model.missing();
        if missing == 0 || Instant::now() > deadline {
            return missing;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn verdict(stage: &Stage, model: &Model, seed: u64, troubles: usize) {
    let counts = model.counts();
    let logs = stage.logs().await;
    let said = |text: &str| logs.iter().map(|log| log.matches(text).count()).sum::<usize>();
    let (complaints, complained) = model.complaints();
    println!(
        "summary: seed {seed}, {troubles} troubles, {} inheritances, {} fencings, {} entries lost on purpose, {counts}: \
         {complained} complaints",
        said("inherited the stream of a dead node"),
        said("rejoins under a new id"),
        stage.lost_entries(),
    );
    if complained > 0 {
        let folder = std::env::temp_dir().join(format!("postrider-chaos-{seed}"));
        std::fs::create_dir_all(&folder).expect("the folder is created");
        for (node, log) in logs.iter().enumerate() {
            std::fs::write(folder.join(format!("node{node}.log")), log).expect("the log is written");
        }
        panic!(
            "seed {seed}: {complained} complaints (logs in {}), the first of them:\n{}",
            folder.display(),
            complaints.join("\n")
        );
    }
}
