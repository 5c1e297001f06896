//! A small ledger for tests: blocks of transactions, fed to a store, asked in SQL.

use std::path::Path;
use std::sync::Arc;

use quipu_query::{
    AccountRow, Act, ColumnStore, Engine, EpochRow, EvidenceRow, IngestBlock, IngestTx, Limits,
    MetricRow, Outcome, Session, Signer, SqlError, SystemSource, TableSource, ValidatorRow,
};
use quipu_types::transaction::{RouteRule, StreamSpec, Writers};
use quipu_types::{
    AccountId, Action, Hash, Header, Height, Lane, PublicKey, Receipt, Schema, Seqno, Signature,
    Suite, Term, Time, Tip, Transaction, ValidatorIndex, Value,
};

/// Height 1's time; each height is a second after the one before.
pub(crate) const START_US: u64 = 1_700_000_000_000_000;

#[derive(Debug)]
pub(crate) struct Source;

impl SystemSource for Source {
    fn accounts(&self) -> Vec<AccountRow> {
        vec![AccountRow { account: AccountId([7; 32]), balance: u64::MAX }]
    }

    fn validators(&self) -> Vec<ValidatorRow> {
        vec![ValidatorRow {
            index: 0,
            name: "node0".into(),
            key: signer(9),
            address: None,
            owner: Some(AccountId([7; 32])),
            power: 1,
            power_next: Some(0),
            bond: 3,
            locked: 2,
            is_deposed: true,
            is_stale: false,
            has_share_key: false,
            state_vote_p99_us: Some(1_500),
            epoch: 4,
        }]
    }

    fn evidence(&self) -> Vec<EvidenceRow> {
        vec![EvidenceRow {
            epoch: 3,
            height: Height::new(9),
            kind: "prevotes".into(),
            place: "height 5, round 0".into(),
            validator: 0,
            key: signer(9),
            slashed: 1,
            by: AccountId([8; 32]),
            tx: Hash([6; 32]),
        }]
    }

    fn epochs(&self) -> Vec<EpochRow> {
        let row = |epoch, began_us, ended_us| EpochRow {
            epoch,
            validator_count: 1,
            power: u128::from(u64::MAX) * 128,
            has_coin: false,
            began_us,
            ended_us,
        };
        vec![
            row(3, Some(START_US), Some(START_US + 1)),
            row(4, Some(START_US + 1), None),
            row(5, None, None),
        ]
    }

    fn metrics(&self) -> Vec<MetricRow> {
        vec![MetricRow { name: "events_total".into(), labels: String::new(), value: 3.0 }]
    }

    /// Names are told apart by their first bytes.
    fn happens_before(&self, first: Hash, second: Hash) -> Result<bool, SqlError> {
        Ok(first < second)
    }
}

/// A ledger without tables.
#[derive(Debug)]
pub(crate) struct NoTables;

/// Who writes.
pub(crate) const SIGNER: Option<Signer> =
    Some(Signer { account: AccountId([7; 32]), is_open: true });

impl TableSource for NoTables {
    fn get(&self, _: &[u8], _: Height) -> Result<Option<Vec<u8>>, quipu_state::StoreError> {
        Ok(None)
    }

    fn range(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        _: usize,
        _: Height,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, quipu_state::StoreError> {
        Ok(Vec::new())
    }
}

pub(crate) fn signer(byte: u8) -> PublicKey {
    PublicKey::new(Suite::Ed25519Sha256, &[byte; 32]).unwrap()
}

/// What feeds a store, height after height.
pub(crate) struct Feeder {
    height: u64,
    seqno: u64,
}

impl Feeder {
    pub(crate) fn new() -> Self {
        Self { height: 0, seqno: 0 }
    }

    /// Feeds one height of these transactions.
    pub(crate) fn feed(&mut self, store: &ColumnStore, transactions: &[Vec<Action>]) {
        self.feed_with(store, transactions, quipu_types::Outcome::Applied);
    }

