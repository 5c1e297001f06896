//! Where a position stands among the committed heights: for followers and proofs.

use quipu_log::{LedgerReader, LogError};
use quipu_types::{Header, Height, Lane, Seqno};

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
