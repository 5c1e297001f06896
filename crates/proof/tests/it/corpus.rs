//! False proofs that every verifier must refuse, each consistent but for one lie.

use expect_test::expect;
use quipu_crypto::domain::Tag;
use quipu_crypto::suite::sign_tagged;
use quipu_proof::{
    Bundle, CertificateError, Hexed, ProofError, verify, verify_certificate,
    verify_state_certificate,
};
use quipu_types::{
    CommitCertificate, Hash, Height, Outcome, RoundKind, Seqno, Signature, Time, ValidatorIndex,
    ValidatorSet, code,
};

use crate::reason;
use crate::world::{World, keys};

const POWERS: [u64; 4] = [1, 1, 1, 1];

struct Corpus {
    world: World,
    lines: Vec<String>,
}

impl Corpus {
    fn new() -> Self {
        Self { world: World::new("w", &POWERS).grown(), lines: vec![] }
    }

    fn bundle(&self) -> Bundle {
        self.world.bundle(1, self.world.place_of_many(), Some(3))
    }

    /// Tells a lie in the true bundle.
    fn lie(&mut self, what: &str, lie: impl FnOnce(&World, &mut Bundle)) {
        let mut bundle = self.bundle();
        lie(&self.world, &mut bundle);
        self.refused(what, &bundle);
    }

    /// A bundle of a world that is not the pinned one.
    fn foreign(&mut self, what: &str, world: &World) {
        let bundle = world.bundle(1, world.place_of_many(), Some(3));
        self.refused(what, &bundle);
    }

    fn refused(&mut self, what: &str, bundle: &Bundle) {
        let line = match verify(&bundle.to_json(), &self.world.genesis) {
            Ok(_) => panic!("{what}: taken"),
            Err(error) => {
                let kind = match error.code() {
                    code::PROOF_MALFORMED => "malformed",
                    code::PROOF_FALSE => "false",
                    other => panic!("{what}: {other}"),
                };
                format!("{what:<56} {kind:<9} {}\n", reason(&error))
            }
        };
        self.lines.push(line);
    }

    fn text(&self) -> String {
        self.lines.concat()
    }
}

