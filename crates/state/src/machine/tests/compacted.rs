//! Compacted streams against a map, whole pages by proofs, and what false pages are refused for.

use quipu_crypto::domain::Tag;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_proof::compacted::{Newest, Page, PageError, Shown};
use quipu_types::genesis::GenesisValidator;
use quipu_types::{Position, SignedState, StateCertificate, ValidatorIndex};

use super::*;

const STREAM: &str = "k";
type Model = BTreeMap<Vec<u8>, (Newest, Vec<u8>)>;

fn compacted(name: &str) -> Action {
    let schema = Schema::parse("name text, n int4").expect("a schema");
    let (name, route, writers) = (name.into(), RouteRule::Signer, Writers::Anyone);
    Action::CreateStream(StreamSpec { name, schema, route, writers, compacted: true })
}

fn event(stream: &str, key: &[u8], value: Option<i32>) -> Action {
    let schema = Schema::parse("name text, n int4").expect("a schema");
    let row = [Value::Null, value.map_or(Value::Null, Value::Int4)];
    let payload = schema.encode_row(&row).expect("a row");
    Action::Append { stream: stream.into(), key: key.to_vec(), payload }
}

fn validator() -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [1; 32])
}

fn signed_genesis() -> Genesis {
    let name = "v".into();
    let key = validator();
    let possession = Signature([0; 64]);
    let validator = GenesisValidator { name, key: key.public(), power: 1, possession, owner: None };
    Genesis { validators: vec![validator], ..genesis(false) }
}

fn certificate(genesis: &Genesis, height: Height, state_root: Hash) -> StateCertificate {
    let state = SignedState { height, state_root, receipts_root: Hash::ZERO, next_set: None };
    let chain = names::chain_id(genesis);
    let signature = sign_tagged(&validator(), &chain, 0, Tag::StateVote, &state.to_bytes());
    StateCertificate { state, signatures: vec![(ValidatorIndex::new(0), signature)] }
}

/// What applied events leave.
fn remember(model: &mut Model, height: Height, block: &[Transaction], receipts: &[Receipt]) {
    let applied =
        block.iter().zip(receipts).filter(|(_, receipt)| receipt.outcome == Outcome::Applied);
    for (transaction, receipt) in applied {
        for (action, done) in (0_u32..).zip(&transaction.actions) {
            let Action::Append { stream, key, payload } = done else { continue };
            if stream != STREAM {
                continue;
            }
            let Action::Append { payload: nothing, .. } = event(STREAM, b"", None) else {
                unreachable!("an event")
            };
            if *payload == nothing {
                model.remove(key);
                continue;
            }
            let newest = Newest {
                height,
                position: Position { lane: receipt.lane, seqno: receipt.seqno },
                action,
                size: u32::try_from(payload.len()).expect("small"),
                payload: sha256(payload),
                key: key.clone(),
            };
            model.insert(key.clone(), (newest, payload.clone()));
        }
    }
}

/// Every page of at most `count` keys, checked as a client checks them.
fn read_all<S: Store>(
    machine: &Machine<S>,
    genesis: &Genesis,
    model: &Model,
    count: usize,
) -> Result<(Vec<Page>, Option<Shown>), PageError> {
    let (mut pages, mut next, mut last) = (vec![], Some(Hash::ZERO), None);
    while let Some(start) = next {
        let draft = machine.newest_page(STREAM, &start, count, 1_000).expect("healthy");
        let Some(draft) = draft else { break };
        let payload = |newest: &Newest| model.get(&newest.key).map(|found| found.1.clone());
        let payloads = draft.newest.iter().map(|newest| payload(newest).unwrap_or_default());
        let payloads = payloads.collect();
        let certificate = certificate(genesis, draft.height, draft.state_root);
        let page = draft.finish(certificate, payloads);
        assert_eq!(quipu_types::Decode::from_bytes(&page.to_bytes()), Ok(page.clone()));
        let shown = page.verify(genesis, STREAM, &start)?;
        (next, last) = (shown.next, Some(shown));
        pages.push(page);
    }
    Ok((pages, last))
}

