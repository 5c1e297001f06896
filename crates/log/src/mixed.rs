//! What lanes' clocks mixed before a transaction was stamped: finds the steps that show it (`quipu_proof::Mixings`).
//!
//! ```text
//!  first ∈ chunk a … <─mixed or covered─ chunk or header <─mixed─ … <─mixed─ chunks of the second's lane, newest first
//!            └ the newest header in a's clock: what that covers was there before a, and can not know of it: the floor
//! ```
//! * O1 What is found verifies; it rests on committed chunks alone.
//! * O2 When nothing is found, no chain of committed chunks and headers leads from the one to the other. What a chunk mixed and no
//!   cut covers yet is not looked at.
//! * O3 At most [`LOOK_COUNT_MAX`] chunks are read; what takes more is [`Search::TooFar`], not "nothing".

use std::collections::{BTreeMap, VecDeque};

use quipu_proof::names::{chunk_hash, header_hash};
use quipu_proof::{Hexed, Mixings, STEP_COUNT_MAX, Step};
use quipu_types::{ChunkHeader, Header, Height, Lane, Mix, Position, Tip};

use crate::error::LogError;
use crate::reader::LedgerReader;

/// Most chunks that one search reads.
const LOOK_COUNT_MAX: usize = 4_096;

/// What a search comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// It was before: the first step is a chunk that ends, or a header whose cut ends, at the first or after it.
    Found(Mixings),
    /// Nothing shows that it was.
    None,
    /// There is too much between the two to say.
    TooFar,
}

impl LedgerReader {
    /// The newest header that the lane's clock mixed before the transaction at `position` was stamped, and the steps from it
    /// to `tip`, which covers the transaction; none if it is further back than a proof reaches.
    ///
    /// # Errors
    /// `NoSeqno`, `SeqnoPruned`, and `Damaged` if bytes are wrong.
    pub fn mixed_before(
        &self,
        position: Position,
        tip: &Tip,
    ) -> Result<Option<(Height, Mixings)>, LogError> {
        let lane = position.lane;
        let holds = self.chunk_index(lane, position.seqno)?;
        let first = self.first_chunk(lane)?;
        for index in (first..=holds).rev().take(STEP_COUNT_MAX) {
            let header = self.chunk_header(lane, index)?;
            let Some(height) = newest_header(&header, index == holds) else { continue };
            let (header, _) = self.header(height)?;
            let mut steps = vec![Step::Header(Hexed(header))];
            steps.extend(self.run_of(lane, index, tip.index)?);
            let fits = steps.len() <= STEP_COUNT_MAX;
            return Ok(fits.then_some((height, Mixings(steps))));
        }
        Ok(None)
    }

    /// Whether the transaction at `first` was there before the one at `second`, of another lane, was stamped; `tip` is of the
    /// second's lane and covers it.
    ///
    /// # Errors
    /// `NoSeqno`, `SeqnoPruned`, and `Damaged` if bytes are wrong.
    pub fn cause(&self, first: Position, second: Position, tip: &Tip) -> Result<Search, LogError> {
        let wanted = self.chunk_index(first.lane, first.seqno)?;
        let floor = self.floor(first.lane, wanted)?;
        let chase = Chase {
            reader: self,
            first: first.lane,
            wanted,
            floor,
            seen: BTreeMap::new(),
            nodes: Vec::new(),
            next: VecDeque::new(),
        };
        chase.run(self.chunk_index(second.lane, second.seqno)?, tip)
    }

    /// What can not know of a lane's chunk: what the newest header mixed before it covers. Its height, and by lane the last chunk.
    fn floor(&self, lane: Lane, chunk: u64) -> Result<(Height, BTreeMap<Lane, u64>), LogError> {
        let first = self.first_chunk(lane)?;
        for index in (first..=chunk).rev().take(LOOK_COUNT_MAX) {
            let header = self.chunk_header(lane, index)?;
            if let Some(height) = newest_header(&header, false) {
                let (header, _) = self.header(height)?;
                let tips = header.cut.iter().map(|tip| (tip.lane, tip.index)).collect();
                return Ok((height, tips));
            }
        }
        Ok((Height::default(), BTreeMap::new()))
    }

    /// A lane's chunks `from..=to` as steps; one more than a proof may have are enough to see that there are too many.
    fn run_of(&self, lane: Lane, from: u64, to: u64) -> Result<Vec<Step>, LogError> {
        let chunks = (from..=to).take(STEP_COUNT_MAX.saturating_add(1));
        chunks.map(|index| Ok(Step::Chunk(Hexed(self.chunk_header(lane, index)?)))).collect()
    }
}

/// What a chunk mixes: all of it, or what comes before its batch.
fn before_batch(
    header: &ChunkHeader,
    stops: bool,
) -> impl DoubleEndedIterator<Item = &Mix> + use<'_> {
    let all = header.clock.len();
    let batch = || header.clock.iter().position(|entry| entry.mix == Mix::Batch).unwrap_or(0);
    let count = if stops { batch() } else { all };
    header.clock.iter().take(count).map(|entry| &entry.mix)
}

