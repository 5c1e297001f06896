//! What a server showed that does not verify, as a file that anyone with the genesis can check.
//!
//! ```text
//!  file = "QUIPUEV2" · server (u32 length) · chain 32 · request · list of frames · CRC-32C of all before it
//! ```
//! Frames begin with how the epochs ended that the reader had followed. The request holds the cursors, the frames are what came since the last height that was right, with a base and answers that
//! continue from there: the same checks give the same refusal. It shows *that* the bytes are false, not who made them: answers are not signed.

use std::sync::Arc;

use quipu_proof::feed::{Feed, FeedError, Frame};
use quipu_proof::{Committed, Pinned};
use quipu_types::codec::{put_bytes, put_count};
use quipu_types::cursor::{Cursors, FeedRequest, Start};
use quipu_types::{Decode, DecodeError, Encode, Genesis, Hash, Reader};

const MAGIC: &[u8; 8] = b"QUIPUEV2";
/// Most bytes of a file: what a feed may hold, and a frame.
pub const EVIDENCE_SIZE_MAX: usize = quipu_proof::feed::HELD_SIZE_MAX + (16 << 20);
const SERVER_SIZE_MAX: usize = 4_096;
const FRAME_COUNT_MAX: usize = 1 << 20;

/// See the module's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    server: String,
    chain: Hash,
    request: FeedRequest,
    /// What of the validators was followed before; how each epoch ended, as a frame.
    epochs: Vec<Arc<Committed>>,
    frames: Vec<Vec<u8>>,
}

impl Evidence {
    pub(crate) fn new(server: &str, pinned: &Pinned, request: &FeedRequest) -> Self {
        let (chain, epochs) = (*pinned.chain(), pinned.handovers(0).cloned().collect());
        let server = server.chars().take(SERVER_SIZE_MAX / 4).collect();
        Self { server, chain, request: request.clone(), epochs, frames: Vec::new() }
    }

    /// Who showed it.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn add(&mut self, frame: &[u8]) {
        self.frames.push(frame.to_vec());
    }

    /// Everything up to here was right: what follows is checked from here.
    pub(crate) fn restart(&mut self, feed: &Feed) {
        let cursors: Cursors = feed.cursors();
        self.request.start = Start::Cursors(cursors);
        let known = self.epochs.len();
        self.epochs.extend(feed.pinned().handovers(0).skip(known).cloned());
        self.frames = feed.opening().iter().map(Encode::to_bytes).collect();
    }

    /// The file.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_bytes(&mut out, self.server.as_bytes());
        self.chain.encode(&mut out);
        self.request.encode(&mut out);
        put_count(&mut out, self.epochs.len().saturating_add(self.frames.len()));
        for epoch in &self.epochs {
            let Committed { header, certificate } = Committed::clone(epoch);
            let (header, certificate) = (Box::new(header.0), certificate.0);
            put_bytes(&mut out, &Frame::Epoch { header, certificate }.to_bytes());
        }
        for frame in &self.frames {
            put_bytes(&mut out, frame);
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Whether a file's bytes claim to be evidence.
    #[must_use]
    pub fn is_evidence(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it is none, or was changed.
    pub fn from_file(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wrong = DecodeError::NotCanonical { what: "evidence" };
        let Some((bytes, sum)) = bytes.split_last_chunk::<4>() else { return Err(wrong) };
        let rest = bytes.strip_prefix(MAGIC);
        let Some(rest) = rest.filter(|_| crc32c::crc32c(bytes) == u32::from_le_bytes(*sum)) else {
            return Err(wrong);
        };
        let mut reader = Reader::new(rest);
        let server = reader.text("server", SERVER_SIZE_MAX)?.to_owned();
        let chain = Hash::decode(&mut reader)?;
        let request = FeedRequest::decode(&mut reader)?;
        let count = reader.count("frames", FRAME_COUNT_MAX, 4)?;
        let frames = (0..count)
            .map(|_| reader.bytes("frame", quipu_net::FRAME_SIZE_MAX).map(<[u8]>::to_vec))
            .collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { server, chain, request, epochs: Vec::new(), frames })
    }

    /// Why what was shown is false; `None` when nothing in it is.
    #[must_use]
    pub fn check(&self, genesis: &Genesis) -> Option<FeedError> {
        let mut pinned = Pinned::new(genesis).ok()?;
        let known: Vec<_> = self.epochs.iter().map(|epoch| Committed::clone(epoch)).collect();
        pinned.follow(&known).ok()?;
        let mut feed = Feed::new(pinned, self.request.clone());
        self.frames.iter().find_map(|frame| feed.take_bytes(frame).err()).filter(FeedError::is_lie)
    }
}

#[cfg(test)]
mod tests {
    use quipu_proof::feed::from_start;
    use quipu_types::Lane;
    use quipu_types::cursor::Mode;

    use super::*;

    #[test]
    fn a_file_reads_back_and_no_changed_byte_does() {
        let truth = crate::anchor::tests::Truth::new("evidence", 2);
        let pinned = Pinned::of_checked(&truth.genesis);
        let request = from_start(*pinned.chain(), &[Lane::new(1)], Mode::Tentative, true);
        let mut evidence = Evidence::new("http://127.0.0.1:1/v1/feed", &pinned, &request);
        evidence.add(b"frame");
        let file = evidence.to_file();
        assert_eq!(Evidence::from_file(&file), Ok(evidence));
        for place in 0..file.len() {
            let mut changed = file.clone();
            changed[place] ^= 1;
            assert!(Evidence::from_file(&changed).is_err(), "byte {place}");
        }
    }
}
