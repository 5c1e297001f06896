//! A validator that answers what it is asked with what is old or wrong: headers of other heights, with certificates of other
//! heights, of heights that nobody has come to; other chunks, or with another body; heights that it left long ago, with
//! right certificates, or that it never reached; other nonces; words that the asker never said. Now and then it sends such
//! answers to who did not ask, and now and then the right one. It also speaks of heights that nobody is in, so that who is
//! behind asks it first.

use std::sync::Arc;

use quipu_consensus::Message;
use quipu_replica::{PeerMessage, Request};
use quipu_types::{CommitCertificate, Decode, Encode, Header, Height};

use super::{Actor, Scene, heard, word};

/// Old answers that are kept.
const KEPT_COUNT: usize = 100;
/// Headers in one answer, as many as fit.
const HEADER_COUNT: u64 = 64;

type Committed = (Header, CommitCertificate);

#[derive(Debug, Default)]
pub(super) struct Stale {
    /// Answers with headers or chunks, its own and others'.
    kept: Vec<Arc<[u8]>>,
    /// Committed headers, ascending, as far as it saw them.
    headers: Vec<Committed>,
    /// Someone's word.
    word: Option<Arc<[u8]>>,
}

fn bytes_of(message: &PeerMessage) -> Arc<[u8]> {
    message.to_bytes().into()
}

impl Stale {
    fn keep(&mut self, scene: &mut Scene<'_>, bytes: &Arc<[u8]>) {
        match PeerMessage::from_bytes(bytes) {
            Ok(PeerMessage::Headers(headers)) => {
                let last = self.headers.last().map_or(Height::default(), |(last, _)| last.height);
                self.headers.extend(headers.into_iter().filter(|(new, _)| new.height > last));
            }
            Ok(PeerMessage::Chunk(_)) => {}
            Ok(PeerMessage::Agreement(_)) => {
                self.word = Some(Arc::clone(bytes));
                return;
            }
            _ => return,
        }
        if self.kept.len() < KEPT_COUNT {
            self.kept.push(Arc::clone(bytes));
        } else if let Some(place) = self.kept.get_mut(scene.random.usize(..KEPT_COUNT)) {
            *place = Arc::clone(bytes);
        }
    }

    /// Headers that are wrong in one way.
    fn wrong_headers(&self, scene: &mut Scene<'_>, mut headers: Vec<Committed>) -> Vec<Committed> {
        match scene.random.u8(..6) {
            0 => headers.reverse(),
            1 => {
                // Each with the certificate of the one before.
                let before: Vec<CommitCertificate> =
                    headers.iter().map(|(_, certificate)| certificate.clone()).collect();
                for ((_, certificate), other) in headers.iter_mut().skip(1).zip(before) {
                    *certificate = other;
                }
            }
            2 => {
                for (header, _) in headers.iter_mut().skip(usize::from(scene.random.bool())) {
                    header.time = header.time.next();
                    header.cut.iter_mut().for_each(|tip| tip.chunk_hash.0 = [9; 32]);
                }
            }
            3 => {
                for (_, certificate) in &mut headers {
                    certificate.precommits.pop();
                }
            }
            _ => return self.headers_of_nowhere(scene, headers),
        }
        headers
    }

    /// Headers of heights that are far away, as many as one answer may have.
    fn headers_of_nowhere(&self, scene: &mut Scene<'_>, headers: Vec<Committed>) -> Vec<Committed> {
        let Some((header, certificate)) = headers.last().or(self.headers.last()) else {
            return headers;
        };
        let next = scene.status.height.get().saturating_add(2);
        let first = if scene.random.bool() { next } else { scene.random.u64(next..u64::MAX >> 1) };
        let at = |more: u64| {
            let height = Height::new(first.saturating_add(more));
            (Header { height, ..header.clone() }, certificate.clone())
        };
        (0..HEADER_COUNT).map(at).collect()
    }

