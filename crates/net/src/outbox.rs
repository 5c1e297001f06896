//! What waits to be sent to one peer: bounded in bytes, the most urgent class first.
//!
//! ```text
//!  push ─┬─> votes   full: the oldest votes go, for newer ones say more   ─┐
//!        ├─> chunks  full: the new frame is refused                        ├─> pop: first votes, then chunks, then bulk
//!        └─> bulk    full: the new frame is refused                       ─┘
//! ```
//! # Invariants
//! * O1 A class never holds more than its bound, [`FRAME_OVERHEAD`] bytes counted for each frame beside its own.
//! * O2 Within a class frames leave in the order in which they came.
//! * O3 Each frame that was pushed is popped, dropped or still there, and every drop is counted.
//!
//! Nothing is said twice here: who wants a dropped message sends it again, or the peer fetches it.

use std::collections::VecDeque;

/// How urgent a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Votes, proposals, round changes, acks: small, and others wait for them.
    Vote,
    /// Chunks of lanes.
    Chunk,
    /// Answers to those who catch up. A frame that is being sent is not overtaken: make many small ones.
    Bulk,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Vote, Self::Chunk, Self::Bulk];

    /// Its name in measurements.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Chunk => "chunk",
            Self::Bulk => "bulk",
        }
    }
}

/// Bytes that a waiting frame counts beside its own: what holding it costs.
pub const FRAME_OVERHEAD: usize = 64;

/// Most bytes that wait, by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Of votes.
    pub vote_size_max: usize,
    /// Of chunks.
    pub chunk_size_max: usize,
    /// Of bulk.
    pub bulk_size_max: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { vote_size_max: 5 << 20, chunk_size_max: 16 << 20, bulk_size_max: 9 << 20 }
    }
}

/// What became of a frame that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// It waits to be sent.
    pub is_queued: bool,
    /// Frames that were dropped for it, itself included.
    pub dropped_count: u64,
}

/// Frames of one class.
#[derive(Clone, Debug)]
struct Queue<T> {
    size_max: usize,
    size: usize,
    frames: VecDeque<(usize, T)>,
}

impl<T> Queue<T> {
    const fn new(size_max: usize) -> Self {
        Self { size_max, size: 0, frames: VecDeque::new() }
    }

    fn fits(&self, cost: usize) -> bool {
        self.size.saturating_add(cost) <= self.size_max
    }

    fn pop(&mut self) -> Option<T> {
        let (cost, frame) = self.frames.pop_front()?;
        self.size = self.size.saturating_sub(cost);
        Some(frame)
    }

    fn push(&mut self, cost: usize, frame: T) {
        self.size = self.size.saturating_add(cost);
        assert!(self.size <= self.size_max, "O1: a frame is pushed where it fits");
        self.frames.push_back((cost, frame));
    }

    fn clear(&mut self) -> u64 {
        let count = count_of(self.frames.len());
        self.frames = VecDeque::new();
        self.size = 0;
        count
    }
}

fn count_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The frames that wait for one peer.
#[derive(Clone, Debug)]
pub struct Outbox<T> {
    votes: Queue<T>,
    chunks: Queue<T>,
    bulk: Queue<T>,
}

impl<T> Outbox<T> {
    /// An empty one.
    #[must_use]
    pub const fn new(limits: OutboxLimits) -> Self {
        Self {
            votes: Queue::new(limits.vote_size_max),
            chunks: Queue::new(limits.chunk_size_max),
            bulk: Queue::new(limits.bulk_size_max),
        }
    }

    const fn queue(&mut self, class: Class) -> &mut Queue<T> {
        match class {
            Class::Vote => &mut self.votes,
            Class::Chunk => &mut self.chunks,
            Class::Bulk => &mut self.bulk,
        }
    }

    /// Lets `frame`, which has `size` bytes, wait; makes room for a vote by dropping older ones.
    #[must_use = "drops are counted by who pushes"]
    pub fn push(&mut self, class: Class, size: usize, frame: T) -> Pushed {
        let queue = self.queue(class);
        let cost = size.saturating_add(FRAME_OVERHEAD);
        if cost > queue.size_max || (class != Class::Vote && !queue.fits(cost)) {
            return Pushed { is_queued: false, dropped_count: 1 };
        }
        let mut dropped_count = 0_u64;
        while !queue.fits(cost) {
            let oldest = queue.pop();
            assert!(oldest.is_some(), "an empty queue has room for a frame within its bound");
            dropped_count = dropped_count.saturating_add(1);
        }
        queue.push(cost, frame);
        Pushed { is_queued: true, dropped_count }
    }

