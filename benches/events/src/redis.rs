//! Redis: pipelined `XADD` to one stream, `XREAD` from it. The protocol is RESP 2.

use std::io::BufReader;
use std::net::TcpStream;

use crate::Result;
use crate::measure::{Connection, Peer, exactly, line, skip};

const STREAM: &str = "events";
/// Entries of one `XREAD`.
const READ_COUNT: usize = 10_000;

pub(crate) struct Redis {
    address: String,
}

/// A command as an array of bulk strings.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The number behind a reply's mark.
fn number(reader: &mut BufReader<TcpStream>, mark: char) -> Result<i64> {
    let line = line(reader)?;
    match line.strip_prefix(mark) {
        Some(number) => Ok(number.parse()?),
        None => Err(format!("{mark} was expected, {line:?} came").into()),
    }
}

fn size(reader: &mut BufReader<TcpStream>, mark: char) -> Result<usize> {
    Ok(usize::try_from(number(reader, mark)?)?)
}

/// Drops a bulk string.
fn skip_bulk(reader: &mut BufReader<TcpStream>) -> Result<()> {
    let size = size(reader, '$')?;
    skip(reader, size + 2)
}

impl Redis {
    pub(crate) fn new(address: &str) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        connection.say(&command(&[b"DEL", STREAM.as_bytes()]))?;
        number(&mut connection.reader, ':')?;
        Ok(Self { address: address.to_owned() })
    }
}

impl Peer for Redis {
    fn connect(&self, _: usize, events: &[Vec<u8>]) -> Result<(Connection, Vec<u8>)> {
        let add = |event: &Vec<u8>| command(&[b"XADD", STREAM.as_bytes(), b"*", b"d", event]);
        Ok((Connection::open(&self.address)?, events.iter().flat_map(add).collect()))
    }

    fn acknowledged(&self, reader: &mut BufReader<TcpStream>, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| skip_bulk(reader))
    }
}

/// Reads from the beginning; gives how many entries there were.
pub(crate) fn read(address: &str, events: usize) -> Result<usize> {
    let mut connection = Connection::open(address)?;
    let (mut count, mut last) = (0, b"0".to_vec());
    let at_once = READ_COUNT.to_string();
    while count < events {
        let words = [
            b"XREAD".as_slice(),
            b"COUNT",
            at_once.as_bytes(),
            b"STREAMS",
            STREAM.as_bytes(),
            &last,
        ];
        connection.say(&command(&words))?;
        let reader = &mut connection.reader;
        // One stream: its name and its entries.
        if number(reader, '*')? < 1 {
            return Ok(count);
        }
        size(reader, '*')?;
        skip_bulk(reader)?;
        for _ in 0..size(reader, '*')? {
            size(reader, '*')?;
            let id_size = size(reader, '$')?;
            last = exactly(reader, id_size)?;
            skip(reader, 2)?;
            for _ in 0..size(reader, '*')? {
                skip_bulk(reader)?;
            }
            count += 1;
        }
    }
    Ok(count)
}
