//! What a log stands on whose beginning is not there: the **base**. A log that was pruned has one, and one that was begun with a
//! checkpoint.
//!
//! ```text
//!  base/…log    the newest record: for each lane the record from which its journal counts, the last chunk before it, the
//!               tree there, its failover log; the height from which headers are there
//!
//!  journal      [segment 1]  [segment 41]  [segment 83]          base: from record 41
//!                gone         41 …          83 …                 chunks live before 41: …, (7), ghosts 8, 9
//! ```
//! * B1 The record is durable before anything that it lets go is removed: opening finishes what a crash interrupted.
//! * B2 A **ghost** is a chunk before the base that a record behind it voids: only its numbers are needed, for that.
//! * B3 Nothing of the base is believed more than the chunks were: the tree's root is in the next chunk's signed root, the last
//!   chunk's hash in the next one's `prev`, or both in the tip of a certified cut.

use std::sync::Arc;

use quipu_crypto::merkle::Frontier;
use quipu_proof::names::header_hash;
use quipu_types::codec::{put_count, put_list, put_option};
use quipu_types::{
    ChunkHeader, CommitCertificate, Decode, DecodeError, Encode, Hash, Header, Height, Lane,
    Reader, Tip,
};

use crate::disk::Disk;
use crate::error::{Damage, LogError, Place};
use crate::frame::Seed;
use crate::journal::{Journal, JournalReader, JournalSpec};
use crate::lane::{empty_tip, tip_of};
use crate::record::TermRecord;
use crate::scan::{ScanSpec, scan};

pub(crate) const BASE: &str = "base";
pub(crate) const BASE_TAG: u64 = 0x0400;
/// Fewest bytes of a header with its certificate.
const COMMITTED_SIZE_MIN: usize = Header::SIZE_MIN + CommitCertificate::SIZE_MIN;
/// Most ghosts of a lane, terms, and epochs that a record is read with.
const COUNT_MAX: usize = 1 << 16;

/// What one lane stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneBase {
    /// Header of the last chunk that is not there any more; none where nothing was pruned.
    pub header: Option<ChunkHeader>,
    /// The tree at its end.
    pub frontier: Frontier,
    /// The failover log up to there, oldest first.
    pub terms: Vec<TermRecord>,
    /// The journal's first record that counts.
    pub(crate) first_record: u64,
    /// Last seqnos of the chunks behind it that are void by now (B2).
    pub(crate) ghosts: Vec<u64>,
}

/// What the headers before the first that is there said last, of what later ones need not repeat. Its meaning is the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Rank of the primary.
    pub primary: u16,
    /// The newest height whose state certificate was embedded.
    pub certified: Height,
}

/// What a log stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The first header that is there.
    pub first_height: Height,
    /// What those before it said.
    pub before: Before,
    /// By lane.
    pub lanes: Vec<LaneBase>,
}

/// What a log is begun with that does not begin at the genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The header after whose cut the lanes go on.
    pub header: Header,
    /// What commits it.
    pub certificate: CommitCertificate,
    /// What headers before it said.
    pub before: Before,
    /// The last headers of the epochs before the header's, and what commits them.
    pub handovers: Vec<(Header, CommitCertificate)>,
    /// By lane: where its cut is.
    pub lanes: Vec<LaneBase>,
}

impl LaneBase {
    /// A lane that goes on from a chunk, its tree at the end of that one and its failover log.
    #[must_use]
    pub const fn new(
        header: Option<ChunkHeader>,
        frontier: Frontier,
        terms: Vec<TermRecord>,
    ) -> Self {
        Self { header, frontier, terms, first_record: 1, ghosts: Vec::new() }
    }

    /// Where a lane begins that was never pruned.
    pub(crate) fn start() -> Self {
        Self::new(None, Frontier::new(), Vec::new())
    }

    /// The last tip that is not there any more.
    #[must_use]
    pub fn tip(&self, lane: Lane) -> Tip {
        self.header.as_ref().map_or_else(|| empty_tip(lane), tip_of)
    }

    /// Whether its parts belong to one lane and one place in it.
    pub(crate) fn is_one(&self, lane: Lane) -> bool {
        let tip = self.tip(lane);
        tip.lane == lane
            && tip.seqno.get() == self.frontier.size()
            && tip.lane_root == self.frontier.root()
            && self.terms.iter().all(|term| term.lane == lane)
    }
}

impl Beginning {
    /// What does not fit, if anything does not: the certificate is of another header, or a lane's part is not at its cut.
    #[must_use]
    pub fn fault(&self, lane_count: u16) -> Option<String> {
        if self.certificate.digest() != Some(header_hash(&self.header)) {
            return Some("its certificate".to_owned());
        }
        let ends = self.handovers.iter().zip(0_u64..).all(|((header, _), epoch)| {
            header.epoch == epoch
                && header.next_set.is_some()
                && header.height <= self.header.height
        });
        let ended = u64::from(self.header.next_set.is_some()).saturating_add(self.header.epoch);
        if !ends || u64::try_from(self.handovers.len()) != Ok(ended) {
            return Some("the ends of its epochs".to_owned());
        }
        if self.lanes.len() != usize::from(lane_count) {
            return Some("its number of lanes".to_owned());
        }
        let fits = |(lane, base): &(Lane, &LaneBase)| {
            let mut cut = self.header.cut.iter().copied();
            let tip = cut.find(|tip| tip.lane == *lane && tip.index > 0);
            let is_fresh = base.first_record == 1 && base.ghosts.is_empty();
            is_fresh
                && base.is_one(*lane)
                && base.tip(*lane) == tip.unwrap_or_else(|| empty_tip(*lane))
        };
        let lanes = (0..lane_count).map(Lane::new).zip(&self.lanes);
        lanes.into_iter().find(|lane| !fits(lane)).map(|(lane, _)| format!("lane {lane}"))
    }
}

