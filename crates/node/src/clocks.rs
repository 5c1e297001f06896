//! How lanes' clocks went lately, and how wide the brackets of transactions are: for `quipu clock`, HTTP and metrics.
//!
//! ```text
//!  ledger's thread ── chunks that a header covers first ──> [ a moment a height ] ──> rates over the last of them
//!  executor ── not before, not after of a height's transactions ──> [ brackets ]
//! ```
//! * C1 Time is that of headers, which validators agreed on: what is said of a clock is said of it against that.
//! * C2 Ticks of a height are counted whole or not at all: where a chunk is not at hand, counting begins anew.
//! * C3 At most [`MOMENT_COUNT_MAX`] heights are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_replica::Chunk;
use quipu_types::{Header, Height, Lane, Time};

/// Heights that rates are taken over.
const MOMENT_COUNT_MAX: usize = 256;
/// Rates in a lane's series.
const SERIES_COUNT_MAX: usize = 32;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    moments: Mutex<VecDeque<Moment>>,
    brackets: Mutex<VecDeque<Widths>>,
}

#[derive(Clone, Debug)]
struct Moment {
    height: Height,
    time: Time,
    /// Chunks that this height and all before it cover.
    chunk_count: u64,
    /// By lane, ticks of the chunks that this height covers first.
    ticks: Vec<u64>,
}

/// Widths of the brackets of one height's transactions, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Widths {
    pub(crate) count: u64,
    pub(crate) sum_us: u64,
    pub(crate) max_us: u64,
}

/// What is known of the clocks over some heights.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pace {
    /// The last height before the first that was counted, and the last one.
    pub(crate) heights: (Height, Height),
    /// Microseconds between them, by their headers.
    pub(crate) micros: u64,
    pub(crate) lanes: Vec<LanePace>,
}

/// One lane's clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LanePace {
    pub(crate) ticks: u64,
    /// Ticks a second, over equal numbers of heights, oldest first.
    pub(crate) series: Vec<f64>,
}

impl Widths {
    /// Counts one more bracket.
    pub(crate) fn add(&mut self, width_us: u64) {
        self.count = self.count.saturating_add(1);
        self.sum_us = self.sum_us.saturating_add(width_us);
        self.max_us = self.max_us.max(width_us);
    }

    /// The same brackets, each `more_us` wider.
    pub(crate) fn widened(self, more_us: u64) -> Self {
        let sum_us = self.sum_us.saturating_add(self.count.saturating_mul(more_us));
        Self { sum_us, max_us: self.max_us.saturating_add(more_us), ..self }
    }
}

impl Clocks {
    /// A header is committed; `chunks` are those it covers first, as far as they are at hand.
    pub(crate) fn commit(&self, header: &Header, chunks: &[Arc<Chunk>]) {
        let mut moments = lock(&self.moments);
        let chunk_count = header.cut.iter().fold(0_u64, |sum, tip| sum.saturating_add(tip.index));
        let is_next = moments.back().is_some_and(|last| {
            let new_count = chunk_count.checked_sub(last.chunk_count);
            last.height.next() == header.height && new_count == u64::try_from(chunks.len()).ok()
        });
        if !is_next {
            moments.clear();
        }
        let mut ticks = vec![0_u64; header.cut.len()];
        for chunk in chunks {
            let header = &chunk.stored.header;
            if let Some(sum) = ticks.get_mut(usize::from(header.lane.get())) {
                *sum = sum.saturating_add(quipu_clock::tick_count(&header.clock));
            }
        }
        let (height, time) = (header.height, header.time);
        moments.push_back(Moment { height, time, chunk_count, ticks });
        if moments.len() > MOMENT_COUNT_MAX {
            moments.pop_front();
        }
    }

    /// The brackets of a height's transactions are closed.
    pub(crate) fn close(&self, widths: Widths) {
        if widths.count == 0 {
            return;
        }
        let mut brackets = lock(&self.brackets);
        brackets.push_back(widths);
        if brackets.len() > MOMENT_COUNT_MAX {
            brackets.pop_front();
        }
    }

    /// How the clocks went; none until two heights were seen.
    pub(crate) fn pace(&self) -> Option<Pace> {
        let moments = lock(&self.moments);
        let (first, last) = (moments.front()?, moments.back()?);
        let micros = last.time.get().checked_sub(first.time.get()).filter(|micros| *micros > 0)?;
        let lane_count = u16::try_from(last.ticks.len()).unwrap_or(u16::MAX);
        let lanes = (0..lane_count).map(|lane| lane_pace(&moments, Lane::new(lane))).collect();
        Some(Pace { heights: (first.height, last.height), micros, lanes })
    }

