//! Consumers that follow all lanes while validators die, and what they must have seen in the end.

use std::collections::BTreeMap;

use quipu_client::Consumer;
use quipu_proof::feed::{LaneBatch, Told};
use quipu_types::cursor::Mode;
use quipu_types::{Action, Genesis, Lane, Outcome, Receipt, Schema, Transaction};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fleet::SCHEMA;

/// One that runs.
pub(crate) struct Follower {
    end: watch::Sender<Option<u64>>,
    running: JoinHandle<Followed>,
}

/// By lane and seqno: who appended what, a line an event as `Fleet::events` has it.
type Lines = BTreeMap<u16, Vec<Vec<String>>>;

/// What one has seen.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    certified: Lines,
    /// As it came; what was rolled back is gone.
    tentative: Lines,
    pub(crate) roll_backs: usize,
    pub(crate) second_rounds: u64,
    /// Chunks that were told before a cut covered them.
    pub(crate) chunks: usize,
}

impl Follower {
    pub(crate) fn start(runtime: &Runtime, urls: &str, genesis: &Genesis, mode: Mode) -> Self {
        let (end, ended) = watch::channel(None);
        let consumer = Consumer::new(urls, genesis.clone(), &[], mode).unwrap();
        Self { end, running: runtime.spawn(follow(consumer, mode, ended)) }
    }

    /// Lets it end once it has followed `height`.
    pub(crate) fn finish(self, runtime: &Runtime, height: u64) -> Followed {
        self.end.send_replace(Some(height));
        runtime.block_on(async {
            let done = tokio::time::timeout(crate::fleet::PATIENCE, self.running).await;
            done.expect("it follows to the end").unwrap()
        })
    }
}

async fn follow(
    mut consumer: Consumer,
    mode: Mode,
    mut end: watch::Receiver<Option<u64>>,
) -> Followed {
    let mut seen = Followed::default();
    let mut height = 0;
    loop {
        if end.borrow_and_update().is_some_and(|last| height >= last) {
            seen.second_rounds = consumer.fall_backs();
            if mode == Mode::Tentative {
                // What no cut covers was told, and does not count yet.
                for (lane, events) in &mut seen.tentative {
                    events.truncate(seen.certified.get(lane).map_or(0, Vec::len));
                }
                assert!(seen.tentative == seen.certified, "what was told early came true");
            }
            return seen;
        }
        let told = tokio::select! {
            told = consumer.next() => told.unwrap().unwrap(),
            _ = end.changed() => continue,
        };
        match told {
            Told::Hello(_) => {}
            Told::Tentative(batch) => {
                seen.chunks += 1;
                put(&mut seen.tentative, &batch);
            }
            Told::RolledBack { lane, to, .. } => {
                seen.roll_backs += 1;
                let to = usize::try_from(to.get()).unwrap();
                let certified = seen.certified.get(&lane.get()).map_or(0, Vec::len);
                assert!(certified <= to, "what is certified was rolled back");
                assert_eq!(mode, Mode::Tentative);
                let events = seen.tentative.entry(lane.get()).or_default();
                assert!(to <= events.len(), "rolled back to what never was");
                events.truncate(to);
            }
            Told::Snapshot(snapshot) => {
                assert!(snapshot.height.get() > height, "heights ascend");
                height = snapshot.height.get();
                for batch in &snapshot.lanes {
                    let is_applied = |receipt: &Receipt| receipt.outcome == Outcome::Applied;
                    assert!(batch.receipts.iter().all(is_applied));
                    match mode {
                        Mode::Certified => put(&mut seen.certified, batch),
                        Mode::Tentative => certify(&mut seen, batch),
                    }
                }
            }
        }
    }
}

/// What was told early is certain now: once, and all of it.
fn certify(seen: &mut Followed, batch: &LaneBatch) {
    let lane = batch.lane.get();
    let own = seen.certified.entry(lane).or_default();
    assert_eq!(usize::try_from(batch.start.get()).unwrap(), own.len(), "lane {lane}");
    let end = usize::try_from(batch.end.get()).unwrap();
    assert_eq!(batch.receipts.len(), end - own.len(), "lane {lane}: an outcome for each");
    let fresh = seen.tentative.get(&lane).and_then(|told| told.get(own.len()..end));
    own.extend_from_slice(fresh.expect("everything was told before its cut"));
}

/// Appends a batch, which must come next.
fn put(events: &mut Lines, batch: &LaneBatch) {
    let own = events.entry(batch.lane.get()).or_default();
    for ordered in &batch.transactions {
        let seqno = usize::try_from(ordered.seqno.get()).unwrap();
        assert_eq!(seqno, own.len() + 1, "lane {}: once, in order", batch.lane);
        own.push(lines(batch.lane, seqno, &ordered.transaction().unwrap()));
    }
}

fn lines(lane: Lane, seqno: usize, transaction: &Transaction) -> Vec<String> {
    let schema = Schema::parse(SCHEMA).unwrap();
    let line = |action: &Action| match action {
        Action::Append { stream, payload, .. } if stream == "load" => {
            let row = schema.row_to_json(payload).unwrap();
            Some(format!("{}|{}|{lane}|{seqno}", row["who"].as_str().unwrap(), row["n"]))
        }
        _ => None,
    };
    transaction.actions.iter().filter_map(line).collect()
}

impl Followed {
    /// Every event that was applied, a line each, by lane and seqno.
    pub(crate) fn events(&self) -> String {
        let lines = self.certified.values().flatten().flatten();
        lines.map(|line| format!("{line}\n")).collect()
    }
}
