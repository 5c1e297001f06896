//! Makes a chunk's clock entries: ticks as they fall due, mixes as they come.
//!
//! ```text
//!  Generator::tick                       ticks made here, on the caller's thread
//!  Generator::base ─> Run::tick … ─> Generator::take_run      ticks made on a thread of their own, taken over when asked
//! ```
//! A [`Run`] is the chain from one entry on. What a mix overtook is lost, so a run is taken over just before one.

use quipu_types::chunk::{CLOCK_ENTRY_COUNT_MAX, TICKS_PER_ENTRY_MAX};
use quipu_types::{ClockEntry, Hash, Mix};

use crate::{Chain, mix_digest};

/// Entries of each chunk that ticks leave free for mixing.
pub const MIX_COUNT_MAX: usize = 256;

/// Most ticks of a chunk.
const TICK_COUNT_MAX: u64 = 31_457_280;

const _: () = assert!(TICK_COUNT_MAX == 3_840 * TICKS_PER_ENTRY_MAX);
const _: () = assert!(CLOCK_ENTRY_COUNT_MAX - MIX_COUNT_MAX == 3_840);
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
    /// The ticks since the last mix, or the last cut; its checkpoints are entries already.
    run: Run,
    entries: Vec<ClockEntry>,
}

/// Ticks without a mix among them: a [`Generator`]'s own, or those made beside it from its [`base`](Generator::base) on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    base: Hash,
    count: u64,
    chain: Chain,
    /// The values after every `TICKS_PER_ENTRY_MAX` ticks.
    checkpoints: Vec<Hash>,
}

impl Run {
    /// No ticks yet.
    #[must_use]
    pub const fn new(base: Hash) -> Self {
        Self { base, count: 0, chain: Chain::new(base), checkpoints: Vec::new() }
    }

    /// Where it begins.
    #[must_use]
    pub const fn base(&self) -> Hash {
        self.base
    }

    /// Its ticks.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Ticks `count` times, or as often as a chunk has room; how often is returned.
    pub fn tick(&mut self, count: u64) -> u64 {
        let count = count.min(TICK_COUNT_MAX.saturating_sub(self.count));
        let mut left = count;
        while left > 0 {
            let step = left.min(TICKS_PER_ENTRY_MAX.saturating_sub(self.open()));
            self.chain.tick(step);
            self.count = self.count.saturating_add(step);
            left = left.saturating_sub(step);
            if self.count.is_multiple_of(TICKS_PER_ENTRY_MAX) {
                self.checkpoints.push(self.chain.value());
            }
        }
        count
    }

    /// Ticks after the last checkpoint.
    fn open(&self) -> u64 {
        self.count.checked_rem(TICKS_PER_ENTRY_MAX).unwrap_or(0)
    }
}

impl Generator {
    /// A clock that stands at `value`: a term's start, or the last chunk's last value.
    #[must_use]
    pub const fn new(value: Hash) -> Self {
        Self { run: Run::new(value), entries: Vec::new() }
    }

    /// Where the clock stands.
    #[must_use]
    pub const fn value(&self) -> Hash {
        self.run.chain.value()
    }

    /// Whether [`Generator::take`] would give nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.run.open() == 0 && self.entries.is_empty()
    }

    /// How many ticks still fit this chunk.
    #[must_use]
    pub fn tick_room(&self) -> u64 {
        let used = self.entries.len().saturating_add(MIX_COUNT_MAX);
        let entries = CLOCK_ENTRY_COUNT_MAX.saturating_sub(used);
        let ticks = u64::try_from(entries).unwrap_or(u64::MAX).saturating_mul(TICKS_PER_ENTRY_MAX);
        ticks.saturating_sub(self.run.open())
    }

    /// Ticks `count` times, or as often as still fits this chunk; how often is returned.
    /// A checkpoint is written every `TICKS_PER_ENTRY_MAX` ticks.
    pub fn tick(&mut self, count: u64) -> u64 {
        let passed = self.run.checkpoints.len();
        let count = self.run.tick(count.min(self.tick_room()));
        self.checkpoint(passed);
        count
    }

    /// Where a [`Run`] must begin so that it can be taken over.
    #[must_use]
    pub const fn base(&self) -> Hash {
        self.run.base
    }

    /// Takes over the ticks of `run` that are new, if it begins at the base and they fit this chunk; how many.
    pub fn take_run(&mut self, run: Run) -> u64 {
        let fresh = run.count.saturating_sub(self.run.count);
        if run.base != self.run.base || fresh == 0 || fresh > self.tick_room() {
            return 0;
        }
        let passed = self.run.checkpoints.len();
        self.run = run;
        self.checkpoint(passed);
        fresh
    }

    /// Mixes `mix` in. `lane_root` is the chunk's root, which [`Mix::Batch`] stands for.
    ///
    /// # Panics
    /// When the chunk's entries are used up: ticks leave [`MIX_COUNT_MAX`] of them, more than a chunk
    /// has lanes, headers, batches and votes to mix.
    pub fn mix(&mut self, mix: Mix, lane_root: &Hash) {
        if let Some(digest) = mix_digest(&mix, lane_root) {
            self.push(mix, Some(&digest));
        } else if self.run.open() > 0 {
            self.push(mix, None);
        }
    }

    /// The entries since the last call, for the chunk that is cut now; open ticks end in a checkpoint.
    #[must_use]
    pub fn take(&mut self) -> Vec<ClockEntry> {
        if self.run.open() > 0 {
            self.push(Mix::Nothing, None);
        }
        self.run = Run::new(self.value());
        std::mem::take(&mut self.entries)
    }

    /// Enters the run's checkpoints from the one after `passed` on.
    fn checkpoint(&mut self, passed: usize) {
        let fresh = self.run.checkpoints.iter().skip(passed).copied().collect::<Vec<_>>();
        for value in fresh {
            self.put(ClockEntry { count: TICKS_PER_ENTRY_MAX, mix: Mix::Nothing, value });
        }
    }

    /// Ends the run with an entry, and begins another.
    fn push(&mut self, mix: Mix, digest: Option<&Hash>) {
        let mut chain = self.run.chain;
        if let Some(digest) = digest {
            chain.mix(digest);
        }
        let value = chain.value();
        self.put(ClockEntry { count: self.run.open(), mix, value });
        self.run = Run::new(value);
    }

    fn put(&mut self, entry: ClockEntry) {
        assert!(self.entries.len() < CLOCK_ENTRY_COUNT_MAX, "a chunk's clock entries are bounded");
        self.entries.push(entry);
    }
}
