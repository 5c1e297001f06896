//! Links between validators: encrypted, mutual, one in each direction, bounded in every respect.
//!
//! ```text
//!  send, broadcast ─> [ Outbox of a peer ] ─> dialer ══ TLS 1.3 ══> acceptor of the peer ─> LinkEvent::Frame
//!                                                 <── keep-alives ──
//!  a connection: TCP ─ TLS 1.3, ALPN "quipu/1" ─ Hello of the dialer ─ Hello of the acceptor ─ frames
//! ```
//! # Who is at the other end
//! TLS gives a channel to somebody: the acceptor shows a throw-away raw public key (RFC 7250), whose handshake signature
//! is checked and whose identity is not. Who it is, is said in the hellos: each end signs, by its *voting* key and
//! under tag `Link`, the protocol version, its role, both indices and the channel's exporter secret (RFC 9266). A
//! relay that ends two TLS sessions has two exporter secrets, and can sign neither hello; a hello replayed, reflected
//! or shown to another validator names another channel, role or pair. So no certificates are issued, stored, renewed
//! or trusted: the genesis is the only root, and every signature suite that it may name works.
//! The acceptor speaks second, so its hello also says that it took the link.
//!
//! # Invariants
//! * N1 A frame is handed over only from a connection whose other end proved the key of `from`.
//! * N2 `Up` and `Down` of a peer alternate, beginning with `Up`. A message sent while the link is down is dropped; one
//!   that waits when it breaks is dropped. So after `Up` the protocol says again what still matters.
//! * N3 [`Links::send`] and [`Links::broadcast`] never wait: what does not fit is dropped and counted.
//! * N4 Frames of a peer are handed over one at a time, and nothing more is read from it before the callback is done:
//!   who floods is slowed by TCP.
//! * N5 At most one connection of a peer is read at a time; a newer one replaces the older.
//!
//! # Limits (`docs/links.md` has the table)
//! Received, by peer: one frame being collected (at most twice [`FRAME_SIZE_MAX`]) and one message handed over (once).
//! Waiting to be sent, by peer: the outbox, and once more its size where frames were packed for a faster peer.
//! Before a hello is believed: [`HANDSHAKE_COUNT_MAX`] connections, [`GREETING_SIZE_MAX`] bytes each beside TLS's own.
//!
//! * N6 Who may be at the other end only grows ([`Links::admit`]): a validator keeps its index and its key.
//!
//! [`GREETING_SIZE_MAX`]: quipu_net::hello::GREETING_SIZE_MAX

mod accept;
mod channel;
mod dial;
mod error;
mod metrics;
mod peer;
mod pump;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use quipu_crypto::SecretKey;
use quipu_net::{Class, FRAME_SIZE_MAX, MESSAGE_SIZE_MAX, Offence, OutboxLimits};
use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::{Hash, ValidatorIndex, ValidatorSet};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::channel::Channel;
use self::peer::{Packet, Peer};
use crate::error::NodeError;

pub use self::error::LinkError;
pub use self::metrics::LinkMetrics;

/// Connections that may be without a believed hello, all peers together; one more is closed.
pub const HANDSHAKE_COUNT_MAX: usize = 64;
/// Connections of one validator that may be between a believed hello and being read; one more is refused.
pub const HANDSHAKE_COUNT_MAX_BY_PEER: usize = 2;
/// Time that links have to send what waits and to say goodbye when they stop.
const STOP_TIME: Duration = Duration::from_secs(1);

const _: () = assert!(MESSAGE_SIZE_MAX < FRAME_SIZE_MAX, "a frame holds a message and its form");

/// How long links wait, and how much waits to be sent.
#[derive(Clone, Copy, Debug)]
pub struct LinkLimits {
    /// From the connection to the believed hello.
    pub hello_time: Duration,
    /// From a frame's first byte to its last, while we read.
    pub frame_time: Duration,
    /// Without any byte, while we read: then the link is broken.
    pub silence_time: Duration,
    /// Without a message to send: then a keep-alive is sent.
    pub keep_alive_time: Duration,
    /// Before the first try to connect again; doubled each time.
    pub backoff_time_min: Duration,
    /// Before any try to connect again.
    pub backoff_time_max: Duration,
    /// What waits for one peer.
    pub outbox: OutboxLimits,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            hello_time: Duration::from_secs(5),
            frame_time: Duration::from_secs(20),
            silence_time: Duration::from_secs(5),
            keep_alive_time: Duration::from_secs(1),
            backoff_time_min: Duration::from_millis(50),
            backoff_time_max: Duration::from_secs(1),
            outbox: OutboxLimits::default(),
        }
    }
}

