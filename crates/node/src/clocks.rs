//! How lanes' clocks went lately, and how wide the brackets of transactions are: for `quipu clock`, HTTP and metrics.
//!
//! ```text
//!  ledger's thread ── chunks that a header covers first ──> [ moments ] ──> rates over the last of them
//!  executor ── not before, not after of a height's transactions ──> [ brackets ]
//! ```
//! * C1 Time is that of headers, which validators agreed on: what is said of a clock is said of it against that.
//! * C2 A chunk's ticks were made since the lane's chunk before: rates are taken from chunk to chunk, so that a lane without
//!   transactions, which shows its clock every half minute, has the same as a busy one. Longer silence counts.
//! * C3 Ticks of a height are counted whole or not at all: where a chunk is not at hand, counting begins anew.
//! * C3 At most [`MOMENT_COUNT_MAX`] heights are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_replica::Chunk;
use quipu_replica::api::CLOCK_CHUNK_US;
use quipu_types::{Header, Height, Lane, Time};

/// Moments that rates are taken over.
const MOMENT_COUNT_MAX: usize = 256;
/// Heights closer together than this share a moment.
const MOMENT_US: u64 = 250_000;
/// Silence of a clock that is as usual: a lane without transactions shows it so often, and the next header covers it.
const QUIET_US: u64 = 2 * CLOCK_CHUNK_US;
/// Rates in a lane's series.
const SERIES_COUNT_MAX: u64 = 32;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    moments: Mutex<VecDeque<Moment>>,
    brackets: Mutex<VecDeque<Widths>>,
}

#[derive(Clone, Debug)]
struct Moment {
    /// The last of the heights that share it.
    height: Height,
    time: Time,
    /// Chunks that this height and all before it cover.
    chunk_count: u64,
    /// By lane, ticks of the chunks that these heights cover first.
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
    /// Ticks a second; none until two of its chunks were seen.
    pub(crate) rate_hz: Option<f64>,
    /// Ticks a second, over equal times, oldest first.
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

impl Moment {
    fn micros_to(&self, later: &Self) -> u64 {
        later.time.get().saturating_sub(self.time.get())
    }

