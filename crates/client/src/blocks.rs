//! The committed heights of one server as frames, for who checks them himself: nothing is believed here.

use bytes::Bytes;
use quipu_net::{Decoder, FRAME_SIZE_MAX};
use quipu_types::Height;

use crate::http::{Client, ClientError};

/// Frames of one server, from a height on, without end.
#[derive(Debug)]
pub struct Blocks {
    server: String,
    body: reqwest::Response,
    decoder: Decoder,
}

impl Client {
    /// Opens the stream of committed heights.
    ///
    /// # Errors
    /// When nobody answers, or refuses.
    pub async fn blocks(&self, from: Height) -> Result<Blocks, ClientError> {
        let body = self.open(&format!("/v1/blocks?from={from}")).await?;
        let server = body.url().to_string();
        Ok(Blocks { server, body, decoder: Decoder::new(FRAME_SIZE_MAX) })
    }
}

impl Blocks {
    /// The frames that have come, at least one; none when the server has closed the stream.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the connection breaks, or the bytes are no frames (at most [`FRAME_SIZE_MAX`] are held).
    pub async fn next(&mut self) -> Result<Vec<Bytes>, ClientError> {
        loop {
            let Some(piece) = self.body.chunk().await.map_err(|error| self.lost(&error))? else {
                return Ok(Vec::new());
            };
            self.decoder.push(&piece);
            let mut frames = Vec::new();
            while let Some(frame) = self.decoder.next_frame().map_err(|error| {
                let reason = error.to_string();
                ClientError::Protocol { server: self.server.clone(), reason }
            })? {
                frames.push(Bytes::copy_from_slice(frame));
            }
            if !frames.is_empty() {
                return Ok(frames);
            }
        }
    }

    fn lost(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Unreachable {
            tried: format!("{}: {}", self.server, crate::http::root_cause(error)),
        }
    }
}
