//! Generated histories of one lane, seen by servers that are behind or ahead, and consumers that take, stop anywhere and resume
//! anywhere. The oracle is the content itself: what a consumer keeps is compared with what the server has.
#![expect(clippy::arithmetic_side_effects, reason = "a test's numbers are small")]

use std::convert::Infallible;

use proptest::prelude::*;
use quipu_crypto::hash::sha256;
use quipu_types::cursor::Branch;

use super::*;

/// What stands in a lane: numbers that name transactions.
type Content = Vec<u32>;

fn root(content: &[u32]) -> Hash {
    sha256(&content.iter().flat_map(|name| name.to_le_bytes()).collect::<Vec<_>>())
}

fn name(number: usize) -> Hash {
    sha256(&number.to_le_bytes())
}

fn seqno(count: usize) -> Seqno {
    Seqno::new(u64::try_from(count).unwrap())
}

fn count(seqno: Seqno) -> usize {
    usize::try_from(seqno.get()).unwrap()
}

/// One server's view of the lane.
#[derive(Clone, Debug, Default)]
struct View {
    /// What is certified, and behind it what is streamed.
    content: Content,
    /// How far each height's cut reaches; the first is the genesis'.
    cuts: Vec<usize>,
    /// Ends of the chunks that are not certified.
    chunks: Vec<usize>,
    /// Ends of those that are.
    old_chunks: Vec<usize>,
    /// Newest first.
    branches: Vec<BranchStart>,
    pruned: usize,
    /// Ends of the snapshots that a mode shows: cuts, or chunks.
    snapshots: Vec<usize>,
}

impl View {
    fn new() -> Self {
        let branches = vec![BranchStart { branch: name(0), after: seqno(0) }];
        Self { cuts: vec![0], branches, ..Self::default() }
    }

    fn cut(&self) -> usize {
        *self.cuts.last().unwrap()
    }

    /// What a server streams in a mode.
    fn shown(&self, mode: Mode) -> Self {
        let mut shown = self.clone();
        shown.snapshots.clone_from(&shown.cuts);
        if mode == Mode::Certified {
            shown.content.truncate(self.cut());
            shown.chunks.clear();
            shown.old_chunks.clear();
        } else {
            shown.snapshots = shown.old_chunks.iter().chain(&shown.chunks).copied().collect();
        }
        shown
    }
}

impl History for View {
    type Error = Infallible;

    fn height(&self) -> Height {
        Height::new(u64::try_from(self.cuts.len() - 1).unwrap())
    }

    fn certified(&self) -> Seqno {
        seqno(self.cut())
    }

    fn pruned(&self) -> Seqno {
        seqno(self.pruned)
    }

    fn high(&self) -> Seqno {
        seqno(self.content.len())
    }

    fn branches(&self) -> &[BranchStart] {
        &self.branches
    }

    fn root_at(&self, size: Seqno) -> Result<Hash, Infallible> {
        assert!(self.pruned() <= size && size <= self.high(), "asked for what is not there");
        Ok(root(&self.content[..count(size)]))
    }
}

/// What happens next in the lane.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The sequencer streams a chunk.
    Chunk { transactions: usize },
    /// A height commits some of the chunks.
    Commit { chunks: usize },
    /// A height commits some of the chunks and ends the term; the new sequencer may order the same transactions again.
    Term { chunks: usize, again: usize },
    /// What is old is pruned.
    Prune { to: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1_usize..5).prop_map(|transactions| Event::Chunk { transactions }),
        3 => (0_usize..4).prop_map(|chunks| Event::Commit { chunks }),
        2 => (0_usize..4, 0_usize..4).prop_map(|(chunks, again)| Event::Term { chunks, again }),
        1 => (0_usize..100).prop_map(|to| Event::Prune { to }),
    ]
}

/// The views of the lane after each event.
fn views(events: &[Event]) -> Vec<View> {
    let mut views = vec![View::new()];
    let mut next = 0_u32;
    let mut view = View::new();
    for (number, event) in events.iter().enumerate() {
        let push = |view: &mut View, transactions: &[u32]| {
            view.content.extend_from_slice(transactions);
            view.chunks.push(view.content.len());
        };
        match *event {
            Event::Chunk { transactions } => {
                let new: Vec<u32> = (0..transactions)
                    .map(|_| {
                        next += 1;
                        next
                    })
                    .collect();
                push(&mut view, &new);
            }
            Event::Commit { chunks } => commit(&mut view, chunks),
            Event::Term { chunks, again } => {
                commit(&mut view, chunks);
                let voided = view.content.split_off(view.cut());
                view.chunks.clear();
                let after = seqno(view.cut());
                view.branches.insert(0, BranchStart { branch: name(number + 1), after });
                let again = again.min(voided.len());
                if again > 0 {
                    push(&mut view, &voided[..again]);
                }
            }
            Event::Prune { to } => view.pruned = view.pruned.max(to.min(view.cut())),
        }
        views.push(view.clone());
    }
    views
}

