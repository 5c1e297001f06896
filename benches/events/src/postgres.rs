//! PostgreSQL: one table, an `INSERT` of many rows a batch, pages of `SELECT` by key. Protocol 3, simple queries.

use std::io::BufReader;
use std::net::TcpStream;

use crate::Result;
use crate::measure::{Connection, Peer, exactly, skip};

/// Rows of a page.
const PAGE_COUNT: usize = 10_000;

pub(crate) struct Postgres {
    address: String,
}

fn query(text: &str) -> Vec<u8> {
    let mut out = b"Q".to_vec();
    let size = u32::try_from(text.len() + 5).unwrap_or(u32::MAX);
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    out
}

/// The next message's tag and size without the size's own bytes.
fn head(reader: &mut BufReader<TcpStream>) -> Result<(u8, usize)> {
    let bytes = exactly(reader, 5)?;
    let [tag, size @ ..] = bytes.as_slice() else { return Err("a message is cut off".into()) };
    let size = u32::from_be_bytes(size.try_into()?);
    Ok((*tag, usize::try_from(size)?.saturating_sub(4)))
}

/// Reads until the server is ready; gives the number of rows and the first column of the last one.
fn ready(reader: &mut BufReader<TcpStream>) -> Result<(usize, Vec<u8>)> {
    let (mut count, mut last) = (0, Vec::new());
    loop {
        match head(reader)? {
            (b'Z', size) => {
                skip(reader, size)?;
                return Ok((count, last));
            }
            (b'E', size) => {
                return Err(String::from_utf8_lossy(&exactly(reader, size)?)
                    .replace('\0', " ")
                    .into());
            }
            (b'D', size) => {
                // Two bytes of a column count, four of the first column's size.
                let first = exactly(reader, 6)?;
                let column = first.last_chunk::<4>().ok_or("a row is cut off")?;
                let column_size = usize::try_from(u32::from_be_bytes(*column))?;
                last = exactly(reader, column_size)?;
                skip(reader, size.saturating_sub(6 + column_size))?;
                count += 1;
            }
            (_, size) => skip(reader, size)?,
        }
    }
}

fn connect(address: &str) -> Result<Connection> {
    let mut connection = Connection::open(address)?;
    let words = b"user\0postgres\0database\0postgres\0\0";
    let size = u32::try_from(words.len() + 8)?;
    connection
        .say(&[&size.to_be_bytes(), &196_608_u32.to_be_bytes(), words.as_slice()].concat())?;
    ready(&mut connection.reader)?;
    Ok(connection)
}

impl Postgres {
    pub(crate) fn new(address: &str) -> Result<Self> {
        let mut connection = connect(address)?;
        connection.say(&query(
            "drop table if exists events; \
             create table events (id bigint generated always as identity primary key, data text not null)",
        ))?;
        ready(&mut connection.reader)?;
        Ok(Self { address: address.to_owned() })
    }
}

impl Peer for Postgres {
    fn connect(&self, _: usize, events: &[Vec<u8>]) -> Result<(Connection, Vec<u8>)> {
        let row = |event: &Vec<u8>| format!("('{}')", String::from_utf8_lossy(event));
        let rows: Vec<String> = events.iter().map(row).collect();
        let insert = format!("insert into events (data) values {}", rows.join(","));
        Ok((connect(&self.address)?, query(&insert)))
    }

    fn acknowledged(&self, reader: &mut BufReader<TcpStream>, _: usize) -> Result<()> {
        ready(reader).map(drop)
    }
}

/// Reads from the beginning; gives how many rows there were.
pub(crate) fn read(address: &str, events: usize) -> Result<usize> {
    let mut connection = connect(address)?;
    let (mut count, mut after) = (0, "0".to_owned());
    while count < events {
        let text = format!(
            "select id, data from events where id > {after} order by id limit {PAGE_COUNT}"
        );
        connection.say(&query(&text))?;
        let (rows, last) = ready(&mut connection.reader)?;
        if rows == 0 {
            break;
        }
        count += rows;
        after = String::from_utf8(last)?;
    }
    Ok(count)
}
