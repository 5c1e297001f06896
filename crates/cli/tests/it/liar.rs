//! A validator's HTTP address that lies to who follows the ledger: it reads a true validator's frames and passes them on,
//! but for one crime. What is posted to it is refused.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use quipu_client::Client;
use quipu_crypto::domain::Tag;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_types::{Decode, Encode, Hash, Height, StateCertificate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const HEADER: u8 = 2;
const CHUNK: u8 = 3;
const STATE: u8 = 4;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crime {
    /// Changes a byte in the middle of the third header.
    Header,
    /// Changes the last byte of the third header's frame: a signature of its certificate.
    Certificate,
    /// Changes the last byte of the first chunk: of a transaction in its body.
    Chunk,
    /// Leaves out the first chunk.
    LeftOut,
    /// Leaves out the third header.
    Skip,
    /// Shows the fourth header in the third's place.
    Swap,
    /// Passes on two headers and then nothing but greetings.
    Withhold,
    /// Passes on bytes that are no frames.
    Garbage,
    /// Changes a byte of the root in each state certificate that stands alone.
    State,
    /// The same, and signs it with the only validator's key: a quorum lies.
    Quorum,
}

impl Crime {
    /// What a validator can do alone.
    pub(crate) const ALL: [Self; 9] = [
        Self::Header,
        Self::Certificate,
        Self::Chunk,
        Self::LeftOut,
        Self::Skip,
        Self::Swap,
        Self::Withhold,
        Self::Garbage,
        Self::State,
    ];
}

/// Starts one in front of the validator at `url`; gives its own address.
pub(crate) fn start(runtime: &Runtime, url: &str, crime: Crime) -> String {
    start_with(runtime, url, crime, None)
}

/// The same of a ledger's only validator, whose key and chain are known.
pub(crate) fn start_with(runtime: &Runtime, url: &str, crime: Crime, key: Key) -> String {
    let key = Arc::new(key);
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let url = url.to_owned();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (url, key) = (url.clone(), Arc::clone(&key));
            // Whoever is lied to may go away at any time.
            tokio::spawn(async move { drop(serve(stream, &url, crime, &key).await) });
        }
    });
    own
}

/// A request up to its body.
pub(crate) async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

type Key = Option<(SecretKey, Hash)>;

async fn serve(mut stream: TcpStream, url: &str, crime: Crime, key: &Key) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let Some(from) = head.strip_prefix("GET /v1/blocks?from=") else {
        let answer = b"HTTP/1.1 503 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return stream.write_all(answer).await;
    };
    let from: u64 = from.split(' ').next().unwrap().parse().unwrap();
    let client = Client::new(url).unwrap();
    let mut blocks = client.blocks(Height::new(from)).await.unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await?;
    let mut lie = Lie { crime, key, headers: 0, chunks: 0, held: None };
    loop {
        let frames = blocks.next().await.unwrap();
        if frames.is_empty() {
            return Ok(());
        }
        let mut out = Vec::new();
        for frame in frames {
            lie.pass(frame, &mut out);
        }
        stream.write_all(&out).await?;
    }
}

struct Lie<'a> {
    crime: Crime,
    key: &'a Key,
    headers: usize,
    chunks: usize,
    held: Option<Bytes>,
}

impl Lie<'_> {
    fn pass(&mut self, frame: Bytes, out: &mut Vec<u8>) {
        let kind = frame[0];
        self.headers += usize::from(kind == HEADER);
        self.chunks += usize::from(kind == CHUNK);
        let is_third = kind == HEADER && self.headers == 3;
        let is_first_chunk = kind == CHUNK && self.chunks == 1;
        let mut changed = frame.to_vec();
        let (middle, last) = (changed.len() / 2, changed.len() - 1);
        match self.crime {
            Crime::Header if is_third => changed[middle] ^= 1,
            Crime::Certificate if is_third => changed[last] ^= 1,
            Crime::Chunk if is_first_chunk => changed[last] ^= 1,
            Crime::LeftOut if is_first_chunk => return,
            Crime::Skip if is_third => return,
            Crime::Swap if is_third => {
                self.held = Some(frame);
                return;
            }
            Crime::Withhold if self.headers > 2 && kind != 1 => return,
            Crime::Garbage if is_third => changed[0] = 77,
            Crime::State if kind == STATE => changed[20] ^= 1,
            Crime::Quorum if kind == STATE => self.forge(&mut changed),
            _ => {}
        }
        put(out, &changed);
        if let Some(held) = self.held.take_if(|_| kind == HEADER) {
            put(out, &held);
        }
    }
}

impl Lie<'_> {
    /// Another root, under a signature that holds.
    fn forge(&self, frame: &mut Vec<u8>) {
        let (key, chain) = self.key.as_ref().unwrap();
        let mut certificate = StateCertificate::from_bytes(&frame[1..]).unwrap();
        certificate.state.state_root.0[0] ^= 1;
        let body = certificate.state.to_bytes();
        certificate.signatures[0].1 = sign_tagged(key, chain, 0, Tag::StateVote, &body);
        frame.truncate(1);
        frame.extend(certificate.to_bytes());
    }
}

fn put(out: &mut Vec<u8>, frame: &[u8]) {
    out.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_le_bytes());
    out.extend_from_slice(frame);
}
