//! A validator's HTTP address at which no transaction ever arrives: what is posted there is read and never answered.
//! Everything else passes.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::liar::read_head;

/// What came by.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When transactions were swallowed.
    pub(crate) swallowed: Mutex<Vec<Instant>>,
    /// When complaints passed.
    pub(crate) complaints: Mutex<Vec<Instant>>,
}

/// Starts one in front of the validator at `url`; gives its own address.
pub(crate) fn start(runtime: &Runtime, url: &str, seen: &Arc<Seen>) -> String {
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let (target, seen) = (url.trim_start_matches("http://").to_owned(), Arc::clone(seen));
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (target, seen) = (target.clone(), Arc::clone(&seen));
            // Whoever is not answered goes away.
            tokio::spawn(async move { drop(serve(stream, &target, &seen).await) });
        }
    });
    own
}

async fn serve(mut near: TcpStream, target: &str, seen: &Seen) -> std::io::Result<()> {
    let head = read_head(&mut near).await?;
    if head.starts_with("POST /v1/transactions") {
        seen.swallowed.lock().unwrap().push(Instant::now());
        tokio::io::copy(&mut near, &mut tokio::io::sink()).await?;
        return Ok(());
    }
    if head.starts_with("POST /v1/complaints") {
        seen.complaints.lock().unwrap().push(Instant::now());
    }
    let mut far = TcpStream::connect(target).await?;
    // One request a connection, so that each is seen.
    let head = head.trim_end().to_owned() + "\r\nconnection: close\r\n\r\n";
    far.write_all(head.as_bytes()).await?;
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}
