//! Complaints of clients: what is heard, what is counted, when a sequencer is suspected for it, who is not heard any more.
//!
//! ```text
//!  complaint ─ checked ─> line of its lane, oldest first ─ among the first 8 ─> its heights are counted
//!                                    │                                             │
//!                                    └─ the cut covers it, or its term ends        └─ 2 of them, and 1.5 s of their
//!                                       ─> gone                                       time: (lane, term) is suspected
//! ```
//! # Invariants
//! * B1 What is counted could have been ordered: the transaction is admitted, and the next of its producer after the lane's
//!   committed cut. As soon as the cut covers it, or another one in its place, it is gone, and with it the suspicion.
//! * B2 A complaint counts in the term that it names. Nothing of a line outlives its term.
//! * B3 The count begins anew with each height in which the cut moves through chunks that were here before the
//!   transaction was among the first ([`Line::excuse`]): an honest sequencer under load is that far behind, other lanes make
//!   heights meanwhile, and what is complained of comes after. A sequencer that shows such chunks to some and lets the cut
//!   crawl gains nothing: if a third of the honest hold them, inclusion has the next cuts take all of them; if not,
//!   more than a third of the honest do not, count, and are enough.
//! * B4 Each validator tells the sequencer itself, up to four times, so that who is told nothing is not suspected for it. An
//!   honest sequencer puts what is complained of before everything else in its queue, so it stands in the next chunk
//!   that it cuts. With B3 it has the whole of [`SHOWN_US`] for a message here, one chunk, its acks and a height. Patience
//!   doubles with the lane's terms, as for silence.
//! * B5 Memory is bounded whoever complains: [`SOURCE_COUNT_MAX`] and [`SOURCE_SIZE_MAX`] of each source (the own clients, each
//!   other validator), one a lane and signer, [`FALL_COUNT_MAX`] signers that are not heard.
//! # Limits
//! At 5 ms a height: 2 heights are 10 ms, so the 1.5 s decide; at 1 s they are 2 s, and decide. After an outage the first
//! header leaps: one height shows [`GAP_US`] at most. A line is served oldest first: who comes last in a line of `l` waits
//! for at most `l / 8 + 1` times that, even if the sequencer orders each of them as late as it may. Keys cost nothing, so
//! whoever fills every line of every validator can keep others out of them; a validator's line is its own clients' and
//! each other's validator by itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quipu_crypto::Tag;
use quipu_crypto::suite::verify_tagged;
use quipu_types::code::{
    BAD_SIGNATURE, COMPLAINT_ANCHOR, COMPLAINT_FALSE, COMPLAINT_NOT_NEXT, COMPLAINT_TERM,
    COMPLAINT_UNHEARD, COMPLAINTS_FULL, MALFORMED,
};
use quipu_types::{
    Code, Complaint, Decode, Hash, Height, Lane, PublicKey, Signature, Term, Time, Transaction,
    ValidatorIndex,
};

use crate::admission::{Admissions, Admitted};
use crate::api::Producer;
use crate::producers::Place;

/// Complaints of a lane that count at a time.
pub const FIRST_COUNT: usize = 8;
/// Heights that pass before a sequencer is suspected: 10 ms at 5 ms a height, 2 s at 1 s.
pub const HEIGHT_COUNT: u64 = 2;
/// Time of their headers that passes as well: 300 heights at 5 ms, 2 at 1 s.
pub const SHOWN_US: u64 = 1_500_000;
/// Most that one height shows of it.
const GAP_US: u64 = SHOWN_US / HEIGHT_COUNT;
/// Newest headers that a complaint may name: 20 s at 5 ms a height, 68 minutes at 1 s.
pub const ANCHOR_COUNT: usize = 4_096;
/// Complaints of one source that wait, of all lanes.
pub const SOURCE_COUNT_MAX: usize = 16;
/// Their bytes; any one is taken when there is no other.
pub const SOURCE_SIZE_MAX: usize = 1 << 20;
/// Heights for which a signer is not heard after a false complaint, the first time: 1.3 s at 5 ms, 4 minutes at 1 s.
pub const FALL_HEIGHT_COUNT: u64 = 256;
/// Doublings of that at most: 65,536 heights are 5.5 minutes at 5 ms, 18 hours at 1 s.
pub const FALL_DOUBLING_COUNT_MAX: u32 = 8;
/// Signers that are not heard; beyond it the one that would be heard first is.
pub const FALL_COUNT_MAX: usize = 4_096;
/// Time after which a sequencer is told again, then twice that, then four times.
const PRESS_US: u64 = 200_000;
const PRESS_COUNT_MAX: u32 = 3;
/// Time after which a repeat of a complaint is told to the others again.
const AGAIN_US: u64 = 1_000_000;

