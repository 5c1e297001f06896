//! Commonware's simplex: four of its engines on its deterministic runtime, which polls them in one thread and keeps their
//! journals in memory. Each view is a height; leaders take turns.

mod application;
mod scheme;
mod wire;

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commonware_codec::DecodeExt;
use commonware_consensus::simplex::Engine;
use commonware_consensus::simplex::config::{Config, Floor, ForwardPolicy, SkipPolicy};
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::types::{Epoch, ViewDelta};
use commonware_cryptography::Signer;
use commonware_cryptography::ed25519::{PrivateKey, PublicKey};
use commonware_cryptography::sha256::Digest;
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{IoBuf, Runner, Supervisor, deterministic};
use commonware_utils::NonZeroDuration;
use commonware_utils::channel::mpsc::unbounded_channel;
use commonware_utils::ordered::Set;

use self::application::{Finalized, Values};
use self::scheme::{Counted, Tally};
use self::wire::{Blocks, Traffic};
use crate::measure::{COUNT, Checks, Counts, Length, Play, Stopwatch};

/// Orders 32-byte values.
pub(crate) fn play(length: Length, checks: Checks) -> Play {
    run(length, checks, None).0
}

/// One validator's votes are spoilt on their way: the others want it cut off, and go on without it.
pub(crate) fn spoil() -> String {
    // A view that the spoilt one leads passes without a value, so the run ends before it.
    let blocks = run(Length { warm: 1, timed: 1 }, Checks::All, Some(spoilt())).1;
    assert!(blocks > 0, "it is noticed");
    format!("{blocks} times a spoiler of votes was to be blocked")
}

/// Who leads none of the first views.
fn spoilt() -> usize {
    COUNT - 1
}

fn run(length: Length, checks: Checks, spoilt: Option<usize>) -> (Play, u64) {
    deterministic::Runner::new(deterministic::Config::new()).start(|context| async move {
        let keys: Vec<PrivateKey> = (1..=u8::try_from(COUNT).expect("few"))
            .map(|seed| PrivateKey::decode(IoBuf::from(vec![seed; 32])).expect("any seed is a key"))
            .collect();
        let members = Set::from_iter_dedup(keys.iter().map(PrivateKey::public_key));
        let ordered: Vec<PublicKey> = members.iter().cloned().collect();
        let (tally, traffic) = (Arc::<Tally>::default(), Arc::<Traffic>::default());
        let mut votes = wire::channel(&ordered, &traffic, spoilt).into_iter();
        let mut certificates = wire::channel(&ordered, &traffic, None).into_iter();
        let mut fetches = wire::channel(&ordered, &traffic, None).into_iter();
        let (told, mut heard) = unbounded_channel();
        let blocks = Blocks::default();
        let mut handles = Vec::new();
        let mut values = Vec::new();
        for (own, member) in ordered.iter().enumerate() {
            let key =
                keys.iter().find(|key| key.public_key() == *member).expect("it is of the set");
            let scheme = Counted::new(members.clone(), key.clone(), Arc::clone(&tally), checks);
            let finalized = Arc::<Mutex<Vec<_>>>::default();
            values.push(Arc::clone(&finalized));
            let reporter = Finalized { own, values: finalized, told: told.clone() };
            let context = context.child("engine").with_attribute("validator", own);
            let config = config(own, scheme, reporter, blocks.clone());
            let engine = Engine::new(context, config);
            let mut next = || votes.next().expect("one for each");
            handles.push(engine.start(
                next(),
                certificates.next().expect("one for each"),
                fetches.next().expect("one for each"),
            ));
        }
        let mut watch = Stopwatch::new(length);
        let mut heights = [0; COUNT];
        loop {
            let (own, view): (usize, u64) = heard.recv().await.expect("engines run on");
            heights[own] = view;
            let slowest = heights.into_iter().min().unwrap_or(0);
            if watch.reached(slowest, || counts(&tally, &traffic)) {
                break;
            }
        }
        let commits = values.iter().map(|own| own.lock().unwrap_or_else(PoisonError::into_inner));
        let commits = commits.map(|own| own.clone()).collect();
        handles.into_iter().for_each(|handle| handle.abort());
        (watch.play(commits), blocks.0.load(Relaxed))
    })
}

fn counts(tally: &Tally, traffic: &Traffic) -> Counts {
    let of = |count: &AtomicU64| count.load(Relaxed);
    Counts {
        signed: of(&tally.signed),
        checked: of(&tally.checked),
        messages: of(&traffic.messages),
        bytes: of(&traffic.bytes),
        logged: None,
    }
}

type Settings = Config<Counted, RoundRobin, Blocks, Digest, Values, Values, Finalized, Sequential>;

/// As its own examples set it up.
fn config(own: usize, scheme: Counted, reporter: Finalized, blocker: Blocks) -> Settings {
    let size = |size| NonZeroUsize::new(size).expect("above 0");
    Config {
        scheme,
        elector: RoundRobin::default(),
        blocker,
        automaton: Values,
        relay: Values,
        reporter,
        track_historical_votes: false,
        strategy: Sequential,
        partition: format!("validator_{own}"),
        mailbox_size: size(1_024),
        epoch: Epoch::new(1),
        floor: Floor::Genesis(Digest([0; 32])),
        replay_buffer: size(1 << 20),
        write_buffer: size(1 << 20),
        page_cache: CacheRef::new(NonZeroU16::new(16_384).expect("above 0"), size(64)),
        leader_timeout: Duration::from_secs(1),
        certification_timeout: Duration::from_secs(2),
        timeout_retry: Duration::from_secs(10),
        view_retention: ViewDelta::new(10),
        skip: SkipPolicy::Disabled,
        fetch_timeout: NonZeroDuration::new(Duration::from_secs(1)).expect("above 0"),
        fetch_retry_delay: Duration::from_millis(100),
        forward: ForwardPolicy::Disabled,
    }
}
