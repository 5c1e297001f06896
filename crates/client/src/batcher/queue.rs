//! What one lane has to append: gathered, signed once, sent in order until it is answered. Pure: time is an argument,
//! sockets and keys are its driver's.
//!
//! ```text
//!  take(event) ─> open, one a route ─ full or old ─> sealed ─ sign ─> signed ──> next_request ──> the driver posts
//!                                                       ^               │ waits, is sent, has its answer
//!                                                       └── anew, where ─┘<── answered ───────────────┘
//!                                                           order permits      done: one result an event
//! ```
//! # Invariants
//! * Q1 What is signed keeps its bytes until it has a final answer. Signed anew is only what can never stand: what was
//!   ordered and refused (its sequence is used up, nothing of it applied), or what comes after one that no validator may
//!   order, under a higher incarnation, and when no request is under way.
//! * Q2 Answers are taken in the order of sequences. Events of one route stand in the order in which they were taken: what
//!   was refused with others is appended without the refused event only if nothing later of its route is there.
//! * Q3 Each event has one result, or the queue has ended.
//! * Q4 Until a batch with events of a stream was applied, nothing is signed after it: whoever may not append to it, or
//!   finds no such stream, learns it before more is on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quipu_types::transaction::{ACTION_COUNT_MAX, TRANSACTION_SIZE_MAX};
use quipu_types::{Action, Code, Decode as _, Encode as _, Transaction, code};

use super::{AppendError, Appended, Limits};
use crate::api::SubmitAnswer;
use crate::producer::{ENVELOPE_SIZE_MAX, append_size};

/// Most bytes of one request's transactions, unless one alone has more.
const REQUEST_SIZE_MAX: usize = 2 << 20;
/// Most transactions of one request.
const REQUEST_COUNT_MAX: usize = 256;
/// Pause before something is sent again, doubled each time up to the second.
const REPEAT_TIME_MIN: Duration = Duration::from_millis(1);
const REPEAT_DOUBLED_MAX: u32 = 7;
/// How often a used sequence is asked about again before it counts.
const USED_COUNT_MAX: u32 = 3;
/// How often a higher incarnation is claimed before anything of it stands.
const CLAIM_COUNT_MAX: u32 = 4;
/// How often a batch is signed anew because its anchor was too old.
const EXPIRED_COUNT_MAX: u32 = 3;

/// Route, and with it the lane; none is the signer's.
pub(super) type Route = Option<Vec<u8>>;

/// A batch that is not signed. `R` is to whom a result goes: one an action, or one for all.
#[derive(Debug)]
pub(super) struct Draft<R> {
    /// Ascending in the order of sealing.
    number: u64,
    pub(super) route: Route,
    pub(super) actions: Vec<Action>,
    replies: Vec<R>,
    /// One transaction of the caller's own making: it has one result.
    is_whole: bool,
    size: usize,
    opened: Instant,
    expired_count: u32,
}

/// A batch with its bytes.
#[derive(Debug)]
struct Signed<R> {
    number: u64,
    route: Route,
    bytes: Bytes,
    replies: Vec<R>,
    is_whole: bool,
    size: usize,
    expired_count: u32,
    /// Streams that no applied batch had events of when this was signed (Q4).
    probes: Vec<String>,
    state: State,
    sent_count: u32,
}

#[derive(Debug)]
enum State {
    /// To be sent, not before this.
    Waits(Instant),
    Sent,
    /// The answer is final.
    Answered(Arc<SubmitAnswer>),
}

/// Sequences that travel together.
#[derive(Debug)]
pub(super) struct Request {
    first: u64,
    count: u64,
    /// Frames.
    pub(super) body: Bytes,
}

/// Why a request has no answers.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nobody took it whole: it is too large for a body.
    TooLarge,
    /// Anything else; it is sent again.
    Lost(String),
}

/// Where a batch stands among its producer's in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) incarnation: u32,
    pub(super) sequence: u64,
}

/// To whom a result goes, and the result.
pub(super) type Done<R> = (R, Result<Appended, AppendError>);

