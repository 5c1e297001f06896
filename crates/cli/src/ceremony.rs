//! How members who do not trust each other make one genesis, each with a key that nobody else sees.
//!
//! ```text
//!  draft (no validators) ──> each: join = name, key, power, address, proof that the key is held; signed for the draft
//!                                     │ all joins, to all
//!                            each: merge(draft, joins) = genesis    the same bytes, whoever does it
//!                                     │ chain id
//!                            each: sign = signature over the chain id ──> all: every member signed this one
//! ```
//! # What is signed, and where it counts
//! All under the tag `Possession`, epoch 0; the chain keeps the three apart, and what is signed keeps them apart from a key and its owner,
//! which are signed to register with a ledger (`quipu_types::stake`).
//! * proof: chain zero, the key itself. It is in the genesis and good for ever.
//! * join: the draft's id, `"join"` and the member's fields. No ledger has that id: a genesis names a validator.
//! * signature: the genesis' chain id, `"genesis"`.
//!
//! # Limits
//! Files of at most [`FILE_SIZE_MAX`] bytes; names of 1 to [`NAME_SIZE_MAX`] of a-z, 0-9, - and _.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::coin::CoinScheme;
use quipu_crypto::suite::is_weak;
use quipu_crypto::{SecretKey, Tag, sign_tagged, verify_tagged};
use quipu_node::check_peer_address;
use quipu_proof::names::chain_id;
use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::codec::put_bytes;
use quipu_types::genesis::GenesisValidator;
use quipu_types::{AccountId, CoinSetup, Encode, Genesis, Hash, PublicKey, Signature, code};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};
use crate::local::possession;

/// Most bytes of a join or a signature file.
pub(crate) const FILE_SIZE_MAX: usize = 4_096;
/// Version of both formats.
const VERSION: u32 = 1;
/// Longest name of a member.
const NAME_SIZE_MAX: usize = 32;

/// What a member says of itself, for one draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Join {
    version: u32,
    /// Id of the draft.
    draft: Hash,
    /// The member's name.
    pub(crate) name: String,
    /// The voting key.
    pub(crate) key: PublicKey,
    /// The stake.
    power: u64,
    /// Where others reach it.
    pub(crate) address: String,
    /// Who may bond to it and unbond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<AccountId>,
    /// The key's signature over itself.
    possession: Signature,
    /// The key's signature over all of this.
    signature: Signature,
}

impl Join {
    /// Signs what a member says of itself.
    pub(crate) fn new(
        draft: &Genesis,
        name: &str,
        key: &SecretKey,
        (power, owner): (u64, Option<AccountId>),
        address: &str,
    ) -> Result<Self> {
        draft.check_draft()?;
        let mut join = Self {
            version: VERSION,
            draft: chain_id(draft),
            name: name.to_owned(),
            key: key.public(),
            power,
            address: address.to_owned(),
            owner,
            possession: possession(key),
            signature: Signature([0; 64]),
        };
        join.check_fields().map_err(Failure::usage)?;
        join.signature = sign_tagged(key, &join.draft, 0, Tag::Possession, &join.body());
        Ok(join)
    }

    /// Reads a join file's text; [`Join::check`] says whether it is true.
    pub(crate) fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("is no join file: {error}"))
    }

    /// Checks everything that one file alone shows.
    fn check(&self, draft: &Hash) -> Result<()> {
        let named = |reason: String| format!("the join of {:?}: {reason}", self.name);
        self.check_fields().map_err(|reason| wrong(named(reason)))?;
        if self.draft != *draft {
            let reason = format!("it is to draft {}, this one is {draft}", self.draft);
            return Err(wrong(named(reason)));
        }
        self.check_signatures().map_err(|reason| is_false(named(reason)))
    }

    fn check_fields(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("version {}, this program reads {VERSION}", self.version));
        }
        check_name(&self.name)?;
        if self.power == 0 {
            return Err("power 0: a validator has at least one unit".into());
        }
        check_peer_address(&self.address)
    }

    fn check_signatures(&self) -> Result<(), String> {
        if is_weak(&self.key) {
            return Err(format!("key {} is weak: anyone can sign for it", self.key));
        }
        let signed = |chain: &Hash, body: &[u8], signature: &Signature| {
            verify_tagged(&self.key, chain, 0, Tag::Possession, body, signature)
        };
        if !signed(&Hash::ZERO, &self.key.to_bytes(), &self.possession) {
            return Err("it does not prove that its key is held".into());
        }
        if !signed(&self.draft, &self.body(), &self.signature) {
            return Err("its key did not sign it; it was changed, or is somebody else's".into());
        }
        Ok(())
    }

    /// What the member signs.
    fn body(&self) -> Vec<u8> {
        let mut body = b"join".to_vec();
        put_bytes(&mut body, self.name.as_bytes());
        self.key.encode(&mut body);
        body.extend_from_slice(&self.power.to_le_bytes());
        put_bytes(&mut body, self.address.as_bytes());
        if let Some(owner) = &self.owner {
            owner.encode(&mut body);
        }
        body
    }
}

