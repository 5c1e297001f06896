//! A replica's lanes from what was found on disk.

use quipu_clock::LaneClock;
use quipu_consensus::{Context, LaneTerm, Now, genesis_cut};
use quipu_crypto::hash::blake3;
use quipu_log::TermRecord;
use quipu_proof::names;
use quipu_types::{Genesis, Hash, Height, Tip, ValidatorIndex};

use super::StartError;
use crate::api::{Chunk, Effect, Recovered, RecoveredLane};
use crate::gate::Gate;
use crate::lane::{Lane, LaneStart, Lanes, links};
use crate::observer::Observing;
use crate::producers::{Place, Producers};

/// What the last header leaves each lane in, as its record says; the first term where there is none.
pub(super) fn terms(chain: &Hash, recovered: &Recovered) -> Vec<LaneTerm> {
    let first = LaneTerm { term: quipu_consensus::header::TERM_FIRST, branch: *chain };
    let of = |term: TermRecord| LaneTerm { term: term.term, branch: term.branch };
    recovered.lanes.iter().map(|lane| lane.term.map_or(first, of)).collect()
}

/// The lanes, each with the chunks beyond the last cut (R4).
pub(super) fn start_lanes(
    now: Now,
    genesis: &Genesis,
    own: ValidatorIndex,
    context: &Context,
    recovered: &Recovered,
    (observing, gate): (Option<&Observing>, &mut Gate),
) -> Result<Lanes, StartError> {
    let (found, wanted) = (recovered.lanes.len(), usize::from(genesis.lane_count));
    if found != wanted {
        return Err(StartError::LaneCount { found, wanted });
    }
    let cut = match &recovered.head {
        None => genesis_cut(genesis.lane_count),
        Some((header, _)) => header.cut.clone(),
    };
    let mut lanes = Vec::with_capacity(wanted);
    for (committed, lane) in cut.into_iter().zip(&recovered.lanes) {
        let term = lane.term.unwrap_or_else(|| {
            let term = first_term(context, &committed);
            gate.write(Effect::WriteTerm(term));
            term
        });
        check_suffix(&term, &committed, lane)?;
        let seed = quipu_clock::seed_value(&genesis.clock_seed);
        let clock = LaneClock::resume(committed.lane, seed, lane.committed.as_ref());
        lanes.push(Lane::new(LaneStart {
            term,
            next_term: lane.next_term.clone(),
            committed,
            frontier: lane.frontier.clone(),
            clock,
            clock_us: now.mono_us,
            rate_hz: genesis.clock_rate_hz,
            lane_count: wanted,
            is_own: term.sequencer == own && may_sequence(&term, observing),
        }));
    }
    Ok(Lanes::new(lanes))
}

/// Whether a validator with a new disk may make the chunks of a term of its own.
pub(super) fn may_sequence(term: &TermRecord, observing: Option<&Observing>) -> bool {
    observing.is_none_or(|observing| observing.is_fresh(term.height))
}

/// Chunks beyond the last cut were taken and may have been acked: they stay, and are ordered next (R4).
pub(super) fn restore_suffixes(
    lanes: &mut Lanes,
    producers: &mut Producers,
    recovered: &Recovered,
) -> Result<(), StartError> {
    for (lane, found) in lanes.all.iter_mut().zip(&recovered.lanes) {
        for chunk in &found.suffix {
            let (number, index) = (chunk.stored.header.lane, chunk.stored.header.index);
            for admitted in &chunk.transactions {
                let Place::Next { .. } = producers.place_in_chunk(admitted) else {
                    let what = "has a transaction out of its producer's sequence";
                    return Err(StartError::Lane { lane: number, index, what });
                };
                producers.hold(admitted);
            }
            lane.append(chunk).map_err(|_| {
                let what = "is not what its header says";
                StartError::Lane { lane: number, index, what }
            })?;
        }
    }
    Ok(())
}

pub(crate) fn first_term(context: &Context, committed: &Tip) -> TermRecord {
    TermRecord {
        lane: committed.lane,
        term: committed.term,
        sequencer: context.epochs.sequencer(committed.lane, committed.term),
        branch: context.chain,
        first_seqno: committed.seqno.next(),
        height: Height::default(),
    }
}

/// Whether a lane's chunks are what the cut and their headers say, link by link.
fn check_suffix(
    term: &TermRecord,
    committed: &Tip,
    lane: &RecoveredLane,
) -> Result<(), StartError> {
    let wrong = |index, what| StartError::Lane { lane: committed.lane, index, what };
    let found = lane.committed.as_ref().map(|header| (header.index, names::chunk_hash(header)));
    if found.unwrap_or_default() != (committed.index, committed.chunk_hash) {
        return Err(wrong(committed.index, "is not the one that the last header commits"));
    }
    let mut tip = *committed;
    for chunk in &lane.suffix {
        let index = chunk.stored.header.index;
        if !links(term, &tip, &chunk.stored.header) {
            return Err(wrong(index, "does not link to the one before"));
        }
        if blake3(&chunk.stored.body) != chunk.stored.header.body_digest || !has_count(chunk) {
            return Err(wrong(index, "has not the body that its header names"));
        }
        tip = chunk.tip();
    }
    let (size, root) = (lane.frontier.size(), lane.frontier.root());
    if size == committed.seqno.get() && root == committed.lane_root {
        Ok(())
    } else {
        Err(wrong(committed.index, "does not end in the lane's tree"))
    }
}

fn has_count(chunk: &Chunk) -> bool {
    usize::try_from(chunk.stored.header.count) == Ok(chunk.transactions.len())
}