/// A complaint whose signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grievance {
    /// The complaint.
    pub complaint: Complaint,
    /// Who signed it, and the transaction.
    pub signer: PublicKey,
    /// The transaction; none when its own signature is wrong, so that the complaint is false.
    pub admitted: Option<Arc<Admitted>>,
}

/// Checks what needs no state. Pure, so that any number of threads may do it.
///
/// # Errors
/// The code to refuse it with. Nobody is to blame but who sent it: it says nothing that the signer signed.
pub fn check(
    chain: &Hash,
    admissions: &Admissions,
    complaint: Complaint,
) -> Result<Grievance, Code> {
    let transaction = Transaction::from_bytes(&complaint.transaction).map_err(|_| MALFORMED)?;
    let signer = transaction.signer;
    let body = complaint.signed_body();
    if !verify_tagged(&signer, chain, 0, Tag::Complaint, &body, &complaint.signature) {
        return Err(BAD_SIGNATURE);
    }
    let bytes: Arc<[u8]> = complaint.transaction.as_slice().into();
    let admitted = match admissions.admit_many(vec![bytes]).pop() {
        Some(Ok(admitted)) if admitted.lane == complaint.lane => Some(admitted),
        Some(Err(BAD_SIGNATURE)) => None,
        _ => return Err(MALFORMED),
    };
    Ok(Grievance { complaint, signer, admitted })
}

/// Why a complaint is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unheard {
    /// It names a term that is not the lane's.
    #[error("lane {lane} is in term {term}")]
    Term {
        /// The lane.
        lane: Lane,
        /// Its term here.
        term: Term,
    },
    /// Its anchor is none of the newest headers that are known here.
    #[error("the anchor is none of the newest {ANCHOR_COUNT} headers")]
    Anchor,
    /// The transaction stood in the cut of the anchor, or its signature is wrong. Its signer is not heard for a while.
    #[error("the complaint is false; others of its signer are not heard up to height {until}")]
    False {
        /// The last height.
        until: Height,
    },
    /// The signer complained falsely before.
    #[error("complaints of this signer are not heard up to height {until}")]
    Fallen {
        /// The last height.
        until: Height,
    },
    /// The transaction, or another in its place, was ordered since the anchor.
    #[error("the next sequence is {} of incarnation {}", .next.sequence, .next.incarnation)]
    Ordered {
        /// What is expected of the producer.
        next: Producer,
        /// As for a transaction that is sent again.
        otherwise: Code,
    },
    /// The transaction is not its producer's next, so nobody could order it.
    #[error("the next sequence is {} of incarnation {}", .next.sequence, .next.incarnation)]
    NotNext {
        /// What is expected of the producer.
        next: Producer,
    },
    /// Another complaint of the signer waits in the lane, or too many of others.
    #[error("{count} complaints wait")]
    Full {
        /// How many.
        count: usize,
    },
}

impl Unheard {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Term { .. } => COMPLAINT_TERM,
            Self::Anchor => COMPLAINT_ANCHOR,
            Self::False { .. } => COMPLAINT_FALSE,
            Self::Fallen { .. } => COMPLAINT_UNHEARD,
            Self::Ordered { otherwise, .. } => *otherwise,
            Self::NotNext { .. } => COMPLAINT_NOT_NEXT,
            Self::Full { .. } => COMPLAINTS_FULL,
        }
    }
}

/// Who brought a complaint; none: an own client.
pub(crate) type Source = Option<ValidatorIndex>;

/// What is to be done with a complaint that is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Tell all others.
    TellAll,
    /// Tell the sequencer.
    TellSequencer,
    /// Nothing: it was told before.
    Known,
}

/// Where a complaint stands against what is known here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// The lane's term.
    pub(crate) term: Term,
    /// Its last chunk here.
    pub(crate) tip_index: u64,
    /// The transaction after the lane's committed cut, and the height that its producer's last one was ordered at.
    pub(crate) place: Place,
    pub(crate) ordered: Height,
    pub(crate) now_us: u64,
    /// Whether only what could be ordered counts (B1).
    pub(crate) wants_next: bool,
}

