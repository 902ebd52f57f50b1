//! What the process takes of its machine, under the names that every exporter
//! gives these.
//!
//! Read from `/proc`; where there is none everything but the start stays 0.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::Handles;

/// Kernels before 6.2 do not tell how many files are open: they are counted one
/// by one, and not each time.
const COUNT_FILES_EVERY: Duration = Duration::from_secs(15);
/// Linux tells processor time in these on every architecture of today.
const TICK: Duration = Duration::from_millis(10);

/// What has to be remembered between two looks.
#[derive(Default)]
pub(super) struct Process {
    counted: Option<(Instant, u64)>,
}

impl Process {
    /// Looks.
    pub(super) fn sample(&mut self, handles: &Handles) {
        if let Some(used) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu) {
            handles.process_cpu_seconds.absolute(used);
        }
        if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident) {
            handles.process_resident_memory_bytes.set(bytes as f64);
        }
        if let Some(files) = self.open_files() {
            handles.process_open_fds.set(files as f64);
        }
        if let Some(max) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(files_max) {
            handles.process_max_fds.set(max);
        }
    }

    fn open_files(&mut self) -> Option<u64> {
        let told = fs::metadata("/proc/self/fd").ok()?.len();
        if told > 0 {
            return Some(told);
        }
        let fresh = self.counted.filter(|(at, _)| at.elapsed() < COUNT_FILES_EVERY);
        let (at, files) = match fresh {
            Some(counted) => counted,
            None => (Instant::now(), fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        };
        self.counted = Some((at, files));
        Some(files)
    }
}

/// When this program began to count.
pub(super) fn start_time_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// User and system time.
fn cpu(stat: &str) -> Option<Duration> {
    // The name, in brackets, may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let (user, system): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(TICK * user + TICK * system)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

/// The soft limit; infinite when there is none.
fn files_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        max => max.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(resident("VmHWM:\t 9 kB\nVmRSS:\t   12 kB\n"), Some(12_288));
        let limits =
            "Limit   Soft   Hard   Units\nMax open files            1024                 4096 files\n";
        assert_eq!(files_max(limits), Some(1_024.0));
        assert_eq!(files_max(&limits.replace("1024", "unlimited")), Some(f64::INFINITY));
        for nonsense in ["", "7 (a", "VmRSS:", "Max open files"] {
            assert!(cpu(nonsense).is_none() && resident(nonsense).is_none() && files_max(nonsense).is_none());
        }
    }
}