    fn wrong(&self, scene: &mut Scene<'_>, bytes: &Arc<[u8]>) -> Arc<[u8]> {
        scene.did();
        match PeerMessage::from_bytes(bytes) {
            Ok(PeerMessage::Headers(headers)) => {
                bytes_of(&PeerMessage::Headers(self.wrong_headers(scene, headers)))
            }
            Ok(PeerMessage::Chunk(mut stored)) => {
                match stored.body.first_mut() {
                    Some(first) => *first ^= 1,
                    None => stored.signature.0[0] ^= 1,
                }
                bytes_of(&PeerMessage::Chunk(stored))
            }
            Ok(PeerMessage::Value(mut header)) => {
                header.time = header.time.next();
                bytes_of(&PeerMessage::Value(header))
            }
            _ => Arc::clone(bytes),
        }
    }

    /// Someone's vote, of a height that is far away: nobody who is behind can check more of it.
    fn far_word(&self, scene: &mut Scene<'_>) -> Option<Arc<[u8]>> {
        let Some(Message::Prevote(mut vote)) = self.word.as_ref().and_then(|bytes| heard(bytes))
        else {
            return None;
        };
        vote.height = Height::new(scene.status.height.get().saturating_add(1_000));
        Some(word(Message::Prevote(vote)))
    }

    /// A height that is not its own, with its certificate or another.
    fn height(
        &self,
        scene: &mut Scene<'_>,
        (height, certificate): (Height, Option<CommitCertificate>),
    ) -> (Height, Option<CommitCertificate>) {
        let old = scene.random.choice(&self.headers);
        match (scene.random.u8(..4), old) {
            (0, Some((header, certificate))) => (header.height.next(), Some(certificate.clone())),
            (1, _) => (Height::new(1), None),
            (2, _) => (Height::new(height.get().saturating_add(1_000)), certificate),
            _ => (height, certificate),
        }
    }
}

impl Actor for Stale {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        self.keep(scene, &bytes);
        let mut nonce_of = |nonce: u64| nonce.wrapping_add(u64::from(scene.random.u8(..3) == 0));
        let answer = match PeerMessage::from_bytes(&bytes) {
            Ok(PeerMessage::Tell { nonce, height, certificate }) => {
                let nonce = nonce_of(nonce);
                let (height, certificate) = self.height(scene, (height, certificate));
                bytes_of(&PeerMessage::Tell { nonce, height, certificate })
            }
            Ok(PeerMessage::Checked { nonce, height, certificate, word }) => {
                let nonce = nonce_of(nonce);
                let (height, certificate) = self.height(scene, (height, certificate));
                let other = self.word.as_ref().and_then(|bytes| heard(bytes));
                let word = if scene.random.bool() { word } else { other };
                bytes_of(&PeerMessage::Checked { nonce, height, certificate, word })
            }
            Ok(PeerMessage::Value(_)) => self.wrong(scene, &bytes),
            _ => bytes,
        };
        let mut sent = vec![answer];
        sent.extend(self.far_word(scene));
        if scene.random.u8(..20) == 0
            && let Some(old) = scene.random.choice(&self.kept).map(Arc::clone)
        {
            sent.push(self.wrong(scene, &old));
        }
        sent
    }

    fn hear(&mut self, scene: &mut Scene<'_>, bytes: &Arc<[u8]>) {
        self.keep(scene, bytes);
    }

    fn serve(
        &mut self,
        scene: &mut Scene<'_>,
        request: &Request,
        served: Vec<Arc<[u8]>>,
    ) -> Vec<Arc<[u8]>> {
        served.iter().for_each(|bytes| self.keep(scene, bytes));
        match scene.random.u8(..6) {
            0 => served,
            1 => Vec::new(),
            2 => scene.random.choice(&self.kept).map(Arc::clone).into_iter().collect(),
            3 if matches!(request, Request::Headers { .. }) => {
                // From the first height on.
                let old = self.headers.iter().take(8).cloned().collect();
                vec![bytes_of(&PeerMessage::Headers(old))]
            }
            _ => served.iter().map(|bytes| self.wrong(scene, bytes)).collect(),
        }
    }
}
