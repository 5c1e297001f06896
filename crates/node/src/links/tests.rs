//! Links over real sockets on loopback: what works, and what every kind of stranger and criminal gets.

mod criminals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quipu_net::OutboxLimits;
use quipu_types::{Suite, Validator};
use tokio::sync::mpsc;

use super::*;
use crate::metrics::Metrics;

const CHAIN: Hash = Hash([0xc4; 32]);
/// No test waits longer for an event; what takes so long does not come.
const DEADLINE: Duration = Duration::from_secs(30);

fn index(number: usize) -> ValidatorIndex {
    ValidatorIndex::new(u16::try_from(number).unwrap())
}

/// Keys of all suites, so that links of each to each are tried.
fn key(number: usize) -> SecretKey {
    let suites = [Suite::Ed25519Sha256, Suite::Secp256k1Keccak, Suite::Ed25519Blake2b];
    let suite = suites[number.checked_rem(suites.len()).unwrap()];
    SecretKey::from_seed(suite, [u8::try_from(number).unwrap().checked_add(1).unwrap(); 32])
}

fn set() -> ValidatorSet {
    let validators =
        (0..4).map(|number| Validator { key: key(number).public(), power: 1, is_stale: false });
    ValidatorSet { epoch: 0, validators: validators.collect(), coin: None }
}

