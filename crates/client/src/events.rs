//! The events of one stream in what a [`Consumer`](crate::Consumer) tells, as rows.
//!
//! What is filtered is filtered here, after it was checked: a server that leaves out what a filter asks for could not be caught.
//! The schema by which a row is shown is the server's word, until it is asked of the state; payloads are what was signed.

use quipu_proof::feed::{LaneBatch, Snapshot};
use quipu_types::transaction::EventRef;
use quipu_types::{Hash, Outcome, Position, Schema};

use crate::api::Event;
use crate::http::{Client, ClientError};

/// Which events of which stream.
#[derive(Clone, Debug)]
pub struct Events {
    stream: String,
    schema: Schema,
    key: Option<Vec<u8>>,
}

/// Where and when a batch stands; nothing while no cut covers it.
#[derive(Clone, Copy)]
struct Covered {
    height: u64,
    time_us: u64,
}

impl Events {
    /// Those of a stream, whose schema is asked for.
    ///
    /// # Errors
    /// When nobody answers, or there is no such stream.
    pub async fn of(client: &Client, stream: &str) -> Result<Self, ClientError> {
        let info = client.stream(stream).await?;
        let schema = Schema::parse(&info.schema).map_err(|error| ClientError::Protocol {
            server: format!("stream {stream}"),
            reason: error.to_string(),
        })?;
        Ok(Self { stream: stream.to_owned(), schema, key: None })
    }

    /// The same with one key.
    #[must_use]
    pub fn with_key(mut self, key: Vec<u8>) -> Self {
        self.key = Some(key);
        self
    }

    /// The applied events of a committed height, in the ledger's order.
    ///
    /// # Errors
    /// When a row does not fit the stream's schema: the schema is another than the ledger's.
    pub fn certified(&self, snapshot: &Snapshot) -> Result<Vec<Event>, ClientError> {
        let (height, time_us) = (snapshot.height.get(), snapshot.time.get());
        let mut events = Vec::new();
        for batch in &snapshot.lanes {
            self.put(batch, Some(Covered { height, time_us }), &mut events)?;
        }
        Ok(events)
    }

    /// The events of a chunk that no cut covers: whether each will be applied is not known yet. Height and time are 0.
    ///
    /// # Errors
    /// As [`Events::certified`].
    pub fn tentative(&self, batch: &LaneBatch) -> Result<Vec<Event>, ClientError> {
        let mut events = Vec::new();
        self.put(batch, None, &mut events)?;
        Ok(events)
    }

    fn put(
        &self,
        batch: &LaneBatch,
        covered: Option<Covered>,
        events: &mut Vec<Event>,
    ) -> Result<(), ClientError> {
        let with_receipts =
            batch.with_receipts().map(|(ordered, receipt)| (ordered, Some(receipt)));
        let alone = batch.transactions.iter().map(|ordered| (ordered, None));
        let all: Vec<_> = if covered.is_some() { with_receipts.collect() } else { alone.collect() };
        for (ordered, receipt) in all {
            if receipt.is_some_and(|receipt| receipt.outcome != Outcome::Applied) {
                continue;
            }
            let transaction = ordered.undecoded();
            let count = transaction.actions.len();
            let position = Position { lane: batch.lane, seqno: ordered.seqno };
            for (place, EventRef { stream, key, payload }) in transaction.events() {
                if stream != self.stream || self.key.as_ref().is_some_and(|own| own != key) {
                    continue;
                }
                let at = covered.unwrap_or(Covered { height: 0, time_us: 0 });
                events.push(Event {
                    position: position.to_string(),
                    action: place,
                    height: at.height,
                    time_us: at.time_us,
                    tx: receipt.map_or_else(String::new, |own| tx_text(&own.tx, place, count)),
                    signer: transaction.signer().to_string(),
                    key: key_text(key),
                    data: self.schema.row_to_json(payload)?,
                });
            }
        }
        Ok(())
    }
}

/// What `prove` takes: the name, and the action when there are several.
#[must_use]
pub fn tx_text(tx: &Hash, action: u32, action_count: usize) -> String {
    if action_count > 1 { format!("{tx}:{action}") } else { tx.to_string() }
}

/// A key as text: itself when that is plain and reads back, else `\x` and hexadecimal.
#[must_use]
pub fn key_text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.starts_with("\\x") => text.to_owned(),
        _ => format!("\\x{}", hex::encode(key)),
    }
}

/// A key from its text.
///
/// # Errors
/// When what follows `\x` is not hexadecimal.
pub fn parse_key(text: &str) -> Result<Vec<u8>, hex::FromHexError> {
    match text.strip_prefix("\\x") {
        None => Ok(text.as_bytes().to_vec()),
        Some(digits) => hex::decode(digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_key_reads_back_from_its_text(key in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            proptest::prop_assert_eq!(parse_key(&key_text(&key)).unwrap(), key);
        }
    }

    #[test]
    fn a_name_has_its_action_only_when_there_are_several() {
        let tx = Hash([0xab; 32]);
        assert_eq!(tx_text(&tx, 0, 1), "ab".repeat(32));
        assert_eq!(tx_text(&tx, 7, 9), format!("{}:7", "ab".repeat(32)));
    }
}
