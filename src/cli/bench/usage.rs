//! What a process has cost so far, as `/proc` shows it.

use std::fs;

use serde::Serialize;

/// A process's costs at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    /// Processor time since it started, kernel included, of all threads alive.
    pub(super) cpu_ns: u64,
    /// Memory that is really there.
    pub(super) rss_bytes: u64,
}

/// Measures a process; none when it is gone or not ours to look at.
pub(super) fn of(pid: u32) -> Option<Usage> {
    Some(Usage { cpu_ns: cpu_ns(pid)?, rss_bytes: rss_bytes(pid)? })
}

/// Processor time of a process. The scheduler's own account has nanoseconds,
/// where `stat` counts ticks of ten milliseconds.
pub(super) fn cpu_ns(pid: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let sum: u64 = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    if sum > 0 { Some(sum) } else { ticks_ns(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?) }
}

/// Processor time from `stat`, for kernels that keep no scheduler statistics.
fn ticks_ns(stat: &str) -> Option<u64> {
    // The name, in brackets, may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // Every Linux of today counts a hundred ticks in a second here.
    Some((user + system) * 10_000_000)
}

/// Resident memory. `smaps_rollup` is exact; `status` may lag by some pages for
/// each processor.
fn rss_bytes(pid: u32) -> Option<u64> {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    exact
        .and_then(|text| kib(&text, "Rss:"))
        .or_else(|| kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:"))
        .map(|kib| kib * 1024)
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time of the whole machine that was not idle.
pub(super) fn machine_busy_ns() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq: all but idle and iowait.
    let busy: u64 = ticks.iter().take(7).sum::<u64>() - ticks.get(3)? - ticks.get(4)?;
    Some(busy * 10_000_000)
}

/// What the machine is, in a line.
pub(super) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    format!("{cores} cores, {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_a_process_own_costs() {
        let pid = std::process::id();
        let before = of(pid).expect("this process is there");
        let mut block = vec![0_u8; 32 << 20];
        let mut spent = before;
        while spent.cpu_ns < before.cpu_ns + 20_000_000 {
            block.iter_mut().for_each(|byte| *byte = byte.wrapping_add(std::hint::black_box(1)));
            spent = of(pid).expect("this process is there");
        }
        assert!(spent.rss_bytes > 32 << 20);
        assert_eq!(of(u32::MAX), None);
    }

    #[test]
    fn a_process_name_does_not_confuse_its_times() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 3 0 0 20 0 1 0 5 1 1";
        assert_eq!(ticks_ns(stat), Some(150_000_000));
    }
}
