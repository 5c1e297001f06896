//! What a client signs with: the ledger's genesis, and the newest header that it has checked.
//!
//! ```text
//!  genesis: the caller's, else the first that a server gives (C2) ── validators ─┐
//!  GET /v1/epochs ── hand-overs, where the header is of an epoch that is not known ┤
//!  GET /v1/headers/latest ── header, commit certificate ─────────────────────────┴─ verify ─> hash = anchor
//! ```
//! A transaction is valid only in a history that has its anchor: whoever signs one that a server merely says may sign for a
//! history that does not exist, or for a false one. What a server can do is to show an old header: the anchor is then the newest that
//! this client has seen checked, and bounds the time of what is signed less closely.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use quipu_proof::names::header_hash;
use quipu_proof::{CertificateError, Pinned};
use quipu_types::{Code, CommitCertificate, Decode as _, Genesis, Hash, Header, Height, code};
use thiserror::Error;

use crate::api::HeaderBody;
use crate::http::{Client, ClientError};

/// A header that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderInfo {
    /// Its height.
    pub height: Height,
    /// Its hash: what a transaction may be anchored to.
    pub hash: Hash,
}

/// Why a header that a server shows is no anchor.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The bytes are no header with its certificate.
    #[error("the bytes are no committed header")]
    Malformed,
    /// No quorum of its epoch's validators committed it.
    #[error("the certificate of header {height} does not hold: {error}")]
    Certificate {
        /// The height that it names.
        height: Height,
        /// Why.
        error: CertificateError,
    },
}

impl HeaderFault {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        code::PROOF_FALSE
    }
}

/// What a genesis says of a ledger, as far as signing needs it.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) chain: Hash,
    pub(crate) lane_count: u16,
    /// The validators that were followed.
    pinned: Arc<Mutex<Pinned>>,
}

impl Ledger {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let pinned = Pinned::of_checked(genesis);
        let (chain, lane_count) = (*pinned.chain(), genesis.lane_count.max(1));
        Self { chain, lane_count, pinned: Arc::new(Mutex::new(pinned)) }
    }

    fn pinned(&self) -> MutexGuard<'_, Pinned> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client knows by now.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) ledger: OnceLock<Ledger>,
    newest: Mutex<Option<HeaderInfo>>,
}

impl Known {
    pub(crate) fn of(genesis: &Genesis) -> Self {
        Self { ledger: Ledger::new(genesis).into(), newest: Mutex::default() }
    }

    /// What is known of the ledger, without what servers have shown of it since.
    pub(crate) fn ledger_alone(&self) -> Self {
        Self { ledger: self.ledger.clone(), newest: Mutex::default() }
    }

    fn newest(&self) -> Option<HeaderInfo> {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a header; gives the newest of all.
    fn add(&self, header: HeaderInfo) -> HeaderInfo {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = newest.filter(|newest| newest.height >= header.height).unwrap_or(header);
        *newest = Some(newer);
        newer
    }
}

impl Client {
    /// The ledger of the pinned genesis. Without one the first that a server gives is pinned for as long as this client lives.
    pub(crate) async fn ledger(&self) -> Result<&Ledger, ClientError> {
        if let Some(ledger) = self.known.ledger.get() {
            return Ok(ledger);
        }
        let (genesis, server): (Genesis, String) = self.get_of("/v1/genesis").await?;
        genesis.check().map_err(|error| {
            let reason = format!("its genesis is none: {error}");
            ClientError::Protocol { server, reason }
        })?;
        Ok(self.known.ledger.get_or_init(|| Ledger::new(&genesis)))
    }

    /// The chain, checked, and the number of lanes that routes lead to.
    pub(crate) async fn signs_for(&self) -> Result<(Hash, u16), ClientError> {
        let ledger = self.ledger().await?;
        self.chain().await?;
        Ok((ledger.chain, ledger.lane_count))
    }

