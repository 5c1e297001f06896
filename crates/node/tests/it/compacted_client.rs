//! A client of compacted streams, and servers that lie to it.

use std::collections::BTreeMap;

use quipu_client::{Client, ClientError, Compacted};
use quipu_crypto::SecretKey;
use quipu_crypto::domain::Tag;
use quipu_crypto::hash::sha256;
use quipu_crypto::suite::sign_tagged;
use quipu_proof::compacted::{Entry, Newest, Page};
use quipu_proof::names::chain_id;
use quipu_state::{Machine, MemoryStore, Ordered, OrderedBlock};
use quipu_types::genesis::{GENESIS_VERSION, GenesisValidator};
use quipu_types::{
    Action, Encode, Genesis, Hash, Height, Lane, RouteRule, Schema, Seqno, Signature, SignedState,
    StateCertificate, StreamSpec, Suite, Time, Transaction, ValidatorIndex, Value, Voters, Writers,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

const KEY_COUNT: u8 = 20;
/// What is made of a true page.
type Lie<'a> = &'a dyn Fn(&mut Page);

fn key() -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [3; 32])
}

fn genesis() -> Genesis {
    let validator = GenesisValidator {
        name: "v".into(),
        key: key().public(),
        power: 1,
        possession: Signature([0; 64]),
        owner: None,
    };
    Genesis {
        version: GENESIS_VERSION,
        name: "test".into(),
        time_us: Time::new(1),
        lane_count: 1,
        clock_seed: "seed".into(),
        clock_rate_hz: 1,
        hash_rate_fastest_hz: 1,
        anchor_window_heights: 100,
        height_interval_min_ms: 1,
        height_interval_idle_ms: 1,
        open_streams: true,
        validators: vec![validator],
        accounts: vec![],
        coin: None,
        stake: None,
    }
}

fn payload_of(n: i32) -> Vec<u8> {
    let schema = Schema::parse("n int4").expect("a schema");
    schema.encode_row(&[Value::Int4(n)]).expect("a row")
}

/// A ledger whose keys were all set at height 2, and the first of them again at height 3.
fn machine(genesis: &Genesis, height_count: u64) -> Machine<MemoryStore> {
    let mut machine = Machine::open(MemoryStore::new(), genesis).expect("memory opens");
    let create = Action::CreateStream(StreamSpec {
        name: "prices".into(),
        schema: Schema::parse("n int4").expect("a schema"),
        route: RouteRule::Signer,
        writers: Writers::Anyone,
        compacted: true,
    });
    let append = |key: u8, n| Action::Append {
        stream: "prices".into(),
        key: vec![b'k', key],
        payload: payload_of(n),
    };
    let all = (0..KEY_COUNT).map(|key| append(key, i32::from(key))).collect();
    let blocks = [vec![create], all, vec![append(0, 1_000)]];
    for (actions, number) in blocks.into_iter().zip(1..=height_count) {
        let transaction = Transaction {
            signer: key().public(),
            incarnation: 0,
            sequence: number,
            anchor: chain_id(genesis),
            route: None,
            actions,
            signature: Signature([0; 64]),
        };
        let ordered = Ordered {
            lane: Lane::new(0),
            seqno: Seqno::new(number),
            tx: sha256(&[u8::try_from(number).expect("small")]),
            transaction: &transaction,
        };
        let block = OrderedBlock {
            epoch: 0,
            height: Height::new(number),
            header_hash: sha256(&number.to_le_bytes()),
            time_us: Time::new(number),
            transactions: &[ordered],
            present: Voters::default(),
        };
        machine.apply(&block).expect("memory reads");
    }
    machine
}