#[derive(Debug)]
struct Waiting {
    source: Source,
    admitted: Arc<Admitted>,
    /// With the transaction, the complaint.
    anchor: Hash,
    term: Term,
    signature: Signature,
    /// When all others were told.
    told_us: Option<u64>,
    count: Option<Count>,
    /// When the sequencer was told first, and how often since.
    pressed: (u64, u32),
}

impl Waiting {
    fn complaint(&self) -> Complaint {
        let Self { admitted, anchor, term, signature, .. } = self;
        let (transaction, lane) = (admitted.bytes.to_vec(), admitted.lane);
        Complaint { transaction, anchor: *anchor, lane, term: *term, signature: *signature }
    }
}

/// What passed since a complaint was among the first.
#[derive(Clone, Copy, Debug)]
struct Count {
    /// The last chunk that was here then.
    excused: u64,
    heights: u64,
    shown_us: u64,
}

#[derive(Debug, Default)]
struct Line(VecDeque<Waiting>);

impl Line {
    /// Those that are among the first now begin to count.
    fn begin(&mut self, tip_index: u64) {
        for waiting in self.0.iter_mut().take(FIRST_COUNT) {
            let begin = || Count { excused: tip_index, heights: 0, shown_us: 0 };
            waiting.count.get_or_insert_with(begin);
        }
    }

    /// A height is committed that shows `shown_us`; the cut moved the lane from one chunk to another.
    fn pass(&mut self, shown_us: u64, (before, after): (u64, u64), has_excuses: bool) {
        for count in self.0.iter_mut().filter_map(|waiting| waiting.count.as_mut()) {
            if has_excuses && Self::excuse(count, (before, after)) {
                (count.heights, count.shown_us) = (0, 0);
                continue;
            }
            count.heights = count.heights.saturating_add(1);
            count.shown_us = count.shown_us.saturating_add(shown_us);
        }
    }

    /// B3.
    const fn excuse(count: &Count, (before, after): (u64, u64)) -> bool {
        after > before && before < count.excused
    }
}

/// A signer that is not heard.
#[derive(Clone, Copy, Debug)]
struct Fall {
    until: Height,
    doublings: u32,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Complaints {
    lines: Vec<Line>,
    sources: BTreeMap<Source, (usize, usize)>,
    /// The newest headers, oldest first.
    newest: VecDeque<Hash>,
    heights: BTreeMap<Hash, Height>,
    falls: BTreeMap<PublicKey, Fall>,
    height: Height,
    time: Time,
}

/// What a complaint counts for.
fn size_of(admitted: &Admitted) -> usize {
    admitted.bytes.len().saturating_add(Complaint::SIZE_MIN)
}

impl Complaints {
    /// After the header `last`.
    pub(crate) fn new(lane_count: usize, (height, hash, time): (Height, Hash, Time)) -> Self {
        Self {
            lines: (0..lane_count).map(|_| Line::default()).collect(),
            sources: BTreeMap::new(),
            newest: VecDeque::from([hash]),
            heights: BTreeMap::from([(hash, height)]),
            falls: BTreeMap::new(),
            height,
            time,
        }
    }

    /// Judges a complaint; one that is heard waits in its lane's line, unless the lane is sequenced here.
    pub(crate) fn hear(
        &mut self,
        source: Source,
        grievance: Grievance,
        (standing, is_own): (Standing, bool),
    ) -> Result<Heard, Unheard> {
        let Grievance { complaint, signer, admitted } = grievance;
        let (lane, height) = (complaint.lane, self.height);
        if let Some(Fall { until, .. }) =
            self.falls.get(&signer).copied().filter(|fall| fall.until >= height)
        {
            return Err(Unheard::Fallen { until });
        }
        let Some(admitted) = admitted else { return Err(self.fall(signer)) };
        if complaint.term != standing.term {
            return Err(Unheard::Term { lane, term: standing.term });
        }
        if let (Place::Next { .. }, true) = (standing.place, is_own) {
            return Ok(Heard::Known);
        }
        let anchor = self.heights.get(&complaint.anchor).copied().ok_or(Unheard::Anchor)?;
        match standing.place {
            Place::Next { .. } => {}
            Place::Used { .. } if standing.ordered <= anchor => return Err(self.fall(signer)),
            Place::Used { next, otherwise } => return Err(Unheard::Ordered { next, otherwise }),
            Place::Gap { next } if standing.wants_next => return Err(Unheard::NotNext { next }),
            Place::Gap { .. } => {}
        }
        self.wait(source, complaint, admitted, &standing)
    }

