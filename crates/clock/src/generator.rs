//! Makes a chunk's clock entries: ticks as they fall due, mixes as they come.

use quipu_types::chunk::{CLOCK_ENTRY_COUNT_MAX, TICKS_PER_ENTRY_MAX};
use quipu_types::{ClockEntry, Hash, Mix};

use crate::{Chain, mix_digest};

/// Entries of each chunk that ticks leave free for mixing.
pub const MIX_COUNT_MAX: usize = 256;

const _: () = assert!(MIX_COUNT_MAX * 2 < CLOCK_ENTRY_COUNT_MAX, "most entries are for ticks");

/// A lane's running clock.
///
/// ```
/// use quipu_clock::{Generator, verify};
/// use quipu_types::{Hash, Mix};
///
/// let (start, lane_root) = (Hash([7; 32]), Hash([9; 32]));
/// let mut clock = Generator::new(start);
/// clock.tick(10_000);
/// clock.mix(Mix::Batch, &lane_root);
/// let entries = clock.take();
/// assert_eq!(verify(start, &entries, &lane_root), Ok(clock.value()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generator {
    chain: Chain,
    /// Ticks since the last entry, below `TICKS_PER_ENTRY_MAX`.
    open: u64,
    entries: Vec<ClockEntry>,
}

impl Generator {
    /// A clock that stands at `value`: a term's start, or the last chunk's last value.
    #[must_use]
    pub const fn new(value: Hash) -> Self {
        Self { chain: Chain::new(value), open: 0, entries: Vec::new() }
    }

    /// Where the clock stands.
    #[must_use]
    pub const fn value(&self) -> Hash {
        self.chain.value()
    }

    /// Whether [`Generator::take`] would give nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0 && self.entries.is_empty()
    }

    /// How many ticks still fit this chunk.
    #[must_use]
    pub fn tick_room(&self) -> u64 {
        let used = self.entries.len().saturating_add(MIX_COUNT_MAX);
        let entries = CLOCK_ENTRY_COUNT_MAX.saturating_sub(used);
        let ticks = u64::try_from(entries).unwrap_or(u64::MAX).saturating_mul(TICKS_PER_ENTRY_MAX);
        ticks.saturating_sub(self.open)
    }

    /// Ticks `count` times, or as often as still fits this chunk; how often is returned.
    /// A checkpoint is written every `TICKS_PER_ENTRY_MAX` ticks.
    pub fn tick(&mut self, count: u64) -> u64 {
        let count = count.min(self.tick_room());
        let mut left = count;
        while left > 0 {
            let step = left.min(TICKS_PER_ENTRY_MAX.saturating_sub(self.open));
            self.chain.tick(step);
            self.open = self.open.saturating_add(step);
            left = left.saturating_sub(step);
            if self.open == TICKS_PER_ENTRY_MAX {
                self.push(Mix::Nothing);
            }
        }
        count
    }

    /// Mixes `mix` in. `lane_root` is the chunk's root, which [`Mix::Batch`] stands for.
    ///
    /// # Panics
    /// When the chunk's entries are used up: ticks leave [`MIX_COUNT_MAX`] of them, more than a chunk
    /// has lanes, headers, batches and votes to mix.
    pub fn mix(&mut self, mix: Mix, lane_root: &Hash) {
        if let Some(digest) = mix_digest(&mix, lane_root) {
            self.chain.mix(&digest);
            self.push(mix);
        } else if self.open > 0 {
            self.push(mix);
        }
    }

    /// The entries since the last call, for the chunk that is cut now; open ticks end in a checkpoint.
    #[must_use]
    pub fn take(&mut self) -> Vec<ClockEntry> {
        if self.open > 0 {
            self.push(Mix::Nothing);
        }
        std::mem::take(&mut self.entries)
    }

    fn push(&mut self, mix: Mix) {
        assert!(self.entries.len() < CLOCK_ENTRY_COUNT_MAX, "a chunk's clock entries are bounded");
        let count = std::mem::take(&mut self.open);
        self.entries.push(ClockEntry { count, mix, value: self.chain.value() });
    }
}
