//! The validators that a gateway may ask: whom next, who waits, and who is out for good.
//!
//! ```text
//!  asked ── breaks, or does not answer ──> rests: 100 ms, doubled each time up to 10 s
//!        ── stands still while another goes on ──> rests the longest at once
//!        ── shows what does not verify ──> out, until the gateway is started anew
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quipu_client::{Ack, Client};
use quipu_types::{Code, Height};

use crate::clock::Clock;
use crate::error::NodeError;

/// Rest after the first failure.
const REST_US: u64 = 100_000;
/// Doublings of it.
const REST_DOUBLE_COUNT_MAX: u32 = 7;

/// One validator's address.
#[derive(Debug)]
pub(crate) struct Source {
    /// How it was given.
    pub(crate) url: String,
    pub(crate) client: Client,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    is_out: bool,
    failure_count: u32,
    /// Not asked before.
    rests_until_us: u64,
    /// How far it says that it is.
    height: Height,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Sources {
    all: Vec<Source>,
    standings: Mutex<Vec<Standing>>,
    clock: Clock,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This one.
    Ask(usize),
    /// All rest; the first is asked again after this time.
    Wait(Duration),
    /// All are out.
    Nobody,
}

impl Sources {
    pub(crate) fn new(urls: &[String], clock: Clock) -> Result<Self, NodeError> {
        let source = |url: &String| {
            let client =
                Client::new(url).map_err(|error| NodeError::system("--validator", error))?;
            Ok(Source { url: url.clone(), client: client.with_ack(Ack::Taken) })
        };
        let all = urls.iter().map(source).collect::<Result<Vec<_>, NodeError>>()?;
        let standings = Mutex::new(vec![Standing::default(); all.len()]);
        Ok(Self { all, standings, clock })
    }

    pub(crate) fn get(&self, place: usize) -> Option<&Source> {
        self.all.get(place)
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, place: usize, change: impl FnOnce(&mut Standing)) {
        if let Some(standing) = self.lock().get_mut(place) {
            change(standing);
        }
    }

    /// Whom to ask, beginning with the one at `first`.
    pub(crate) fn next(&self, first: usize) -> Next {
        let now_us = self.clock.mono_us();
        let standings = self.lock();
        let mut wait_us = None;
        for (place, standing) in standings.iter().enumerate().cycle().skip(first).take(self.count())
        {
            if standing.is_out {
                continue;
            }
            let left_us = standing.rests_until_us.saturating_sub(now_us);
            if left_us == 0 {
                return Next::Ask(place);
            }
            wait_us = Some(wait_us.map_or(left_us, |least: u64| least.min(left_us)));
        }
        wait_us.map_or(Next::Nobody, |us| Next::Wait(Duration::from_micros(us)))
    }

    /// Whether another one than this may be asked now.
    pub(crate) fn has_other(&self, place: usize) -> bool {
        matches!(self.next(place.saturating_add(1)), Next::Ask(other) if other != place)
    }

    /// It answers.
    pub(crate) fn works(&self, place: usize) {
        self.change(place, |standing| standing.failure_count = 0);
    }

    /// How far it says that it is.
    pub(crate) fn says(&self, place: usize, height: Height) {
        self.change(place, |standing| standing.height = standing.height.max(height));
    }

    /// The farthest that one of them says, and is not out.
    pub(crate) fn height(&self) -> Height {
        let standings = self.lock();
        let heights = standings.iter().filter(|standing| !standing.is_out);
        heights.map(|standing| standing.height).max().unwrap_or_default()
    }

    /// It broke, or did not answer.
    pub(crate) fn failed(&self, place: usize) {
        let now_us = self.clock.mono_us();
        self.change(place, |standing| {
            let rest_us = REST_US << standing.failure_count.min(REST_DOUBLE_COUNT_MAX);
            standing.failure_count = standing.failure_count.saturating_add(1);
            standing.rests_until_us = now_us.saturating_add(rest_us);
        });
    }

    /// It stood still while another one went on.
    pub(crate) fn was_behind(&self, place: usize) {
        self.change(place, |standing| standing.failure_count = REST_DOUBLE_COUNT_MAX);
        self.failed(place);
    }

    /// It showed what does not verify: it is named, and not asked again.
    pub(crate) fn expel(&self, place: usize, code: Code, why: &dyn std::fmt::Display) {
        let url = self.get(place).map_or("", |source| source.url.as_str());
        tracing::error!(%code, validator = url, %why, "a validator is kept out: what it sends is false");
        self.change(place, |standing| standing.is_out = true);
        if self.next(0) == Next::Nobody {
            let code = quipu_types::code::NOBODY_LEFT;
            tracing::error!(%code, "no validator is left to follow; what was verified is still served");
        }
    }
}

#[cfg(test)]
mod tests {
    use quipu_types::code;

    use super::*;

    fn sources() -> Sources {
        let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"];
        Sources::new(&urls.map(str::to_owned), Clock::new()).unwrap()
    }

    #[test]
    fn who_failed_rests_and_who_lied_is_not_asked_again() {
        let sources = sources();
        assert_eq!(sources.next(1), Next::Ask(1));
        sources.was_behind(1);
        assert_eq!(sources.next(1), Next::Ask(2));
        sources.expel(2, code::FOLLOWED_FALSE, &"a test");
        assert_eq!(sources.next(1), Next::Ask(0));
        assert!(!sources.has_other(0));
        sources.says(0, Height::new(7));
        assert_eq!(sources.height(), Height::new(7));
        sources.expel(0, code::FOLLOWED_FALSE, &"a test");
        assert!(matches!(sources.next(0), Next::Wait(time) if time > Duration::from_secs(5)));
        assert_eq!(sources.height(), Height::default());
        sources.expel(1, code::FOLLOWED_FALSE, &"a test");
        assert_eq!(sources.next(5), Next::Nobody);
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        let refused = Sources::new(&["localhost:1".to_owned()], Clock::new()).unwrap_err();
        assert!(refused.to_string().contains("http://HOST:PORT"), "{refused}");
    }
}