    fn wait(
        &mut self,
        source: Source,
        complaint: Complaint,
        admitted: Arc<Admitted>,
        standing: &Standing,
    ) -> Result<Heard, Unheard> {
        let is_client = source.is_none();
        let Complaint { lane, anchor, term, signature, .. } = complaint;
        let Some(line) = self.lines.get_mut(usize::from(lane.get())) else {
            return Err(Unheard::Term { lane, term: standing.term });
        };
        let count = line.0.len();
        let signer = admitted.transaction.signer;
        let same = |waiting: &&mut Waiting| waiting.admitted.transaction.signer == signer;
        if let Some(known) = line.0.iter_mut().find(same) {
            if known.admitted.tx != admitted.tx {
                return Err(Unheard::Full { count });
            }
            let is_due = |told_us: u64| standing.now_us >= told_us.saturating_add(AGAIN_US);
            if is_client && known.told_us.is_none_or(is_due) {
                known.told_us = Some(standing.now_us);
                return Ok(Heard::TellAll);
            }
            return Ok(Heard::Known);
        }
        let size = size_of(&admitted);
        let (of_source, size_before) = self.sources.get(&source).copied().unwrap_or_default();
        let size_after = size_before.saturating_add(size);
        if of_source >= SOURCE_COUNT_MAX || (of_source > 0 && size_after > SOURCE_SIZE_MAX) {
            return Err(Unheard::Full { count: of_source });
        }
        self.sources.insert(source, (of_source.saturating_add(1), size_after));
        let told_us = is_client.then_some(standing.now_us);
        let pressed = (standing.now_us, 0);
        line.0.push_back(Waiting {
            source,
            admitted,
            anchor,
            term,
            signature,
            told_us,
            count: None,
            pressed,
        });
        line.begin(standing.tip_index);
        Ok(if is_client { Heard::TellAll } else { Heard::TellSequencer })
    }

    /// A signer loses its standing.
    fn fall(&mut self, signer: PublicKey) -> Unheard {
        let known = self.falls.remove(&signer);
        let doublings = known.map_or(0, |fall| fall.doublings.saturating_add(1));
        let doublings = doublings.min(FALL_DOUBLING_COUNT_MAX);
        let until = Height::new(self.height.get().saturating_add(span(doublings)));
        if self.falls.len() >= FALL_COUNT_MAX {
            let first = self.falls.iter().min_by_key(|(_, fall)| fall.until);
            let first = first.map(|(signer, _)| *signer);
            first.map(|first| self.falls.remove(&first));
        }
        self.falls.insert(signer, Fall { until, doublings });
        Unheard::False { until }
    }

    /// A header is committed. `moved` says from which chunk to which the cut moved a lane, and which is its last here;
    /// `is_gone` whether the cut covers a transaction. Where `counts` is not true, heights show nothing of others.
    pub(crate) fn committed(
        &mut self,
        (height, hash, time): (Height, Hash, Time),
        (counts, has_excuses): (bool, bool),
        moved: impl Fn(usize) -> (u64, u64, u64),
        is_gone: impl Fn(&Admitted) -> bool,
    ) {
        let shown_us = time.get().saturating_sub(self.time.get()).min(GAP_US);
        (self.height, self.time) = (height, time);
        self.newest.push_back(hash);
        self.heights.insert(hash, height);
        if self.newest.len() > ANCHOR_COUNT
            && let Some(oldest) = self.newest.pop_front()
        {
            self.heights.remove(&oldest);
        }
        // Remembered for as long again as it was not heard.
        self.falls.retain(|_, fall| {
            fall.until.get().saturating_add(span(fall.doublings)) >= height.get()
        });
        for (place, line) in
            self.lines.iter_mut().enumerate().filter(|(_, line)| !line.0.is_empty())
        {
            let (before, after, tip_index) = moved(place);
            let sources = &mut self.sources;
            line.0.retain(|waiting| {
                let stays = !is_gone(&waiting.admitted);
                if !stays {
                    leave(sources, waiting);
                }
                stays
            });
            if counts {
                line.pass(shown_us, (before, after), has_excuses);
            }
            line.begin(tip_index);
        }
    }