    /// The newest committed header: what a server shows is checked against the genesis.
    ///
    /// # Errors
    /// [`ClientError::FalseHeader`] when its certificate does not hold; then the next server is asked the next time. When
    /// nobody answers, or there is no header yet.
    pub async fn latest_header(&self) -> Result<HeaderInfo, ClientError> {
        let ledger = self.ledger().await?;
        let (shown, server): (HeaderBody, String) = self.get_of("/v1/headers/latest").await?;
        let read = read(&shown);
        if let Ok((header, _)) = &read
            && header.epoch > ledger.pinned().epoch()
        {
            self.follow(ledger).await?;
        }
        let checked = read.and_then(|(header, certificate)| check(ledger, &header, &certificate));
        match checked {
            Ok(header) => Ok(self.known.add(header)),
            Err(error) => {
                self.prefer_next();
                Err(ClientError::FalseHeader { server, error: Box::new(error) })
            }
        }
    }

    /// Follows the validators.
    async fn follow(&self, ledger: &Ledger) -> Result<(), ClientError> {
        let mut pinned = ledger.pinned().clone();
        self.follow_epochs(&mut pinned).await?;
        let mut known = ledger.pinned();
        if pinned.epoch() > known.epoch() {
            *known = pinned;
        }
        Ok(())
    }

    /// The anchor of what is signed now: the newest header that this client has seen checked, or `known` while it has seen none.
    ///
    /// # Errors
    /// When a server shows what does not verify: nothing should be signed by its word.
    pub async fn anchor(&self, known: Hash) -> Result<Hash, ClientError> {
        match self.latest_header().await {
            Ok(header) => Ok(header.hash),
            Err(lie @ (ClientError::FalseHeader { .. } | ClientError::FalseEpochs { .. })) => {
                Err(lie)
            }
            Err(_) => Ok(self.known.newest().map_or(known, |header| header.hash)),
        }
    }
}

fn read(shown: &HeaderBody) -> Result<(Header, CommitCertificate), HeaderFault> {
    let read = || {
        let header = hex::decode(&shown.header).ok()?;
        let certificate = hex::decode(&shown.certificate).ok()?;
        let certificate = CommitCertificate::from_bytes(&certificate).ok()?;
        Some((Header::from_bytes(&header).ok()?, certificate))
    };
    read().ok_or(HeaderFault::Malformed)
}

fn check(
    ledger: &Ledger,
    header: &Header,
    certificate: &CommitCertificate,
) -> Result<HeaderInfo, HeaderFault> {
    let height = header.height;
    let checked = ledger.pinned().verify_committed(header, certificate);
    checked.map_err(|error| HeaderFault::Certificate { height, error })?;
    Ok(HeaderInfo { height, hash: header_hash(header) })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use quipu_crypto::domain::Tag;
    use quipu_crypto::merkle::empty_root;
    use quipu_crypto::suite::{SecretKey, sign_tagged};
    use quipu_proof::names::chain_id;
    use quipu_proof::{Committed, Handovers};
    use quipu_types::agreement::Validator;
    use quipu_types::genesis::{GENESIS_VERSION, GenesisValidator};
    use quipu_types::{
        Action, Encode as _, Precommit, RoundKind, Rounds, Signature, Suite, Time, Transaction,
        ValidatorIndex, ValidatorSet,
    };
    use serde_json::{Value as Json, json};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::Producer;

    /// A ledger of one validator in an epoch.
    pub(crate) struct Truth {
        pub(crate) genesis: Genesis,
        signer: SecretKey,
        chain: Hash,
        epoch: u64,
        /// Whose its headers say the next epoch is.
        next: Option<u8>,
    }

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(Suite::Ed25519Sha256, [seed; 32])
    }

