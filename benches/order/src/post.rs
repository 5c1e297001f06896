//! The network of the machines that have none: what is said in one step arrives at all others in the next, as bytes.

use std::sync::Arc;

use crate::measure::COUNT;

/// A message on its way: who sent it, and its bytes.
pub(crate) type Letter = (usize, Arc<[u8]>);

/// What becomes of a letter's bytes before they arrive.
pub(crate) type Fate<'a> = &'a dyn Fn(&Letter, Arc<[u8]>) -> Arc<[u8]>;

/// Boxes of letters, one for each validator.
#[derive(Debug, Default)]
pub(crate) struct Post {
    due: [Vec<Letter>; COUNT],
    sent: [Vec<Letter>; COUNT],
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Post {
    /// Hands over what was sent in the last step.
    pub(crate) fn turn(&mut self) {
        std::mem::swap(&mut self.due, &mut self.sent);
    }

    /// What waits for a validator.
    pub(crate) fn take(&mut self, at: usize) -> Vec<Letter> {
        std::mem::take(&mut self.due[at])
    }

    pub(crate) fn tell_all(&mut self, from: usize, bytes: Vec<u8>) {
        let bytes: Arc<[u8]> = bytes.into();
        for to in (0..COUNT).filter(|to| *to != from) {
            self.tell((from, Arc::clone(&bytes)), to);
        }
    }

    pub(crate) fn tell(&mut self, letter: Letter, to: usize) {
        self.messages += 1;
        self.bytes += u64::try_from(letter.1.len()).expect("small");
        self.sent[to].push(letter);
    }
}
