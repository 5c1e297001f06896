//! Strangers, criminals and broken peers.

use quipu_net::hello::PROTOCOL_VERSION;
use quipu_net::pack::keep_alive;
use quipu_net::{Answer, Hello, Reason, Role, pack, put_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::super::channel::Channel;
use super::super::pump::{read_greeting, send_greeting};
use super::*;

/// Validator 0, who dials nobody.
fn victim(limits: LinkLimits) -> (Running, SocketAddr) {
    let (listener, address) = bind(None);
    (Setup { limits, ..Setup::new(0, listener, &[]) }.start(), address)
}

/// A connection to `address` on which validator `own` proved itself by hand.
async fn greeted(address: SocketAddr, own: usize) -> TlsStream<TcpStream> {
    let (stream, answer) = greet(address, |hello, _| hello, own).await;
    assert!(matches!(answer, Some(Answer::Hello(_))), "{answer:?}");
    stream
}

/// Greets with what `change` makes of an honest hello.
async fn greet(
    address: SocketAddr,
    change: impl FnOnce(Hello, &[u8; 32]) -> Hello,
    own: usize,
) -> (TlsStream<TcpStream>, Option<Answer>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut stream, binding) = Channel::new().unwrap().connect(stream).await.unwrap();
    let names = (index(own), index(0));
    let hello = Hello::sign(&key(own), &CHAIN, names, Role::Dialer, &binding);
    send_greeting(&mut stream, &Answer::Hello(change(hello, &binding))).await.unwrap();
    let answer = read_greeting(&mut stream).await.ok();
    (stream, answer)
}

/// Waits until the other end closes.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
    // An error of the connection is an end, too.
    drop(read.expect("the other end closes"));
}

#[tokio::test]
async fn hellos_that_are_wrong_are_refused_by_name() {
    let (victim, address) = victim(patient());
    type Change = fn(Hello, &[u8; 32]) -> Hello;
    let cases: [(Reason, Change); 7] = [
        (Reason::OlderVersion, |hello, _| Hello { version: PROTOCOL_VERSION - 1, ..hello }),
        (Reason::NewerVersion, |hello, _| Hello { version: PROTOCOL_VERSION + 1, ..hello }),
        (Reason::OtherChain, |hello, _| Hello { chain: Hash([7; 32]), ..hello }),
        (Reason::UnknownValidator, |hello, _| Hello { validator: index(4), ..hello }),
        (Reason::Oneself, |hello, _| Hello { validator: index(0), ..hello }),
        (Reason::OtherPeer, |hello, _| Hello { peer: index(2), ..hello }),
        (Reason::WrongKey, |_, binding| {
            let names = (index(1), index(0));
            Hello::sign(&key(2), &CHAIN, names, Role::Dialer, binding)
        }),
    ];
    for (reason, change) in cases {
        let (stream, answer) = greet(address, change, 1).await;
        assert_eq!(answer, Some(Answer::Refusal(reason)));
        closed(stream).await;
        victim.counts(&refused(reason.name()), 1.0).await;
    }
    assert!(!victim.peer(1).connected_in);
    drop(greeted(address, 1).await);
}

#[tokio::test]
async fn a_validator_with_another_key_or_chain_learns_why_it_gets_no_link() {
    let (victim, address) = victim(patient());
    let dialer = |chain, key| {
        let (listener, _) = bind(None);
        Setup { chain, key, ..Setup::new(1, listener, &[Some(address)]) }.start()
    };
    let error = |running: &Running| running.peer(0).last_error.unwrap_or_default();
    let other_key = dialer(CHAIN, key(3));
    until(|| error(&other_key).starts_with("QP0708"), "the wrong key is named").await;
    let other_chain = dialer(Hash([7; 32]), key(1));
    until(|| error(&other_chain).starts_with("QP0706"), "the other chain is named").await;
    victim.counts(&refused("wrong_key"), 1.0).await;
    victim.counts(&refused("other_chain"), 1.0).await;
}

#[tokio::test]
async fn who_listens_at_a_peers_address_without_its_key_gets_nothing() {
    // Validator 2 listens where 0 expects 1.
    let (impostor, impostor_address) = bind(None);
    let mut impostor = Setup::new(2, impostor, &[]).start();
    let (listener, _) = bind(None);
    let honest = Setup::new(0, listener, &[None, Some(impostor_address)]).start();
    let error = || honest.peer(1).last_error.unwrap_or_default();
    until(|| error().starts_with("QP0708"), "the impostor is named").await;
    impostor.counts(&refused("other_peer"), 1.0).await;
    assert!(!honest.links.send(index(1), Class::Vote, Arc::from(&b"secret"[..])));
    assert!(impostor.events.try_recv().is_err());
}