#[test]
fn events_of_a_compacted_stream_have_a_key_and_the_newest_of_each_stays() {
    let mut machine = open(MemoryStore::new());
    check(
        &mut machine,
        &[
            vec![
                tx("a.1", None, vec![compacted("k"), event("k", b"x", Some(1))]),
                tx("a.2", None, vec![event("k", b"y", Some(2)), event("k", b"", Some(3))]),
                tx("a.3", None, vec![event("k", b"z", Some(4)), event("k", b"z", Some(5))]),
            ],
            vec![
                tx("b.1", None, vec![event("k", b"x", Some(6))]),
                tx("a.4", None, vec![event("k", b"x", Some(7)), event("k", b"z", None)]),
                tx("a.5", None, vec![event("k", b"never", None), event("none", b"x", None)]),
            ],
        ],
        &expect![[r#"
            1: applied
            1: QP0245 event has no key (action 1)
            1: applied
            2: applied
            2: applied
            2: QP0203 no such stream (action 1)
            account a 1000
            account b 18446744073709551610
            stream k 6
        "#]],
    );
    let newest = machine.newest("k", b"x").expect("healthy").expect("it is there");
    assert_eq!((newest.height, newest.action), (Height::new(2), 0));
    assert_eq!(newest.position.seqno, Seqno::new(201));
    for key in [b"y".as_slice(), b"z", b"never", b""] {
        assert_eq!(machine.newest("k", key).expect("healthy"), None);
    }
    assert!(machine.newest_page("none", &Hash::ZERO, 9, 9).expect("healthy").is_none());
}

/// What a liar may make of a true page.
fn false_pages(whole: &Page) -> Vec<(&'static str, Page)> {
    let change = |what: &dyn Fn(&mut Page)| {
        let mut page = whole.clone();
        what(&mut page);
        page
    };
    let of_7 = whole.entries.iter().position(|entry| entry.newest.key == [7, 1]);
    let of_7 = of_7.expect("it is there");
    vec![
        ("a key left out", change(&|page| drop(page.entries.remove(3)))),
        ("all left out", change(&|page| page.entries.clear())),
        ("a key twice", change(&|page| page.entries.insert(3, page.entries[3].clone()))),
        ("swapped", change(&|page| page.entries.swap(3, 4))),
        (
            "older event",
            change(&|page| {
                let Action::Append { payload, .. } = event(STREAM, &[7, 1], Some(1)) else {
                    return;
                };
                let entry = &mut page.entries[of_7];
                entry.newest.height = Height::new(2);
                entry.newest.action = 7;
                entry.newest.payload = sha256(&payload);
                entry.payload = payload;
            }),
        ),
        (
            "older payload",
            change(&|page| {
                page.entries[of_7].payload.clone_from(&whole.entries[0].payload);
            }),
        ),
        ("no keys at all", change(&|page| page.keys = None)),
        ("part called whole", change(&|page| page.bits = 1)),
        ("another state", change(&|page| page.certificate.state.state_root = Hash::ZERO)),
        ("nobody signed", change(&|page| page.certificate.signatures.clear())),
        ("record", change(&|page| page.record[0] ^= 1)),
    ]
}

#[test]
fn a_page_that_leaves_out_a_key_or_shows_an_older_event_is_false() {
    let genesis = signed_genesis();
    let mut machine = Machine::open(MemoryStore::new(), &genesis).expect("memory opens");
    let mut model = Model::new();
    let chain = machine.chain();
    let mut run = |actions: Vec<Action>, sequence: u64| {
        let transaction = tx(&format!("a.{sequence}"), None, actions);
        let block = [Transaction { anchor: chain, ..transaction }];
        let applied = apply(&mut machine, &block);
        remember(&mut model, Height::new(sequence), &block, &applied.receipts);
        applied.state_root
    };
    run(vec![compacted(STREAM)], 1);
    let old: Vec<Action> = (0..40_u8).map(|key| event(STREAM, &[key, 1], Some(1))).collect();
    run(old, 2);
    run(vec![event(STREAM, &[7, 1], Some(2)), event(STREAM, &[9, 1], None)], 3);
    let (before, _) = read_all(&machine, &genesis, &model, 100).expect("true");
    let [whole] = before.as_slice() else { panic!("one page") };
    assert_eq!(whole.entries.len(), 39);
    expect!["d96b9b7ee8d65cfa56d0313ae91642960b7f0742e21f59455bc2dad9f671d0b8"]
        .assert_eq(&sha256(&whole.to_bytes()).to_string());
    let mut text = String::new();
    for (what, page) in false_pages(whole) {
        let error = page.verify(&genesis, STREAM, &Hash::ZERO).expect_err(what);
        writeln!(text, "{what}: {} {error}", error.code()).expect("a string takes it");
    }
    expect![[r#"
        a key left out: QP0402 the events are not the newest of every key that belongs to the page
        all left out: QP0402 the events are not the newest of every key that belongs to the page
        a key twice: QP0402 the events are not the newest of every key that belongs to the page
        swapped: QP0402 the events are not the newest of every key that belongs to the page
        older event: QP0402 the events are not the newest of every key that belongs to the page
        older payload: QP0402 the payload of action 0 of 1:300 is not the event's
        no keys at all: QP0402 the number and root of its keys are not what the state has of the stream
        part called whole: QP0402 the events are not the newest of every key that belongs to the page
        another state: QP0402 the state certificate proves nothing: signature of validator 0 does not verify
        nobody signed: QP0402 the state certificate proves nothing: signers hold 0 of 1 stake, no more than two thirds
        record: QP0402 the record is not the state's record of the stream
    "#]].assert_eq(&text);
    assert!(matches!(whole.verify(&genesis, "other", &Hash::ZERO), Err(PageError::Record)));
}

#[test]
fn events_of_one_key_are_tried_side_by_side_and_the_last_stays() {
    let threads = NonZeroUsize::new(2).expect("two");
    let mut machine = open(MemoryStore::new()).with_threads(threads, 1);
    apply(&mut machine, &[tx("a.1", None, vec![compacted(STREAM)])]);
    let block: Vec<Transaction> = ('b'..='z')
        .zip(0..)
        .map(|(who, n)| tx(&format!("{who}.1"), None, vec![event(STREAM, b"one", Some(n))]))
        .collect();
    apply(&mut machine, &block);
    let counts = machine.tried_counts();
    assert_eq!((counts.tried, counts.taken), (25, 25));
    let newest = machine.newest(STREAM, b"one").expect("healthy").expect("it is there");
    assert_eq!(newest.position.seqno, Seqno::new(224));
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0..12_u8).prop_map(|key| vec![key]),
        1 => Just(vec![]),
    ]
}

fn event_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        9 => (key(), prop::option::weighted(0.8, 0..50_i32))
            .prop_map(|(key, value)| event(STREAM, &key, value)),
        1 => (key(), 0..9_i32).prop_map(|(key, n)| event("missing", &key, Some(n))),
        1 => Just(transfer('b', 2)),
    ]
}

