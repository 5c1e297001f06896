//! NATS JetStream: `PUB` with an acknowledgement each, pulls of a durable consumer. The protocol is NATS' plain text.

use std::io::BufReader;
use std::net::TcpStream;

use crate::Result;
use crate::measure::{Connection, Peer, exactly, line, skip};

/// Messages of one pull, and pulls under way.
const PULL_COUNT: usize = 10_000;
const PULLS: usize = 2;
const CREATE: &str =
    r#"{"name":"EVENTS","subjects":["events.>"],"storage":"file","num_replicas":1}"#;
const CONSUMER: &str = r#"{"stream_name":"EVENTS","config":{"durable_name":"one","ack_policy":"none","deliver_policy":"all"}}"#;

pub(crate) struct Nats {
    address: String,
}

fn publish(subject: &str, reply: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
    out
}

/// A connection that hears what is sent to `inbox`.
fn connect(address: &str, inbox: &str) -> Result<Connection> {
    let mut connection = Connection::open(address)?;
    line(&mut connection.reader)?;
    let hello = r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;
    connection.say(format!("CONNECT {hello}\r\nSUB {inbox} 1\r\nPING\r\n").as_bytes())?;
    while line(&mut connection.reader)? != "PONG" {}
    Ok(connection)
}

/// What came: a message's size, with that of its headers.
fn arrival(reader: &mut BufReader<TcpStream>) -> Result<(usize, usize)> {
    loop {
        let line = line(reader)?;
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["MSG", .., size] => return Ok((0, size.parse()?)),
            ["HMSG", .., headers, size] => return Ok((headers.parse()?, size.parse()?)),
            ["PING" | "+OK" | "PONG"] => {}
            _ => return Err(format!("NATS says {line:?}").into()),
        }
    }
}

/// Asks JetStream, and gives its answer's text.
fn ask(connection: &mut Connection, inbox: &str, subject: &str, text: &str) -> Result<String> {
    connection.say(&publish(subject, inbox, text.as_bytes()))?;
    let (_, size) = arrival(&mut connection.reader)?;
    let bytes = exactly(&mut connection.reader, size)?;
    skip(&mut connection.reader, 2)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn must(answer: String) -> Result<()> {
    if answer.contains("\"error\"") { Err(answer.into()) } else { Ok(()) }
}

impl Nats {
    pub(crate) fn new(address: &str) -> Result<Self> {
        let mut connection = connect(address, "_INBOX.make")?;
        // It may not be there.
        ask(&mut connection, "_INBOX.make", "$JS.API.STREAM.DELETE.EVENTS", "")?;
        must(ask(&mut connection, "_INBOX.make", "$JS.API.STREAM.CREATE.EVENTS", CREATE)?)?;
        Ok(Self { address: address.to_owned() })
    }
}

impl Peer for Nats {
    fn connect(&self, producer: usize, events: &[Vec<u8>]) -> Result<(Connection, Vec<u8>)> {
        let inbox = format!("_INBOX.p{producer}");
        let subject = format!("events.{producer}");
        let batch = events.iter().flat_map(|event| publish(&subject, &inbox, event)).collect();
        Ok((connect(&self.address, &inbox)?, batch))
    }

    fn acknowledged(&self, reader: &mut BufReader<TcpStream>, count: usize) -> Result<()> {
        for _ in 0..count {
            let (headers, size) = arrival(reader)?;
            let bytes = exactly(reader, size + 2)?;
            if headers > 0 || bytes.windows(7).any(|part| part == b"\"error\"") {
                return Err(String::from_utf8_lossy(&bytes).into_owned().into());
            }
        }
        Ok(())
    }
}

/// Reads from the beginning; gives how many messages there were.
pub(crate) fn read(address: &str, events: usize) -> Result<usize> {
    let inbox = "_INBOX.read";
    let mut connection = connect(address, inbox)?;
    ask(&mut connection, inbox, "$JS.API.CONSUMER.DELETE.EVENTS.one", "")?;
    must(ask(&mut connection, inbox, "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.one", CONSUMER)?)?;
    let next = format!("{{\"batch\":{PULL_COUNT},\"expires\":2000000000}}");
    let pull = publish("$JS.API.CONSUMER.MSG.NEXT.EVENTS.one", inbox, next.as_bytes());
    for _ in 0..PULLS {
        connection.say(&pull)?;
    }
    let mut count = 0;
    while count < events {
        let (headers, size) = arrival(&mut connection.reader)?;
        if headers > 0 {
            // A pull has ended: there was nothing more for it.
            return Ok(count);
        }
        skip(&mut connection.reader, size + 2)?;
        count += 1;
        if count % PULL_COUNT == 0 {
            connection.say(&pull)?;
        }
    }
    Ok(count)
}