    impl Truth {
        pub(crate) fn new(name: &str, lane_count: u16) -> Self {
            let signer = key(1);
            let possession = Signature([0; 64]);
            let validator = GenesisValidator {
                name: "v".into(),
                key: signer.public(),
                power: 1,
                possession,
                owner: None,
            };
            let genesis = Genesis {
                version: GENESIS_VERSION,
                name: name.into(),
                time_us: Time::new(1),
                lane_count,
                clock_seed: "headline".into(),
                clock_rate_hz: 1,
                hash_rate_fastest_hz: 1,
                anchor_window_heights: 1_000,
                height_interval_min_ms: 1,
                height_interval_idle_ms: 1,
                open_streams: true,
                validators: vec![validator],
                accounts: vec![],
                coin: None,
                stake: None,
            };
            genesis.check().unwrap();
            Self { chain: chain_id(&genesis), genesis, signer, epoch: 0, next: None }
        }

        /// The same, its certificates made with another key.
        pub(crate) fn signed_by(self, seed: u8) -> Self {
            Self { signer: key(seed), ..self }
        }

        /// The same in another epoch.
        fn in_epoch(self, epoch: u64) -> Self {
            Self { epoch, ..self }
        }

        /// What ends the epoch, as a validator shows it: the next one is of another key.
        fn end(self, height: u64, seed: u8) -> Json {
            let (header, certificate) = Self { next: Some(seed), ..self }.committed(height);
            shown(vec![Committed::new(header, certificate)])
        }

        fn committed(&self, height: u64) -> (Header, CommitCertificate) {
            let header = Header {
                epoch: self.epoch,
                height: Height::new(height),
                proposer: ValidatorIndex::new(0),
                prev_header: self.chain,
                cut: vec![],
                term_changes: vec![],
                time: Time::new(height),
                prev_commit: None,
                late_votes: vec![],
                state_certificate: None,
                next_set: self.next.map(|seed| ValidatorSet {
                    epoch: self.epoch.saturating_add(1),
                    validators: vec![Validator {
                        key: key(seed).public(),
                        power: 1,
                        is_stale: false,
                    }],
                    coin: None,
                }),
                evidence_root: empty_root(),
                rounds: Rounds::genesis(false),
            };
            let mut vote = Precommit {
                height: header.height,
                round: 0,
                kind: RoundKind::Led,
                instance: ValidatorIndex::new(0),
                digest: header_hash(&header),
                tips: vec![],
                suspects: vec![],
                time: Time::new(height),
                validator: ValidatorIndex::new(0),
                signature: Signature([0; 64]),
            };
            let body = vote.signed_body();
            vote.signature =
                sign_tagged(&self.signer, &self.chain, self.epoch, Tag::Precommit, &body);
            (header, CommitCertificate { precommits: vec![vote], coin: None })
        }

        pub(crate) fn hash(&self, height: u64) -> Hash {
            header_hash(&self.committed(height).0)
        }

        /// As a validator shows it.
        pub(crate) fn header(&self, height: u64) -> Json {
            let (header, certificate) = self.committed(height);
            json!({
                "height": height, "hash": header_hash(&header).to_string(),
                "header": hex::encode(header.to_bytes()),
                "certificate": hex::encode(certificate.to_bytes()),
            })
        }

        pub(crate) fn status(&self) -> Json {
            json!({ "chain": self.chain.to_string(), "height": 1 })
        }
    }

    /// Hand-overs, which are bytes: in hexadecimal here.
    fn shown(handovers: Vec<Committed>) -> Json {
        json!(hex::encode(Handovers(handovers).to_bytes()))
    }

    /// What a server answers, by path; text stands for bytes in hexadecimal.
    type Answers = Arc<Mutex<BTreeMap<&'static str, Json>>>;

    fn set(answers: &Answers, path: &'static str, answer: Json) {
        answers.lock().unwrap().insert(path, answer);
    }