/// Between whom links are, and where.
#[derive(Debug)]
pub struct LinksConfig {
    /// The ledger.
    pub chain: Hash,
    /// Its validators.
    pub set: ValidatorSet,
    /// Who we are among them.
    pub own: ValidatorIndex,
    /// Our voting key.
    pub key: Arc<SecretKey>,
    /// Where the others connect.
    pub listener: TcpListener,
    /// Where the others listen, by index: `host:port`, resolved at each try. `None` is never dialed.
    pub addresses: Vec<Option<String>>,
    /// How long and how much.
    pub limits: LinkLimits,
}

/// What happens on the links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Our link to a peer is up: what is sent now arrives, unless the link breaks.
    Up(ValidatorIndex),
    /// Our link to a peer broke: what waited is dropped.
    Down(ValidatorIndex),
    /// A peer sent a message.
    Frame {
        /// Who proved to be at the other end; whether it wrote what the message says is not known here.
        from: ValidatorIndex,
        /// The message.
        bytes: Vec<u8>,
    },
}

/// How the links with one peer are, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Who.
    pub validator: ValidatorIndex,
    /// Where it is dialed.
    pub address: Option<String>,
    /// Our link to it is up.
    pub connected_out: bool,
    /// Its link to us is up.
    pub connected_in: bool,
    /// Microseconds since our link last came up or went down.
    pub since_us: u64,
    /// Bytes of frames that came from it.
    pub bytes_in: u64,
    /// Bytes of frames that went to it.
    pub bytes_out: u64,
    /// Messages to it that were dropped.
    pub dropped: u64,
    /// Points of what it did wrong; it is shut out at 100.
    pub score: u64,
    /// Microseconds that it stays shut out; 0 if it is not.
    pub banned_us: u64,
    /// Why the last link or try of either direction ended.
    pub last_error: Option<String>,
}

type Handled = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the tasks of all links share.
struct Core {
    chain: Hash,
    set: RwLock<Arc<ValidatorSet>>,
    own: ValidatorIndex,
    key: Arc<SecretKey>,
    limits: LinkLimits,
    metrics: LinkMetrics,
    channel: Channel,
    /// By index, places for all that there can be; our own is there and never used.
    peers: Vec<OnceLock<Peer>>,
    on_event: Box<dyn Fn(LinkEvent) -> Handled + Send + Sync>,
    started: Instant,
    stopping: watch::Receiver<bool>,
}

impl Core {
    /// Another validator of the set.
    fn peer(&self, index: ValidatorIndex) -> Option<&Peer> {
        self.peers.get(usize::from(index.get()))?.get().filter(|_| index != self.own)
    }

    /// Every other validator of the set.
    fn others(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter_map(OnceLock::get).filter(|peer| peer.index != self.own)
    }

    /// Who may be at the other end.
    fn set(&self) -> Arc<ValidatorSet> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Microseconds since the start.
    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Counts an offence, and shuts the peer out when it is one too many.
    fn blame(&self, from: ValidatorIndex, offence: Offence) {
        let Some(peer) = self.peer(from) else { return };
        if let Some(until_us) = peer.blame(self.now_us(), offence) {
            let seconds = until_us.saturating_sub(self.now_us()) / 1_000_000;
            tracing::warn!(validator = %from, ?offence, seconds, "a validator is shut out for a while");
            self.metrics.bans.increment(1);
            peer.close_inbound();
        }
    }

    /// Hands an event over, and waits until it is taken or the links stop.
    async fn tell(&self, event: LinkEvent) {
        tokio::select! {
            biased;
            () = (self.on_event)(event) => {}
            () = self.stopped() => {}
        }
    }

    /// Resolves when the links stop.
    async fn stopped(&self) {
        // An error means that the links were dropped, which stops them too.
        drop(self.stopping.clone().wait_for(|stopping| *stopping).await);
    }
}

