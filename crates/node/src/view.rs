//! Committed heights read back from the log: for recovery, followers and checks.

use std::sync::Arc;

use quipu_log::{LedgerReader, LogError};
use quipu_replica::{Admitted, Block, readmit};
use quipu_types::{Code, Hash, Header, Height, Lane, Seqno, Tip};
use thiserror::Error;

/// Why a committed height can not be read.
#[derive(Debug, Error)]
pub(crate) enum ViewError {
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Bytes with the right digest are no transaction.
    #[error("lane {lane}, seqno {seqno}: the stored transaction is refused with {code}")]
    Transaction {
        /// The lane.
        lane: Lane,
        /// The number.
        seqno: Seqno,
        /// Why.
        code: Code,
    },
    /// A lane ends before a committed cut.
    #[error("lane {lane} ends at seqno {seqno}, which is below a committed cut")]
    Short {
        /// The lane.
        lane: Lane,
        /// The last that was read.
        seqno: Seqno,
    },
}

/// The cut of the header before `height`; empty at height 1.
pub(crate) fn cut_before(reader: &LedgerReader, height: Height) -> Result<Vec<Tip>, LogError> {
    match height.get() {
        0 | 1 => Ok(Vec::new()),
        number => Ok(reader.header(Height::new(number.saturating_sub(1)))?.0.cut),
    }
}

/// The block of a committed height, its transactions decoded and named.
pub(crate) fn block(
    reader: &LedgerReader,
    chain: &Hash,
    lane_count: u16,
    height: Height,
) -> Result<Block, ViewError> {
    let (header, certificate) = reader.header(height)?;
    let cut = cut_before(reader, height)?;
    Block::assemble(header, certificate, &cut, |lane, after, to| {
        read_lane(reader, chain, lane_count, lane, after, to)
    })
}

fn read_lane(
    reader: &LedgerReader,
    chain: &Hash,
    lane_count: u16,
    lane: Lane,
    after: Seqno,
    to: Seqno,
) -> Result<Vec<Arc<Admitted>>, ViewError> {
    let mut transactions = Vec::new();
    let mut last = after;
    for read in reader.read_from(lane, after.next())? {
        let (seqno, bytes) = read?;
        if seqno > to {
            break;
        }
        let admitted = readmit(chain, lane_count, bytes.into())
            .map_err(|code| ViewError::Transaction { lane, seqno, code })?;
        transactions.push(Arc::new(admitted));
        last = seqno;
        if seqno == to {
            break;
        }
    }
    if last == to { Ok(transactions) } else { Err(ViewError::Short { lane, seqno: last }) }
}

/// The height whose cut covers `(lane, seqno)` first, by bisection; `None` beyond the committed tip.
pub(crate) fn height_of(
    reader: &LedgerReader,
    lane: Lane,
    seqno: Seqno,
) -> Result<Option<Height>, LogError> {
    let covers =
        |header: &Header| header.cut.iter().any(|tip| tip.lane == lane && tip.seqno >= seqno);
    let mut high = reader.height().get();
    if high == 0 || !covers(&reader.header(Height::new(high))?.0) {
        return Ok(None);
    }
    let mut low = 1_u64;
    while low < high {
        let middle = low.midpoint(high);
        if covers(&reader.header(Height::new(middle))?.0) {
            high = middle;
        } else {
            low = middle.saturating_add(1);
        }
    }
    Ok(Some(Height::new(high)))
}
