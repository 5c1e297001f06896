//! Clients of a stage: what they sign, and of what they complain.

use std::sync::Arc;

use quipu_crypto::Tag;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_proof::names::{TransactionDraft, lane_of, sign_transaction};
use quipu_replica::complaints::check;
use quipu_replica::{Admitted, Answer, Ticket, admit};
use quipu_types::{Action, Code, Complaint, Encode, Hash, Lane, Signature, Term};

use super::{LANE_COUNT, Stage, secret};

/// What complaints are answered by.
const COMPLAINT: Ticket = 1;

/// A client whose lane is chosen.
#[derive(Debug)]
pub struct Client {
    key: SecretKey,
    lane: u16,
}

impl Client {
    /// Complains, truly or not: of what it has signed, having seen a header, of a term.
    #[must_use]
    pub fn complaint(
        &self,
        chain: &Hash,
        transaction: &[u8],
        anchor: Hash,
        term: u64,
    ) -> Complaint {
        let (lane, term) = (Lane::new(self.lane), Term::new(term));
        let (transaction, signature) = (transaction.to_vec(), Signature([0; 64]));
        let mut complaint = Complaint { transaction, anchor, lane, term, signature };
        complaint.signature =
            sign_tagged(&self.key, chain, 0, Tag::Complaint, &complaint.signed_body());
        complaint
    }
}

impl Stage {
    /// A client of a lane.
    ///
    /// # Panics
    /// Never: some signer's lane is every lane.
    pub fn client(&mut self, lane: u16) -> Client {
        let key = (0..u16::MAX).find_map(|_| {
            self.signer_count += 1;
            let mut seed = [200; 32];
            seed.first_chunk_mut::<8>()?.copy_from_slice(&self.signer_count.to_le_bytes());
            let key = secret(&seed);
            (lane_of(key.public().bytes(), LANE_COUNT).get() == lane).then_some(key)
        });
        Client { key: key.expect("some signer's lane is this one"), lane }
    }

    /// A transaction of a client, with a payload of so many bytes.
    ///
    /// # Panics
    /// If that is more than a transaction holds.
    #[must_use]
    pub fn transaction(
        &self,
        client: &Client,
        sequence: u64,
        payload_size: usize,
    ) -> Arc<Admitted> {
        let chain = self.context.chain;
        let payload = vec![7; payload_size];
        let actions = vec![Action::Append { stream: "s".into(), key: Vec::new(), payload }];
        let draft =
            TransactionDraft { incarnation: 0, sequence, anchor: chain, route: None, actions };
        let bytes = sign_transaction(&client.key, &chain, draft).to_bytes();
        Arc::new(admit(&chain, LANE_COUNT, bytes.into()).expect("an honest client's"))
    }

    /// A client gives one a transaction.
    pub fn give(&mut self, number: u16, admitted: &Arc<Admitted>) {
        let deeds = self.nodes.get_mut(&number).map(|node| node.submit(Arc::clone(admitted)));
        self.judge_all(number, deeds.unwrap_or_default());
    }

    /// A client complains to one; the code of its refusal, if it is not heard.
    pub fn complain(&mut self, number: u16, complaint: &Complaint) -> Option<Code> {
        let checked = check(&self.context.chain, &self.admissions, complaint.clone());
        let grievance = match checked {
            Ok(grievance) => grievance,
            Err(code) => return Some(code),
        };
        let deeds = self.nodes.get_mut(&number).map(|node| node.complain(COMPLAINT, grievance));
        self.judge_all(number, deeds.unwrap_or_default());
        match &self.nodes.get(&number)?.told {
            Some((COMPLAINT, Answer::Refused(refusal))) => Some(refusal.code()),
            _ => None,
        }
    }

    /// Whether one has committed a transaction; after how many heights.
    #[must_use]
    pub fn ordered(&self, number: u16, admitted: &Admitted) -> Option<u64> {
        self.nodes.get(&number)?.ordered(&admitted.tx)
    }
}