impl Base {
    /// Of a log that begins at the genesis.
    pub(crate) fn genesis(lane_count: u16) -> Self {
        let lanes = (0..lane_count).map(|_| LaneBase::start()).collect();
        Self { first_height: Height::new(1), before: Before::default(), lanes }
    }

    /// Reads the newest; the genesis' where none was written.
    pub(crate) fn read(disk: &dyn Disk, chain: &Hash, lane_count: u16) -> Result<Self, LogError> {
        match disk.list(BASE) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::genesis(lane_count));
            }
            _ => {}
        }
        let spec = ScanSpec {
            directory: BASE.to_owned(),
            seed: Seed::new(chain, BASE_TAG),
            first: None,
            thorough: true,
        };
        let found = scan(disk, &spec)?;
        if let Some(finding) = found.findings.into_iter().next() {
            return Err(LogError::Damaged(Box::new(finding)));
        }
        let reader = JournalReader::new(BASE, spec.seed, found.segments);
        let (first, next) = reader.range();
        if first == next {
            return Ok(Self::genesis(lane_count));
        }
        let number = next.saturating_sub(1);
        let damaged = |damage| reader.damaged(number, Place::Record(number), damage);
        let base = Self::from_bytes(&reader.read(number)?)
            .map_err(|reason| damaged(Damage::Malformed { reason }))?;
        let is_whole = base.lanes.len() == usize::from(lane_count)
            && base.lanes.iter().zip(0..).all(|(base, lane)| base.is_one(Lane::new(lane)));
        if is_whole { Ok(base) } else { Err(damaged(Damage::Link { field: "base" })) }
    }

    /// Makes it the newest, durably (B1); older ones go.
    pub(crate) fn write(&self, disk: &Arc<dyn Disk>, chain: &Hash) -> Result<(), LogError> {
        let spec = JournalSpec {
            directory: BASE.to_owned(),
            seed: Seed::new(chain, BASE_TAG),
            segment_size: 4 << 10,
            first: None,
            buffered: false,
        };
        let (mut journal, _) = Journal::open(disk, spec)?;
        if journal.next() > journal.last_first() {
            journal.rotate()?;
        }
        let number = journal.append(|out| self.encode(out))?;
        journal.take_sync().run()?;
        journal.remove_below(number)
    }
}

impl Encode for LaneBase {
    fn encode(&self, out: &mut Vec<u8>) {
        put_option(out, self.header.as_ref());
        self.frontier.encode(out);
        put_list(out, &self.terms);
        out.extend_from_slice(&self.first_record.to_le_bytes());
        put_count(out, self.ghosts.len());
        for last in &self.ghosts {
            out.extend_from_slice(&last.to_le_bytes());
        }
    }
}

impl Decode for LaneBase {
    const SIZE_MIN: usize = 1 + Frontier::SIZE_MIN + 4 + 8 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            header: reader.option("header of the last chunk")?,
            frontier: Frontier::decode(reader)?,
            terms: reader.list("terms", COUNT_MAX)?,
            first_record: reader.u64()?,
            ghosts: {
                let count = reader.count("ghosts", COUNT_MAX, 8)?;
                (0..count).map(|_| reader.u64()).collect::<Result<_, _>>()?
            },
        })
    }
}

impl Encode for Base {
    fn encode(&self, out: &mut Vec<u8>) {
        self.first_height.encode(out);
        self.before.encode(out);
        put_list(out, &self.lanes);
    }
}

impl Encode for Beginning {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.certificate.encode(out);
        self.before.encode(out);
        put_count(out, self.handovers.len());
        for (header, certificate) in &self.handovers {
            header.encode(out);
            certificate.encode(out);
        }
        put_list(out, &self.lanes);
    }
}

impl Decode for Beginning {
    const SIZE_MIN: usize = COMMITTED_SIZE_MIN + Before::SIZE_MIN + 4 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            header: Header::decode(reader)?,
            certificate: CommitCertificate::decode(reader)?,
            before: Before::decode(reader)?,
            handovers: {
                let count = reader.count("ends of epochs", COUNT_MAX, COMMITTED_SIZE_MIN)?;
                let one = |_| Ok((Header::decode(reader)?, CommitCertificate::decode(reader)?));
                (0..count).map(one).collect::<Result<_, DecodeError>>()?
            },
            lanes: reader.list("lanes", usize::from(u16::MAX))?,
        })
    }
}

impl Decode for Base {
    const SIZE_MIN: usize = 8 + Before::SIZE_MIN + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (first_height, before) = (Height::decode(reader)?, Before::decode(reader)?);
        let lanes = reader.list("lanes", usize::from(u16::MAX))?;
        Ok(Self { first_height, before, lanes })
    }
}

impl Encode for Before {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.primary.to_le_bytes());
        self.certified.encode(out);
    }
}

impl Decode for Before {
    const SIZE_MIN: usize = 2 + 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { primary: reader.u16()?, certified: Height::decode(reader)? })
    }
}
