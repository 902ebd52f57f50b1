//! One run: start, connect, warm up, measure, wait for the rest, account.

use std::net::SocketAddr;
use std::time::Duration;

use super::cluster::{Cluster, Plan};
use super::engine::{Engine, FIRST_PUBLISHER, Stop};
use super::figures::Figures;
use super::holders::Holders;
use super::load::{Load, Pace};
use super::names::Names;
use super::options::{Nodes, SPARE_FILES, Setup, Workload};
use super::payload::Template;
use super::progress::Progress;
use super::publisher::{Publisher, Round};
use super::receivers::{Doors, Receivers};
use super::report::{self, Measured, Moment};
use super::request::{Form, Request};
use super::signer::Signer;
use super::tally::Tally;
use super::usage;
use crate::cli::output::Failure;

/// How long sockets may take to be open, all of them.
pub(super) const JOINING_MAX_NS: u64 = 120_000_000_000;
/// Processes are quiet when they use less than this of a processor.
const QUIET_SHARE: f64 = 0.03;
const QUIET_LOOK_NS: u64 = 200_000_000;
const QUIET_MAX_NS: u64 = 15_000_000_000;
/// After the last delivery: time for a repetition to show.
const REPEATS_NS: u64 = 300_000_000;

/// What every run of one command has in common.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) setup: Setup,
    signer: Signer,
}

impl Run {
    pub(super) fn new(setup: Setup, files: u64) -> Result<Self, Failure> {
        let wanted = (setup.sockets + setup.publishers) as u64 + SPARE_FILES;
        if wanted > files && setup.workload != Workload::Idle {
            return Err(Failure::Usage(format!(
                "{} sockets need {wanted} open files, and one process may have {files}: use fewer --sockets, \
                 or raise the limit (ulimit -n); --idle connections are held by other processes",
                setup.sockets
            )));
        }
        let (nodes, on_all) = match &setup.nodes {
            Nodes::Given(nodes) => (nodes.len(), false),
            Nodes::Start { count, .. } => (*count, true),
        };
        let each = most_on_one_node(&setup, nodes) as u64 + SPARE_FILES;
        if on_all && each > files {
            return Err(Failure::Usage(format!(
                "a node that is started here may have {files} open files, and would need {each}: spread the \
                 connections over more --nodes, or raise the limit (ulimit -n)"
            )));
        }
        let signer = Signer::new(setup.jwt_secret_file.as_deref())?;
        Ok(Self { setup, signer })
    }

    /// One run: its figures, and what went wrong with its messages.
    pub(super) fn once(&self, number: usize, stop: &Stop) -> Result<(Figures, Option<String>), Failure> {
        let mut progress = Progress::new();
        progress.write(&format!("run {number} of {}: starting", self.setup.repeat));
        let cluster = self.cluster()?;
        let result = self.measure(&cluster, &mut progress, stop);
        progress.end();
        let measured = result?;
        Ok((report::figures(&self.setup, &cluster, &measured), report::fault(&measured)))
    }

    fn cluster(&self) -> Result<Cluster, Failure> {
        match &self.setup.nodes {
            Nodes::Given(nodes) => Ok(Cluster::given(nodes.clone(), self.setup.watched.clone())),
            Nodes::Start { count, meeting, args } => {
                let plan = Plan {
                    nodes: *count,
                    meeting: meeting.clone(),
                    sockets: most_on_one_node(&self.setup, *count),
                    args: args.clone(),
                };
                let mut cluster = Cluster::start(&plan)?;
                cluster.watched.extend(self.setup.watched.iter().cloned());
                Ok(cluster)
            }
        }
    }

