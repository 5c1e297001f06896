//! A producer: rows in, signed batches out, in order, each appended once.
//!
//! A batch is one transaction: one signature over many events of one route. The producer keeps the next
//! sequence of each lane it writes to; after an answer that shows it is behind (another process used the same
//! key) it asks the server again. The anchor is the newest header that it checked. Each call waits for its answer:
//! whoever has many events for one key hands them to a [`Batcher`](crate::Batcher).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quipu_crypto::suite::SecretKey;
use quipu_proof::names::{lane_of, signed_bytes};

use quipu_types::transaction::{ACTION_COUNT_MAX, TRANSACTION_SIZE_MAX};
use quipu_types::{Action, Hash, Lane, Schema, Unsigned, code};
use serde_json::Value as Json;

use crate::api::SubmitAnswer;
use crate::complaint::COMPLAINT_AFTER;
use crate::http::{Client, ClientError};

/// Room left in a transaction for everything but its actions.
pub(crate) const ENVELOPE_SIZE_MAX: usize = 1_024;
/// What an action costs beside its payload, key and stream name.
const ACTION_OVERHEAD: usize = 32;
/// How often a batch is signed anew after its sequence turned out to be used by another process.
const RESIGN_COUNT_MAX: usize = 3;

/// An event to append.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Key; may be empty.
    pub key: Vec<u8>,
    /// Canonical row bytes.
    pub payload: Vec<u8>,
}

/// Where the producer stands in one lane.
#[derive(Clone, Copy, Debug)]
struct Place {
    incarnation: u32,
    next: u64,
}

/// Signs and submits for one key. Not shared: one producer a key and process.
#[derive(Debug)]
pub struct Producer<'a> {
    client: &'a Client,
    key: &'a SecretKey,
    chain: Hash,
    lane_count: u16,
    anchor: Hash,
    places: BTreeMap<Lane, Place>,
    complains_after: Option<Duration>,
}

impl<'a> Producer<'a> {
    /// A producer of `key`, anchored at the newest header that a server shows, checked; at the genesis while there is none.
    ///
    /// # Errors
    /// [`ClientError::FalseHeader`] when it does not verify; when nobody answers, or serves another ledger.
    pub async fn new(client: &'a Client, key: &'a SecretKey) -> Result<Self, ClientError> {
        let (chain, lane_count) = client.signs_for().await?;
        let anchor = client.anchor(chain).await?;
        let (places, complains_after) = (BTreeMap::new(), Some(COMPLAINT_AFTER));
        Ok(Self { client, key, chain, lane_count, anchor, places, complains_after })
    }

    /// The same, which complains to every validator of what is not ordered in that time, and again after as long; never, if
    /// it is none. Unless said, it does after [`COMPLAINT_AFTER`].
    #[must_use]
    pub fn complaining_after(mut self, time: Option<Duration>) -> Self {
        self.complains_after = time;
        self
    }

    /// Anchors what is signed from now on to the newest header. The old anchor stays when that does not verify.
    pub async fn refresh_anchor(&mut self) -> Result<(), ClientError> {
        self.anchor = self.client.latest_header().await?.hash;
        Ok(())
    }

    /// Signs the next transaction of `route` with these actions, and counts it. Gives its encoding.
    pub async fn sign(
        &mut self,
        route: Option<&[u8]>,
        actions: &[Action],
    ) -> Result<Bytes, ClientError> {
        let lane = self.lane(route);
        let place = match self.places.get(&lane) {
            Some(place) => *place,
            None => self.ask(route).await?,
        };
        self.places.insert(lane, Place { next: place.next.saturating_add(1), ..place });
        let unsigned = Unsigned {
            signer: self.key.public(),
            incarnation: place.incarnation,
            sequence: place.next,
            anchor: self.anchor,
            route,
            actions,
        };
        Ok(signed_bytes(self.key, &self.chain, &unsigned).into())
    }

    /// Signs and submits one transaction; waits until it is final and executed, or refused.
    pub async fn submit(
        &mut self,
        route: Option<Vec<u8>>,
        actions: Vec<Action>,
    ) -> Result<SubmitAnswer, ClientError> {
        let mut signed = 0_usize;
        loop {
            let transaction = self.sign(route.as_deref(), &actions).await?;
            let answer = self.submit_signed(transaction).await;
            signed = signed.saturating_add(1);
            let again = answer.as_ref().is_ok_and(is_behind);
            if !again || signed > RESIGN_COUNT_MAX {
                if answer.as_ref().map_or(true, |answer| answer.position.is_none()) {
                    self.forget(route.as_deref());
                }
                return answer;
            }
            self.forget(route.as_deref());
            self.refresh_anchor().await?;
        }
    }

    /// Appends events of one route to a stream in as few transactions as fit; `batch_max` bounds each.
    pub async fn append(
        &mut self,
        stream: &str,
        route: Option<Vec<u8>>,
        events: Vec<NewEvent>,
        batch_max: usize,
    ) -> Result<Vec<SubmitAnswer>, ClientError> {
        let mut answers = Vec::new();
        for batch in batches(stream, events, batch_max)? {
            let answer = self.submit(route.clone(), batch).await?;
            let refused = !answer.is_committed();
            answers.push(answer);
            if refused {
                break;
            }
        }
        Ok(answers)
    }

