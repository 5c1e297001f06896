//! Values that execution reads often and that never change once they are there, decoded.
//!
//! # Invariants
//! * C1 What is kept was read from the [`View`], which shows the applied state and nothing of a height that is
//!   being executed. Nothing applied is ever taken back: a speculation that is dropped and a block that fails
//!   leave true values here, or none.
//! * C2 Whether a value is kept changes no outcome. An anchor may outlive its row: who asks judges its age.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_crypto::CacheCounts;
use quipu_types::{Hash, Height};

use crate::dealing::Checks;
use crate::record::Stream;
use crate::store::{Store, StoreError};
use crate::table::Definitions;
use crate::view::View;

/// Most streams, and most anchors, kept.
const CACHE_COUNT_MAX: usize = 1_024;

/// What was read, by name. Only reads through a view fill it (C1).
#[derive(Debug, Default)]
pub(crate) struct Cache {
    streams: BTreeMap<String, Arc<Stream>>,
    anchors: BTreeMap<Hash, Height>,
    pub(crate) definitions: Definitions,
    /// Dealings that were checked; not of the view alone, and still true of their bytes (C2).
    pub(crate) checks: Checks,
    counts: CacheCounts,
}

impl Cache {
    /// How often a value was asked for.
    pub(crate) const fn counts(&self) -> CacheCounts {
        self.counts
    }

    const fn count<T>(counts: &mut CacheCounts, found: Option<&T>) {
        match found {
            Some(_) => counts.hits = counts.hits.saturating_add(1),
            None => counts.misses = counts.misses.saturating_add(1),
        }
    }

    /// The stream that the applied state has under this name.
    pub(crate) fn stream<S: Store>(
        &mut self,
        view: &View<S>,
        name: &str,
    ) -> Result<Option<Arc<Stream>>, StoreError> {
        let kept = self.streams.get(name);
        Self::count(&mut self.counts, kept);
        if let Some(stream) = kept {
            return Ok(Some(Arc::clone(stream)));
        }
        let Some(stream) = view.stream(name)?.map(Arc::new) else { return Ok(None) };
        if self.streams.len() >= CACHE_COUNT_MAX {
            self.streams.clear();
        }
        self.streams.insert(name.to_owned(), Arc::clone(&stream));
        Ok(Some(stream))
    }

    /// The height of a header that is applied, and known for as long as it may be an anchor at least (C2).
    pub(crate) fn anchor<S: Store>(
        &mut self,
        view: &View<S>,
        header: &Hash,
    ) -> Result<Option<Height>, StoreError> {
        let kept = self.anchors.get(header);
        Self::count(&mut self.counts, kept);
        if let Some(height) = kept {
            return Ok(Some(*height));
        }
        let Some(height) = view.anchor(header)? else { return Ok(None) };
        if self.anchors.len() >= CACHE_COUNT_MAX {
            self.anchors.clear();
        }
        self.anchors.insert(*header, height);
        Ok(Some(height))
    }
}