#[tokio::test]
async fn a_relay_that_ends_tls_on_both_sides_is_refused_by_both() {
    let (acceptor, address) = victim(patient());
    let (listener, relay_address) = bind(None);
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let relay = tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let (mut near, near_binding) = Channel::new().unwrap().accept(near).await.unwrap();
            let far = TcpStream::connect(address).await.unwrap();
            let (mut far, far_binding) = Channel::new().unwrap().connect(far).await.unwrap();
            assert_ne!(near_binding, far_binding);
            drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
        }
    });
    let (listener, _) = bind(None);
    let mut dialer = Setup::new(1, listener, &[Some(relay_address)]).start();
    acceptor.counts(&refused("wrong_key"), 3.0).await;
    let error = || dialer.peer(0).last_error.unwrap_or_default();
    until(|| error().starts_with("QP0708"), "the dialer is told").await;
    assert!(dialer.events.try_recv().is_err(), "no link is up");
    assert!(!acceptor.peer(1).connected_in);
    relay.abort();
}

#[tokio::test]
async fn an_acceptor_that_sends_a_hello_back_or_one_of_another_channel_is_not_believed() {
    let (listener, address) = bind(None);
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let (own, _) = bind(None);
    let dialer = Setup::new(0, own, &[None, Some(address)]).start();
    let accept = async || {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, binding) = Channel::new().unwrap().accept(stream).await.unwrap();
        let Answer::Hello(hello) = read_greeting(&mut stream).await.unwrap() else { panic!() };
        (stream, binding, hello)
    };
    let error = || dialer.peer(1).last_error.unwrap_or_default();
    let (mut stream, _, mut hello) = accept().await;
    send_greeting(&mut stream, &Answer::Hello(hello.clone())).await.unwrap();
    closed(stream).await;
    until(|| error().contains("this very validator"), "a reflected hello is named").await;
    // Its own signature under the other's name.
    let (mut stream, _, _) = accept().await;
    std::mem::swap(&mut hello.validator, &mut hello.peer);
    send_greeting(&mut stream, &Answer::Hello(hello)).await.unwrap();
    closed(stream).await;
    until(|| error().contains("did not sign this channel"), "a reflected signature is named").await;
    assert_eq!(dialer.count("quipu_links_connects_total"), 0.0);
    // The true key on this channel is believed.
    let (mut stream, binding, hello) = accept().await;
    let names = (hello.peer, hello.validator);
    let hello = Hello::sign(&key(1), &CHAIN, names, Role::Acceptor, &binding);
    send_greeting(&mut stream, &Answer::Hello(hello)).await.unwrap();
    dialer.counts("quipu_links_connects_total", 1.0).await;
    // But it may send nothing except keep-alives.
    stream.write_all(&keep_alive()).await.unwrap();
    stream.write_all(&pack(b"out of turn")).await.unwrap();
    closed(stream).await;
}

#[tokio::test]
async fn garbage_instead_of_tls_and_a_greeting_that_is_too_long_are_refused() {
    let (victim, address) = victim(patient());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: quipu\r\n\r\n").await.unwrap();
    closed(stream).await;
    victim.counts(&refused("tls"), 1.0).await;
    for greeting in [&u32::MAX.to_le_bytes()[..], &[1, 0, 0, 0, 9]] {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut stream, _) = Channel::new().unwrap().connect(stream).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        assert_eq!(read_greeting(&mut stream).await.unwrap(), Answer::Refusal(Reason::Malformed));
        closed(stream).await;
    }
    victim.counts(&refused("malformed"), 2.0).await;
}

#[tokio::test]
async fn who_says_nothing_is_closed_and_a_crowd_of_such_is_turned_away() {
    let limits = LinkLimits { hello_time: Duration::from_secs(1), ..patient() };
    let (victim, address) = victim(limits);
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKE_COUNT_MAX + 8 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    victim.counts(&refused("crowd"), 8.0).await;
    for stream in silent {
        closed(stream).await;
    }
    victim.counts(&refused("slow"), 1.0).await;
    drop(greeted(address, 1).await);
}