    fn measure(&self, cluster: &Cluster, progress: &mut Progress, stop: &Stop) -> Result<Measured, Failure> {
        let setup = &self.setup;
        let names = Names::fresh();
        let elsewhere = if setup.workload == Workload::Idle { setup.sockets } else { setup.idle };
        let mut engine = self.engine(cluster, &names, stop)?;
        wait_until_quiet(&mut engine, cluster, progress)?;

        let fresh = moment(cluster, &engine, 0);
        progress.phase("connecting", &engine);
        let jwt_secret_file = setup.jwt_secret_file.as_deref();
        let holders = Holders::start(elsewhere, &cluster.nodes, &names, jwt_secret_file)?;
        engine.tally.timing.open_window(engine.clock.now_ns());
        engine.join_all();
        let deadline = engine.clock.now_ns() + JOINING_MAX_NS;
        engine.run(deadline, |engine| {
            progress.look(engine);
            engine.all_joined()
        })?;
        self.expect_joined(&engine)?;
        let joined_ns = engine.clock.now_ns();
        wait_until_quiet(&mut engine, cluster, progress)?;
        let settled = moment(cluster, &engine, holders.cpu_ns());

        let (mut begun, mut ended) = (settled.clone(), settled.clone());
        if setup.workload != Workload::Connect {
            self.load(&mut engine, progress)?;
            engine.tally.timing.open_window(engine.clock.now_ns());
            begun = moment(cluster, &engine, holders.cpu_ns());
            progress.phase("measuring", &engine);
            run_for(&mut engine, setup.seconds, progress)?;
            engine.tally.timing.close_window(engine.clock.now_ns());
            ended = moment(cluster, &engine, holders.cpu_ns());
        }
        self.drain(&mut engine, progress)?;
        Ok(Measured { engine, fresh, settled, joined_ns, begun, ended })
    }

    fn engine(&self, cluster: &Cluster, names: &Names, stop: &Stop) -> Result<Engine, Failure> {
        let setup = &self.setup;
        let template = Template::new(setup.payload_bytes);
        let sockets = if setup.workload == Workload::Idle { 0 } else { setup.sockets };
        let shared = setup.audience.is_shared();
        let doors = Doors {
            nodes: socket_nodes(setup.workload, &cluster.nodes),
            client: setup.client,
            names: names.clone(),
            first_user: 0,
            audience: setup.audience,
            source: None,
            signer: self.signer.clone(),
        };
        let streams = if shared { setup.publishers } else { setup.sockets };
        let tally = Tally::new(template.clone(), streams, sockets, shared);
        let form = Form {
            host: cluster.nodes[0].to_string(),
            kind: setup.audience.kind(),
            api_key: setup.api_key.clone(),
            batch: setup.batch,
            ttl: setup.ttl,
            push_path: setup.push_path.clone(),
        };
        let publisher = |at: usize| {
            let round = Round {
                first: at as u32,
                step: setup.publishers as u32,
                users: sockets as u32,
                next: at as u32,
                shared_stream: shared.then_some(at as u32),
            };
            Publisher::new(Request::new(&form, names, &template), round)
        };
        let publishers =
            if setup.workload.pushes() { (0..setup.publishers).map(publisher).collect() } else { Vec::new() };
        let pace = match setup.rate {
            Some(rate) => Pace::Paced { interval_ns: (setup.batch.unwrap_or(1) as f64 * 1e9 / rate) as u64 },
            None => Pace::Saturated { window: setup.window * tally.sockets_each() },
        };
        let load = Load::new(cluster.nodes[0], FIRST_PUBLISHER, publishers, pace);
        Engine::new(Receivers::new(doors, sockets), load, tally, setup.connecting, stop.clone())
            .map_err(|error| Failure::Failed(format!("failed to start: {error}")))
    }

    fn expect_joined(&self, engine: &Engine) -> Result<(), Failure> {
        if engine.all_joined() {
            return Ok(());
        }
        let ends: Vec<_> =
            engine.ends.iter().map(|(what, times)| format!("{what} ({times} times)")).collect();
        Err(Failure::Failed(format!(
            "only {} of {} sockets could be opened: {}; nodes need --auth none, or --jwt-secret-file",
            engine.receivers.open(),
            self.setup.sockets,
            if ends.is_empty() { "the node is too slow".to_owned() } else { ends.join(", ") }
        )))
    }

