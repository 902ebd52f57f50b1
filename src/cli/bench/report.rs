//! What is told of a run.

use serde_json::{Value, json};

use super::cluster::{Cluster, Meeting};
use super::engine::Engine;
use super::figures::{Figures, grouped};
use super::options::{Nodes, Setup, Workload};
use super::receivers::{Audience, Client};
use super::usage::{self, Usage};

/// Nodes that are told of one by one; the rest as one.
const NODES_SHOWN: usize = 4;

/// What everything had cost at one moment.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) at_ns: u64,
    /// In the cluster's order.
    pub(super) watched: Vec<Usage>,
    pub(super) bench_cpu_ns: u64,
    pub(super) machine_busy_ns: u64,
}

/// A run that is over.
pub(super) struct Measured {
    pub(super) engine: Engine,
    /// Before the first socket, with all open and quiet, and around the window.
    pub(super) fresh: Moment,
    pub(super) settled: Moment,
    /// When the last socket was open.
    pub(super) joined_ns: u64,
    pub(super) begun: Moment,
    pub(super) ended: Moment,
}

/// Costs of one process between two moments, in microseconds.
#[derive(Debug)]
struct Cost {
    name: String,
    us: f64,
}

/// What every process spent between two moments: nodes beyond the first few as
/// one, all nodes together, Redis and whatever else, and the bench itself.
fn costs(cluster: &Cluster, from: &Moment, to: &Moment) -> Vec<Cost> {
    let spent = |at: usize| (to.watched[at].cpu_ns.saturating_sub(from.watched[at].cpu_ns)) as f64 / 1e3;
    let (mut costs, mut others, mut nodes, mut rest) = (Vec::new(), 0.0, 0.0, Vec::new());
    let mut count = 0;
    for (at, watched) in cluster.watched.iter().enumerate() {
        let us = spent(at);
        if !watched.name.starts_with("node") {
            rest.push(Cost { name: watched.name.clone(), us });
            continue;
        }
        count += 1;
        nodes += us;
        if count <= NODES_SHOWN {
            costs.push(Cost { name: watched.name.clone(), us });
        } else {
            others += us;
        }
    }
    if count > NODES_SHOWN {
        costs.push(Cost { name: "other nodes".to_owned(), us: others });
    }
    if count > 1 {
        costs.push(Cost { name: "nodes together".to_owned(), us: nodes });
    }
    costs.extend(rest);
    costs.push(Cost { name: "bench".to_owned(), us: (to.bench_cpu_ns - from.bench_cpu_ns) as f64 / 1e3 });
    costs
}