/// A member's consent to one genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Consent {
    version: u32,
    /// The chain id that is agreed to.
    chain: Hash,
    /// The member's name in the genesis.
    pub(crate) name: String,
    /// The voting key.
    key: PublicKey,
    /// Its signature over the chain id.
    signature: Signature,
}

/// What a consent signs, under the chain id.
const CONSENT: &[u8] = b"genesis";

impl Consent {
    /// Signs a genesis as the member whose key this is.
    pub(crate) fn new(genesis: &Genesis, key: &SecretKey) -> Result<Self> {
        let chain = chain_id(genesis);
        let own = own_validator(genesis, &key.public())?;
        let signature = sign_tagged(key, &chain, 0, Tag::Possession, CONSENT);
        Ok(Self { version: VERSION, chain, name: own.name.clone(), key: own.key, signature })
    }

    /// Reads a signature file's text.
    pub(crate) fn from_json(text: &str) -> Result<Self, String> {
        let consent: Self =
            serde_json::from_str(text).map_err(|error| format!("is no signature file: {error}"))?;
        if consent.version != VERSION {
            return Err(format!("version {}, this program reads {VERSION}", consent.version));
        }
        Ok(consent)
    }
}

/// The validator of a genesis with this key.
pub(crate) fn own_validator<'a>(
    genesis: &'a Genesis,
    key: &PublicKey,
) -> Result<&'a GenesisValidator> {
    let own = genesis.validators.iter().find(|validator| validator.key == *key);
    own.ok_or_else(|| {
        Failure::new(code::KEY_FILE, format!("public key {key} is no validator of this genesis"))
            .with_help("Take the key file that you joined with, and the genesis that you merged.")
    })
}

/// Makes the genesis of a draft and its joins: members in the order of their names.
///
/// A coin that a member dealt for them comes in as it is, if it fits them.
pub(crate) fn merge(draft: &Genesis, joins: &[Join], coin: Option<CoinSetup>) -> Result<Genesis> {
    draft.check_draft()?;
    let id = chain_id(draft);
    if joins.len() > VALIDATOR_COUNT_MAX {
        let count = joins.len();
        return Err(wrong(format!("{count} members, the most is {VALIDATOR_COUNT_MAX}")));
    }
    let (mut names, mut keys, mut addresses) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for join in joins {
        join.check(&id)?;
        if !names.insert(&join.name) {
            return Err(wrong(format!("two joins are named {:?}", join.name)));
        }
        if let Some(other) = keys.insert(join.key, &join.name) {
            return Err(wrong(format!("{other:?} and {:?} join with one key", join.name)));
        }
        if let Some(other) = addresses.insert(&join.address, &join.name) {
            let (name, address) = (&join.name, &join.address);
            return Err(wrong(format!("{other:?} and {name:?} are both at {address}")));
        }
    }
    let mut members: Vec<&Join> = joins.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let validators = members.iter().map(|join| GenesisValidator {
        name: join.name.clone(),
        key: join.key,
        power: join.power,
        possession: join.possession,
        owner: join.owner,
    });
    let genesis = Genesis { validators: validators.collect(), coin, ..draft.clone() };
    genesis.check()?;
    if let Some(setup) = &genesis.coin {
        let powers = genesis.validator_set().powers();
        CoinScheme::new(setup, &powers).map_err(|error| {
            wrong(format!("the coin: {error}"))
                .with_help("Give the coin that was dealt for this draft and these very joins.")
        })?;
    }
    Ok(genesis)
}