    /// Begins to push, and runs until what is measured is warm.
    fn load(&self, engine: &mut Engine, progress: &mut Progress) -> Result<(), Failure> {
        let registry = engine.registry().map_err(|error| Failure::Failed(error.to_string()))?;
        engine
            .load
            .connect(&registry)
            .map_err(|error| Failure::Unreachable(format!("failed to connect to the first node: {error}")))?;
        if engine.load.len() > 0 {
            engine.load.begin(engine.clock.now_ns());
        }
        // From here on a socket that ends is a finding, not a hindrance.
        engine.rejoining = self.setup.churn.is_some();
        if let Some(per_second) = self.setup.churn {
            engine.churn(per_second);
        }
        progress.phase("warming up", engine);
        run_for(engine, self.setup.warm_up, progress)?;
        let counts = engine.load.counts;
        match engine.load.last_refusal() {
            Some(refusal) if counts.refused == counts.sent => {
                Err(Failure::Failed(format!("every push was refused: {refusal}")))
            }
            _ => Ok(()),
        }
    }

    /// Waits for what was accepted and has not arrived.
    fn drain(&self, engine: &mut Engine, progress: &mut Progress) -> Result<(), Failure> {
        if engine.load.len() == 0 {
            return Ok(());
        }
        engine.load.end();
        engine.end_churn();
        progress.phase("waiting for the rest", engine);
        let deadline = engine.clock.now_ns() + (self.setup.settle * 1e9) as u64;
        engine.run(deadline, |engine| {
            progress.look(engine);
            engine.load.is_idle() && engine.load.outstanding(&engine.tally) == 0
        })?;
        engine.run(engine.clock.now_ns() + REPEATS_NS, |_| false)
    }
}

fn run_for(engine: &mut Engine, seconds: f64, progress: &mut Progress) -> Result<(), Failure> {
    let until_ns = engine.clock.now_ns() + (seconds * 1e9) as u64;
    engine.run(until_ns, |engine| {
        progress.look(engine);
        false
    })
}

/// What is asked of a node may go on behind the answer: a session's directory
/// entry is written after its 101.
fn wait_until_quiet(engine: &mut Engine, cluster: &Cluster, progress: &mut Progress) -> Result<(), Failure> {
    let until_ns = engine.clock.now_ns() + QUIET_MAX_NS;
    progress.phase("waiting until the nodes are quiet", engine);
    while engine.clock.now_ns() < until_ns {
        let (cpu_ns, at_ns) = (cluster.cpu_ns(), engine.clock.now_ns());
        run_for(engine, Duration::from_nanos(QUIET_LOOK_NS).as_secs_f64(), progress)?;
        let spent = cluster.cpu_ns().saturating_sub(cpu_ns) as f64;
        let share = spent / (engine.clock.now_ns() - at_ns) as f64 / cluster.watched.len().max(1) as f64;
        if share < QUIET_SHARE {
            break;
        }
    }
    Ok(())
}

fn moment(cluster: &Cluster, engine: &Engine, holders_cpu_ns: u64) -> Moment {
    let own = usage::of(std::process::id()).unwrap_or_default();
    Moment {
        at_ns: engine.clock.now_ns(),
        watched: cluster.usage(),
        bench_cpu_ns: own.cpu_ns + holders_cpu_ns,
        machine_busy_ns: usage::machine_busy_ns().unwrap_or(0),
    }
}

/// The nodes that a workload's sockets are on.
fn socket_nodes(workload: Workload, nodes: &[SocketAddr]) -> Vec<SocketAddr> {
    match workload {
        Workload::Unicast | Workload::Batch => vec![nodes[nodes.len().min(2) - 1]],
        Workload::Fanout => nodes[..nodes.len().min(2)].to_vec(),
        Workload::Idle | Workload::Connect | Workload::Mixed | Workload::Hold => nodes.to_vec(),
    }
}

fn most_on_one_node(setup: &Setup, nodes: usize) -> usize {
    let on_two = nodes.min(2);
    let own = match setup.workload {
        Workload::Unicast | Workload::Batch => setup.sockets,
        Workload::Fanout => setup.sockets.div_ceil(on_two),
        // A node that is away for a moment sends its sockets to the others.
        Workload::Mixed => setup.sockets,
        Workload::Idle | Workload::Connect | Workload::Hold => setup.sockets.div_ceil(nodes),
    };
    own + setup.idle.div_ceil(nodes) + setup.publishers
}
