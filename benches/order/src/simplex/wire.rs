//! The network of commonware's four: a queue for each validator and channel, nothing else. It costs less than its own
//! simulated network, and no message is lost or late.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use commonware_actor::{Feedback, Unreliable};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    BlockedSubscription, Blocker, CheckedSender, LimitedSender, Message, Receiver, Recipients,
};
use commonware_runtime::{IoBuf, IoBufs};
use commonware_utils::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use commonware_utils::channel::ring;
use futures::channel::oneshot::Canceled;

/// Messages and bytes that were sent, by everyone.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// One validator's end of a channel: its sending half.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    own: PublicKey,
    all: Arc<[(PublicKey, UnboundedSender<Message<PublicKey>>)]>,
    traffic: Arc<Traffic>,
    /// Whether a bit of each message is turned.
    spoils: bool,
}

/// The other half.
#[derive(Debug)]
pub(crate) struct In(UnboundedReceiver<Message<PublicKey>>);

/// A channel between `members`; what `spoilt` sends arrives spoilt.
pub(crate) fn channel(
    members: &[PublicKey],
    traffic: &Arc<Traffic>,
    spoilt: Option<usize>,
) -> Vec<(Out, In)> {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        members.iter().map(|_| unbounded_channel()).unzip();
    let all: Arc<[_]> = members.iter().cloned().zip(senders).collect();
    let out = |(index, own): (usize, &PublicKey)| Out {
        own: own.clone(),
        all: Arc::clone(&all),
        traffic: Arc::clone(traffic),
        spoils: spoilt == Some(index),
    };
    members.iter().enumerate().map(out).zip(receivers.into_iter().map(In)).collect()
}

impl LimitedSender for Out {
    type PublicKey = PublicKey;
    type Checked<'a> = Checked<'a>;

    fn check(&mut self, recipients: Recipients<PublicKey>) -> Result<Checked<'_>, SystemTime> {
        Ok(Checked { out: self, recipients })
    }
}

/// A message's way out.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    out: &'a Out,
    recipients: Recipients<PublicKey>,
}

impl CheckedSender for Checked<'_> {
    type PublicKey = PublicKey;

    fn recipients(&self) -> Vec<PublicKey> {
        match &self.recipients {
            Recipients::All => {
                let keys = self.out.all.iter().map(|(key, _)| key);
                keys.filter(|key| **key != self.out.own).cloned().collect()
            }
            Recipients::Some(keys) => keys.clone(),
            Recipients::One(key) => vec![key.clone()],
        }
    }

    fn send(self, message: impl Into<IoBufs> + Send, _: bool) -> Unreliable<Feedback> {
        let mut bytes: IoBuf = message.into().coalesce();
        if self.out.spoils {
            let mut turned = bytes.as_ref().to_vec();
            if let Some(byte) = turned.iter_mut().rev().nth(40) {
                *byte ^= 1;
            }
            bytes = turned.into();
        }
        let is_for = |key: &PublicKey| match &self.recipients {
            Recipients::All => *key != self.out.own,
            Recipients::Some(keys) => keys.contains(key),
            Recipients::One(one) => one == key,
        };
        for (_, sender) in self.out.all.iter().filter(|(key, _)| is_for(key)) {
            self.out.traffic.messages.fetch_add(1, Relaxed);
            let size = u64::try_from(bytes.len()).expect("small");
            self.out.traffic.bytes.fetch_add(size, Relaxed);
            // Who has gone hears nothing.
            let _ = sender.send((self.out.own.clone(), bytes.clone()));
        }
        Unreliable::new(Feedback::Ok)
    }
}

impl Receiver for In {
    type Error = Canceled;
    type PublicKey = PublicKey;

    async fn recv(&mut self) -> Result<Message<PublicKey>, Canceled> {
        self.0.recv().await.ok_or(Canceled)
    }

    fn capacity(&self) -> NonZeroUsize {
        NonZeroUsize::new(1_024).expect("above 0")
    }
}

/// Counts whom a validator wants cut off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks(pub(crate) Arc<AtomicU64>);

impl Blocker for Blocks {
    type PublicKey = PublicKey;

    fn block(&mut self, _: PublicKey) -> Feedback {
        self.0.fetch_add(1, Relaxed);
        Feedback::Ok
    }

    fn blocked(&mut self) -> BlockedSubscription<PublicKey> {
        ring::channel(NonZeroUsize::MIN).1
    }
}