    /// The next frame to send, and its class.
    pub fn pop(&mut self) -> Option<(Class, T)> {
        Class::ALL.into_iter().find_map(|class| Some((class, self.queue(class).pop()?)))
    }

    /// Drops all that waits, and says how many frames of which class that were.
    pub fn clear(&mut self) -> [(Class, u64); 3] {
        Class::ALL.map(|class| (class, self.queue(class).clear()))
    }

    /// Bytes that wait, with the overhead of each frame.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.votes.size.saturating_add(self.chunks.size).saturating_add(self.bulk.size)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.votes.frames.is_empty() && self.chunks.frames.is_empty() && self.bulk.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]

    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    /// Rooms for frames of 100 bytes: three votes, two chunks, one of bulk.
    fn small() -> Outbox<String> {
        let frames = |count: usize| count * (100 + FRAME_OVERHEAD);
        Outbox::new(OutboxLimits {
            vote_size_max: frames(3),
            chunk_size_max: frames(2),
            bulk_size_max: frames(1),
        })
    }

    fn check(script: &str, expected: &Expect) {
        let mut outbox = small();
        let mut out = String::new();
        for word in script.split_whitespace() {
            let class = match word.chars().next() {
                Some('v') => Class::Vote,
                Some('c') => Class::Chunk,
                Some('b') => Class::Bulk,
                _ => {
                    let popped = outbox.pop().map_or("nothing".into(), |(_, frame)| frame);
                    out += &format!("pop -> {popped}\n");
                    continue;
                }
            };
            let Pushed { is_queued, dropped_count } = outbox.push(class, 100, word.to_owned());
            let verdict = if is_queued { "waits" } else { "refused" };
            out += &format!("{word} {verdict}, {dropped_count} dropped\n");
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn votes_push_out_older_votes_and_overtake_chunks_and_bulk() {
        check(
            "b1 c1 c2 c3 b2 v1 v2 v3 v4 - - - - - - -",
            &expect![[r#"
                b1 waits, 0 dropped
                c1 waits, 0 dropped
                c2 waits, 0 dropped
                c3 refused, 1 dropped
                b2 refused, 1 dropped
                v1 waits, 0 dropped
                v2 waits, 0 dropped
                v3 waits, 0 dropped
                v4 waits, 1 dropped
                pop -> v2
                pop -> v3
                pop -> v4
                pop -> c1
                pop -> c2
                pop -> b1
                pop -> nothing
            "#]],
        );
    }

    #[test]
    fn a_frame_that_no_room_fits_is_refused_and_drops_nothing_else() {
        let mut outbox = small();
        assert!(outbox.push(Class::Vote, 100, "v1".into()).is_queued);
        let pushed = outbox.push(Class::Vote, 1_000, "v2".into());
        assert_eq!(pushed, Pushed { is_queued: false, dropped_count: 1 });
        assert_eq!(outbox.pop(), Some((Class::Vote, "v1".into())));
        assert!(outbox.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_uncounted_and_no_bound_is_passed(
            steps in proptest::collection::vec((0_usize..4, 0_usize..300), 0..120),
        ) {
            let mut outbox = small();
            let (mut pushed, mut dropped, mut popped) = (0_u64, 0_u64, 0_u64);
            let limit = 6 * (100 + FRAME_OVERHEAD);
            for (what, size) in steps {
                match Class::ALL.get(what) {
                    Some(class) => {
                        pushed += 1;
                        dropped += outbox.push(*class, size, String::new()).dropped_count;
                    }
                    None => popped += u64::from(outbox.pop().is_some()),
                }
                prop_assert!(outbox.size() <= limit);
            }
            let left: u64 = outbox.clear().iter().map(|(_, count)| count).sum();
            prop_assert_eq!(pushed, dropped + popped + left);
            prop_assert!(outbox.is_empty() && outbox.size() == 0);
        }
    }
}
