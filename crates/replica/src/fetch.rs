//! What is missing, and whom it is asked of: chunks beyond what is held, and committed headers of heights that others
//! have finished. A question is repeated to the next validator after [`ASK_US`].

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_consensus::Need;
use quipu_types::{CommitCertificate, Hash, Header, Height, Lane, Tip, ValidatorIndex};

use crate::api::Chunk;
use crate::peer::HEADER_COUNT_MAX;

/// Time after which the next validator is asked.
pub(crate) const ASK_US: u64 = 100_000;
/// Doublings of [`ASK_US`] while no answer comes: 1.6 s.
const TRIES_MAX: u32 = 4;
/// Time that a lane stands still before a chunk is asked for that the height waits for.
const DUE_US: u64 = 40_000;
/// Time that a lane stands still before a chunk is asked for that others acknowledged.
const OFFERED_US: u64 = 200_000;
/// Requests of one validator that are served in [`ASK_US`]: 64 ask for 640 MiB a second at most.
const SERVE_COUNT_MAX: u32 = 64;
/// Chunks that are given for one request.
pub(crate) const CHUNK_COUNT_MAX: u64 = 64;
/// Chunks of a lane that are known and not held.
pub(crate) const ASIDE_COUNT_MAX: usize = 256;
/// Their bytes.
const ASIDE_SIZE_MAX: usize = 8 << 20;

/// Chunks of one lane that do not link yet, or stand on another branch.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    chunks: BTreeMap<(u64, Hash), Arc<Chunk>>,
    size: usize,
}

impl Aside {
    /// Keeps a chunk; the farthest give way when there are too many.
    pub(crate) fn keep(&mut self, chunk: Arc<Chunk>) {
        let place = (chunk.stored.header.index, chunk.hash);
        let size = chunk.stored.body.len();
        if self.chunks.insert(place, chunk).is_none() {
            self.size = self.size.saturating_add(size);
        }
        while self.chunks.len() > ASIDE_COUNT_MAX || self.size > ASIDE_SIZE_MAX {
            let Some((_, last)) = self.chunks.pop_last() else { break };
            self.size = self.size.saturating_sub(last.stored.body.len());
        }
    }

    pub(crate) fn get(&self, index: u64, hash: &Hash) -> Option<&Arc<Chunk>> {
        self.chunks.get(&(index, *hash))
    }