    /// A server of `truth`, whose newest header is of height 5.
    async fn serve(truth: &Truth) -> (String, Answers) {
        let answers = Answers::default();
        set(&answers, "/v1/genesis", json!(truth.genesis));
        set(&answers, "/v1/status", truth.status());
        set(&answers, "/v1/headers/latest", truth.header(5));
        let place = json!({ "lane": 0, "incarnation": 0, "next_sequence": 1 });
        set(&answers, "/v1/producers", place);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::clone(&answers);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let mut lines = BufReader::new(socket).lines();
                let first = lines.next_line().await.unwrap().unwrap_or_default();
                while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
                let asked = first.split(' ').nth(1).unwrap_or_default();
                let found = |(path, _): &(&&str, &Json)| asked.starts_with(**path);
                let bytes = |body: &Json| match body {
                    Json::String(text) => hex::decode(text).unwrap(),
                    body => body.to_string().into_bytes(),
                };
                let body = told.lock().unwrap().iter().find(found).map(|(_, body)| bytes(body));
                let none = br#"{"code":"QP0204","message":"no"}"#.to_vec();
                let status = if body.is_some() { 200 } else { 404 };
                let body = body.unwrap_or(none);
                let size = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n"
                );
                let mut socket = lines.into_inner().into_inner();
                socket.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
            }
        });
        (url, answers)
    }

    /// What a server shows that no quorum committed.
    fn lies() -> Vec<(&'static str, Json)> {
        let truth = || Truth::new("w", 4);
        let mut torn = truth().header(6);
        torn["certificate"] = truth().header(7)["certificate"].clone();
        let mut bare = truth().header(6);
        bare["header"] = json!("00");
        let mut odd = truth().header(6);
        odd["certificate"] = json!("xyz");
        vec![
            ("another key's", truth().signed_by(2).header(6)),
            ("another ledger's", Truth::new("x", 4).header(6)),
            ("another header's certificate", torn),
            ("no header", bare),
            ("no certificate", odd),
        ]
    }

    #[tokio::test]
    async fn who_signs_headers_is_followed_through_epochs_by_what_servers_show() {
        let truth = || Truth::new("w", 4);
        let next = || truth().signed_by(2).in_epoch(1);
        let (url, answers) = serve(&truth()).await;
        let client = Client::new(&url).unwrap().with_genesis(&truth().genesis);
        set(&answers, "/v1/headers/latest", next().header(6));
        // Nobody shows why the header's validators are any; or not those of the genesis do; or of something else.
        set(&answers, "/v1/epochs?from=0", shown(vec![]));
        assert!(is_lie(&client.latest_header().await.unwrap_err(), &url));
        for lie in [truth().signed_by(2).end(4, 2), Truth::new("x", 4).end(4, 2), next().end(4, 3)]
        {
            set(&answers, "/v1/epochs?from=0", lie);
            let error = client.latest_header().await.unwrap_err();
            assert!(matches!(error, ClientError::FalseEpochs { .. }), "{error}");
            assert!(client.anchor(truth().chain).await.is_err(), "nothing is signed by its word");
        }
        set(&answers, "/v1/epochs?from=0", truth().end(4, 2));
        set(&answers, "/v1/epochs?from=1", shown(vec![]));
        assert_eq!(client.latest_header().await.unwrap().hash, next().hash(6));
        // The old ones have no say any more, and end no epoch twice.
        set(&answers, "/v1/headers/latest", truth().header(9));
        assert!(is_lie(&client.latest_header().await.unwrap_err(), &url));
        set(&answers, "/v1/headers/latest", truth().signed_by(3).in_epoch(2).header(12));
        set(&answers, "/v1/epochs?from=1", next().end(10, 3));
        set(&answers, "/v1/epochs?from=2", truth().end(5, 4));
        let error = client.latest_header().await.unwrap_err();
        assert!(matches!(error, ClientError::FalseEpochs { .. }), "{error}");
        set(&answers, "/v1/epochs?from=2", shown(vec![]));
        let third = truth().signed_by(3).in_epoch(2).hash(12);
        assert_eq!(client.latest_header().await.unwrap().hash, third);
    }

    fn is_lie(error: &ClientError, url: &str) -> bool {
        error.to_string().contains(url) && matches!(error, ClientError::FalseHeader { .. })
    }

    #[tokio::test]
    async fn only_a_header_that_a_quorum_committed_becomes_an_anchor() {
        let truth = Truth::new("w", 4);
        let (url, answers) = serve(&truth).await;
        let own = key(9);
        let anchor_of = async |producer: &mut Producer<'_>| {
            let action = Action::Append { stream: "s".into(), key: vec![], payload: vec![] };
            let bytes = producer.sign(None, &[action]).await.unwrap();
            Transaction::from_bytes(&bytes).unwrap().anchor
        };
        for is_pinned in [true, false] {
            set(&answers, "/v1/headers/latest", truth.header(5));
            let client = Client::new(&url).unwrap();
            let client = if is_pinned { client.with_genesis(&truth.genesis) } else { client };
            let mut producer = Producer::new(&client, &own).await.unwrap();
            assert_eq!(anchor_of(&mut producer).await, truth.hash(5));
            for (what, lie) in lies() {
                set(&answers, "/v1/headers/latest", lie);
                let error = producer.refresh_anchor().await.unwrap_err();
                assert!(is_lie(&error, &url), "{what}: {error}");
                assert_eq!(anchor_of(&mut producer).await, truth.hash(5), "{what}");
                let error = Producer::new(&client, &own).await.unwrap_err();
                assert!(is_lie(&error, &url), "{what}: {error}");
            }
            // An older header is true; the newest that was checked stays. A newer one is taken.
            for (height, wanted) in [(4, 5), (8, 8)] {
                set(&answers, "/v1/headers/latest", truth.header(height));
                producer.refresh_anchor().await.unwrap();
                assert_eq!(anchor_of(&mut producer).await, truth.hash(wanted));
            }
        }
    }

    #[tokio::test]
    async fn a_ledger_without_a_header_is_anchored_at_its_genesis_and_never_again() {
        let truth = Truth::new("w", 4);
        let (url, answers) = serve(&truth).await;
        answers.lock().unwrap().remove("/v1/headers/latest");
        let client = Client::new(&url).unwrap();
        assert_eq!(client.anchor(truth.chain).await.unwrap(), truth.chain);
        set(&answers, "/v1/headers/latest", truth.header(5));
        assert_eq!(client.anchor(truth.chain).await.unwrap(), truth.hash(5));
        answers.lock().unwrap().remove("/v1/headers/latest");
        assert_eq!(client.anchor(truth.chain).await.unwrap(), truth.hash(5), "it does not go back");
    }

    #[tokio::test]
    async fn the_first_genesis_seen_is_pinned_where_none_is_given() {
        let (truth, other) = (Truth::new("w", 4), Truth::new("x", 2));
        let (url, answers) = serve(&truth).await;
        let client = Client::new(&url).unwrap();
        assert_eq!(client.signs_for().await.unwrap(), (truth.chain, 4));
        set(&answers, "/v1/genesis", json!(other.genesis));
        set(&answers, "/v1/headers/latest", other.header(9));
        assert_eq!(client.signs_for().await.unwrap(), (truth.chain, 4));
        assert!(is_lie(&client.latest_header().await.unwrap_err(), &url));
        set(&answers, "/v1/status", other.status());
        let error = client.signs_for().await.unwrap_err();
        assert!(matches!(error, ClientError::OtherChain { .. }), "{error}");
        // Who begins now pins the other one: that is all that trust on first use gives.
        let late = Client::new(&url).unwrap();
        assert_eq!(late.signs_for().await.unwrap(), (other.chain, 2));
        assert_eq!(late.latest_header().await.unwrap().hash, other.hash(9));
        let pinned = Client::new(&url).unwrap().with_genesis(&truth.genesis);
        let error = pinned.signs_for().await.unwrap_err();
        assert!(matches!(error, ClientError::OtherChain { .. }), "{error}");
    }
}