/// See the module's header.
#[derive(Debug)]
pub(super) struct Queue<R> {
    limits: Limits,
    open: BTreeMap<Route, Draft<R>>,
    /// Open batches by age.
    ages: BTreeSet<(Instant, Route)>,
    sealed: VecDeque<Draft<R>>,
    signed: VecDeque<Signed<R>>,
    /// Where the first of `signed` stands, or the next one will; none until it is claimed.
    place: Option<Place>,
    /// The incarnation that was claimed last.
    incarnation: u32,
    /// Streams that this signer has appended to (Q4).
    proven: BTreeSet<String>,
    /// Everything unanswered is signed anew as soon as no request is under way.
    renews: bool,
    /// Nothing more of what is signed can stand, once the requests under way have come back.
    is_cut: bool,
    /// The newest anchor is too old.
    wants_anchor: bool,
    requests: usize,
    request_size_max: usize,
    sealed_count: u64,
    used_count: u32,
    claim_count: u32,
    /// Whether anything of this incarnation stands.
    stands: bool,
    /// When something was answered last, or the first thing was signed.
    progress: Instant,
    reason: String,
    done: Vec<Done<R>>,
    /// Room that is free again.
    freed: usize,
    ended: Option<AppendError>,
}

/// The room that an action takes until it has its result.
pub(super) fn size_of(action: &Action) -> usize {
    match action {
        Action::Append { stream, key, payload } => append_size(stream, key, payload),
        other => other.to_bytes().len(),
    }
}