#[tokio::test]
async fn a_frame_that_is_announced_too_long_ends_the_link_and_shuts_the_peer_out() {
    let (mut victim, address) = victim(patient());
    let mut stream = greeted(address, 1).await;
    stream.write_all(&pack(b"honest")).await.unwrap();
    stream.flush().await.unwrap();
    victim.expect(frame(1, b"honest")).await;
    assert!(victim.peer(1).connected_in);
    let announced = u32::try_from(FRAME_SIZE_MAX + 1).unwrap();
    stream.write_all(&announced.to_le_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    closed(stream).await;
    until(|| victim.peer(1).banned_us > 0, "the peer is shut out").await;
    let (stream, answer) = greet(address, |hello, _| hello, 1).await;
    assert_eq!(answer, Some(Answer::Refusal(Reason::Banned)));
    closed(stream).await;
    assert_eq!(victim.count("quipu_links_bans_total"), 1.0);
    // Nobody else is.
    let mut stream = greeted(address, 2).await;
    stream.write_all(&pack(b"other")).await.unwrap();
    stream.flush().await.unwrap();
    victim.expect(frame(2, b"other")).await;
}

#[tokio::test]
async fn blame_from_above_closes_the_link_when_it_is_too_much() {
    let (mut victim, address) = victim(patient());
    let mut stream = greeted(address, 1).await;
    stream.write_all(&pack(b"first")).await.unwrap();
    stream.flush().await.unwrap();
    victim.expect(frame(1, b"first")).await;
    victim.links.blame(index(1), Offence::BadSignature);
    assert!(victim.peer(1).score >= 39 && victim.peer(1).banned_us == 0);
    victim.links.blame(index(1), Offence::BadSignature);
    victim.links.blame(index(1), Offence::Malformed);
    assert!(victim.peer(1).banned_us > 0);
    closed(stream).await;
    // Whom nobody knows can not be blamed.
    victim.links.blame(index(9), Offence::TooLong);
    victim.links.blame(index(0), Offence::TooLong);
}

#[tokio::test]
async fn half_a_frame_and_damaged_frames_end_the_link_with_blame() {
    let limits = LinkLimits { frame_time: Duration::from_millis(50), ..patient() };
    let (victim, address) = victim(limits);
    let mut stream = greeted(address, 1).await;
    let whole = pack(b"only half of this comes");
    stream.write_all(&whole[..10]).await.unwrap();
    stream.flush().await.unwrap();
    closed(stream).await;
    let error = || victim.peer(1).last_error.unwrap_or_default();
    until(|| error().contains("did not end in time"), "half a frame is named").await;
    until(|| victim.peer(1).score >= 9, "it is blamed").await;
    let mut stream = greeted(address, 1).await;
    let mut damaged = Vec::new();
    put_frame(&mut damaged, &[1, 200, 1, 0xff]);
    stream.write_all(&damaged).await.unwrap();
    stream.flush().await.unwrap();
    closed(stream).await;
    until(|| error().contains("damaged"), "a damaged frame is named").await;
    until(|| victim.peer(1).score >= 40, "it is blamed").await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_dropped_on_both_sides() {
    let limits = LinkLimits { silence_time: Duration::from_millis(100), ..patient() };
    let (victim, address) = victim(limits);
    // An acceptor's end: it is sent keep-alives, and sends none.
    let stream = greeted(address, 1).await;
    closed(stream).await;
    let error = || victim.peer(1).last_error.unwrap_or_default();
    until(|| error().contains("not even a keep-alive"), "silence is named").await;
    assert_eq!(victim.peer(1).score, 0, "silence is the network's fault as often");
    // A dialer's end.
    let (listener, address) = bind(None);
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let (own, _) = bind(None);
    let addresses = [None, Some(address)];
    let mut dialer = Setup { limits, ..Setup::new(0, own, &addresses) }.start();
    let (stream, _) = listener.accept().await.unwrap();
    let (mut stream, binding) = Channel::new().unwrap().accept(stream).await.unwrap();
    read_greeting(&mut stream).await.unwrap();
    let names = (index(1), index(0));
    let hello = Hello::sign(&key(1), &CHAIN, names, Role::Acceptor, &binding);
    send_greeting(&mut stream, &Answer::Hello(hello)).await.unwrap();
    dialer.expect(LinkEvent::Up(index(1))).await;
    dialer.expect(LinkEvent::Down(index(1))).await;
}

#[tokio::test]
async fn keep_alives_hold_an_idle_link() {
    let limits = LinkLimits {
        silence_time: Duration::from_secs(1),
        keep_alive_time: Duration::from_millis(20),
        ..patient()
    };
    let (left, right) = start_two(limits).await;
    // More than come in the time of silence.
    left.counts("quipu_links_in_frames_total", 150.0).await;
    right.counts("quipu_links_in_frames_total", 150.0).await;
    assert_eq!(left.count("quipu_links_connects_total"), 1.0);
    assert!(left.peer(1).connected_in && left.peer(1).connected_out);
}

#[tokio::test]
async fn a_newer_connection_of_a_peer_replaces_the_older() {
    let (mut victim, address) = victim(patient());
    let mut older = greeted(address, 1).await;
    older.write_all(&pack(b"older")).await.unwrap();
    older.flush().await.unwrap();
    victim.expect(frame(1, b"older")).await;
    let mut newer = greeted(address, 1).await;
    closed(older).await;
    newer.write_all(&pack(b"newer")).await.unwrap();
    newer.flush().await.unwrap();
    victim.expect(frame(1, b"newer")).await;
    assert!(victim.peer(1).connected_in);
    // Even while a frame of the older waits to be taken.
    for number in 0..3 {
        newer.write_all(&pack(&[number])).await.unwrap();
    }
    newer.flush().await.unwrap();
    let mut newest = greeted(address, 1).await;
    closed(newer).await;
    newest.write_all(&pack(b"newest")).await.unwrap();
    newest.flush().await.unwrap();
    while victim.next().await != frame(1, b"newest") {}
}

#[tokio::test]
async fn links_do_not_start_under_a_key_that_is_not_their_validators() {
    let (listener, _) = bind(None);
    let config = LinksConfig {
        chain: CHAIN,
        set: set(),
        own: index(1),
        key: Arc::new(key(2)),
        listener,
        addresses: Vec::new(),
        limits: patient(),
    };
    let links = Links::start(config, LinkMetrics::detached(), |_| async {});
    assert!(links.unwrap_err().to_string().contains("validator 1"));
}