#[test]
fn proofs_of_other_ledgers_sets_and_epochs_are_refused() {
    let mut corpus = Corpus::new();
    corpus.foreign("another ledger of the same validators", &World::new("x", &POWERS).grown());
    corpus.foreign("another ledger of other stakes", &World::new("w", &[1, 1, 1, 2]).grown());
    let mut world = World::new("w", &POWERS);
    world.keys = keys(2, 4);
    world.grow();
    corpus.foreign("same ledger by name, validators of one's own", &world);
    let mut world = World::new("w", &POWERS);
    world.keys.rotate_left(1);
    world.grow();
    corpus.foreign("the right validators under each other's indices", &world);
    let mut world = World::new("w", &POWERS);
    world.epoch = 1;
    world.grow();
    corpus.foreign("headers of a later epoch", &world);
    corpus.lie("signatures of a later epoch on a header of this one", |_, bundle| {
        let mut later = World::new("w", &POWERS);
        later.epoch = 1;
        bundle.certificate.0 = later.certify(&bundle.header.0);
    });
    corpus.lie("signatures for another chain", |_, bundle| {
        let other = World::new("x", &POWERS);
        bundle.certificate.0 = other.certify(&bundle.header.0);
    });
    corpus.lie("chain id of another ledger on a true bundle", |_, bundle| {
        bundle.chain = World::new("x", &POWERS).chain;
    });
    expect![[r#"
        another ledger of the same validators                    false     OtherChain
        another ledger of other stakes                           false     OtherChain
        same ledger by name, validators of one's own             false     header: BadSignature
        the right validators under each other's indices          false     header: BadSignature
        headers of a later epoch                                 false     header: HandOver
        signatures of a later epoch on a header of this one      false     header: BadSignature
        signatures for another chain                             false     header: BadSignature
        chain id of another ledger on a true bundle              false     OtherChain
    "#]]
    .assert_eq(&corpus.text());
}

#[test]
fn certificates_that_lack_weight_or_sense_are_refused() {
    let mut corpus = Corpus::new();
    let signed_by = |signers: &[usize]| {
        let mut world = World::new("w", &POWERS);
        world.signers = signers.to_vec();
        world
    };
    for signers in [&[][..], &[0], &[0, 3]] {
        corpus.lie(&format!("header signed by {signers:?} of 4"), |_, bundle| {
            bundle.certificate.0 = signed_by(signers).certify(&bundle.header.0);
        });
    }
    corpus.lie("state signed by [0, 1] of 4", |world, bundle| {
        let state = signed_by(&[0, 1]).certify_state(world.blocks[1].state.state);
        bundle.receipt.as_mut().unwrap().certificate = Hexed(state);
    });
    corpus.lie("one signer three times", |world, bundle| {
        let vote = world.precommit(&bundle.header.0, 0, |_| ());
        bundle.certificate.0.precommits = vec![vote.clone(), vote.clone(), vote];
    });
    corpus.lie("one state signer three times", |_, bundle| {
        let signatures = &mut bundle.receipt.as_mut().unwrap().certificate.0.signatures;
        let first = signatures[0];
        *signatures = vec![first; 3];
    });
    corpus.lie("a signer whom the set does not have", |world, bundle| {
        let vote = world.precommit(&bundle.header.0, 4, |_| ());
        bundle.certificate.0.precommits.push(vote);
    });
    corpus.lie("a quorum and one false signature", |_, bundle| {
        bundle.certificate.0.precommits[3].signature = Signature([7; 64]);
    });
    corpus.lie("one signer's signature under another's index", |_, bundle| {
        let votes = &mut bundle.certificate.0.precommits;
        votes[2].signature = votes[3].signature;
    });
    expect![[r#"
        header signed by [] of 4                                 false     header: UnderQuorum
        header signed by [0] of 4                                false     header: UnderQuorum
        header signed by [0, 3] of 4                             false     header: UnderQuorum
        state signed by [0, 1] of 4                              false     receipt: UnderQuorum
        one signer three times                                   malformed Json
        one state signer three times                             malformed Json
        a signer whom the set does not have                      false     header: UnknownValidator
        a quorum and one false signature                         false     header: BadSignature
        one signer's signature under another's index             false     header: BadSignature
    "#]]
    .assert_eq(&corpus.text());
}

#[test]
fn votes_that_do_not_agree_are_refused() {
    let mut corpus = Corpus::new();
    let mut votes = |what: &str, change: &dyn Fn(&mut quipu_types::Precommit)| {
        corpus.lie(what, |world, bundle| {
            let header = bundle.header.0.clone();
            bundle.certificate.0.precommits[1] = world.precommit(&header, 1, change);
        });
    };
    votes("a vote of another height", &|vote| vote.height = Height::new(3));
    votes("a vote for another header", &|vote| vote.digest = Hash([1; 32]));
    votes("a vote of another round", &|vote| vote.round = 1);
    votes("a vote of another instance", &|vote| vote.instance = ValidatorIndex::new(1));
    votes("a vote of another kind of round", &|vote| vote.kind = RoundKind::Open);
    corpus.lie("an open round without its coin", |world, bundle| {
        let header = bundle.header.0.clone();
        let vote = |index| world.precommit(&header, index, |vote| vote.kind = RoundKind::Open);
        bundle.certificate.0 =
            CommitCertificate { precommits: (0..4).map(vote).collect(), coin: None };
    });
    corpus.lie("prevotes for precommits", |world, bundle| {
        for (vote, key) in bundle.certificate.0.precommits.iter_mut().zip(&world.keys) {
            vote.signature = sign_tagged(key, &world.chain, 0, Tag::Prevote, &vote.signed_body());
        }
    });
    corpus.lie("certificate of the header before", |world, bundle| {
        bundle.certificate = world.blocks[0].committed.certificate.clone();
    });
    expect![[r#"
        a vote of another height                                 false     header: OtherHeight
        a vote for another header                                false     header: OtherHeader
        a vote of another round                                  false     header: MixedRounds
        a vote of another instance                               false     header: MixedRounds
        a vote of another kind of round                          false     header: MixedRounds
        an open round without its coin                           false     header: Coin
        prevotes for precommits                                  false     header: BadSignature
        certificate of the header before                         false     header: OtherHeight
    "#]]
    .assert_eq(&corpus.text());
}

#[test]
fn an_open_round_commits_only_with_the_coin_that_elects_its_instance() {
    let mut world = World::with_coin("w", &POWERS);
    world.grow();
    let (set, header) = (world.set(), world.blocks[1].header());
    let verify = |set: &ValidatorSet, certificate: &CommitCertificate| {
        verify_certificate(&world.chain, set, header, certificate).map(|support| support.power)
    };
    for round in [0, 3, 4] {
        let right = world.certify_open(header, round);
        assert_eq!(verify(&set, &right), Ok(set.power_total()));
        let wrong = |change: &dyn Fn(&mut CommitCertificate)| {
            let mut certificate = right.clone();
            change(&mut certificate);
            assert_eq!(verify(&set, &certificate), Err(CertificateError::Coin), "{certificate:?}");
        };
        wrong(&|certificate| certificate.coin = None);
        let (chain, height) = (&world.chain, header.height);
        wrong(&|one| one.coin = Some(world.coin(chain, height, round + 1)));
        wrong(&|one| one.coin = Some(world.coin(chain, height.next(), round)));
        wrong(&|one| one.coin = Some(world.coin(&Hash([3; 32]), height, round)));
        wrong(&|one| one.coin.as_mut().expect("it has one").0[47] ^= 1);
        // All of them voted for another instance too, which was not elected.
        let elected = right.precommits[0].instance;
        let other = (0..4).map(ValidatorIndex::new).find(|one| *one != elected);
        wrong(&|one| {
            for (index, vote) in one.precommits.iter_mut().enumerate() {
                *vote = world.precommit(header, index, |vote| {
                    (vote.kind, vote.round) = (RoundKind::Open, round);
                    vote.instance = other.expect("four validators");
                });
            }
        });
        let bare = ValidatorSet { coin: None, ..set.clone() };
        assert_eq!(verify(&bare, &right), Err(CertificateError::Coin), "the set has no coin");
    }
    let mut led = world.certify(header);
    assert_eq!(verify(&set, &led), Ok(set.power_total()));
    led.coin = Some(world.coin(&world.chain, header.height, 0));
    assert_eq!(verify(&set, &led), Err(CertificateError::Coin), "a led round has no coin");
}

#[test]
fn voters_out_of_order_are_refused_where_no_decoder_stands_before() {
    let world = World::new("w", &POWERS).grown();
    let (set, block) = (world.set(), &world.blocks[1]);
    let mut certificate = block.committed.certificate.0.clone();
    certificate.precommits[1] = certificate.precommits[0].clone();
    let validator = ValidatorIndex::new(0);
    assert_eq!(
        verify_certificate(&world.chain, &set, block.header(), &certificate),
        Err(CertificateError::NotAscending { validator })
    );
    let mut state = block.state.clone();
    state.signatures.swap(0, 1);
    assert_eq!(
        verify_state_certificate(&world.chain, &set, Height::new(2), &state),
        Err(CertificateError::NotAscending { validator })
    );
    let mut later = set.clone();
    later.epoch = 1;
    assert_eq!(
        verify_certificate(&world.chain, &later, block.header(), &block.committed.certificate.0),
        Err(CertificateError::OtherEpoch { epoch: 0, set_epoch: 1 })
    );
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let mut corpus = Corpus::new();
    type PathOf = fn(&mut Bundle) -> &mut Vec<Hash>;
    let paths: [(&str, PathOf); 3] = [
        ("lane", |bundle| &mut bundle.lane_path.path),
        ("action", |bundle| &mut bundle.action.as_mut().unwrap().path),
        ("receipt", |bundle| &mut bundle.receipt.as_mut().unwrap().path),
    ];
    for (name, path) in paths {
        assert!(path(&mut corpus.bundle()).len() >= 2, "{name} is deep enough to lie about");
        corpus.lie(&format!("{name}: leaf and node swapped"), |_, bundle| {
            path(bundle).swap(0, 1);
        });
        corpus.lie(&format!("{name}: first sibling missing"), |_, bundle| {
            path(bundle).remove(0);
        });
        corpus.lie(&format!("{name}: last sibling missing"), |_, bundle| {
            path(bundle).pop();
        });
        corpus.lie(&format!("{name}: a sibling too many"), |_, bundle| {
            path(bundle).push(Hash([1; 32]));
        });
        corpus.lie(&format!("{name}: a sibling twice"), |_, bundle| {
            let first = path(bundle)[0];
            path(bundle).insert(0, first);
        });
        corpus.lie(&format!("{name}: no path"), |_, bundle| path(bundle).clear());
        corpus.lie(&format!("{name}: a path longer than any tree"), |_, bundle| {
            path(bundle).resize(65, Hash([1; 32]));
        });
    }
    expect![[r#"
        lane: leaf and node swapped                              false     lane: RootMismatch
        lane: first sibling missing                              false     lane: PathTooShort
        lane: last sibling missing                               false     lane: PathTooShort
        lane: a sibling too many                                 false     lane: PathTooLong
        lane: a sibling twice                                    false     lane: PathTooLong
        lane: no path                                            false     lane: PathTooShort
        lane: a path longer than any tree                        malformed PathTooLong
        action: leaf and node swapped                            false     action: RootMismatch
        action: first sibling missing                            false     action: PathTooShort
        action: last sibling missing                             false     action: PathTooShort
        action: a sibling too many                               false     action: PathTooLong
        action: a sibling twice                                  false     action: PathTooLong
        action: no path                                          false     action: PathTooShort
        action: a path longer than any tree                      malformed PathTooLong
        receipt: leaf and node swapped                           false     receipt: RootMismatch
        receipt: first sibling missing                           false     receipt: PathTooShort
        receipt: last sibling missing                            false     receipt: PathTooShort
        receipt: a sibling too many                              false     receipt: PathTooLong
        receipt: a sibling twice                                 false     receipt: PathTooLong
        receipt: no path                                         false     receipt: PathTooShort
        receipt: a path longer than any tree                     malformed PathTooLong
    "#]]
    .assert_eq(&corpus.text());
}

#[test]
fn paths_of_other_leaves_and_sizes_are_refused() {
    let mut corpus = Corpus::new();
    corpus.lie("lane: one leaf further", |_, bundle| bundle.lane_path.index += 1);
    corpus.lie("lane: a tree one larger", |_, bundle| bundle.lane_path.size += 1);
    corpus.lie("lane: a tree one smaller", |_, bundle| bundle.lane_path.size -= 1);
    corpus.lie("lane: the neighbour's place, told throughout", |_, bundle| {
        bundle.position.seqno = Seqno::new(bundle.position.seqno.get() - 1);
        bundle.lane_path.index -= 1;
    });
    corpus.lie("action: the neighbour's index", |_, bundle| {
        bundle.action.as_mut().unwrap().index = 2;
    });
    corpus.lie("action: an index that it does not have", |_, bundle| {
        bundle.action.as_mut().unwrap().index = 5;
    });
    corpus.lie("action: of another transaction", |world, bundle| {
        bundle.action = world.bundle(2, 0, Some(0)).action;
    });
    corpus.lie("receipt: the neighbour's index", |_, bundle| {
        bundle.receipt.as_mut().unwrap().index ^= 1;
    });
    corpus.lie("receipt: one more in the height", |_, bundle| {
        bundle.receipt.as_mut().unwrap().count += 1;
    });
    expect![[r#"
        lane: one leaf further                                   false     OtherLeaf
        lane: a tree one larger                                  false     OtherLeaf
        lane: a tree one smaller                                 false     OtherLeaf
        lane: the neighbour's place, told throughout             false     lane: RootMismatch
        action: the neighbour's index                            false     action: RootMismatch
        action: an index that it does not have                   false     action: IndexBeyondSize
        action: of another transaction                           false     action: PathTooShort
        receipt: the neighbour's index                           false     receipt: RootMismatch
        receipt: one more in the height                          false     ReceiptCount
    "#]]
    .assert_eq(&corpus.text());
}

#[test]
fn parts_of_other_transactions_and_heights_are_refused() {
    let mut corpus = Corpus::new();
    let place = corpus.world.place_of_many();
    corpus.lie("another transaction's name", |world, bundle| {
        bundle.tx = world.bundle(1, 0, None).tx;
    });
    corpus.lie("another transaction's envelope", |world, bundle| {
        bundle.envelope = world.bundle(1, 0, None).envelope;
    });
    corpus.lie("another transaction's envelope and name", |world, bundle| {
        let other = world.bundle(1, 0, None);
        (bundle.envelope, bundle.tx) = (other.envelope, other.tx);
    });
    corpus.lie("an envelope that another key signed", |_, bundle| {
        bundle.envelope.0.signature = Signature([7; 64]);
    });
    corpus.lie("another lane", |_, bundle| {
        bundle.position.lane = quipu_types::Lane::new(bundle.position.lane.get() ^ 1);
    });
    corpus.lie("receipt of another transaction", |world, bundle| {
        bundle.receipt = world.bundle(1, place - 1, None).receipt;
    });
    corpus.lie("receipt with a better outcome", |_, bundle| {
        let receipt = &mut bundle.receipt.as_mut().unwrap().bytes.0;
        receipt.outcome = Outcome::Refused { code: code::NO_FUNDS, action: None };
    });
    corpus.lie("receipts certified for another height", |world, bundle| {
        bundle.receipt.as_mut().unwrap().certificate = Hexed(world.blocks[0].state.clone());
    });
    corpus.lie("a later header that covers it too", |world, bundle| {
        let later = world.bundle(2, 0, None);
        bundle.header = later.header;
        bundle.certificate = later.certificate;
        bundle.previous = later.previous;
        bundle.receipt = None;
        bundle.time.next = None;
    });
    corpus.lie("a later header, the one before left out", |world, bundle| {
        let later = world.bundle(2, 0, None);
        (bundle.header, bundle.certificate) = (later.header, later.certificate);
    });
    corpus.lie("an earlier header that does not reach it", |world, bundle| {
        let earlier = world.bundle(0, 0, None);
        (bundle.header, bundle.certificate) = (earlier.header, earlier.certificate);
        bundle.previous = None;
    });
    corpus.lie("no header before, above height 1", |_, bundle| bundle.previous = None);
    corpus.lie("a header for its own parent", |_, bundle| {
        bundle.previous = Some(bundle.header.clone());
    });
    expect![[r#"
        another transaction's name                               false     OtherTransaction
        another transaction's envelope                           false     OtherTransaction
        another transaction's envelope and name                  false     lane: RootMismatch
        an envelope that another key signed                      false     ClientSignature
        another lane                                             false     OtherLane
        receipt of another transaction                           false     OtherReceipt
        receipt with a better outcome                            false     receipt: RootMismatch
        receipts certified for another height                    false     receipt: OtherState
        a later header that covers it too                        false     NotCovered
        a later header, the one before left out                  false     previous header: NotLinked
        an earlier header that does not reach it                 false     NotCovered
        no header before, above height 1                         false     previous header: NotLinked
        a header for its own parent                              false     previous header: NotLinked
    "#]].assert_eq(&corpus.text());
}

#[test]
fn brackets_of_time_that_do_not_hold_are_refused() {
    let mut corpus = Corpus::new();
    corpus.lie("anchored at a header that the client did not name", |world, bundle| {
        bundle.time.anchor = Some(world.blocks[1].committed.clone());
    });
    corpus.lie("an anchor that nobody committed", |world, bundle| {
        let anchor = bundle.time.anchor.as_mut().unwrap();
        let mut few = World::new("w", &POWERS);
        few.signers = vec![0, 1];
        anchor.certificate.0 = few.certify(world.blocks[0].header());
    });
    corpus.lie("the covering header for the next", |world, bundle| {
        bundle.time.next = Some(world.blocks[1].committed.clone());
    });
    corpus.lie("a next header that nobody committed", |_, bundle| {
        bundle.time.next.as_mut().unwrap().certificate.0.precommits.truncate(2);
    });
    corpus.lie("a next header of an earlier time", |world, bundle| {
        let next = bundle.time.next.as_mut().unwrap();
        next.header.0.time = Time::new(1);
        next.certificate.0 = world.certify(&next.header.0);
    });
    corpus.lie("a next header of another history", |world, bundle| {
        let next = bundle.time.next.as_mut().unwrap();
        next.header.0.prev_header = Hash([1; 32]);
        next.certificate.0 = world.certify(&next.header.0);
    });
    corpus.lie("a next header of a later epoch", |world, bundle| {
        let next = bundle.time.next.as_mut().unwrap();
        next.header.0.epoch = 1;
        next.certificate.0 = world.certify(&next.header.0);
    });
    // Only a set that lies as a whole can make these: a header of height 9 before one of height 1.
    let mut world = World::new("w", &POWERS);
    world.grow();
    let mut late = world.blocks[0].committed.clone();
    late.header.0.height = Height::new(9);
    late.certificate.0 = world.certify(&late.header.0);
    let anchor = quipu_proof::names::header_hash(&late.header.0);
    world.commit(vec![world.transaction(100, 1, anchor)]);
    let mut bundle = world.bundle(3, 0, Some(0));
    bundle.time.anchor = Some(late);
    corpus.refused("an anchor above the covering header", &bundle);
    expect![[r#"
        anchored at a header that the client did not name        false     OtherAnchor
        an anchor that nobody committed                          false     anchor: UnderQuorum
        the covering header for the next                         false     next header: NotLinked
        a next header that nobody committed                      false     next header: UnderQuorum
        a next header of an earlier time                         false     next header: NotInOrder
        a next header of another history                         false     next header: NotLinked
        a next header of a later epoch                           false     next header: HandOver
        an anchor above the covering header                      false     anchor: NotInOrder
    "#]]
    .assert_eq(&corpus.text());
}

#[test]
fn a_genesis_that_breaks_its_own_rules_verifies_nothing() {
    let mut world = World::new("w", &POWERS).grown();
    let text = world.bundle(1, 0, None).to_json();
    world.genesis.lane_count = 0;
    let error = verify(&text, &world.genesis).unwrap_err();
    assert_eq!(error, ProofError::BadGenesis);
    assert_eq!(error.code(), code::GENESIS);
}