    /// Those of an index.
    pub(crate) fn at(&self, index: u64) -> impl Iterator<Item = &Arc<Chunk>> {
        let range = (index, Hash([0; 32]))..=(index, Hash([u8::MAX; 32]));
        self.chunks.range(range).map(|(_, chunk)| chunk)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn remove(&mut self, chunk: &Chunk) {
        if self.chunks.remove(&(chunk.stored.header.index, chunk.hash)).is_some() {
            self.size = self.size.saturating_sub(chunk.stored.body.len());
        }
    }

    /// Forgets those up to an index.
    pub(crate) fn forget_upto(&mut self, index: u64) {
        let rest = self.chunks.split_off(&(index.saturating_add(1), Hash([0; 32])));
        for (_, chunk) in std::mem::replace(&mut self.chunks, rest) {
            self.size = self.size.saturating_sub(chunk.stored.body.len());
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What is asked for, in turn of one validator after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// Chunks of a lane.
    Chunks(Lane),
    /// Committed headers.
    Headers,
    /// State certificates.
    States,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    tip: Tip,
    first: u64,
    /// Where the answer ends.
    upto: u64,
    /// Up to which index the lane was held.
    held: u64,
    at_us: u64,
    /// How often it was asked in vain.
    tries: u32,
}

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Fetch {
    chunks: BTreeMap<Lane, Question>,
    /// By lane: up to which index it is held, and since when it is no further.
    still: BTreeMap<Lane, (u64, u64)>,
    /// What a lane was last emptied for, and when that may be tried again.
    emptied: BTreeMap<Lane, (Hash, u64)>,
    /// From which height on headers were asked for, when, and how often in vain.
    headers_at_us: Option<(Height, u64, u32)>,
    answered: BTreeMap<ValidatorIndex, u64>,
    /// Requests of each validator that were served in its last [`ASK_US`], and since when they are counted.
    served: BTreeMap<ValidatorIndex, (u32, u64)>,
    /// Counts the questions of each kind, so that each goes round: with one count for all, those of one kind might for ever
    /// go to one validator that is gone.
    turns: BTreeMap<Asked, usize>,
    /// Committed headers that come next.
    ahead: BTreeMap<Height, (Header, CommitCertificate)>,
}

impl Fetch {
    /// Whom to ask for the chunks of a need, and from which index on; `None` while an answer may still come. `held` is the
    /// index up to which the lane is held, `first` the first that is missing, `last` where the tip lies that is asked for. Of another branch than the one that is held
    /// nobody knows what is missing before all is there: it is asked for stretch by stretch, round and round.
    pub(crate) fn chunks(
        &mut self,
        need: &Need,
        (held, first, is_other): (u64, u64, bool),
        last: u64,
        now_us: u64,
        others: &[ValidatorIndex],
    ) -> Option<(ValidatorIndex, u64)> {
        if !self.has_waited(need, held, now_us) {
            return None;
        }
        if let Some(asked) = self.chunks.get(&need.tip.lane) {
            let elapsed_us = now_us.saturating_sub(asked.at_us);
            let is_covered = !is_other && need.tip.index <= asked.upto;
            let is_fresh = asked.tip != need.tip && !is_covered && elapsed_us >= ASK_US / 5;
            let is_served = held >= asked.upto && held < need.tip.index;
            // An answer that is long in coming is under way: to ask again and again would be what keeps it.
            let wait_us = ASK_US << asked.tries.min(TRIES_MAX);
            let is_wanted_now = is_served || need.is_due && is_fresh;
            if !is_wanted_now && elapsed_us < wait_us {
                return None;
            }
        }
        let before = self.chunks.get(&need.tip.lane).filter(|asked| asked.held == held);
        let tries = before.map_or(0, |asked| asked.tries.saturating_add(1));
        let whom = if need.holders.is_empty() { others } else { &need.holders };
        let to = self.next(Asked::Chunks(need.tip.lane), whom)?;
        let stretch = self.chunks.get(&need.tip.lane).filter(|asked| asked.tip == need.tip);
        let next = stretch.map(|asked| asked.first.saturating_add(CHUNK_COUNT_MAX));
        let next = next.filter(|next| is_other && *next > first && *next <= need.tip.index);
        let first = next.unwrap_or(first);
        let upto = first.saturating_add(CHUNK_COUNT_MAX).saturating_sub(1).min(last);
        let asked = Question { tip: need.tip, first, upto, held, at_us: now_us, tries };
        self.chunks.insert(need.tip.lane, asked);
        Some((to, first))
    }

    /// Whether a lane makes room for a tip that lies that many chunks beyond the cut: once, until these had time to come.
    pub(crate) fn makes_room(&mut self, tip: &Tip, count: u64, now_us: u64) -> bool {
        let emptied = self.emptied.get(&tip.lane);
        if emptied.is_some_and(|(hash, until)| *hash == tip.chunk_hash && now_us < *until) {
            return false;
        }
        let stretches = count.div_ceil(CHUNK_COUNT_MAX).saturating_add(10);
        let until = now_us.saturating_add(ASK_US.saturating_mul(stretches));
        self.emptied.insert(tip.lane, (tip.chunk_hash, until));
        true
    }

    /// What is missing is mostly on its way: acks overtake chunks. It is asked for once the lane has stood still for a while;
    /// at once by who catches up.
    fn has_waited(&mut self, need: &Need, held: u64, now_us: u64) -> bool {
        let (index, since_us) = self.still.entry(need.tip.lane).or_insert((held, now_us));
        if *index != held {
            (*index, *since_us) = (held, now_us);
        }
        let wait_us = match (self.ahead.is_empty(), need.is_due) {
            (false, _) => 0,
            (true, true) => DUE_US,
            (true, false) => OFFERED_US,
        };
        now_us >= since_us.saturating_add(wait_us)
    }

    /// A lane has no need any more.
    pub(crate) fn satisfied(&mut self, lane: Lane) {
        self.chunks.remove(&lane);
        self.still.remove(&lane);
    }

    /// Whether committed headers from `from` on may be asked for now.
    pub(crate) fn asks_headers(&mut self, from: Height, now_us: u64) -> bool {
        let is_due = self.headers_at_us.is_none_or(|(height, at_us, tries)| {
            let wait_us = ASK_US << tries.min(TRIES_MAX);
            now_us >= at_us.saturating_add(wait_us) || from.get() >= height.get().saturating_add(32)
        });
        let is_due = is_due && !self.ahead.contains_key(&from);
        if is_due {
            let before = self.headers_at_us.filter(|(height, _, _)| *height == from);
            let tries = before.map_or(0, |(_, _, tries)| tries.saturating_add(1));
            self.headers_at_us = Some((from, now_us, tries));
        }
        is_due
    }

    /// Whether someone who is behind is answered now: once in a while.
    pub(crate) fn answers(&mut self, to: ValidatorIndex, now_us: u64) -> bool {
        let is_due = self.answered.get(&to).is_none_or(|at| now_us >= at.saturating_add(ASK_US));
        if is_due {
            self.answered.insert(to, now_us);
        }
        is_due
    }

    /// Whether a request of a validator is served: each costs a read, so they have a bound.
    pub(crate) fn serves(&mut self, to: ValidatorIndex, now_us: u64) -> bool {
        let (count, since_us) = self.served.entry(to).or_insert((0, now_us));
        if now_us >= since_us.saturating_add(ASK_US) {
            (*count, *since_us) = (0, now_us);
        }
        *count = count.saturating_add(1);
        *count <= SERVE_COUNT_MAX
    }

    /// The next of some, in turn.
    pub(crate) fn next(&mut self, asked: Asked, whom: &[ValidatorIndex]) -> Option<ValidatorIndex> {
        let turn = self.turns.entry(asked).or_default();
        *turn = turn.wrapping_add(1);
        whom.get(turn.checked_rem(whom.len())?).copied()
    }

    /// Keeps committed headers above `height`, as many as one answer has, twice: the farthest give way, for nothing is
    /// known of them yet, and anyone may have made them up.
    pub(crate) fn keep(&mut self, headers: Vec<(Header, CommitCertificate)>, height: Height) {
        for (header, certificate) in headers {
            if header.height > height {
                self.ahead.insert(header.height, (header, certificate));
            }
            if self.ahead.len() > 2 * HEADER_COUNT_MAX {
                self.ahead.pop_last();
            }
        }
    }

    /// The committed header of a height, if it came.
    pub(crate) fn take(&mut self, height: Height) -> Option<(Header, CommitCertificate)> {
        self.ahead = self.ahead.split_off(&height);
        self.ahead.remove(&height)
    }

    /// How many committed headers wait.
    pub(crate) fn ahead_count(&self) -> usize {
        self.ahead.len()
    }

    /// The last of the headers that wait.
    pub(crate) fn ahead_last(&self) -> Option<Height> {
        self.ahead.keys().next_back().copied()
    }

    /// The farthest tip of a lane, in the term of `tip`, that the headers that wait commit.
    pub(crate) fn farthest(&self, tip: &Tip) -> Option<Tip> {
        let mut farthest = None;
        for (header, _) in self.ahead.values() {
            let own = header.cut.iter().find(|own| own.lane == tip.lane)?;
            if own.term != tip.term {
                break;
            }
            farthest = Some(*own);
            if header.term_changes.iter().any(|(lane, _)| *lane == tip.lane) {
                break;
            }
        }
        farthest.filter(|own| own.index > tip.index)
    }
}

#[cfg(test)]
mod tests {
    use quipu_types::{Rounds, Time};

    use super::*;

    fn committed(height: u64) -> (Header, CommitCertificate) {
        let header = Header {
            epoch: 0,
            height: Height::new(height),
            proposer: ValidatorIndex::new(0),
            prev_header: Hash::ZERO,
            cut: Vec::new(),
            term_changes: Vec::new(),
            time: Time::new(1),
            prev_commit: None,
            late_votes: Vec::new(),
            state_certificate: None,
            next_set: None,
            evidence_root: Hash::ZERO,
            rounds: Rounds::genesis(false),
        };
        (header, CommitCertificate { precommits: Vec::new(), coin: None })
    }

    /// One validator that sent as many as are kept, of heights that nobody will come to, would keep who is behind there
    /// for ever.
    #[test]
    fn headers_of_far_heights_keep_none_of_near_ones_out() {
        let mut fetch = Fetch::default();
        fetch.keep((1_000..1_200).map(committed).collect(), Height::new(5));
        fetch.keep((6..10).map(committed).collect(), Height::new(5));
        assert_eq!(fetch.ahead_count(), 2 * HEADER_COUNT_MAX);
        for height in (6..10).map(Height::new) {
            assert!(fetch.take(height).is_some(), "{height}");
        }
    }
}