impl<R> Queue<R> {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            open: BTreeMap::new(),
            ages: BTreeSet::new(),
            sealed: VecDeque::new(),
            signed: VecDeque::new(),
            place: None,
            incarnation: 0,
            proven: BTreeSet::new(),
            renews: false,
            is_cut: false,
            wants_anchor: false,
            requests: 0,
            request_size_max: REQUEST_SIZE_MAX,
            sealed_count: 0,
            used_count: 0,
            claim_count: 0,
            stands: false,
            progress: now,
            reason: String::new(),
            done: Vec::new(),
            freed: 0,
            ended: None,
        }
    }

    /// Takes an event that fits a transaction.
    pub(super) fn take(&mut self, route: Route, action: Action, reply: R, now: Instant) {
        let size = size_of(&action);
        if self.open.get(&route).is_some_and(|open| !self.fits(open, size)) {
            self.seal(&route);
        }
        if !self.open.contains_key(&route) {
            self.ages.insert((now, route.clone()));
            self.open.insert(route.clone(), Draft::new(route.clone(), false, now));
        }
        let Some(open) = self.open.get_mut(&route) else { return };
        open.actions.push(action);
        open.replies.push(reply);
        open.size = open.size.saturating_add(size);
        if self.open.get(&route).is_some_and(|open| !self.fits(open, 1)) {
            self.seal(&route);
        }
    }

    /// Takes a transaction of the caller's own making, which stands after everything of its route that was taken.
    pub(super) fn take_whole(
        &mut self,
        route: Route,
        actions: Vec<Action>,
        reply: R,
        now: Instant,
    ) {
        self.seal(&route);
        let size = actions.iter().map(size_of).fold(0, usize::saturating_add);
        let replies = vec![reply];
        let draft = Draft { actions, replies, size, ..Draft::new(route, true, now) };
        self.push_sealed(draft);
    }

    /// Whether an open batch takes one event more of this size.
    fn fits(&self, open: &Draft<R>, size: usize) -> bool {
        let count_max = self.limits.batch_count.clamp(1, ACTION_COUNT_MAX);
        let size_max = self.limits.batch_size.min(TRANSACTION_SIZE_MAX - ENVELOPE_SIZE_MAX);
        open.actions.len() < count_max && open.size.saturating_add(size) <= size_max
    }

    fn seal(&mut self, route: &Route) {
        if let Some(draft) = self.open.remove(route) {
            self.ages.remove(&(draft.opened, draft.route.clone()));
            self.push_sealed(draft);
        }
    }

    fn push_sealed(&mut self, mut draft: Draft<R>) {
        draft.number = self.sealed_count;
        self.sealed_count = self.sealed_count.saturating_add(1);
        self.sealed.push_back(draft);
    }

    /// Seals what was opened a linger ago.
    pub(super) fn seal_due(&mut self, now: Instant) {
        while let Some((opened, route)) = self.ages.first()
            && opened.after(self.limits.linger) <= now
        {
            let route = route.clone();
            self.seal(&route);
        }
    }

    /// Seals everything. Gives what [`Queue::is_settled`] asks for.
    pub(super) fn flush(&mut self) -> u64 {
        while let Some((_, route)) = self.ages.first() {
            let route = route.clone();
            self.seal(&route);
        }
        self.sealed_count
    }

    /// Whether everything has its result that was sealed before a flush gave this.
    pub(super) fn is_settled(&self, mark: u64) -> bool {
        let signed = self.signed.iter().map(|signed| signed.number);
        signed.chain(self.sealed.iter().map(|draft| draft.number)).all(|number| number >= mark)
    }

    /// Whether nothing is left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.sealed.is_empty() && self.signed.is_empty()
    }

    /// Whether an incarnation is to be claimed before anything can be signed.
    pub(super) fn wants_place(&self) -> bool {
        let is_next = self.place.is_none() && self.requests == 0;
        is_next && !self.sealed.is_empty() && self.ended.is_none()
    }

    /// Signs from now on under an incarnation that is above what the ledger knows, and above what was claimed before:
    /// copies of what was signed under that may still be on their way.
    pub(super) fn claim(&mut self, known: u32) {
        match known.max(self.incarnation).checked_add(1) {
            Some(incarnation) => {
                self.incarnation = incarnation;
                self.place = Some(Place { incarnation, sequence: 1 });
                self.stands = false;
                self.used_count = 0;
            }
            None => self.ended = Some(AppendError::Fenced),
        }
    }

    /// Whether the newest anchor was refused; asked once.
    pub(super) fn take_wants_anchor(&mut self) -> bool {
        std::mem::take(&mut self.wants_anchor)
    }

    /// What to post now, if anything; `sign` gives a batch's bytes at its place.
    pub(super) fn next_request(
        &mut self,
        now: Instant,
        sign: impl Fn(Place, &Draft<R>) -> Bytes,
    ) -> Option<Request> {
        if self.ended.is_some() || !self.may_send() {
            return None;
        }
        let first = self.signed.iter().position(|one| matches!(one.state, State::Waits(_)));
        let range = match first {
            Some(index) => match self.signed.get(index)?.state {
                State::Waits(from) if from <= now => self.waiting_run(index),
                _ => return None,
            },
            None => self.sign_more(now, sign)?,
        };
        self.request(range)
    }

    fn may_send(&self) -> bool {
        self.requests < self.limits.in_flight_count && !self.renews && !self.is_cut
    }

    /// The signed batches from `first` on that wait too and fit the same request.
    fn waiting_run(&self, first: usize) -> std::ops::Range<usize> {
        let mut size = 0_usize;
        let waiting = self.signed.iter().skip(first).take(REQUEST_COUNT_MAX).take_while(|one| {
            size = size.saturating_add(one.bytes.len());
            matches!(one.state, State::Waits(_)) && size <= self.request_size_max
        });
        first..first.saturating_add(waiting.count().max(1))
    }

    /// Signs what fits a request, if anything may be signed now.
    fn sign_more(
        &mut self,
        now: Instant,
        sign: impl Fn(Place, &Draft<R>) -> Bytes,
    ) -> Option<std::ops::Range<usize>> {
        let first = self.signed.len();
        let base = self.place?;
        let holds = |one: &Signed<R>| !one.probes.is_empty() || one.is_refused();
        if self.signed.iter().any(holds) {
            return None;
        }
        if first == 0 {
            self.progress = now;
        }
        let mut size = 0_usize;
        while let Some(draft) = self.sealed.front() {
            size = size.saturating_add(draft.size.saturating_add(ENVELOPE_SIZE_MAX));
            let count = self.signed.len().saturating_sub(first);
            if count > 0 && (size > self.request_size_max || count >= REQUEST_COUNT_MAX) {
                break;
            }
            let probes = self.probes(draft);
            let offset = u64::try_from(self.signed.len()).ok()?;
            let place = Place { sequence: base.sequence.checked_add(offset)?, ..base };
            let bytes = sign(place, draft);
            let Draft { number, route, replies, is_whole, size: draft_size, expired_count, .. } =
                self.sealed.pop_front()?;
            let is_probe = !probes.is_empty();
            let (state, sent_count) = (State::Waits(now), 0);
            self.signed.push_back(Signed {
                number,
                route,
                bytes,
                replies,
                is_whole,
                size: draft_size,
                expired_count,
                probes,
                state,
                sent_count,
            });
            if is_probe {
                break;
            }
        }
        (self.signed.len() > first).then_some(first..self.signed.len())
    }

    /// Streams of a batch that nothing was appended to yet.
    fn probes(&self, draft: &Draft<R>) -> Vec<String> {
        let mut probes: Vec<String> = Vec::new();
        for action in &draft.actions {
            if let Action::Append { stream, .. } = action
                && !self.proven.contains(stream)
                && !probes.contains(stream)
            {
                probes.push(stream.clone());
            }
        }
        probes
    }

    fn request(&mut self, range: std::ops::Range<usize>) -> Option<Request> {
        let offset = u64::try_from(range.start).ok()?;
        let first = self.place?.sequence.checked_add(offset)?;
        let mut body = Vec::new();
        let mut count = 0_u64;
        for one in self.signed.range_mut(range) {
            quipu_net::put_frame(&mut body, &one.bytes);
            one.state = State::Sent;
            one.sent_count = one.sent_count.saturating_add(1);
            count = count.saturating_add(1);
        }
        self.requests = self.requests.saturating_add(1);
        Some(Request { first, count, body: body.into() })
    }

    /// What became of a request.
    pub(super) fn answered(
        &mut self,
        request: &Request,
        answers: Result<Vec<SubmitAnswer>, Unanswered>,
        now: Instant,
    ) {
        self.requests = self.requests.saturating_sub(1);
        let mut refused = None;
        let answers = match answers {
            Ok(answers) => answers,
            Err(Unanswered::Lost(reason)) => {
                self.reason = reason;
                Vec::new()
            }
            Err(Unanswered::TooLarge) if request.count > 1 => {
                self.request_size_max = request.body.len() / 2;
                Vec::new()
            }
            Err(Unanswered::TooLarge) => {
                refused = Some(too_large());
                Vec::new()
            }
        };
        let base = self.place.map_or(request.first, |place| place.sequence);
        let skipped = usize::try_from(request.first.saturating_sub(base)).unwrap_or(usize::MAX);
        let mut answers = answers.into_iter().chain(refused);
        let count = usize::try_from(request.count).unwrap_or(usize::MAX);
        for one in self.signed.iter_mut().skip(skipped).take(count) {
            let answer = answers.next();
            if let Some(answer) = &answer
                && is_passing(answer)
            {
                self.reason = reason_of(answer);
            }
            one.state = match answer.filter(|answer| !is_passing(answer)) {
                Some(answer) => State::Answered(Arc::new(answer)),
                None => State::Waits(one.again(now)),
            };
        }
        self.settle(now);
    }

    /// Takes final answers in order (Q2).
    fn settle(&mut self, now: Instant) {
        while let Some(front) = self.signed.front()
            && let State::Answered(answer) = &front.state
            && !self.renews
        {
            let answer = Arc::clone(answer);
            if answer.position.is_none() {
                self.front_has_no_place(&answer, now);
                break;
            }
            if !front.is_refused() {
                self.pop_applied(&answer, now);
                continue;
            }
            // What stands behind it decides what may follow.
            let unsettled = self.signed.iter().find(|one| one.position().is_none());
            self.is_cut = unsettled.is_some_and(|one| matches!(one.state, State::Answered(_)));
            let is_known = unsettled.is_none() || (self.is_cut && self.requests == 0);
            if !is_known {
                break;
            }
            self.is_cut = false;
            self.sort_out(now);
        }
        if self.renews && self.requests == 0 {
            self.renew(now);
        }
    }

    /// The first batch stands and is applied.
    fn pop_applied(&mut self, answer: &Arc<SubmitAnswer>, now: Instant) {
        let Some(front) = self.pop_settled(now) else { return };
        self.proven.extend(front.probes.iter().cloned());
        self.finish_applied(front, answer);
    }

    fn finish_applied(&mut self, one: Signed<R>, answer: &Arc<SubmitAnswer>) {
        self.freed = self.freed.saturating_add(one.size);
        let event_count = u32::try_from(one.replies.len()).unwrap_or(u32::MAX);
        for (reply, action) in one.replies.into_iter().zip(0_u32..) {
            let answer = Arc::clone(answer);
            self.done.push((reply, Ok(Appended { answer, action, event_count })));
        }
    }

    /// Takes the first batch, whose sequence is used.
    fn pop_settled(&mut self, now: Instant) -> Option<Signed<R>> {
        let front = self.signed.pop_front()?;
        if let Some(place) = &mut self.place {
            place.sequence = place.sequence.saturating_add(1);
        }
        self.progress = now;
        self.stands = true;
        self.used_count = 0;
        self.claim_count = 0;
        Some(front)
    }

    /// The first batch has an answer that says that it stands nowhere.
    fn front_has_no_place(&mut self, answer: &SubmitAnswer, now: Instant) {
        let wanted = answer.refusal();
        if wanted == Some(code::SEQUENCE_USED) && self.used_count < USED_COUNT_MAX {
            self.used_count = self.used_count.saturating_add(1);
            if let Some(front) = self.signed.front_mut() {
                front.state = State::Waits(front.again(now));
            }
        } else if matches!(wanted, Some(code::SEQUENCE_USED | code::FENCED)) {
            if self.stands || self.claim_count >= CLAIM_COUNT_MAX {
                self.ended = Some(AppendError::Fenced);
            } else {
                self.renews = true;
            }
        } else {
            self.renews = true;
        }
    }

    /// Everything that stands nowhere is signed anew, but for a first batch that is refused by itself (Q1).
    fn renew(&mut self, now: Instant) {
        self.renews = false;
        self.place = None;
        self.claim_count = self.claim_count.saturating_add(1);
        self.progress = now;
        let refused = match self.signed.front().map(|one| &one.state) {
            Some(State::Answered(answer))
                if !matches!(answer.refusal(), Some(code::SEQUENCE_USED | code::FENCED)) =>
            {
                Some(Arc::clone(answer))
            }
            _ => None,
        };
        if let Some(answer) = refused
            && let Some(front) = self.signed.pop_front()
        {
            let error = refusal_of(&answer);
            self.freed = self.freed.saturating_add(front.size);
            self.done.extend(front.replies.into_iter().map(|reply| (reply, Err(error.clone()))));
        }
        while let Some(one) = self.signed.pop_back() {
            self.sealed.push_front(one.into_draft(now));
        }
    }

    /// The first batch was ordered and refused, and everything signed after it has its answer: what order permits is
    /// signed anew without what was refused (Q2).
    fn sort_out(&mut self, now: Instant) {
        let mut settled = Vec::new();
        while self.signed.front().is_some_and(|front| front.position().is_some()) {
            settled.extend(self.pop_settled(now));
        }
        if let Some(State::Answered(answer)) = self.signed.front().map(|front| &front.state) {
            let answer = Arc::clone(answer);
            self.used_count = USED_COUNT_MAX;
            self.front_has_no_place(&answer, now);
            if self.renews {
                self.renew(now);
            }
        }
        let mut later: BTreeSet<Route> = BTreeSet::new();
        while let Some(one) = settled.pop() {
            let State::Answered(answer) = &one.state else { continue };
            let answer = Arc::clone(answer);
            if !one.is_refused() {
                later.insert(one.route.clone());
                self.proven.extend(one.probes.iter().cloned());
                self.finish_applied(one, &answer);
            } else if let Some(rest) = self.refuse(one, &answer, &later, now) {
                self.sealed.push_front(rest);
            }
        }
    }

    /// Gives results to what is refused of a batch; what is left of it.
    fn refuse(
        &mut self,
        one: Signed<R>,
        answer: &SubmitAnswer,
        later: &BTreeSet<Route>,
        now: Instant,
    ) -> Option<Draft<R>> {
        let error = refusal_of(answer);
        let is_overtaken = later.contains(&one.route);
        let mut draft = one.into_draft(now);
        let is_old = matches!(answer.refusal(), Some(code::EXPIRED | code::ANCHOR_UNKNOWN));
        if is_old {
            self.wants_anchor = true;
            draft.expired_count = draft.expired_count.saturating_add(1);
            if !is_overtaken && draft.expired_count <= EXPIRED_COUNT_MAX {
                return Some(draft);
            }
        }
        let culprit = answer.action.and_then(|index| usize::try_from(index).ok());
        let stream = culprit.and_then(|index| stream_of(draft.actions.get(index)?));
        let is_stream = matches!(answer.refusal(), Some(code::NO_STREAM | code::NOT_A_WRITER));
        let falls = |index: usize, action: &Action| {
            is_old
                || culprit.is_none_or(|culprit| culprit == index)
                || (is_stream && stream_of(action) == stream)
        };
        let fall: Vec<bool> =
            draft.actions.iter().enumerate().map(|(index, action)| falls(index, action)).collect();
        if draft.is_whole {
            self.freed = self.freed.saturating_add(draft.size);
            self.done.extend(draft.replies.into_iter().map(|reply| (reply, Err(error.clone()))));
            return None;
        }
        let mut rest = Draft { actions: Vec::new(), replies: Vec::new(), size: 0, ..draft };
        for ((action, reply), falls) in draft.actions.into_iter().zip(draft.replies).zip(fall) {
            let size = size_of(&action);
            if falls || is_overtaken {
                let told = if falls { error.clone() } else { error.beside() };
                self.freed = self.freed.saturating_add(size);
                self.done.push((reply, Err(told)));
            } else {
                rest.size = rest.size.saturating_add(size);
                rest.actions.push(action);
                rest.replies.push(reply);
            }
        }
        (!rest.actions.is_empty()).then_some(rest)
    }

    /// When something is to be done though nothing arrives.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let oldest = self.ages.first().map(|(opened, _)| opened.after(self.limits.linger));
        let again = self.signed.iter().find_map(|one| match one.state {
            State::Waits(from) => Some(from),
            _ => None,
        });
        let again = again.filter(|_| self.may_send());
        let last =
            (!self.signed.is_empty()).then(|| self.progress.after(self.limits.delivery_time_max));
        [oldest, again, last].into_iter().flatten().min()
    }

    /// Ends when nothing was answered for too long.
    pub(super) fn check_time(&mut self, now: Instant) {
        let until = self.progress.after(self.limits.delivery_time_max);
        if !self.signed.is_empty() && now >= until && self.ended.is_none() {
            self.ended = Some(AppendError::Undelivered { reason: self.reason.as_str().into() });
        }
    }

    /// Results, in no order that matters.
    pub(super) fn take_done(&mut self) -> Vec<Done<R>> {
        std::mem::take(&mut self.done)
    }

    /// Room that is free since this was asked last.
    pub(super) fn take_freed(&mut self) -> usize {
        std::mem::take(&mut self.freed)
    }

    /// Why the queue does no more.
    pub(super) fn ended(&self) -> Option<&AppendError> {
        self.ended.as_ref()
    }
}