    async fn submit_signed(&self, transaction: Bytes) -> Result<SubmitAnswer, ClientError> {
        let sent = [transaction];
        let submit = self.client.submit_until_final(&sent);
        let (frames, after) = (sent.to_vec(), self.complains_after);
        let answers = self.client.submit_or_complain(self.key, frames, after, submit).await?;
        answers.into_iter().next().ok_or_else(|| ClientError::Protocol {
            server: "the server".into(),
            reason: "one transaction was sent, no answer came".into(),
        })
    }

    fn lane(&self, route: Option<&[u8]>) -> Lane {
        let public = self.key.public();
        lane_of(route.unwrap_or(public.bytes()), self.lane_count)
    }

    fn forget(&mut self, route: Option<&[u8]>) {
        self.places.remove(&self.lane(route));
    }

    async fn ask(&self, route: Option<&[u8]>) -> Result<Place, ClientError> {
        let info = self.client.producer(&self.key.public(), route).await?;
        Ok(Place { incarnation: info.incarnation, next: info.next_sequence })
    }
}

/// Whether a refusal means that another process writes with this key.
fn is_behind(answer: &SubmitAnswer) -> bool {
    answer.position.is_none()
        && matches!(answer.refusal(), Some(code::SEQUENCE_USED | code::FENCED | code::SEQUENCE_GAP))
}

/// Cuts events into lists of actions that each fit a transaction, in order.
pub fn batches(
    stream: &str,
    events: Vec<NewEvent>,
    batch_max: usize,
) -> Result<Vec<Vec<Action>>, ClientError> {
    let size_max = TRANSACTION_SIZE_MAX.saturating_sub(ENVELOPE_SIZE_MAX);
    let count_max = batch_max.clamp(1, ACTION_COUNT_MAX);
    let mut out: Vec<Vec<Action>> = Vec::new();
    let mut room = 0_usize;
    for NewEvent { key, payload } in events {
        let size = append_size(stream, &key, &payload);
        if size > size_max {
            return Err(ClientError::EventTooLarge { size, size_max });
        }
        if out.last().is_none_or(|batch| batch.len() >= count_max) || size > room {
            out.push(Vec::new());
            room = size_max;
        }
        room = room.saturating_sub(size);
        if let Some(batch) = out.last_mut() {
            batch.push(Action::Append { stream: stream.to_owned(), key, payload });
        }
    }
    Ok(out)
}

/// Bytes that an event takes of a transaction, at most.
pub(crate) fn append_size(stream: &str, key: &[u8], payload: &[u8]) -> usize {
    let parts = [stream.len(), key.len(), payload.len(), ACTION_OVERHEAD];
    parts.iter().fold(0_usize, |sum, part| sum.saturating_add(*part))
}

/// The route of a row in a stream routed by `route_by`, or none for one routed by its signer.
pub fn route_of_row(
    schema: &Schema,
    route_by: Option<&str>,
    row: &Json,
) -> Result<Option<Vec<u8>>, ClientError> {
    let Some(index) = route_by.and_then(|column| schema.index_of(column)) else { return Ok(None) };
    let payload = schema.row_from_json(row)?;
    Ok(Some(schema.route_bytes(&payload, index)?))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "sums of a test's own small numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quipu_types::Encode as _;

    proptest! {
        #[test]
        fn batches_keep_every_event_in_order_and_each_fits_a_transaction(
            sizes in prop::collection::vec(0..400_000_usize, 0..30), batch_max in 1..10_usize
        ) {
            let events = sizes.iter().enumerate().map(|(index, size)| {
                let mut payload = vec![0; *size];
                payload.extend_from_slice(&u32::try_from(index).unwrap().to_le_bytes());
                NewEvent { key: vec![], payload }
            });
            let batches = batches("s", events.collect(), batch_max).unwrap();
            let mut seen = 0_u32;
            for batch in &batches {
                prop_assert!(!batch.is_empty() && batch.len() <= batch_max);
                let bytes: usize = batch.iter().map(|action| action.to_bytes().len() + 4).sum();
                prop_assert!(bytes + ENVELOPE_SIZE_MAX <= TRANSACTION_SIZE_MAX);
                for action in batch {
                    let Action::Append { payload, .. } = action else { unreachable!() };
                    prop_assert_eq!(payload.last_chunk::<4>().unwrap(), &seen.to_le_bytes());
                    seen += 1;
                }
            }
            prop_assert_eq!(usize::try_from(seen).unwrap(), sizes.len());
        }
    }

    #[test]
    fn an_event_that_fits_no_transaction_is_refused_with_the_bound() {
        let event = NewEvent { key: vec![], payload: vec![0; TRANSACTION_SIZE_MAX] };
        let refused = batches("s", vec![event], 10).unwrap_err().to_string();
        assert!(refused.contains("the most is"), "{refused}");
    }
}