fn page_of(machine: &Machine<MemoryStore>, genesis: &Genesis, start: &Hash) -> Page {
    let draft = machine.newest_page("prices", start, 8, 1_000).expect("memory reads");
    let draft = draft.expect("the stream is there");
    let (height, state_root) = (draft.height, draft.state_root);
    let state = SignedState { height, state_root, receipts_root: Hash::ZERO, next_set: None };
    let tag = Tag::StateVote;
    let signature = sign_tagged(&key(), &chain_id(genesis), 0, tag, &state.to_bytes());
    let signatures = vec![(ValidatorIndex::new(0), signature)];
    let number = |newest: &Newest| match newest.height.get() {
        3 => 1_000,
        _ => i32::from(newest.key[1]),
    };
    let payloads = draft.newest.iter().map(|newest| payload_of(number(newest))).collect();
    draft.finish(StateCertificate { state, signatures }, payloads)
}

/// Reads everything from a server that says what `lie` makes of each true page.
async fn read(height_count: u64, lie: impl Fn(&mut Page)) -> Result<String, ClientError> {
    let genesis = genesis();
    let machine = machine(&genesis, height_count);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = Client::new(&format!("http://{}", listener.local_addr().expect("bound")))?;
    let server = async {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a client comes");
            let (reader, mut writer) = socket.split();
            let mut lines = BufReader::new(reader).lines();
            let first = lines.next_line().await.expect("reads").expect("a request");
            while lines.next_line().await.expect("reads").is_some_and(|line| !line.is_empty()) {}
            let from = first.split_once("from=").expect("it says from where").1;
            let start = from.get(..64).expect("64 digits").parse().expect("a hash");
            let mut page = page_of(&machine, &genesis, &start);
            lie(&mut page);
            let body = format!("{{\"proof\":\"{}\"}}", hex::encode(page.to_bytes()));
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
            let answer = format!("{head} {}\r\n\r\n{body}", body.len());
            writer.write_all(answer.as_bytes()).await.expect("it is read");
        }
    };
    let reading = async {
        let mut pages = Compacted::new(&client, &genesis, "prices");
        let mut shown = BTreeMap::new();
        let mut page_count = 0_u32;
        while let Some(page) = pages.next().await? {
            page_count = page_count.saturating_add(1);
            for event in page.events {
                shown.insert(event.key.clone(), event);
            }
        }
        let first = pages.of_key(b"k\0").await?.events.pop();
        assert_eq!(first.as_ref(), shown.get("k\0"), "the same by its key");
        assert!(pages.of_key(b"none").await?.events.is_empty());
        let values: Vec<String> = shown.values().map(|event| event.data["n"].to_string()).collect();
        Ok(format!("{page_count} pages: {}", values.join(" ")))
    };
    tokio::select! {
        told = reading => told,
        () = server => unreachable!("the server has no end"),
    }
}

#[tokio::test]
async fn every_key_is_read_with_its_newest_event() {
    let told = read(3, |_| {}).await.expect("nothing is false");
    assert_eq!(told, "3 pages: 1000 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19");
    assert_eq!(read(1, |_| {}).await.expect("nothing is false"), "1 pages: ");
}

#[tokio::test]
async fn a_server_that_shows_an_older_event_or_leaves_out_a_key_is_caught() {
    let genesis = genesis();
    let old = machine(&genesis, 2);
    let is_first = |entry: &Entry| entry.newest.key == b"k\0";
    let older = |page: &mut Page| {
        let start = page.start;
        let old = page_of(&old, &genesis, &start);
        let old = old.entries.into_iter().find(is_first);
        if let (Some(place), Some(old)) = (page.entries.iter_mut().find(|e| is_first(e)), old) {
            *place = old;
        }
    };
    let left_out = |page: &mut Page| page.entries.retain(|entry| !is_first(entry));
    let ended = |page: &mut Page| page.bits = 0;
    let payload = |page: &mut Page| {
        for entry in page.entries.iter_mut().filter(|entry| is_first(entry)) {
            entry.payload = payload_of(0);
        }
    };
    let lies: [(&str, Lie<'_>); 4] =
        [("older", &older), ("left out", &left_out), ("ended", &ended), ("payload", &payload)];
    for (what, lie) in lies {
        match read(3, lie).await {
            Err(ClientError::FalsePage { server, error }) => {
                assert!(server.starts_with("http://127.0.0.1"), "{what}: {server}");
                assert_eq!(error.code(), quipu_types::code::PROOF_FALSE, "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}
