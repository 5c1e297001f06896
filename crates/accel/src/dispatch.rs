//! Choose, call by call, who does the work: the backend whose predicted time is least.
//!
//! ```text
//!  a kernel's predicted time = steps * step time      steps = max(longest item, ceil(all steps / ways))
//!  a message left alone may go to the serial kernel   a batch backend predicts for itself, its fixed cost included
//!
//!  made: detect -> known-answer test -> built-in estimates -> calibrate(now_ns): measured ones
//!  call: shape -> batch backends and kernels predict -> least runs it
//!  report(): who serves at what price, who is absent, who failed, who was not chosen
//! ```
//! # Invariants
//! * D1 Results do not depend on who is chosen (A1), so neither estimates, clock nor `QUIPU_ACCEL` reach them.
//! * D2 A kernel serves only after its known-answer test; the crate `sha2` serves when no other does.
//! * D3 Nobody fails in silence: what was asked for and is not there stands in the report.
//! # Limits
//! Predictions are of one core. Calibration takes less than five milliseconds.

pub(crate) mod counts;
mod known;
pub(crate) mod report;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::batch::{BatchBackend, Guard, Shape, Standing, Work};
use crate::sha256::{Engine, Finish, Job, Pair, RATE_ONE, Serial, block_count};
use crate::{Accel, Ed25519Item, Scalar, Secp256k1Item, ed25519, many, scalar, secp256k1};
use counts::{Counts, Operation, OperationCount};
use report::{BackendReport, BackendState, Choice, FALLBACKS, Report, StepTimes, UnknownChoice};

/// A kernel of the processor, before it was asked anything. No engine: this machine lacks it.
#[derive(Debug)]
struct Candidate {
    name: &'static str,
    family: Choice,
    engine: Option<Box<dyn Engine>>,
    estimate: StepTimes,
}

/// A kernel of the processor that knows its answers and is allowed to serve, and its prices.
#[derive(Debug)]
struct Seat {
    engine: Box<dyn Engine>,
    prices: [AtomicU64; 3],
}

impl Seat {
    fn price(&self, work: Work) -> &AtomicU64 {
        let [many, nodes, chains] = &self.prices;
        match work {
            Work::Many => many,
            Work::Nodes => nodes,
            Work::Chains => chains,
        }
    }

    fn step_ps(&self, work: Work) -> u64 {
        self.price(work).load(Ordering::Relaxed)
    }

    fn ways(&self) -> u64 {
        u64::try_from(self.engine.ways()).expect("a width is small")
    }

    /// `serial_ps` is what a block costs the serial kernel, if that may take over messages that are left alone.
    fn predict_ps(&self, shape: &Shape, serial_ps: Option<u64>) -> u64 {
        let step_ps = self.step_ps(shape.work);
        if shape.item_count == 1 {
            // The shortest calls are the most: they do without divisions.
            return shape.step_count_longest.saturating_mul(step_ps);
        }
        let steps = shape.step_count_total.div_ceil(self.ways()).max(shape.step_count_longest);
        let wide = steps.saturating_mul(step_ps);
        let Some(serial_ps) = serial_ps else { return wide };
        if shape.work != Work::Many || self.ways() == 1 {
            return wide;
        }
        // All but the longest side by side, and that one alone.
        let others = shape.step_count_total.saturating_sub(shape.step_count_longest);
        let others = others.div_ceil(self.ways()).saturating_mul(step_ps);
        wide.min(others.saturating_add(shape.step_count_longest.saturating_mul(serial_ps)))
    }
}

/// What became of a candidate.
#[derive(Debug)]
enum Place {
    Seat(Seat),
    Other(BackendState),
}

/// All backends of this machine behind one [`Accel`].
#[derive(Debug)]
pub struct Dispatcher {
    choice: Choice,
    unknown: Option<UnknownChoice>,
    fallback: Option<Choice>,
    places: Vec<(&'static str, Place)>,
    /// Set once, when a device is found; they are slow to start.
    batches: OnceLock<Vec<Guard>>,
    /// Finishes messages that would run alone, at the price of which seat; none when the choice forbids it.
    serial: Option<(Box<dyn Serial>, usize)>,
    is_measured: AtomicBool,
    counts: Counts,
}

impl Dispatcher {
    /// Find out what this machine has, test it, and let `choice` serve.
    #[must_use]
    pub fn new(choice: Choice, batches: Vec<Box<dyn BatchBackend>>) -> Self {
        Self::with(choice, candidates(), batches)
    }

