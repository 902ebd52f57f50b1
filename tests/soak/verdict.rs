//! What the samples of a soak say: whether anything grew that should not have.

use std::time::Duration;

/// What was found at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// By node.
    pub(crate) nodes: Vec<NodeSample>,
    /// The worst of hundred deliveries since the sample before.
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
    pub(crate) delivered: u64,
    /// Processor time used since then by all that belongs to the soak, of all there is.
    pub(crate) processor: f64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NodeSample {
    pub(crate) memory_kib: u64,
    pub(crate) files: u64,
    pub(crate) tasks: u64,
    pub(crate) sessions: u64,
}

/// A node before any client came, and after the last had left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet {
    pub(crate) before: NodeSample,
    pub(crate) after: NodeSample,
}

/// Growth of memory, from the first to the last quarter, that is no leak: caches
/// and the allocator's own store settle slowly.
const MEMORY_SHARE_MAX: f64 = 0.05;
const MEMORY_KIB_MAX: f64 = 6.0 * 1_024.0;
/// A node's own connections to Redis, a scrape: they come and go.
const FILES_MAX: u64 = 4;
const TASKS_MAX: u64 = 4;
/// What p99 may differ by without a reason: other processes share the processors.
const P99_TIMES_MAX: f64 = 1.5;
const P99_MORE_MAX: Duration = Duration::from_millis(5);

/// Everything that is wrong. `samples` begin after the warm-up.
pub(crate) fn complaints(samples: &[Sample], quiet: &[Quiet]) -> Vec<String> {
    let mut complaints = Vec::new();
    if samples.len() < 8 {
        complaints.push(format!("{} samples are too few to judge by: soak longer", samples.len()));
        return complaints;
    }
    let quarter = samples.len() / 4;
    let (first, last) = (&samples[..quarter], &samples[samples.len() - quarter..]);
    for (node, quiet) in quiet.iter().enumerate() {
        let of = |part: &[Sample], what: fn(&NodeSample) -> u64| {
            median(part.iter().map(|sample| what(&sample.nodes[node]) as f64).collect())
        };
        let (was, is) = (of(first, |node| node.memory_kib), of(last, |node| node.memory_kib));
        if is > was * (1.0 + MEMORY_SHARE_MAX) + MEMORY_KIB_MAX {
            complaints.push(format!("node {node}: memory grew from {was} to {is} KiB"));
        }
        let (before, after) = (quiet.before, quiet.after);
        for (what, before, after, more_max) in
            [("files", before.files, after.files, FILES_MAX), ("tasks", before.tasks, after.tasks, TASKS_MAX)]
        {
            if after > before + more_max {
                complaints
                    .push(format!("node {node}: {after} {what} when everybody had left, {before} at first"));
            }
        }
        if after.sessions > 0 {
            complaints.push(format!("node {node}: {} sessions when everybody had left", after.sessions));
        }
    }
    let p99 = |part: &[Sample]| median(part.iter().map(|sample| sample.p99.as_secs_f64()).collect());
    let (was, is) = (p99(first), p99(last));
    if is > was * P99_TIMES_MAX + P99_MORE_MAX.as_secs_f64() {
        complaints.push(format!("p99 drifted from {:.1} to {:.1} ms", was * 1e3, is * 1e3));
    }
    if samples.iter().any(|sample| sample.delivered == 0) {
        complaints.push("nothing was delivered between two samples".to_owned());
    }
    complaints
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn steady() -> (Vec<Sample>, Vec<Quiet>) {
    let node = NodeSample { memory_kib: 60_000, files: 500, tasks: 800, sessions: 400 };
    let sample = |n: u64| Sample {
        nodes: vec![NodeSample { memory_kib: 60_000 + n % 7 * 300, ..node }; 2],
        p99: Duration::from_micros(4_000 + n % 5 * 700),
        max: Duration::from_millis(50),
        delivered: 1_000,
        processor: 0.6,
    };
    let idle = NodeSample { memory_kib: 30_000, files: 20, tasks: 12, sessions: 0 };
    ((0..40).map(sample).collect(), vec![Quiet { before: idle, after: idle }; 2])
}

fn complaint(change: impl FnOnce(&mut Vec<Sample>, &mut Vec<Quiet>)) -> String {
    let (mut samples, mut quiet) = steady();
    change(&mut samples, &mut quiet);
    complaints(&samples, &quiet).join("; ")
}

#[test]
fn a_steady_soak_passes() {
    assert_eq!(complaint(|_, _| {}), "");
}

#[test]
fn what_grows_is_named() {
    let found = complaint(|samples, _| {
        for (n, sample) in samples.iter_mut().enumerate() {
            sample.nodes[1].memory_kib += n as u64 * 400;
        }
    });
    assert!(found.starts_with("node 1: memory grew from"), "{found}");
    let found = complaint(|_, quiet| quiet[0].after.files = 30);
    assert_eq!(found, "node 0: 30 files when everybody had left, 20 at first");
    let found = complaint(|_, quiet| quiet[1].after.tasks = 20);
    assert_eq!(found, "node 1: 20 tasks when everybody had left, 12 at first");
    let found = complaint(|_, quiet| quiet[1].after.sessions = 1);
    assert_eq!(found, "node 1: 1 sessions when everybody had left");
    let found = complaint(|samples, _| samples[30..].iter_mut().for_each(|sample| sample.p99 *= 4));
    assert!(found.starts_with("p99 drifted from"), "{found}");
    let found = complaint(|samples, _| samples[20].delivered = 0);
    assert_eq!(found, "nothing was delivered between two samples");
    let found = complaint(|samples, _| samples.truncate(7));
    assert!(found.contains("too few"), "{found}");
}