fn commit(view: &mut View, chunks: usize) {
    let chunks = chunks.min(view.chunks.len());
    let last = view.cut();
    view.old_chunks.extend(view.chunks.drain(..chunks));
    let to = view.old_chunks.last().copied().unwrap_or(last);
    view.cuts.push(to);
}

/// A consumer, as the client library is one.
#[derive(Clone, Debug)]
struct Consumer {
    content: Content,
    cursor: Cursor,
    /// Where snapshots that were taken whole ended.
    ends: Vec<usize>,
}

impl Consumer {
    fn new() -> Self {
        let cursor = Cursor::start(Lane::new(0), name(0), root(&[]));
        Self { content: Content::new(), cursor, ends: vec![0] }
    }

    fn roll_back(&mut self, view: &View, to: Seqno) {
        self.content.truncate(count(to));
        self.ends.retain(|end| *end <= count(to));
        self.cursor.older.retain(|older| older.seqno < to);
        let cursor = &mut self.cursor;
        (cursor.seqno, cursor.start, cursor.end) = (to, to, to);
        cursor.root = root(&self.content);
        cursor.branch = branch_of(view, to);
    }

    /// Takes what follows, at most `most` transactions.
    fn take(&mut self, view: &View, most: usize) {
        let mut left = most;
        while left > 0 {
            let seqno_now = self.content.len();
            let Some((start, end)) = snapshot(view, seqno_now) else { break };
            let taken = left.min(end - seqno_now);
            left -= taken;
            self.content.extend_from_slice(&view.content[seqno_now..seqno_now + taken]);
            let now = self.content.len();
            let branch = branch_of(view, seqno(now));
            let cursor = &mut self.cursor;
            if branch != cursor.branch && seqno_now > count(cursor.certified.seqno) {
                let root = root(&self.content[..seqno_now]);
                let left = Branch { branch: cursor.branch, seqno: seqno(seqno_now), root };
                cursor.older.insert(0, left);
            }
            cursor.branch = branch;
            (cursor.seqno, cursor.start, cursor.end) = (seqno(now), seqno(start), seqno(end));
            if now == end {
                self.ends.push(end);
            }
        }
        self.cursor.root = root(&self.content);
        self.certify(view);
    }