    pub(crate) fn feed_with(
        &mut self,
        store: &ColumnStore,
        transactions: &[Vec<Action>],
        outcome: quipu_types::Outcome,
    ) {
        self.height += 1;
        let time_us = START_US + self.height * 1_000_000;
        let built: Vec<(Seqno, Transaction, Receipt)> = transactions
            .iter()
            .map(|actions| {
                self.seqno += 1;
                let transaction = Transaction {
                    signer: signer(1),
                    incarnation: 1,
                    sequence: self.seqno,
                    anchor: Hash([3; 32]),
                    route: None,
                    actions: actions.clone(),
                    signature: Signature([0; 64]),
                };
                let seqno = Seqno::new(self.seqno);
                let receipt = Receipt {
                    lane: Lane::new(2),
                    seqno,
                    tx: tx_of(self.seqno),
                    action_count: u32::try_from(actions.len()).unwrap(),
                    fee: 5,
                    outcome,
                    row_count: 0,
                    detail: 0,
                };
                (seqno, transaction, receipt)
            })
            .collect();
        let header = self.header(time_us);
        let ingested: Vec<IngestTx<'_>> = built
            .iter()
            .map(|(seqno, transaction, receipt)| IngestTx {
                lane: Lane::new(2),
                seqno: *seqno,
                tx: receipt.tx,
                transaction,
                receipt,
                not_before_us: time_us - 1_500_000,
            })
            .collect();
        store
            .ingest(&IngestBlock {
                height: Height::new(self.height),
                header: &header,
                header_hash: Hash([8; 32]),
                time_us,
                transactions: &ingested,
            })
            .unwrap();
    }

    fn header(&self, time_us: u64) -> Header {
        Header {
            epoch: 0,
            height: Height::new(self.height),
            proposer: ValidatorIndex::new(0),
            prev_header: Hash([8; 32]),
            cut: vec![Tip {
                lane: Lane::new(2),
                term: Term::new(1),
                index: self.height,
                seqno: Seqno::new(self.seqno),
                lane_root: Hash([4; 32]),
                chunk_hash: Hash([5; 32]),
            }],
            term_changes: Vec::new(),
            time: Time::new(time_us),
            prev_commit: None,
            late_votes: Vec::new(),
            state_certificate: None,
            next_set: None,
            evidence_root: Hash::ZERO,
            rounds: quipu_types::Rounds::genesis(false),
        }
    }
}

/// The name that the feeder gives the transaction of a seqno.
pub(crate) fn tx_of(seqno: u64) -> Hash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seqno.to_be_bytes());
    Hash(bytes)
}

pub(crate) fn create(name: &str, columns: &str) -> Action {
    Action::CreateStream(StreamSpec {
        name: name.into(),
        schema: Schema::parse(columns).unwrap(),
        route: RouteRule::Signer,
        writers: Writers::Anyone,
        compacted: false,
    })
}

pub(crate) fn append(stream: &str, schema: &Schema, values: &[Value]) -> Action {
    Action::Append {
        stream: stream.into(),
        key: b"k".to_vec(),
        payload: schema.encode_row(values).unwrap(),
    }
}

pub(crate) fn engine(store: &ColumnStore) -> Arc<Engine> {
    Engine::new(store.clone(), Arc::new(Source), Arc::new(NoTables), Limits::default()).unwrap()
}

pub(crate) fn open(folder: &Path) -> ColumnStore {
    ColumnStore::open(folder).unwrap()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The answer as lines: names, then values separated by `|`, null as `~`.
pub(crate) async fn answer(session: &mut Session, sql: &str) -> Result<String, SqlError> {
    let mut rows = match session.query(sql).await {
        Ok(Outcome::Rows(rows)) => rows,
        Ok(Outcome::Done { tag, .. }) => return Ok(tag),
        Ok(Outcome::Write(write)) => {
            let all: Vec<String> = write.acts().iter().map(shown).collect();
            return Ok(all.join(", "));
        }
        Ok(Outcome::CopyIn(copy)) => {
            return Ok(format!("copies in {} columns", copy.column_count()));
        }
        Ok(Outcome::CopyOut(_)) => return Ok("copies out".into()),
        Err(error) => return Err(error),
    };
    let names: Vec<String> = rows.columns().iter().map(|column| column.name.clone()).collect();
    let mut lines = vec![names.join("|")];
    for row in rows.texts(1_000_000).await? {
        let values: Vec<String> =
            row.into_iter().map(|value| value.unwrap_or_else(|| "~".into())).collect();
        lines.push(values.join("|"));
    }
    Ok(lines.join("\n"))
}

fn shown(act: &Act) -> String {
    match act {
        Act::Append(append) => format!("appends {} x {}", append.stream, append.rows.len()),
        Act::CreateStream(spec) => format!("creates {} ({})", spec.name, spec.schema),
        other => format!("{other:?}"),
    }
}

/// The answer, or the error as `SQLSTATE message @position`.
pub(crate) async fn told(session: &mut Session, sql: &str) -> String {
    match answer(session, sql).await {
        Ok(text) => text,
        Err(error) => {
            session.fail();
            let position = error.position.map_or(String::new(), |place| format!(" @{place}"));
            let hint = error.hint.map_or(String::new(), |hint| format!(" ({hint})"));
            format!("{} {}{position}{hint}", error.sqlstate, error.message)
        }
    }
}
