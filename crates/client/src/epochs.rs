//! Follows the validators of a ledger by what servers show of how its epochs ended: nothing of it is believed.
//!
//! ```text
//!  Pinned (genesis, and what was followed) ── GET /v1/epochs?from=E ──> hand-overs ── verify ──> Pinned
//! ```
//! A server that is behind shows fewer, never others: what one does not show is asked for again when it is needed.

use quipu_proof::{Handovers, Pinned};
use quipu_types::Decode;

use crate::RESPONSE_SIZE_MAX;
use crate::http::{Client, ClientError};

impl Client {
    /// Follows the validators as far as a server shows. Whether there was anything new.
    ///
    /// # Errors
    /// [`ClientError::FalseEpochs`] when a hand-over does not verify; when nobody answers.
    pub async fn follow_epochs(&self, pinned: &mut Pinned) -> Result<bool, ClientError> {
        let first = pinned.epoch();
        loop {
            let from = pinned.epoch();
            let path = format!("/v1/epochs?from={from}");
            let (bytes, server) = self.get_bytes_of(&path, RESPONSE_SIZE_MAX).await?;
            let shown = Handovers::from_bytes(&bytes).map_err(|error| {
                let (server, reason) = (server.clone(), error.to_string());
                ClientError::Protocol { server, reason }
            })?;
            if let Err(error) = pinned.follow(&shown.0) {
                self.prefer_next();
                return Err(ClientError::FalseEpochs { server, error: Box::new(error) });
            }
            // Nothing, or nothing new.
            if pinned.epoch() == from {
                return Ok(from > first);
            }
        }
    }
}
