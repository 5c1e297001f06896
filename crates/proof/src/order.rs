//! The one order over all lanes: which transactions a header adds, and in which order they count: arithmetic, the
//! same for validators, servers and consumers.
//!
//! ```text
//!  position in the ledger = transactions of earlier cuts + lanes before in this height's rotation + index in the lane's batch
//! ```

use quipu_types::{ChunkHeader, Hash, Header, Lane, Seqno, Tip};

/// The order of lanes in the height that follows `prev_header`: all lanes, from one that its hash chooses.
///
/// # Panics
/// When `lane_count` is 0, which no checked genesis has.
#[must_use]
pub fn lane_order(prev_header: &Hash, lane_count: u16) -> Vec<Lane> {
    let first = prev_header.0.first_chunk::<8>().expect("a hash has 32 bytes");
    let first = u64::from_le_bytes(*first)
        .checked_rem(u64::from(lane_count))
        .expect("a checked genesis has at least one lane");
    let first = u16::try_from(first).expect("a remainder of a u16 is a u16");
    (first..lane_count).chain(0..first).map(Lane::new).collect()
}

/// The transactions that a header adds, lane by lane in the ledger's order: those of the lane with `after < seqno ≤ to`.
/// `cut_before` is the cut of the header before; empty at height 1.
#[must_use]
pub fn moves(header: &Header, cut_before: &[Tip]) -> Vec<(Lane, Seqno, Seqno)> {
    let lane_count = u16::try_from(header.cut.len()).expect("decoding bounds the lanes");
    if lane_count == 0 {
        return Vec::new();
    }
    lane_order(&header.prev_header, lane_count)
        .into_iter()
        .filter_map(|lane| {
            let to = tip_of(&header.cut, lane)?.seqno;
            let after = tip_of(cut_before, lane).map_or(Seqno::default(), |tip| tip.seqno);
            (after < to).then_some((lane, after, to))
        })
        .collect()
}

/// How many transactions the ledger has up to a cut: lanes are dense, from 1.
#[must_use]
pub fn transaction_count(cut: &[Tip]) -> u64 {
    cut.iter().map(|tip| tip.seqno.get()).fold(0, u64::saturating_add)
}

/// The tip of a lane in a cut.
#[must_use]
pub fn tip_of(cut: &[Tip], lane: Lane) -> Option<&Tip> {
    cut.iter().find(|tip| tip.lane == lane)
}

/// The tip of a lane after a chunk. `chunk_hash` is the header's.
///
/// # Panics
/// Never for a decoded header ([`ChunkHeader::last_seqno`]).
#[must_use]
pub fn tip_after(header: &ChunkHeader, chunk_hash: Hash) -> Tip {
    Tip {
        lane: header.lane,
        term: header.term,
        index: header.index,
        seqno: header.last_seqno(),
        lane_root: header.lane_root,
        chunk_hash,
    }
}
