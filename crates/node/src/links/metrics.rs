//! What links count.

use std::collections::BTreeMap;
use std::fmt;

use metrics::Counter;
use quipu_net::{Class, Reason};

/// Why a connection ends before it is a link, beside the reasons that the other is told.
const REASONS: [&str; 4] = ["tls", "slow", "crowd", "broken"];

/// Handles of everything that links count.
#[derive(Clone)]
pub struct LinkMetrics {
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    pub(super) frames_in: Counter,
    pub(super) frames_out: Counter,
    pub(super) connects: Counter,
    pub(super) bans: Counter,
    dropped: BTreeMap<Class, Counter>,
    refused: BTreeMap<&'static str, Counter>,
}

impl fmt::Debug for LinkMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkMetrics").finish_non_exhaustive()
    }
}

impl LinkMetrics {
    /// Handles that `counter` gives for a name, its text and a label.
    pub(crate) fn new(
        counter: impl Fn(&'static str, &'static str, Option<(&'static str, &'static str)>) -> Counter,
    ) -> Self {
        let plain = |name, text| counter(name, text, None);
        let dropped = |class: Class| {
            let label = Some(("class", class.name()));
            let text = "Messages to other validators that were dropped, by class.";
            (class, counter("quipu_links_dropped_total", text, label))
        };
        let refused = |reason: &'static str| {
            let text = "Connections of validators that were refused, by reason.";
            (reason, counter("quipu_links_refused_total", text, Some(("reason", reason))))
        };
        Self {
            bytes_in: plain("quipu_links_in_bytes_total", "Bytes of frames from other validators."),
            bytes_out: plain("quipu_links_out_bytes_total", "Bytes of frames to other validators."),
            frames_in: plain("quipu_links_in_frames_total", "Frames from other validators."),
            frames_out: plain("quipu_links_out_frames_total", "Frames to other validators."),
            connects: plain("quipu_links_connects_total", "Times that a link of ours came up."),
            bans: plain("quipu_links_bans_total", "Times that a validator was shut out."),
            dropped: Class::ALL.into_iter().map(dropped).collect(),
            refused: Reason::ALL
                .iter()
                .map(|reason| reason.name())
                .chain(REASONS)
                .map(refused)
                .collect(),
        }
    }

    /// Handles that count nothing.
    #[must_use]
    pub fn detached() -> Self {
        Self::new(|_, _, _| Counter::noop())
    }

    /// Counts dropped messages.
    pub(super) fn drop_frames(&self, class: Class, count: u64) {
        if let Some(counter) = self.dropped.get(&class) {
            counter.increment(count);
        }
    }

    /// Counts a connection that did not become a link.
    pub(super) fn refuse(&self, reason: &str) {
        if let Some(counter) = self.refused.get(reason) {
            counter.increment(1);
        }
    }
}