fn key_of(name: &str) -> String {
    name.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The figures of a run.
pub(super) fn figures(setup: &Setup, cluster: &Cluster, measured: &Measured) -> Figures {
    let mut figures = Figures::default();
    match setup.workload {
        Workload::Connect => connecting(setup, cluster, measured, &mut figures),
        Workload::Idle => idling(setup, cluster, measured, &mut figures),
        _ => pushing(setup, cluster, measured, &mut figures),
    }
    if matches!(setup.workload, Workload::Connect | Workload::Idle) {
        weight(setup, cluster, measured, &mut figures);
    } else {
        for (at, watched) in cluster.watched.iter().enumerate().take(NODES_SHOWN) {
            let mib = measured.ended.watched[at].rss_bytes as f64 / (1 << 20) as f64;
            figures.put(
                &format!("rss_mib.{}", key_of(&watched.name)),
                &format!("RSS MiB: {}", watched.name),
                mib,
                1,
            );
        }
    }
    let (from, to) = match setup.workload {
        Workload::Connect => (&measured.fresh, &measured.settled),
        _ => (&measured.begun, &measured.ended),
    };
    let seconds = (to.at_ns - from.at_ns) as f64 / 1e9;
    let watched: u64 =
        from.watched.iter().zip(&to.watched).map(|(from, to)| to.cpu_ns.saturating_sub(from.cpu_ns)).sum();
    let ours = watched + (to.bench_cpu_ns - from.bench_cpu_ns);
    let machine = to.machine_busy_ns.saturating_sub(from.machine_busy_ns);
    figures.put("cores.ours", "processors busy with this", ours as f64 / 1e9 / seconds, 2);
    let elsewhere = machine.saturating_sub(ours) as f64 / 1e9 / seconds;
    figures.put("cores.elsewhere", "processors busy with other things", elsewhere, 2);
    figures
}

fn pushing(setup: &Setup, cluster: &Cluster, measured: &Measured, figures: &mut Figures) {
    let Measured { engine, begun, ended, .. } = measured;
    let (timing, counts, load) = (&engine.tally.timing, engine.tally.counts, engine.load.counts);
    let seconds = (ended.at_ns - begun.at_ns) as f64 / 1e9;
    figures.put("pushes_per_second", "accepted messages per second", timing.accepted as f64 / seconds, 0);
    figures.put("deliveries_per_second", "deliveries per second", timing.delivered as f64 / seconds, 0);
    for (name, latencies) in
        [("delivery", &timing.delivery), ("answer", &timing.answer), ("connect", &timing.join)]
    {
        if name == "connect" && (setup.workload != Workload::Mixed || latencies.len() == 0) {
            continue;
        }
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            let key = format!("{name}_ms.{}", label.replace('.', "_"));
            figures.put(&key, &format!("{name} ms {label}"), latencies.ms(quantile), 3);
        }
    }
    // A batch's messages are counted as they are pushed, others as they arrive.
    let (unit, number) = match setup.workload {
        Workload::Batch => ("message", timing.accepted),
        _ => ("delivery", timing.delivered),
    };
    for Cost { name, us } in costs(cluster, begun, ended) {
        let key = format!("cpu_us_per_{unit}.{}", key_of(&name));
        figures.put(&key, &format!("CPU µs per {unit}: {name}"), us / number.max(1) as f64, 2);
    }
    figures.count("delivered", "delivered, in all", counts.delivered);
    figures.count("lost", "lost", engine.tally.lost());
    figures.count("repeated", "repeated", counts.repeated);
    figures.count("out_of_order", "out of order", counts.out_of_order);
    figures.count("orders_that_differ", "sockets that saw another order", engine.tally.orders_that_differ());
    figures.count("misrouted", "misrouted or damaged", counts.misrouted + counts.damaged);
    figures.count("gaps", "gaps told", counts.gaps);
    figures.count("refused", "pushes refused", load.refused);
    figures.count("unanswered", "pushes unanswered", load.unanswered);
    figures.count("unsent", "pushes due and not sent", load.unsent);
    figures.count("stalls", "times that deliveries stood still", load.stalls);
    figures.count("ends", "sockets that ended by themselves", engine.ends.values().sum());
    if setup.workload == Workload::Mixed {
        figures.count("reconnects", "sockets sent away and back", engine.reconnects);
    }
}

fn connecting(setup: &Setup, cluster: &Cluster, measured: &Measured, figures: &mut Figures) {
    let Measured { engine, fresh, settled, joined_ns, .. } = measured;
    let seconds = (joined_ns - fresh.at_ns) as f64 / 1e9;
    figures.put("connects_per_second", "connects per second", setup.sockets as f64 / seconds, 0);
    for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let key = format!("connect_ms.{label}");
        figures.put(&key, &format!("connect ms {label}"), engine.tally.timing.join.ms(quantile), 3);
    }
    for Cost { name, us } in costs(cluster, fresh, settled) {
        let key = format!("cpu_us_per_connect.{}", key_of(&name));
        figures.put(&key, &format!("CPU µs per connect: {name}"), us / setup.sockets as f64, 2);
    }
    figures.count("ends", "connects that failed and were repeated", engine.ends.values().sum());
}

fn idling(setup: &Setup, cluster: &Cluster, measured: &Measured, figures: &mut Figures) {
    let Measured { begun, ended, .. } = measured;
    let seconds = (ended.at_ns - begun.at_ns) as f64 / 1e9;
    for Cost { name, us } in costs(cluster, begun, ended) {
        let key = format!("cpu_us_per_connection_second.{}", key_of(&name));
        let each = us / setup.sockets as f64 / seconds;
        figures.put(&key, &format!("CPU µs per connection and second: {name}"), each, 3);
    }
}