impl<R> Draft<R> {
    fn new(route: Route, is_whole: bool, opened: Instant) -> Self {
        let (actions, replies) = (Vec::new(), Vec::new());
        Self { number: 0, route, actions, replies, is_whole, size: 0, opened, expired_count: 0 }
    }
}

impl<R> Signed<R> {
    fn position(&self) -> Option<&str> {
        let State::Answered(answer) = &self.state else { return None };
        answer.position.as_deref()
    }

    /// Whether it was refused, wherever that was.
    fn is_refused(&self) -> bool {
        matches!(&self.state, State::Answered(answer) if !answer.is_committed())
    }

    /// When it is sent again.
    fn again(&self, now: Instant) -> Instant {
        let doubled = 1_u32 << self.sent_count.saturating_sub(1).min(REPEAT_DOUBLED_MAX);
        now.after(REPEAT_TIME_MIN.saturating_mul(doubled))
    }

    fn into_draft(self, now: Instant) -> Draft<R> {
        let Self { number, route, bytes, replies, is_whole, size, expired_count, .. } = self;
        let actions = Transaction::from_bytes(&bytes).expect("it was encoded here").actions;
        Draft { number, route, actions, replies, is_whole, size, opened: now, expired_count }
    }
}

fn stream_of(action: &Action) -> Option<String> {
    match action {
        Action::Append { stream, .. } => Some(stream.clone()),
        _ => None,
    }
}