    /// As [`Dispatcher::new`], by a word out of the environment; one that nobody knows means auto (D3).
    #[must_use]
    pub fn from_word(word: &str, batches: Vec<Box<dyn BatchBackend>>) -> Self {
        match word.parse() {
            Ok(choice) => Self::new(choice, batches),
            Err(unknown) => Self { unknown: Some(unknown), ..Self::new(Choice::Auto, batches) },
        }
    }

    fn with(
        choice: Choice,
        candidates: Vec<Candidate>,
        batches: Vec<Box<dyn BatchBackend>>,
    ) -> Self {
        let mut places: Vec<_> = candidates
            .into_iter()
            .map(|candidate| (candidate.name, candidate.family, candidate.examine()))
            .collect();
        let serves = |family| {
            places.iter().any(|(_, f, place)| *f == family && matches!(place, Place::Seat(_)))
        };
        let chosen = match choice {
            Choice::Auto => Choice::Auto,
            forced if serves(forced) => forced,
            forced => FALLBACKS
                .into_iter()
                .skip_while(|family| *family != forced)
                .find(|family| serves(*family))
                .unwrap_or(Choice::Scalar),
        };
        if chosen != Choice::Auto {
            for (_, family, place) in &mut places {
                if *family != chosen && matches!(place, Place::Seat(_)) {
                    *place = Place::Other(BackendState::NotChosen);
                }
            }
        }
        let serial = serial(chosen, &places);
        let mut places: Vec<_> = places.into_iter().map(|(name, _, place)| (name, place)).collect();
        if chosen != Choice::Auto {
            let unwanted = batches.iter().map(|backend| backend.name());
            places.extend(unwanted.map(|name| (name, Place::Other(BackendState::NotChosen))));
        }
        let dispatcher = Self {
            choice,
            unknown: None,
            fallback: (chosen != choice).then_some(chosen),
            places,
            batches: OnceLock::new(),
            serial,
            is_measured: AtomicBool::new(false),
            counts: Counts::default(),
        };
        if !batches.is_empty() {
            dispatcher.attach(batches);
        }
        dispatcher
    }

    /// Whether a device may serve: nobody forced a kernel of the processor, and none was attached before.
    #[must_use]
    pub fn takes_devices(&self) -> bool {
        self.choice == Choice::Auto && self.batches.get().is_none()
    }

    /// Let devices serve, those of them that know their answers. Does nothing unless [`Dispatcher::takes_devices`].
    pub fn attach(&self, devices: Vec<Box<dyn BatchBackend>>) {
        if self.takes_devices() {
            self.batches.get_or_init(|| devices.into_iter().map(known::guard).collect());
        }
    }

    /// Whether kernels that only AVX-512 has may serve: whoever forces another kernel goes around all of them.
    const fn uses_avx512(&self) -> bool {
        matches!(self.choice, Choice::Auto | Choice::Avx512)
    }

    /// The kernels that no price decides about.
    fn fixed(&self) -> [BackendReport; 2] {
        let standing = |standing: fn() -> BackendState| {
            if self.uses_avx512() { standing() } else { BackendState::NotChosen }
        };
        [
            BackendReport { name: "ed25519/8", state: standing(ed25519::standing) },
            BackendReport { name: "keccak256/8", state: standing(many::keccak_standing) },
        ]
    }

    /// How often it was asked since it was made, and for how much.
    #[must_use]
    pub fn counts(&self) -> Vec<OperationCount> {
        self.counts.read()
    }

    fn guards(&self) -> &[Guard] {
        self.batches.get().map_or(&[], Vec::as_slice)
    }

    /// Replace the built-in estimates by measurements. `now_ns` is a clock that never goes back.
    pub fn calibrate(&self, now_ns: &dyn Fn() -> u64) {
        for seat in self.seats() {
            for work in [Work::Many, Work::Nodes, Work::Chains] {
                let step_ps = known::measure_step_ps(&*seat.engine, work, now_ns);
                // A clock too coarse to see the work leaves the estimate.
                if step_ps > 0 {
                    seat.price(work).store(step_ps, Ordering::Relaxed);
                }
            }
        }
        for guard in self.guards() {
            guard.calibrate(now_ns);
        }
        self.is_measured.store(true, Ordering::Relaxed);
    }