    /// Goes on to a later height.
    fn absorb(&mut self, later: Self) {
        let sums = self.ticks.iter().zip(&later.ticks).map(|(own, more)| own.saturating_add(*more));
        *self = Self { ticks: sums.collect(), ..later };
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
        let moment = Moment { height: header.height, time: header.time, chunk_count, ticks };
        let before = moments.len().checked_sub(2).and_then(|place| moments.get(place));
        let is_close = before.is_some_and(|before| before.micros_to(&moment) < MOMENT_US);
        match moments.back_mut().filter(|_| is_close) {
            Some(last) => last.absorb(moment),
            None => moments.push_back(moment),
        }
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

/// Where a lane's clock stood at headers that covered a chunk of it, and how long it is silent at the end.
fn lane_pace(moments: &VecDeque<Moment>, lane: Lane) -> LanePace {
    let place = usize::from(lane.get());
    let mut sum = 0_u64;
    let shown = moments.iter().filter_map(|moment| {
        let ticks = moment.ticks.get(place).copied().filter(|ticks| *ticks > 0)?;
        sum = sum.saturating_add(ticks);
        Some((moment.time.get(), sum))
    });
    let mut points: Vec<(u64, u64)> = shown.collect();
    let ends = moments.front().zip(moments.back());
    let Some((from, to)) = ends.map(|(first, last)| (first.time.get(), last.time.get())) else {
        return LanePace::default();
    };
    let (seen_us, seen) = points.last().copied().unwrap_or((from, 0));
    if to > seen_us.saturating_add(QUIET_US) {
        if points.is_empty() {
            points.push((from, 0));
        }
        points.push((to, seen));
    }
    let (Some((from, first)), Some((to, last))) = (points.first(), points.last()) else {
        return LanePace::default();
    };
    let micros = to.saturating_sub(*from);
    if micros == 0 {
        return LanePace::default();
    }
    let steps =
        u64::try_from(points.len().saturating_sub(1)).unwrap_or(u64::MAX).min(SERIES_COUNT_MAX);
    let at = |step: u64| from.saturating_add(share(micros, (step, steps)));
    let series = (0..steps).map(|step| {
        let (begin, end) = (at(step), at(step.saturating_add(1)));
        let ticks = stood(&points, end).saturating_sub(stood(&points, begin));
        per_second(ticks, end.saturating_sub(begin))
    });
    let rate_hz = Some(per_second(last.saturating_sub(*first), micros));
    LanePace { rate_hz, series: series.collect() }
}

/// Where a clock stood at a time, as if it had ticked evenly between the points.
fn stood(points: &[(u64, u64)], at_us: u64) -> u64 {
    let next = points.partition_point(|(time, _)| *time <= at_us);
    let before = next.checked_sub(1).and_then(|place| points.get(place));
    let (Some((from, ticks)), after) = (before, points.get(next)) else { return 0 };
    let Some((to, more)) = after else { return *ticks };
    let passed = (at_us.saturating_sub(*from), to.saturating_sub(*from));
    ticks.saturating_add(share(more.saturating_sub(*ticks), passed))
}

/// So many parts of a whole of so many.
fn share(of: u64, (parts, whole): (u64, u64)) -> u64 {
    let share = u128::from(of).saturating_mul(u128::from(parts)).checked_div(u128::from(whole));
    share.and_then(|share| u64::try_from(share).ok()).unwrap_or(0)
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
            next_set: None,
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
            pace.lanes.iter().map(|lane| (lane.rate_hz, lane.series.clone())).collect();
        let even = Some(10_000.0);
        assert_eq!(lanes, [(even, vec![10_000.0, 10_000.0]), (even, vec![10_000.0])]);
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
        clocks.commit(&header(6, 5_000_000, [6, 0]), &[chunk(0, 6, 7)]);
        assert_eq!(clocks.pace().expect("three heights").lanes[0].rate_hz, Some(7.0));
    }

    #[test]
    fn a_silence_counts_only_when_it_is_longer_than_usual() {
        let clocks = Clocks::default();
        let rates = |clocks: &Clocks| -> Vec<Option<f64>> {
            let pace = clocks.pace().expect("heights");
            pace.lanes.iter().map(|lane| lane.rate_hz).collect()
        };
        // Lane 0 shows a clock of 100 ticks a second every 30 seconds, for two minutes. Lane 1 shows none.
        for second in 1..=120 {
            let index = second / 30;
            let shown = (second % 30 == 0).then(|| chunk(0, index, 3_000));
            clocks.commit(&header(second, second * 1_000_000, [index, 0]), shown.as_slice());
            if second == 61 {
                assert_eq!(rates(&clocks), [Some(100.0), None]);
            }
        }
        assert_eq!(rates(&clocks), [Some(100.0), Some(0.0)]);
        for second in 121..=210 {
            clocks.commit(&header(second, second * 1_000_000, [4, 0]), &[]);
        }
        assert_eq!(rates(&clocks), [Some(50.0), Some(0.0)]);
    }

    #[test]
    fn heights_that_are_close_share_a_moment() {
        let clocks = Clocks::default();
        for height in 1..=100_000_u64 {
            clocks.commit(&header(height, height * 1_000, [height, 0]), &[chunk(0, height, 10)]);
        }
        let pace = clocks.pace().expect("heights");
        assert!(pace.micros > 60_000_000, "a minute at a thousand heights a second");
        assert_eq!(pace.heights.1.get(), 100_000);
        let lane = &pace.lanes[0];
        assert_eq!(lane.rate_hz, Some(10_000.0));
        assert!(lane.series.iter().all(|rate| (9_990.0..=10_010.0).contains(rate)), "{lane:?}");
    }

    #[test]
    fn only_the_last_heights_are_kept() {
        let clocks = Clocks::default();
        for height in 1..=1_000 {
            let header = header(height, height * 1_000_000, [height, 0]);
            clocks.commit(&header, &[chunk(0, height, 3)]);
            clocks.close(Widths { count: 1, sum_us: height, max_us: height });
        }
        let pace = clocks.pace().expect("heights");
        assert_eq!(pace.heights.0.get(), 1_000 - 255);
        assert_eq!(pace.lanes[0].rate_hz, Some(3.0));
        assert_eq!(pace.lanes[0].series.len(), 32);
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