/// The links of one validator with all others.
pub struct Links {
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    handle: Handle,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("own", &self.core.own).finish_non_exhaustive()
    }
}

impl Links {
    /// Listens, and dials every other validator that has an address, on the current runtime.
    ///
    /// `on_event` is called with one event of a peer's outgoing link, and one of its incoming link, at a time. What it
    /// returns is awaited before more is read from that peer.
    ///
    /// # Errors
    /// When `own` is not in the set under this key, or the system refuses the socket.
    pub fn start<F, Fut>(
        config: LinksConfig,
        metrics: LinkMetrics,
        on_event: F,
    ) -> Result<Self, NodeError>
    where
        F: Fn(LinkEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let LinksConfig { chain, set, own, key, listener, addresses, limits } = config;
        if set.get(own).is_none_or(|validator| validator.key != key.public()) {
            let reason = format!("the key is not that of validator {own} in the validator set");
            return Err(NodeError::system("linking validators", reason));
        }
        let failed = |error| NodeError::system("listening for validators", error);
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let started = Instant::now();
        let (stop, stopping) = watch::channel(false);
        let on_event = Box::new(move |event| -> Handled { Box::pin(on_event(event)) });
        let channel = Channel::new()?;
        let core = Core {
            chain,
            set: RwLock::new(Arc::new(set.clone())),
            own,
            key,
            limits,
            metrics,
            channel,
            peers: (0..VALIDATOR_COUNT_MAX).map(|_| OnceLock::new()).collect(),
            on_event,
            started,
            stopping,
        };
        let core = Arc::new(core);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept::accept(Arc::clone(&core), listener));
        let links = Self { core, stop, tasks: Mutex::new(tasks), handle: Handle::current() };
        links.admit(set, addresses);
        Ok(links)
    }

    /// Lets the validators of a newer set be at the other end, and dials those that were not known (N6). Addresses are by index;
    /// a peer whose address is another from now on is dialed there when its link breaks.
    pub fn admit(&self, set: ValidatorSet, addresses: Vec<Option<String>>) {
        let core = &self.core;
        let count = set.validators.len();
        *core.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
        let addresses = addresses.into_iter().chain(std::iter::repeat(None));
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for ((index, place), address) in (0..).zip(&core.peers).zip(addresses).take(count) {
            let index = ValidatorIndex::new(index);
            let new = || Peer::new(index, &core.limits, core.started);
            let is_known = place.get().is_some();
            let peer = place.get_or_init(new);
            let is_dialed = is_known && peer.address().is_some();
            peer.move_to(address);
            if index != core.own && !is_dialed && peer.address().is_some() {
                tasks.spawn_on(dial::keep_dialing(Arc::clone(core), index), &self.handle);
            }
        }
    }

    /// Lets a message to `to` wait to be sent. `false`: it was dropped, and counted.
    pub fn send(&self, to: ValidatorIndex, class: Class, bytes: Arc<[u8]>) -> bool {
        self.send_packet(to, class, &Arc::new(Packet::new(bytes)))
    }

    /// Lets a message to every other validator wait to be sent.
    pub fn broadcast(&self, class: Class, bytes: Arc<[u8]>) {
        let packet = Arc::new(Packet::new(bytes));
        for peer in self.core.others() {
            self.send_packet(peer.index, class, &packet);
        }
    }

    fn send_packet(&self, to: ValidatorIndex, class: Class, packet: &Arc<Packet>) -> bool {
        let Some(peer) = self.core.peer(to) else { return false };
        peer.push(class, Arc::clone(packet), &self.core.metrics)
    }

    /// Counts what a peer did wrong beyond what links see themselves. One too many closes its link to us and refuses
    /// new ones for a while; ours to it stays, for what we say is true whatever it does.
    pub fn blame(&self, from: ValidatorIndex, offence: Offence) {
        self.core.blame(from, offence);
    }

    /// How the links with every other validator are.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerState> {
        self.core.others().map(|peer| peer.state(self.core.now_us())).collect()
    }

    /// Sends what waits, for a second at most, says goodbye and closes every connection. Events that are not taken at
    /// once are dropped from now on.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let mut tasks = self.tasks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIME, ended).await.is_err() {
            tasks.shutdown().await;
        }
    }
}