/// Whether an answer is not final: the same bytes may be taken later, or elsewhere. A gap closes when what comes before is
/// taken.
fn is_passing(answer: &SubmitAnswer) -> bool {
    answer.is_worth_repeating()
        || answer.status == "unknown"
        || (answer.position.is_none() && answer.refusal() == Some(code::SEQUENCE_GAP))
}

fn reason_of(answer: &SubmitAnswer) -> String {
    let words = [answer.code.as_deref(), answer.message.as_deref()];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    if words.is_empty() { answer.status.clone() } else { words.join(" ") }
}

fn refusal_of(answer: &SubmitAnswer) -> AppendError {
    let wanted = answer.refusal().unwrap_or(code::BAD_REQUEST);
    let message = answer.message.as_deref().unwrap_or(wanted.explanation().title);
    AppendError::Refused { code: wanted, message: message.into() }
}

fn too_large() -> SubmitAnswer {
    let wanted: Code = code::TOO_LARGE;
    SubmitAnswer {
        tx: String::new(),
        status: "invalid".into(),
        position: None,
        height: None,
        time_us: None,
        code: Some(wanted.to_string()),
        message: Some("the transaction is more than a validator takes as a body".into()),
        action: None,
    }
}

/// An instant that clocks reach, or one that they nearly do not.
trait Later {
    fn after(&self, time: Duration) -> Instant;
}

impl Later for Instant {
    fn after(&self, time: Duration) -> Instant {
        const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);
        self.checked_add(time.min(FAR)).unwrap_or(*self)
    }
}