    /// Who serves at what price, and what is not as it should be.
    #[must_use]
    pub fn report(&self) -> Report {
        let is_measured = self.is_measured.load(Ordering::Relaxed);
        let kernels = self.places.iter().map(|(name, place)| {
            let state = match place {
                Place::Seat(seat) => BackendState::Serves {
                    ways: seat.engine.ways(),
                    step_times: StepTimes {
                        many_ps: seat.step_ps(Work::Many),
                        nodes_ps: seat.step_ps(Work::Nodes),
                        chains_ps: seat.step_ps(Work::Chains),
                    },
                    is_measured,
                },
                Place::Other(state) => *state,
            };
            BackendReport { name, state }
        });
        let batches = self.guards().iter().map(|guard| {
            let state = match guard.standing() {
                Standing::Serves => BackendState::ServesBatches,
                Standing::FailedKnownAnswer => BackendState::FailedKnownAnswer,
                Standing::Lied => BackendState::Lied,
                Standing::Open => BackendState::BrokenOff,
            };
            BackendReport { name: guard.name(), state }
        });
        Report {
            choice: self.choice,
            unknown: self.unknown.clone(),
            fallback: self.fallback,
            backends: kernels.chain(self.fixed()).chain(batches).collect(),
        }
    }

    fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.places.iter().filter_map(|(_, place)| match place {
            Place::Seat(seat) => Some(seat),
            Place::Other(_) => None,
        })
    }

    /// What a block costs the serial kernel, if there is one.
    fn serial_ps(&self) -> Option<u64> {
        let (_, price) = self.serial.as_ref()?;
        match self.places.get(*price)? {
            (_, Place::Seat(seat)) => Some(seat.step_ps(Work::Many)),
            (_, Place::Other(_)) => None,
        }
    }

    /// The kernel that is predicted to be fastest, and in what time.
    fn kernel(&self, shape: &Shape) -> (&Seat, u64) {
        let serial_ps = self.serial_ps();
        let predictions = self.seats().map(|seat| (seat, seat.predict_ps(shape, serial_ps)));
        // The narrower one at equal prices: it has less to set up.
        let least = predictions.min_by_key(|(seat, predicted)| (*predicted, seat.ways()));
        least.expect("the crate sha2 always has a seat when no other does")
    }

    /// The batch backend that beats every kernel, if one does.
    fn batch(&self, shape: &Shape) -> Option<&Guard> {
        let predictions = self.guards().iter().filter_map(|guard| {
            let predicted = guard.predict_ns(shape)?;
            Some((predicted, guard))
        });
        let (predicted, guard) = predictions.min_by_key(|(predicted, _)| *predicted)?;
        let (_, kernel_ps) = self.kernel(shape);
        (predicted < kernel_ps / 1_000).then_some(guard)
    }

    /// Items of equal length: full groups go to whoever is cheapest by the item, the rest to who is cheapest for it.
    fn split(&self, work: Work, item_count: usize, length: u64) -> (usize, &Seat, &Seat) {
        let per_item = |seat: &Seat| seat.step_ps(work).div_ceil(seat.ways());
        let bulk = self.seats().min_by_key(|seat| per_item(seat));
        let bulk = bulk.expect("the crate sha2 always has a seat when no other does");
        let tail_count = item_count.checked_rem(bulk.engine.ways()).unwrap_or_default();
        let bulk_count = item_count.saturating_sub(tail_count);
        let (tail, _) = self.kernel(&equal_shape(work, tail_count, length, 0));
        (bulk_count, bulk, tail)
    }

    /// Run `job` on the kernels alone.
    fn many_on_kernels(
        &self,
        shape: &Shape,
        prefix: &[u8],
        messages: &[&[u8]],
        out: &mut [[u8; 32]],
    ) {
        let (seat, _) = self.kernel(shape);
        let finish = self.serial.as_ref().zip(self.serial_ps()).and_then(|((serial, _), price)| {
            let wide = seat.step_ps(Work::Many).saturating_mul(RATE_ONE);
            Some(Finish { serial: &**serial, rate: wide.checked_div(price)? })
        });
        seat.engine.many(&Job { prefix, messages, finish }, out);
    }

    /// As [`Accel::sha256_chains`], on the kernels alone.
    fn chains_on_kernels(&self, starts: &mut [[u8; 32]], count: u64) {
        let (bulk_count, bulk, tail) = self.split(Work::Chains, starts.len(), count);
        let (starts, starts_tail) = starts.split_at_mut(bulk_count);
        bulk.engine.chains(starts, count);
        tail.engine.chains(starts_tail, count);
    }
}

/// A shape in which every item has the same length.
fn equal_shape(work: Work, item_count: usize, length: u64, item_size: u64) -> Shape {
    let item_count = u64::try_from(item_count).expect("no target has a usize wider than 64 bits");
    Shape {
        work,
        item_count,
        step_count_total: item_count.saturating_mul(length),
        step_count_longest: length,
        size: item_count.saturating_mul(item_size),
    }
}