fn bind(address: Option<SocketAddr>) -> (TcpListener, SocketAddr) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = TcpListener::bind(address.unwrap_or(any)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Limits under which nothing happens by time alone while a test lasts.
fn patient() -> LinkLimits {
    LinkLimits {
        hello_time: DEADLINE,
        frame_time: DEADLINE,
        silence_time: DEADLINE,
        backoff_time_min: Duration::from_millis(1),
        backoff_time_max: Duration::from_millis(20),
        ..LinkLimits::default()
    }
}

/// How a validator of a test differs from an honest one.
struct Setup {
    own: usize,
    chain: Hash,
    key: SecretKey,
    addresses: Vec<Option<SocketAddr>>,
    listener: TcpListener,
    limits: LinkLimits,
}

impl Setup {
    fn new(own: usize, listener: TcpListener, addresses: &[Option<SocketAddr>]) -> Self {
        let addresses = addresses.to_vec();
        Self { own, chain: CHAIN, key: key(own), addresses, listener, limits: patient() }
    }

    /// The set in which only our own key may differ: a validator that does not know its key is wrong.
    fn start(self) -> Running {
        let mut set = set();
        set.validators[self.own].key = self.key.public();
        let (sender, events) = mpsc::channel(1);
        let metrics = Metrics::new();
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        let config = LinksConfig {
            chain: self.chain,
            set,
            own: index(self.own),
            key: Arc::new(self.key),
            listener: self.listener,
            addresses: self.addresses.into_iter().map(text).collect(),
            limits: self.limits,
        };
        let links = Links::start(config, metrics.links(), move |event| {
            let sender = sender.clone();
            async move { drop(sender.send(event).await) }
        });
        Running { links: links.expect("the links start"), events, metrics }
    }
}

/// A validator's links, and what they say.
struct Running {
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    metrics: Arc<Metrics>,
}

impl Running {
    async fn next(&mut self) -> LinkEvent {
        let next = tokio::time::timeout(DEADLINE, self.events.recv()).await;
        next.expect("an event comes in time").expect("the links run")
    }

    async fn expect(&mut self, wanted: LinkEvent) {
        assert_eq!(self.next().await, wanted);
    }

    fn count(&self, sample: &str) -> f64 {
        let samples = self.metrics.samples();
        let found = samples.iter().find(|(name, _)| name == sample);
        found.unwrap_or_else(|| panic!("no {sample} in {samples:?}")).1
    }

    /// Waits until `sample` is at least `count`: links count, tests look.
    async fn counts(&self, sample: &str, count: f64) {
        until(|| self.count(sample) >= count, sample).await;
    }

    fn peer(&self, number: usize) -> PeerState {
        let peers = self.links.peers();
        peers.into_iter().find(|peer| peer.validator == index(number)).unwrap()
    }
}

/// Lets the runtime work until `holds`.
async fn until(holds: impl Fn() -> bool, what: &str) {
    let looked = async {
        while !holds() {
            tokio::time::timeout(Duration::from_millis(2), std::future::pending::<()>()).await.ok();
        }
    };
    tokio::time::timeout(DEADLINE, looked).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn refused(reason: &str) -> String {
    format!("quipu_links_refused_total{{reason=\"{reason}\"}}")
}

fn frame(from: usize, bytes: &[u8]) -> LinkEvent {
    LinkEvent::Frame { from: index(from), bytes: bytes.to_vec() }
}

/// `count` validators that know each other's addresses.
fn start_all(count: usize, limits: LinkLimits) -> Vec<Running> {
    let bound: Vec<_> = (0..count).map(|_| bind(None)).collect();
    let addresses: Vec<_> = bound.iter().map(|(_, address)| Some(*address)).collect();
    let start =
        |(own, (listener, _))| Setup { limits, ..Setup::new(own, listener, &addresses) }.start();
    bound.into_iter().enumerate().map(start).collect()
}

/// Two validators whose links are up.
async fn start_two(limits: LinkLimits) -> (Running, Running) {
    let mut two = start_all(2, limits);
    let (mut right, mut left) = (two.pop().unwrap(), two.pop().unwrap());
    left.expect(LinkEvent::Up(index(1))).await;
    right.expect(LinkEvent::Up(index(0))).await;
    (left, right)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_connect_exchange_and_stop() {
    let mut all = start_all(4, patient());
    for (own, running) in all.iter_mut().enumerate() {
        let mut up = Vec::new();
        for _ in 0..3 {
            let LinkEvent::Up(peer) = running.next().await else { panic!("links come up first") };
            up.push(usize::from(peer.get()));
        }
        up.sort_unstable();
        assert_eq!(up, (0..4).filter(|peer| *peer != own).collect::<Vec<_>>());
    }
    let large = b"one main cord, many pendant cords; ".repeat(20_000);
    for (own, running) in all.iter().enumerate() {
        running.links.broadcast(Class::Vote, Arc::from(vec![u8::try_from(own).unwrap(); 3]));
        assert!(running.links.send(index((own + 1) % 4), Class::Bulk, Arc::from(large.as_slice())));
        assert!(!running.links.send(index(own), Class::Vote, Arc::from(&b"oneself"[..])));
        assert!(!running.links.send(index(9), Class::Vote, Arc::from(&b"nobody"[..])));
    }
    for (own, running) in all.iter_mut().enumerate() {
        let mut votes = Vec::new();
        let mut bulk = Vec::new();
        for _ in 0..4 {
            let LinkEvent::Frame { from, bytes } = running.next().await else { panic!("frames") };
            if bytes.len() == 3 { votes.push(from) } else { bulk.push((from, bytes)) }
        }
        votes.sort_unstable();
        let others: Vec<_> = (0..4).filter(|peer| *peer != own).map(index).collect();
        assert_eq!(votes, others);
        assert_eq!(bulk, [(index((own + 3) % 4), large.clone())]);
    }
    for running in &all {
        for peer in running.links.peers() {
            assert!(
                peer.connected_out && peer.connected_in && peer.last_error.is_none(),
                "{peer:?}"
            );
            assert!(peer.bytes_in > 0 && peer.bytes_out > 0 && peer.dropped == 0, "{peer:?}");
        }
        assert!(
            running.count("quipu_links_out_bytes_total") < 200_000.0,
            "large messages are packed"
        );
    }
    for running in all {
        let stop = tokio::time::timeout(DEADLINE, running.links.stop());
        stop.await.expect("stopping ends");
    }
}

#[tokio::test]
async fn what_waits_when_links_stop_is_sent_first() {
    let (left, mut right) = start_two(patient()).await;
    for number in 0..20 {
        assert!(left.links.send(index(1), Class::Chunk, Arc::from(vec![number; 1_000])));
    }
    let stop = tokio::spawn(left.links.stop());
    let mut number = 0;
    while number < 20 {
        match right.next().await {
            // Our own link to who stops breaks at any time.
            LinkEvent::Down(_) => {}
            event => {
                assert_eq!(event, frame(0, &[number; 1_000]));
                number += 1;
            }
        }
    }
    stop.await.unwrap();
}

#[tokio::test]
async fn a_link_comes_up_again_after_the_peer_restarts_on_its_port() {
    let (mut left, right) = start_two(patient()).await;
    let port = left.peer(1).address.unwrap().parse().unwrap();
    let home = right.peer(0).address.unwrap().parse().unwrap();
    right.links.stop().await;
    left.expect(LinkEvent::Down(index(1))).await;
    assert!(!left.links.send(index(1), Class::Vote, Arc::from(&b"to nobody"[..])));
    assert_eq!(left.peer(1).dropped, 1);
    let (listener, _) = bind(Some(port));
    let mut right = Setup::new(1, listener, &[Some(home), None]).start();
    right.expect(LinkEvent::Up(index(0))).await;
    left.expect(LinkEvent::Up(index(1))).await;
    assert!(left.links.send(index(1), Class::Vote, Arc::from(&b"again"[..])));
    right.expect(frame(0, b"again")).await;
    assert!(left.count("quipu_links_connects_total") >= 2.0);
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for_and_memory_stays_bounded() {
    let outbox =
        OutboxLimits { vote_size_max: 2 << 20, chunk_size_max: 2 << 20, bulk_size_max: 1 << 20 };
    let (left, mut right) = start_two(LinkLimits { outbox, ..patient() }).await;
    // Noise, so that nothing is made smaller; the reader takes none of it.
    let noise: Vec<u8> = (0..1_u64 << 16)
        .flat_map(|n| quipu_crypto::sha256(&n.to_le_bytes()).0)
        .take(500_000)
        .collect();
    let mut sent = 0;
    let mut refused = 0;
    // The kernel's buffers take some; then the outbox fills.
    while refused < 10 {
        if left.links.send(index(1), Class::Chunk, Arc::from(noise.as_slice())) {
            sent += 1
        } else {
            refused += 1
        }
        tokio::task::yield_now().await;
        assert!(sent < 1_000, "somebody holds 500 MB");
    }
    assert!(left.count("quipu_links_dropped_total{class=\"chunk\"}") >= 10.0);
    assert!(left.peer(1).connected_out, "keep-alives say that the peer lives");
    // One frame waits to be taken, one to be handed over, and a piece of the next was read.
    assert!(right.peer(0).bytes_in < 3 * 500_000, "{:?}", right.peer(0));
    // Votes still wait, the newest of them.
    for number in 0..8_u8 {
        let mut vote = noise.clone();
        vote[0] = number;
        assert!(left.links.send(index(1), Class::Vote, Arc::from(vote)));
    }
    assert_eq!(left.count("quipu_links_dropped_total{class=\"vote\"}"), 4.0);
    // As soon as somebody reads, everything that was taken arrives, the votes before the chunks that waited.
    let mut order = Vec::new();
    for _ in 0..sent + 4 {
        let LinkEvent::Frame { bytes, .. } = right.next().await else { panic!("frames") };
        order.push(if bytes[1..] == noise[1..] && bytes[0] < 8 { Some(bytes[0]) } else { None });
    }
    let votes: Vec<_> = order.iter().flatten().copied().collect();
    assert_eq!(votes, [4, 5, 6, 7]);
    assert!(order.last().unwrap().is_none(), "chunks waited behind the votes");
}
