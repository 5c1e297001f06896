//! `quipu export`: a stretch of a stopped validator's log as an archive.

use quipu_types::{Height, code};

use crate::args::Export;
use crate::failure::{Failure, Result};
use crate::screen::{self, grouped};
use crate::tools;

/// Makes an archive.
pub(crate) fn run(args: &Export) -> Result<()> {
    let bar = screen::bar("heights", 0);
    let heights = (args.first.map(Height::new), args.last.map(Height::new));
    let archived = quipu_node::export(&args.dir, &args.out, heights, &mut |height, last| {
        bar.set_length(last.get());
        bar.set_position(height.get());
    });
    bar.finish_and_clear();
    let archived = archived.map_err(|error| Failure::new(code::EXPORT, error))?;
    let count = grouped(archived.transaction_count);
    let (first, last, out) = (archived.first, archived.last, args.out.display());
    tools::print(&format!("{out}: heights {first} to {last}, {count} transactions"))?;
    tools::print(&format!("Check it: quipu check --archive {out} --genesis YOURS.json"))
}
