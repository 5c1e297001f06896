//! A state against the certificate of its height: who signed it is slashed once, and others never are.

use quipu_types::{SignedState, StateCertificate, StateVote};

use super::*;

/// What validator 2 says of the state of a height, and what `signers` say, who are a quorum or not.
fn against(said: u8, signers: &[u16]) -> Action {
    let chain = names::chain_id(&stake_genesis());
    let state = |root: u8| {
        let (height, state_root) = (Height::new(5), Hash([root; 32]));
        SignedState { height, state_root, receipts_root: Hash([0; 32]), next_set: None }
    };
    let sign = |number: u16, state: &SignedState| {
        sign_tagged(&voting(number.into()), &chain, 0, Tag::StateVote, &state.to_bytes())
    };
    let validator = ValidatorIndex::new(2);
    let vote = StateVote { state: state(said), validator, signature: sign(2, &state(said)) };
    let signed = |number: &u16| (ValidatorIndex::new(*number), sign(*number, &state(1)));
    let signatures = signers.iter().map(signed).collect();
    let certificate = StateCertificate { state: state(1), signatures };
    evidence(0, &Evidence::FalseState(Box::new((vote, certificate))))
}

#[test]
fn a_state_against_the_certificate_of_its_height_is_slashed_once() {
    let mut tale = Tale::new(stake_genesis());
    tell(
        &mut tale,
        vec![
            // The truth; against less than a quorum; against what others than the set signed.
            ('d', 1, false, vec![against(1, &[0, 1])]),
            ('d', 1, false, vec![against(9, &[0, 2])]),
            ('d', 1, false, vec![against(9, &[0, 1, 3])]),
            ('d', 1, false, vec![against(9, &[0, 1])]),
            // Another lie of that height, and other signers, are the same misdeed.
            ('c', 1, false, vec![against(8, &[0, 1, 2])]),
        ],
        &expect![[r#"
            1: QP0260 evidence names nobody (action 0)
            2: QP0260 evidence names nobody (action 0)
            3: QP0260 evidence names nobody (action 0)
            4: applied
            5: QP0259 evidence is known already (action 0)
              epoch 0 [30, 20, 10]
              0 v0: bond 30, locked []
              1 v1: bond 20, locked []
              2 v2: bond 9, locked [], deposed
        "#]],
    );
}