    /// The widths of the last brackets together.
    pub(crate) fn widths(&self) -> Widths {
        lock(&self.brackets).iter().fold(Widths::default(), |all, one| Widths {
            count: all.count.saturating_add(one.count),
            sum_us: all.sum_us.saturating_add(one.sum_us),
            max_us: all.max_us.max(one.max_us),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lane_pace(moments: &VecDeque<Moment>, lane: Lane) -> LanePace {
    let place = usize::from(lane.get());
    let of = |moment: &Moment| moment.ticks.get(place).copied().unwrap_or(0);
    let ticks = moments.iter().skip(1).map(of).fold(0, u64::saturating_add);
    let steps = moments.len().saturating_sub(1);
    let size = steps.div_ceil(SERIES_COUNT_MAX).max(1);
    let all: Vec<&Moment> = moments.iter().collect();
    let series = (0..steps).step_by(size).filter_map(|at| {
        let part = all.get(at..=at.saturating_add(size).min(steps))?;
        let (first, last) = (part.first()?, part.last()?);
        let ticks = part.iter().skip(1).map(|moment| of(moment)).fold(0, u64::saturating_add);
        Some(per_second(ticks, last.time.get().saturating_sub(first.time.get())))
    });
    LanePace { ticks, series: series.collect() }
}

/// How many a second, `count` in `micros` microseconds are.
pub(crate) fn per_second(count: u64, micros: u64) -> f64 {
    if micros == 0 {
        return 0.0;
    }
    crate::metrics::gauge_value(count) / crate::driver::seconds(micros)
}

#[cfg(test)]
mod tests {
    use quipu_clock::Generator;
    use quipu_log::StoredChunk;
    use quipu_types::{ChunkHeader, Hash, Seqno, Signature, Term, Tip, ValidatorIndex};

    use super::*;

    fn chunk(lane: u16, index: u64, ticks: u64) -> Arc<Chunk> {
        let mut clock = Generator::new(Hash::ZERO);
        clock.tick(ticks);
        let header = ChunkHeader {
            lane: Lane::new(lane),
            term: Term::new(0),
            branch: Hash::ZERO,
            index,
            first_seqno: Seqno::new(1),
            count: 0,
            prev: Hash::ZERO,
            lane_root: Hash::ZERO,
            body_digest: Hash::ZERO,
            stripes: None,
            clock: clock.take(),
        };
        let stored = StoredChunk { header, signature: Signature([0; 64]), body: vec![] };
        Arc::new(Chunk { stored, hash: Hash::ZERO, transactions: vec![] })
    }

    fn header(height: u64, time_us: u64, indices: [u64; 2]) -> Header {
        let tip = |(lane, index): (u16, u64)| Tip {
            lane: Lane::new(lane),
            term: Term::new(0),
            index,
            seqno: Seqno::default(),
            lane_root: Hash::ZERO,
            chunk_hash: Hash::ZERO,
        };
        Header {
            epoch: 0,
            height: Height::new(height),
            proposer: ValidatorIndex::new(0),
            prev_header: Hash::ZERO,
            cut: (0..).zip(indices).map(tip).collect(),
            term_changes: vec![],
            time: Time::new(time_us),
            prev_commit: None,
            late_votes: vec![],
            state_certificate: None,
            next_set_hash: None,
            evidence_root: Hash::ZERO,
            rounds: quipu_types::Rounds::genesis(false),
        }
    }

    #[test]
    fn rates_are_ticks_over_the_time_of_headers() {
        let clocks = Clocks::default();
        assert_eq!(clocks.pace(), None);
        clocks.commit(&header(1, 1_000_000, [1, 1]), &[chunk(0, 1, 500), chunk(1, 1, 500)]);
        assert_eq!(clocks.pace(), None);
        clocks.commit(&header(2, 1_500_000, [2, 1]), &[chunk(0, 2, 5_000)]);
        let chunks = [chunk(0, 3, 2_000), chunk(0, 4, 3_000), chunk(1, 2, 10_000)];
        clocks.commit(&header(3, 2_000_000, [4, 2]), &chunks);
        let pace = clocks.pace().expect("three heights");
        assert_eq!((pace.heights.0.get(), pace.heights.1.get(), pace.micros), (1, 3, 1_000_000));
        let lanes: Vec<_> =
            pace.lanes.iter().map(|lane| (lane.ticks, lane.series.clone())).collect();
        assert_eq!(lanes, [(10_000, vec![10_000.0, 10_000.0]), (10_000, vec![0.0, 20_000.0])]);
    }

    #[test]
    fn where_a_chunk_or_a_height_is_missing_counting_begins_anew() {
        let clocks = Clocks::default();
        clocks.commit(&header(1, 1_000_000, [1, 0]), &[chunk(0, 1, 1)]);
        clocks.commit(&header(2, 2_000_000, [3, 0]), &[chunk(0, 3, 1)]);
        assert_eq!(clocks.pace(), None, "chunk 2 is not at hand");
        clocks.commit(&header(4, 3_000_000, [4, 0]), &[chunk(0, 4, 1)]);
        assert_eq!(clocks.pace(), None, "height 3 is not at hand");
        clocks.commit(&header(5, 4_000_000, [5, 0]), &[chunk(0, 5, 7)]);
        assert_eq!(clocks.pace().expect("two heights").lanes[0].ticks, 7);
    }

    #[test]
    fn only_the_last_heights_are_kept() {
        let clocks = Clocks::default();
        for height in 1..=1_000 {
            clocks.commit(&header(height, height * 1_000, [height, 0]), &[chunk(0, height, 3)]);
            clocks.close(Widths { count: 1, sum_us: height, max_us: height });
        }
        let pace = clocks.pace().expect("heights");
        assert_eq!(pace.heights.0.get(), 1_000 - 255);
        assert_eq!(pace.lanes[0].ticks, 3 * 255);
        assert!(pace.lanes[0].series.len() <= SERIES_COUNT_MAX);
        assert_eq!(clocks.widths().count, 256);
    }

    #[test]
    fn a_bracket_ends_with_the_next_header() {
        let mut widths = Widths::default();
        widths.add(10);
        widths.add(30);
        assert_eq!(widths.widened(5), Widths { count: 2, sum_us: 50, max_us: 35 });
    }
}