/// The newest header that a chunk mixes, in all of its clock or before its batch.
fn newest_header(header: &ChunkHeader, stops: bool) -> Option<Height> {
    before_batch(header, stops).rev().find_map(|mix| match mix {
        Mix::Header { height, .. } => Some(*height),
        _ => None,
    })
}

/// What knows of something, and where it is mixed or covered itself: a node and, in a run, the chunk of it.
#[derive(Clone, Debug)]
enum Node {
    /// One lane's chunks, looked at from `top` down; without `by`, those of the second's lane.
    Run { lane: Lane, top: u64, by: Option<(usize, u64)> },
    /// A header.
    Header { header: Box<Header>, by: (usize, u64) },
}

/// A search back through what was mixed, nearest first.
struct Chase<'a> {
    reader: &'a LedgerReader,
    first: Lane,
    wanted: u64,
    floor: (Height, BTreeMap<Lane, u64>),
    /// By lane, the highest chunk that was looked at.
    seen: BTreeMap<Lane, u64>,
    nodes: Vec<Node>,
    next: VecDeque<usize>,
}

impl Chase<'_> {
    /// Looks back from the chunk `holds` of the lane of `tip`.
    fn run(mut self, holds: u64, tip: &Tip) -> Result<Search, LogError> {
        self.push(Node::Run { lane: tip.lane, top: holds, by: None });
        let mut looked = 0_usize;
        while let Some(at) = self.next.pop_front() {
            let Some(Node::Run { lane, top, by }) = self.nodes.get(at).cloned() else { continue };
            let bottom = self.bottom(lane)?;
            for index in (bottom..=top).rev() {
                looked = looked.saturating_add(1);
                if looked > LOOK_COUNT_MAX {
                    return Ok(Search::TooFar);
                }
                let header = self.reader.chunk_header(lane, index)?;
                for mix in before_batch(&header, by.is_none() && index == holds) {
                    if let Some(source) = self.look(mix, (at, index))? {
                        return self.found(source, (at, index), tip);
                    }
                }
            }
            let seen = self.seen.entry(lane).or_default();
            *seen = (*seen).max(top);
        }
        Ok(Search::None)
    }

    /// Looks at what chunk `by` mixes: gives it when it covers the first, else remembers to look behind it.
    fn look(&mut self, mix: &Mix, by: (usize, u64)) -> Result<Option<Step>, LogError> {
        match *mix {
            Mix::LaneTip { lane, index, hash } => {
                if !self.is_new(lane, index) || index > self.reader.tip(lane)?.index {
                    return Ok(None);
                }
                let header = self.reader.chunk_header(lane, index)?;
                if chunk_hash(&header) != hash {
                    return Ok(None);
                }
                if lane == self.first && index >= self.wanted {
                    return Ok(Some(Step::Chunk(Hexed(header))));
                }
                self.push(Node::Run { lane, top: index, by: Some(by) });
            }
            Mix::Header { height, hash } if height > self.floor.0 => {
                let (header, _) = self.reader.header(height)?;
                if header_hash(&header) != hash {
                    return Ok(None);
                }
                let reached = quipu_proof::order::tip_of(&header.cut, self.first);
                if reached.is_some_and(|reached| reached.index >= self.wanted) {
                    return Ok(Some(Step::Header(Hexed(header))));
                }
                // What an earlier header covers, this one does: it is not looked at.
                self.floor.0 = height;
                let cut = header.cut.clone();
                let at = self.nodes.len();
                self.nodes.push(Node::Header { header: Box::new(header), by });
                for Tip { lane, index: top, .. } in cut {
                    if self.is_new(lane, top) {
                        self.push(Node::Run { lane, top, by: Some((at, 0)) });
                    }
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn push(&mut self, node: Node) {
        self.next.push_back(self.nodes.len());
        self.nodes.push(node);
    }

    /// The lowest chunk of a lane that is worth a look: above the floor, and above what was looked at.
    fn bottom(&self, lane: Lane) -> Result<u64, LogError> {
        let known = self.known(lane).saturating_add(1);
        Ok(self.reader.first_chunk(lane)?.max(known))
    }

    fn is_new(&self, lane: Lane, index: u64) -> bool {
        index > self.known(lane)
    }

    /// Up to where a lane's chunks need no look.
    fn known(&self, lane: Lane) -> u64 {
        let floor = self.floor.1.get(&lane).copied().unwrap_or(0);
        self.seen.get(&lane).copied().unwrap_or(0).max(floor)
    }

    /// The steps from `source`, which chunk `at` mixes, up through what mixed or covered that, to the tip.
    fn found(&self, source: Step, at: (usize, u64), tip: &Tip) -> Result<Search, LogError> {
        let mut steps = vec![source];
        let mut at = Some(at);
        while let Some((node, index)) = at {
            at = match self.nodes.get(node) {
                Some(Node::Run { lane, top, by }) => {
                    let top = if by.is_some() { *top } else { tip.index };
                    steps.extend(self.reader.run_of(*lane, index, top)?);
                    *by
                }
                Some(Node::Header { header, by }) => {
                    steps.push(Step::Header(Hexed((**header).clone())));
                    Some(*by)
                }
                None => None,
            };
            if steps.len() > STEP_COUNT_MAX {
                return Ok(Search::TooFar);
            }
        }
        Ok(Search::Found(Mixings(steps)))
    }
}
