//! What all of `quipu bench` measures with: rates, percentiles, the memory of processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often memory is read.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

/// Watches the anonymous memory of processes until it is dropped.
pub(crate) struct Memory {
    /// Most bytes of each.
    maxima: Arc<Vec<AtomicU64>>,
    watching: tokio::task::JoinHandle<()>,
}

impl Memory {
    /// Begins to watch.
    pub(crate) fn watch(pids: &[u32]) -> Self {
        let maxima: Arc<Vec<AtomicU64>> =
            Arc::new(pids.iter().map(|_| AtomicU64::new(0)).collect());
        let (pids, seen) = (pids.to_vec(), Arc::clone(&maxima));
        let watching = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(MEMORY_INTERVAL);
            loop {
                ticks.tick().await;
                for (pid, most) in pids.iter().zip(seen.iter()) {
                    most.fetch_max(anonymous_memory(*pid), Ordering::Relaxed);
                }
            }
        });
        Self { maxima, watching }
    }

    /// The most that each had.
    pub(crate) fn maxima(&self) -> Vec<u64> {
        self.maxima.iter().map(|most| most.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// `RssAnon` of a process, in bytes; 0 when it can not be read.
pub(crate) fn anonymous_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1_024)
}

/// A rate.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a rate of far less than 2^53"
)]
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// The smallest value that so many of a hundred do not exceed.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let index = sorted.len().saturating_sub(1).saturating_mul(percent) / 100;
    sorted.get(index).copied().unwrap_or(0)
}