fn blocks_of_events() -> impl Strategy<Value = Vec<Vec<(char, Vec<Action>)>>> {
    let who = prop::sample::select(vec!['a', 'b', 'c', 'd']);
    vec(vec((who, vec(event_action(), 1..5)), 0..8), 1..10)
}

/// Numbers each signer's transactions, and creates the stream first.
fn numbered(blocks: Vec<Vec<(char, Vec<Action>)>>, chain: Hash) -> Vec<Vec<Transaction>> {
    let mut next: BTreeMap<char, u64> = BTreeMap::new();
    let mut number = |(who, actions): (char, Vec<Action>)| {
        let sequence = next.entry(who).or_default();
        *sequence = sequence.saturating_add(1);
        Transaction { anchor: chain, ..tx(&format!("{who}.{sequence}"), None, actions) }
    };
    let first = vec![number(('a', vec![compacted(STREAM)]))];
    let rest = blocks.into_iter().map(|block| block.into_iter().map(&mut number).collect());
    std::iter::once(first).chain(rest.collect::<Vec<_>>()).collect()
}

proptest! {
    #[test]
    fn the_newest_events_are_a_maps_whatever_is_tried_speculated_flushed_and_lost(
        blocks in blocks_of_events(),
        fates in vec((fate(), any::<bool>()), 60),
        count in 1..9_usize,
    ) {
        let genesis = Genesis { anchor_window_heights: 50, ..signed_genesis() };
        let threads = NonZeroUsize::new(3).expect("three");
        let open = |store| {
            Machine::open(store, &genesis).expect("memory opens").with_threads(threads, 1)
        };
        let mut machine = open(MemoryStore::new());
        let mut twin = Machine::open(MemoryStore::new(), &genesis).expect("memory opens");
        let blocks = numbered(blocks, machine.chain());
        let mut models = vec![];
        let mut fates = fates.into_iter();
        loop {
            let at = usize::try_from(machine.applied().get()).expect("small");
            let Some(block) = blocks.get(at) else { break };
            let (fate, speculates) = fates.next().unwrap_or((Fate::Go, false));
            if speculates {
                let (height, hash) = (machine.applied().next(), header_hash(999));
                let other: Vec<_> = block.iter().rev().cloned().collect();
                with_block(height, hash, &other, |block| machine.speculate(block)).expect("healthy");
            }
            let applied = apply(&mut machine, block);
            if models.len() == at {
                prop_assert_eq!(&applied, &apply(&mut twin, block));
                let mut model = models.last().cloned().unwrap_or_default();
                remember(&mut model, machine.applied(), block, &applied.receipts);
                models.push(model);
            }
            let model = &models[at];
            let (pages, last) = read_all(&machine, &genesis, model, count).expect("a true page");
            let shown: Vec<&Newest> =
                pages.iter().flat_map(|page| &page.entries).map(|entry| &entry.newest).collect();
            let mut wanted: Vec<&Newest> = model.values().map(|found| &found.0).collect();
            wanted.sort_by_key(|newest| Newest::place(&newest.key));
            prop_assert_eq!(shown, wanted);
            prop_assert_eq!(last.map(|shown| shown.keys.count), u64::try_from(model.len()).ok());
            for key in 0..12_u8 {
                let newest = machine.newest(STREAM, &[key]).expect("healthy");
                prop_assert_eq!(newest.as_ref(), model.get([key].as_slice()).map(|found| &found.0));
            }
            match fate {
                Fate::Go => {}
                Fate::Flush => machine.flush().expect("memory flushes"),
                Fate::Crash => machine = open(machine.into_store()),
            }
        }
        prop_assert_eq!(dump(&machine), dump(&twin));
    }
}