/// Checks that every member consents to this very genesis, each once.
pub(crate) fn verify(genesis: &Genesis, consents: &[Consent]) -> Result<()> {
    let chain = chain_id(genesis);
    let mut missing: BTreeSet<&str> =
        genesis.validators.iter().map(|validator| validator.name.as_str()).collect();
    for consent in consents {
        let name = &consent.name;
        let validator = genesis.validators.iter().find(|validator| validator.name == *name);
        let Some(validator) = validator.filter(|validator| validator.key == consent.key) else {
            return Err(is_false(format!("{name:?} with its key is no validator of this genesis")));
        };
        if consent.chain != chain {
            let other = consent.chain;
            return Err(is_false(format!(
                "{name:?} signed another genesis: chain {other}, this is {chain}"
            )));
        }
        if !verify_tagged(&validator.key, &chain, 0, Tag::Possession, CONSENT, &consent.signature) {
            return Err(is_false(format!("the signature of {name:?} is false")));
        }
        if !missing.remove(name.as_str()) {
            return Err(wrong(format!("{name:?} is given twice")));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.into_iter().collect();
    Err(wrong(format!("not signed by {}", names.join(", ")))
        .with_help("Ask each of them for NAME.sign.json: quipu genesis sign."))
}

/// Where the members but one listen, from their joins: each signed by the key that the genesis has for its name.
pub(crate) fn peers(
    genesis: &Genesis,
    joins: &[Join],
    given: BTreeMap<String, String>,
    own: &PublicKey,
) -> Result<BTreeMap<String, String>> {
    let mut peers = given;
    for address in peers.values() {
        check_peer_address(address).map_err(wrong)?;
    }
    for join in joins {
        join.check_fields()
            .map_err(|reason| wrong(format!("the join of {:?}: {reason}", join.name)))?;
        let is_member = |one: &GenesisValidator| one.name == join.name && one.key == join.key;
        if !genesis.validators.iter().any(is_member) {
            let name = &join.name;
            return Err(wrong(format!("{name:?} with its key is no validator of this genesis")));
        }
        join.check_signatures()
            .map_err(|reason| is_false(format!("the join of {:?}: {reason}", join.name)))?;
        if join.key != *own {
            peers.insert(join.name.clone(), join.address.clone());
        }
    }
    let others = genesis.validators.iter().filter(|validator| validator.key != *own);
    let missing: Vec<&str> = others
        .map(|validator| validator.name.as_str())
        .filter(|name| !peers.contains_key(*name))
        .collect();
    if missing.is_empty() {
        return Ok(peers);
    }
    Err(wrong(format!("no join says where {} listens", missing.join(", ")))
        .with_help("Give every member's join file: --peers *.join.json; or --peer NAME=HOST:PORT"))
}

fn check_name(name: &str) -> Result<(), String> {
    let is_good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if name.is_empty() || name.len() > NAME_SIZE_MAX || !name.bytes().all(is_good) {
        return Err(format!("name {name:?}: give 1 to {NAME_SIZE_MAX} of a-z, 0-9, - and _"));
    }
    Ok(())
}

fn wrong(reason: impl std::fmt::Display) -> Failure {
    Failure::new(code::GENESIS, reason)
        .with_help("Nothing was made. The ceremony, step by step: quipu genesis --help")
}

fn is_false(reason: impl std::fmt::Display) -> Failure {
    Failure::is_false(code::BAD_SIGNATURE, reason)
        .with_help("Nothing was made. Ask that member, by another way, for the file it made.")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::local;

    struct Member {
        key: SecretKey,
        join: Join,
    }

    fn member(draft: &Genesis, name: &str, port: u16) -> Member {
        let key = SecretKey::generate();
        let join =
            Join::new(draft, name, &key, (1, None), &format!("{name}.example:{port}")).unwrap();
        Member { key, join }
    }

    fn three() -> (Genesis, Vec<Member>, Genesis) {
        let draft = local::draft("test");
        let members: Vec<Member> =
            ["c", "a", "b"].iter().map(|name| member(&draft, name, 8_642)).collect();
        let joins: Vec<Join> = members.iter().map(|member| member.join.clone()).collect();
        let genesis = merge(&draft, &joins, None).unwrap();
        (draft, members, genesis)
    }

    fn refused(draft: &Genesis, joins: &[Join]) -> (u8, String) {
        let failure = merge(draft, joins, None).unwrap_err();
        (failure.exit(), failure.message().to_owned())
    }

    #[test]
    fn the_order_of_the_files_does_not_matter() {
        let (draft, members, genesis) = three();
        let mut joins: Vec<Join> = members.iter().map(|member| member.join.clone()).collect();
        joins.reverse();
        assert_eq!(merge(&draft, &joins, None).unwrap().to_json(), genesis.to_json());
        let names: Vec<&str> =
            genesis.validators.iter().map(|validator| validator.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn a_join_that_was_changed_is_false() {
        let (draft, members, _) = three();
        let (join, other) = (&members[0].join, &members[1].join);
        let changed = [
            Join { power: 2, ..join.clone() },
            Join { address: "elsewhere.example:1".into(), ..join.clone() },
            Join { name: "d".into(), ..join.clone() },
            Join { key: other.key, ..join.clone() },
            Join { possession: other.possession, ..join.clone() },
            Join { signature: other.signature, ..join.clone() },
        ];
        for join in changed {
            let (exit, message) = refused(&draft, &[join]);
            assert_eq!(exit, 3, "{message}");
        }
    }

    #[test]
    fn what_appears_twice_or_belongs_elsewhere_is_refused_by_name() {
        let (draft, members, _) = three();
        let join = members[0].join.clone();
        let key = &members[0].key;
        let twin = member(&draft, "c", 1).join;
        expect![[r#"two joins are named "c""#]]
            .assert_eq(&refused(&draft, &[join.clone(), twin]).1);
        let same_key = Join::new(&draft, "d", key, (1, None), "d.example:1").unwrap();
        expect![[r#""c" and "d" join with one key"#]]
            .assert_eq(&refused(&draft, &[join.clone(), same_key]).1);
        let same_place =
            Join::new(&draft, "e", &SecretKey::generate(), (1, None), &join.address).unwrap();
        expect![[r#""c" and "e" are both at c.example:8642"#]]
            .assert_eq(&refused(&draft, &[join.clone(), same_place]).1);
        let other_draft = Genesis { lane_count: 8, ..draft.clone() };
        assert!(refused(&other_draft, &[join]).1.contains("it is to draft"));
        assert_eq!(refused(&draft, &[]).1, "genesis: 0 validators");
    }

    #[test]
    fn a_weak_key_is_refused_though_its_signatures_verify() {
        let (draft, members, _) = three();
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let weak = Join {
            key: PublicKey::new(quipu_types::Suite::Ed25519Sha256, &identity).unwrap(),
            possession: Signature(signature),
            signature: Signature(signature),
            ..members[0].join.clone()
        };
        let (exit, message) = refused(&draft, &[weak]);
        assert_eq!(exit, 3);
        assert!(message.contains("is weak"), "{message}");
    }

    #[test]
    fn all_members_must_sign_the_same_genesis() {
        let (draft, members, genesis) = three();
        let consents: Vec<Consent> =
            members.iter().map(|member| Consent::new(&genesis, &member.key).unwrap()).collect();
        verify(&genesis, &consents).unwrap();
        let missing = verify(&genesis, &consents[1..]).unwrap_err();
        assert_eq!((missing.exit(), missing.message()), (1, "not signed by c"));
        let twice = [consents[0].clone(), consents[0].clone()];
        assert_eq!(verify(&genesis, &twice).unwrap_err().message(), "\"c\" is given twice");

        let joins: Vec<Join> = members[..2].iter().map(|member| member.join.clone()).collect();
        let other = merge(&draft, &joins, None).unwrap();
        let elsewhere = Consent::new(&other, &members[0].key).unwrap();
        let failure = verify(&genesis, std::slice::from_ref(&elsewhere)).unwrap_err();
        assert!(failure.exit() == 3 && failure.message().contains("another genesis"), "{failure}");
        // The same signature under this genesis' id is still a signature of the other one.
        let forged = Consent { chain: chain_id(&genesis), ..elsewhere };
        let failure = verify(&genesis, &[forged]).unwrap_err();
        assert_eq!((failure.exit(), failure.message()), (3, "the signature of \"c\" is false"));
        // What a member signed to join is no consent.
        let reused = Consent { signature: members[0].join.signature, ..consents[0].clone() };
        assert_eq!(verify(&genesis, &[reused]).unwrap_err().exit(), 3);
        assert!(Consent::new(&other, &members[2].key).is_err());
    }

    #[test]
    fn peers_come_from_joins_that_the_genesis_keys_signed() {
        let (_, members, genesis) = three();
        let joins: Vec<Join> = members.iter().map(|member| member.join.clone()).collect();
        let own = members[1].key.public();
        let found = peers(&genesis, &joins, BTreeMap::new(), &own).unwrap();
        let found: Vec<(&str, &str)> =
            found.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect();
        assert_eq!(found, [("b", "b.example:8642"), ("c", "c.example:8642")]);
        let missing = peers(&genesis, &joins[..2], BTreeMap::new(), &own).unwrap_err();
        assert_eq!(missing.message(), "no join says where b listens");
        let mut moved = joins;
        moved[0].address = "evil.example:1".into();
        assert_eq!(peers(&genesis, &moved, BTreeMap::new(), &own).unwrap_err().exit(), 3);
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["", "A", "a b", "ü", "a/b", &"a".repeat(33)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("bank-a_2").is_ok());
    }

    #[test]
    fn a_file_reads_back_as_it_was_and_nothing_unknown_is_taken() {
        let (_, members, genesis) = three();
        let join = &members[0].join;
        let text = serde_json::to_string(join).unwrap();
        assert_eq!(Join::from_json(&text).as_ref(), Ok(join));
        assert!(Join::from_json(&text.replacen("\"name\"", "\"nam\"", 1)).is_err());
        let consent = Consent::new(&genesis, &members[0].key).unwrap();
        let text = serde_json::to_string(&consent).unwrap();
        assert_eq!(Consent::from_json(&text), Ok(consent));
        assert!(Consent::from_json(&text.replacen("\"version\":1", "\"version\":2", 1)).is_err());
    }
}
