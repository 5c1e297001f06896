//! Links between validators that a test can break: each validator dials the others through a proxy of its own.
//!
//! ```text
//!  node0 ── [peers] node1 = proxy(0, 1) ══ open: bytes pass
//!                                       ══ silent: bytes wait, as when a cable is cut
//!                                       ══ slow: bytes pass later, and now and then the connection breaks
//!                                       ══ shut: connections break, new ones too
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::harness::Ledger;

/// What a proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    Silent,
    /// Each piece waits `ms` milliseconds; one in `break_one_in` breaks its connection.
    Slow {
        ms: u64,
        break_one_in: usize,
    },
    Shut,
}

/// A proxy for each pair of validators and direction.
#[derive(Debug)]
pub(crate) struct Proxies {
    /// By who dials and who is dialed.
    ways: Vec<((usize, usize), watch::Sender<Way>)>,
    /// Runs them; ends them when it is dropped.
    _runtime: Runtime,
}

impl Proxies {
    /// Puts proxies between the validators of a new ledger.
    pub(crate) fn between(ledger: &Ledger, count: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut ways = Vec::new();
        for from in 0..count {
            let path = ledger.path(&format!("l/node{from}/config.toml"));
            let mut text = std::fs::read_to_string(&path).unwrap();
            for to in (0..count).filter(|to| *to != from) {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
                let listener = runtime.block_on(listener).unwrap();
                let start = text.find(&format!("\nnode{to} = \"")).unwrap() + 1;
                let end = start + text[start..].find('\n').unwrap();
                let target: SocketAddr =
                    text[start..end].split('"').nth(1).unwrap().parse().unwrap();
                let own = listener.local_addr().unwrap();
                text.replace_range(start..end, &format!("node{to} = \"{own}\""));
                let (sender, way) = watch::channel(Way::Open);
                runtime.spawn(accept(listener, target, way));
                ways.push(((from, to), sender));
            }
            std::fs::write(&path, text).unwrap();
        }
        Self { ways, _runtime: runtime }
    }

    /// Sets every link.
    pub(crate) fn everywhere(&self, way: Way) {
        for (_, sender) in &self.ways {
            sender.send_replace(way);
        }
    }

    /// Sets every link between a validator of `side` and one of the others.
    pub(crate) fn around(&self, side: &[usize], way: Way) {
        for ((from, to), sender) in &self.ways {
            if side.contains(from) != side.contains(to) {
                sender.send_replace(way);
            }
        }
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, way: watch::Receiver<Way>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(forward(stream, target, way.clone()));
    }
}

/// One connection. Whatever ends it ends both halves: what a broken link looks like.
async fn forward(near: TcpStream, target: SocketAddr, mut way: watch::Receiver<Way>) {
    if pass(&mut way).await.is_none() {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else { return };
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    tokio::select! {
        () = pump(near_reader, far_writer, way.clone()) => {}
        () = pump(far_reader, near_writer, way) => {}
    }
}

async fn pump(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
) {
    let mut piece = vec![0; 1 << 16];
    let mut shut = way.clone();
    loop {
        let size = tokio::select! {
            size = reader.read(&mut piece) => size.unwrap_or(0),
            _ = shut.wait_for(|way| *way == Way::Shut) => 0,
        };
        if size == 0 || pass(&mut way).await.is_none() {
            return;
        }
        let now = *way.borrow();
        if let Way::Slow { ms, break_one_in } = now {
            if fastrand::usize(..break_one_in) == 0 {
                return;
            }
            let late = std::future::pending::<()>();
            drop(tokio::time::timeout(Duration::from_millis(ms), late).await);
        }
        if writer.write_all(&piece[..size]).await.is_err() {
            return;
        }
    }
}

/// Waits while nothing passes; nothing when the link is shut.
async fn pass(way: &mut watch::Receiver<Way>) -> Option<()> {
    let now = way.wait_for(|way| *way != Way::Silent).await.ok()?;
    (*now != Way::Shut).then_some(())
}