    /// Complaints among the first of a lane that its sequencer is to be told again: the first time it may have been lost.
    pub(crate) fn press(&mut self, lane: Lane, now_us: u64) -> Vec<Complaint> {
        let line = self.lines.get_mut(usize::from(lane.get()));
        let first = line.into_iter().flat_map(|line| &mut line.0).take(FIRST_COUNT);
        let due = first.filter_map(|waiting| {
            let (since_us, times) = waiting.pressed;
            let at_us = since_us.saturating_add(PRESS_US << times);
            if times >= PRESS_COUNT_MAX || now_us < at_us {
                return None;
            }
            waiting.pressed = (since_us, times.saturating_add(1));
            Some(waiting.complaint())
        });
        due.collect()
    }

    /// Whether the sequencer of a lane is suspected.
    pub(crate) fn holds(&self, lane: Lane, patience_us: u64) -> bool {
        let line = self.lines.get(usize::from(lane.get()));
        line.into_iter()
            .flat_map(|line| &line.0)
            .filter_map(|waiting| waiting.count)
            .any(|count| count.heights >= HEIGHT_COUNT && count.shown_us >= patience_us)
    }

    /// The term of a lane ends: what waited for it, oldest first.
    pub(crate) fn end(&mut self, lane: Lane) -> Vec<Arc<Admitted>> {
        let Some(line) = self.lines.get_mut(usize::from(lane.get())) else { return Vec::new() };
        let line = std::mem::take(line);
        line.0.iter().for_each(|waiting| leave(&mut self.sources, waiting));
        line.0.into_iter().map(|waiting| waiting.admitted).collect()
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.lines.iter().map(|line| line.0.len()).sum()
    }
}

/// Heights for which a signer is not heard.
const fn span(doublings: u32) -> u64 {
    FALL_HEIGHT_COUNT.saturating_mul(1 << doublings)
}

fn leave(sources: &mut BTreeMap<Source, (usize, usize)>, waiting: &Waiting) {
    if let Some((count, size)) = sources.get_mut(&waiting.source) {
        *count = count.saturating_sub(1);
        *size = size.saturating_sub(size_of(&waiting.admitted));
        if *count == 0 {
            sources.remove(&waiting.source);
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]
mod tests {
    use proptest::prelude::*;
    use quipu_crypto::suite::{SecretKey, sign_tagged};
    use quipu_proof::names::{TransactionDraft, sign_transaction};
    use quipu_types::code::SEQUENCE_USED;
    use quipu_types::{Action, Encode, Suite};

    use super::*;

    const CHAIN: Hash = Hash([3; 32]);
    const NEXT: Place = Place::Next { after: Producer { incarnation: 0, sequence: 2 } };
    const USED: Place =
        Place::Used { next: Producer { incarnation: 0, sequence: 2 }, otherwise: SEQUENCE_USED };
    /// An anchor that is known from the start.
    const FIRST: Hash = Hash([0; 32]);

    fn hash(height: u64) -> Hash {
        let mut hash = Hash([0; 32]);
        hash.0[..8].copy_from_slice(&height.to_le_bytes());
        hash
    }

    fn complaint(signer: u16, size: usize, anchor: Hash, term: u64) -> (SecretKey, Complaint) {
        let mut seed = [9; 32];
        seed[..2].copy_from_slice(&signer.to_le_bytes());
        let key = SecretKey::from_seed(Suite::Ed25519Sha256, seed);
        let payload = vec![0; size];
        let actions = vec![Action::Append { stream: "s".into(), key: vec![1], payload }];
        let draft =
            TransactionDraft { incarnation: 0, sequence: 1, anchor: CHAIN, route: None, actions };
        let transaction = sign_transaction(&key, &CHAIN, draft).to_bytes();
        let (lane, term) = (Lane::new(0), Term::new(term));
        let unsigned = Signature([0; 64]);
        let mut complaint = Complaint { transaction, anchor, lane, term, signature: unsigned };
        let body = complaint.signed_body();
        complaint.signature = sign_tagged(&key, &CHAIN, 0, Tag::Complaint, &body);
        (key, complaint)
    }

    fn grievance(signer: u16, size: usize, anchor: Hash) -> Grievance {
        let admissions = Admissions::new(CHAIN, 1, 0);
        check(&CHAIN, &admissions, complaint(signer, size, anchor, 1).1).expect("it is right")
    }

    fn standing(place: Place) -> (Standing, bool) {
        let (term, ordered) = (Term::new(1), Height::new(5));
        (Standing { term, tip_index: 0, place, ordered, now_us: 0, wants_next: true }, false)
    }

    fn table() -> Complaints {
        Complaints::new(1, (Height::default(), FIRST, Time::new(0)))
    }

    /// Heights up to `last` are committed, so long after each other, and nothing moves.
    fn pass(table: &mut Complaints, last: u64, gap_us: u64) {
        for height in table.height.get() + 1..=last {
            let time = Time::new(table.time.get() + gap_us);
            let header = (Height::new(height), hash(height), time);
            table.committed(header, (true, true), |_| (0, 0, 0), |_| false);
        }
    }

    fn holds(table: &Complaints) -> bool {
        table.holds(Lane::new(0), SHOWN_US)
    }

    #[test]
    fn what_a_complaint_says_is_signed_by_the_transactions_signer() {
        let admissions = Admissions::new(CHAIN, 1, 0);
        let (key, right) = complaint(1, 9, FIRST, 1);
        let judge = |complaint: &Complaint| check(&CHAIN, &admissions, complaint.clone());
        assert!(judge(&right).is_ok_and(|grievance| grievance.admitted.is_some()));
        let changed = [
            Complaint { anchor: hash(1), ..right.clone() },
            Complaint { term: Term::new(2), ..right.clone() },
            Complaint { lane: Lane::new(1), ..right.clone() },
            Complaint { signature: complaint(2, 9, FIRST, 1).1.signature, ..right.clone() },
        ];
        for changed in &changed {
            assert_eq!(judge(changed), Err(BAD_SIGNATURE));
        }
        assert_eq!(check(&Hash::ZERO, &admissions, right.clone()), Err(BAD_SIGNATURE));
        // Signed by its signer, of a transaction that nobody signed.
        let mut false_one = right;
        let last = false_one.transaction.len() - 1;
        false_one.transaction[last] ^= 1;
        let body = false_one.signed_body();
        false_one.signature = sign_tagged(&key, &CHAIN, 0, Tag::Complaint, &body);
        assert!(judge(&false_one).is_ok_and(|grievance| grievance.admitted.is_none()));
        let fallen = table().hear(None, judge(&false_one).expect("signed"), standing(NEXT));
        assert!(matches!(fallen, Err(Unheard::False { .. })));
    }

    #[test]
    fn both_heights_and_their_time_pass_before_anyone_is_suspected() {
        // Heights of a second, of 5 ms, and a leap after an outage: the height after which suspicion begins.
        for (gap_us, wanted) in [(1_000_000, 2), (5_000, 300), (3_600_000_000, 2), (700_000, 3)] {
            let mut table = table();
            table.hear(None, grievance(1, 9, FIRST), standing(NEXT)).expect("heard");
            let first = (1..=400).find(|height| {
                pass(&mut table, *height, gap_us);
                holds(&table)
            });
            assert_eq!(first, Some(wanted), "{gap_us}");
        }
    }

    #[test]
    fn heights_in_which_a_lane_catches_up_with_what_was_there_do_not_count() {
        let suspected = |crawls: u64| {
            let mut table = table();
            let (known, is_own) = standing(NEXT);
            let known = Standing { tip_index: 10, ..known };
            table.hear(None, grievance(1, 9, FIRST), (known, is_own)).expect("heard");
            (1..=40_u64).find(|height| {
                let time = Time::new(height * 1_000_000);
                let header = (Height::new(*height), hash(*height), time);
                let moved = |_| ((height - 1).min(crawls), (*height).min(crawls), 50);
                table.committed(header, (true, true), moved, |_| false);
                holds(&table)
            })
        };
        assert_eq!(suspected(0), Some(2), "it stands");
        assert_eq!(suspected(5), Some(7), "it stops on the way");
        assert_eq!(suspected(40), Some(12), "it is past what was there");
    }

    #[test]
    fn the_first_eight_count_at_a_time_and_what_is_ordered_is_gone() {
        let mut table = table();
        for signer in 0..12 {
            let source = (signer >= 8).then(|| ValidatorIndex::new(signer));
            table.hear(source, grievance(signer, 9, FIRST), standing(NEXT)).expect("heard");
        }
        let counting = |table: &Complaints| {
            table.lines[0].0.iter().filter(|waiting| waiting.count.is_some()).count()
        };
        assert_eq!((table.count(), counting(&table)), (12, 8));
        pass(&mut table, 2, 1_000_000);
        assert!(holds(&table));
        let gone: Vec<Hash> = table.lines[0].0.iter().take(8).map(|one| one.admitted.tx).collect();
        let header = (Height::new(3), hash(3), Time::new(3_000_000));
        table.committed(header, (true, true), |_| (0, 0, 0), |one| gone.contains(&one.tx));
        assert!(!holds(&table), "what was late is ordered, and the others have just begun");
        assert_eq!((table.count(), counting(&table)), (4, 4));
        assert_eq!(table.end(Lane::new(0)).len(), 4);
        assert_eq!(table.sources, BTreeMap::new());
    }

    #[test]
    fn who_complains_falsely_is_not_heard_for_twice_as_long_each_time() {
        let mut table = table();
        pass(&mut table, 10, 1_000);
        let mut spans = Vec::new();
        for _ in 0..11 {
            let now = table.height.get();
            let told = table.hear(None, grievance(1, 9, hash(now)), standing(USED));
            let Err(Unheard::False { until }) = told else { panic!("{told:?}") };
            spans.push(until.get() - now);
            pass(&mut table, until.get(), 1_000);
            let told = table.hear(None, grievance(1, 9, hash(until.get())), standing(NEXT));
            assert_eq!(told, Err(Unheard::Fallen { until }));
            pass(&mut table, until.get() + 1, 1_000);
        }
        assert_eq!(spans.first(), Some(&256));
        assert_eq!(spans.get(4), Some(&4_096));
        assert_eq!(spans.last(), Some(&65_536));
        let now = table.height.get();
        pass(&mut table, now + 65_536, 1_000);
        assert!(table.falls.is_empty(), "it is forgotten in the end");
    }

    #[test]
    fn each_reason_has_its_name() {
        let mut table = table();
        pass(&mut table, 4, 1_000);
        let mut told = |anchor, standing| table.hear(None, grievance(1, 9, anchor), standing);
        let next = Producer { incarnation: 0, sequence: 2 };
        // It was ordered at height 5 at the latest: who has seen height 4 could not know.
        let otherwise = SEQUENCE_USED;
        assert_eq!(told(hash(4), standing(USED)), Err(Unheard::Ordered { next, otherwise }));
        let gap = standing(Place::Gap { next });
        assert_eq!(told(hash(4), gap), Err(Unheard::NotNext { next }));
        assert_eq!(told(hash(7), standing(NEXT)), Err(Unheard::Anchor));
        let (known, _) = standing(NEXT);
        let later = (Standing { term: Term::new(2), ..known }, false);
        let (lane, term) = (Lane::new(0), Term::new(2));
        assert_eq!(told(hash(4), later), Err(Unheard::Term { lane, term }));
        assert_eq!(told(hash(4), standing(NEXT)), Ok(Heard::TellAll));
        assert_eq!(told(hash(4), standing(NEXT)), Ok(Heard::Known));
    }

    #[test]
    fn an_old_anchor_is_forgotten() {
        let mut table = table();
        pass(&mut table, u64::try_from(ANCHOR_COUNT).expect("small") + 3, 1_000);
        assert_eq!(table.heights.len(), ANCHOR_COUNT);
        let told = table.hear(None, grievance(1, 9, FIRST), standing(NEXT));
        assert_eq!(told, Err(Unheard::Anchor));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn whoever_complains_memory_is_bounded(
            told in proptest::collection::vec((0_u16..80, 0_u16..4, 0_usize..3), 0..200),
        ) {
            let mut table = table();
            for (signer, source, size) in told {
                let source = source.checked_sub(1).map(ValidatorIndex::new);
                let size = [9, 200_000, 900_000].get(size).copied().unwrap_or(9);
                let _ = table.hear(source, grievance(signer, size, FIRST), standing(NEXT));
                for (count, size) in table.sources.values() {
                    prop_assert!(*count <= SOURCE_COUNT_MAX);
                    prop_assert!(*count == 1 || *size <= SOURCE_SIZE_MAX);
                }
                let sum = table.sources.values().map(|(count, _)| count).sum::<usize>();
                prop_assert_eq!(sum, table.count());
            }
        }
    }
}