fn many_shape(prefix: &[u8], messages: &[&[u8]]) -> Shape {
    let wide =
        |count: usize| u64::try_from(count).expect("no target has a usize wider than 64 bits");
    let mut shape = Shape {
        work: Work::Many,
        item_count: wide(messages.len()),
        step_count_total: 0,
        step_count_longest: 0,
        size: 0,
    };
    for message in messages {
        let blocks = wide(block_count(prefix.len(), message.len()));
        shape.step_count_total = shape.step_count_total.saturating_add(blocks);
        shape.step_count_longest = shape.step_count_longest.max(blocks);
        shape.size = shape.size.saturating_add(wide(message.len()));
    }
    shape
}

impl Candidate {
    /// Whether it may serve (D2).
    fn examine(self) -> Place {
        let Some(engine) = self.engine else { return Place::Other(BackendState::Absent) };
        // The last resort has no replacement, and its own tests.
        if self.family != Choice::Scalar && !known::knows_answers(&*engine) {
            return Place::Other(BackendState::FailedKnownAnswer);
        }
        let StepTimes { many_ps, nodes_ps, chains_ps } = self.estimate;
        Place::Seat(Seat { engine, prices: [many_ps, nodes_ps, chains_ps].map(AtomicU64::new) })
    }
}

/// The last resort.
const SCALAR: &str = "scalar";