/// What connections weigh, on nodes that do nothing but hold them.
fn weight(setup: &Setup, cluster: &Cluster, measured: &Measured, figures: &mut Figures) {
    let each = (setup.sockets + setup.idle) as f64 / cluster.nodes.len() as f64;
    for (at, watched) in cluster.watched.iter().enumerate() {
        let (before, after) = (measured.fresh.watched[at].rss_bytes, measured.settled.watched[at].rss_bytes);
        let number = if watched.name.starts_with("node") { each } else { each * cluster.nodes.len() as f64 };
        let kib = after.saturating_sub(before) as f64 / 1024.0 / number.max(1.0);
        let (key, name) = (key_of(&watched.name), &watched.name);
        figures.put(
            &format!("rss_kib_per_connection.{key}"),
            &format!("RSS KiB per connection: {name}"),
            kib,
            2,
        );
        let mib = after as f64 / (1 << 20) as f64;
        figures.put(&format!("rss_mib.{key}"), &format!("RSS MiB: {name}"), mib, 1);
    }
}

/// What is wrong with the messages of a run, if anything is.
pub(super) fn fault(measured: &Measured) -> Option<String> {
    let tally = &measured.engine.tally;
    let counts = tally.counts;
    let faults = [
        ("lost", tally.lost()),
        ("repeated", counts.repeated),
        ("out of order", counts.out_of_order),
        ("misrouted", counts.misrouted),
        ("damaged", counts.damaged),
        ("seen in another order by other sockets", tally.orders_that_differ()),
    ];
    let found: Vec<String> = faults
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(what, number)| format!("{number} {what}"))
        .collect();
    let ends: Vec<String> =
        measured.engine.ends.iter().map(|(what, times)| format!("{what} ({times})")).collect();
    let why = if ends.is_empty() { String::new() } else { format!("; sockets ended: {}", ends.join(", ")) };
    (!found.is_empty()).then(|| format!("messages were {}{why}", found.join(", ")))
}

/// A run's conditions, for programs.
pub(super) fn conditions(setup: &Setup) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "optimized": !cfg!(debug_assertions),
        "machine": usage::machine(),
        "sockets": setup.sockets,
        "publishers": setup.publishers,
        "rate": setup.rate,
        "window": setup.window,
        "payload_bytes": setup.payload_bytes,
        "batch": setup.batch,
        "churn": setup.churn,
        "client": client(setup),
        "topic": setup.audience == Audience::Topic,
        "ttl": setup.ttl,
        "idle": setup.idle,
        "seconds": setup.seconds,
        "warm_up_seconds": setup.warm_up,
        "nodes": nodes(setup),
    })
}

fn client(setup: &Setup) -> &'static str {
    match setup.client {
        Client::Plain => "plain",
        Client::Device => "device",
        Client::Envelope => "envelope",
    }
}

fn nodes(setup: &Setup) -> String {
    match &setup.nodes {
        Nodes::Given(nodes) => format!("{} given", nodes.len()),
        Nodes::Start { count, meeting, args } => {
            let meeting = match meeting {
                Meeting::Memory => "own memory".to_owned(),
                Meeting::Redis(_) => "a Redis that was given".to_owned(),
                Meeting::PrivateRedis { appendfsync } => {
                    format!("private redis, append-only file {appendfsync}")
                }
            };
            let args = if args.is_empty() { String::new() } else { format!(" ({})", args.join(" ")) };
            format!("{count} started{args}, {meeting}")
        }
    }
}

/// A run's conditions, for people.
pub(super) fn headline(setup: &Setup) -> String {
    let mut text =
        format!("{}: {} {} sockets", setup.workload.name(), grouped(setup.sockets as f64, 0), client(setup));
    if setup.audience == Audience::Topic {
        text += " that follow one topic";
    }
    if setup.idle > 0 {
        text += &format!(" and {} idle ones", grouped(setup.idle as f64, 0));
    }
    if setup.workload.pushes() {
        let pace = match setup.rate {
            Some(rate) => format!("{} messages/s", grouped(rate, 0)),
            None => format!("saturated (window {})", grouped(setup.window as f64, 0)),
        };
        text += &format!(
            ", {} pushing connections, {}-byte payloads, {pace}",
            setup.publishers, setup.payload_bytes
        );
    }
    let slow = if cfg!(debug_assertions) { "; NOT OPTIMIZED: build with --release" } else { "" };
    format!(
        "{text}; nodes: {}; {} s after {} s of warm-up; {}{slow}",
        nodes(setup),
        setup.seconds,
        setup.warm_up,
        usage::machine()
    )
}