    /// Hears of the heights whose cuts it has whole.
    fn certify(&mut self, view: &View) {
        let now = self.content.len();
        let whole = self.cursor.is_whole();
        let known = self.cursor.certified.height.get();
        for (height, cut) in (0_u64..).zip(&view.cuts) {
            if height > known && *cut <= now && (whole || *cut <= count(self.cursor.start)) {
                let root = root(&self.content[..*cut]);
                let height = Height::new(height);
                self.cursor.certified = Certified { height, seqno: seqno(*cut), root };
            }
        }
        let floor = self.cursor.certified.seqno;
        self.cursor.older.retain(|older| older.seqno > floor);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Certified,
    Tentative,
}

/// The snapshot that follows a place.
fn snapshot(view: &View, after: usize) -> Option<(usize, usize)> {
    let mut ends = view.snapshots.iter().copied();
    let mut start = 0;
    ends.find_map(|end| {
        let found = (end > after).then_some((start, end));
        start = end;
        found
    })
}

/// The branch in which a transaction was ordered.
fn branch_of(view: &View, at: Seqno) -> Hash {
    let first = view.branches.iter().find(|start| start.after < at || start.after.get() == 0);
    first.unwrap().branch
}

/// What a consumer does.
#[derive(Clone, Debug)]
struct Visit {
    /// Which view it meets.
    view: prop::sample::Index,
    /// How many transactions it takes before it goes.
    most: usize,
}

fn visit() -> impl Strategy<Value = Visit> {
    (any::<prop::sample::Index>(), 0_usize..12).prop_map(|(view, most)| Visit { view, most })
}

fn ask(view: &View, cursor: &Cursor) -> Result<Resume, ResumeError> {
    let Ok(answer) = resume(view, cursor);
    answer
}

/// Checks one answer against the oracle, and does what it says; `false` when it was refused.
fn check_answer(consumer: &mut Consumer, view: &View) -> Result<bool, TestCaseError> {
    let is_prefix = view.content.starts_with(&consumer.content);
    let is_behind = consumer.cursor.certified.height > view.height();
    match ask(view, &consumer.cursor) {
        Err(ResumeError::Behind { .. }) => {
            prop_assert!(is_behind);
            return Ok(false);
        }
        Err(ResumeError::Pruned { horizon, seqno, .. }) => {
            prop_assert!(seqno < horizon && horizon == view.pruned());
            return Ok(false);
        }
        Err(other) => prop_assert!(false, "an honest cursor was refused: {other}"),
        Ok(Resume::Continue) => prop_assert!(is_prefix, "what is kept is no prefix"),
        Ok(Resume::RollBack { to }) => {
            let whole = consumer.cursor.is_whole();
            prop_assert!(!(is_prefix && whole), "R4: a true whole prefix was rolled back");
            prop_assert!(to >= consumer.cursor.certified.seqno, "R4: certified is for ever");
            prop_assert!(to < consumer.cursor.seqno);
            consumer.roll_back(view, to);
            prop_assert!(view.content.starts_with(&consumer.content), "R1");
            prop_assert!(consumer.ends.contains(&count(to)), "R2: {to} is inside a snapshot");
            prop_assert_eq!(ask(view, &consumer.cursor), Ok(Resume::Continue), "R3");
        }
    }
    prop_assert!(!is_behind);
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn whoever_resumes_anywhere_keeps_a_true_prefix(
        events in proptest::collection::vec(event(), 1..40),
        visits in proptest::collection::vec(visit(), 1..12), is_tentative: bool,
    ) {
        let views = views(&events);
        let mode = if is_tentative { Mode::Tentative } else { Mode::Certified };
        let mut consumer = Consumer::new();
        for visit in &visits {
            let view = &visit.view.get(&views).shown(mode);
            if check_answer(&mut consumer, view)? {
                consumer.take(view, visit.most);
                let kept = &consumer.content;
                prop_assert!(view.content.starts_with(kept), "the test's consumer is wrong");
            }
        }
    }

    #[test]
    fn no_cursor_makes_the_rule_panic_or_roll_back_what_is_certified(
        events in proptest::collection::vec(event(), 1..30), at: prop::sample::Index,
        numbers in proptest::array::uniform5(0_u64..40), names in proptest::array::uniform4(0_usize..12),
    ) {
        let views = views(&events);
        let view = at.get(&views);
        let [height, floor, seqno, start, end] = numbers.map(Seqno::new);
        let root_of = |place: Seqno, wrong: usize| {
            let kept = view.content.get(..count(place)).filter(|_| wrong < 10);
            kept.map_or(name(wrong), root)
        };
        let certified = Certified { height: Height::new(height.get() % 12), seqno: floor, root: root_of(floor, names[0]) };
        let older = vec![Branch { branch: name(names[3]), seqno: end, root: root_of(end, names[2]) }];
        let root = root_of(seqno, names[1]);
        let cursor = Cursor { lane: Lane::new(0), certified, branch: name(names[2]), seqno, start, end, root, older };
        if let Ok(Resume::RollBack { to }) = ask(view, &cursor) {
            prop_assert!(floor <= to && to < seqno);
        }
    }
}

/// The examples of the design: branches `Z@200 Y@100 X@0`, high 300.
#[test]
fn the_rule_by_examples() {
    let (z, y, x) = (name(3), name(2), name(0));
    let starts = [(z, 200), (y, 100), (x, 0)];
    let branches = starts.map(|(branch, after)| BranchStart { branch, after: seqno(after) });
    let view = View {
        content: (0..300).collect(),
        cuts: vec![0],
        branches: branches.to_vec(),
        ..View::default()
    };
    let empty = root(&[]);
    let asked = |branch: Hash, at: usize, start: usize, end: usize| {
        let kept = view.content.iter().copied().chain(1_000..).take(at).collect::<Content>();
        let is_true = branch == z || at <= 200;
        let root = if is_true { root(&kept) } else { name(99) };
        let cursor = Cursor::start(Lane::new(0), x, empty);
        let (seqno, start, end) = (seqno(at), seqno(start), seqno(end));
        match ask(&view, &Cursor { branch, seqno, start, end, root, ..cursor }) {
            Ok(Resume::Continue) => Ok(at),
            Ok(Resume::RollBack { to }) => Ok(count(to)),
            Err(refused) => Err(refused.code()),
        }
    };
    assert_eq!(asked(z, 200, 200, 301), Ok(200));
    assert_eq!(asked(z, 300, 300, 301), Ok(300));
    assert_eq!(asked(z, 400, 400, 400), Ok(300));
    assert_eq!(asked(z, 220, 210, 301), Ok(210));
    assert_eq!(asked(z, 310, 210, 320), Ok(210));
    assert_eq!(asked(z, 320, 310, 340), Ok(300));
    assert_eq!(asked(y, 250, 190, 250), Ok(200));
    assert_eq!(asked(y, 220, 190, 250), Ok(190));
    assert_eq!(asked(y, 220, 205, 250), Ok(200));
    assert_eq!(asked(name(7), 120, 110, 130), Ok(0), "a branch that nobody knows");
    assert_eq!(asked(z, 220, 230, 240), Err(code::CURSOR));
}