/// What this crate knows, widest first, with the engines that this machine has.
fn candidates() -> Vec<Candidate> {
    let mut all = vector_candidates();
    let estimate = StepTimes { many_ps: 45_000, nodes_ps: 115_000, chains_ps: 58_000 };
    all.push(Candidate {
        name: SCALAR,
        family: Choice::Scalar,
        engine: Some(Box::new(Scalar)),
        estimate,
    });
    all
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_candidates() -> Vec<Candidate> {
    let absent = |(name, family)| Candidate {
        name,
        family,
        engine: None,
        estimate: StepTimes { many_ps: 0, nodes_ps: 0, chains_ps: 0 },
    };
    let all = [("avx512/16", Choice::Avx512), ("avx2/8", Choice::Avx2), ("shani/2", Choice::ShaNi)];
    all.into_iter().map(absent).collect()
}

#[cfg(target_arch = "x86_64")]
fn vector_candidates() -> Vec<Candidate> {
    use crate::sha256::{avx2::Avx2, avx512::Avx512, double::Double, kernel::Wide, shani::ShaNi};

    fn engine(engine: Option<impl Engine + 'static>) -> Option<Box<dyn Engine>> {
        let engine: Box<dyn Engine> = Box::new(engine?);
        Some(engine)
    }
    let candidate = |name, family, engine, [many_ps, nodes_ps, chains_ps]: [u64; 3]| Candidate {
        name,
        family,
        engine,
        estimate: StepTimes { many_ps, nodes_ps, chains_ps },
    };
    let avx512 = Avx512::detect();
    let avx2 = Avx2::detect();
    let shani = ShaNi::detect();
    // Measured on an AMD Zen 5 at about 4 GHz: what matters is how they stand to each other.
    vec![
        candidate(
            "avx512/32",
            Choice::Avx512,
            engine(avx512.map(Double).map(Wide::<_, 32>)),
            [440_000, 580_000, 240_000],
        ),
        candidate(
            "avx512/16",
            Choice::Avx512,
            engine(avx512.map(Wide::<_, 16>)),
            [235_000, 340_000, 163_000],
        ),
        candidate(
            "avx2/8",
            Choice::Avx2,
            engine(avx2.map(Wide::<_, 8>)),
            [290_000, 517_000, 250_000],
        ),
        candidate(
            "shani/3",
            Choice::ShaNi,
            engine(shani.map(Wide::<_, 3>)),
            [73_000, 112_000, 62_000],
        ),
        candidate(
            "shani/2",
            Choice::ShaNi,
            engine(shani.map(Wide::<_, 2>)),
            [48_000, 92_000, 42_000],
        ),
        candidate(
            SHANI_SERIAL,
            Choice::ShaNi,
            engine(shani.map(Wide::<_, 1>)),
            [37_000, 47_000, 34_000],
        ),
    ]
}

/// The kernel whose price is that of the serial kernel of SHA-NI.
#[cfg(target_arch = "x86_64")]
const SHANI_SERIAL: &str = "shani/1";

/// Who finishes messages that are left alone, and the place whose price that is. Without SHA-NI nobody: a step of a
/// wide kernel takes about as long as a block of `sha2`, which cannot start from the middle.
#[cfg(target_arch = "x86_64")]
fn serial(
    chosen: Choice,
    places: &[(&'static str, Choice, Place)],
) -> Option<(Box<dyn Serial>, usize)> {
    let shani = crate::sha256::shani::ShaNi::detect()?;
    let place = places
        .iter()
        .position(|(name, _, place)| *name == SHANI_SERIAL && matches!(place, Place::Seat(_)))?;
    let serves = chosen == Choice::Auto && known::knows_serial(&shani);
    serves.then(|| -> (Box<dyn Serial>, usize) { (Box::new(shani), place) })
}

#[cfg(not(target_arch = "x86_64"))]
fn serial(_: Choice, _: &[(&'static str, Choice, Place)]) -> Option<(Box<dyn Serial>, usize)> {
    None
}

impl Accel for Dispatcher {
    fn name(&self) -> &'static str {
        "dispatcher"
    }

    fn sha256_many(&self, prefix: &[u8], messages: &[&[u8]], out: &mut [[u8; 32]]) {
        assert_eq!(messages.len(), out.len(), "each message has one place for its hash");
        assert!(prefix.len() <= crate::PREFIX_SIZE_MAX, "a prefix has a bound");
        self.counts.add(Operation::Sha256Many, messages.len());
        let shape = many_shape(prefix, messages);
        let served = self.batch(&shape).is_some_and(|guard| {
            guard.run(
                out,
                |backend, out| backend.sha256_many(prefix, messages, out),
                |place| {
                    let mut hash = [[0; 32]];
                    let message = messages.get(place).copied().unwrap_or_default();
                    scalar::sha256_many(prefix, &[message], &mut hash);
                    hash[0]
                },
            )
        });
        if !served {
            self.many_on_kernels(&shape, prefix, messages, out);
        }
    }

    fn sha256_nodes(&self, prefix: u8, pairs: &[Pair], out: &mut [[u8; 32]]) {
        assert_eq!(pairs.len(), out.len(), "each pair has one place for its hash");
        self.counts.add(Operation::Sha256Nodes, pairs.len());
        let shape = equal_shape(Work::Nodes, pairs.len(), 1, 64);
        let served = self.batch(&shape).is_some_and(|guard| {
            guard.run(
                out,
                |backend, out| backend.sha256_nodes(prefix, pairs, out),
                |place| {
                    pairs
                        .get(place)
                        .map(|pair| scalar::sha256_node(prefix, pair))
                        .unwrap_or_default()
                },
            )
        });
        if !served {
            let (bulk_count, bulk, tail) = self.split(Work::Nodes, pairs.len(), 1);
            let (pairs, pairs_tail) = pairs.split_at(bulk_count);
            let (out, out_tail) = out.split_at_mut(bulk_count);
            bulk.engine.nodes(prefix, pairs, out);
            tail.engine.nodes(prefix, pairs_tail, out_tail);
        }
    }

    fn sha256_chains(&self, starts: &mut [[u8; 32]], count: u64) {
        self.counts.add(Operation::Sha256Chains, starts.len());
        let shape = equal_shape(Work::Chains, starts.len(), count, 32);
        if let Some(guard) = self.batch(&shape) {
            let mut out = vec![[0; 32]; starts.len()];
            let served = guard.run(
                &mut out,
                |backend, out| backend.sha256_chains(starts, count, out),
                |place| {
                    let mut hash = [starts.get(place).copied().unwrap_or_default()];
                    self.chains_on_kernels(&mut hash, count);
                    hash[0]
                },
            );
            if served {
                starts.copy_from_slice(&out);
                return;
            }
        }
        self.chains_on_kernels(starts, count);
    }

    fn keccak256_many(&self, messages: &[&[u8]], out: &mut [[u8; 32]]) {
        self.counts.add(Operation::Keccak256, messages.len());
        many::keccak256(messages, out, self.uses_avx512());
    }

    fn blake2b256_many(&self, messages: &[&[u8]], out: &mut [[u8; 32]]) {
        self.counts.add(Operation::Blake2b256, messages.len());
        many::blake2b256(messages, out);
    }

    fn verify_ed25519_many(&self, items: &[Ed25519Item<'_>]) -> Vec<bool> {
        self.counts.add(Operation::Ed25519, items.len());
        ed25519::verify_many(items, self.uses_avx512())
    }

    fn verify_secp256k1_many(&self, items: &[Secp256k1Item<'_>]) -> Vec<bool> {
        self.counts.add(Operation::Secp256k1, items.len());
        secp256k1::verify_many(items)
    }
}

#[cfg(test)]
mod tests;
